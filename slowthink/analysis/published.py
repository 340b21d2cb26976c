"""Figures that s1 and LIMO published, each with its protocol and provenance.

`PublishedFigure(paper="s1", table="Table 1", model="s1-32B", setting="budget forcing",
benchmark="aime24", protocol="s1", accuracy=56.7, num_examples=1000, known="F, P", main=True)`

The data is in `published.yaml`, beside this file. Most figures have no interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from typing import Any

from slowthink.errors import DataError
from slowthink.serialise import load_yaml

AVERAGE = "average-of-ten"
"""The `benchmark` of a mean over LIMO's ten benchmarks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedFigure:
    """One accuracy that a paper, its repository or its authors reported."""

    paper: str
    """s1 or limo: see `papers()`."""
    table: str
    model: str
    setting: str = ""
    benchmark: str
    """One of our benchmarks, or `average-of-ten`."""
    protocol: str
    """s1 | limo-v1 | limo-v2 | aime-preview | unknown."""
    accuracy: float
    """In per cent, as published."""
    num_examples: int | None = None
    """Training examples."""
    thinking_tokens: float | None = None
    """Mean over problems."""
    answer_tokens: float | None = None
    limit_tokens: int | None = None
    """Limit on thinking tokens, enforced or only stated in the prompt."""
    difference_ci95: tuple[float, float] | None = None
    """Interval of the difference that `note` describes, in points."""
    series: str | None = None
    """The method of s1's Table 3 that the point belongs to."""
    in_scaling: bool = False
    """Whether this is a point from which Table 3's Control and Scaling are computed."""
    main: bool = False
    """From a paper's main table; the others are curves and ablations."""
    known: str
    """Provenance of the figure: letters of `legend()`."""
    note: str = ""


def load_published(
    benchmark: str | None = None, *, series: str | None = None, main: bool | None = None
) -> tuple[PublishedFigure, ...]:
    """Published figures in the papers' order: all, or those of a benchmark, a series, main tables.

    >>> [(figure.model, figure.accuracy) for figure in load_published("minerva", main=True)][-1]
    ('LIMO v2', 52.2)
    """
    return tuple(
        figure
        for figure in _figures()
        if benchmark in (None, figure.benchmark)
        and series in (None, figure.series)
        and main in (None, figure.main)
    )


def papers() -> Mapping[str, str]:
    """Title and source of each paper, by its name here."""
    return dict(_data()["papers"])


def legend() -> Mapping[str, str]:
    """Meaning of the letters in `known`."""
    return dict(_data()["legend"])


@cache
def _data() -> dict[str, Any]:
    text = (resources.files("slowthink.analysis") / "published.yaml").read_text("utf-8")
    data: dict[str, Any] = load_yaml(text)
    return data


@cache
def _figures() -> tuple[PublishedFigure, ...]:
    return tuple(parse_tables(_data()["tables"], benchmarks=_data()["benchmarks"]))


def parse_tables(
    tables: Sequence[Mapping[str, Any]], *, benchmarks: Sequence[str]
) -> Iterator[PublishedFigure]:
    """The figures of tables in the form of `published.yaml`; null cells have none.

    Raises DataError if a column is neither a benchmark nor a field, or a field is missing.
    """
    for table in tables:
        shared = {key: value for key, value in table.items() if key not in ("columns", "rows")}
        for row in table["rows"]:
            cells = dict(zip(table["columns"], row, strict=False))
            details = {key: value for key, value in cells.items() if key not in benchmarks}
            for benchmark in benchmarks:
                if cells.get(benchmark) is not None:
                    yield _figure(shared | details, benchmark, cells[benchmark])


def _figure(shared: Mapping[str, Any], benchmark: str, cell: Any) -> PublishedFigure:
    details = dict(cell) if isinstance(cell, Mapping) else {"accuracy": cell}
    values = {**shared, **details, "benchmark": benchmark}
    allowed = {field.name for field in fields(PublishedFigure)}
    if unknown := sorted(values.keys() - allowed):
        raise DataError(
            f"published.yaml: {values.get('paper')}, {values.get('table')}: column `{unknown[0]}` "
            f"is neither a benchmark nor a field; expected one of {', '.join(sorted(allowed))}. "
            "Rename the column, or add the benchmark to `benchmarks`."
        )
    values = {key: value for key, value in values.items() if value is not None}
    if "difference_ci95" in values:
        low, high = values["difference_ci95"]
        values["difference_ci95"] = (float(low), float(high))
    try:
        return PublishedFigure(**values)
    except TypeError as error:
        raise DataError(
            f"published.yaml: {values.get('paper')}, {values.get('table')}, {benchmark}: {error}; "
            "expected paper, table, model, protocol, known and an accuracy. Complete the row."
        ) from error
