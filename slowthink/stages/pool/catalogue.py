"""Problems of the published datasets that s1 and LIMO used, read by the registry's rules.

{kind: catalogue, name: agieval, path: mirrors/agieval}
meta: {"lineage": {"origin": "baber/agieval/sat_math/test", "revision": null,
                   "changes": ["options appended"]}}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slowthink.data.hub import OpenedDataset
from slowthink.data.load import open_published
from slowthink.data.preparation import PREPARE
from slowthink.data.problems import (
    Origin,
    SourceProblems,
    make_problem,
    read_problems,
    require_problems,
)
from slowthink.data.registry import Part, PublishedDataset, find_pool_dataset, published_datasets
from slowthink.data.rows import BadRow, SourceRow
from slowthink.errors import ConfigError
from slowthink.recipe import CatalogueSource
from slowthink.records import Dropped, Problem
from slowthink.stages.pool.draw import hold_out, sample_problems
from slowthink.stages.pool.usable import check_usable

Rule = Callable[[Mapping[str, Any]], str | None]
"""Returns why a row is dropped; None keeps it."""


def catalogue_problems(source: CatalogueSource, *, seed: int, setting: str) -> SourceProblems:
    """Problems of a published dataset, with their splits; rows against its rules are dropped.

    Raises ConfigError for an unknown dataset or one that is not on a hub, and DataError if it
    cannot be loaded or no row can be used.
    """
    published = find_pool_dataset(source.name, setting=f"{setting}.name").variant(source.variant)
    reader = CatalogueReader(source, published, seed, setting)
    problems = SourceProblems()
    for part in published.parts[:1] if reader.is_file else published.parts:
        part_problems = reader.read(part)
        problems.items += part_problems.items
        problems.dropped += part_problems.dropped
        problems.num_rows += part_problems.num_rows
        problems.facts.setdefault("parts", []).append(part_problems.facts)
    require_problems(problems, published.title, setting)
    limit = source.max_problems or published.max_problems
    strata = (lambda item: reader.strata[item.location]) if published.strata else None
    sampled = sample_problems(problems, limit, seed=seed, strata=strata)
    return hold_out(sampled, source, seed=seed, setting=setting)


@dataclass
class CatalogueReader:
    """Reads one source by its dataset's rules."""

    source: CatalogueSource
    published: PublishedDataset
    seed: int
    setting: str
    strata: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Values of the dataset's strata columns, by location."""

    @property
    def is_file(self) -> bool:
        """Whether the rows of all parts are in a single file."""
        path = self.source.path
        return path is not None and not Path(path).is_dir()

    def read(self, part: Part) -> SourceProblems:
        """Problems of one part, and its dropped rows."""
        opened = self._open(self.published, part)
        name = opened.name
        if "path" not in opened.facts:
            name = "/".join(filter(None, (opened.name, part.config, part.split)))
        dropped: list[Dropped] = []
        rows = self._apply_rules(opened.rows, part, name, dropped)
        convert = self._make_converter(name, opened.facts.get("revision"))
        problems = read_problems(rows, name=name, convert=convert)
        problems.num_rows += len(dropped)
        problems.dropped += dropped
        problems.facts = opened.facts
        return problems

    def _open(self, published: PublishedDataset, part: Part) -> OpenedDataset:
        """Open a part; the requested revision is that of the source's own dataset only."""
        same_hub = published.hub_id == self.published.hub_id
        return open_published(
            published, part, setting=self.setting, path=self.source.path, site=self.source.site,
            revision=self.source.revision if same_hub else None,
        )  # fmt: skip

    def _apply_rules(
        self, rows: Iterable[SourceRow | BadRow], part: Part, name: str, dropped: list[Dropped]
    ) -> Iterator[SourceRow | BadRow]:
        """Rows that the dataset's rules keep; the others are added to `dropped`."""
        rule = self._combined_rule(part)
        for row in rows:
            reason = rule(row.values) if isinstance(row, SourceRow) else None
            if reason is None:
                yield row
            else:
                dropped.append(Dropped(id=f"{name}:{row.line}", step="rules", reason=reason))

    def _make_converter(self, name: str, revision: str | None) -> Callable[[SourceRow], Problem]:
        published = self.published
        origin = Origin(
            name=published.name,
            licence=published.licence,
            language=published.language,
            dataset_id=name,
            revision=revision,
        )

        def convert(row: SourceRow) -> Problem:
            values = dict(row.values)
            applied = (PREPARE[step](values, published, self.seed) for step in published.prepare)
            changes = tuple(change for change in applied if change)
            prepared = SourceRow(row.line, values)
            problem = make_problem(prepared, published.columns, origin, changes=changes)
            check_usable(problem)
            strata = tuple(str(values.get(column)) for column in published.strata)
            self.strata[f"{name}:{row.line}"] = strata
            return problem

        return convert

    def _combined_rule(self, part: Part) -> Rule:
        """All rules of the dataset, for the rows of a part."""
        published = self.published
        keep = {**published.keep, **published.keep_by_config.get(part.config or "", {})}
        excluded = self._questions_in(published.excludes)
        allowed = self._questions_in(published.restricted_to)

        def rule(values: Mapping[str, Any]) -> str | None:
            question = values.get(published.columns.question)
            question = question if isinstance(question, str) else None
            if reason := _broken_column_rule(values, published, keep):
                return reason
            if published.excludes and question in excluded:
                return f"rule: it is in {_short_name(published.excludes)}"
            if published.restricted_to and question not in allowed:
                exempt = published.unrestricted and not _disallowed_column(
                    values, published.unrestricted
                )
                other = published_datasets()[published.restricted_to]
                return None if exempt else f"rule: it is not in {other.hub_id}"
            return None

        return rule

    def _questions_in(self, name: str | None) -> frozenset[str]:
        """The exact questions of another dataset; none for None."""
        if name is None:
            return frozenset()
        if self.is_file:
            raise ConfigError(
                f"{self.setting}.path: {self.source.path} is one file, and {self.published.title} "
                f"needs {_short_name(name)} too; expected a folder with both. Put the copies into "
                f"one: --set {self.setting}.path=FOLDER"
            )
        other = published_datasets()[name]
        rows = self._open(other, other.parts[0]).rows
        column = other.columns.question
        values = [row.values.get(column) for row in rows if isinstance(row, SourceRow)]
        return frozenset(question for question in values if isinstance(question, str))


def _short_name(name: str) -> str | None:
    published = published_datasets()[name]
    return published.parts[0].config or published.hub_id


def _broken_column_rule(
    values: Mapping[str, Any], published: PublishedDataset, keep: Mapping[str, Iterable[Any]]
) -> str | None:
    column = _disallowed_column(values, keep)
    if column is not None:
        return f"rule: `{column}` is {_short_value(values.get(column))}"
    for column, limit in published.at_most.items():
        value = _as_int(values.get(column))
        if value is None or value > limit:
            return f"rule: `{column}` is not at most {limit}"
    for column in published.required:
        if values.get(column) in (None, "", []):
            return f"rule: `{column}` is empty"
    return None


def _disallowed_column(values: Mapping[str, Any], keep: Mapping[str, Iterable[Any]]) -> str | None:
    """The first column whose value is not among those allowed."""
    return next((name for name, allowed in keep.items() if values.get(name) not in allowed), None)


def _short_value(value: Any) -> str:
    return str(value)[:40] if isinstance(value, (str, int)) and str(value).isascii() else "another"


def _as_int(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None
