"""Budget forcing as a state machine over token ids; no torch, no IO.

s1 (arXiv 2501.19393, section 3.1) controls how long a model thinks in two ways: it cuts thinking
off at a cap, or suppresses its end and appends a wait string ("Wait"). `ForcingMachine` makes these
decisions, one token at a time. An engine only samples tokens and feeds them to the model:

    machine = ForcingMachine(rules, cap=64, waits=1)
    while (action := machine.next_action()).kind is not ActionKind.STOP:
        if action.kind is ActionKind.FORCE:
            feed(action.token)
        else:
            token = sample(banned=action.banned)
            machine.observe(token)  # KEEP: feed it. Otherwise discard it: see ActionKind

The end of thinking is *declared* when a trigger is sampled (the delimiter's first token or an
end-of-sequence token), or earlier if `end_rule` is not `drawn`. A declared end is

    refused below the minimum   thinking is too short: another token is sampled, not a trigger
    refused with a wait         a wait is left, and its wait string and one more token fit under the
                                cap: the wait string is forced. Without wait strings another token
                                is sampled, not a trigger
    accepted                    otherwise

The cap is checked before each token. A chain sampled for a large budget also contains the thinking
for every smaller one: see `cuts.cut_chain`.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from slowthink.errors import ConfigError
from slowthink.forcing.formats import TokenFormat
from slowthink.forcing.steps import StepCounter, num_steps, num_tokens_in_steps
from slowthink.records import AnswerEnd, Budget, Chain, ChainState, Event, EventKind, LoopRule

_LONG_TRIGGER_MARGIN = 4
"""Tokens decoded to find a long trigger, in addition to one per character of it."""


@dataclass(frozen=True, kw_only=True)
class ForcingRules:
    """A budget in token ids, without cap, steps and number of waits: equal for a whole sweep."""

    trigger_ids: frozenset[int]
    long_triggers: tuple[str, ...] = ()
    wait_ids: tuple[tuple[int, ...], ...] = ((),)
    """Wait strings, used in rotation. `((),)`: no wait string; the runner-up token is taken."""
    min_thinking_tokens: int = 0
    end_rule: str = "drawn"
    end_probability: float = 1.0
    loop: LoopRule | None = None
    step_delimiter: str = "\n\n"
    """Ends a step; used if the budget limits steps."""
    decode: Callable[[Sequence[int]], str] | None = None
    """Converts ids to text; required for long triggers and steps only."""

    @cached_property
    def triggers(self) -> tuple[int, ...]:
        """`trigger_ids` in ascending order."""
        return tuple(sorted(self.trigger_ids))

    def wait_string_ids(self, wait_index: int) -> tuple[int, ...]:
        """Token ids of the wait string that a chain's wait `wait_index`, from 0, forces."""
        return self.wait_ids[wait_index % len(self.wait_ids)]

    def wait_fits(
        self, ids: Sequence[int], wait_index: int, *, cap: int, steps: int | None = None
    ) -> bool:
        """Whether the wait string of wait `wait_index` and one more token fit after `ids`."""
        wait_string = self.wait_string_ids(wait_index)
        if len(ids) + len(wait_string) + 1 > cap:
            return False
        return steps is None or self.num_steps((*ids, *wait_string)) < steps

    def num_steps(self, ids: Sequence[int]) -> int:
        """Number of steps that these thinking tokens complete."""
        assert self.decode is not None, "counting steps requires `decode`"
        return num_steps(ids, self.step_delimiter, self.decode)

    def max_tokens(self, ids: Sequence[int], *, cap: int, steps: int | None) -> int:
        """Number of thinking tokens at which `ids` reach the cap or complete the last step."""
        if steps is None:
            return cap
        assert self.decode is not None, "counting steps requires `decode`"
        length = num_tokens_in_steps(ids, steps, self.step_delimiter, self.decode)
        return cap if length is None else min(cap, length)


def make_rules(budget: Budget, token_format: TokenFormat) -> ForcingRules:
    """Encode a budget's texts as token ids. Raises ConfigError for an empty wait string."""
    wait_ids = tuple(token_format.encode(text) for text in budget.wait_strings)
    for text, ids in zip(budget.wait_strings, wait_ids, strict=True):
        if not ids:
            raise ConfigError(
                f"forcing.wait_strings: {text!r} has no tokens; expected text. "
                "To take the runner-up token instead of a wait string, give an empty list: []"
            )
    return ForcingRules(
        trigger_ids=token_format.trigger_ids,
        long_triggers=token_format.long_triggers,
        wait_ids=wait_ids or ((),),
        min_thinking_tokens=budget.min_thinking_tokens,
        end_rule=budget.end_rule,
        end_probability=budget.end_probability,
        loop=budget.loop,
        step_delimiter=budget.step_delimiter,
        decode=token_format.decode,
    )


class ActionKind(enum.Enum):
    """What the engine must do. `next_action` returns SAMPLE, FORCE or STOP; `observe` returns
    KEEP, RESAMPLE, REPLACE, ROLLBACK or STOP."""

    SAMPLE = "sample"
    """Sample a token that is not banned, and pass it to `observe`."""
    FORCE = "force"
    """Feed `token`; the machine has already added it to its ids."""
    KEEP = "keep"
    """Feed the sampled token."""
    RESAMPLE = "resample"
    """Discard the sampled token; sample another one that is not banned."""
    REPLACE = "replace"
    """Discard the sampled token; `next_action` returns the wait string that replaces it."""
    ROLLBACK = "rollback"
    """Discard the sampled token and the fed tokens that the machine removed from `ids`: together
    they were a long trigger."""
    STOP = "stop"
    """Discard the sampled token, if any; thinking has ended."""


class Action(NamedTuple):
    """One instruction to the engine."""

    kind: ActionKind
    token: int = -1
    banned: frozenset[int] = frozenset()


_SAMPLE = Action(ActionKind.SAMPLE)
_KEEP = Action(ActionKind.KEEP)
_RESAMPLE = Action(ActionKind.RESAMPLE)
_REPLACE = Action(ActionKind.REPLACE)
_ROLLBACK = Action(ActionKind.ROLLBACK)
_STOP = Action(ActionKind.STOP)


class ForcingMachine:
    """The thinking of one chain up to a cap, a number of waits and, unless None, of steps.

    With `chain`, stored thinking is continued: if it has ended but this budget has a wait left, the
    stored end is refused first.
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
        self.num_waits = sum(event.kind is EventKind.WAIT for event in self.events)
        """Number of waits used so far."""
        self.state = chain.state if chain else ChainState.OPEN
        self._pending_forced: deque[int] = deque()
        self._banned: frozenset[int] = frozenset()
        self._depends_on_ids = bool(rules.loop or rules.long_triggers or steps is not None)
        """Whether each token can change what follows."""
        self._step_counter: StepCounter | None = None
        if steps is not None:
            assert rules.decode is not None, "counting steps requires `decode`"
            self._step_counter = StepCounter(rules.step_delimiter, rules.decode)
        if self.state is ChainState.ENDED:
            self._refuse_stored_end()
        elif self.state is ChainState.OPEN and self._needs_resampling():
            self._ban_triggers(self.events[-1].drawn)

    def chain(self, key: str) -> Chain:
        """The chain so far, pending forced tokens included, as a record to store."""
        ids = (*self.ids, *self._pending_forced)
        return Chain(key=key, ids=ids, events=tuple(self.events), state=self.state)

    @property
    def draw_key(self) -> tuple[int, int]:
        """Identifies the next draw within the chain: its position, and the number of events."""
        return len(self.ids), len(self.events)

    def next_action(self) -> Action:
        """Return SAMPLE, FORCE or STOP for the next token."""
        if self._pending_forced:
            token = self._pending_forced.popleft()
            self.ids.append(token)
            return Action(ActionKind.FORCE, token)
        if self.is_over:
            return _STOP
        return Action(ActionKind.SAMPLE, banned=self._banned) if self._banned else _SAMPLE

    @property
    def is_over(self) -> bool:
        """Whether thinking has ended, or used its tokens or steps, once no forced id is left."""
        if self.state is not ChainState.OPEN or len(self.ids) >= self.cap:
            return True
        counter, steps = self._step_counter, self.steps
        return counter is not None and steps is not None and counter.update(self.ids) >= steps

    def take_forced(self) -> tuple[int, ...]:
        """Return the ids that `next_action` would force one by one, all added to the ids."""
        forced = tuple(self._pending_forced)
        self._pending_forced.clear()
        self.ids.extend(forced)
        return forced

    def observe(self, token: int, *, trigger_probability: float = 0.0, argmax: int = -1) -> Action:
        """Process a sampled token and return what to do with it.

        `trigger_probability` is P(any single-token trigger) and `argmax` the most likely id, both
        ignoring bans; only the end rules `probability` and `argmax` need them.
        """
        if not self._banned and self._declares_end(token, trigger_probability, argmax):
            return self._on_declared_end((token,) if token in self.rules.trigger_ids else ())
        self._banned = frozenset()
        self.ids.append(token)
        if trigger := self._find_long_trigger():
            del self.ids[-len(trigger) :]
            accepted = self._on_declared_end(trigger).kind is ActionKind.STOP
            return _STOP if accepted else _ROLLBACK
        if self.rules.loop is not None and is_loop(self.ids, self.rules.loop):
            self.state = ChainState.LOOP
        return _KEEP

    def observe_run(self, tokens: Sequence[int]) -> None:
        """Process sampled tokens at none of which an end is declared, so none of them is a trigger;
        at once where no rule depends on the tokens between."""
        if self.rules.loop is not None or self.rules.long_triggers:
            for token in tokens:
                self.observe(token)
        elif tokens:
            self._banned = frozenset()
            self.ids.extend(tokens)

    @property
    def bans_triggers(self) -> bool:
        """Whether the next token must not be a trigger."""
        return bool(self._banned)

    @property
    def max_run(self) -> int:
        """Number of tokens that can be sampled, one after the other, before `next_action` may
        return anything else, if no end is declared."""
        return 1 if self._banned or self._depends_on_ids else self.cap - len(self.ids)

    def preview_declared_end(self) -> tuple[Action, int]:
        """Return the action in case the next token declares an end, and for how many tokens this
        action stays the same if none of them does. Does not change the machine.

        The action is FORCE (a wait string's first token), RESAMPLE or STOP. For engines that must
        decide before they see the sampled token.
        """
        event_kind, valid_up_to = self._next_event_kind(), self.cap
        if event_kind is EventKind.END:
            action = _STOP
        elif event_kind is EventKind.MINIMUM:
            action, valid_up_to = _RESAMPLE, min(self.rules.min_thinking_tokens, self.cap)
        else:
            wait_string = self.rules.wait_string_ids(self.num_waits)
            action = Action(ActionKind.FORCE, wait_string[0]) if wait_string else _RESAMPLE
            valid_up_to = self.cap - len(wait_string)
        return action, max(1, min(self.max_run, valid_up_to - len(self.ids)))

    # -- declared ends --

    def _declares_end(self, token: int, trigger_probability: float, argmax: int) -> bool:
        rules = self.rules
        if token in rules.trigger_ids:
            return True
        if rules.end_rule == "argmax":
            return argmax in rules.trigger_ids
        return rules.end_rule == "probability" and trigger_probability >= rules.end_probability

    def _on_declared_end(self, trigger: tuple[int, ...]) -> Action:
        """Refuse the end, force a wait string in its place, or accept it."""
        kind = self._next_event_kind()
        if kind is EventKind.MINIMUM:
            return self._refuse(kind, trigger)
        if kind is EventKind.WAIT:
            return self._refuse(kind, trigger, self.rules.wait_string_ids(self.num_waits))
        self.events.append(Event(position=len(self.ids), kind=kind, drawn=trigger))
        self.state = ChainState.ENDED
        return _STOP

    def _next_event_kind(self) -> EventKind:
        """Outcome of an end that is declared now."""
        if len(self.ids) < self.rules.min_thinking_tokens:
            return EventKind.MINIMUM
        return EventKind.WAIT if self._may_wait() else EventKind.END

    def _may_wait(self) -> bool:
        return self.num_waits < self.waits and self.rules.wait_fits(
            self.ids, self.num_waits, cap=self.cap, steps=self.steps
        )

    def _refuse(
        self, kind: EventKind, trigger: tuple[int, ...], wait_string: tuple[int, ...] = ()
    ) -> Action:
        event = Event(position=len(self.ids), kind=kind, drawn=trigger, forced=len(wait_string))
        self.events.append(event)
        self.num_waits += kind is EventKind.WAIT
        self._pending_forced.extend(wait_string)
        if wait_string:
            return _REPLACE
        self._ban_triggers(trigger)
        return Action(ActionKind.RESAMPLE, banned=self._banned)

    def _ban_triggers(self, refused: tuple[int, ...]) -> None:
        """Ban all triggers, and the first token of the refused one, for the next token."""
        self._banned = self.rules.trigger_ids | frozenset(refused[:1])

    def _needs_resampling(self) -> bool:
        """Whether the stored chain stopped between refusing an end and sampling another token."""
        last = self.events[-1] if self.events else None
        return last is not None and not last.forced and last.position == len(self.ids)

    def _refuse_stored_end(self) -> None:
        """Refuse the end of a stored chain, if this budget has a wait left for it."""
        if self._may_wait():
            end = self.events.pop()
            self.state = ChainState.OPEN
            self._refuse(EventKind.WAIT, end.drawn, self.rules.wait_string_ids(self.num_waits))

    def _find_long_trigger(self) -> tuple[int, ...]:
        """The shortest tail of the ids that contains a long trigger; () if there is none."""
        if not self.rules.long_triggers:
            return ()
        max_length = max(len(text) for text in self.rules.long_triggers) + _LONG_TRIGGER_MARGIN
        tail = tuple(self.ids[-max_length:])
        if not self._contains_long_trigger(tail):
            return ()
        suffixes = (tail[-length:] for length in range(1, len(tail) + 1))
        return next(suffix for suffix in suffixes if self._contains_long_trigger(suffix))

    def _contains_long_trigger(self, ids: Sequence[int]) -> bool:
        assert self.rules.decode is not None
        text = self.rules.decode(ids)
        return any(trigger in text for trigger in self.rules.long_triggers)


class AnswerMachine:
    """One answer: sampled until an end-of-sequence token, at most `max_tokens` tokens."""

    def __init__(self, *, max_tokens: int, eos_ids: frozenset[int]) -> None:
        self.max_tokens = max_tokens
        self.eos_ids = eos_ids
        self.ids: list[int] = []
        self.end_reason = AnswerEnd.LENGTH

    @property
    def draw_key(self) -> tuple[int, int]:
        """Identifies the next draw within the answer."""
        return len(self.ids), 0

    def next_action(self) -> Action:
        """Return SAMPLE, or STOP after an end-of-sequence token or `max_tokens` tokens."""
        ended = self.end_reason is AnswerEnd.STOP or len(self.ids) >= self.max_tokens
        return _STOP if ended else _SAMPLE

    def observe(self, token: int, *, trigger_probability: float = 0.0, argmax: int = -1) -> Action:
        """Return KEEP, or STOP for an end-of-sequence token. Ignores the keyword arguments, which
        only a `ForcingMachine` needs."""
        if token in self.eos_ids:
            self.end_reason = AnswerEnd.STOP
            return _STOP
        self.ids.append(token)
        return _KEEP

    def observe_run(self, tokens: Sequence[int]) -> None:
        """Process sampled tokens at once."""
        if self.eos_ids.isdisjoint(tokens):
            self.ids.extend(tokens)
        else:
            for token in tokens:
                self.observe(token)


def is_loop(ids: Sequence[int], rule: LoopRule) -> bool:
    """Whether the ids end with at least `rule.repeats` equal runs, of at least `rule.min_tokens`
    tokens in all."""
    for period in range(1, rule.max_period + 1):
        span = period * max(rule.repeats, -(-rule.min_tokens // period))
        if len(ids) >= span and ids[-1] == ids[-1 - period]:
            tail = list(ids[-span:])
            if tail[period:] == tail[:-period]:
                return True
    return False
