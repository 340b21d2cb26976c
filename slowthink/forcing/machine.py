"""Budget forcing as one state machine over token ids; no torch, no IO.

Source: s1, arXiv 2501.19393, section 3.1; the exact semantics stand in DESIGN.md.

    machine = Forcing(rules, cap=64, waits=1, steps=None)
    while (action := machine.next_action()).kind is not ActionKind.STOP:
        if action.kind is ActionKind.FORCE: feed action.token
        else: draw a token (never one of action.banned) and tell machine.observe(token, …);
              it answers KEEP, FORCE (the draw is replaced), REFUSE (draw again), ROLLBACK or STOP

A driver only draws and feeds. What a chain means at a smaller cap, fewer steps or fewer waits is
`cut_chain`, so one long chain serves a whole curve.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slowthink.errors import ConfigError
from slowthink.forcing.formats import TokenFormat
from slowthink.forcing.steps import StepCounter, num_steps, step_end
from slowthink.records import (
    AnswerEnd,
    Budget,
    Chain,
    ChainState,
    Event,
    EventKind,
    LoopRule,
    ThinkingEnd,
)  # fmt: skip

_LONG_TRIGGER_MARGIN = 4
"""Tokens looked at beyond a long trigger's own length: drawn tokens need not split it as the
encoder does."""


@dataclass(frozen=True, kw_only=True)
class ForcingRules:
    """What governs a chain, in ids: all of a budget but cap, steps and number of waits."""

    trigger_ids: frozenset[int]
    long_triggers: tuple[str, ...] = ()
    wait_ids: tuple[tuple[int, ...], ...] = ((),)
    """In rotation; `((),)`: the runner-up is taken."""
    min_thinking_tokens: int = 0
    end_rule: str = "drawn"
    end_probability: float = 1.0
    loop: LoopRule | None = None
    step_delimiter: str = "\n\n"
    """Ends a step, where a budget counts them."""
    decode: Callable[[Sequence[int]], str] | None = None
    """Needed for long triggers and for steps only."""

    def wait(self, number: int) -> tuple[int, ...]:
        """Ids of the wait string for the refusal of this number, from 0."""
        return self.wait_ids[number % len(self.wait_ids)]

    def wait_fits(
        self, ids: Sequence[int], number: int, *, cap: int, steps: int | None = None
    ) -> bool:
        """Whether the wait string of this number and one more token fit after these ids."""
        wait = self.wait(number)
        if len(ids) + len(wait) + 1 > cap:
            return False
        return steps is None or self.num_steps((*ids, *wait)) < steps

    def num_steps(self, ids: Sequence[int]) -> int:
        """Steps that these thinking tokens complete."""
        assert self.decode is not None, "steps are counted in text"
        return num_steps(ids, self.step_delimiter, self.decode)

    def limit(self, ids: Sequence[int], *, cap: int, steps: int | None) -> int:
        """The number of these ids at which the cap or the steps are used up; the cap if neither
        is."""
        if steps is None:
            return cap
        assert self.decode is not None, "steps are counted in text"
        end = step_end(ids, steps, self.step_delimiter, self.decode)
        return cap if end is None else min(cap, end)


def make_rules(budget: Budget, token_format: TokenFormat) -> ForcingRules:
    """A budget's rules in a tokenizer's ids. Raises ConfigError for a wait string of no tokens."""
    waits = tuple(token_format.encode(text) for text in budget.wait_strings)
    for text, ids in zip(budget.wait_strings, waits, strict=True):
        if not ids:
            raise ConfigError(
                f"forcing.wait_strings: {text!r} has no tokens; expected text. "
                "For no string at all (the runner-up token is taken) give an empty list: []"
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
    """What the driver is to do."""

    DRAW = "draw"
    """Draw a token from the model, none of the banned, and tell it to `drawn`."""
    FORCE = "force"
    """Feed this token; the machine has it already."""
    KEEP = "keep"
    """The drawn token stands."""
    REFUSE = "refuse"
    """The drawn token does not stand: draw again from the rest of the distribution."""
    ROLLBACK = "rollback"
    """The last `num_tokens` fed tokens do not stand; the drawn one neither. Ask `next`."""
    REPLACE = "replace"
    """The drawn token does not stand; ask `next` for what comes in its place."""
    STOP = "stop"
    """Thinking is over."""


@dataclass(frozen=True, slots=True)
class Action:
    """One order to the driver."""

    kind: ActionKind
    token: int = -1
    banned: frozenset[int] = frozenset()
    num_tokens: int = 0


_DRAW = Action(ActionKind.DRAW)
_KEEP = Action(ActionKind.KEEP)
_REPLACE = Action(ActionKind.REPLACE)
_STOP = Action(ActionKind.STOP)


class ForcingMachine:
    """The thinking of a chain up to a cap, a number of waits and (None: no limit) of steps.

    It may go on from a stored chain.
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
        self._dropped: tuple[int, ...] = ()
        self._counter: StepCounter | None = None
        if steps is not None:
            assert rules.decode is not None, "steps are counted in text"
            self._counter = StepCounter(rules.step_delimiter, rules.decode)
        if self.state is ChainState.ENDED:
            self._reopen()
        elif self.state is ChainState.OPEN and self._owes_runner_up():
            self._ban(self.events[-1].drawn)

    @property
    def num_waits(self) -> int:
        """Waits used so far."""
        return sum(event.kind is EventKind.WAIT for event in self.events)

    def chain(self, key: str) -> Chain:
        """The chain as it stands, ready to be stored."""
        ids = (*self.ids, *self._pending)
        return Chain(key=key, ids=ids, events=tuple(self.events), state=self.state)

    @property
    def draw_index(self) -> tuple[int, int]:
        """Names the next draw: position, and events before it. No two draws of a chain share it."""
        return len(self.ids), len(self.events)

    def next_action(self) -> Action:
        """What the driver is to do before the next token."""
        if self._pending:
            token = self._pending.popleft()
            self.ids.append(token)
            return Action(ActionKind.FORCE, token)
        if self.state is not ChainState.OPEN or self._used_up():
            return _STOP
        return Action(ActionKind.DRAW, banned=self._banned) if self._banned else _DRAW

    def preview_declared_end(self) -> tuple[Action, int]:
        """What an end declared at the next draw would come to, and for how many draws in a row that
        stays so if none is declared; changes nothing.

        FORCE (a wait's first token), REFUSE (the next best token) or STOP. For drivers that must
        say it before they see the draw.
        """
        position = len(self.ids)
        kind = self._judge()
        wait = self.rules.wait(self.num_waits)
        action = _STOP
        if kind is not EventKind.END:
            forced = wait and kind is EventKind.WAIT
            action = Action(ActionKind.FORCE, wait[0]) if forced else Action(ActionKind.REFUSE)
        unsteady = self.rules.loop is not None or self._counter is not None
        if self._banned or unsteady or self.rules.long_triggers:
            return action, 1
        turns = (self.rules.min_thinking_tokens, self.cap - len(wait), self.cap)
        return action, min((turn - position for turn in turns if turn > position), default=1)

    def observe(self, token: int, *, end_probability: float = 0.0, argmax: int = -1) -> Action:
        """Tell the machine what was drawn.

        `end_probability` is P(any single-token end) and `argmax` the likeliest id, both of the
        unbanned distribution; needed for the end rules of these names only.
        """
        if not self._banned and self._declares(token, end_probability, argmax):
            return self._declared((token,) if token in self.rules.trigger_ids else ())
        self._banned = frozenset()
        self.ids.append(token)
        long = self._long_trigger()
        if long:
            del self.ids[-long:]
            return self._declared_long(long)
        self._look_for_loop()
        return _KEEP

    def _used_up(self) -> bool:
        if len(self.ids) >= self.cap:
            return True
        if self._counter is None or self.steps is None:
            return False
        return self._counter.update(self.ids) >= self.steps

    # -- ends --

    def _declares(self, token: int, end_probability: float, argmax: int) -> bool:
        rules = self.rules
        if token in rules.trigger_ids:
            return True
        if rules.end_rule == "argmax":
            return argmax in rules.trigger_ids
        return rules.end_rule == "probability" and end_probability >= rules.end_probability

    def _declared(self, drawn: tuple[int, ...]) -> Action:
        """A declared end: refuse it, put a wait in its place, or accept it."""
        kind = self._judge()
        if kind is EventKind.MINIMUM:
            return self._refuse(kind, drawn)
        if kind is EventKind.WAIT:
            return self._refuse(kind, drawn, self.rules.wait(self.num_waits))
        self.events.append(Event(position=len(self.ids), kind=kind, drawn=drawn))
        self.state = ChainState.ENDED
        return _STOP

    def _judge(self) -> EventKind:
        """What an end declared here comes to."""
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

    def _owes_runner_up(self) -> bool:
        """Whether a stored chain stops between a refusal without a string and its redraw."""
        last = self.events[-1] if self.events else None
        return last is not None and not last.forced and last.position == len(self.ids)

    def _declared_long(self, length: int) -> Action:
        action = self._declared(self._dropped)
        if action.kind is ActionKind.STOP:
            return action
        return Action(ActionKind.ROLLBACK, num_tokens=length - 1)

    def _reopen(self) -> None:
        """Refuse the end that a stored chain stopped at, where there are waits left for it."""
        if self._may_wait():
            last = self.events.pop()
            self.state = ChainState.OPEN
            self._refuse(EventKind.WAIT, last.drawn, self.rules.wait(self.num_waits))

    def _long_trigger(self) -> int:
        """How many of the last ids make up a long trigger, 0 for none; kept in `_dropped`."""
        if not self.rules.long_triggers:
            return 0
        assert self.rules.decode is not None
        length = max(len(text) for text in self.rules.long_triggers) + _LONG_TRIGGER_MARGIN
        tail = self.ids[-length:]
        text = self.rules.decode(tail)
        if not any(trigger in text for trigger in self.rules.long_triggers):
            return 0
        for count in range(1, len(tail) + 1):
            text = self.rules.decode(tail[-count:])
            if any(trigger in text for trigger in self.rules.long_triggers):
                self._dropped = tuple(tail[-count:])
                return count
        return 0

    # -- loops --

    def _look_for_loop(self) -> None:
        rule = self.rules.loop
        if rule is not None and is_loop(self.ids, rule):
            self.state = ChainState.LOOP


class AnswerMachine:
    """The answer after a closing: drawn until an end-of-sequence token, or `limit` tokens."""

    def __init__(self, *, limit: int, eos_ids: frozenset[int]) -> None:
        self.limit = limit
        self.eos_ids = eos_ids
        self.ids: list[int] = []
        self.end = AnswerEnd.LENGTH

    @property
    def draw_index(self) -> tuple[int, int]:
        """Names the next draw."""
        return len(self.ids), 0

    def next_action(self) -> Action:
        """Draw, while there is room and no end was drawn."""
        over = self.end is AnswerEnd.STOP or len(self.ids) >= self.limit
        return _STOP if over else _DRAW

    def observe(self, token: int, *, end_probability: float = 0.0, argmax: int = -1) -> Action:
        """Keep the token, or stop at an end; the two figures do not matter here."""
        if token in self.eos_ids:
            self.end = AnswerEnd.STOP
            return _STOP
        self.ids.append(token)
        return _KEEP


def is_loop(ids: Sequence[int], rule: LoopRule) -> bool:
    """Whether the ids end in at least `rule.repeats` equal runs of `rule.min_tokens` in all."""
    for period in range(1, rule.max_period + 1):
        span = period * max(rule.repeats, -(-rule.min_tokens // period))
        if len(ids) >= span and ids[-1] == ids[-1 - period]:
            tail = list(ids[-span:])
            if tail[period:] == tail[:-period]:
                return True
    return False


# --- what a chain means at a point ----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Cut:
    """The thinking of one point of a chain."""

    ids: tuple[int, ...]
    end: ThinkingEnd
    events: tuple[Event, ...]

    @property
    def num_forced(self) -> int:
        """Forced thinking tokens: wait strings, as far as they lie before the cut."""
        return sum(min(e.forced, len(self.ids) - e.position) for e in self.events)


def cut_chain(
    chain: Chain, rules: ForcingRules, *, cap: int, waits: int, steps: int | None = None
) -> Cut | None:
    """The thinking at this cap, number of waits and (None: without limit) of steps, or None where
    the chain does not reach it yet.

    Equal to a run of its own: the chain's first tokens until the cap or the steps are used up, or
    to the first declared end that nothing refuses at this point, whichever comes first.
    """
    used = 0
    for index, (event, stream) in enumerate(zip(chain.events, _streams(chain), strict=True)):
        before, ids = chain.events[:index], stream[: event.position]
        limit = rules.limit(stream, cap=cap, steps=steps)
        if limit < len(stream) or limit <= event.position:
            return Cut(ids=stream[:limit], end=ThinkingEnd.CAP, events=before)
        if event.kind is EventKind.MINIMUM:
            continue
        if used >= waits or not rules.wait_fits(ids, used, cap=cap, steps=steps):
            end = Event(position=event.position, kind=EventKind.END, drawn=event.drawn)
            return Cut(ids=ids, end=ThinkingEnd.NATURAL, events=(*before, end))
        if event.kind is EventKind.END:
            return None  # it ended where this point would have gone on
        used += 1
    limit = rules.limit(chain.ids, cap=cap, steps=steps)
    if len(chain.ids) >= limit:
        return Cut(ids=chain.ids[:limit], end=ThinkingEnd.CAP, events=chain.events)
    if chain.state is ChainState.LOOP:
        return Cut(ids=chain.ids, end=ThinkingEnd.LOOP, events=chain.events)
    return None


def _streams(chain: Chain) -> list[tuple[int, ...]]:
    """What had been thought when each end was declared, a long delimiter's own tokens included:
    they are thinking until it is whole.

    A delimiter may take back tokens that stood when an earlier end was refused, so this is told
    backwards: what stood then begins what stood at the next end.
    """
    streams, later = [], chain.ids
    for event in reversed(chain.events):
        kept = later[: event.position]
        later = (*kept, *event.drawn) if len(event.drawn) > 1 else kept
        streams.append(later)
    return streams[::-1]


def check_budget(
    cut: Cut, rules: ForcingRules, *, cap: int, waits: int, steps: int | None = None
) -> tuple[str, ...]:
    """The ways in which this thinking breaks its budget, told from the ids alone; () where it
    holds."""
    found = []
    num_waits = sum(event.kind is EventKind.WAIT for event in cut.events)
    if len(cut.ids) > cap:
        found.append(f"{len(cut.ids)} thinking tokens over the cap of {cap}")
    if cut.end is ThinkingEnd.NATURAL and len(cut.ids) < rules.min_thinking_tokens:
        found.append(
            f"{len(cut.ids)} thinking tokens under the minimum of {rules.min_thinking_tokens}"
        )
    if num_waits > waits:
        found.append(f"{num_waits} waits of {waits}")
    if steps is not None and rules.num_steps(cut.ids) > steps:
        found.append(f"{rules.num_steps(cut.ids)} steps of {steps}")
    if any(token in rules.trigger_ids for token in cut.ids):
        found.append("an end trigger inside the thinking")
    for event, wait in _waits_in(cut, rules):
        if cut.ids[event.position : event.position + len(wait)] != wait:
            found.append(f"no wait string at {event.position}")
    return tuple(found)


def _waits_in(cut: Cut, rules: ForcingRules) -> list[tuple[Event, tuple[int, ...]]]:
    waits = [event for event in cut.events if event.kind is EventKind.WAIT]
    return [
        (event, rules.wait(number)[: len(cut.ids) - event.position])
        for number, event in enumerate(waits)
    ]
