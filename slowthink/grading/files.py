"""Grading a file of pairs: verdicts, agreement with the rows' labels, speed (`slowthink grade`).

Example row: {"gold": "1/2", "pred": "0.5", "equal": true}. Instead of "pred" it may have
"response", a text that contains an answer. For a judge, "solution" may take the place of "gold".
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink.errors import DataError
from slowthink.grading.answers import choice
from slowthink.grading.answers.compare import AnswerContext
from slowthink.grading.extract import extract, extract_from_prose, is_prose, is_verbal
from slowthink.grading.grader import Grader, PairItem
from slowthink.grading.reference import compat
from slowthink.records import Grade, Verdict

BLOCK = 2_000
"""Rows graded together."""
_TEXT_FIELDS = ("gold", "pred", "response", "question", "solution")
_LETTER = re.compile(r"[\s({$]*[A-J][\s)}$.]*")


@dataclass(frozen=True, slots=True)
class PairRow:
    """One row of a file: reference answer and prediction, or a text that contains one."""

    line: int
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
    """The rows of a file, and an error message for each row that cannot be used."""

    rows: list[PairRow]
    bad: list[str]


@dataclass(frozen=True, slots=True)
class GradedRows:
    """A grade per row; seconds in all, without starting workers; and the longest for one row."""

    grades: list[Grade]
    seconds: float
    worst_seconds: float


def grade_file(path: str | Path, *, mode: str = "strict", num_workers: int = 1) -> dict[str, Any]:
    """Return the result of `slowthink grade`: n, verdicts, agreement, disagreements, speed.

    `agreement` is over rows that have `equal`, are not `contested` and whose verdict counts; None
    without one. `num_bad_rows` counts unusable rows, `bad_rows` has the first ten with the reason.
    Raises DataError if no row can be used.
    """
    file = read_pairs(path)
    with Grader(mode, num_workers=num_workers) as grader:
        return summarize_grades(file, grade_rows(file, grader), mode=mode)


def read_pairs(path: str | Path) -> PairFile:
    """Return the rows of a file. Raises DataError if none can be used."""
    path = Path(path)
    file = PairFile([], [])
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line, text in enumerate(lines, start=1):
                row = _read_row(path, line, text) if text.strip() else None
                if isinstance(row, PairRow):
                    file.rows.append(row)
                elif row is not None:
                    file.bad.append(row)
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}; expected a JSONL file. Check the path."
        ) from error
    if not file.rows:
        reason = file.bad[0] if file.bad else f"{path}: no rows; expected one JSON object per line"
        raise DataError(f"{reason}. Nothing was graded; fix the file.")
    return file


def _read_row(path: Path, line: int, text: str) -> PairRow | str:
    """Return the row, or why it cannot be used."""
    expected = 'expected {"gold": "…", "pred": "…"} or "response" instead of "pred"'
    try:
        row = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        return f"{path}:{line}: not JSON ({error}); {expected}. Fix or remove the line"
    required = ({"gold", "solution"}, {"pred", "response"})
    if not isinstance(row, dict) or not all(names & row.keys() for names in required):
        seen = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        return f"{path}:{line}: has {seen:.80}; {expected}. Add the field"
    for name in _TEXT_FIELDS:
        if not isinstance(row.get(name), str | int | float | None):
            kind = type(row[name]).__name__
            return f"{path}:{line}: `{name}` is a {kind}; {expected}. Make it text"
    texts = {name: None if row.get(name) is None else str(row[name]) for name in _TEXT_FIELDS}
    equal = row.get("equal")
    return PairRow(
        line=line,
        gold=texts["gold"] or "",
        pred=texts["pred"],
        response=texts["response"],
        question=texts["question"] or "",
        equal=bool(equal) if equal is not None else None,
        choices=tuple(map(str, row.get("choices") or ())),
        is_contested=row.get("contested") is True,
        solution=texts["solution"],
    )


def grade_rows(file: PairFile, grader: Grader) -> GradedRows:
    """Return the grades of a file's rows."""
    grader.start_workers()
    started = time.perf_counter()
    grades: list[Grade] = []
    worst = 0.0
    for start in range(0, len(file.rows), BLOCK):
        block = file.rows[start : start + BLOCK]
        timed = grader.grade_pairs([pair_from_row(row, mode=grader.mode) for row in block])
        grades += [grade.grade for grade in timed]
        worst = max([worst, *(grade.seconds for grade in timed)])
    return GradedRows(grades, time.perf_counter() - started, worst)


def pair_from_row(row: PairRow, *, mode: str = "strict") -> PairItem:
    """Return the reference answer and the answer to compare, each extracted from its text."""
    context = AnswerContext(question=row.question, choices=row.choices)
    if mode == "math-verify":
        return PairItem(row.gold, row.pred if row.pred is not None else row.response, context)
    gold = _reference_answer(row.gold)
    if mode != "strict":
        return PairItem(gold, _compat_answer(row, mode), context)
    return PairItem(gold, _strict_answer(row, gold), context)


def _strict_answer(row: PairRow, gold: str) -> str | None:
    options = row.choices or (tuple(choice.LETTERS) if _LETTER.fullmatch(gold) else ())
    if row.pred is None:
        return extract(row.response or "", choices=options)
    if options:
        is_choice = bool(choice.parse_choice(row.pred).letters) and not is_prose(row.pred)
        return extract(row.pred, choices=() if is_choice else options) or row.pred
    if is_verbal(gold) and not is_prose(gold):
        return extract(row.pred, whole_line=True) or row.pred
    return extract_from_prose(row.pred)


def _compat_answer(row: PairRow, mode: str) -> str | None:
    if row.pred is not None and "boxed" not in row.pred:
        return row.pred
    return compat.extract_as(mode, row.response or row.pred or "") or None


def _reference_answer(text: str) -> str:
    """Return the reference answer; of a worked solution, the answer it ends with."""
    if "boxed" in text or "\n" in text.strip() or len(text) > 120:
        return extract_from_prose(text) or text
    return text


def summarize_grades(file: PairFile, graded: GradedRows, *, mode: str) -> dict[str, Any]:
    """Return the result of `slowthink grade` for these grades."""
    grades = graded.grades
    pairs = [(r, g) for r, g in zip(file.rows, grades, strict=True) if r.equal is not None]
    labelled = [(r, g) for r, g in pairs if not r.is_contested]
    decided = [(r, g) for r, g in labelled if g.verdict.is_counted]
    wrong = [(r, g) for r, g in decided if (g.verdict is Verdict.CORRECT) != r.equal]
    return {
        "mode": mode,
        "n": len(grades),
        "verdicts": dict(Counter(grade.verdict.value for grade in grades)),
        "methods": dict(Counter(grade.method.split(":")[0] for grade in grades)),
        "num_labelled": len(labelled),
        "num_contested": len(pairs) - len(labelled),
        "num_undecided": len(labelled) - len(decided),
        "agreement": 1 - len(wrong) / len(decided) if decided else None,
        "false_positives": [_shown(r, g) for r, g in wrong if g.verdict is Verdict.CORRECT],
        "false_negatives": [_shown(r, g) for r, g in wrong if g.verdict is not Verdict.CORRECT],
        "grades_per_second": len(grades) / graded.seconds if graded.seconds else None,
        "worst_seconds": graded.worst_seconds,
        "num_bad_rows": len(file.bad),
        "bad_rows": file.bad[:10],
    }


def _shown(row: PairRow, grade: Grade) -> dict[str, Any]:
    return {
        "line": row.line,
        "gold": row.gold,
        "pred": row.pred if row.pred is not None else (row.response or "")[-200:],
        "extracted": grade.extracted,
        "verdict": grade.verdict.value,
        "method": grade.method,
    }
