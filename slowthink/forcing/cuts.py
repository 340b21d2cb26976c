"""The thinking of a stored chain at a smaller budget, as if it had been sampled for that budget.

One long chain serves every point of a curve. If an end was declared after `a b` and refused with a
wait, the chain `a b Wait c d` gives:

    cap=3  waits=1    a b           natural: `Wait` and one more token do not fit
    cap=4  waits=1    a b Wait c    cut at the cap
    cap=64 waits=0    a b           natural: there is no wait to refuse the end
    cap=64 waits=1    None          the chain is open: more must be sampled
"""

from __future__ import annotations

from dataclasses import dataclass

from slowthink.forcing.machine import ForcingRules
from slowthink.records import Chain, ChainState, Event, EventKind, ThinkingEnd


@dataclass(frozen=True, kw_only=True)
class Cut:
    """The thinking of a chain at one point of a curve."""

    ids: tuple[int, ...]
    end: ThinkingEnd
    events: tuple[Event, ...]

    @property
    def num_forced(self) -> int:
        """Number of forced thinking tokens: wait strings, as far as they precede the cut."""
        return sum(min(e.forced, len(self.ids) - e.position) for e in self.events)


def cut_chain(
    chain: Chain, rules: ForcingRules, *, cap: int, waits: int, steps: int | None = None
) -> Cut | None:
    """Return the chain's thinking at this cap, number of waits and, unless None, of steps.

    Equals a run of its own at this budget: the tokens up to the cap, the last step or the first
    declared end that this budget does not refuse, whichever comes first. None if the chain is not
    long enough yet to tell.
    """
    used = 0
    for index, (event, stream) in enumerate(zip(chain.events, _streams(chain), strict=True)):
        earlier = chain.events[:index]
        limit = rules.limit(stream, cap=cap, steps=steps)
        if limit < len(stream) or limit <= event.position:
            return Cut(ids=stream[:limit], end=ThinkingEnd.CAP, events=earlier)
        if event.kind is EventKind.MINIMUM:
            continue
        ids = stream[: event.position]
        if used >= waits or not rules.wait_fits(ids, used, cap=cap, steps=steps):
            end = Event(position=event.position, kind=EventKind.END, drawn=event.drawn)
            return Cut(ids=ids, end=ThinkingEnd.NATURAL, events=(*earlier, end))
        if event.kind is EventKind.END:
            return None  # this budget would refuse the end, but no more was sampled
        used += 1
    limit = rules.limit(chain.ids, cap=cap, steps=steps)
    if len(chain.ids) >= limit:
        return Cut(ids=chain.ids[:limit], end=ThinkingEnd.CAP, events=chain.events)
    if chain.state is ChainState.LOOP:
        return Cut(ids=chain.ids, end=ThinkingEnd.LOOP, events=chain.events)
    return None


def _streams(chain: Chain) -> list[tuple[int, ...]]:
    """The thinking tokens at the moment each end was declared.

    The tokens of a long trigger count as thinking until the trigger is complete, so they are part
    of the stream at their own event, though rolled back since. Such a roll-back can also remove
    tokens that were there at an earlier event; hence the walk from the last event to the first,
    where each stream begins with the one before it.
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
    """Return the ways in which this thinking violates its budget, judged by its ids alone."""
    violations = []
    num_waits = sum(event.kind is EventKind.WAIT for event in cut.events)
    if len(cut.ids) > cap:
        violations.append(f"{len(cut.ids)} thinking tokens over the cap of {cap}")
    if cut.end is ThinkingEnd.NATURAL and len(cut.ids) < rules.min_thinking_tokens:
        violations.append(
            f"{len(cut.ids)} thinking tokens under the minimum of {rules.min_thinking_tokens}"
        )
    if num_waits > waits:
        violations.append(f"{num_waits} waits of {waits}")
    if steps is not None and rules.num_steps(cut.ids) > steps:
        violations.append(f"{rules.num_steps(cut.ids)} steps of {steps}")
    if any(token in rules.trigger_ids for token in cut.ids):
        violations.append("an end trigger inside the thinking")
    for event, wait in _waits(cut, rules):
        if cut.ids[event.position : event.position + len(wait)] != wait:
            violations.append(f"no wait string at {event.position}")
    return tuple(violations)


def _waits(cut: Cut, rules: ForcingRules) -> list[tuple[Event, tuple[int, ...]]]:
    """Each wait with the ids of its wait string, as far as they precede the cut."""
    waits = [event for event in cut.events if event.kind is EventKind.WAIT]
    return [
        (event, rules.wait(index)[: len(cut.ids) - event.position])
        for index, event in enumerate(waits)
    ]
