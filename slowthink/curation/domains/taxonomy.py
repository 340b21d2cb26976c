"""The classes of problems: the 61 of the MSC, or a user's own from a file.

    DomainClass(code="11", name="Number theory", zh="数论", about="Integers - primes, …", …)

A file of classes is YAML (a list) or JSONL (one object per line) with `code`, `name`, and
optionally `zh`, `about`, `about_zh`, `words`, `hints`, `words_zh`, `hints_zh` and `parts`, classes
inside it. Codes and names of
the MSC are those of MSC 2020 (msc2020.org); descriptions and words are our own.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from slowthink.errors import ConfigError, DataError
from slowthink.serialise import json_lines, load_yaml

NonEmptyText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class DomainClass(BaseModel):
    """One class of a taxonomy; its problems get `name` as their `domain`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: NonEmptyText
    name: NonEmptyText
    zh: str = ""
    about: str = ""
    about_zh: str = ""
    words: tuple[str, ...] = ()
    """English words and phrases that indicate the class; `xyz*` is a prefix, `\\xyz` LaTeX."""
    hints: tuple[str, ...] = ()
    """Words that indicate the class less strongly."""
    words_zh: tuple[str, ...] = ()
    hints_zh: tuple[str, ...] = ()
    parts: tuple[DomainClass, ...] = ()
    """Parts of the class, which take its place where it holds over half of a pool."""


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """All classes, in order of their codes."""

    name: str
    classes: tuple[DomainClass, ...]

    def names(self) -> dict[str, str]:
        """The names of the classes and of their parts by their codes."""
        domains = (each for domain in self.classes for each in (domain, *domain.parts))
        return {domain.code: domain.name for domain in domains}


@dataclass(frozen=True, slots=True)
class Label:
    """The class that a method assigns to a text."""

    code: str | None
    """None if the method assigns no class."""
    reason: str = ""
    """Why no class is assigned."""


@functools.lru_cache(maxsize=4)
def load_taxonomy(name: str = "msc") -> Taxonomy:
    """The MSC (`msc`), or the classes in the YAML or JSONL file `name`.

    Raises ConfigError if the file is missing, DataError if its content is not a list of classes.
    """
    if name == "msc":
        text = resources.files("slowthink.curation.domains").joinpath("msc.yaml").read_text("utf-8")
        return _parse_taxonomy(name, load_yaml(text))
    path = Path(name)
    if not path.is_file():
        raise ConfigError(
            f"filter.domains.taxonomy: no such file: {name}; expected `msc`, or a YAML or JSONL "
            "file of classes. Correct the path."
        )
    return _parse_taxonomy(name, _read_rows(path))


def _read_rows(path: Path) -> Any:
    text = path.read_text("utf-8")
    try:
        if path.suffix == ".jsonl":
            return [json.loads(line) for _, line in json_lines(text)]
        return load_yaml(text)
    except (ValueError, yaml.YAMLError) as error:
        raise DataError(
            f"{path}: cannot be read ({str(error).splitlines()[0]}); expected a YAML list or JSONL "
            "of classes. Fix the file."
        ) from None


def _parse_taxonomy(name: str, rows: Any) -> Taxonomy:
    if not isinstance(rows, list) or len(rows) < 2:
        raise DataError(
            f"{name}: contains {type(rows).__name__}; expected a list of two or more classes, each "
            "with `code` and `name`. Add them."
        )
    classes = tuple(_parse_class(name, position, row) for position, row in enumerate(rows, 1))
    for key in ("code", "name"):
        values = [getattr(domain, key) for domain in classes]
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise DataError(
                f"{name}: {key} {repeated[0]!r} occurs twice; expected each once. Rename one."
            )
    return Taxonomy(name, tuple(sorted(classes, key=lambda domain: domain.code)))


def _parse_class(name: str, position: int, row: Any) -> DomainClass:
    if isinstance(row, Mapping):
        row = {key: value for key, value in row.items() if value is not None}
    try:
        return DomainClass.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        location = ".".join([f"class {position}", *map(str, first["loc"])])
        raise DataError(
            f"{name}: {location}: {first['msg']}, saw {first['input']!r:.80}; expected `code`, "
            f"`name` and optionally {', '.join(list(DomainClass.model_fields)[2:])}. Fix it; "
            'put numbers and words such as true in quotes: code: "11".'
        ) from None
