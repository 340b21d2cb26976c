"""The requests of a vLLM batch that are forced: what is ordered for each, and what came of it.

A step goes: `collect` what the last one drew (it has reached the host by now), renew the orders
that this ended, then `act` on the logits by index tensors built once. Requests without a budget
never come here. Between two changes of its order a row costs a length check.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from slowthink.engines.session import uniform
from slowthink.engines.vllm.draws import RULES, Draws, HostCopy, Sampled, decide, force, send, watch
from slowthink.engines.vllm.request_flow import NO_WATCH, RUNNER_UP, DeclaredEnd, Flow, Spec
from slowthink.records import Sampling

_CHUNK_NUMBERS = 2**25
"""Numbers of a sampled distribution held at once: rows are drawn in groups below it."""
_DECLARED = 3
"""Column of a mark that says whether an end was declared."""


@dataclass
class History:
    """What outlives a request's place in the batch: a preempted one is added again with its ids."""

    marks: dict[int, DeclaredEnd] = field(default_factory=dict)
    """By output index."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class RowSettings:
    """What holds for a row beside its spec."""

    cap: int
    sampling: Sampling
    seed: int = 0
    known_ids: tuple[int, ...] = ()
    """Thinking that the prompt ends with."""
    engine_is_greedy: bool = True
    """The engine takes the likeliest id by itself."""


class ForcedRow:
    """One forced request in the batch."""

    def __init__(
        self, spec: Spec, terms: RowSettings, *, outputs: list[int], history: History | None = None
    ) -> None:
        self.spec = spec
        self.terms = terms
        self.sampling = terms.sampling
        self.outputs = outputs
        """The ids that came out; the engine's own list, or ours."""
        self.history = history or History(seed=terms.seed)
        self.triggers = sorted(spec.rules.trigger_ids)
        self.found: list[float] | None = None
        """The last step's mark, as numbers."""
        self.is_ready = False
        """Its flow has gone through the ids that came out. Not yet when the row is made: the last
        step may still owe its history a mark."""
        self._guess = history is None

    def rebuild(self) -> None:
        """Start again from the ids that came out: they were replaced, or some taken back."""
        self.flow = Flow(self.spec, cap=self.terms.cap, known_ids=self.terms.known_ids)
        self.flow.replay(self.outputs, self.history.marks, guess=self._guess)
        self._guess, self.is_ready = False, True
        self.count = self.told = len(self.outputs)
        self._renew()

    def _renew(self) -> None:
        self.order = self.flow.order()
        self.left = self.order.steps
        self.work = self._work()

    def came(self, mark: DeclaredEnd | None) -> bool:
        """One more id is there; whether the order changed."""
        self.count += 1
        self.left -= 1
        if mark is None and self.left > 0:
            return False
        self.flow.told(self.outputs[self.told : self.count], mark)
        self.told = self.count
        self._renew()
        return True

    def draw_name(self) -> tuple[int, int]:
        """Names the next draw: its place among the draws of its order, and the events before."""
        at, events = self.order.index
        return at + self.count - self.told, events

    def _work(self) -> RowWork:
        order = self.order
        if order.force >= 0:
            return RowWork.FORCE
        plain = self.terms.engine_is_greedy and not self.sampling.temperature
        if plain and order.on_end == NO_WATCH and not order.banned:
            return RowWork.NONE
        by_rule = self.spec.rules.end_rule != "drawn"
        return RowWork.WATCH if plain and order.on_end >= 0 and not by_rule else RowWork.DRAW


class RowWork(enum.Enum):
    """What a step does for a row."""

    NONE = "none"
    """The engine's own greedy draw stands."""
    WATCH = "watch"
    """It stands, but an id takes the place of an end."""
    FORCE = "force"
    DRAW = "draw"


@dataclass
class _Plan:
    """The batch by work; kept while no order changes."""

    members: list[tuple[int, ForcedRow]] = field(default_factory=list)
    forced: list[tuple[int, int]] = field(default_factory=list)
    drawn: list[tuple[int, ForcedRow]] = field(default_factory=list)
    watched: list[ForcedRow] = field(default_factory=list)
    watch_tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None


class Stepper:
    """All forced rows of one engine."""

    def __init__(self, device: torch.device, *, ids_from_device: bool = False) -> None:
        self.device = device
        self._ids_from_device = ids_from_device
        """The engine does not tell the host what came out, so it is read off the logits."""
        self._plan: _Plan | None = None
        self._stepped: Sequence[tuple[int, ForcedRow]] = ()
        self._kept: Sequence[bool] | None = None
        self._marked: list[ForcedRow] = []
        self._marks: list[HostCopy] = []
        self._ids: HostCopy | None = None

    def batch_changed(self) -> None:
        """Rows came, went or moved."""
        self._plan = None

    # -- what the last step drew --

    def collect(self) -> None:
        """Tell each row of the last step what came out there."""
        if self._ids is not None:
            keeps = self._kept or [True] * len(self._stepped)
            for (_, row), keep, (token,) in zip(
                self._stepped, keeps, self._ids.values(), strict=True
            ):
                if keep:
                    row.outputs.append(token)
        marks = (mark for coming in self._marks for mark in coming.values())
        for row, mark in zip(self._marked, marks, strict=True):
            row.found = mark
        for _, row in self._stepped:
            self._settle(row)
        self._stepped, self._marked, self._marks, self._ids = (), [], [], None

    def _settle(self, row: ForcedRow) -> None:
        found, row.found = row.found, None
        count = len(row.outputs)
        if count == row.count:
            return  # the engine kept nothing: the prompt was not all there yet
        if count != row.count + 1:
            row.rebuild()
            self._plan = None
            return
        token = row.outputs[-1]
        mark = None
        if found is not None and found[_DECLARED]:
            mark = _mark(row, found, token)
        if token < 0:  # it left the batch before its id was told: it comes back as another row
            return
        if row.came(mark):
            self._plan = None

    # -- this step --

    def act(
        self,
        logits_BV: torch.Tensor,
        rows: Iterable[tuple[int, ForcedRow]],
        *,
        kept: Sequence[bool] | None = None,
    ) -> None:
        """Edit the logits (in place) as the rows' orders say. `kept`: whether the id drawn for each
        row will count, where the engine knows."""
        if self._plan is None:
            self._plan = self._sort(rows)
        plan = self._plan
        if plan.forced:
            places = self._send(plan.forced)
            force(logits_BV, places[:, 0], places[:, 1])
        if plan.drawn:
            self._draw(logits_BV, plan.drawn)
        if plan.watch_tensors is not None:
            self._marks.append(HostCopy(watch(logits_BV, *plan.watch_tensors)))
            self._marked += plan.watched
        self._stepped, self._kept = plan.members, kept
        if self._ids_from_device and plan.members:
            at_R = self._send([at for at, _ in plan.members])
            self._ids = HostCopy(logits_BV.index_select(0, at_R).argmax(-1, keepdim=True))

    def _send(self, values: Any, dtype: torch.dtype = torch.long) -> torch.Tensor:
        return send(values, dtype=dtype, device=self.device)

    def _sort(self, rows: Iterable[tuple[int, ForcedRow]]) -> _Plan:
        plan = _Plan(members=list(rows))
        watched = []
        for at, row in plan.members:
            if not row.is_ready:
                row.rebuild()
            if row.work is RowWork.FORCE:
                plan.forced.append((at, row.order.force))
            elif row.work is RowWork.DRAW:
                plan.drawn.append((at, row))
            elif row.work is RowWork.WATCH:
                watched.append((at, row.order.on_end))
                plan.watched.append(row)
        if watched:
            places = self._send(watched)
            triggers, _ = _padded([row.triggers for row in plan.watched])
            plan.watch_tensors = (places[:, 0], places[:, 1], self._send(triggers))
        return plan

    # -- rows that are drawn here --

    def _draw(self, logits_BV: torch.Tensor, members: Sequence[tuple[int, ForcedRow]]) -> None:
        greedy = [pair for pair in members if not pair[1].sampling.temperature]
        sampled = [pair for pair in members if pair[1].sampling.temperature]
        size = max(1, _CHUNK_NUMBERS // logits_BV.shape[-1])
        for group, is_sampled in ((greedy, False), (sampled, True)):
            for chunk in _chunks(group, size):
                draws = self._draws(chunk, is_sampled=is_sampled)
                self._marks.append(HostCopy(decide(logits_BV, draws)))
                self._marked += [row for _, row in chunk]

    def _draws(self, members: Sequence[tuple[int, ForcedRow]], *, is_sampled: bool) -> Draws:
        rows = [row for _, row in members]
        rules = [row.spec.rules for row in rows]
        triggers, distinct = _padded([row.triggers for row in rows])
        places = self._send(
            [
                (at, row.order.on_end, row.order.banned, RULES[one.end_rule])
                for (at, row), one in zip(members, rules, strict=True)
            ]
        )
        return Draws(
            rows_R=places[:, 0],
            on_end_R=places[:, 1],
            banned_R=places[:, 2].bool(),
            rule_R=places[:, 3],
            triggers_RT=self._send(triggers),
            distinct_RT=self._send(distinct, torch.bool),
            end_probability_R=self._send([one.end_probability for one in rules], torch.float64),
            sampling=self._sampled(rows) if is_sampled else None,
            wants_probability=any(one.end_rule == "probability" for one in rules),
            wants_rest=any(row.order.banned or row.order.on_end == RUNNER_UP for row in rows),
        )

    def _sampled(self, rows: Sequence[ForcedRow]) -> Sampled:
        found = [row.sampling for row in rows]
        numbers = self._send(
            [
                (one.temperature, one.top_p, one.min_p, *_uniforms(row))
                for row, one in zip(rows, found, strict=True)
            ],
            torch.float64,
        )
        return Sampled(
            temperature_R=numbers[:, 0],
            top_p_R=numbers[:, 1],
            min_p_R=numbers[:, 2],
            uniform_R=numbers[:, 3],
            again_R=numbers[:, 4],
            top_k_R=self._send([one.top_k for one in found]),
            max_top_k=max(one.top_k for one in found),
            has_top_p=any(one.top_p < 1 for one in found),
            has_min_p=any(one.min_p > 0 for one in found),
        )


def _uniforms(row: ForcedRow) -> tuple[float, float]:
    """The numbers that decide the draw, and the draw after a refusal."""
    at, events = row.draw_name()
    seed, sample, tag = row.history.seed, row.spec.ask.sample, row.order.tag
    first = uniform(seed, sample, *tag, (at, events))
    again = row.order.on_end == RUNNER_UP
    return first, uniform(seed, sample, *tag, (at, events + 1)) if again else 0.0


def _mark(row: ForcedRow, found: Sequence[float], came: int) -> DeclaredEnd | None:
    """What was drawn where an end was declared; kept in the row's history."""
    token, end_probability, argmax, _ = found
    stands_for = -1 if row.work is RowWork.DRAW else row.order.on_end
    if came >= 0 and stands_for >= 0 and came != stands_for:
        return None
    mark = DeclaredEnd(int(token), end_probability, int(argmax), stands_for)
    row.history.marks[row.count] = mark
    return mark


def _padded(lists: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[list[bool]]]:
    """The lists made equally long by repeats of their first id, and where they are their own."""
    width = max(map(len, lists))
    ids = [[*one, *[one[0]] * (width - len(one))] for one in lists]
    return ids, [[place < len(one) for place in range(width)] for one in lists]


def _chunks(
    members: Sequence[tuple[int, ForcedRow]], size: int
) -> Iterator[Sequence[tuple[int, ForcedRow]]]:
    for start in range(0, len(members), size):
        yield members[start : start + size]
