"""Problems of files and hub sets: columns are mapped, unusable rows are dropped with a reason.

gsm8k.jsonl:812, step read: `answer` is a list; expected a string
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slowthink.data.hub import HubSet, OpenedSet, open_file, open_folder, open_hub
from slowthink.data.problems import (
    Columns,
    Origin,
    SourceProblems,
    make_problem,
    read_problems,
    require_columns,
    require_problems,
)
from slowthink.data.rows import SourceRow, UnusableValue
from slowthink.recipe import FileSource, HubSource
from slowthink.recipe.sources import MappedSource
from slowthink.records import Problem
from slowthink.stages.pool.draw import hold_out, take
from slowthink.stages.pool.usable import check_usable


def file_problems(source: FileSource, *, seed: int, setting: str) -> SourceProblems:
    """Problems of a file, with their splits; `setting` is the source's recipe key, for messages.

    Raises DataError where the file or a named column is missing, or no row can be used.
    """
    opened = open_file(source.path, setting=f"{setting}.path")
    origin = Origin(
        name=source.name or Path(source.path).stem,
        licence=source.licence,
        language=source.language,
    )
    return _problems(source, opened, origin, seed=seed, setting=setting)


def hub_problems(source: HubSource, *, seed: int, setting: str) -> SourceProblems:
    """Problems of a hub set, or of a copy of it in a folder; raises as `file_problems`."""
    hub_set = HubSet(
        hub_id=source.hub_id,
        config=source.hub_config,
        split=source.hub_split,
        revision=source.revision,
        site=source.site,
    )
    if source.mirror is not None:
        opened = open_folder(source.mirror, hub_set, setting=f"{setting}.mirror")
    else:
        opened = open_hub(hub_set, setting=setting)
    origin = Origin(
        name=source.name or source.hub_id,
        licence=source.licence,
        language=source.language,
        location=source.hub_id,
        revision=opened.facts["revision"],
    )
    return _problems(source, opened, origin, seed=seed, setting=setting)


def _problems(
    source: MappedSource, opened: OpenedSet, origin: Origin, *, seed: int, setting: str
) -> SourceProblems:
    problems = read_problems(opened.rows, name=opened.name, convert=_converter(source, origin))
    problems.facts = opened.facts
    location = str(opened.facts.get("path", opened.name))
    required = {
        "question_field": source.question_field,
        "choices_field": source.choices_field,
        "domain_field": source.domain_field,
    }
    if source.solution_field not in problems.columns:
        required["answer_field"] = source.answer_field
    require_columns(required, problems.columns, location, setting)
    require_problems(problems, location, setting)
    drawn = take(problems, source.max_problems, seed=seed)
    return hold_out(drawn, source, seed=seed, setting=setting)


def _converter(source: MappedSource, origin: Origin) -> Callable[[SourceRow], Problem]:
    """Converts a row to a problem; raises UnusableValue for the second row of an id."""
    columns = Columns(
        question=source.question_field,
        answer=source.answer_field,
        solution=source.solution_field,
        choices=source.choices_field,
        domain=source.domain_field,
    )
    lines: dict[str, int] = {}
    """Line of the first row of each id."""

    def convert(row: SourceRow) -> Problem:
        problem = make_problem(row, columns, origin)
        check_usable(problem)
        row_id = row.values.get("id")
        if row_id is not None and lines.setdefault(str(row_id), row.line) != row.line:
            raise UnusableValue("duplicate `id`")
        return problem

    return convert
