"""Registry of published sets of problems, for pools (`kind: catalogue`) and for benchmarks.

`find_benchmark("gpqa").hub_id == "Idavidrein/gpqa"`. The facts (where each set is,
its columns, licence and rules) are in `sets.yaml`, beside this file. A new set is one entry there.
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
    """One split of a set on its hub."""

    config: str | None = None
    split: str = "train"
    files: tuple[str, ...] = ()
    """Files to read instead of the split, for sets that only a script can load."""


@dataclass(frozen=True, kw_only=True)
class PublishedSet:
    """One published set of problems, as a pool or a benchmark uses it."""

    name: str
    title: str
    origin: str
    """Source of these facts, or of a file of the set."""
    hub_id: str | None = None
    """None: the set is not on a hub, so a file is needed."""
    parts: tuple[Part, ...] = (Part(),)
    licence: str | None = None
    """As its publisher states it. None: not stated or not known."""
    language: str = "en"
    columns: Columns = field(default_factory=lambda: Columns(answer=None, solution=None))
    """On the hub."""
    context: str | None = None
    """Column of a text that belongs before the question."""
    answer_mark: str | None = None
    """Text between a worked solution and its answer, where one column has both."""
    correct_option: str | None = None
    """Column of the right option, where each option has its own column; options are shuffled."""
    incorrect_options: tuple[str, ...] = ()
    note: str | None = None
    """What a user should know."""

    papers: tuple[str, ...] = ()
    """s1 | limo: those that took problems from it. This field and the next are of pools."""
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
    """Name of a set whose questions are dropped."""
    restricted_to: str | None = None
    """Name of a set; questions that are not in it are dropped."""
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
    """Other names, in lower case and with hyphens. This field and the next are of benchmarks."""
    num_problems: int = 0
    """As published; a file or a revision may have fewer."""
    instruction: str | None = None
    """A line after the question."""
    grader: Literal["math", "choice"] = "math"
    """Kind of its answers: values (perhaps with option letters among them), or letters only."""
    domain: Literal["in", "out"] | None = None
    """In or out of the training data's domain, as LIMO sorts its sets (arXiv 2502.03387, 5.1)."""
    limo_ten: bool = False
    """Whether it is one of the ten sets of LIMO's main table."""

    def variant(self, name: str) -> PublishedSet:
        """The set with the rules of a variant."""
        return replace(self, **_fields(self.variants.get(name, {})))


@cache
def published_sets(use: Use | None = None) -> Mapping[str, PublishedSet]:
    """The sets of one use, or all, by name in the order of `sets.yaml`."""
    text = resources.files("slowthink.data").joinpath("sets.yaml").read_text("utf-8")
    sets = {}
    for name, entry in load_yaml(text).items():
        shared = {key: value for key, value in entry.items() if key not in ("pool", "benchmark")}
        if use is None or entry.get(use) is not None:
            own = entry.get(use or "benchmark") or {}
            sets[name] = PublishedSet(name=name, **_fields(shared | own))
    return sets


def _fields(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a set from its YAML: lists as tuples, parts and columns as their classes."""
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


def find_pool_set(name: str, *, setting: str = "name") -> PublishedSet:
    """The set that a pool's catalogue source names. Raises ConfigError for an unknown name."""
    sets = published_sets("pool")
    if name not in sets:
        raise ConfigError(
            f"{setting}: the catalogue has no set `{name}`{did_you_mean(name.lower(), sets)}; "
            f"it has {', '.join(sets)}. Name one of these, or use a source of kind `hub` or `file`."
        )
    return sets[name]


def find_benchmark(name: str) -> PublishedSet | None:
    """The benchmark of this name or alias; None where the registry has none."""
    plain = name.strip().lower().replace("_", "-")
    sets = published_sets("benchmark")
    return sets.get(plain) or next(
        (known for known in sets.values() if plain in known.aliases), None
    )


def limo_ten() -> frozenset[str]:
    """Names of the ten sets of LIMO's main table (arXiv 2502.03387, table 1)."""
    return frozenset(name for name, known in published_sets("benchmark").items() if known.limo_ten)


def expected_problems(name: str, max_problems: int | None) -> int:
    """Problems that a pool set is expected to give, at most; 0 where unknown. For plans only."""
    known = published_sets("pool").get(name)
    limits = [max_problems, *((known.max_problems, *known.counts.values()) if known else ())]
    return min((limit for limit in limits if limit is not None), default=0)
