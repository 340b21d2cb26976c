"""Tables declared by columns (a head, a key, a format) over rows of plain data.

The templates declare them; `show_table` in macros.html prints them:

    show_table(points, [column("Arm", "arm"), column("Accuracy", "accuracy", percent, note="ci95")])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Literal

from markupsafe import Markup

from slowthink.analysis.statistics import wilson
from slowthink.stages.report import svg
from slowthink.stages.report.text import MISSING, count, interval, percent, plain

Json = Mapping[str, Any]
"""A JSON object."""
Rows = list[dict[str, Any]]
Key = str | tuple[Any, ...]
"""A key of a row, or a path into nested mappings and lists."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value with its note and its bar."""

    text: str
    note: str = ""
    bar: Markup | None = None
    alarm: bool = False
    wrap: bool = False
    href: str = ""
    """Link target of a row heading."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under a head; the first cell of a row is its heading."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    strong: frozenset[int]
    """Indices of the highlighted rows."""


@dataclass(frozen=True)
class Column:
    """One column of a table. A value that already is a `Cell` is not formatted."""

    head: str
    key: Key | None = None
    """None: `format` receives the whole row."""
    format: Callable[[Any], str | Cell] = plain
    _: KW_ONLY
    note: Key | None = None
    """Key of a second value, printed small beside the first, unless it is missing."""
    note_format: Callable[[Any], str] = interval
    note_text: str = "{}"
    """The text around the formatted note."""
    wrap: bool = False
    """Text that may take several lines."""
    alarm: bool = False
    """Values other than 0 are printed in red."""
    omit: Literal["never", "missing", "zero"] = "never"
    """Leave the column out if every row's value is missing, or missing or 0."""

    def cell(self, row: Json) -> Cell:
        """The row's cell in this column."""
        value = look_up(row, self.key)
        formatted = value if isinstance(value, Cell) else self.format(value)
        cell = formatted if isinstance(formatted, Cell) else Cell(text=formatted)
        if self.note is not None and (note := look_up(row, self.note)) is not None:
            cell = replace(cell, note=self.note_text.format(self.note_format(note)))
        return replace(cell, wrap=self.wrap, alarm=self.alarm and bool(value))

    def is_shown(self, rows: Sequence[Json]) -> bool:
        """Whether the column is part of a table of these rows."""
        values = [look_up(row, self.key) for row in rows]
        if self.omit == "missing":
            return any(value is not None for value in values)
        return self.omit == "never" or any(values)


def look_up(row: Json, key: Key | None) -> Any:
    """The value at a key or path; None if a part of the path is missing."""
    value: Any = row
    for part in () if key is None else (key,) if isinstance(key, str) else key:
        value = value[part] if isinstance(value, Sequence) else (value or {}).get(part)
    return value


def make_table(rows: Sequence[Json], columns: Sequence[Column]) -> Table:
    """The table of these rows, those with a true `strong` highlighted."""
    shown = [column for column in columns if column.is_shown(rows)]
    return Table(
        head=tuple(column.head for column in shown),
        rows=tuple(tuple(column.cell(row) for column in shown) for row in rows),
        strong=frozenset(index for index, row in enumerate(rows) if row.get("strong")),
    )


def with_share(total: int) -> Callable[[int | None], Cell]:
    """A column format: a count with its share of `total`, in per cent and as a bar."""

    def format_count(num: int | None) -> Cell:
        share = (num or 0) / total if total else 0.0
        return Cell(text=count(num or 0), note=percent(share), bar=Markup(svg.bar(share, colour=0)))

    return format_count


def accuracy_with_bar(colour: int) -> Callable[[Json | None], Cell]:
    """A column format: an accuracy with its interval (Wilson's, unless given), n and a bar."""

    def format_accuracy(figures: Json | None) -> Cell:
        if not figures or figures.get("accuracy") is None:
            return Cell(text=MISSING)
        n, share = int(figures["n"]), float(figures["accuracy"])
        bounds = figures.get("ci95") or wilson(round(share * n), n).bounds
        bar = Markup(svg.bar(share, colour=colour, bounds=bounds))
        return Cell(text=percent(share), note=f"{interval(bounds)}, n = {n}", bar=bar)

    return format_accuracy
