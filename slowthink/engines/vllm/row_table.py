"""The rows of a batch as arrays of numbers, so that a step costs few operations for all rows.

A row writes its line when its instruction changes, and the lines move with the rows when their
order does. What a step asks of every row, arrays answer for all of them:

    table.reorder([(0, row), (1, other)])
    table.count_outputs()               one length per row
    table.ended()                       array([1]): the rows whose instruction has ended
    table.positions(LogitEdit.FORCE)    array([1]): the rows in which ids are forced
    table.forced_ids(array([1]))        array([39]): what they output next
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from slowthink.engines.vllm.draws import END_RULES, LogitEdit
from slowthink.engines.vllm.forced_row import ForcedRow

Integers = npt.NDArray[np.int64]

BATCH_INDEX = 0
"""In lines that `RowTable.select` returns, in place of the edit."""
(
    EDIT, NUM_OBSERVED, DUE, IN_LINE, AFTER_LINE, BANNED,
    RULE, TOP_K, NUM_TRIGGERS, ON_END, FIRST_TRIGGER,
) = range(11)  # fmt: skip
"""Columns of `RowTable.integers`; the trigger ids are padded by the first of them. IN_LINE and
AFTER_LINE are the instruction's `line_replacements`, or -1."""
TEMPERATURE, TOP_P, MIN_P, END_PROBABILITY = range(4)
"""Columns of `RowTable.floats`."""


class RowTable:
    """The lines of the rows of one step, in the batch's order."""

    def __init__(self) -> None:
        self.rows: list[ForcedRow] = []
        self.batch_index: Integers = np.zeros(0, np.int64)
        """By row: its line of the logits."""
        self.lengths: Integers = np.zeros(0, np.int64)
        """By row: its number of outputs when they were last counted."""
        # Below the rows' lines is an empty one, which new rows start from.
        self.integers: Integers = np.zeros((1, FIRST_TRIGGER), np.int64)
        self.floats: npt.NDArray[np.float64] = np.zeros((1, 4))
        self._forced: Integers = np.zeros((1, 1), np.int64)
        """The ids that an instruction forces, padded by zeros."""
        self._outputs: list[list[int]] = []
        self._line_rows: Integers | None = None
        """Positions of the rows with line replacements. None: unknown since the last change."""
        self._ends_line: npt.NDArray[np.int8] = np.zeros(0, np.int8)
        """By token id: whether its text ends a line; -1: not asked yet."""

    # -- lines --

    def reorder(self, indexed_rows: Iterable[tuple[int, ForcedRow]]) -> None:
        """Take these rows, given with their batch indices; lines of rows that stay are kept."""
        indices, rows = [], []
        for index, row in indexed_rows:
            indices.append(index)
            rows.append(row)
        old_positions = np.array([*map(self._position, rows), -1], np.int64)
        self.rows, self.batch_index = rows, np.array(indices, np.int64)
        self._outputs = [row.outputs for row in rows]
        for position, row in enumerate(rows):
            row.position = position
        self.integers, self.floats = self.integers[old_positions], self.floats[old_positions]
        self._forced, self._line_rows = self._forced[old_positions], None
        for position in np.flatnonzero(old_positions[:-1] < 0).tolist():
            self._add(rows[position])

    def _position(self, row: ForcedRow) -> int:
        position = row.position
        is_here = 0 <= position < len(self.rows) and self.rows[position] is row
        return position if is_here else -1

    def _add(self, row: ForcedRow) -> None:
        triggers, rules, sampling = row.triggers, row.compiled.rules, row.sampling
        self.integers = _widen(self.integers, FIRST_TRIGGER + len(triggers), mode="edge")
        line = self.integers[row.position]
        line[RULE:ON_END] = END_RULES[rules.end_rule], sampling.top_k, len(triggers)
        line[FIRST_TRIGGER:] = triggers[0]
        line[FIRST_TRIGGER : FIRST_TRIGGER + len(triggers)] = triggers
        self.floats[row.position] = (
            sampling.temperature, sampling.top_p, sampling.min_p, rules.end_probability,
        )  # fmt: skip
        self.write(row)

    def write(self, row: ForcedRow) -> None:
        """Write what the row's instruction asks for."""
        instruction, position = row.instruction, row.position
        line = self.integers[position]
        line[:RULE] = (
            row.edit, row.num_observed, row.due, *(instruction.line_replacements or (-1, -1)),
            instruction.banned,
        )  # fmt: skip
        line[ON_END] = row.end_replacement
        if instruction.forced:
            self._forced = _widen(self._forced, len(instruction.forced))
            self._forced[position, : len(instruction.forced)] = instruction.forced
        self._line_rows = None

    def positions(self, edit: LogitEdit) -> Integers:
        """Positions of the rows whose logits are edited this way."""
        return np.flatnonzero(self.integers[:, EDIT] == edit)

    def select(self, positions: Integers) -> Integers:
        """The integers of these rows, with the batch index in place of the edit."""
        lines = self.integers[positions]
        lines[:, BATCH_INDEX] = self.batch_index[positions]
        return lines

    # -- outputs --

    def count_outputs(self) -> None:
        """Set `lengths`."""
        self.lengths = np.fromiter(map(len, self._outputs), np.int64, len(self._outputs))

    def last_ids(self) -> Integers:
        """The last output of each row; -1: none, or not known yet."""
        ids = (outputs[-1] if outputs else -1 for outputs in self._outputs)
        return np.fromiter(ids, np.int64, len(self._outputs))

    def ended(self) -> Integers:
        """Positions of the rows whose instruction has ended, or whose outputs it began with are
        fewer now."""
        lines = self.integers[:-1]
        lasts = (lines[:, NUM_OBSERVED] <= self.lengths) & (self.lengths < lines[:, DUE])
        return np.flatnonzero(~lasts)

    def forced_ids(self, positions: Integers) -> Integers:
        """The next id of each of these rows, in which ids are forced."""
        lines = self.integers[positions]
        next_R = np.minimum(self.lengths[positions], lines[:, DUE] - 1) - lines[:, NUM_OBSERVED]
        return self._forced[positions, next_R]

    def follow_lines(self) -> bool:
        """Choose the ids that replace an end by the text of the last tokens, in rows where they
        depend on it. Returns whether one changed."""
        if self._line_rows is None:
            self._line_rows = np.flatnonzero(self.integers[:-1, IN_LINE] >= 0)
        if not len(self._line_rows):
            return False
        lines, last_ids = self.integers[self._line_rows], self.last_ids()[self._line_rows]
        is_new = (self.lengths[self._line_rows] > lines[:, NUM_OBSERVED]) & (last_ids >= 0)
        ends_line = self._end_lines(last_ids, is_new)
        on_end = np.where(ends_line, lines[:, AFTER_LINE], lines[:, IN_LINE])
        changes = np.flatnonzero(is_new & (on_end != lines[:, ON_END]))
        positions = self._line_rows[changes]
        self.integers[positions, ON_END] = on_end[changes]
        for position in positions.tolist():
            self.rows[position].end_replacement = int(self.integers[position, ON_END])
        return bool(len(changes))

    def _end_lines(self, ids: Integers, is_known: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Whether each token's text ends a line; each id is decoded once."""
        ids = np.where(is_known, ids, 0)
        if (missing := int(ids.max()) + 1 - len(self._ends_line)) > 0:
            self._ends_line = np.pad(self._ends_line, (0, missing), constant_values=-1)
        for token in set(ids[self._ends_line[ids] < 0].tolist()):
            self._ends_line[token] = self.rows[0].compiled.token_format.ends_line(token)
        return self._ends_line[ids] > 0


def _widen(values: Integers, num_columns: int, mode: str = "constant") -> Integers:
    missing = num_columns - values.shape[1]
    if missing <= 0:
        return values
    widened: Integers = np.pad(values, ((0, 0), (0, missing)), mode=mode)  # type: ignore[call-overload]
    return widened
