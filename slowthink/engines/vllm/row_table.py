"""The rows of a batch as two arrays of numbers, so that a step costs few operations for all rows.

A row writes its line when its instruction changes, and the lines move with the rows when their
order does. Rows with equal edits are then selected and copied to the device together:

    table.reorder([(0, row), (1, other)])
    table.positions(LogitEdit.FORCE)    array([1]): the rows in which an id is forced
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from slowthink.engines.vllm.draws import END_RULES, LogitEdit
from slowthink.engines.vllm.forced_row import ForcedRow

BATCH_INDEX = 0
"""In lines that `RowTable.select` returns, in place of the edit."""
EDIT, FORCED_ID, ON_END, BANNED, RULE, TOP_K, NUM_TRIGGERS, FIRST_TRIGGER = range(8)
"""Columns of `RowTable.integers`; the trigger ids are padded by the first of them."""
TEMPERATURE, TOP_P, MIN_P, END_PROBABILITY = range(4)
"""Columns of `RowTable.floats`."""


class RowTable:
    """The lines of the rows of one step, in the batch's order."""

    def __init__(self) -> None:
        self.rows: list[ForcedRow] = []
        self.batch_index: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        """By row: its line of the logits."""
        # Below the rows' lines is an empty one, which new rows start from.
        self.integers: npt.NDArray[np.int64] = np.zeros((1, FIRST_TRIGGER), np.int64)
        self.floats: npt.NDArray[np.float64] = np.zeros((1, 4))

    def reorder(self, indexed_rows: Iterable[tuple[int, ForcedRow]]) -> None:
        """Take these rows, given with their batch indices; lines of rows that stay are kept."""
        indices, rows = [], []
        for index, row in indexed_rows:
            indices.append(index)
            rows.append(row)
        old_positions = np.array([*map(self._position, rows), -1], np.int64)
        self.rows, self.batch_index = rows, np.array(indices, np.int64)
        for position, row in enumerate(rows):
            row.position = position
        self.integers, self.floats = self.integers[old_positions], self.floats[old_positions]
        for position in np.flatnonzero(old_positions[:-1] < 0).tolist():
            self._add(rows[position])

    def holds(self, row: ForcedRow) -> bool:
        """Whether the row has a line."""
        return self._position(row) >= 0

    def _position(self, row: ForcedRow) -> int:
        position = row.position
        is_here = 0 <= position < len(self.rows) and self.rows[position] is row
        return position if is_here else -1

    def _add(self, row: ForcedRow) -> None:
        triggers, rules, sampling = row.triggers, row.compiled.rules, row.sampling
        missing = FIRST_TRIGGER + len(triggers) - self.integers.shape[1]
        if missing > 0:
            self.integers = np.pad(self.integers, ((0, 0), (0, missing)), mode="edge")
        line = self.integers[row.position]
        line[RULE:FIRST_TRIGGER] = END_RULES[rules.end_rule], sampling.top_k, len(triggers)
        line[FIRST_TRIGGER:] = triggers[0]
        line[FIRST_TRIGGER : FIRST_TRIGGER + len(triggers)] = triggers
        self.floats[row.position] = (
            sampling.temperature, sampling.top_p, sampling.min_p, rules.end_probability,
        )  # fmt: skip
        self.write(row)

    def write(self, row: ForcedRow) -> None:
        """Write what the row's instruction asks for."""
        instruction = row.instruction
        self.integers[row.position, :RULE] = (
            row.edit, instruction.force, row.end_replacement, instruction.banned,
        )  # fmt: skip

    def positions(self, edit: LogitEdit) -> npt.NDArray[np.int64]:
        """Positions of the rows whose logits are edited this way."""
        return np.flatnonzero(self.integers[:, EDIT] == edit)

    def select(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The integers of these rows, with the batch index in place of the edit."""
        lines = self.integers[positions]
        lines[:, BATCH_INDEX] = self.batch_index[positions]
        return lines
