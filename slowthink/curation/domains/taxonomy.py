"""Classes that a problem may belong to: the MSC's 61, or a user's own from a file.

    DomainClass(code="11", name="Number theory", zh="数论", about="Integers - primes, …", …)

A file of own classes is YAML (a list) or JSONL (an object a line) with `code`, `name`, and at will
`zh`, `about`, `about_zh`, `words`, `hints`, `words_zh`, `hints_zh`. Codes and names of the MSC are
those of MSC 2020 (msc2020.org); descriptions and words are our own.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from slowthink.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class DomainClass:
    """One class."""

    code: str
    name: str
    """What a problem of the class has as its domain."""
    zh: str = ""
    about: str = ""
    about_zh: str = ""
    words: tuple[str, ...] = ()
    """English words and phrases that tell the class; `xyz*` is a beginning, `\\xyz` LaTeX."""
    hints: tuple[str, ...] = ()
    """Words that speak for it less."""
    words_zh: tuple[str, ...] = ()
    hints_zh: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """All classes, in order of their codes."""

    name: str
    classes: tuple[DomainClass, ...]

    def names(self) -> dict[str, str]:
        """A class's name by its code."""
        return {one.code: one.name for one in self.classes}


@dataclass(frozen=True, slots=True)
class Label:
    """What a method says of a text; `code` None: it does not know, and `why`."""

    code: str | None
    why: str = ""


_TEXTS = ("zh", "about", "about_zh")
_LISTS = ("words", "hints", "words_zh", "hints_zh")


@functools.lru_cache(maxsize=4)
def load_taxonomy(name: str = "msc") -> Taxonomy:
    """The MSC, or the classes of a YAML or JSONL file.

    Raises ConfigError where there is no such file, DataError where it holds something else.
    """
    if name == "msc":
        text = resources.files("slowthink.curation.domains").joinpath("msc.yaml").read_text("utf-8")
        return _taxonomy(name, yaml.safe_load(text))
    path = Path(name)
    if not path.is_file():
        raise ConfigError(
            f"filter.domains.taxonomy: there is no file {name}; expected `msc`, or a YAML or JSONL "
            "file of classes. Name one that is there."
        )
    return _taxonomy(name, _rows(path))


def _rows(path: Path) -> Any:
    text = path.read_text("utf-8")
    try:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise DataError(
            f"{path}: cannot be read ({str(error).splitlines()[0]}); expected a YAML list or JSONL "
            "of classes. Mend the file."
        ) from None


def _taxonomy(name: str, rows: Any) -> Taxonomy:
    if not isinstance(rows, list) or len(rows) < 2:
        raise DataError(
            f"{name}: holds {type(rows).__name__}; expected a list of two classes or more, each "
            "with `code` and `name`. Add them."
        )
    classes = tuple(_class(name, number, row) for number, row in enumerate(rows, 1))
    for key in ("code", "name"):
        values = [getattr(one, key) for one in classes]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise DataError(
                f"{name}: {key} {twice[0]!r} stands there twice; expected each once. Rename one."
            )
    return Taxonomy(name, tuple(sorted(classes, key=lambda one: one.code)))


def _class(name: str, number: int, row: Any) -> DomainClass:
    known = {"code", "name", *_TEXTS, *_LISTS}
    if not isinstance(row, Mapping) or not {"code", "name"} <= row.keys() <= known:
        seen = sorted(map(str, row)) if isinstance(row, Mapping) else type(row).__name__
        raise DataError(
            f"{name}: class {number} has {seen}; expected `code`, `name` and at will "
            f"{', '.join([*_TEXTS, *_LISTS])}. Mend the class."
        )
    if not all(isinstance(row[key], str) and row[key].strip() for key in ("code", "name")):
        raise DataError(
            f"{name}: class {number} has code {row['code']!r} and name {row['name']!r}; expected "
            'two texts. Put numbers in quotes: code: "11".'
        )
    more: dict[str, Any] = {key: _words(name, number, row.get(key) or []) for key in _LISTS}
    more |= {key: str(row.get(key) or "") for key in _TEXTS}
    return DomainClass(code=row["code"].strip(), name=row["name"].strip(), **more)


def _words(name: str, number: int, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise DataError(
            f"{name}: class {number} has the words {value!r}; expected a list of texts. "
            "Put words such as true or 3 in quotes."
        )
    return tuple(value)
