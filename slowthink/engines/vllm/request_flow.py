"""One request that is forced from its first thinking token to its last, inside one generation.

The thinking and answering machines of `forcing.machine` run one after the other: thinking, closing,
answer, end of text. A logits processor acts *before* it sees the draw, so it asks for an
instruction first and reports the output afterwards:

    flow = Flow(compiled, cap=64)
    flow.instruction()        Instruction(on_end=39, …): draw; replace a declared end by id 39
    flow.observe([11, 12])    two tokens were output, neither declared an end

No torch. Replaying the ids of a finished request gives its chain, closing and answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from slowthink.engines.session import Compiler, JobInProgress, closing_ids_after
from slowthink.engines.vllm.request_args import ForcingArgs
from slowthink.errors import ConfigError
from slowthink.forcing.cuts import Cut
from slowthink.forcing.formats import TokenFormat, require_single_token_trigger
from slowthink.forcing.machine import (
    Action,
    ActionKind,
    AnswerMachine,
    ForcingMachine,
    ForcingRules,
)
from slowthink.records import Budget, Chain, ChainState, EventKind, ThinkingEnd

NO_WATCH = -2
"""This draw cannot declare an end."""
RUNNER_UP = -1
"""A declared end is refused: the next best token replaces it."""


@dataclass(frozen=True, kw_only=True)
class CompiledArgs:
    """A request's arguments in token ids."""

    args: ForcingArgs
    token_format: TokenFormat
    rules: ForcingRules
    stop_id: int
    """The last token: the engine ends the request at it."""

    @property
    def reserve(self) -> int:
        """Tokens reserved for closing, answer and the end of the text."""
        answer = self.args.budget.answer_tokens + 1
        if self.args.closed:
            return answer
        cue = self.token_format.encode(self.args.budget.final_answer_cue or "")
        return len(self.token_format.newline_ids + self.token_format.end_ids + cue) + answer


def compile_args(args: ForcingArgs, compiler: Compiler, *, stop_id: int) -> CompiledArgs:
    """The arguments in token ids. Raises ConfigError for a trigger of several tokens, or a wait
    string of none."""
    token_format = compiler.token_format(args.format)
    require_single_token_trigger(token_format, engine="vllm")
    rules = compiler.rules(args.format, args.budget)
    return CompiledArgs(args=args, token_format=token_format, rules=rules, stop_id=stop_id)


def room(
    compiled: CompiledArgs, *, num_prompt: int, max_context: int, max_tokens: int | None
) -> int:
    """Maximum number of thinking tokens that fit beside prompt, closing and answer."""
    left = max_context - num_prompt
    if max_tokens is not None:
        left = min(left, max_tokens)
    return left + compiled.args.known - compiled.reserve


def check_room(
    compiled: CompiledArgs, *, num_prompt: int, max_context: int, max_tokens: int | None
) -> None:
    """Raise ConfigError if cap, closing and answer do not all fit: nothing is ever truncated."""
    cap, known = compiled.args.budget.max_thinking_tokens or 0, compiled.args.known
    if cap <= room(compiled, num_prompt=num_prompt, max_context=max_context, max_tokens=max_tokens):
        return
    needed = cap - known + compiled.reserve
    if max_tokens is not None and max_tokens < min(needed, max_context - num_prompt):
        raise ConfigError(
            f"max_tokens: {max_tokens}, but a cap of {cap} thinking tokens, closing and answer "
            f"need {needed}. Set max_tokens to {needed}, or lower slowthink_cap or "
            "slowthink_answer_tokens."
        )
    raise ConfigError(
        f"slowthink_cap: {cap} thinking tokens, {compiled.reserve} for closing and answer and a "
        f"prompt of {num_prompt - known} need {num_prompt + needed}; the context holds "
        f"{max_context}. Lower slowthink_cap or slowthink_answer_tokens."
    )


@dataclass(frozen=True, slots=True)
class Instruction:
    """How the next token is made."""

    force: int = -1
    """Output this id, whatever the logits; -1: draw."""
    on_end: int = NO_WATCH
    """The id that replaces a declared end, or RUNNER_UP, or NO_WATCH."""
    banned: bool = False
    """The triggers cannot be drawn."""
    steps: int = 1
    """Number of tokens for which the instruction is the same, if no end is declared."""
    tag: tuple[object, ...] = ()
    index: tuple[int, int] = (0, 0)
    """Tag and index name the draw: see `engines.session.draw_uniform`."""


@dataclass(frozen=True, slots=True)
class DeclaredEnd:
    """The draw that declared an end."""

    token: int
    end_probability: float = 0.0
    argmax: int = -1
    replacement: int = -1
    """The end counts only if this id was output; -1: always."""


class Flow:
    """Thinking, closing, answer and end of one request."""

    def __init__(self, compiled: CompiledArgs, *, cap: int, known_ids: Sequence[int] = ()) -> None:
        self.compiled = compiled
        budget = compiled.args.budget
        self.thinking = ForcingMachine(
            compiled.rules,
            cap=cap,
            waits=budget.waits,
            steps=budget.max_thinking_steps,
            chain=_known_chain(compiled.args, known_ids),
        )
        self.closing: tuple[int, ...] | None = None
        self.answering: AnswerMachine | None = None
        self.num_drawn = 0
        self.num_forced = 0
        self.num_unexpected = 0
        """Tokens that differ from the forced ones: something else edits the logits."""
        self._forced: deque[int] = deque()
        self._thinking_is_over = bool(compiled.args.closed)
        self._instruction: Instruction | None = None
        if self._thinking_is_over:
            self._start_answer()

    def instruction(self) -> Instruction:
        """How the next token is made."""
        if self._instruction is None:
            thinking = None if self._thinking_is_over else self._think()
            self._instruction = thinking or self._after_thinking()
        return self._instruction

    def observe(self, tokens: Sequence[int], end: DeclaredEnd | None = None) -> None:
        """Record tokens output under the last instruction. `end`: the last of them was output where
        an end was declared."""
        instruction, self._instruction = self.instruction(), None
        if instruction.force >= 0:
            self._expect(instruction.force, tokens[0])
            self.num_forced += 1
            if self._forced:
                self._forced.popleft()
        elif self._thinking_is_over:
            assert self.answering is not None
            self.num_drawn += len(tokens)
            for token in tokens:
                self.answering.observe(token)
        else:
            for token in tokens[:-1]:
                self._drew(token, DeclaredEnd(token))
            self._drew(tokens[-1], end or DeclaredEnd(tokens[-1]))

    def store(self, running: JobInProgress) -> None:
        """Store the complete thinking in the job, and the answer if one of its points needs it."""
        running.machine = self.thinking
        thinking = tuple(self.thinking.ids)
        for branch in running.end_thinking():
            same = branch.closing == self.closing and branch.cut.ids == thinking
            if same and self.answering is not None:
                running.add_answer(branch, self.answering.ids, self.answering.end_reason)

    # -- instructions --

    def _think(self) -> Instruction | None:
        machine = self.thinking
        action = machine.next_action()
        if action.kind is ActionKind.FORCE:
            return Instruction(force=action.token)
        if action.kind is not ActionKind.SAMPLE:
            self._close()
            return None
        if action.banned:
            return Instruction(banned=True, index=machine.draw_key)
        end, steps = machine.preview_declared_end()
        if not self.compiled.token_format.end_ids:
            steps = 1  # the closing then depends on the last token
        return Instruction(on_end=self._replacement(end), steps=steps, index=machine.draw_key)

    def _replacement(self, end: Action) -> int:
        """The id that replaces a declared end."""
        if end.kind is ActionKind.RESAMPLE:
            return RUNNER_UP
        if end.kind is ActionKind.FORCE:
            return end.token
        return (self._closing(ThinkingEnd.NATURAL) or (self.compiled.stop_id,))[0]

    def _closing(self, end: ThinkingEnd) -> tuple[int, ...] | None:
        args = self.compiled.args
        if not args.budget.answer_tokens:
            return None
        cut = Cut(ids=tuple(self.thinking.ids[-1:]), end_reason=end, events=())
        return closing_ids_after(cut, self.compiled.token_format, args.budget, forced=args.forced)

    def _close(self) -> None:
        natural = self.thinking.state is ChainState.ENDED
        self._thinking_is_over = True
        self.closing = self._closing(ThinkingEnd.NATURAL if natural else ThinkingEnd.CAP)
        self._forced.extend(self.closing if self.closing is not None else (self.compiled.stop_id,))
        if self.closing is not None:
            self._start_answer()

    def _start_answer(self) -> None:
        limit = self.compiled.args.budget.answer_tokens
        self.answering = AnswerMachine(max_tokens=limit, eos_ids=self.compiled.token_format.eos_ids)

    def _after_thinking(self) -> Instruction:
        machine = self.answering
        if not self._forced and machine is not None:
            if machine.next_action().kind is ActionKind.SAMPLE:
                tag = ("answer", len(self.thinking.ids))
                steps = machine.max_tokens - len(machine.ids)
                return Instruction(steps=steps, tag=tag, index=machine.draw_key)
            self._forced.append(self.compiled.stop_id)
        return Instruction(force=self._forced[0] if self._forced else self.compiled.stop_id)

    # -- outputs --

    def _drew(self, token: int, end: DeclaredEnd) -> None:
        """Record a drawn thinking token, or the token output in the place of a declared end."""
        machine = self.thinking
        self.num_drawn += 1
        action = machine.observe(
            end.token, trigger_probability=end.end_probability, argmax=end.argmax
        )
        if action.kind is ActionKind.RESAMPLE:
            self.num_drawn += 1
            machine.observe(token)
        elif action.kind is ActionKind.REPLACE:
            self.num_forced += 1
            self._expect(machine.next_action().token, token)
        elif action.kind is ActionKind.STOP:
            self._close()
            self.num_forced += 1
            self._expect(self._forced.popleft(), token)

    def _expect(self, expected: int, token: int) -> None:
        self.num_unexpected += expected != token

    # -- replaying ids --

    def replay(
        self, outputs: Sequence[int], ends: dict[int, DeclaredEnd], *, infer: bool = False
    ) -> None:
        """Record output ids from the first on. `ends`: declared ends by output index; with `infer`
        they are inferred from the ids, and added to it."""
        for at, token in enumerate(outputs):
            if infer and (inferred := self._infer_end(outputs, at)) is not None:
                ends[at] = inferred
            end = ends.get(at)
            counts = end is not None and end.replacement in (-1, token)
            self.observe([token], end if counts else None)

    def _infer_end(self, outputs: Sequence[int], at: int) -> DeclaredEnd | None:
        """The end declared at this output, inferred from the ids alone.

        A wait string or closing where one is possible counts as forced. A refusal without a string
        leaves no trace.
        """
        instruction = self.instruction()
        if instruction.on_end < 0 or outputs[at] != instruction.on_end:
            return None
        end, _ = self.thinking.preview_declared_end()
        ids: tuple[int, ...] = (instruction.on_end,)
        if end.kind is ActionKind.FORCE:
            ids = self.compiled.rules.wait_string_ids(self.thinking.num_waits)
        elif (closing := self._closing(ThinkingEnd.NATURAL)) is not None:
            ids = closing
        triggers = self.compiled.rules.trigger_ids
        first = ids[0] if ids[0] in triggers else min(triggers)
        return DeclaredEnd(first, 1.0, first) if tuple(outputs[at : at + len(ids)]) == ids else None


def _known_chain(args: ForcingArgs, ids: Sequence[int]) -> Chain | None:
    if not args.known:
        return None
    ended = bool(args.events) and args.events[-1].kind is EventKind.END
    state = ChainState.ENDED if ended else ChainState.OPEN
    return Chain(key="", ids=tuple(ids), events=args.events, state=state)


def thinking_budget(budget: Budget, *, room: int) -> int:
    """The effective cap: the budget's, at most what fits."""
    cap = budget.max_thinking_tokens
    return max(0, room if cap is None else min(cap, room))
