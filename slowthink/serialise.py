"""Converts records to plain data for JSON, tables and hashes, and back.

`plain(Sampling())` is `{"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}`.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import json
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import pyarrow as pa

R = TypeVar("R")
_SCALARS = frozenset({str, int, float, bool, type(None)})

_CANONICAL_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def load_yaml(text: str) -> Any:
    """Return the data of a YAML document, parsed by libyaml if available: ten times faster.

    Raises yaml.YAMLError.
    """
    import yaml

    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def json_lines(text: str) -> list[tuple[int, str]]:
    """Number and text of each line of JSONL that is not blank.

    Only a line feed ends a line: U+2028, U+2029 and U+0085 are part of a JSON string, and
    `str.splitlines` would cut it there.
    """
    lines = enumerate(text.removeprefix("\ufeff").split("\n"), start=1)
    return [(number, line) for number, line in lines if line.strip()]


def digest(value: Any) -> str:
    """First 32 hex digits of the SHA-256 of canonical JSON; tuples equal lists."""
    text = _CANONICAL_JSON.encode(value)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain(value: Any) -> Any:
    """Convert a record to dicts, lists and scalars, ready for JSON or a table."""
    if type(value) in _SCALARS:
        return value
    if isinstance(value, enum.Enum):
        return value.value
    if names := _field_names(typing.cast(type, type(value))):
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value


def from_plain(cls: type[R], row: dict[str, Any]) -> R:
    """Convert `plain` data back to a record. Raises TypeError if a required field is missing."""
    return cls(
        **{
            name: convert(row[name]) if convert and row[name] is not None else row[name]
            for name, convert in _converters(typing.cast(type, cls))
            if name in row
        }
    )


def arrow_schema(cls: type) -> pa.Schema:
    """The Arrow schema of a record class; nested records are structs."""
    import pyarrow as pa

    hints = _type_hints(cls)
    return pa.schema([(f.name, _arrow_type(hints[f.name])) for f in dataclasses.fields(cls)])


@functools.cache
def _type_hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _without_none(hint: Any) -> Any:
    """`T` for `T | None`, otherwise the hint itself."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(arg for arg in typing.get_args(hint) if arg is not type(None))
    return hint


@functools.cache
def _field_names(cls: type) -> tuple[str, ...]:
    """Field names of a dataclass; () for any other class."""
    if not dataclasses.is_dataclass(cls):
        return ()
    return tuple(field.name for field in dataclasses.fields(cls))


@functools.cache
def _converters(cls: type) -> tuple[tuple[str, Callable[[Any], Any] | None], ...]:
    """Fields with their converters from plain data; None if no conversion is needed."""
    hints = _type_hints(cls)
    return tuple((name, _converter(hints[name])) for name in _field_names(cls))


def _converter(hint: Any) -> Callable[[Any], Any] | None:
    """Converter from plain data to a value of this type; None if no conversion is needed."""
    hint = _without_none(hint)
    if typing.get_origin(hint) is tuple:
        convert_item = _converter(typing.get_args(hint)[0])
        return tuple if convert_item is None else functools.partial(_convert_items, convert_item)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint
    if dataclasses.is_dataclass(hint):
        return functools.partial(from_plain, typing.cast(type, hint))
    return None


def _convert_items(convert_item: Callable[[Any], Any], values: Any) -> tuple[Any, ...]:
    return tuple(None if value is None else convert_item(value) for value in values)


def _arrow_type(hint: Any) -> pa.DataType:
    import pyarrow as pa

    hint = _without_none(hint)
    if typing.get_origin(hint) is tuple:
        return pa.list_(_arrow_type(typing.get_args(hint)[0]))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return pa.string()
    if dataclasses.is_dataclass(hint):
        return pa.struct(list(arrow_schema(typing.cast(type, hint))))
    return {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}[hint]
