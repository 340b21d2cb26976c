"""The forced requests of a vLLM batch: how each one's next token is chosen, and what was output.

A step: `collect_outputs` of the last step (they have reached the host by now), start the next
instruction of rows whose instruction has ended, then `edit_logits` with tensors that are reused
until an instruction changes. Requests without a budget have no row. While its instruction lasts, a
row costs a share of a few operations on arrays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableSequence, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

import numpy as np
import torch

from slowthink.engines.vllm import draws
from slowthink.engines.vllm.distributions import SamplingTensors
from slowthink.engines.vllm.draws import (
    END_RULES,
    REPLACE_END,
    SELECT_GREEDY,
    SELECT_SAMPLED,
    DecisionTensors,
    EditTensors,
    HostCopy,
)
from slowthink.engines.vllm.forced_row import ForcedRow
from slowthink.engines.vllm.request_flow import RUNNER_UP
from slowthink.engines.vllm.row_table import (
    BANNED,
    END_PROBABILITY,
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

_MAX_CHUNK_LOGITS, _MAX_CHUNK_LOGITS_CPU = 2**24, 2**18
"""Rows are decided in chunks of at most this many logits: on a GPU up to 0.9 GB, which vLLM does
not reserve; on a CPU as many as its cache holds."""
_DECLARED_COLUMN = 3
"""Column of a decision (see `draws.select_tokens`) that is true if an end was declared."""

_NOWHERE: deque[int] = deque(maxlen=0)
"""In place of the outputs of a line without a row."""


@dataclass(frozen=True, kw_only=True)
class _Selection:
    """Rows whose tokens are chosen here, all greedy or all sampled, with their tensors."""

    slots: Integers
    tensors: DecisionTensors


class Stepper:
    """All forced rows of one engine."""

    def __init__(self, device: torch.device, *, ids_from_device: bool = False) -> None:
        self.device = device
        self._ids_from_device = ids_from_device
        """The engine does not report outputs to the host, so they are read from the logits."""
        self._table = RowTable()
        self._num_lines = 0
        """Lines of the logits in the last step."""
        self._order: Integers | None = None
        """The slot of each of them; None: its index."""
        self._lines: Integers | None = None
        """By slot: its line; -1: none. None: its index."""
        self._changed_slots: set[int] | None = None
        """Slots to which rows were added, or from which they were removed, since the last step.
        None: perhaps all."""
        self._edits: EditTensors | None = None
        """Reused until a row changes. None: no row needs them."""
        self._selections: list[_Selection] = []
        self._is_collected = True
        """Whether the outputs of the last step were."""
        self._last_lengths: list[int] = []
        """By slot: number of outputs before the last step."""
        self._last_kept: Sequence[bool] | None = None
        self._edited: HostCopy | None = None
        """The last step's logits of `EditTensors.ids_BN`."""
        self._decisions: list[tuple[HostCopy, Integers]] = []
        """The last step's decisions, with the rows' slots."""
        self._output_ids: HostCopy | None = None
        """The last step's ids, if they are read from the logits."""
        self._outputs_by_line: list[MutableSequence[int]] = []
        """Where they are added."""

    def on_batch_change(self, slots: Iterable[int] | None = None) -> None:
        """Called when rows were added, removed or moved, at these slots; None: at any."""
        if slots is None or self._changed_slots is None:
            self._changed_slots = None
        else:
            self._changed_slots.update(slots)

    # -- outputs of the last step --

    def collect_outputs(self) -> None:
        """Pass the last step's outputs to their rows. Only in `apply`: with asynchronous scheduling
        the engine writes the last ids just before it; until then the step may be running."""
        if self._is_collected:
            return
        table = self._table
        if self._output_ids is not None:
            self._append_outputs(self._output_ids.values())
        slots = table.look()
        for copy, selected in self._decisions:
            slots += selected[copy.values()[:, _DECLARED_COLUMN] != 0].tolist()
        for slot in dict.fromkeys(slots):
            row, length = table.rows[slot], table.lengths[slot]
            assert row is not None
            # A row without another output is still being prefilled: its token was discarded.
            if length > self._last_lengths[slot]:
                self._record_end(slot, row)
            if not row.num_observed <= length < row.due:
                if row.next_instruction():
                    table.write(slot)
                else:  # its last id is known in the next step
                    table.expect_end(slot)
        self._is_collected, self._edited, self._decisions, self._output_ids = True, None, [], None

    def _append_outputs(self, ids_B: Integers) -> None:
        lines: Iterable[Any] = zip(self._outputs_by_line, ids_B.tolist(), strict=True)
        if self._last_kept is not None:
            lines = compress(lines, self._last_kept)
        for outputs, token in lines:
            outputs.append(token)

    def record_last_ends(self, num_outputs: Mapping[str, int]) -> None:
        """Record the ends declared by the last ids of these finished requests, if no step was
        launched since; other rows stay as they are.

        `num_outputs`: number of ids output, by name. A row that counted as many is left out: its
        token of the last step was discarded, or is one too many and may not be on the host yet.
        """
        for name, total in num_outputs.items() if not self._is_collected else ():
            slot = self._table.slots.get(name)
            if slot is not None and self._last_lengths[slot] < total:
                row = self._table.rows[slot]
                assert row is not None
                self._record_end(slot, row)
                self._table.expect_end(slot)

    def _record_end(self, slot: int, row: ForcedRow) -> None:
        """Store the end that the last step declares in this row, if any."""
        index = self._last_lengths[slot]
        if row.edit is REPLACE_END:
            if self._edited is not None and row.may_be_replaced(index):
                line = slot if self._lines is None else self._lines[slot]
                replacement, *triggers = self._edited.values()[line].tolist()
                highest = max(triggers)
                if highest > replacement or row.end_replacement in row.triggers:
                    trigger = row.triggers[triggers.index(highest)]
                    row.declare_end(index, trigger, 0.0, -1)
            return
        for copy, slots in self._decisions:
            for sampled, end_probability, argmax, declared in copy.values()[slots == slot].tolist():
                if declared:
                    row.declare_end(index, int(sampled), end_probability, int(argmax))

    # -- this step --

    def edit_logits(
        self,
        logits_BV: torch.Tensor,
        rows: Mapping[int, ForcedRow],
        *,
        order: Integers | None = None,
        kept: Sequence[bool] | None = None,
    ) -> None:
        """Edit the logits in place as the rows' instructions require; `rows` by slot.

        `order`: the slot of each line of the logits; None: its index. `kept`: whether the engine
        keeps each line's token; None: all. `rows` and `order` are read only after
        `on_batch_change`.
        """
        table = self._table
        if self._changed_slots is None or self._changed_slots:
            self._num_lines, self._order = len(logits_BV), order
            num_slots = self._num_lines if order is None else int(order.max(initial=-1)) + 1
            table.update(rows, num_slots=num_slots, slots=self._changed_slots)
            self._changed_slots = set()
            self._lines = None
            if order is not None:
                self._lines = np.full(len(table.rows), -1)
                self._lines[order] = np.arange(len(order))
                table.selections_changed = True
            if self._ids_from_device:
                slots = range(self._num_lines) if order is None else order.tolist()
                rows_of_lines = map(table.rows.__getitem__, slots)
                self._outputs_by_line = [row.outputs if row else _NOWHERE for row in rows_of_lines]
            table.edits_changed = True
        table.follow_lines()
        table.force_next()
        self._make_tensors(logits_BV)
        for selection in self._selections:
            self._select_tokens(logits_BV, selection)
        if self._edits is not None:
            self._edited = HostCopy(draws.edit_logits(logits_BV, self._edits).float())
        self._last_lengths, self._last_kept = table.lengths, kept
        self._is_collected = False
        if self._ids_from_device:
            self._output_ids = HostCopy(logits_BV.argmax(-1))

    def running_rows(self) -> Iterator[tuple[str, ForcedRow, int]]:
        """Name, row and number of outputs before the last step of each row whose history is
        stored; of rows that left, until their slots are taken."""
        for name, slot in self._table.slots.items():
            if (row := self._table.rows[slot]) is not None and slot < len(self._last_lengths):
                yield name, row, self._last_lengths[slot]

    def _make_tensors(self, logits_BV: torch.Tensor) -> None:
        """Make tensors of what was written since the last step."""
        table = self._table
        if not table.edits_changed:
            return
        if table.selections_changed:
            order = np.arange(self._num_lines) if self._order is None else self._order
            edits = np.array([table.edits[slot] for slot in order.tolist()])
            self._selections = [
                self._selection(slots, is_sampled=edit is SELECT_SAMPLED)
                for edit in (SELECT_GREEDY, SELECT_SAMPLED)
                for slots in self._chunks(order[edits == edit], logits_BV.shape[-1])
            ]
        self._edits = None
        if table.edited_slots:
            floor_B1 = self._by_line(table.floors) if table.forced_ids else None
            if floor_B1 is not None and floor_B1.dtype is not logits_BV.dtype:
                floor_B1 = floor_B1.to(logits_BV.dtype)
            self._edits = EditTensors(self._by_line(table.edit_ids), floor_B1)
        table.edits_changed = table.selections_changed = False

    def _by_line(self, values: Any) -> torch.Tensor:
        """Values by slot in the order of the logits, on the device."""
        if self._order is not None:
            values = values[self._order]
        elif len(values) > self._num_lines:
            values = values[: self._num_lines]
        return self._to_device(values)

    def _to_device(self, values: Any) -> torch.Tensor:
        return draws.to_device(values, self.device)

    # -- rows whose tokens are chosen here --

    def _chunks(self, slots: Integers, vocabulary: int) -> list[Integers]:
        """Slots of rows that are decided together."""
        limit = _MAX_CHUNK_LOGITS_CPU if self.device.type == "cpu" else _MAX_CHUNK_LOGITS
        size = max(1, limit // vocabulary)
        return [slots[start : start + size] for start in range(0, len(slots), size)]

    def _selection(self, slots: Integers, *, is_sampled: bool) -> _Selection:
        lines, numbers = self._table.integers[:, slots], self._table.floats[:, slots]
        lines_CR, numbers_CR = self._to_device(lines), self._to_device(numbers)
        triggers_RT = self._to_device(self._table.triggers[slots])
        rank_T = torch.arange(triggers_RT.shape[1], device=self.device)
        needs_redraw = lines[BANNED].astype(bool) | (lines[ON_END] == RUNNER_UP)
        tensors = DecisionTensors(
            rows_R=self._to_device(slots if self._lines is None else self._lines[slots]),
            on_end_R=lines_CR[ON_END],
            banned_R=lines_CR[BANNED].bool(),
            triggers_RT=triggers_RT,
            distinct_RT=rank_T < lines_CR[NUM_TRIGGERS, :, None],
            rule_R=lines_CR[RULE],
            end_probability_R=numbers_CR[END_PROBABILITY],
            needs_probability=bool((lines[RULE] == END_RULES["probability"]).any()),
            needs_redraw=bool(needs_redraw.any()),
        )
        sampling = None
        if is_sampled:
            sampling = SamplingTensors(
                temperature_R=numbers_CR[TEMPERATURE],
                top_p_R=numbers_CR[TOP_P],
                top_k_R=lines_CR[TOP_K],
                min_p_R=numbers_CR[MIN_P],
                max_top_k=int(lines[TOP_K].max()),
                has_top_p=bool((numbers[TOP_P] < 1).any()),
                has_min_p=bool((numbers[MIN_P] > 0).any()),
            )
        return _Selection(slots=slots, tensors=replace(tensors, sampling=sampling))

    def _select_tokens(self, logits_BV: torch.Tensor, selection: _Selection) -> None:
        uniforms_R2 = None
        if selection.tensors.sampling is not None:
            rows = (self._table.rows[slot] for slot in selection.slots.tolist())
            uniforms = [row.uniforms() for row in rows if row is not None]
            uniforms_R2 = self._to_device(np.array(uniforms))
        decisions = draws.select_tokens(logits_BV, selection.tensors, uniforms_R2)
        self._decisions.append((HostCopy(decisions), selection.slots))
