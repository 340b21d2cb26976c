"""The forced requests of a vLLM batch: how each one's next token is made, and what was output.

A step: `collect` what the last one drew (it has reached the host by now), renew the instructions
that this ended, then `act` on the logits with index tensors that are built once. Requests without a
budget never get here. Between two instructions a row costs a length check.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from slowthink.engines.session import seeded_uniform
from slowthink.engines.vllm.draws import RULES, Draws, HostCopy, Sampled, decide, force, send, watch
from slowthink.engines.vllm.request_flow import NO_WATCH, RUNNER_UP, CompiledArgs, DeclaredEnd, Flow
from slowthink.records import Sampling

_CHUNK_NUMBERS = 2**25
"""Maximum size of a sampled distribution: rows are drawn in groups below it."""
_DECLARED = 3
"""Column of a mark (see `draws.decide`) that is true where an end was declared."""


@dataclass
class History:
    """State that outlives a request's place in the batch: a preempted one is added again with its
    ids."""

    ends: dict[int, DeclaredEnd] = field(default_factory=dict)
    """By output index."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class RowSettings:
    """A row's settings beside its compiled arguments."""

    cap: int
    sampling: Sampling
    seed: int = 0
    known_ids: tuple[int, ...] = ()
    """Thinking at the end of the prompt."""
    engine_is_greedy: bool = True
    """The engine takes the likeliest id by itself."""


class ForcedRow:
    """One forced request in the batch."""

    def __init__(
        self,
        compiled: CompiledArgs,
        settings: RowSettings,
        *,
        outputs: list[int],
        history: History | None = None,
    ) -> None:
        self.compiled = compiled
        self.settings = settings
        self.sampling = settings.sampling
        self.outputs = outputs
        """The ids output so far; the engine's own list, or ours."""
        self.history = history or History(seed=settings.seed)
        self.triggers = sorted(compiled.rules.trigger_ids)
        self.mark: list[float] | None = None
        """The last step's mark, on the host."""
        self.is_ready = False
        """Its flow has replayed the outputs. Not yet when the row is made: the last step may still
        have to add a declared end to the history."""
        self._infer = history is None

    def rebuild(self) -> None:
        """Replay the outputs from the start: they were replaced, or some removed."""
        self.flow = Flow(self.compiled, cap=self.settings.cap, known_ids=self.settings.known_ids)
        self.flow.replay(self.outputs, self.history.ends, infer=self._infer)
        self._infer, self.is_ready = False, True
        self.count = self.num_observed = len(self.outputs)
        self._renew()

    def _renew(self) -> None:
        self.instruction = self.flow.instruction()
        self.steps_left = self.instruction.steps
        self.work = self._work()

    def on_token(self, end: DeclaredEnd | None) -> bool:
        """Count one more output; whether the instruction changed."""
        self.count += 1
        self.steps_left -= 1
        if end is None and self.steps_left > 0:
            return False
        self.flow.observe(self.outputs[self.num_observed : self.count], end)
        self.num_observed = self.count
        self._renew()
        return True

    def draw_key(self) -> tuple[int, int]:
        """Names the next draw: its position, and the number of events before."""
        at, num_events = self.instruction.index
        return at + self.count - self.num_observed, num_events

    def _work(self) -> RowWork:
        instruction = self.instruction
        if instruction.force >= 0:
            return RowWork.FORCE
        plain = self.settings.engine_is_greedy and not self.sampling.temperature
        if plain and instruction.on_end == NO_WATCH and not instruction.banned:
            return RowWork.NONE
        by_rule = self.compiled.rules.end_rule != "drawn"
        return RowWork.WATCH if plain and instruction.on_end >= 0 and not by_rule else RowWork.DRAW


class RowWork(enum.Enum):
    """What a step does for a row."""

    NONE = "none"
    """Leaves the engine's own greedy draw."""
    WATCH = "watch"
    """Leaves it, but an id replaces a declared end."""
    FORCE = "force"
    DRAW = "draw"


@dataclass
class _Plan:
    """The batch by work; reused until an instruction changes."""

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
        """The engine does not report outputs to the host, so they are read from the logits."""
        self._plan: _Plan | None = None
        self._stepped: Sequence[tuple[int, ForcedRow]] = ()
        self._kept: Sequence[bool] | None = None
        self._marked: list[ForcedRow] = []
        self._marks: list[HostCopy] = []
        self._ids: HostCopy | None = None

    def batch_changed(self) -> None:
        """Rows were added, removed or moved."""
        self._plan = None

    # -- outputs of the last step --

    def collect(self) -> None:
        """Pass each row of the last step its output."""
        if self._ids is not None:
            keeps = self._kept or [True] * len(self._stepped)
            for (_, row), keep, (token,) in zip(
                self._stepped, keeps, self._ids.values(), strict=True
            ):
                if keep:
                    row.outputs.append(token)
        marks = (mark for copy in self._marks for mark in copy.values())
        for row, mark in zip(self._marked, marks, strict=True):
            row.mark = mark
        for _, row in self._stepped:
            self._settle(row)
        self._stepped, self._marked, self._marks, self._ids = (), [], [], None

    def _settle(self, row: ForcedRow) -> None:
        mark, row.mark = row.mark, None
        count = len(row.outputs)
        if count == row.count:
            return  # the engine discarded the draw: the prompt was not all prefilled yet
        if count != row.count + 1:
            row.rebuild()
            self._plan = None
            return
        token = row.outputs[-1]
        end = _declared_end(row, mark, token) if mark is not None and mark[_DECLARED] else None
        if token < 0:  # it left the batch before its id was known: it returns as another row
            return
        if row.on_token(end):
            self._plan = None

    # -- this step --

    def act(
        self,
        logits_BV: torch.Tensor,
        rows: Iterable[tuple[int, ForcedRow]],
        *,
        kept: Sequence[bool] | None = None,
    ) -> None:
        """Edit the logits in place by the rows' instructions. `kept`: whether the engine keeps the
        id drawn for each row, where it knows."""
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
                plan.forced.append((at, row.instruction.force))
            elif row.work is RowWork.DRAW:
                plan.drawn.append((at, row))
            elif row.work is RowWork.WATCH:
                watched.append((at, row.instruction.on_end))
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
        rules = [row.compiled.rules for row in rows]
        triggers, distinct = _padded([row.triggers for row in rows])
        places = self._send(
            [
                (at, row.instruction.on_end, row.instruction.banned, RULES[rule.end_rule])
                for (at, row), rule in zip(members, rules, strict=True)
            ]
        )
        return Draws(
            rows_R=places[:, 0],
            on_end_R=places[:, 1],
            banned_R=places[:, 2].bool(),
            rule_R=places[:, 3],
            triggers_RT=self._send(triggers),
            distinct_RT=self._send(distinct, torch.bool),
            end_probability_R=self._send([rule.end_probability for rule in rules], torch.float64),
            sampling=self._sampled(rows) if is_sampled else None,
            needs_probability=any(rule.end_rule == "probability" for rule in rules),
            needs_redraw=any(
                row.instruction.banned or row.instruction.on_end == RUNNER_UP for row in rows
            ),
        )

    def _sampled(self, rows: Sequence[ForcedRow]) -> Sampled:
        samplings = [row.sampling for row in rows]
        numbers = self._send(
            [
                (sampling.temperature, sampling.top_p, sampling.min_p, *_uniforms(row))
                for row, sampling in zip(rows, samplings, strict=True)
            ],
            torch.float64,
        )
        return Sampled(
            temperature_R=numbers[:, 0],
            top_p_R=numbers[:, 1],
            min_p_R=numbers[:, 2],
            uniform_R=numbers[:, 3],
            again_R=numbers[:, 4],
            top_k_R=self._send([sampling.top_k for sampling in samplings]),
            max_top_k=max(sampling.top_k for sampling in samplings),
            has_top_p=any(sampling.top_p < 1 for sampling in samplings),
            has_min_p=any(sampling.min_p > 0 for sampling in samplings),
        )


def _uniforms(row: ForcedRow) -> tuple[float, float]:
    """The numbers that decide the draw, and the draw after a refusal."""
    at, num_events = row.draw_key()
    seed, sample, tag = row.history.seed, row.compiled.args.sample, row.instruction.tag
    first = seeded_uniform(seed, sample, *tag, (at, num_events))
    redraws = row.instruction.on_end == RUNNER_UP
    return first, seeded_uniform(seed, sample, *tag, (at, num_events + 1)) if redraws else 0.0


def _declared_end(row: ForcedRow, mark: Sequence[float], token: int) -> DeclaredEnd | None:
    """The end that the mark describes, stored in the row's history; None if another id than its
    replacement was output."""
    drawn, end_probability, argmax, _ = mark
    replacement = -1 if row.work is RowWork.DRAW else row.instruction.on_end
    if token >= 0 and replacement >= 0 and token != replacement:
        return None
    end = DeclaredEnd(int(drawn), end_probability, int(argmax), replacement)
    row.history.ends[row.count] = end
    return end


def _padded(lists: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[list[bool]]]:
    """The lists padded to equal length by their first id, and a mask of their own ids."""
    width = max(map(len, lists))
    padded = [[*ids, *[ids[0]] * (width - len(ids))] for ids in lists]
    return padded, [[place < len(ids) for place in range(width)] for ids in lists]


def _chunks(
    members: Sequence[tuple[int, ForcedRow]], size: int
) -> Iterator[Sequence[tuple[int, ForcedRow]]]:
    for start in range(0, len(members), size):
        yield members[start : start + size]
