"""The rows of a batch as lists and arrays, so that a step costs few operations for all rows.

A row has a slot, in which it stays while the rows around it come and go. It writes its numbers when
its instruction changes; a step looks at the rows' numbers of outputs and last ids only:

    table.update({0: row, 3: other})
    table.look()           [3]: rows whose instruction may have ended
    table.write(3)         row 3 has another instruction
    table.force_next()     the ids that forced rows output next are in `edit_ids`

A step asks no row when its instruction ends: rows are in a calendar by step, since each outputs at
most one id a step. Outputs are lists of the engine, which `map` reads faster than a loop; what
`draws` takes is in arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from operator import eq, gt, itemgetter, ne

import numpy as np
import numpy.typing as npt

from slowthink.engines.vllm.draws import (
    END_RULES,
    FORCE,
    FORCED_LOGIT,
    NO_EDIT,
    REPLACE_END,
    SELECT_GREEDY,
    LogitEdit,
)
from slowthink.engines.vllm.forced_row import ForcedRow
from slowthink.engines.vllm.request_flow import ALWAYS

Integers = npt.NDArray[np.int64]

ON_END, BANNED, RULE, TOP_K, NUM_TRIGGERS = range(5)
"""Lines of `RowTable.integers`."""
TEMPERATURE, TOP_P, MIN_P, END_PROBABILITY = range(4)
"""Lines of `RowTable.floats`."""
_NO_ID = -9
_UNKNOWN_ID = -1
"""An output that vLLM, scheduling asynchronously, does not have on the host yet."""
_NO_OUTPUTS = [2**40]
"""Outputs of a slot whose row has none: known, and no id that is looked for."""
_last_of = itemgetter(-1)


class RowTable:
    """The rows of one engine by slot."""

    def __init__(self) -> None:
        self.rows: list[ForcedRow | None] = []
        self.slots: dict[str, int] = {}
        """By the name under which a row's history is stored."""
        self.lengths: list[int] = []
        """By slot: number of outputs when the row was last looked at."""
        self.edits: list[LogitEdit] = []
        """By slot."""
        self.edited_slots: set[int] = set()
        """Slots of rows that `draws.edit_logits` edits."""
        self.forced_ids: dict[int, int | None] = {}
        """By slot of rows in which it forces an id: the id that is written. None: none is yet."""
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
        self._without_outputs: set[int] = set()
        """Slots of rows that had none when they were last looked at."""
        self._last_ids: list[int] = []
        """By slot, as of then."""
        self._num_observed: list[int] = []
        self._replaced_by: list[int] = []
        """By slot: the id that replaces an end in the engine's hands, if any."""
        self._after_line: dict[int, bool] = {}
        """Of rows with line replacements, by slot: whether the second of them is chosen."""
        self._step = 0
        self._calendar: dict[int, list[int]] = {}
        """By step: slots whose instruction may end there."""
        self._end_steps: list[int] = []
        """By slot: the step of its entry; others are outdated."""

    # -- rows --

    def update(
        self, rows: Mapping[int, ForcedRow], *, num_slots: int, slots: Iterable[int] | None = None
    ) -> None:
        """Take these rows by slot; `num_slots`: the least number of slots. Of `slots` (None: all)
        only those with another row than before are written; where requests without a budget came
        and went, some lie beyond the last slot."""
        if slots is None:
            slots = range(max(len(self.rows), max(rows, default=-1) + 1))
        changed = [slot for slot in slots if self._get(slot) is not rows.get(slot)]
        self._grow(max(num_slots, max(changed, default=-1) + 1))
        for slot in changed:
            self._clear(slot)
        for slot in changed:
            if (row := rows.get(slot)) is not None:
                self._set(slot, row)

    def _get(self, slot: int) -> ForcedRow | None:
        return self.rows[slot] if slot < len(self.rows) else None

    def _grow(self, num_slots: int) -> None:
        if (missing := num_slots - len(self.rows)) <= 0:
            return
        self.rows += [None] * missing
        self.lengths += [0] * missing
        self.edits += [NO_EDIT] * missing
        self._outputs += [_NO_OUTPUTS] * missing
        self._last_ids += _NO_OUTPUTS * missing
        self._num_observed += [0] * missing
        self._end_steps += [0] * missing
        self._replaced_by += [_NO_ID] * missing
        self.integers = np.pad(self.integers, ((0, 0), (0, missing)))
        self.floats = np.pad(self.floats, ((0, 0), (0, missing)))
        self.triggers, self.edit_ids = (
            np.pad(values, ((0, missing), (0, 0))) for values in (self.triggers, self.edit_ids)
        )
        self.floors = np.full((len(self.rows), 1), -np.inf, np.float32)
        self.floors[list(self.forced_ids)] = FORCED_LOGIT

    def _clear(self, slot: int) -> None:
        if (row := self.rows[slot]) is None:
            return
        if self.slots.get(name := row.compiled.args.log or "") == slot:
            del self.slots[name]
        self.rows[slot] = None
        self._outputs[slot], (self._last_ids[slot],) = _NO_OUTPUTS, _NO_OUTPUTS
        self._without_outputs.discard(slot)
        self._num_observed[slot] = self._end_steps[slot] = 0
        self._set_edit(slot, NO_EDIT)
        self._after_line.pop(slot, None)

    def _set(self, slot: int, row: ForcedRow) -> None:
        if not row.is_ready:
            row.replay_outputs()
        self.rows[slot], self.lengths[slot] = row, len(row.outputs)
        if row.outputs:
            self._outputs[slot], self._last_ids[slot] = row.outputs, row.outputs[-1]
        else:
            self._without_outputs.add(slot)
        if row.compiled.args.log:
            self.slots[row.compiled.args.log] = slot
        self.write(slot)

    def write(self, slot: int) -> None:
        """Write what the instruction of the row in this slot asks for."""
        row = self._row(slot)
        self._num_observed[slot] = row.num_observed
        self._enter(slot, row.due - len(row.outputs))
        self._set_edit(slot, row.edit)
        if row.edit is REPLACE_END:
            ids = (self._replaced_by[slot], *_) = (row.end_replacement, *row.triggers)
            self.edit_ids = _widen(self.edit_ids, len(ids))
            self.edit_ids[slot] = _pad(ids, self.edit_ids.shape[1])
        elif row.edit >= SELECT_GREEDY:
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
        """Note the edit; its ids are written afterwards."""
        former, self.edits[slot] = self.edits[slot], edit
        self._replaced_by[slot] = _NO_ID
        self.edits_changed = True
        if former >= SELECT_GREEDY or edit >= SELECT_GREEDY:
            self.selections_changed = True
        if edit is FORCE:
            self.forced_ids[slot] = None
        if former is edit:
            return
        if edit is FORCE:
            self.floors[slot, 0] = FORCED_LOGIT
        elif former is FORCE:
            self.floors[slot, 0] = -np.inf
            del self.forced_ids[slot]
        if edit is FORCE or edit is REPLACE_END:
            self.edited_slots.add(slot)
        elif slot in self.edited_slots:
            self.edited_slots.remove(slot)
            self.edit_ids[slot] = 0

    # -- outputs --

    def look(self) -> list[int]:
        """Set `lengths`. Slots whose instruction has ended, whose outputs it began with are fewer
        now, or whose last output may replace an end or is not known."""
        for slot in tuple(self._without_outputs):
            if (row := self._row(slot)).outputs:
                self._outputs[slot] = row.outputs
                self._without_outputs.remove(slot)
        self.lengths = list(map(len, self._outputs))
        if 0 in self.lengths:  # the engine has discarded all outputs of a row
            emptied = [slot for slot, length in enumerate(self.lengths) if not length]
            for slot in emptied:
                self._outputs[slot] = _NO_OUTPUTS
            self._without_outputs.update(emptied)
        for slot in self._without_outputs:
            self.lengths[slot] = 0
        self._last_ids = last_ids = list(map(_last_of, self._outputs))
        all_slots = range(len(last_ids))
        return [
            *self._ending_slots(),
            *compress(all_slots, map(eq, last_ids, self._replaced_by)),
            *compress(all_slots, map(gt, self._num_observed, self.lengths)),
            *(self._unknown_slots() if _UNKNOWN_ID in last_ids else ()),
        ]

    def _unknown_slots(self) -> list[int]:
        return [slot for slot, token in enumerate(self._last_ids) if token == _UNKNOWN_ID]

    def _ending_slots(self) -> list[int]:
        """Slots whose instruction has ended."""
        self._step += 1
        ending = []
        for slot in self._calendar.pop(self._step, ()):
            if self._end_steps[slot] == self._step:
                row = self._row(slot)
                if (num_left := row.due - len(row.outputs)) > 0:
                    self._enter(slot, num_left)
                else:
                    ending.append(slot)
        return ending

    def _enter(self, slot: int, num_tokens: int) -> None:
        """Look at this slot again after this many steps: the next, if its instruction has ended but
        no other has begun."""
        step = self._step + max(1, num_tokens)
        if self._end_steps[slot] != step and num_tokens < ALWAYS // 2:
            self._end_steps[slot] = step
            self._calendar.setdefault(step, []).append(slot)

    def expect_end(self, slot: int) -> None:
        """Look at this slot in the next step: an end was declared, so its instruction is over."""
        self._enter(slot, 0)

    # -- before a step --

    def force_next(self) -> None:
        """Write the next id of each row in which ids are forced."""
        for slot, written in self.forced_ids.items():
            row = self._row(slot)
            forced = row.instruction.forced
            token = forced[min(len(row.outputs) - row.num_observed, len(forced) - 1)]
            if token != written:
                self.forced_ids[slot] = self.edit_ids[slot] = token
                self.edits_changed = True

    def follow_lines(self) -> None:
        """Choose the ids that replace an end by the text of the last tokens, in rows where they
        depend on it."""
        if not self._after_line:
            return
        slots = list(self._after_line)
        line_end_ids = self._row(slots[0]).compiled.token_format.line_ends.ids()
        last_ids = map(self._last_ids.__getitem__, slots)
        ends_line = map(line_end_ids.__contains__, last_ids)
        for slot in list(compress(slots, map(ne, ends_line, self._after_line.values()))):
            if slot not in self._without_outputs and self._last_ids[slot] >= 0:
                row = self._row(slot)
                assert row.instruction.line_replacements is not None
                after_line = not self._after_line[slot]
                row.end_replacement = row.instruction.line_replacements[after_line]
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
