"""Problems of files and Hub datasets: columns are mapped, unusable rows are dropped with a reason.

gsm8k.jsonl:812, step read: `answer` is a list; expected a string
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from slowthink.data.hub import HubDataset, OpenedDataset, open_file, open_folder, open_hub
from slowthink.data.problems import (
    Columns,
    Origin,
    SourceProblems,
    guess_columns,
    make_problem,
    peek_columns,
    read_problems,
    require_columns,
    require_problems,
)
from slowthink.data.rows import BadRow, SourceRow, UnusableValue, estimate_rows
from slowthink.recipe import FileSource, HubSource
from slowthink.recipe.sources import MappedSource
from slowthink.records import Problem
from slowthink.stages.pool.draw import hold_out, sample_problems
from slowthink.stages.pool.usable import check_usable

PROGRESS_LINES = 1_000
"""Lines of a file between two reports of progress."""


def file_problems(
    source: FileSource,
    *,
    seed: int,
    setting: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SourceProblems:
    """Problems of a file, with their splits; `setting` is the source's recipe key, for messages.

    Raises DataError if the file or a named column is missing, or no row can be used.
    """
    opened = open_file(source.path, setting=f"{setting}.path")
    opened = replace(opened, rows=_report_lines(source.path, opened.rows, progress, setting))
    origin = Origin(
        name=source.name or Path(source.path).stem, licence=source.licence, language=source.language
    )
    return _mapped_problems(source, opened, origin, seed=seed, setting=setting)


def _report_lines(
    path: str,
    rows: Iterable[SourceRow | BadRow],
    progress: Callable[[int, int], None],
    setting: str,
) -> Iterator[SourceRow | BadRow]:
    """The rows, with a report of progress at every PROGRESS_LINES lines."""
    num_lines = 0
    for number, row in enumerate(rows):
        if number % PROGRESS_LINES == 0:
            num_lines = num_lines or estimate_rows(path, setting=setting)
            progress(min(row.line, num_lines), num_lines)
        yield row
    progress(num_lines, num_lines)


def hub_problems(source: HubSource, *, seed: int, setting: str) -> SourceProblems:
    """Problems of a Hub dataset, or of its copy in a folder; raises as `file_problems`."""
    dataset = HubDataset(
        hub_id=source.hub_id,
        config=source.hub_config,
        split=source.hub_split,
        revision=source.revision,
        site=source.site,
    )
    if source.mirror is not None:
        opened = open_folder(source.mirror, dataset, setting=f"{setting}.mirror")
    else:
        opened = open_hub(dataset, setting=setting)
    origin = Origin(
        name=source.name or source.hub_id,
        licence=source.licence,
        language=source.language,
        dataset_id=source.hub_id,
        revision=opened.facts["revision"],
    )
    return _mapped_problems(source, opened, origin, seed=seed, setting=setting)


def _mapped_problems(
    source: MappedSource, opened: OpenedDataset, origin: Origin, *, seed: int, setting: str
) -> SourceProblems:
    names, rows = peek_columns(opened.rows)
    columns, guessed = guess_columns(_named_columns(source), names)
    problems = read_problems(rows, name=opened.name, convert=_make_converter(columns, origin))
    problems.facts = opened.facts | ({"guessed_columns": guessed} if guessed else {})
    location = str(opened.facts.get("path", opened.name))
    required = {
        "question_field": columns.question,
        "choices_field": columns.choices,
        "domain_field": columns.domain,
    }
    if columns.solution not in problems.columns:
        required["answer_field"] = columns.answer
    require_columns(required, problems.columns, location, setting)
    require_problems(problems, location, setting)
    sampled = sample_problems(problems, source.max_problems, seed=seed)
    return hold_out(sampled, source, seed=seed, setting=setting)


def _named_columns(source: MappedSource) -> Columns:
    return Columns(
        question=source.question_field,
        answer=source.answer_field,
        solution=source.solution_field,
        choices=source.choices_field,
        domain=source.domain_field,
    )


def _make_converter(columns: Columns, origin: Origin) -> Callable[[SourceRow], Problem]:
    """A converter that raises UnusableValue for a row whose id an earlier row has."""
    first_lines: dict[str, int] = {}
    """By id."""

    def convert(row: SourceRow) -> Problem:
        problem = make_problem(row, columns, origin)
        check_usable(problem)
        row_id = row.values.get("id")
        if row_id is not None and first_lines.setdefault(str(row_id), row.line) != row.line:
            raise UnusableValue("duplicate `id`")
        return problem

    return convert
