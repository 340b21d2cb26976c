"""Budget forcing as a state machine over token ids; no torch, no IO.

s1 (arXiv 2501.19393, section 3.1) controls how long a model thinks in two ways: it cuts thinking
off at a cap, or suppresses its end and appends a wait string ("Wait"). `ForcingMachine` makes these
decisions, one token at a time; an engine only samples tokens and feeds them to the model:

    machine = ForcingMachine(rules, cap=64, waits=1)
    while (action := machine.next_action()).kind is not ActionKind.STOP:
        if action.kind is ActionKind.FORCE:
            feed(action.token)
        else:
            token = sample(banned=action.banned)
            machine.observe(token)  # KEEP: feed it. Otherwise it is discarded: see ActionKind

The end of thinking is *declared* when a trigger is sampled (the delimiter's first token or an
end-of-sequence token) or as `end_rule` says. A declared end is

    refused below the minimum   the triggers are banned and the next token is sampled again
    refused with a wait         while waits are left and the wait string and one more token fit
                                under the cap: the wait string is forced (without wait strings: as
                                below the minimum)
    accepted                    otherwise

The cap is checked before each token. A chain sampled for a large budget also contains the thinking
for every smaller one: `cuts.cut_chain`.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slowthink.errors import ConfigError
from slowthink.forcing.formats import TokenFormat
from slowthink.forcing.steps import StepCounter, num_steps, step_end
from slowthink.records import AnswerEnd, Budget, Chain, ChainState, Event, EventKind, LoopRule

_LONG_TRIGGER_MARGIN = 4
"""Extra tokens decoded to find a long trigger: sampled tokens may split it unlike the encoder."""


@dataclass(frozen=True, kw_only=True)
class ForcingRules:
    """A budget in token ids, without its cap, steps and number of waits: what a whole sweep
    shares."""

    trigger_ids: frozenset[int]
    long_triggers: tuple[str, ...] = ()
    wait_ids: tuple[tuple[int, ...], ...] = ((),)
    """Wait strings, used in rotation. `((),)`: the runner-up token is taken instead."""
    min_thinking_tokens: int = 0
    end_rule: str = "drawn"
    end_probability: float = 1.0
    loop: LoopRule | None = None
    step_delimiter: str = "\n\n"
    """Ends a step, if the budget limits steps."""
    decode: Callable[[Sequence[int]], str] | None = None
    """Required for long triggers and steps only."""

    def wait(self, index: int) -> tuple[int, ...]:
        """Token ids of the chain's wait string number `index`, from 0."""
        return self.wait_ids[index % len(self.wait_ids)]

    def wait_fits(
        self, ids: Sequence[int], index: int, *, cap: int, steps: int | None = None
    ) -> bool:
        """Whether wait string number `index` and one more token fit after `ids`."""
        wait = self.wait(index)
        if len(ids) + len(wait) + 1 > cap:
            return False
        return steps is None or self.num_steps((*ids, *wait)) < steps

    def num_steps(self, ids: Sequence[int]) -> int:
        """Number of steps that these thinking tokens complete."""
        assert self.decode is not None, "steps are counted in text"
        return num_steps(ids, self.step_delimiter, self.decode)

    def limit(self, ids: Sequence[int], *, cap: int, steps: int | None) -> int:
        """Number of thinking tokens at which these ids reach the cap or complete the last step."""
        if steps is None:
            return cap
        assert self.decode is not None, "steps are counted in text"
        end = step_end(ids, steps, self.step_delimiter, self.decode)
        return cap if end is None else min(cap, end)


def make_rules(budget: Budget, token_format: TokenFormat) -> ForcingRules:
    """Compile a budget into a tokenizer's ids. Raises ConfigError for an empty wait string."""
    waits = tuple(token_format.encode(text) for text in budget.wait_strings)
    for text, ids in zip(budget.wait_strings, waits, strict=True):
        if not ids:
            raise ConfigError(
                f"forcing.wait_strings: {text!r} has no tokens; expected text. "
                "To take the runner-up token instead of a wait string, give an empty list: []"
            )
    return ForcingRules(
        trigger_ids=token_format.trigger_ids,
        long_triggers=token_format.long_triggers,
        wait_ids=waits or ((),),
        min_thinking_tokens=budget.min_thinking_tokens,
        end_rule=budget.end_rule,
        end_probability=budget.end_probability,
        loop=budget.loop,
        step_delimiter=budget.step_delimiter,
        decode=token_format.decode,
    )


class ActionKind(enum.Enum):
    """What the engine does next. `next_action` returns DRAW, FORCE or STOP; `observe` returns
    KEEP, REFUSE, REPLACE, ROLLBACK or STOP."""

    DRAW = "draw"
    """Sample a token, none of the banned ones, and pass it to `observe`."""
    FORCE = "force"
    """Feed `token`; the machine has already added it to its ids."""
    KEEP = "keep"
    """Feed the sampled token."""
    REFUSE = "refuse"
    """Discard the sampled token; sample again without the banned ones."""
    REPLACE = "replace"
    """Discard the sampled token; `next_action` forces a wait string in its place."""
    ROLLBACK = "rollback"
    """Discard the sampled token and fed ones before it: a long trigger, removed from `ids`."""
    STOP = "stop"
    """Thinking is over; a sampled token is discarded."""


@dataclass(frozen=True, slots=True)
class Action:
    """One instruction to the engine."""

    kind: ActionKind
    token: int = -1
    banned: frozenset[int] = frozenset()


_DRAW = Action(ActionKind.DRAW)
_KEEP = Action(ActionKind.KEEP)
_REPLACE = Action(ActionKind.REPLACE)
_ROLLBACK = Action(ActionKind.ROLLBACK)
_STOP = Action(ActionKind.STOP)


class ForcingMachine:
    """The thinking of one chain up to a cap, a number of waits and, unless None, of steps.

    `chain` continues stored thinking. If it ended where this budget has waits left, that end is
    refused first.
    """

    def __init__(
        self,
        rules: ForcingRules,
        *,
        cap: int,
        waits: int,
        steps: int | None = None,
        chain: Chain | None = None,
    ) -> None:
        self.rules = rules
        self.cap = cap
        self.waits = waits
        self.steps = steps
        self.ids: list[int] = list(chain.ids) if chain else []
        self.events: list[Event] = list(chain.events) if chain else []
        self.state = chain.state if chain else ChainState.OPEN
        self._pending: deque[int] = deque()
        self._banned: frozenset[int] = frozenset()
        self._counter: StepCounter | None = None
        if steps is not None:
            assert rules.decode is not None, "steps are counted in text"
            self._counter = StepCounter(rules.step_delimiter, rules.decode)
        if self.state is ChainState.ENDED:
            self._refuse_stored_end()
        elif self.state is ChainState.OPEN and self._needs_redraw():
            self._ban(self.events[-1].drawn)

    @property
    def num_waits(self) -> int:
        """Waits used so far."""
        return sum(event.kind is EventKind.WAIT for event in self.events)

    def chain(self, key: str) -> Chain:
        """The chain so far, pending forced tokens included, as a record to store."""
        ids = (*self.ids, *self._pending)
        return Chain(key=key, ids=ids, events=tuple(self.events), state=self.state)

    @property
    def draw_index(self) -> tuple[int, int]:
        """Unique name of the next draw within the chain: position, and number of events so far."""
        return len(self.ids), len(self.events)

    def next_action(self) -> Action:
        """Return DRAW, FORCE or STOP for the next token."""
        if self._pending:
            token = self._pending.popleft()
            self.ids.append(token)
            return Action(ActionKind.FORCE, token)
        if self.state is not ChainState.OPEN or self._budget_used():
            return _STOP
        return Action(ActionKind.DRAW, banned=self._banned) if self._banned else _DRAW

    def observe(self, token: int, *, end_probability: float = 0.0, argmax: int = -1) -> Action:
        """Take in a sampled token and return what becomes of it.

        `end_probability` is P(any single-token trigger) and `argmax` the most likely id, both of
        the distribution without bans; only the end rules `probability` and `argmax` need them.
        """
        if not self._banned and self._declares_end(token, end_probability, argmax):
            return self._on_declared_end((token,) if token in self.rules.trigger_ids else ())
        self._banned = frozenset()
        self.ids.append(token)
        if trigger := self._long_trigger():
            del self.ids[-len(trigger) :]
            accepted = self._on_declared_end(trigger).kind is ActionKind.STOP
            return _STOP if accepted else _ROLLBACK
        if self.rules.loop is not None and is_loop(self.ids, self.rules.loop):
            self.state = ChainState.LOOP
        return _KEEP

    def preview_declared_end(self) -> tuple[Action, int]:
        """Return what a declared end at the next draw would lead to, and for how many draws this
        stays so while none is declared.

        The action is FORCE (a wait string's first token), REFUSE or STOP. For engines that must
        decide before they see the sampled token. Does not change the machine.
        """
        position = len(self.ids)
        kind = self._kind_of_end()
        wait = self.rules.wait(self.num_waits)
        action = _STOP
        if kind is not EventKind.END:
            forced = wait and kind is EventKind.WAIT
            action = Action(ActionKind.FORCE, wait[0]) if forced else Action(ActionKind.REFUSE)
        text_matters = self.rules.loop is not None or self._counter is not None
        if self._banned or text_matters or self.rules.long_triggers:
            return action, 1
        changes = (self.rules.min_thinking_tokens, self.cap - len(wait), self.cap)
        return action, min((at - position for at in changes if at > position), default=1)

    def _budget_used(self) -> bool:
        if len(self.ids) >= self.cap:
            return True
        if self._counter is None or self.steps is None:
            return False
        return self._counter.update(self.ids) >= self.steps

    # -- declared ends --

    def _declares_end(self, token: int, end_probability: float, argmax: int) -> bool:
        rules = self.rules
        if token in rules.trigger_ids:
            return True
        if rules.end_rule == "argmax":
            return argmax in rules.trigger_ids
        return rules.end_rule == "probability" and end_probability >= rules.end_probability

    def _on_declared_end(self, drawn: tuple[int, ...]) -> Action:
        """Refuse the end, force a wait string in its place, or accept it."""
        kind = self._kind_of_end()
        if kind is EventKind.MINIMUM:
            return self._refuse(kind, drawn)
        if kind is EventKind.WAIT:
            return self._refuse(kind, drawn, self.rules.wait(self.num_waits))
        self.events.append(Event(position=len(self.ids), kind=kind, drawn=drawn))
        self.state = ChainState.ENDED
        return _STOP

    def _kind_of_end(self) -> EventKind:
        if len(self.ids) < self.rules.min_thinking_tokens:
            return EventKind.MINIMUM
        return EventKind.WAIT if self._may_wait() else EventKind.END

    def _may_wait(self) -> bool:
        used = self.num_waits
        return used < self.waits and self.rules.wait_fits(
            self.ids, used, cap=self.cap, steps=self.steps
        )

    def _refuse(
        self, kind: EventKind, drawn: tuple[int, ...], wait: tuple[int, ...] = ()
    ) -> Action:
        self.events.append(Event(position=len(self.ids), kind=kind, drawn=drawn, forced=len(wait)))
        self._pending.extend(wait)
        if wait:
            return _REPLACE
        self._ban(drawn)
        return Action(ActionKind.REFUSE, banned=self._banned)

    def _ban(self, drawn: tuple[int, ...]) -> None:
        self._banned = self.rules.trigger_ids | frozenset(drawn[:1])

    def _needs_redraw(self) -> bool:
        """Whether a stored chain stops right after a refusal whose redraw is still missing."""
        last = self.events[-1] if self.events else None
        return last is not None and not last.forced and last.position == len(self.ids)

    def _refuse_stored_end(self) -> None:
        """Refuse the end at which a stored chain stopped, if this budget has a wait left for it."""
        if self._may_wait():
            last = self.events.pop()
            self.state = ChainState.OPEN
            self._refuse(EventKind.WAIT, last.drawn, self.rules.wait(self.num_waits))

    def _long_trigger(self) -> tuple[int, ...]:
        """The last ids if they spell a trigger of several tokens, otherwise ()."""
        if not self.rules.long_triggers:
            return ()
        length = max(len(text) for text in self.rules.long_triggers) + _LONG_TRIGGER_MARGIN
        tail = tuple(self.ids[-length:])
        if not self._has_trigger(tail):
            return ()
        suffixes = (tail[-count:] for count in range(1, len(tail) + 1))
        return next(suffix for suffix in suffixes if self._has_trigger(suffix))

    def _has_trigger(self, ids: Sequence[int]) -> bool:
        assert self.rules.decode is not None
        text = self.rules.decode(ids)
        return any(trigger in text for trigger in self.rules.long_triggers)


class AnswerMachine:
    """The answer after a closing: sampled until an end-of-sequence token or `limit` tokens."""

    def __init__(self, *, limit: int, eos_ids: frozenset[int]) -> None:
        self.limit = limit
        self.eos_ids = eos_ids
        self.ids: list[int] = []
        self.end = AnswerEnd.LENGTH

    @property
    def draw_index(self) -> tuple[int, int]:
        """Unique name of the next draw within the answer."""
        return len(self.ids), 0

    def next_action(self) -> Action:
        """Return DRAW, or STOP after an end-of-sequence token or at the limit."""
        over = self.end is AnswerEnd.STOP or len(self.ids) >= self.limit
        return _STOP if over else _DRAW

    def observe(self, token: int, *, end_probability: float = 0.0, argmax: int = -1) -> Action:
        """Keep the token, or stop at an end-of-sequence token; the two figures are not used."""
        if token in self.eos_ids:
            self.end = AnswerEnd.STOP
            return _STOP
        self.ids.append(token)
        return _KEEP


def is_loop(ids: Sequence[int], rule: LoopRule) -> bool:
    """Whether the ids end in a repetition: at least `rule.repeats` equal runs, which are
    `rule.min_tokens` or more in all."""
    for period in range(1, rule.max_period + 1):
        span = period * max(rule.repeats, -(-rule.min_tokens // period))
        if len(ids) >= span and ids[-1] == ids[-1 - period]:
            tail = list(ids[-span:])
            if tail[period:] == tail[:-period]:
                return True
    return False
