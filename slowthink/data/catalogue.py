"""The sets that s1 and LIMO took their problems from, as data: where, which columns, what rules.

`find_set("aime-1983-2024").hub_id == "qq8933/AIME_1983_2024"`; the data lies in `catalogue.yaml`,
beside this file. What could not be verified is null; `pool.catalogue` reads the rows.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any

import yaml

from slowthink.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Part:
    """One split of a set."""

    config: str | None = None
    split: str = "train"
    files: tuple[str, ...] = ()
    """Read instead of the split, where only a script could load it."""


@dataclass(frozen=True, kw_only=True)
class Other:
    """Questions of another set, to be left out or to be kept alone."""

    hub_id: str
    config: str | None = None
    split: str = "train"
    column: str = "question"
    unless: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Rows that these columns free from the rule."""


@dataclass(frozen=True, kw_only=True)
class CatalogueSet:
    """One set and its rules."""

    name: str
    title: str
    papers: tuple[str, ...]
    """s1 | limo."""
    origin: str
    """Where the facts are found."""
    hub_id: str | None = None
    """None: it is on no hub; a file is needed."""
    parts: tuple[Part, ...] = (Part(),)
    licence: str | None = None
    """As stated where it lies. None: not known."""
    language: str = "en"
    question: str = "question"
    """Columns, these and the next."""
    answer: str | None = None
    """None: the solution's last box is taken (marked derived)."""
    solution: str | None = None
    domain: str | None = None
    keep: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Values that a column may have; null: absent."""
    at_most: Mapping[str, int] = field(default_factory=dict)
    """The largest number that a column may have."""
    needs: tuple[str, ...] = ()
    """Columns that must not be empty."""
    only: Mapping[str, Mapping[str, tuple[Any, ...]]] = field(default_factory=dict)
    """For rows of this configuration alone: as `keep`."""
    prepare: tuple[str, ...] = ()
    """What is done to a row, in order: names in `pool.prepare.PREPARE`."""
    minus: Other | None = None
    """Its questions are left out."""
    among: Other | None = None
    """No others are kept."""
    max_problems: int | None = None
    strata: tuple[str, ...] = ()
    """The cap is shared out evenly over the values of the first column, then of the next."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Problems that a paper has of it, after its own decontamination: by paper."""
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What is otherwise where `variant` asks for it."""
    note: str | None = None
    """What a user should know."""

    def variant(self, name: str) -> CatalogueSet:
        """The set with a variant's rules."""
        return replace(self, **_fields(self.variants.get(name, {})))


@cache
def catalogue() -> Mapping[str, CatalogueSet]:
    """All sets by name, in s1's order, then LIMO's."""
    text = resources.files("slowthink.data").joinpath("catalogue.yaml").read_text("utf-8")
    return {
        name: CatalogueSet(name=name, **_fields(row)) for name, row in yaml.safe_load(text).items()
    }


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
    }
    if "parts" in found:
        found["parts"] = tuple(
            Part(**(part | {"files": tuple(part.get("files", ()))})) for part in found["parts"]
        )
    for key in {"minus", "among"} & found.keys():
        found[key] = Other(**found[key])
    return found


def find_set(name: str, *, setting: str = "name") -> CatalogueSet:
    """The set of this name. Raises ConfigError where there is none."""
    sets = catalogue()
    if name not in sets:
        close = difflib.get_close_matches(name.lower(), sets, n=1)
        hint = f"; did you mean `{close[0]}`" if close else ""
        raise ConfigError(
            f"{setting}: the catalogue has no set `{name}`{hint}; it has {', '.join(sets)}. "
            "Take one of these, or a source of kind `hub` or `file`."
        )
    return sets[name]


def expected_problems(name: str, max_problems: int | None) -> int:
    """Problems that a set is expected to give: for a plan, not a decision."""
    found = catalogue().get(name)
    counts = [
        max_problems,
        found.max_problems if found else None,
        *(found.counts.values() if found else ()),
    ]
    return min((count for count in counts if count is not None), default=0)
