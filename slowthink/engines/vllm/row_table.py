"""The rows of a batch as lists and arrays, so that a step costs few operations for all rows.

A row has a slot, in which it stays while the rows around it come and go. It writes its numbers when
its instruction changes; a step looks at the rows' numbers of outputs and last ids only:

    table.update({0: row, 3: other})
    table.look()           [3]: rows whose instruction may have ended
    table.write(3)         row 3 has another instruction
    table.force_next()     the ids that forced rows output next are in `edit_ids`

Of a few hundred rows a loop reads these faster than operations on arrays, whose code is not in the
processor's cache after a step of the model; what `draws` takes is in arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from slowthink.engines.vllm.draws import END_RULES, FORCED_LOGIT, LogitEdit
from slowthink.engines.vllm.forced_row import ForcedRow

Integers = npt.NDArray[np.int64]

ON_END, BANNED, RULE, TOP_K, NUM_TRIGGERS = range(5)
"""Lines of `RowTable.integers`."""
TEMPERATURE, TOP_P, MIN_P, END_PROBABILITY = range(4)
"""Lines of `RowTable.floats`."""
_NO_ID = -9
_NO_OUTPUTS = [2**40]
"""Outputs of a slot without a row: known, and no id that is looked for."""
_NEVER = 2**40


class RowTable:
    """The rows of one engine by slot."""

    def __init__(self) -> None:
        self.rows: list[ForcedRow | None] = []
        self.slots: dict[str, int] = {}
        """By the name under which a row's history is stored."""
        self.lengths: list[int] = []
        """By slot: number of outputs when the rows were last looked at."""
        self.edits: list[LogitEdit] = []
        """By slot."""
        self.edited_slots: set[int] = set()
        """Slots of rows that `draws.edit_logits` edits."""
        self.forced_slots: set[int] = set()
        """Those in which it forces an id."""
        # By slot, only of rows whose tokens are chosen here:
        self.integers: Integers = np.zeros((5, 0), np.int64)
        self.floats: npt.NDArray[np.float64] = np.zeros((4, 0))
        self.triggers: Integers = np.zeros((0, 1), np.int64)
        """Padded by repeats."""
        self.edit_ids: Integers = np.zeros((0, 2), np.int64)
        """By slot: what `draws.edit_logits` takes. Zeros: nothing is edited."""
        self.floors: npt.NDArray[np.float32] = np.zeros((0, 1), np.float32)
        self.edits_changed = self.selections_changed = True
        """Whether something was written since the caller set these to False: for
        `draws.edit_logits`, or of rows whose tokens are chosen here."""
        self._outputs: list[list[int]] = []
        self._num_observed: list[int] = []
        self._due: list[int] = []
        self._replaced_by: list[int] = []
        """By slot: the id that replaces an end in the engine's hands, if any."""
        self._after_line: dict[int, bool] = {}
        """Of rows with line replacements, by slot: whether the second of them is chosen."""
        self._ends_line: dict[int, bool] = {}
        """By token id: whether its text ends a line."""

    # -- rows --

    def update(self, rows: Mapping[int, ForcedRow], *, num_slots: int) -> None:
        """Take these rows by slot; `num_slots`: the least number of slots. Only slots with another
        row than before are written."""
        self._grow(max(num_slots, max(rows, default=-1) + 1))
        new_rows = map(rows.get, range(len(self.rows)))
        pairs = enumerate(zip(self.rows, new_rows, strict=True))
        changed = [slot for slot, (old, new) in pairs if old is not new]
        for slot in changed:
            self._clear(slot)
        for slot in changed:
            if (row := rows.get(slot)) is not None:
                self._set(slot, row)

    def _grow(self, num_slots: int) -> None:
        if (missing := num_slots - len(self.rows)) <= 0:
            return
        self.rows += [None] * missing
        self.lengths += [0] * missing
        self.edits += [LogitEdit.NONE] * missing
        self._outputs += [_NO_OUTPUTS] * missing
        self._num_observed += [0] * missing
        self._due += [_NEVER] * missing
        self._replaced_by += [_NO_ID] * missing
        self.integers = np.pad(self.integers, ((0, 0), (0, missing)))
        self.floats = np.pad(self.floats, ((0, 0), (0, missing)))
        self.triggers, self.edit_ids = (
            np.pad(values, ((0, missing), (0, 0))) for values in (self.triggers, self.edit_ids)
        )
        self.floors = np.full((len(self.rows), 1), -np.inf, np.float32)
        self.floors[list(self.forced_slots)] = FORCED_LOGIT

    def _clear(self, slot: int) -> None:
        if (row := self.rows[slot]) is None:
            return
        if self.slots.get(name := row.compiled.args.log or "") == slot:
            del self.slots[name]
        self.rows[slot], self._outputs[slot] = None, _NO_OUTPUTS
        self._num_observed[slot], self._due[slot] = 0, _NEVER
        self._set_edit(slot, LogitEdit.NONE)
        self._after_line.pop(slot, None)

    def _set(self, slot: int, row: ForcedRow) -> None:
        if not row.is_ready:
            row.replay_outputs()
        self.rows[slot], self._outputs[slot], self.lengths[slot] = (
            row,
            row.outputs,
            len(row.outputs),
        )
        if row.compiled.args.log:
            self.slots[row.compiled.args.log] = slot
        self.write(slot)

    def write(self, slot: int) -> None:
        """Write what the instruction of the row in this slot asks for."""
        row = self._row(slot)
        self._num_observed[slot], self._due[slot] = row.num_observed, row.due
        self._set_edit(slot, row.edit)
        if row.edit is LogitEdit.REPLACE_END:
            ids = (self._replaced_by[slot], *_) = (row.end_replacement, *row.triggers)
            self.edit_ids = _widen(self.edit_ids, len(ids))
            self.edit_ids[slot] = _pad(ids, self.edit_ids.shape[1])
        elif row.edit >= LogitEdit.SELECT_GREEDY:
            self._write_selection(slot, row)
        if (replacements := row.instruction.line_replacements) is None:
            self._after_line.pop(slot, None)
        else:
            self._after_line[slot] = row.end_replacement == replacements[1]

    def _write_selection(self, slot: int, row: ForcedRow) -> None:
        triggers, rules, sampling = row.triggers, row.compiled.rules, row.sampling
        self.triggers = _widen(self.triggers, len(triggers))
        self.triggers[slot] = _pad(triggers, self.triggers.shape[1])
        self.integers[:, slot] = (
            row.end_replacement, row.instruction.banned, END_RULES[rules.end_rule],
            sampling.top_k, len(triggers),
        )  # fmt: skip
        self.floats[:, slot] = (
            sampling.temperature, sampling.top_p, sampling.min_p, rules.end_probability,
        )  # fmt: skip

    def _set_edit(self, slot: int, edit: LogitEdit) -> None:
        """Note the edit, as if it had no ids."""
        self.edits_changed = True
        if self.edits[slot] >= LogitEdit.SELECT_GREEDY or edit >= LogitEdit.SELECT_GREEDY:
            self.selections_changed = True
        if slot in self.edited_slots:
            self.edited_slots.remove(slot)
            self._replaced_by[slot], self.edit_ids[slot] = _NO_ID, 0
        if slot in self.forced_slots:
            self.forced_slots.remove(slot)
            self.floors[slot] = -np.inf
        if edit is LogitEdit.FORCE:
            self.forced_slots.add(slot)
            self.floors[slot] = FORCED_LOGIT
        if edit is LogitEdit.FORCE or edit is LogitEdit.REPLACE_END:
            self.edited_slots.add(slot)
        self.edits[slot] = edit

    # -- outputs --

    def look(self) -> list[int]:
        """Set `lengths`. Slots whose instruction has ended, whose outputs it began with are fewer
        now, or whose last output may replace an end or is not known."""
        outputs = self._outputs
        self.lengths = list(map(len, outputs))
        rows = zip(
            self.lengths, self._num_observed, self._due, outputs, self._replaced_by, strict=True
        )
        return [
            slot
            for slot, (length, num_observed, due, ids, replaced_by) in enumerate(rows)
            if not num_observed <= length < due
            or not ids
            or (last := ids[-1]) == replaced_by
            or last < 0
        ]

    def set_due(self, slot: int) -> None:
        """Note that the instruction in this slot ends earlier, since an end was declared."""
        row = self.rows[slot]
        self._due[slot] = row.due if row is not None else _NEVER

    # -- before a step --

    def force_next(self) -> None:
        """Write the next id of each row in which ids are forced."""
        for slot in self.forced_slots:
            row = self._row(slot)
            index = min(self.lengths[slot], row.due - 1) - row.num_observed
            token = row.instruction.forced[index]
            if self.edit_ids[slot, 0] != token:
                self.edit_ids[slot], self.edits_changed = token, True

    def follow_lines(self) -> None:
        """Choose the ids that replace an end by the text of the last tokens, in rows where they
        depend on it."""
        outputs, num_observed, ends_line = self._outputs, self._num_observed, self._ends_line
        for slot, is_after_line in list(self._after_line.items()):
            ids = outputs[slot]
            if len(ids) <= num_observed[slot] or (token := ids[-1]) < 0:
                continue
            if token not in ends_line:
                row = self._row(slot)
                ends_line[token] = row.compiled.token_format.ends_line(token)
            if ends_line[token] is not is_after_line:
                row = self._row(slot)
                assert row.instruction.line_replacements is not None
                row.end_replacement = row.instruction.line_replacements[ends_line[token]]
                self.write(slot)

    def _row(self, slot: int) -> ForcedRow:
        row = self.rows[slot]
        assert row is not None
        return row


def _widen(values: Integers, num_columns: int) -> Integers:
    """Repeat the last column: ids may be repeated."""
    missing = num_columns - values.shape[1]
    return np.pad(values, ((0, 0), (0, missing)), mode="edge") if missing > 0 else values


def _pad(ids: Sequence[int], length: int) -> Sequence[int]:
    return ids if len(ids) == length else [*ids, *[ids[-1]] * (length - len(ids))]
