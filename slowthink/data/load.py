"""Loads published datasets and benchmarks from the hub, a folder with a copy, or a file.

load_benchmark(BenchmarkConfig(name="math500", max_problems=100), seed=0,
               setting="evaluate.benchmarks.0").source["revision"]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slowthink.data.convert import RowConverter
from slowthink.data.hub import HubDataset, OpenedDataset, open_file, open_folder, open_hub
from slowthink.data.problems import (
    Columns,
    SourceProblems,
    guess_columns,
    keep_chosen,
    keep_first,
    read_problems,
    require_columns,
    require_problems,
    shuffle_problems,
)
from slowthink.data.registry import Part, PublishedDataset, find_benchmark, published_datasets
from slowthink.data.rows import BadRow, SourceRow
from slowthink.errors import ConfigError, did_you_mean
from slowthink.recipe import BenchmarkConfig
from slowthink.records import Dropped, Problem


@dataclass(frozen=True, kw_only=True)
class ProblemSet:
    """Problems that are evaluated together: a benchmark, or held-out problems of a pool."""

    name: str
    """As in the registry, or the user's own."""
    problems: tuple[Problem, ...]
    """In the order of the rows."""
    dropped: tuple[Dropped, ...] = ()
    """Unreadable rows, equal questions, and problems that were not sampled."""
    domain: str | None = None
    """in or out (of the training data's domain), for the averages; None: in neither average."""
    instruction: str | None = None
    """Line after the question, unless the chat has one or the protocol forbids it."""
    source: dict[str, Any] = field(default_factory=dict)
    """Of a benchmark: `OpenedDataset.facts`, num_rows, the registry's facts, and options_seed if
    options were shuffled."""


def open_published(
    published: PublishedDataset,
    part: Part,
    *,
    setting: str,
    path: str | None = None,
    revision: str | None = None,
    site: str = "huggingface",
) -> OpenedDataset:
    """Rows of one part of a dataset: of `path`, a file or a folder with a copy, else of the hub.

    Raises ConfigError if the dataset is not on a hub and there is no path, and as `open_hub`.
    """
    if path is None:
        _require_hub_id(published, setting)
    dataset = hub_dataset(published, part, revision=revision, site=site)
    if path is None:
        return open_hub(dataset, setting=setting)
    if Path(path).is_dir():
        return open_folder(path, dataset, setting=f"{setting}.path")
    return open_file(path, setting=f"{setting}.path")


def hub_dataset(
    published: PublishedDataset, part: Part, *, revision: str | None, site: str = "huggingface"
) -> HubDataset:
    """Where one part of a published dataset is on a hub; without an id there, under its name."""
    hub_id = published.hub_id or published.name
    return HubDataset(hub_id=hub_id, revision=revision, site=site, **vars(part))


def load_benchmark(config: BenchmarkConfig, *, seed: int, setting: str) -> ProblemSet:
    """The benchmark's problems; `setting` is its recipe key, e.g. evaluate.benchmarks.0.

    Raises ConfigError if the name is unknown and there is no path, and DataError if the rows
    cannot be loaded, a column is missing, or no row can be used.
    """
    published, rows = read_benchmark(config, seed=seed, setting=setting)
    kept, duplicates = keep_first(rows.items)
    shuffled = shuffle_problems(kept, seed, "benchmark", published.name)
    items, not_chosen = keep_chosen(kept, shuffled[: config.max_problems])
    return ProblemSet(
        name=published.name,
        problems=tuple(item.problem for item in items),
        dropped=(*rows.dropped, *duplicates, *not_chosen),
        domain=config.domain or published.domain,
        instruction=published.instruction,
        source=rows.facts,
    )


def registered_benchmark(config: BenchmarkConfig, *, setting: str) -> PublishedDataset | None:
    """The registry's entry of a benchmark; None for a file under another name.

    Raises ConfigError, before any work, if there is no file and the name is unknown or the set is
    not on a hub.
    """
    listed = find_benchmark(config.name)
    if config.path is not None:
        return listed
    if listed is None:
        names = published_datasets("benchmark")
        raise ConfigError(
            f"{setting}.name: `{config.name}` is not a known benchmark"
            f"{did_you_mean(config.name, names)}; expected one of {', '.join(names)}, or a file of "
            f"your own. Name it: --set {setting}.path=FILE"
        )
    _require_hub_id(listed, setting)
    return listed


def _require_hub_id(published: PublishedDataset, setting: str) -> None:
    if published.hub_id is None:
        raise ConfigError(
            f"{setting}: {published.title} is not on a hub; expected a file of it "
            f"(see {published.origin}). Name one: --set {setting}.path=FILE"
        )


def read_benchmark(
    config: BenchmarkConfig, *, seed: int, setting: str
) -> tuple[PublishedDataset, SourceProblems]:
    """The benchmark's facts, and all its rows as problems, before equal questions are dropped.

    Raises as `load_benchmark`.
    """
    listed = registered_benchmark(config, setting=setting)
    if listed is None or config.path is not None:
        opened = open_file(str(config.path), setting=f"{setting}.path")
    else:
        opened = open_published(listed, listed.parts[0], revision=config.revision, setting=setting)
    published = listed or PublishedDataset(name=config.name, title=config.name, origin="")
    rows = list(opened.rows)
    columns, guessed = _map_columns(config, published, rows, opened.name, setting=setting)
    converter = RowConverter(published=published, columns=columns, seed=seed)
    problems = read_problems(rows, name=opened.name, convert=converter.convert)
    require_problems(problems, opened.name, setting)
    problems.facts = opened.facts | {"num_rows": problems.num_rows}
    if guessed:
        problems.facts["guessed_columns"] = guessed
    if listed is not None:
        problems.facts |= {
            "title": listed.title,
            "num_published": listed.num_problems,
            "grader": listed.grader,
            "licence": listed.licence,
        }
    if converter.shuffles(problems.columns):
        problems.facts["options_seed"] = seed
    return published, problems


def _map_columns(
    config: BenchmarkConfig,
    published: PublishedDataset,
    rows: Sequence[SourceRow | BadRow],
    name: str,
    *,
    setting: str,
) -> tuple[Columns, dict[str, str]]:
    """The columns that the recipe names, else the registry's if the rows have them, else the usual
    ones; and those that were guessed, by role. Raises DataError if a required one is in no row."""
    readable = [row.values for row in rows if isinstance(row, SourceRow)]
    names = dict.fromkeys(key for values in readable for key in values)
    if not names:
        return Columns(), {}
    metas = (values.get("meta") for values in readable)
    in_meta = {str(key) for meta in metas if isinstance(meta, dict) for key in meta}

    def column(recipe: str | None, hub: str | None, usual: str) -> str:
        return recipe or (hub if hub and hub in names else usual)

    hub = published.columns
    columns, guessed = guess_columns(
        Columns(
            question=column(config.question_field, hub.question, "question"),
            answer=column(config.answer_field, hub.answer, "answer"),
            solution=column(None, hub.solution, "solution"),
            choices=config.choices_field,
        ),
        [*names, *sorted(in_meta)],
    )
    required = {"question_field": columns.question, "choices_field": config.choices_field}
    if columns.solution not in names and published.correct_option not in names:
        required["answer_field"] = columns.answer
    required = {key: column for key, column in required.items() if column not in in_meta}
    require_columns(required, names, name, setting)
    return columns, guessed
