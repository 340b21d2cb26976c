"""Grade a file of pairs: verdicts, agreement with the rows' labels, speed.

One real row: {"gold": "1/2", "pred": "0.5", "equal": true}; or with "response", a whole text that
holds an answer, in place of "pred"; a row without a key may have a "solution", for a judge.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
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


@dataclass(frozen=True, slots=True)
class PairRow:
    """One row of a file."""

    line: int
    gold: str
    pred: str | None
    response: str | None = None
    question: str = ""
    equal: bool | None = None
    choices: tuple[str, ...] = ()
    is_contested: bool = False
    """Sources disagree about the label: it is left out of the agreement."""
    solution: str | None = None


def grade_file(path: str | Path, *, mode: str = "strict", num_workers: int = 1) -> dict[str, Any]:
    """The result of `slowthink grade`: n, verdicts, agreement, the rows that disagree, speed.

    `agreement` is over rows with `equal` that are not `contested` and have a verdict that counts;
    None without one. A row that cannot be read is set aside and counted in `num_bad_rows`, the
    first ten with their reason. Raises DataError where no row can be used.
    """
    rows = read_pairs(path)
    with Grader(mode, num_workers=num_workers) as grader:
        return summarize_grades(rows, grade_rows(rows, grader), mode=mode)


@dataclass(frozen=True, slots=True)
class PairFile:
    """A file's rows, and what is wrong with those that cannot be used."""

    rows: list[PairRow]
    bad: list[str]


def read_pairs(path: str | Path) -> PairFile:
    """The rows of a file. Raises DataError where none can be used."""
    path = Path(path)
    rows, bad = _read_rows(path)
    if not rows:
        what = bad[0] if bad else f"{path}: no rows; expected one JSON object a line"
        raise DataError(f"{what}. Nothing was graded; mend the file.")
    return PairFile(rows, bad)


def _read_rows(path: Path) -> tuple[list[PairRow], list[str]]:
    rows: list[PairRow] = []
    bad: list[str] = []
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                row = _read_row(path, line, text)
                if isinstance(row, PairRow):
                    rows.append(row)
                else:
                    bad.append(row)
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}; expected a JSONL file. Check the path."
        ) from error
    return rows, bad


def _read_row(path: Path, line: int, text: str) -> PairRow | str:
    """The row, or what is wrong with it."""
    expected = 'expected {"gold": "…", "pred": "…"} or "response" in place of "pred"'
    try:
        row = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        return f"{path}:{line}: not JSON ({error}); {expected}. Mend or drop the line"
    needed = ({"gold", "solution"}, {"pred", "response"})
    if not isinstance(row, dict) or not all(names & row.keys() for names in needed):
        seen = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        return f"{path}:{line}: has {seen:.80}; {expected}. Add the field"
    for name in ("gold", "pred", "response", "question", "solution"):
        if not isinstance(row.get(name), str | int | float | None):
            return (
                f"{path}:{line}: `{name}` is a {type(row[name]).__name__}; {expected}. Make it text"
            )
    equal = row.get("equal")
    return PairRow(
        line=line,
        gold=_text(row.get("gold")) or "",
        pred=_text(row.get("pred")),
        response=_text(row.get("response")),
        question=_text(row.get("question")) or "",
        equal=bool(equal) if equal is not None else None,
        choices=tuple(map(str, row.get("choices") or ())),
        is_contested=row.get("contested") is True,
        solution=_text(row.get("solution")),
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


@dataclass(frozen=True, slots=True)
class GradedRows:
    """A grade a row; seconds in all, starting workers left out; and the longest wait for one."""

    grades: list[Grade]
    seconds: float
    worst_seconds: float


def grade_rows(rows: PairFile, grader: Grader) -> GradedRows:
    """Grade the rows of a file."""
    grades: list[Grade] = []
    grader.start_workers()
    started = time.perf_counter()
    worst = 0.0
    for block in _blocks(rows.rows):
        pairs = [pair_from_row(row, mode=grader.mode) for row in block]
        found = grader.grade_pairs(pairs)
        grades.extend(one.grade for one in found)
        worst = max([worst, *(one.seconds for one in found)])
    return GradedRows(grades, time.perf_counter() - started, worst)


def _blocks(rows: list[PairRow]) -> Iterator[list[PairRow]]:
    for start in range(0, len(rows), BLOCK):
        yield rows[start : start + BLOCK]


def pair_from_row(row: PairRow, *, mode: str = "strict") -> PairItem:
    """What is compared for a row: key and answer, each taken out of a text around it if need be."""
    context = AnswerContext(question=row.question, choices=row.choices)
    if mode == "math-verify":
        return PairItem(row.gold, row.pred if row.pred is not None else row.response, context)
    gold = _gold_of(row.gold)
    if mode != "strict":
        return PairItem(gold, _compat_answer(row, mode), context)
    options = row.choices or (tuple(choice.LETTERS) if _is_letter(gold) else ())
    if row.pred is None:
        return PairItem(gold, extract(row.response or "", choices=options), context)
    if options:
        is_pick = bool(choice.parse_choice(row.pred).letters) and not is_prose(row.pred)
        found = extract(row.pred, choices=() if is_pick else options)
        return PairItem(gold, found or row.pred, context)
    if is_verbal(gold) and not is_prose(gold):
        return PairItem(gold, extract(row.pred, whole_line=True) or row.pred, context)
    return PairItem(gold, extract_from_prose(row.pred), context)


def _compat_answer(row: PairRow, mode: str) -> str | None:
    if row.pred is not None and "boxed" not in row.pred:
        return row.pred
    return compat.extract_as(mode, row.response or row.pred or "") or None


def _gold_of(text: str) -> str:
    """A key that is a worked solution: its box, or what it ends on."""
    if "boxed" in text or "\n" in text.strip() or len(text) > 120:
        return extract_from_prose(text) or text
    return text


def _is_letter(gold: str) -> bool:
    return re.fullmatch(r"[\s({$]*[A-J][\s)}$.]*", gold) is not None


def summarize_grades(rows: PairFile, graded: GradedRows, *, mode: str) -> dict[str, Any]:
    """What `slowthink grade` prints."""
    grades = graded.grades
    pairs = [(r, g) for r, g in zip(rows.rows, grades, strict=True) if r.equal is not None]
    labelled = [(r, g) for r, g in pairs if not r.is_contested]
    judged = [(r, g) for r, g in labelled if g.verdict.counts]
    wrong = [(r, g) for r, g in judged if (g.verdict is Verdict.CORRECT) != r.equal]
    return {
        "mode": mode,
        "n": len(grades),
        "verdicts": dict(Counter(grade.verdict.value for grade in grades)),
        "methods": dict(Counter(grade.method.split(":")[0] for grade in grades)),
        "num_labelled": len(labelled),
        "num_contested": len(pairs) - len(labelled),
        "num_undecided": len(labelled) - len(judged),
        "agreement": 1 - len(wrong) / len(judged) if judged else None,
        "false_positives": [_shown(r, g) for r, g in wrong if g.verdict is Verdict.CORRECT],
        "false_negatives": [_shown(r, g) for r, g in wrong if g.verdict is not Verdict.CORRECT],
        "grades_per_second": len(grades) / graded.seconds if graded.seconds else None,
        "worst_seconds": graded.worst_seconds,
        "num_bad_rows": len(rows.bad),
        "bad_rows": rows.bad[:10],
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
