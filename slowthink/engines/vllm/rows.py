"""The forced requests of a vLLM batch: how each one's next token is chosen, and what was output.

A step: `collect_outputs` of the last step (they have reached the host by now), start the next
instruction of rows whose instruction has ended, then `edit_logits` with index tensors that are
reused until an instruction changes. Requests without a budget have no row. While its instruction
lasts, a row costs a length check.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from slowthink.engines.session import draw_uniform
from slowthink.engines.vllm import draws
from slowthink.engines.vllm.draws import END_RULES, DecisionTensors, HostCopy, SamplingTensors
from slowthink.engines.vllm.request_flow import NO_END, RUNNER_UP, CompiledArgs, DeclaredEnd, Flow
from slowthink.records import Sampling

_MAX_CHUNK_LOGITS = 2**25
"""Rows are decided in chunks of at most this many logits."""
_DECLARED_COLUMN = 3
"""Column of a decision (see `draws.select_tokens`) that is true if an end was declared."""


@dataclass
class History:
    """State of a request that must survive preemption: it is then added again with its ids only."""

    ends: dict[int, DeclaredEnd] = field(default_factory=dict)
    """By output index."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class RowSettings:
    """A row's settings besides its compiled arguments."""

    cap: int
    sampling: Sampling
    seed: int = 0
    cached_ids: tuple[int, ...] = ()
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
        """The ids output so far; under V1 the engine's own list."""
        self.history = history or History(seed=settings.seed)
        self.triggers = sorted(compiled.rules.trigger_ids)
        self.decision: list[float] | None = None
        """The last step's decision, on the host."""
        self.is_ready = False
        """Whether the flow has replayed the outputs. Not done when the row is made: the last step
        may still have to add a declared end to the history."""
        self._infer = history is None

    def replay_outputs(self) -> None:
        """Replay the outputs from the start, since they were replaced or some removed."""
        self.flow = Flow(self.compiled, cap=self.settings.cap, cached_ids=self.settings.cached_ids)
        self.flow.replay(self.outputs, self.history.ends, infer=self._infer)
        self._infer, self.is_ready = False, True
        self.num_outputs = self.num_observed = len(self.outputs)
        self._start_instruction()

    def _start_instruction(self) -> None:
        self.instruction = self.flow.instruction()
        self.tokens_left = self.instruction.num_tokens
        self.edit = self._logit_edit()

    def on_output(self, end: DeclaredEnd | None) -> bool:
        """Count one more output. Returns whether the instruction changed."""
        self.num_outputs += 1
        self.tokens_left -= 1
        if end is None and self.tokens_left > 0:
            return False
        self.flow.observe(self.outputs[self.num_observed : self.num_outputs], end)
        self.num_observed = self.num_outputs
        self._start_instruction()
        return True

    def draw_key(self) -> tuple[int, int]:
        """Unique name of the next draw: its position, and the number of events before."""
        position, num_events = self.instruction.draw_key
        return position + self.num_outputs - self.num_observed, num_events

    def _logit_edit(self) -> LogitEdit:
        instruction = self.instruction
        if instruction.force >= 0:
            return LogitEdit.FORCE
        is_greedy = self.settings.engine_is_greedy and not self.sampling.temperature
        if is_greedy and instruction.end_replacement == NO_END and not instruction.banned:
            return LogitEdit.NONE
        by_trigger = self.compiled.rules.end_rule == "drawn"
        can_replace = is_greedy and by_trigger and instruction.end_replacement >= 0
        return LogitEdit.REPLACE_END if can_replace else LogitEdit.SELECT_TOKEN


class LogitEdit(enum.Enum):
    """What a step does to a row's logits."""

    NONE = "none"
    """Nothing: the engine takes the likeliest id."""
    REPLACE_END = "replace end"
    """`draws.replace_greedy_ends`: it takes the likeliest id, or the one that replaces an end."""
    FORCE = "force"
    SELECT_TOKEN = "select_token"
    """`draws.select_tokens`: the id is chosen here."""


@dataclass
class _BatchPlan:
    """Rows by the edit of their logits, with their batch indices; reused until one changes."""

    rows: list[tuple[int, ForcedRow]] = field(default_factory=list)
    forced: list[tuple[int, int]] = field(default_factory=list)
    """Batch index and id."""
    to_select: list[tuple[int, ForcedRow]] = field(default_factory=list)
    to_replace: list[ForcedRow] = field(default_factory=list)
    replace_tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None


class Stepper:
    """All forced rows of one engine."""

    def __init__(self, device: torch.device, *, ids_from_device: bool = False) -> None:
        self.device = device
        self._ids_from_device = ids_from_device
        """The engine does not report outputs to the host, so they are read from the logits."""
        self._plan: _BatchPlan | None = None
        self._last_rows: Sequence[tuple[int, ForcedRow]] = ()
        self._last_kept: Sequence[bool] | None = None
        self._decided_rows: list[ForcedRow] = []
        self._decisions: list[HostCopy] = []
        self._output_ids: HostCopy | None = None

    def on_batch_change(self) -> None:
        """Called when rows were added, removed or moved."""
        self._plan = None

    # -- outputs of the last step --

    def collect_outputs(self) -> None:
        """Pass the last step's outputs to their rows. Only in `apply`: with asynchronous scheduling
        the engine writes the last ids just before it; until then the step may be running."""
        if self._output_ids is not None:
            keeps = self._last_kept or [True] * len(self._last_rows)
            for (_, row), keep, (token,) in zip(
                self._last_rows, keeps, self._output_ids.values(), strict=True
            ):
                if keep:
                    row.outputs.append(token)
        decisions = (decision for copy in self._decisions for decision in copy.values())
        for row, decision in zip(self._decided_rows, decisions, strict=True):
            row.decision = decision
        for _, row in self._last_rows:
            self._pass_output(row)
        self._last_rows, self._decided_rows, self._decisions, self._output_ids = (), [], [], None

    def _pass_output(self, row: ForcedRow) -> None:
        decision, row.decision = row.decision, None
        count = len(row.outputs)
        if count == row.num_outputs:
            return  # the engine discarded the token: the prompt was not all prefilled yet
        if count != row.num_outputs + 1:
            row.replay_outputs()
            self._plan = None
            return
        token = row.outputs[-1]
        end = None
        if decision is not None and decision[_DECLARED_COLUMN]:
            end = _declared_end(row, decision, token)
        if token < 0:  # it left the batch before its id was known; it returns as another row
            return
        if row.on_output(end):
            self._plan = None

    def record_last_ends(self, num_outputs: Mapping[str, int]) -> None:
        """Record the ends declared by the last ids of these finished requests, if no step was
        launched since; other rows stay as they are.

        `num_outputs`: number of ids output, by name. A row that counted as many is left out: its
        token of the last step was discarded, or is one too many and may not be on the host yet.
        """
        names = [row.compiled.args.log for row in self._decided_rows]
        missing = [
            row.num_outputs < num_outputs.get(name or "", 0)
            for row, name in zip(self._decided_rows, names, strict=True)
        ]
        if not any(missing):
            return
        decisions = (decision for copy in self._decisions for decision in copy.values())
        for row, is_missing, decision in zip(self._decided_rows, missing, decisions, strict=True):
            if is_missing and decision[_DECLARED_COLUMN]:
                _declared_end(row, decision, token=-1)

    # -- this step --

    def edit_logits(
        self,
        logits_BV: torch.Tensor,
        rows: Iterable[tuple[int, ForcedRow]],
        *,
        kept: Sequence[bool] | None = None,
    ) -> None:
        """Edit the logits in place as the rows' instructions require; `rows` with batch indices.
        `kept`: whether the engine keeps each row's token, if it knows."""
        if self._plan is None:
            self._plan = self._make_plan(rows)
        plan = self._plan
        if plan.forced:
            forced_R2 = self._to_device(plan.forced)
            draws.force(logits_BV, forced_R2[:, 0], forced_R2[:, 1])
        if plan.to_select:
            self._select_tokens(logits_BV, plan.to_select)
        if plan.replace_tensors is not None:
            self._decisions.append(
                HostCopy(draws.replace_greedy_ends(logits_BV, *plan.replace_tensors))
            )
            self._decided_rows += plan.to_replace
        self._last_rows, self._last_kept = plan.rows, kept
        if self._ids_from_device and plan.rows:
            index_R = self._to_device([index for index, _ in plan.rows])
            self._output_ids = HostCopy(logits_BV.index_select(0, index_R).argmax(-1, keepdim=True))

    def _to_device(self, values: Any, dtype: torch.dtype = torch.long) -> torch.Tensor:
        return draws.to_device(values, dtype=dtype, device=self.device)

    def _make_plan(self, rows: Iterable[tuple[int, ForcedRow]]) -> _BatchPlan:
        plan = _BatchPlan(rows=list(rows))
        replacements = []
        for index, row in plan.rows:
            if not row.is_ready:
                row.replay_outputs()
            if row.edit is LogitEdit.FORCE:
                plan.forced.append((index, row.instruction.force))
            elif row.edit is LogitEdit.SELECT_TOKEN:
                plan.to_select.append((index, row))
            elif row.edit is LogitEdit.REPLACE_END:
                replacements.append((index, row.instruction.end_replacement))
                plan.to_replace.append(row)
        if replacements:
            index_and_id_R2 = self._to_device(replacements)
            triggers, _ = _padded([row.triggers for row in plan.to_replace])
            plan.replace_tensors = (
                index_and_id_R2[:, 0],
                index_and_id_R2[:, 1],
                self._to_device(triggers),
            )
        return plan

    # -- rows whose tokens are chosen here --

    def _select_tokens(
        self, logits_BV: torch.Tensor, rows: Sequence[tuple[int, ForcedRow]]
    ) -> None:
        greedy = [pair for pair in rows if not pair[1].sampling.temperature]
        sampled = [pair for pair in rows if pair[1].sampling.temperature]
        chunk_rows = max(1, _MAX_CHUNK_LOGITS // logits_BV.shape[-1])
        for group, is_sampled in ((greedy, False), (sampled, True)):
            for start in range(0, len(group), chunk_rows):
                chunk = group[start : start + chunk_rows]
                tensors = self._decision_tensors(chunk, is_sampled=is_sampled)
                self._decisions.append(HostCopy(draws.select_tokens(logits_BV, tensors)))
                self._decided_rows += [row for _, row in chunk]

    def _decision_tensors(
        self, indexed_rows: Sequence[tuple[int, ForcedRow]], *, is_sampled: bool
    ) -> DecisionTensors:
        rows = [row for _, row in indexed_rows]
        rules = [row.compiled.rules for row in rows]
        triggers, distinct = _padded([row.triggers for row in rows])
        integers = self._to_device(
            [
                (
                    index,
                    row.instruction.end_replacement,
                    row.instruction.banned,
                    END_RULES[rule.end_rule],
                )
                for (index, row), rule in zip(indexed_rows, rules, strict=True)
            ]
        )
        return DecisionTensors(
            rows_R=integers[:, 0],
            on_end_R=integers[:, 1],
            banned_R=integers[:, 2].bool(),
            rule_R=integers[:, 3],
            triggers_RT=self._to_device(triggers),
            distinct_RT=self._to_device(distinct, torch.bool),
            end_probability_R=self._to_device(
                [rule.end_probability for rule in rules], torch.float64
            ),
            sampling=self._sampling_tensors(rows) if is_sampled else None,
            needs_probability=any(rule.end_rule == "probability" for rule in rules),
            needs_redraw=any(
                row.instruction.banned or row.instruction.end_replacement == RUNNER_UP
                for row in rows
            ),
        )

    def _sampling_tensors(self, rows: Sequence[ForcedRow]) -> SamplingTensors:
        samplings = [row.sampling for row in rows]
        numbers = self._to_device(
            [
                (sampling.temperature, sampling.top_p, sampling.min_p, *_uniforms(row))
                for row, sampling in zip(rows, samplings, strict=True)
            ],
            torch.float64,
        )
        return SamplingTensors(
            temperature_R=numbers[:, 0],
            top_p_R=numbers[:, 1],
            min_p_R=numbers[:, 2],
            uniform_R=numbers[:, 3],
            redraw_uniform_R=numbers[:, 4],
            top_k_R=self._to_device([sampling.top_k for sampling in samplings]),
            max_top_k=max(sampling.top_k for sampling in samplings),
            has_top_p=any(sampling.top_p < 1 for sampling in samplings),
            has_min_p=any(sampling.min_p > 0 for sampling in samplings),
        )


def _uniforms(row: ForcedRow) -> tuple[float, float]:
    """The numbers that decide the token, and the token after a refusal."""
    position, num_events = row.draw_key()
    seed, sample, tag = row.history.seed, row.compiled.args.sample, row.instruction.draw_tag
    first = draw_uniform(seed, sample, *tag, (position, num_events))
    redraws = row.instruction.end_replacement == RUNNER_UP
    return first, draw_uniform(seed, sample, *tag, (position, num_events + 1)) if redraws else 0.0


def _declared_end(row: ForcedRow, decision: Sequence[float], token: int) -> DeclaredEnd | None:
    """The end that the decision declares; also stores it in the row's history. None if another id
    than its replacement was output; -1: the id is not known yet."""
    sampled, end_probability, argmax, _ = decision
    replacement = -1 if row.edit is LogitEdit.SELECT_TOKEN else row.instruction.end_replacement
    if token >= 0 and replacement >= 0 and token != replacement:
        return None
    end = DeclaredEnd(int(sampled), end_probability, int(argmax), replacement)
    row.history.ends[row.num_outputs] = end
    return end


def _padded(lists: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[list[bool]]]:
    """The lists padded to equal length by their first id, and a mask that is False for padding."""
    width = max(map(len, lists))
    padded = [[*ids, *[ids[0]] * (width - len(ids))] for ids in lists]
    return padded, [[index < len(ids) for index in range(width)] for ids in lists]
