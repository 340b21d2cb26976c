"""Registry of published datasets of problems, for pools (`kind: catalogue`) and benchmarks.

`find_benchmark("gpqa").hub_id == "Idavidrein/gpqa"`. The facts (where each
dataset is, its columns, licence and rules) are in `sets.yaml`; a new dataset is one entry there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any, Literal

from slowthink.data.problems import Columns
from slowthink.errors import ConfigError, did_you_mean
from slowthink.serialise import load_yaml

Use = Literal["pool", "benchmark"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One split of a dataset on its hub."""

    config: str | None = None
    split: str = "train"
    files: tuple[str, ...] = ()
    """Files to read instead of the split, for datasets that only a script can load."""


@dataclass(frozen=True, kw_only=True)
class PublishedDataset:
    """One published dataset of problems, as a pool or a benchmark uses it."""

    name: str
    title: str
    origin: str
    """Where these facts, or a file of the dataset, are from."""
    hub_id: str | None = None
    """None: the dataset is not on a hub, so a file is required."""
    parts: tuple[Part, ...] = (Part(),)
    licence: str | None = None
    """As its publisher states it. None: not stated or unknown."""
    may_be_passed_on: bool = True
    """False: its publisher asks that its rows are not published again."""
    caution: str | None = None
    """Claims on its texts that the licence does not settle."""
    language: str = "en"
    columns: Columns = field(default_factory=lambda: Columns(answer=None, solution=None))
    """On the hub."""
    context: str | None = None
    """Column of a text that belongs before the question."""
    correct_option: str | None = None
    """Column of the right option, if each option has its own column; options are shuffled."""
    incorrect_options: tuple[str, ...] = ()
    note: str | None = None
    """What a user should know."""

    papers: tuple[str, ...] = ()
    """s1 | limo: those that used its problems. From here to `variants`: for pools."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Number of its problems in a paper's pool after decontamination, by paper."""
    keep: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Allowed values by column; null: absent."""
    keep_by_config: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    """As `keep`, for the rows of one hub configuration."""
    at_most: Mapping[str, int] = field(default_factory=dict)
    """Largest allowed number by column."""
    required: tuple[str, ...] = ()
    """Columns that must not be empty."""
    excludes: str | None = None
    """Name of a dataset whose questions are dropped."""
    restricted_to: str | None = None
    """Name of a dataset; questions that are not in it are dropped."""
    unrestricted: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Rows with these values, by column, are exempt from `restricted_to`."""
    prepare: tuple[str, ...] = ()
    """Changes made to each row, in order: names in `preparation.PREPARE`."""
    max_problems: int | None = None
    strata: tuple[str, ...] = ()
    """`max_problems` is split evenly over the values of the first column, then of the next."""
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Fields that differ under a recipe's `variant`."""

    aliases: tuple[str, ...] = ()
    """Other names, in lower case and with hyphens. From here on: for benchmarks."""
    num_problems: int = 0
    """As published; a file or a revision may have fewer."""
    task_id: str | None = None
    """Its task on the hub's leaderboards (`tasks[].id` in the dataset's eval.yaml). None: the hub
    has none, or it could not be verified."""
    instruction: str | None = None
    """A line after the question."""
    grader: Literal["math", "choice"] = "math"
    """Kind of its answers: values (and possibly option letters), or letters only."""
    domain: Literal["in", "out"] | None = None
    """In or out of the training data's domain, as in LIMO (arXiv 2502.03387, 5.1)."""
    limo_ten: bool = False
    """Whether it is one of the ten benchmarks of LIMO's main table."""

    def variant(self, name: str) -> PublishedDataset:
        """The dataset with the rules of a variant."""
        return replace(self, **_fields(self.variants.get(name, {})))


@cache
def published_datasets(use: Use | None = None) -> Mapping[str, PublishedDataset]:
    """The datasets of one use, or all, by name in the order of `sets.yaml`."""
    text = resources.files("slowthink.data").joinpath("sets.yaml").read_text("utf-8")
    datasets = {}
    for name, entry in load_yaml(text).items():
        shared = {key: value for key, value in entry.items() if key not in ("pool", "benchmark")}
        if use is None or entry.get(use) is not None:
            for_use = entry.get(use or "benchmark") or {}
            datasets[name] = PublishedDataset(name=name, **_fields(shared | for_use))
    return datasets


def _fields(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a dataset from YAML: lists as tuples, parts and columns as their classes."""
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
    }
    if "parts" in fields:
        fields["parts"] = tuple(
            Part(**(part | {"files": tuple(part.get("files", ()))})) for part in fields["parts"]
        )
    if "columns" in fields:
        fields["columns"] = Columns(**({"answer": None, "solution": None} | fields["columns"]))
    return fields


def find_pool_dataset(name: str, *, setting: str = "name") -> PublishedDataset:
    """The dataset that a catalogue source names. Raises ConfigError for an unknown name."""
    sets = published_datasets("pool")
    if name not in sets:
        raise ConfigError(
            f"{setting}: the catalogue has no set `{name}`{did_you_mean(name.lower(), sets)}; "
            f"it has {', '.join(sets)}. Name one of these, or use a source of kind `hub` or `file`."
        )
    return sets[name]


def find_benchmark(name: str) -> PublishedDataset | None:
    """The benchmark of this name or alias; None if the registry has none."""
    normalised = name.strip().lower().replace("_", "-")
    benchmarks = published_datasets("benchmark")
    by_alias = {alias: dataset for dataset in benchmarks.values() for alias in dataset.aliases}
    return benchmarks.get(normalised) or by_alias.get(normalised)


def limo_ten() -> frozenset[str]:
    """Names of the ten benchmarks of LIMO's main table (arXiv 2502.03387, table 1)."""
    benchmarks = published_datasets("benchmark")
    return frozenset(name for name, dataset in benchmarks.items() if dataset.limo_ten)


def expected_problems(name: str, max_problems: int | None) -> int:
    """Largest expected number of problems of a pool dataset; 0 if unknown. For plans only."""
    dataset = published_datasets("pool").get(name)
    limits = [max_problems, *((dataset.max_problems, *dataset.counts.values()) if dataset else ())]
    return min((limit for limit in limits if limit is not None), default=0)
