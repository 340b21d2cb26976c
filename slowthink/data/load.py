"""Loads published sets and benchmarks from the hub, a folder with a copy, or a file.

load_benchmark(BenchmarkConfig(name="math500", max_problems=100), seed=0,
               setting="evaluate.benchmarks.0").source["revision"]
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slowthink.data.convert import RowConverter
from slowthink.data.hub import HubSet, OpenedSet, open_file, open_folder, open_hub
from slowthink.data.problems import (
    Columns,
    LocatedProblem,
    SourceProblems,
    keep_first,
    read_problems,
    require_columns,
    require_problems,
    take_only,
)
from slowthink.data.registry import (
    Part,
    PublishedSet,
    find_benchmark,
    published_sets,
)
from slowthink.data.rows import BadRow, SourceRow
from slowthink.errors import ConfigError, did_you_mean
from slowthink.recipe import BenchmarkConfig
from slowthink.records import Dropped, Problem, item_seed


@dataclass(frozen=True, kw_only=True)
class ProblemSet:
    """Problems that are evaluated together: a benchmark, or held-out problems of a pool."""

    name: str
    """As in the registry, or the user's own."""
    problems: tuple[Problem, ...]
    """In the order of the rows."""
    dropped: tuple[Dropped, ...] = ()
    """Unreadable rows, equal questions, and problems that were not drawn."""
    domain: str | None = None
    """in or out (of the training data's domain), for the averages; None: in neither average."""
    instruction: str | None = None
    """Line after the question, unless the chat has one or the protocol forbids it."""
    source: dict[str, Any] = field(default_factory=dict)
    """Where the rows of a benchmark are from: `OpenedSet.facts`, num_rows, the registry's facts,
    and options_seed where options were shuffled."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkRows:
    """All rows of a benchmark as problems, before equal questions are dropped."""

    published: PublishedSet
    rows: SourceProblems


def open_published(
    published: PublishedSet,
    part: Part,
    *,
    setting: str,
    path: str | None = None,
    revision: str | None = None,
    site: str = "huggingface",
) -> OpenedSet:
    """Rows of one part of a set: of `path`, a file or a folder with a copy, else of the hub.

    Raises ConfigError where the set is not on a hub and there is no path, and as `open_hub`.
    """
    if published.hub_id is None and path is None:
        raise ConfigError(
            f"{setting}: {published.title} is not on a hub; expected a file of it "
            f"(see {published.origin}). Name one: --set {setting}.path=FILE"
        )
    hub_set = HubSet(
        hub_id=published.hub_id or published.name,
        config=part.config,
        split=part.split,
        revision=revision,
        files=part.files,
        site=site,
    )
    if path is None:
        return open_hub(hub_set, setting=setting)
    if Path(path).is_dir():
        return open_folder(path, hub_set, setting=f"{setting}.path")
    return open_file(path, setting=f"{setting}.path")


def load_benchmark(config: BenchmarkConfig, *, seed: int, setting: str) -> ProblemSet:
    """The benchmark's problems; `setting` is its recipe key, e.g. evaluate.benchmarks.0.

    Raises ConfigError where the name is unknown and there is no path, and DataError where the rows
    cannot be loaded, a column is missing, or no row can be used.
    """
    benchmark = read_benchmark(config, seed=seed, setting=setting)
    published, rows = benchmark.published, benchmark.rows
    kept, equal = keep_first(rows.items)
    items, not_drawn = _drawn(kept, config.max_problems, seed=seed, name=published.name)
    return ProblemSet(
        name=published.name,
        problems=tuple(item.problem for item in items),
        dropped=(*rows.dropped, *equal, *not_drawn),
        domain=config.domain or published.domain,
        instruction=published.instruction,
        source=rows.facts,
    )


def read_benchmark(config: BenchmarkConfig, *, seed: int, setting: str) -> BenchmarkRows:
    """All rows of the benchmark that can be read; raises as `load_benchmark`."""
    known = find_benchmark(config.name)
    if config.path is not None:
        opened = open_file(config.path, setting=f"{setting}.path")
    elif known is not None:
        opened = open_published(known, known.parts[0], revision=config.revision, setting=setting)
    else:
        raise _unknown(config.name, setting)
    opened = replace(opened, rows=list(opened.rows))
    published = known or PublishedSet(name=config.name, title=config.name, origin="")
    names = _column_names(opened)
    columns = _map_columns(config, published, names, opened, setting=setting)
    converter = RowConverter(published=published, columns=columns, seed=seed)
    rows = read_problems(opened.rows, name=opened.name, convert=converter.convert)
    require_problems(rows, opened.name, setting)
    rows.facts = opened.facts | {"num_rows": rows.num_rows} | (_facts(known) if known else {})
    if converter.shuffles(names):
        rows.facts["options_seed"] = seed
    return BenchmarkRows(published=published, rows=rows)


def _facts(published: PublishedSet) -> dict[str, Any]:
    return {
        "title": published.title,
        "num_published": published.num_problems,
        "grader": published.grader,
        "licence": published.licence,
    }


def _unknown(name: str, setting: str) -> ConfigError:
    names = published_sets("benchmark")
    return ConfigError(
        f"{setting}.name: `{name}` is not a known benchmark{did_you_mean(name, names)}; expected "
        f"one of {', '.join(names)}, or a file of your own. Name it: --set {setting}.path=FILE"
    )


# --- columns --------------------------------------------------------------------------------------


def _map_columns(
    config: BenchmarkConfig,
    published: PublishedSet,
    names: Collection[str],
    opened: OpenedSet,
    *,
    setting: str,
) -> Columns:
    """The columns that the recipe names, else the registry's where the rows have them, else the
    usual ones. Raises DataError where a needed one is in no row."""
    if not names:
        return Columns()

    def column(recipe: str | None, hub: str | None, usual: str) -> str:
        return recipe or (hub if hub and hub in names else usual)

    hub = published.columns
    question = column(config.question_field, hub.question, "question")
    answer = column(config.answer_field, hub.answer, "answer")
    solution = column(None, hub.solution, "solution")
    required = {"question_field": question, "choices_field": config.choices_field}
    if solution not in names and published.correct_option not in names:
        required["answer_field"] = answer
    in_meta = _meta_names(opened)
    required = {key: name for key, name in required.items() if name not in in_meta}
    require_columns(required, names, opened.name, setting)
    return Columns(
        question=question, answer=answer, solution=solution, choices=config.choices_field
    )


def _column_names(opened: OpenedSet) -> Sequence[str]:
    """Columns of all readable rows, in order of appearance."""
    rows = [row.values for row in opened.rows if isinstance(row, SourceRow)]
    return tuple(dict.fromkeys(name for values in rows for name in values))


def _meta_names(opened: OpenedSet) -> set[str]:
    """Keys of the rows' `meta` objects."""
    metas = [row.values.get("meta") for row in opened.rows if not isinstance(row, BadRow)]
    return {str(key) for meta in metas if isinstance(meta, dict) for key in meta}


# --- which problems -------------------------------------------------------------------------------


def _drawn(
    items: list[LocatedProblem], limit: int | None, *, seed: int, name: str
) -> tuple[list[LocatedProblem], list[Dropped]]:
    """At most `limit` problems, drawn by seed and problem, in the order of the rows; the others."""
    if limit is None or len(items) <= limit:
        return items, []
    ranked = sorted(items, key=lambda item: item_seed(seed, "benchmark", name, item.problem.id))
    return take_only(items, ranked[:limit])
