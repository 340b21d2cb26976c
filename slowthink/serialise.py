"""Converts records to plain data for JSON, tables and hashes, and back.

`plain(Sampling())` is `{"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import errno
import functools
import hashlib
import json
import os
import re
import stat
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from slowthink.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

R = TypeVar("R")
_SCALARS = frozenset({str, int, float, bool, type(None)})

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""C0 and C1 controls except tab and line end, marks that reorder text, and broken UTF-16."""
_CANONICAL_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))

MAX_YAML_DEPTH = 60
MAX_YAML_NODES = 200_000
"""Nodes of a document with each alias expanded."""


def load_yaml(text: str) -> Any:
    """Return the data of a YAML document, parsed by libyaml if available: ten times faster.

    Raises yaml.YAMLError, also for a duplicate key, of which YAML would keep the last, for
    nesting above MAX_YAML_DEPTH, and for aliases that expand to more than MAX_YAML_NODES, or
    without end.
    """
    import yaml

    loader_class = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_yaml_size(yaml.parse(text, Loader=loader_class))
        loader = loader_class(text)
        node = loader.get_single_node()
        _check_yaml_keys(node)
        return None if node is None else loader.construct_document(node)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise yaml.YAMLError(f"a value cannot be read: {error}"[:200]) from None


def _check_yaml_keys(root: Any) -> None:
    """Raise yaml.YAMLError if a mapping has a key twice, before mappings are merged (`<<`)."""
    import yaml

    queue, seen = [root], set()
    while queue:
        node = queue.pop()
        if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            queue += node.value
            continue
        lines: dict[tuple[str, Any], int] = {}
        for key, value in node.value:
            queue.append(value)
            name, line = (key.tag, repr(key.value)), key.start_mark.line + 1
            if name in lines:
                raise yaml.YAMLError(
                    f"duplicate key: `{key.value}` stands in line {lines[name]} and again in line "
                    f"{line}"
                )
            lines[name] = line


def _check_yaml_size(events: Iterable[Any]) -> None:
    """Raise yaml.YAMLError if a document's nodes are too deep or, with aliases expanded, too many.

    Events are read one at a time, so that nothing large or deep is built first.
    """
    import yaml

    open_nodes: list[tuple[str | None, int]] = []
    """Anchor of each collection that is open, and the number of nodes before it."""
    sizes: dict[str | None, int] = {}
    num_nodes = 0
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, num_before = open_nodes.pop()
            sizes[anchor] = num_nodes - num_before
        elif isinstance(event, yaml.CollectionStartEvent):
            sizes.pop(event.anchor, None)
            open_nodes.append((event.anchor, num_nodes))
            num_nodes += 1
        elif isinstance(event, yaml.ScalarEvent):
            sizes[event.anchor] = 1
            num_nodes += 1
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise yaml.YAMLError(f"the alias `{event.anchor}` is inside its own anchor")
            num_nodes += sizes.get(event.anchor, 1)
        if len(open_nodes) > MAX_YAML_DEPTH:
            raise yaml.YAMLError(f"nested deeper than {MAX_YAML_DEPTH} levels")
        if num_nodes > MAX_YAML_NODES:
            raise yaml.YAMLError(f"more than {MAX_YAML_NODES:,} values, with aliases expanded")


def json_lines(text: str) -> list[tuple[int, str]]:
    """Number and text of each line of JSONL that is not blank.

    Only a line feed ends a line: U+2028, U+2029 and U+0085 are part of a JSON string, and
    `str.splitlines` would cut it there.
    """
    lines = enumerate(text.removeprefix("\ufeff").split("\n"), start=1)
    return [(number, line) for number, line in lines if line.strip()]


def digest(value: Any) -> str:
    """First 32 hex digits of the SHA-256 of canonical JSON; tuples equal lists."""
    return digest_of_json(_CANONICAL_JSON.encode(value))


def digest_of_json(text: str) -> str:
    """`digest`, of canonical JSON."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def ids_as_json(ids: tuple[int, ...]) -> str:
    """Canonical JSON of token ids, in a third of the encoder's time."""
    return "[" + ("%d," * len(ids) % ids)[:-1] + "]"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; read again only if the file has changed."""
    info = path.stat()
    return _file_sha256(path, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)


@functools.lru_cache(maxsize=4096)
def _file_sha256(path: Path, *version: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- files and text -------------------------------------------------------------------------------


def is_file(path: Path) -> bool:
    """Whether there is a file of this name; False also for a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_text(path: Path) -> str:
    """Text of a file. Raises DataError if it cannot be read, or is not UTF-8."""
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error)[:200]
        raise DataError(
            f"{str(path)[:300]}: {problem}; expected a text file in UTF-8. Convert it, or name "
            "another."
        ) from None


def write_atomic(path: Path, text: str) -> None:
    """Write the whole file, on the disk when this returns, or leave the old one unchanged."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file to write, which then takes the place of `path`, on the disk and as a whole. After
    an error the old one is unchanged. An error of the disk names the file."""
    temporary = path.with_name(f"{path.name[:200]}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    sync(path.parent)


def move_folder(folder: Path, target: Path) -> None:
    """Rename a folder after its files are on the disk: `target` is complete, or absent."""
    sync_folder(folder)
    os.rename(folder, target)
    for parent in {folder.parent, target.parent}:
        sync(parent)


def sync_folder(folder: Path) -> None:
    """Wait until all files of a folder, and their names, are on the disk.

    A file that its owner alone may read, as safetensors writes them, gets the rights of the umask.
    """
    umask = os.umask(0o077)
    os.umask(umask)
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            continue
        if path.is_file() and stat.S_IMODE(path.stat().st_mode) == 0o600:
            path.chmod(0o666 & ~umask)
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network file systems cannot
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def printable(text: str) -> str:
    r"""The text, or JSON, with its control characters visible: a terminal would obey them.

    An escape becomes `\u001b`; tabs and line ends stay.
    """
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


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
