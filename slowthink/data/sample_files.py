"""A user's file of samples as graded rows: pass@k and comparisons need nothing else.

One row: {"problem_id": "p-9b…", "verdict": "correct", "answer": "42"}. Samples of other tools
(lm-eval, inspect, NeMo-Skills, rows of question, answer and response) and pairs of answers are
graded; of a file that has `verdict` (as `slowthink grade --out` writes it), or `correct` and
nothing to grade, the labels are used as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slowthink.data.column_names import guess_column
from slowthink.data.pair_files import pairs_in
from slowthink.data.rows import BadRow, SourceRow, UnusableValue
from slowthink.data.stored.columns import CORRECT, MODEL, first_value, parse_label
from slowthink.data.stored.formats import detect_format
from slowthink.data.stored.grading import grade_stored, stored_problems
from slowthink.data.stored.read import stored_from_rows
from slowthink.data.user_files import UserFile, read_user_file
from slowthink.errors import ConfigError, DataError
from slowthink.grading import Grader
from slowthink.grading.files import grade_rows
from slowthink.records import Verdict, problem_id

VERDICTS = frozenset(verdict.value for verdict in Verdict)


@dataclass
class GradedSamples:
    """The graded samples of a file."""

    table: UserFile
    rows: list[dict[str, Any]] = field(default_factory=list)
    """`problem_id`, `verdict` and `answer` (the extracted one; None: no answer) of each sample."""
    names: dict[str, str] = field(default_factory=dict)
    """The user's own id of each problem, or the start of its question, by `problem_id`."""
    labels: str | None = None
    """The column whose labels were used; None: the samples were graded."""
    models: list[str] = field(default_factory=list)


def read_samples(
    path: str | Path, grader: Grader, *, model: str | None = None, last_number: bool = False
) -> GradedSamples:
    """The samples of a file, of one model if it has several; see the module for what is graded.

    Raises ConfigError if the file has samples of several models and none, or another, is named, and
    DataError if no row can be used.
    """
    table = read_user_file(path)
    samples = GradedSamples(table)
    table.rows = _rows_of_model(samples, model)
    labels = _label_column(table)
    if labels is not None:
        samples.labels = labels
        _add_labelled(samples, labels)
    elif any(detect_format(row.values) for row in table.rows):
        _add_stored(samples, grader, last_number=last_number)
    else:
        _add_pairs(samples, grader)
    if not samples.rows:
        first = min(table.bad_rows, key=lambda row: row.line)
        raise DataError(
            f"{table.name}:{first.line}: {first.reason}; expected samples: rows of question, "
            "answer and response, or of id and `correct`. Add the column, or rename it."
        )
    return samples


def _rows_of_model(samples: GradedSamples, model: str | None) -> list[SourceRow]:
    rows = samples.table.rows
    names = {row.line: first_value(row.values, MODEL) for row in rows}
    samples.models = list(dict.fromkeys(str(name) for name in names.values() if name is not None))
    if model is None and len(samples.models) < 2:
        return rows
    if model not in samples.models:
        asked = "several models" if model is None else f"no model `{model}`"
        raise ConfigError(
            f"{samples.table.name}: {asked}; expected one of "
            f"{', '.join(samples.models) or 'none'}. Name it: --model NAME, or in a comparison "
            "--arm-a NAME --arm-b NAME"
        )
    return [row for row in rows if str(names[row.line]) == model]


def _label_column(table: UserFile) -> str | None:
    """The column of labels to use: verdicts, or truth values where there is nothing to grade."""
    values = [row.values.get("verdict") for row in table.rows]
    if any(value in VERDICTS for value in values if isinstance(value, str)):
        return "verdict"
    gradable = any(table.column(role) for role in ("response", "responses", "pred"))
    gradable = gradable or any(detect_format(row.values) for row in table.rows[:100])
    table.guessed.clear()
    return None if gradable else next((name for name in CORRECT if name in table.columns), None)


def _add_labelled(samples: GradedSamples, column: str) -> None:
    table = samples.table
    answer = next((name for name in ("extracted", "pred") if name in table.columns), None)
    question, row_id = table.column("question"), table.column("id")
    table.guessed.clear()
    for row in table.rows:
        try:
            verdict = _verdict(row.values.get(column), column)
            key = next(
                (row.values[name] for name in (question, row_id) if name and row.values.get(name)),
                None,
            )
            if key is None:
                raise UnusableValue("has neither a question nor an id")
        except UnusableValue as error:
            table.mark_bad(row, str(error))
            continue
        text = None if answer is None else row.values.get(answer)
        _add(samples, row, str(key), verdict, None if text is None else str(text))


def _verdict(value: Any, column: str) -> Verdict:
    if isinstance(value, str) and value in VERDICTS:
        return Verdict(value)
    label = parse_label(value)
    if label is None:
        raise UnusableValue(f"`{column}` is {value!r:.40}; expected true or false, or a verdict")
    return Verdict.CORRECT if label else Verdict.WRONG


def _add_stored(samples: GradedSamples, grader: Grader, *, last_number: bool) -> None:
    table = samples.table
    lines = {row.line: row for row in table.rows}
    stored = stored_from_rows(table.rows, name=table.name)
    for drop in stored.dropped:
        line = int(drop.id.rpartition(":")[2])
        table.bad_rows.append(BadRow(line, drop.reason, drop.evidence))
    if not stored.samples:
        return
    if stored.format in ("generic", "nemo-skills"):
        for role in ("question", "answer", "response"):
            table.column(role)  # records a name that is not the default
    graded, _, _ = grade_stored(
        stored, stored_problems(stored, benchmark=table.name), arm="samples",
        benchmark=table.name, protocol="stored", grader=grader, count_tokens=len,
        last_number=last_number,
    )  # fmt: skip
    for sample, row in zip(stored.samples, graded, strict=True):
        line = int(sample.location.rpartition(":")[2].partition("#")[0])
        own = lines[line].values.get("id", sample.problem_row)
        samples.names.setdefault(row.problem_id, str(own))
        samples.rows.append(
            {"problem_id": row.problem_id, "verdict": row.verdict.value, "answer": row.extracted}
        )


def _add_pairs(samples: GradedSamples, grader: Grader) -> None:
    try:
        source = pairs_in(samples.table)
    except DataError:  # each row is marked as bad
        return
    grades = grade_rows(source.pairs, grader).grades
    for row, pair, grade in zip(source.lines, source.pairs.rows, grades, strict=True):
        key = pair.question or _own_id(row.values) or pair.gold
        _add(samples, row, key, grade.verdict, grade.extracted)


def _add(
    samples: GradedSamples, row: SourceRow, key: str, verdict: Verdict, answer: str | None
) -> None:
    problem = problem_id(key)
    samples.names.setdefault(problem, _own_id(row.values) or key[:80])
    samples.rows.append({"problem_id": problem, "verdict": verdict.value, "answer": answer})


def _own_id(values: Mapping[str, Any]) -> str | None:
    name = guess_column(values, "id")
    return None if name is None or values[name] is None else str(values[name])
