"""Problems of the sets that s1 and LIMO name, each read by its entry in the catalogue.

{kind: catalogue, name: agieval, path: mirrors/agieval}
meta: {"lineage": {"origin": "baber/agieval/sat_math/test", "revision": null,
                   "changes": ["options appended"]}}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink.data.catalogue import CatalogueSet, Other, Part, find_set
from slowthink.data.hub import HubSet, OpenSet, open_file, open_folder, open_set
from slowthink.data.problems import Columns, Origin, SourceRows, problem_of, read_problems
from slowthink.data.rows import BadRow, SourceRow
from slowthink.errors import ConfigError
from slowthink.recipe import CatalogueSource
from slowthink.records import Dropped, Problem
from slowthink.stages.pool.draw import Strata, hold_out, take
from slowthink.stages.pool.files import refuse_empty
from slowthink.stages.pool.prepare import PREPARE, PreparationContext
from slowthink.stages.pool.usable import check


@dataclass(frozen=True)
class _Reading:
    """One source and how it is read."""

    source: CatalogueSource
    entry: CatalogueSet
    seed: int
    setting: str

    def open(self, wanted: HubSet) -> OpenSet:
        """From the file or folder that the recipe names, else from the hub."""
        path = self.source.path
        if path is not None and Path(path).is_dir():
            return open_folder(path, wanted, setting=f"{self.setting}.path")
        if path is not None:
            return open_file(path, setting=f"{self.setting}.path")
        return open_set(wanted, setting=self.setting)

    def wanted(self, part: Part | Other, hub_id: str) -> HubSet:
        """The part on its hub; a revision asked for is the set's own, not another's."""
        own = hub_id == self.entry.hub_id
        return HubSet(
            hub_id=hub_id,
            config=part.config,
            split=part.split,
            revision=self.source.revision if own else None,
            files=part.files if isinstance(part, Part) else (),
            site=self.source.site,
        )


def catalogue_problems(source: CatalogueSource, *, seed: int, setting: str) -> SourceRows:
    """Problems of a set of the catalogue, with splits; rows that its rules leave out are told.

    Raises ConfigError for an unknown set and one that is on no hub, and DataError where it cannot
    be had or no row can be used.
    """
    entry = find_set(source.name, setting=f"{setting}.name").variant(source.variant)
    if entry.hub_id is None and source.path is None:
        raise ConfigError(
            f"{setting}: {entry.title} is on no hub that is known; expected a file of it. "
            f"Name one: --set {setting}.path=FILE"
        )
    reading = _Reading(source, entry, seed, setting)
    found, strata = SourceRows(), dict[str, tuple[str, ...]]()
    rule = _rule(reading)
    for part, opened in _opened(reading):
        _join(found, _part_rows(reading, part, opened, rule, strata))
    refuse_empty(found, entry.title, setting)
    groups: Strata | None = (lambda item: strata[item.address]) if entry.strata else None
    taken = take(found, source.max_problems or entry.max_problems, seed=seed, strata=groups)
    return hold_out(taken, source, seed=seed, setting=setting)


def _opened(reading: _Reading) -> Iterator[tuple[Part, OpenSet]]:
    """The set's parts; a single file stands for all of them."""
    entry, path = reading.entry, reading.source.path
    parts = entry.parts[:1] if path is not None and not Path(path).is_dir() else entry.parts
    for part in parts:
        yield part, reading.open(reading.wanted(part, entry.hub_id or entry.name))


def _join(found: SourceRows, more: SourceRows) -> None:
    found.items += more.items
    found.dropped += more.dropped
    found.num_rows += more.num_rows
    found.facts.setdefault("parts", []).append(more.facts)


# --- one part -------------------------------------------------------------------------------------

Rule = Callable[[Mapping[str, Any], Part], str | None]
"""Says why a row is left out; None: it is kept."""


def _part_rows(
    reading: _Reading, part: Part, opened: OpenSet, rule: Rule, strata: dict[str, tuple[str, ...]]
) -> SourceRows:
    place = "/".join(filter(None, (opened.name, part.config, part.split)))
    place = opened.name if "path" in opened.facts else place
    left: list[Dropped] = []
    rows = _kept(opened.rows, rule, part, place, left)
    convert = _converter(reading, place, opened.facts.get("revision"), strata)
    found = read_problems(rows, name=place, convert=convert)
    found.num_rows += len(left)
    found.dropped += left
    found.facts = opened.facts
    return found


def _kept(
    rows: Iterable[SourceRow | BadRow], rule: Rule, part: Part, place: str, left: list[Dropped]
) -> Iterator[SourceRow | BadRow]:
    """Rows that the set's rules keep; the others go to `left`."""
    for row in rows:
        reason = rule(row.values, part) if isinstance(row, SourceRow) else None
        if reason is None:
            yield row
        else:
            left.append(Dropped(id=f"{place}:{row.line}", step="rules", reason=reason))


def _converter(
    reading: _Reading, place: str, revision: str | None, strata: dict[str, tuple[str, ...]]
) -> Callable[[SourceRow], Problem]:
    entry, context = reading.entry, PreparationContext(reading.entry, reading.seed)
    columns = Columns(
        question=entry.question, answer=entry.answer, solution=entry.solution, domain=entry.domain
    )
    origin = Origin(
        name=entry.name,
        licence=entry.licence,
        language=entry.language,
        place=place,
        revision=revision,
    )

    def convert(row: SourceRow) -> Problem:
        values = dict(row.values)
        changes = [change for name in entry.prepare if (change := PREPARE[name](values, context))]
        problem = problem_of(SourceRow(row.line, values), columns, origin, changes=changes)
        check(problem)
        strata[f"{place}:{row.line}"] = tuple(str(values.get(name)) for name in entry.strata)
        return problem

    return convert


# --- rules ----------------------------------------------------------------------------------------


def _rule(reading: _Reading) -> Rule:
    """All rules of a set as one."""
    entry = reading.entry
    minus = _questions(reading, entry.minus)
    among = _questions(reading, entry.among)

    def rule(values: Mapping[str, Any], part: Part) -> str | None:
        question = values.get(entry.question)
        limits = {**entry.keep, **entry.only.get(part.config or "", {})}
        if reason := _by_columns(values, entry, limits):
            return reason
        if entry.minus and question in minus:
            return f"rule: it is in {entry.minus.config or entry.minus.hub_id}"
        free = entry.among and not _outside(values, entry.among.unless) and entry.among.unless
        if entry.among and not free and question not in among:
            return f"rule: it is not in {entry.among.hub_id}"
        return None

    return rule


def _by_columns(
    values: Mapping[str, Any], entry: CatalogueSet, keep: Mapping[str, Iterable[Any]]
) -> str | None:
    column = _outside(values, keep)
    if column is not None:
        return f"rule: `{column}` is {_named(values.get(column))}"
    for column, limit in entry.at_most.items():
        number = _whole(values.get(column))
        if number is None or number > limit:
            return f"rule: `{column}` is not at most {limit}"
    for column in entry.needs:
        if values.get(column) in (None, "", []):
            return f"rule: `{column}` is empty"
    return None


def _outside(values: Mapping[str, Any], keep: Mapping[str, Iterable[Any]]) -> str | None:
    """The first column whose value is not among those kept."""
    return next((name for name, kept in keep.items() if values.get(name) not in kept), None)


def _named(value: Any) -> str:
    return str(value)[:40] if isinstance(value, (str, int)) and str(value).isascii() else "another"


def _whole(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _questions(reading: _Reading, other: Other | None) -> frozenset[str]:
    """The questions of another set, exactly."""
    if other is None:
        return frozenset()
    source = reading.source
    if source.path is not None and not Path(source.path).is_dir():
        raise ConfigError(
            f"{reading.setting}.path: {source.path} is one file, and {reading.entry.title} needs "
            f"{other.config or other.hub_id} too; expected a folder with both. Put the copies "
            f"into one: --set {reading.setting}.path=FOLDER"
        )
    opened = reading.open(reading.wanted(other, other.hub_id))
    found = (row.values.get(other.column) for row in opened.rows if isinstance(row, SourceRow))
    return frozenset(question for question in found if isinstance(question, str))
