"""Grading pairs of answers: verdicts, agreement with the pairs' labels, speed.

One pair: PairRow(line_number=7, gold="1/2", pred="0.5", equal=True); `data/pair_files.py`
reads them from files.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from slowthink.grading.answers import choice
from slowthink.grading.answers.compare import AnswerContext
from slowthink.grading.extract import extract, extract_from_prose, extract_stated
from slowthink.grading.grader import Grader, PairItem
from slowthink.grading.keys import read_key
from slowthink.grading.reference import compat
from slowthink.grading.sentences import is_prose, is_verbal
from slowthink.records import Grade, Verdict

ROWS_PER_BATCH = 2_000
"""Rows per call of the grader."""
_OPTION_LETTER = re.compile(r"[\s({$]*[A-J][\s)}$.]*")


@dataclass(frozen=True, slots=True)
class PairRow:
    """One row of a file: reference answer and prediction, or a text that contains one."""

    line_number: int
    gold: str
    pred: str | None
    response: str | None = None
    question: str = ""
    equal: bool | None = None
    choices: tuple[str, ...] = ()
    is_contested: bool = False
    """Sources disagree about the label, so that it does not count for the agreement."""
    solution: str | None = None


@dataclass(frozen=True, slots=True)
class PairFile:
    """The rows of a file, and an error message for each unusable line."""

    rows: list[PairRow]
    errors: list[str]


@dataclass(frozen=True, slots=True)
class GradedRows:
    """One grade per row; the total time, without starting workers; the longest time for one row."""

    grades: list[Grade]
    seconds: float
    worst_seconds: float


def grade_rows(file: PairFile, grader: Grader) -> GradedRows:
    """Return one grade per row of a file."""
    grader.start_workers()
    start_time = time.perf_counter()
    grades: list[Grade] = []
    worst_seconds = 0.0
    for start in range(0, len(file.rows), ROWS_PER_BATCH):
        batch = file.rows[start : start + ROWS_PER_BATCH]
        timed = grader.grade_pairs([pair_from_row(row, mode=grader.mode) for row in batch])
        grades += [grade.grade for grade in timed]
        worst_seconds = max([worst_seconds, *(grade.seconds for grade in timed)])
    return GradedRows(grades, time.perf_counter() - start_time, worst_seconds)


def pair_from_row(row: PairRow, *, mode: str = "strict") -> PairItem:
    """Return a row's reference answer and predicted answer, each extracted from its text."""
    context = AnswerContext(question=row.question, choices=row.choices)
    if mode == "math-verify":
        return PairItem(row.gold, row.pred if row.pred is not None else row.response, context)
    gold = _reference_answer(row.gold)
    if mode != "strict":
        return PairItem(gold, _extract_as_paper(row, mode), context)
    return PairItem(gold, _extract_strictly(row, gold), context)


def _extract_strictly(row: PairRow, gold: str) -> str | None:
    choices = row.choices or (tuple(choice.LETTERS) if _OPTION_LETTER.fullmatch(gold) else ())
    if row.pred is None:
        return extract(row.response or "", choices=choices, whole_line=is_verbal(gold))
    if choices:
        is_choice = bool(choice.parse_choice(row.pred).letters) and not is_prose(row.pred)
        answer = extract(row.pred, choices=() if is_choice else choices)
        letter = choice.letter_in_sentence(row.pred, num_options=len(choices))
        return answer if is_choice and answer else letter or answer or row.pred
    if is_verbal(gold) and not is_prose(gold):
        return extract_stated(row.pred, whole_line=True) or row.pred
    return extract_from_prose(row.pred)


def _extract_as_paper(row: PairRow, mode: str) -> str | None:
    if row.pred is not None and "boxed" not in row.pred:
        return row.pred
    return compat.extract_as(mode, row.response or row.pred or "") or None


def _reference_answer(text: str) -> str:
    """Return the reference answer; of a worked solution, its final answer."""
    key = read_key(text)
    if key is not None and ("\n" in key or len(key) > 120):
        return extract_from_prose(key) or key
    return key or ""


def summarize_grades(file: PairFile, graded: GradedRows, *, mode: str) -> dict[str, Any]:
    """Return the result of `slowthink grade` for these grades."""
    grades = graded.grades
    pairs = [(row, g) for row, g in zip(file.rows, grades, strict=True) if row.equal is not None]
    labelled = [(row, grade) for row, grade in pairs if not row.is_contested]
    decided = [(row, grade) for row, grade in labelled if grade.verdict.is_counted]
    wrong = [(row, g) for row, g in decided if (g.verdict is Verdict.CORRECT) != row.equal]
    return {
        "mode": mode,
        "n": len(grades),
        "verdicts": dict(Counter(grade.verdict.value for grade in grades)),
        "methods": dict(Counter(grade.method.split(":")[0] for grade in grades)),
        "num_labelled": len(labelled),
        "num_contested": len(pairs) - len(labelled),
        "num_undecided": len(labelled) - len(decided),
        "agreement": 1 - len(wrong) / len(decided) if decided else None,
        "false_positives": [_disagreement(row, g) for row, g in wrong if not row.equal],
        "false_negatives": [_disagreement(row, g) for row, g in wrong if row.equal],
        "grades_per_second": len(grades) / graded.seconds if graded.seconds else None,
        "worst_seconds": graded.worst_seconds,
        "num_bad_rows": len(file.errors),
        "bad_rows": file.errors[:10],
    }


def _disagreement(row: PairRow, grade: Grade) -> dict[str, Any]:
    return {
        "line": row.line_number,
        "gold": row.gold,
        "pred": row.pred if row.pred is not None else (row.response or "")[-200:],
        "extracted": grade.extracted,
        "verdict": grade.verdict.value,
        "method": grade.method,
    }
