"""Tables as data: a column is one line in a tuple, and one that nothing fills is left out.

The page prints any `Table`; a comparison of runs can print the same ones side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from slowthink.analysis.statistics import wilson
from slowthink.stages.report import svg
from slowthink.stages.report.text import MISSING, budget_label, count, decimal, interval, percent


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value with what belongs beside it."""

    text: str
    note: str = ""
    bar: Markup | None = None
    alarm: bool = False
    wrap: bool = False
    """Words, which may take several lines."""
    href: str = ""
    """A place on the page that the row's heading leads to."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under a head; the first cell of a row is its heading."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    strong: frozenset[int] = frozenset()
    """Numbers of the rows to lift out."""
    label: str = ""
    """A short name for screen readers, where the caption is long."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One figure of a point."""

    label: str
    key: str
    format: Callable[[Any], str]
    alarming: bool = False
    """Anything but 0 is shown in red."""
    rare: bool = False
    """Left out where it is 0 at every point."""


def filled(point: Mapping[str, Any], column: Column) -> bool:
    """Whether a point has something to show in a column."""
    value = point.get(column.key)
    return bool(value) if column.rare else value is not None


def figure(point: Mapping[str, Any], column: Column) -> Cell:
    """A point's figure in a column."""
    value = point.get(column.key)
    return Cell(text=column.format(value), alarm=bool(column.alarming and value))


# --- domains --------------------------------------------------------------------------------------


def domain_table(
    arms: Sequence[Mapping[str, Any]], compared: Mapping[str, Mapping[str, Any]]
) -> Table | None:
    """Accuracy by domain, each arm at its compared point; None where no domain was recorded."""
    shown = [arm for arm in arms if _by_domain(compared.get(arm["name"]))]
    names = sorted({name for arm in shown for name in _by_domain(compared[arm["name"]])})
    if not names:
        return None
    heads = [f"{arm['name']} ({budget_label(dict(compared[arm['name']]))})" for arm in shown]
    hues = {arm["name"]: hue + (len(arms) < 2) for hue, arm in enumerate(arms)}
    return Table(
        caption="Accuracy by domain with 95 % Wilson intervals.",
        head=("Domain", *heads),
        rows=tuple(
            (
                Cell(text=name),
                *(
                    _domain_cell(_by_domain(compared[arm["name"]]).get(name), hues[arm["name"]])
                    for arm in shown
                ),
            )
            for name in names
        ),
    )


def _by_domain(point: Mapping[str, Any] | None) -> dict[str, Any]:
    return dict((point or {}).get("pass_rate_by_domain") or {})


def _domain_cell(figure: Mapping[str, Any] | None, hue: int) -> Cell:
    if not figure or figure.get("accuracy") is None:
        return Cell(text=MISSING)
    num, share = int(figure["n"]), float(figure["accuracy"])
    sure = wilson(round(share * num), num)
    bounds = figure.get("ci95") or (sure.low, sure.high)
    drawn = Markup(svg.bar(share, hue=hue, bounds=bounds))
    return Cell(text=percent(share), note=f"{interval(bounds)}, n = {num}", bar=drawn)


def share_cell(num: int, total: int) -> Cell:
    """A count with its share of the total, as per cent and as a bar."""
    share = num / total if total else 0.0
    return Cell(text=count(num), note=percent(share), bar=Markup(svg.bar(share, hue=0)))


def length_table(lengths: Sequence[Mapping[str, Any]]) -> Table | None:
    """Thinking tokens of the chains before and after selection; None where nobody counted."""
    if not lengths:
        return None
    names = ("min", "p25", "p50", "p75", "max", "mean")
    return Table(
        caption="Thinking tokens of the chains: smallest, quartiles, largest, mean.",
        head=("Chains", *names),
        rows=tuple(
            (Cell(text=row["name"]), *(Cell(text=decimal(row.get(name))) for name in names))
            for row in lengths
        ),
    )


def pass_rate_table(difficulty: Mapping[str, Any] | None) -> Table | None:
    """How many tried problems were solved how often; None where none were tried."""
    histogram = (difficulty or {}).get("pass_rates")
    if not difficulty or not isinstance(histogram, Mapping) or not histogram:
        return None
    total = sum(histogram.values())
    overall = f"{percent(difficulty.get('pass_rate'))} of attempts right"
    if bounds := difficulty.get("pass_rate_ci95"):
        overall += f" (95 % interval {interval(bounds)})"
    return Table(
        caption=f"The base model's attempts at {count(total)} problems: {overall}; "
        f"{count(difficulty.get('num_untested'))} problems were not tried.",
        head=("Attempts right", "Problems"),
        rows=tuple((Cell(text=label), share_cell(num, total)) for label, num in histogram.items()),
    )
