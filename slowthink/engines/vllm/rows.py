"""The forced requests of a vLLM batch: how each one's next token is chosen, and what was output.

A step: `collect_outputs` of the last step (they have reached the host by now), start the next
instruction of rows whose instruction has ended, then `edit_logits` with index tensors that are
reused until an instruction changes. Requests without a budget have no row. While its instruction
lasts, a row costs a length check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from slowthink.engines.vllm import draws
from slowthink.engines.vllm.distributions import SamplingTensors
from slowthink.engines.vllm.draws import END_RULES, DecisionTensors, HostCopy, LogitEdit
from slowthink.engines.vllm.forced_row import ForcedRow
from slowthink.engines.vllm.request_flow import RUNNER_UP
from slowthink.engines.vllm.row_table import (
    BANNED,
    BATCH_INDEX,
    END_PROBABILITY,
    FIRST_TRIGGER,
    FORCED_ID,
    MIN_P,
    NUM_TRIGGERS,
    ON_END,
    RULE,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    RowTable,
)

_MAX_CHUNK_LOGITS, _MAX_CHUNK_LOGITS_CPU = 2**25, 2**18
"""Rows are decided in chunks of at most this many logits; on a CPU, as many as its cache holds."""
_DECLARED_COLUMN = 3
"""Column of a decision (see `draws.select_tokens`) that is true if an end was declared."""


@dataclass(frozen=True, kw_only=True)
class _Selection:
    """Rows whose tokens are chosen here, all greedy or all sampled, with their tensors."""

    rows: list[ForcedRow]
    tensors: DecisionTensors


@dataclass(kw_only=True)
class _BatchPlan:
    """Rows by the edit of their logits, with their tensors; reused until a row changes."""

    forced: tuple[torch.Tensor, torch.Tensor] | None
    """Batch indices and ids."""
    selections: list[_Selection]
    replaced_rows: list[ForcedRow]
    replace_tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None
    line_rows: list[ForcedRow]
    """Rows in which the id that replaces an end depends on the last token."""


class Stepper:
    """All forced rows of one engine."""

    def __init__(self, device: torch.device, *, ids_from_device: bool = False) -> None:
        self.device = device
        self._ids_from_device = ids_from_device
        """The engine does not report outputs to the host, so they are read from the logits."""
        self._table = RowTable()
        self._index: torch.Tensor | None = None
        """The rows' batch indices on the device. None: the order changed."""
        self._plan: _BatchPlan | None = None
        self._vocabulary = 1
        self._last_rows: list[ForcedRow] = []
        self._last_kept: Sequence[bool] | None = None
        self._decided_rows: list[ForcedRow] = []
        self._decisions: list[HostCopy] = []
        self._output_ids: HostCopy | None = None

    def on_batch_change(self) -> None:
        """Called when rows were added, removed or moved."""
        self._index = self._plan = None

    # -- outputs of the last step --

    def collect_outputs(self) -> None:
        """Pass the last step's outputs to their rows. Only in `apply`: with asynchronous scheduling
        the engine writes the last ids just before it; until then the step may be running."""
        if self._output_ids is not None:
            self._append_outputs(self._output_ids.values().tolist())
        # A row without another output is still being prefilled: what it sampled was discarded.
        self._record_ends(lambda row: len(row.outputs) > row.num_outputs)
        for row in [row for row in self._last_rows if row.has_ended()]:
            if row.next_instruction():
                self._write(row)
        self._last_rows, self._decided_rows, self._decisions, self._output_ids = [], [], [], None

    def _append_outputs(self, ids: Sequence[int]) -> None:
        keeps = self._last_kept
        for position, (row, token) in enumerate(zip(self._last_rows, ids, strict=True)):
            if keeps is None or keeps[position]:
                row.outputs.append(token)

    def record_last_ends(self, num_outputs: Mapping[str, int]) -> None:
        """Record the ends declared by the last ids of these finished requests, if no step was
        launched since; other rows stay as they are.

        `num_outputs`: number of ids output, by name. A row that counted as many is left out: its
        token of the last step was discarded, or is one too many and may not be on the host yet.
        """

        def is_missing(row: ForcedRow) -> bool:
            return row.num_outputs < num_outputs.get(row.compiled.args.log or "", 0)

        if any(map(is_missing, self._decided_rows)):
            self._record_ends(is_missing)

    def _record_ends(self, is_output: Callable[[ForcedRow], bool]) -> None:
        """Store the ends that the last step's decisions declare in rows whose token was output."""
        start = 0
        for copy in self._decisions:
            decisions = copy.values()
            for position in np.flatnonzero(decisions[:, _DECLARED_COLUMN]).tolist():
                row = self._decided_rows[start + position]
                if is_output(row):
                    row.declare_end(decisions[position].tolist())
            start += len(decisions)

    def _write(self, row: ForcedRow) -> None:
        if self._table.holds(row):
            self._table.write(row)
            self._plan = None

    # -- this step --

    def edit_logits(
        self,
        logits_BV: torch.Tensor,
        rows: Iterable[tuple[int, ForcedRow]],
        *,
        kept: Sequence[bool] | None = None,
    ) -> None:
        """Edit the logits in place as the rows' instructions require; `rows` with batch indices.
        `kept`: whether the engine keeps each row's token, if it knows. `rows` is read only after
        `on_batch_change`."""
        self._vocabulary = logits_BV.shape[-1]
        if self._index is None:
            self._set_rows(rows)
        plan = self._plan = self._current_plan()
        if plan.forced is not None:
            draws.force(logits_BV, *plan.forced)
        for selection in plan.selections:
            self._select_tokens(logits_BV, selection)
        if plan.replace_tensors is not None:
            copy = HostCopy(draws.replace_greedy_ends(logits_BV, *plan.replace_tensors))
            self._decisions.append(copy)
            self._decided_rows += plan.replaced_rows
        for row in self._table.rows:
            row.num_outputs = len(row.outputs)
        self._last_rows, self._last_kept = self._table.rows, kept
        if self._ids_from_device and self._last_rows:
            assert self._index is not None
            self._output_ids = HostCopy(logits_BV.argmax(-1).index_select(0, self._index))

    def _set_rows(self, rows: Iterable[tuple[int, ForcedRow]]) -> None:
        rows = list(rows)
        for _, row in rows:
            if not row.is_ready:
                row.replay_outputs()
        self._table.reorder(rows)
        self._index = self._to_device(self._table.batch_index)

    def _current_plan(self) -> _BatchPlan:
        if self._plan is not None:
            changed = [row for row in self._plan.line_rows if row.follow_lines()]
            if not changed:
                return self._plan
        else:
            changed = [row for row in self._table.rows if row.follow_lines()]
        for row in changed:
            self._table.write(row)
        return self._make_plan()

    def _make_plan(self) -> _BatchPlan:
        table, forced, replace_tensors = self._table, None, None
        if len(positions := table.positions(LogitEdit.FORCE)):
            lines_RC = self._to_device(table.select(positions))
            forced = lines_RC[:, BATCH_INDEX], lines_RC[:, FORCED_ID]
        if len(replaced := table.positions(LogitEdit.REPLACE_END)):
            lines_RC = self._to_device(table.select(replaced))
            triggers_RT = lines_RC[:, FIRST_TRIGGER:]
            replace_tensors = lines_RC[:, BATCH_INDEX], lines_RC[:, ON_END], triggers_RT
        return _BatchPlan(
            forced=forced,
            selections=[
                self._selection(positions, is_sampled=edit is LogitEdit.SELECT_SAMPLED)
                for edit in (LogitEdit.SELECT_GREEDY, LogitEdit.SELECT_SAMPLED)
                for positions in self._chunks(table.positions(edit))
            ],
            replaced_rows=[table.rows[position] for position in replaced.tolist()],
            replace_tensors=replace_tensors,
            line_rows=[row for row in table.rows if row.instruction.line_replacements],
        )

    def _to_device(self, values: Any) -> torch.Tensor:
        return draws.to_device(values, self.device)

    # -- rows whose tokens are chosen here --

    def _chunks(self, positions: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """Positions of rows that are decided together."""
        limit = _MAX_CHUNK_LOGITS_CPU if self.device.type == "cpu" else _MAX_CHUNK_LOGITS
        size = max(1, limit // self._vocabulary)
        return [positions[start : start + size] for start in range(0, len(positions), size)]

    def _selection(self, positions: npt.NDArray[np.int64], *, is_sampled: bool) -> _Selection:
        lines, numbers = self._table.select(positions), self._table.floats[positions]
        lines_RC, numbers_RC = self._to_device(lines), self._to_device(numbers)
        triggers_RT = lines_RC[:, FIRST_TRIGGER:]
        rank_T = torch.arange(triggers_RT.shape[1], device=self.device)
        needs_redraw = lines[:, BANNED].astype(bool) | (lines[:, ON_END] == RUNNER_UP)
        tensors = DecisionTensors(
            rows_R=lines_RC[:, BATCH_INDEX],
            on_end_R=lines_RC[:, ON_END],
            banned_R=lines_RC[:, BANNED].bool(),
            triggers_RT=triggers_RT,
            distinct_RT=rank_T < lines_RC[:, NUM_TRIGGERS, None],
            rule_R=lines_RC[:, RULE],
            end_probability_R=numbers_RC[:, END_PROBABILITY],
            needs_probability=bool((lines[:, RULE] == END_RULES["probability"]).any()),
            needs_redraw=bool(needs_redraw.any()),
        )
        sampling = None
        if is_sampled:
            sampling = SamplingTensors(
                temperature_R=numbers_RC[:, TEMPERATURE],
                top_p_R=numbers_RC[:, TOP_P],
                top_k_R=lines_RC[:, TOP_K],
                min_p_R=numbers_RC[:, MIN_P],
                max_top_k=int(lines[:, TOP_K].max()),
                has_top_p=bool((numbers[:, TOP_P] < 1).any()),
                has_min_p=bool((numbers[:, MIN_P] > 0).any()),
            )
        rows = [self._table.rows[position] for position in positions.tolist()]
        return _Selection(rows=rows, tensors=replace(tensors, sampling=sampling))

    def _select_tokens(self, logits_BV: torch.Tensor, selection: _Selection) -> None:
        uniforms_R2 = None
        if selection.tensors.sampling is not None:
            uniforms = np.array([row.uniforms() for row in selection.rows])
            uniforms_R2 = self._to_device(uniforms)
        decisions = draws.select_tokens(logits_BV, selection.tensors, uniforms_R2)
        self._decisions.append(HostCopy(decisions))
        self._decided_rows += selection.rows
