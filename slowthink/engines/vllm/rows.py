"""The forced requests of a vLLM batch: how each one's next token is chosen, and what was output.

A step: `collect_outputs` of the last step (they have reached the host by now), start the next
instruction of rows whose instruction has ended, then `edit_logits` with index tensors that are
reused until an instruction changes. Requests without a budget have no row. While its instruction
lasts, a row costs a share of a few operations on arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    DUE,
    EDIT,
    END_PROBABILITY,
    FIRST_TRIGGER,
    MIN_P,
    NUM_TRIGGERS,
    ON_END,
    RULE,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    Integers,
    RowTable,
)

_MAX_CHUNK_LOGITS, _MAX_CHUNK_LOGITS_CPU = 2**25, 2**18
"""Rows are decided in chunks of at most this many logits; on a CPU, as many as its cache holds."""
_DECLARED_COLUMN = 3
"""Column of a decision (see `draws.select_tokens`) that is true if an end was declared."""


@dataclass(frozen=True, kw_only=True)
class _Selection:
    """Rows whose tokens are chosen here, all greedy or all sampled, with their tensors."""

    positions: Integers
    tensors: DecisionTensors


@dataclass(frozen=True, kw_only=True)
class _BatchPlan:
    """Positions of rows by the edit of their logits, with their tensors; reused until a row
    changes."""

    forced: Integers
    selections: list[_Selection]
    replaced: Integers
    replace_tensors: tuple[torch.Tensor, torch.Tensor] | None


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
        self._is_collected = True
        """Whether the outputs of the last step were."""
        self._last_lengths: Integers = np.zeros(0, np.int64)
        """By row: number of outputs before the last step."""
        self._last_kept: Sequence[bool] | None = None
        self._decisions: list[tuple[HostCopy, Integers]] = []
        """With the rows' positions."""
        self._output_ids: HostCopy | None = None

    def on_batch_change(self) -> None:
        """Called when rows were added, removed or moved."""
        self._index = self._plan = None

    # -- outputs of the last step --

    def collect_outputs(self) -> None:
        """Pass the last step's outputs to their rows. Only in `apply`: with asynchronous scheduling
        the engine writes the last ids just before it; until then the step may be running."""
        if self._is_collected:
            return
        if self._output_ids is not None:
            self._append_outputs(self._output_ids.values().tolist())
        self._table.count_outputs()
        if self._decisions:
            self._record_ends(self._may_have_ended())
        for position in self._table.ended().tolist():
            row = self._table.rows[position]
            if row.next_instruction():
                self._table.write(row)
                self._plan = None
        self._is_collected, self._decisions, self._output_ids = True, [], None

    def _append_outputs(self, ids: Sequence[int]) -> None:
        keeps = self._last_kept
        for position, (row, token) in enumerate(zip(self._table.rows, ids, strict=True)):
            if keeps is None or keeps[position]:
                row.outputs.append(token)

    def _may_have_ended(self) -> npt.NDArray[np.bool_]:
        """By row: whether the last step's token was output and, where only one id can declare an
        end, is that id. `declare_end` decides."""
        table, last_ids = self._table, self._table.last_ids()
        # A row without another output is still being prefilled: what it sampled was discarded.
        num_new = table.lengths - self._last_lengths
        lines = table.integers[:-1]
        is_other = (lines[:, EDIT] == LogitEdit.REPLACE_END) & (last_ids != lines[:, ON_END])
        is_ruled_out: npt.NDArray[np.bool_] = is_other & (num_new == 1) & (last_ids >= 0)
        return (num_new > 0) & ~is_ruled_out

    def record_last_ends(self, num_outputs: Mapping[str, int]) -> None:
        """Record the ends declared by the last ids of these finished requests, if no step was
        launched since; other rows stay as they are.

        `num_outputs`: number of ids output, by name. A row that counted as many is left out: its
        token of the last step was discarded, or is one too many and may not be on the host yet.
        """
        names = (row.compiled.args.log or "" for row in self._table.rows)
        totals = np.array([num_outputs.get(name, 0) for name in names], np.int64)
        if self._decisions and (is_missing := self._last_lengths < totals).any():
            self._record_ends(is_missing)

    def _record_ends(self, is_output: npt.NDArray[np.bool_]) -> None:
        """Store the ends that the last step's decisions declare in these rows."""
        for copy, positions in self._decisions:
            decisions = copy.values()
            declared = (decisions[:, _DECLARED_COLUMN] != 0) & is_output[positions]
            for index in np.flatnonzero(declared).tolist():
                position = int(positions[index])
                row = self._table.rows[position]
                row.declare_end(decisions[index].tolist())
                self._table.integers[position, DUE] = row.due

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
        table = self._table
        if table.follow_lines() or self._plan is None:
            self._plan = self._make_plan()
        plan = self._plan
        if len(plan.forced):
            ids = np.stack([table.batch_index[plan.forced], table.forced_ids(plan.forced)])
            draws.force(logits_BV, *self._to_device(ids))
        for selection in plan.selections:
            self._select_tokens(logits_BV, selection)
        if plan.replace_tensors is not None:
            copy = HostCopy(draws.replace_greedy_ends(logits_BV, *plan.replace_tensors))
            self._decisions.append((copy, plan.replaced))
        for row, length in zip(table.rows, table.lengths.tolist(), strict=True):
            row.num_outputs = length
        self._last_lengths, self._last_kept = table.lengths, kept
        self._is_collected = not table.rows
        if self._ids_from_device and table.rows:
            assert self._index is not None
            self._output_ids = HostCopy(logits_BV.argmax(-1).index_select(0, self._index))

    def _set_rows(self, rows: Iterable[tuple[int, ForcedRow]]) -> None:
        rows = list(rows)
        for _, row in rows:
            if not row.is_ready:
                row.replay_outputs()
        self._table.reorder(rows)
        self._table.count_outputs()
        self._index = self._to_device(self._table.batch_index)

    def _make_plan(self) -> _BatchPlan:
        table, replace_tensors = self._table, None
        if len(replaced := table.positions(LogitEdit.REPLACE_END)):
            lines_RC = self._to_device(table.select(replaced))
            replace_tensors = lines_RC[:, BATCH_INDEX, None], lines_RC[:, ON_END:]
        return _BatchPlan(
            forced=table.positions(LogitEdit.FORCE),
            selections=[
                self._selection(positions, is_sampled=edit is LogitEdit.SELECT_SAMPLED)
                for edit in (LogitEdit.SELECT_GREEDY, LogitEdit.SELECT_SAMPLED)
                for positions in self._chunks(table.positions(edit))
            ],
            replaced=replaced,
            replace_tensors=replace_tensors,
        )

    def _to_device(self, values: Any) -> torch.Tensor:
        return draws.to_device(values, self.device)

    # -- rows whose tokens are chosen here --

    def _chunks(self, positions: Integers) -> list[Integers]:
        """Positions of rows that are decided together."""
        limit = _MAX_CHUNK_LOGITS_CPU if self.device.type == "cpu" else _MAX_CHUNK_LOGITS
        size = max(1, limit // self._vocabulary)
        return [positions[start : start + size] for start in range(0, len(positions), size)]

    def _selection(self, positions: Integers, *, is_sampled: bool) -> _Selection:
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
        return _Selection(positions=positions, tensors=replace(tensors, sampling=sampling))

    def _select_tokens(self, logits_BV: torch.Tensor, selection: _Selection) -> None:
        uniforms_R2 = None
        if selection.tensors.sampling is not None:
            rows = [self._table.rows[position] for position in selection.positions.tolist()]
            uniforms_R2 = self._to_device(np.array([row.uniforms() for row in rows]))
        decisions = draws.select_tokens(logits_BV, selection.tensors, uniforms_R2)
        self._decisions.append((HostCopy(decisions), selection.positions))
