"""The rows of a batch as arrays of numbers, so that a step costs few operations for all rows.

A row has a slot, in which it stays while the rows around it come and go. It writes its numbers when
its instruction changes; what a step asks of every row, arrays answer for all of them:

    table.update({0: row, 3: other})
    table.count_outputs()       lengths and last ids of all rows
    table.ended()               array([3]): the rows whose instruction has ended
    table.force_next()          writes the ids that forced rows output next into `edit_ids`
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from slowthink.engines.vllm.draws import END_RULES, FORCED_LOGIT, LogitEdit
from slowthink.engines.vllm.forced_row import ForcedRow

Integers = npt.NDArray[np.int64]

(
    EDIT, NUM_OBSERVED, DUE, REPLACED_BY, IN_LINE, AFTER_LINE, ON_END, BANNED,
    RULE, TOP_K, NUM_TRIGGERS,
) = range(11)  # fmt: skip
"""Lines of `RowTable.integers`. REPLACED_BY: ON_END if the edit is REPLACE_END, else none; IN_LINE
and AFTER_LINE are the instruction's `line_replacements`, or -1."""
TEMPERATURE, TOP_P, MIN_P, END_PROBABILITY = range(4)
"""Lines of `RowTable.floats`."""
_NONE = -9
"""No id, nor in place of one."""
_NO_OUTPUTS = [-8]
_FREE = (LogitEdit.NONE, 0, 2**62, _NONE, -1, -1, _NONE, 0, 0, 0, 0)
"""Integers of a slot without a row: nothing is edited, and nothing ends."""


class RowTable:
    """The rows of one engine by slot."""

    def __init__(self) -> None:
        self.rows: list[ForcedRow | None] = []
        self.slots: dict[str, int] = {}
        """By the name under which a row's history is stored."""
        self.lengths: Integers = np.zeros(0, np.int64)
        """By slot: number of outputs when they were last counted."""
        self.last_ids: Integers = np.zeros(0, np.int64)
        """By slot: the last output then; -1: none, or not known yet."""
        self.integers: Integers = np.zeros((len(_FREE), 0), np.int64)
        self.floats: npt.NDArray[np.float64] = np.zeros((4, 0))
        self.triggers: Integers = np.zeros((0, 1), np.int64)
        """By slot; padded by the first of them."""
        self.edit_ids: Integers = np.zeros((0, 2), np.int64)
        """By slot: what `draws.edit_logits` takes. Zeros: nothing is edited."""
        self.floors: npt.NDArray[np.float32] = np.zeros(0, np.float32)
        self.edits_changed = self.selections_changed = True
        """Whether something was written since the caller set these to False: for
        `draws.edit_logits`, or of rows whose tokens are chosen here."""
        self._forced: Integers = np.zeros((0, 1), np.int64)
        """By slot: the ids that an instruction forces, padded by zeros."""
        self._outputs: list[list[int]] = []
        self._watched: tuple[Integers, Integers] | None = None
        """Slots that force ids, and those with line replacements. None: a row was written since."""
        self._ends_line: npt.NDArray[np.int8] = np.zeros(0, np.int8)
        """By token id: whether its text ends a line; -1: not asked yet."""

    # -- rows --

    def update(self, rows: Mapping[int, ForcedRow], *, num_slots: int) -> None:
        """Take these rows by slot; `num_slots`: the least number of slots. Only slots with another
        row than before are written."""
        self._grow(max(num_slots, max(rows, default=-1) + 1))
        for slot, row in enumerate(self.rows):
            if row is not None and rows.get(slot) is not row:
                self._clear(slot)
        for slot, row in rows.items():
            if self.rows[slot] is not row:
                self._set(slot, row)

    def _grow(self, num_slots: int) -> None:
        if (missing := num_slots - len(self.rows)) <= 0:
            return
        self.rows += [None] * missing
        self._outputs += [_NO_OUTPUTS] * missing
        free = np.tile(np.array(_FREE, np.int64)[:, None], missing)
        self.integers = np.concatenate([self.integers, free], axis=1)
        self.floats = np.pad(self.floats, ((0, 0), (0, missing)))
        self.lengths, self.last_ids = (
            np.pad(values, (0, missing)) for values in (self.lengths, self.last_ids)
        )
        self.floors = np.pad(self.floors, (0, missing), constant_values=-np.inf)
        self.triggers, self.edit_ids, self._forced = (
            np.pad(values, ((0, missing), (0, 0)))
            for values in (self.triggers, self.edit_ids, self._forced)
        )

    def _clear(self, slot: int) -> None:
        row = self.rows[slot]
        assert row is not None
        self._note_change(slot, LogitEdit.NONE)
        if self.slots.get(name := row.compiled.args.log or "") == slot:
            del self.slots[name]
        self.rows[slot], self._outputs[slot] = None, _NO_OUTPUTS
        self.integers[:, slot] = _FREE
        self.edit_ids[slot], self.floors[slot] = 0, -np.inf

    def _set(self, slot: int, row: ForcedRow) -> None:
        if not row.is_ready:
            row.replay_outputs()
        self.rows[slot], self._outputs[slot] = row, row.outputs
        self.lengths[slot] = len(row.outputs)
        self.last_ids[slot] = row.outputs[-1] if row.outputs else -1
        if row.compiled.args.log:
            self.slots[row.compiled.args.log] = slot
        triggers, rules, sampling = row.triggers, row.compiled.rules, row.sampling
        self.triggers = _widen(self.triggers, len(triggers), mode="edge")
        self.edit_ids = _widen(self.edit_ids, 1 + self.triggers.shape[1], mode="edge")
        self.triggers[slot] = triggers[0]
        self.triggers[slot, : len(triggers)] = triggers
        self.integers[RULE:, slot] = END_RULES[rules.end_rule], sampling.top_k, len(triggers)
        self.floats[:, slot] = (
            sampling.temperature, sampling.top_p, sampling.min_p, rules.end_probability,
        )  # fmt: skip
        self.write(slot)

    def write(self, slot: int) -> None:
        """Write what the instruction of the row in this slot asks for."""
        row = self.rows[slot]
        assert row is not None
        instruction, edit = row.instruction, row.edit
        self._note_change(slot, edit)
        replaced_by, ids, floor = _NONE, self.edit_ids[slot], -np.inf
        if edit is LogitEdit.REPLACE_END:
            replaced_by = ids[0] = row.end_replacement
            ids[1:] = self.triggers[slot]
        elif edit is LogitEdit.FORCE:
            floor, forced = FORCED_LOGIT, instruction.forced
            self._forced = _widen(self._forced, len(forced))
            self._forced[slot, : len(forced)] = forced
        else:
            ids[:] = 0
        self.floors[slot] = floor
        self.integers[:RULE, slot] = (
            edit, row.num_observed, row.due, replaced_by,
            *(instruction.line_replacements or (-1, -1)), row.end_replacement, instruction.banned,
        )  # fmt: skip

    def _note_change(self, slot: int, edit: LogitEdit) -> None:
        self._watched, self.edits_changed = None, True
        if max(self.integers[EDIT, slot], edit) >= LogitEdit.SELECT_GREEDY:
            self.selections_changed = True

    # -- outputs --

    def count_outputs(self) -> None:
        """Set `lengths` and `last_ids`."""
        outputs, count = self._outputs, len(self._outputs)
        self.lengths = np.fromiter(map(len, outputs), np.int64, count)
        try:
            self.last_ids = np.fromiter(map(itemgetter(-1), outputs), np.int64, count)
        except IndexError:  # one has none
            last_ids = (ids[-1] if ids else -1 for ids in outputs)
            self.last_ids = np.fromiter(last_ids, np.int64, count)

    def maybe_replaced(self) -> Integers:
        """Slots whose last output is the id that replaces an end, or not known."""
        replaced_by = self.integers[REPLACED_BY]
        return np.flatnonzero((self.last_ids == replaced_by) | (self.last_ids == -1))

    def ended(self) -> Integers:
        """Slots whose instruction has ended, or whose outputs it began with are fewer now."""
        num_observed, due = self.integers[NUM_OBSERVED], self.integers[DUE]
        return np.flatnonzero((self.lengths >= due) | (self.lengths < num_observed))

    # -- before a step --

    def force_next(self) -> None:
        """Write the next id of each row in which ids are forced."""
        slots, _ = self._watched_slots()
        if len(slots):
            lengths, due = self.lengths[slots], self.integers[DUE, slots]
            next_R = np.minimum(lengths, due - 1) - self.integers[NUM_OBSERVED, slots]
            ids = self._forced[slots, next_R]
            self.edits_changed |= bool((self.edit_ids[slots, 0] != ids).any())
            self.edit_ids[slots] = ids[:, None]

    def follow_lines(self) -> None:
        """Choose the ids that replace an end by the text of the last tokens, in rows where they
        depend on it."""
        _, slots = self._watched_slots()
        if not len(slots):
            return
        lines, last_ids = self.integers[:, slots], self.last_ids[slots]
        is_new = (self.lengths[slots] > lines[NUM_OBSERVED]) & (last_ids >= 0)
        ends_line = self._end_lines(last_ids, is_new)
        on_end = np.where(ends_line, lines[AFTER_LINE], lines[IN_LINE])
        for index in np.flatnonzero(is_new & (on_end != lines[ON_END])).tolist():
            row = self.rows[slots[index]]
            assert row is not None
            row.end_replacement = int(on_end[index])
            self.write(int(slots[index]))

    def _watched_slots(self) -> tuple[Integers, Integers]:
        if self._watched is None:
            is_forced = self.integers[EDIT] == LogitEdit.FORCE
            self._watched = np.flatnonzero(is_forced), np.flatnonzero(self.integers[IN_LINE] >= 0)
        return self._watched

    def _end_lines(self, ids: Integers, is_known: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Whether each token's text ends a line; each id is decoded once."""
        ids = np.where(is_known, ids, 0)
        if (missing := int(ids.max()) + 1 - len(self._ends_line)) > 0:
            self._ends_line = np.pad(self._ends_line, (0, missing), constant_values=-1)
        for token in set(ids[self._ends_line[ids] < 0].tolist()):
            row = next(row for row in self.rows if row is not None)
            self._ends_line[token] = row.compiled.token_format.ends_line(token)
        return self._ends_line[ids] > 0


def _widen(values: Integers, num_columns: int, mode: str = "constant") -> Integers:
    missing = num_columns - values.shape[1]
    if missing <= 0:
        return values
    widened: Integers = np.pad(values, ((0, 0), (0, missing)), mode=mode)  # type: ignore[call-overload]
    return widened
