"""One request that is forced from its first thinking token to its last inside one generation.

The thinking and answering machines are `thinking.forcing`'s; here they follow one another:
thinking, closing, answer, end of text. A driver that sees a draw only after the fact asks `order`
for what is to be done *before* the logits are there, and is told afterwards what came out:

    flow = Flow(spec, cap=64)
    flow.order()          Order(on_end=39, …): draw; should an end be drawn, put id 39 in its place
    flow.told([11, 12])   two tokens came out, no end among them

No torch. The same replay turns the ids of a finished request into its chain, closing and answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.engines.session import closing_of
from slowthink.engines.vllm.request_args import ForcingArgs
from slowthink.errors import ConfigError
from slowthink.forcing.cuts import Cut
from slowthink.forcing.formats import (
    AUTO,
    TokenFormat,
    compile_format,
    format_of,
    require_single_token_trigger,
)
from slowthink.forcing.machine import (
    Action,
    ActionKind,
    AnswerMachine,
    ForcingMachine,
    ForcingRules,
    make_rules,
)
from slowthink.records import Budget, Chain, ChainState, EventKind, ThinkingEnd

NO_WATCH = -2
"""No end can be declared by this draw."""
RUNNER_UP = -1
"""A declared end is refused: the next best token takes its place."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A request's wishes in the ids of one tokenizer."""

    ask: ForcingArgs
    token_format: TokenFormat
    rules: ForcingRules
    stop_id: int
    """Put at the very end; the engine ends the request at it."""

    @property
    def reserve(self) -> int:
        """Tokens kept for closing, answer and the end of the text."""
        answer = self.ask.budget.answer_tokens + 1
        if self.ask.closed:
            return answer
        cue = self.token_format.encode(self.ask.budget.final_answer_cue or "")
        return len(self.token_format.newline_ids + self.token_format.end_ids + cue) + answer


class Compiler:
    """Turns wishes into specs; keeps what requests share."""

    def __init__(self, tokenizer: Any, *, eos_ids: frozenset[int], stop_id: int) -> None:
        self.tokenizer = tokenizer
        self.eos_ids = eos_ids
        self.stop_id = stop_id
        self._formats: dict[Any, TokenFormat] = {}
        self._rules: dict[Any, ForcingRules] = {}

    def spec(self, ask: ForcingArgs) -> Spec:
        """Raises ConfigError for a trigger of several tokens, or a wait string of none."""
        token_format = self._format(ask)
        key = (ask.format, ask.budget)
        if key not in self._rules:
            self._rules[key] = make_rules(ask.budget, token_format)
        return Spec(
            ask=ask, token_format=token_format, rules=self._rules[key], stop_id=self.stop_id
        )

    def _format(self, ask: ForcingArgs) -> TokenFormat:
        if ask.format not in self._formats:
            named = ask.format
            if named.name == AUTO:
                named = format_of(AUTO, self.tokenizer)
            found = compile_format(named, self.tokenizer, eos_ids=self.eos_ids)
            require_single_token_trigger(found, engine="vllm")
            self._formats[ask.format] = found
        return self._formats[ask.format]


def room(spec: Spec, *, num_prompt: int, max_context: int, max_tokens: int | None) -> int:
    """Most thinking tokens that fit beside prompt, closing and answer."""
    left = max_context - num_prompt
    if max_tokens is not None:
        left = min(left, max_tokens)
    return left + spec.ask.known - spec.reserve


def check_room(spec: Spec, *, num_prompt: int, max_context: int, max_tokens: int | None) -> None:
    """Raise ConfigError where the cap, closing and answer do not all fit: nothing is ever cut."""
    cap = spec.ask.budget.max_thinking_tokens or 0
    free = room(spec, num_prompt=num_prompt, max_context=max_context, max_tokens=max_tokens)
    if cap <= free:
        return
    needed = cap - spec.ask.known + spec.reserve
    if max_tokens is not None and max_tokens < min(needed, max_context - num_prompt):
        raise ConfigError(
            f"max_tokens: {max_tokens}, but a cap of {cap} thinking tokens, closing and answer "
            f"need {needed}. Give max_tokens {needed}, or a lower slowthink_cap or "
            "slowthink_answer_tokens."
        )
    raise ConfigError(
        f"slowthink_cap: {cap} thinking tokens, {spec.reserve} for closing and answer and a prompt "
        f"of {num_prompt - spec.ask.known} need {num_prompt + needed}; the context holds "
        f"{max_context}. Lower slowthink_cap or slowthink_answer_tokens."
    )


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done for the next token."""

    force: int = -1
    """This id, whatever the model says; -1: draw."""
    on_end: int = NO_WATCH
    """Where an end is declared: the id in its place, RUNNER_UP, or NO_WATCH."""
    banned: bool = False
    """The triggers cannot be drawn."""
    steps: int = 1
    """For how many tokens in a row the order stays the same, if no end is declared."""
    tag: tuple[object, ...] = ()
    index: tuple[int, int] = (0, 0)
    """Both name the draw: see `engines.base.draw_uniform`."""


@dataclass(frozen=True, slots=True)
class DeclaredEnd:
    """What was drawn where an end was declared."""

    token: int
    end_probability: float = 0.0
    argmax: int = -1
    stands_for: int = -1
    """Counts only where this id came out; -1: always."""


class Flow:
    """Thinking, closing, answer and end of one request."""

    def __init__(self, spec: Spec, *, cap: int, known_ids: Sequence[int] = ()) -> None:
        self.spec = spec
        budget = spec.ask.budget
        self.thinking = ForcingMachine(
            spec.rules,
            cap=cap,
            waits=budget.waits,
            steps=budget.max_thinking_steps,
            chain=_known(spec.ask, known_ids),
        )
        self.closing: tuple[int, ...] | None = None
        self.answering: AnswerMachine | None = None
        self.num_drawn = 0
        self.num_forced = 0
        self.strays = 0
        """Tokens that came out other than ordered: something else edits the logits."""
        self._queue: deque[int] = deque()
        self._over = bool(spec.ask.closed)
        self._order: Order | None = None
        if self._over:
            self._answer()

    def order(self) -> Order:
        """What is to be done for the next token."""
        if self._order is None:
            self._order = self._think() if not self._over else None
            self._order = self._order or self._after_thinking()
        return self._order

    def told(self, tokens: Sequence[int], mark: DeclaredEnd | None = None) -> None:
        """These tokens came out under the last order; the mark belongs to the last of them: an end
        was declared there."""
        order, self._order = self.order(), None
        if order.force >= 0:
            self._was_forced(order.force, tokens[0])
        elif self._over:
            assert self.answering is not None
            self.num_drawn += len(tokens)
            for token in tokens:
                self.answering.observe(token)
        else:
            for token in tokens[:-1]:
                self._thought(token, None)
            self._thought(tokens[-1], mark)

    # -- orders --

    def _think(self) -> Order | None:
        machine = self.thinking
        action = machine.next_action()
        if action.kind is ActionKind.FORCE:
            return Order(force=action.token)
        if action.kind is not ActionKind.DRAW:
            self._close()
            return None
        if action.banned:
            return Order(banned=True, index=machine.draw_index)
        end, steps = machine.preview_declared_end()
        if not self.spec.token_format.end_ids:
            steps = 1  # what closes then depends on the last token
        return Order(on_end=self._in_place(end), steps=steps, index=machine.draw_index)

    def _in_place(self, end: Action) -> int:
        """The id in the place of a declared end."""
        if end.kind is ActionKind.REFUSE:
            return RUNNER_UP
        if end.kind is ActionKind.FORCE:
            return end.token
        return (self._closing(ThinkingEnd.NATURAL) or (self.spec.stop_id,))[0]

    def _closing(self, end: ThinkingEnd) -> tuple[int, ...] | None:
        ask = self.spec.ask
        if not ask.budget.answer_tokens:
            return None
        cut = Cut(ids=tuple(self.thinking.ids[-1:]), end=end, events=())
        return closing_of(cut, self.spec.token_format, ask.budget, forced=ask.forced)

    def _close(self) -> None:
        natural = self.thinking.state is ChainState.ENDED
        self._over = True
        self.closing = self._closing(ThinkingEnd.NATURAL if natural else ThinkingEnd.CAP)
        self._queue.extend(self.closing if self.closing is not None else (self.spec.stop_id,))
        if self.closing is not None:
            self._answer()

    def _answer(self) -> None:
        self.answering = AnswerMachine(
            limit=self.spec.ask.budget.answer_tokens, eos_ids=self.spec.token_format.eos_ids
        )

    def _after_thinking(self) -> Order:
        machine = self.answering
        if not self._queue and machine is not None:
            if machine.next_action().kind is ActionKind.DRAW:
                tag = ("answer", len(self.thinking.ids))
                steps = machine.limit - len(machine.ids)
                return Order(steps=steps, tag=tag, index=machine.draw_index)
            self._queue.append(self.spec.stop_id)
        return Order(force=self._queue[0] if self._queue else self.spec.stop_id)

    # -- what came out --

    def _was_forced(self, expected: int, token: int) -> None:
        self._expect(expected, token)
        self.num_forced += 1
        if self._queue:
            self._queue.popleft()

    def _thought(self, token: int, mark: DeclaredEnd | None) -> None:
        seen = mark or DeclaredEnd(token)
        machine = self.thinking
        self.num_drawn += 1
        action = machine.observe(
            seen.token, end_probability=seen.end_probability, argmax=seen.argmax
        )
        if action.kind is ActionKind.REFUSE:
            self.num_drawn += 1
            machine.observe(token)
        elif action.kind is ActionKind.REPLACE:
            self.num_forced += 1
            self._expect(machine.next_action().token, token)
        elif action.kind is ActionKind.STOP:
            self._close()
            self.num_forced += 1
            self._expect(self._queue.popleft(), token)

    def _expect(self, expected: int, token: int) -> None:
        self.strays += expected != token

    # -- from the ids --

    def replay(
        self, outputs: Sequence[int], marks: dict[int, DeclaredEnd], *, guess: bool = False
    ) -> None:
        """Go through output ids from the first. `marks`: by output index, where ends were declared;
        with `guess` they are told from the ids, and written there."""
        for at, token in enumerate(outputs):
            if guess and (guessed := self._guess(outputs, at)) is not None:
                marks[at] = guessed
            mark = marks.get(at)
            counts = mark is not None and mark.stands_for in (-1, token)
            self.told([token], mark if counts else None)

    def _guess(self, outputs: Sequence[int], at: int) -> DeclaredEnd | None:
        """The mark of the output at this place, told from the ids alone.

        A wait string or closing that stands where one may stand counts as forced. A refusal without
        a string leaves no trace.
        """
        order = self.order()
        if order.on_end < 0 or outputs[at] != order.on_end:
            return None
        end, _ = self.thinking.preview_declared_end()
        ids: tuple[int, ...] = (order.on_end,)
        if end.kind is ActionKind.FORCE:
            ids = self.spec.rules.wait(self.thinking.num_waits)
        elif (closing := self._closing(ThinkingEnd.NATURAL)) is not None:
            ids = closing
        trigger = min(self.spec.rules.trigger_ids)
        first = ids[0] if ids[0] in self.spec.rules.trigger_ids else trigger
        return DeclaredEnd(first, 1.0, first) if tuple(outputs[at : at + len(ids)]) == ids else None


def _known(ask: ForcingArgs, ids: Sequence[int]) -> Chain | None:
    if not ask.known:
        return None
    ended = bool(ask.events) and ask.events[-1].kind is EventKind.END
    state = ChainState.ENDED if ended else ChainState.OPEN
    return Chain(key="", ids=tuple(ids), events=ask.events, state=state)


def thinking_budget(budget: Budget, *, room: int) -> int:
    """The cap that holds: the budget's, or what there is room for."""
    cap = budget.max_thinking_tokens
    return max(0, room if cap is None else min(cap, room))
