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
from slowthink.grading.extract import extract, extract_from_prose, extract_stated
from slowthink.grading.grader import Grader, PairItem
from slowthink.grading.keys import read_key
from slowthink.grading.reference import compat
from slowthink.grading.sentences import is_prose, is_verbal
from slowthink.records import Grade, Verdict

ROWS_PER_BATCH = 2_000
"""Rows per call of the grader."""
_TEXT_FIELDS = ("gold", "pred", "response", "question", "solution")
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


def grade_file(path: str | Path, *, mode: str = "strict", num_workers: int = 1) -> dict[str, Any]:
    """Return the result of `slowthink grade`: n, verdicts, agreement, disagreements, speed.

    `agreement` is over rows that have `equal`, are not `contested` and whose verdict counts; None
    if there are none. `num_bad_rows` counts unusable rows, `bad_rows` has the first ten errors.
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
            for line_number, text in enumerate(lines, start=1):
                row = _parse_row(path, line_number, text) if text.strip() else None
                if isinstance(row, PairRow):
                    file.rows.append(row)
                elif row is not None:
                    file.errors.append(row)
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}; expected a JSONL file. Check the path."
        ) from error
    if not file.rows:
        reason = next(iter(file.errors), f"{path}: no rows; expected one JSON object per line")
        raise DataError(f"{reason}. Nothing was graded; fix the file.")
    return file


def _parse_row(path: Path, line_number: int, text: str) -> PairRow | str:
    """Return the row, or the error message for an unusable line."""
    expected = 'expected {"gold": "…", "pred": "…"} or "response" instead of "pred"'
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"{path}:{line_number}: not JSON ({error}); {expected}. Fix or remove the line"
    required = ({"gold", "solution"}, {"pred", "response"})
    if not isinstance(row, dict) or not all(names & row.keys() for names in required):
        observed = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        return f"{path}:{line_number}: has {observed:.80}; {expected}. Add the field"
    for name in _TEXT_FIELDS:
        if not isinstance(row.get(name), str | int | float | None):
            type_name = type(row[name]).__name__
            return f"{path}:{line_number}: `{name}` is a {type_name}; {expected}. Make it text"
    texts = {name: None if row.get(name) is None else str(row[name]) for name in _TEXT_FIELDS}
    equal = row.get("equal")
    return PairRow(
        line_number=line_number,
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
