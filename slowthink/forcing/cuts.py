"""The thinking of a stored chain at a smaller budget, as if it had been sampled for that budget.

One long chain serves every point of a curve. In the chain `a b Wait c d` an end was declared after
`a b` and refused with a wait. Its thinking is

    cap=3  waits=1    a b           natural end: `Wait` and one more token do not fit
    cap=4  waits=1    a b Wait c    cut off at the cap
    cap=64 waits=0    a b           natural end: there is no wait to refuse it with
    cap=64 waits=1    None          too short: more must be sampled
"""

from __future__ import annotations

from dataclasses import dataclass

from slowthink.forcing.machine import ForcingRules
from slowthink.records import Chain, ChainState, Event, EventKind, ThinkingEnd


@dataclass(frozen=True, kw_only=True)
class Cut:
    """The thinking of a chain at one point of a curve."""

    ids: tuple[int, ...]
    end_reason: ThinkingEnd
    events: tuple[Event, ...]

    @property
    def num_forced(self) -> int:
        """Number of forced thinking tokens: those of wait strings before the cut."""
        return sum(min(event.forced, len(self.ids) - event.position) for event in self.events)


def cut_chain(
    chain: Chain, rules: ForcingRules, *, cap: int, waits: int, steps: int | None = None
) -> Cut | None:
    """Return the chain's thinking at this cap, number of waits and, unless None, of steps.

    Equal to the thinking of a separate run at this budget: the tokens up to the cap, the last step
    or the first declared end that this budget accepts, whichever comes first. None if the chain is
    too short to tell.
    """
    num_waits = 0
    thinking_at_events = _thinking_at_events(chain)
    for index, (event, thinking) in enumerate(zip(chain.events, thinking_at_events, strict=True)):
        earlier = chain.events[:index]
        limit = rules.max_tokens(thinking, cap=cap, steps=steps)
        if limit < len(thinking) or limit <= event.position:
            return Cut(ids=thinking[:limit], end_reason=ThinkingEnd.CAP, events=earlier)
        if event.kind is EventKind.MINIMUM:
            continue
        ids = thinking[: event.position]
        if num_waits >= waits or not rules.wait_fits(ids, num_waits, cap=cap, steps=steps):
            end = Event(position=event.position, kind=EventKind.END, drawn=event.drawn)
            return Cut(ids=ids, end_reason=ThinkingEnd.NATURAL, events=(*earlier, end))
        if event.kind is EventKind.END:
            return None  # this budget refuses the end, but nothing was sampled after it
        num_waits += 1
    limit = rules.max_tokens(chain.ids, cap=cap, steps=steps)
    if len(chain.ids) >= limit:
        return Cut(ids=chain.ids[:limit], end_reason=ThinkingEnd.CAP, events=chain.events)
    if chain.state is ChainState.LOOP:
        return Cut(ids=chain.ids, end_reason=ThinkingEnd.LOOP, events=chain.events)
    return None


def _thinking_at_events(chain: Chain) -> list[tuple[int, ...]]:
    """The thinking tokens at the moment each end was declared.

    The tokens of a long trigger count as thinking until the trigger is complete and rolled back, so
    they are included at their own event. A roll-back can also remove tokens that were present at an
    earlier event. Hence the loop from the last event to the first: the thinking before an event is
    a prefix of the thinking at the next one.
    """
    thinking_at_events, thinking = [], chain.ids
    for event in reversed(chain.events):
        thinking = thinking[: event.position]
        if len(event.drawn) > 1:
            thinking = (*thinking, *event.drawn)
        thinking_at_events.append(thinking)
    return thinking_at_events[::-1]


def check_budget(
    cut: Cut, rules: ForcingRules, *, cap: int, waits: int, steps: int | None = None
) -> tuple[str, ...]:
    """Return how this thinking violates its budget, determined from its token ids alone."""
    violations = []
    num_tokens = len(cut.ids)
    wait_events = [event for event in cut.events if event.kind is EventKind.WAIT]
    if num_tokens > cap:
        violations.append(f"{num_tokens} thinking tokens over the cap of {cap}")
    if cut.end_reason is ThinkingEnd.NATURAL and num_tokens < rules.min_thinking_tokens:
        violations.append(
            f"{num_tokens} thinking tokens under the minimum of {rules.min_thinking_tokens}"
        )
    if len(wait_events) > waits:
        violations.append(f"{len(wait_events)} waits; at most {waits} are allowed")
    if steps is not None and rules.num_steps(cut.ids) > steps:
        violations.append(f"{rules.num_steps(cut.ids)} steps; at most {steps} are allowed")
    if any(token in rules.trigger_ids for token in cut.ids):
        violations.append("an end trigger inside the thinking")
    for index, event in enumerate(wait_events):
        wait_string = rules.wait_string_ids(index)[: num_tokens - event.position]
        if cut.ids[event.position : event.position + len(wait_string)] != wait_string:
            violations.append(f"no wait string at {event.position}")
    return tuple(violations)
