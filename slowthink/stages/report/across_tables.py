"""Tables over all sets: overview, averages, parallel scaling, published figures beside ours.

Each takes part of an evaluate stage's summary and gives a `Table`; None where there is nothing to
show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slowthink.analysis.published import legend, papers
from slowthink.stages.report.set_tables import Compared, accuracy_cell
from slowthink.stages.report.sets import largest_cap_point, set_title
from slowthink.stages.report.tables import Cell, Table
from slowthink.stages.report.text import MISSING, budget_label, count, decimal, percent

GROUPS = {
    "in": "in domain",
    "out": "out of domain",
    "ten": "LIMO's ten sets",
    "all": "all sets",
}


# --- all sets together ----------------------------------------------------------------------------


def overview_table(sets: Sequence[Mapping[str, Any]], anchors: Sequence[str]) -> Table | None:
    """One row a set, one column an arm, each at its largest cap; None for a single set."""
    if len(sets) < 2:
        return None
    names = list(dict.fromkeys(arm["name"] for one in sets for arm in one["arms"]))
    return Table(
        caption="Each arm at its largest cap, without waits, with 95 % intervals.",
        head=("Set", "Protocol", "n", *names),
        rows=tuple(
            (
                Cell(text=set_title(one), href=f"#{anchor}"),
                Cell(text=one["protocol_text"], wrap=True),
                Cell(text=count(one["num_problems"])),
                *(_largest_cell(one, name) for name in names),
            )
            for one, anchor in zip(sets, anchors, strict=True)
        ),
    )


def _largest_cell(one: Mapping[str, Any], name: str) -> Cell:
    found = [arm for arm in one["arms"] if arm["name"] == name and arm["points"]]
    return accuracy_cell(largest_cap_point(found[0]["points"])) if found else Cell(text=MISSING)


def average_table(averages: Sequence[Mapping[str, Any]]) -> Table | None:
    """Means over sets, each set weighing the same."""
    if not averages:
        return None
    return Table(
        caption="Means over sets, each set weighing the same; problems are drawn anew within their "
        "set for the 95 % interval.",
        head=("Arm", "Protocol", "Over", "Accuracy", "Sets"),
        rows=tuple(
            (
                Cell(text=row["arm"]),
                Cell(text=row["protocol"]),
                Cell(text=GROUPS.get(row["group"], row["group"])),
                accuracy_cell(row),
                Cell(
                    text=count(len(row["benchmarks"])), note=", ".join(row["benchmarks"]), wrap=True
                ),
            )
            for row in averages
        ),
    )


def parallel_table(parallel: Mapping[str, Any]) -> Table:
    """Every point of the parallel-scaling plot, in the plot's order."""
    pairs = [(curve, point) for curve in parallel["curves"] for point in curve["points"]]
    return Table(
        caption="Tokens per problem: thinking, closings and answers of all its chains, without "
        "prompts; what the scorer read and wrote stands beside it, and is part of the plot’s axis. "
        "Unresolved: problems where no answer was accepted, which count as wrong.",
        head=("Curve", "k", "Accuracy", "Tokens per problem", "Scorer's tokens", "Unresolved"),
        rows=tuple(
            (
                Cell(text=curve["name"], wrap=True),
                Cell(text=count(point.get("k"))),
                accuracy_cell(point),
                Cell(text=decimal(point["tokens_per_problem"])),
                Cell(text=decimal(point.get("scorer_tokens_per_problem"))),
                Cell(text=percent(point.get("unresolved_rate"))),
            )
            for curve, point in pairs
        ),
    )


# --- published figures ----------------------------------------------------------------------------


def published_table(
    figures: Sequence[Mapping[str, Any]],
    *,
    ours: Sequence[Mapping[str, Any]] = (),
    caption: str = "",
) -> Table | None:
    """The papers' figures, best first, below `ours`; None where there are none."""
    if not figures:
        return None
    best_first = sorted(figures, key=lambda row: -row["accuracy"])
    notes = list(dict.fromkeys(_note(row) for row in best_first if _note(row)))
    tokens = any("thinking_tokens" in row for row in figures)
    head = ("Model", "Accuracy", "Protocol", "Thinking tokens", "Training examples", "Where")
    rows = [*map(_our_row, ours), *(_published_row(row, notes) for row in best_first)]
    return Table(
        caption=" ".join(part for part in (caption, _sources(figures), _listed(notes)) if part),
        head=head if tokens else head[:3] + head[4:],
        rows=tuple(row if tokens else row[:3] + row[4:] for row in rows),
        strong=frozenset(range(len(ours))),
        label="Published figures",
    )


def _note(row: Mapping[str, Any]) -> str:
    note = str(row.get("note", ""))
    if bounds := row.get("difference_ci95"):
        note = f"{bounds[0]:+g} to {bounds[1]:+g} points; {note}".replace("-", "−")
    return note


def _listed(notes: Sequence[str]) -> str:
    return "; ".join(f"({number}) {note}" for number, note in enumerate(notes, start=1))


def _sources(figures: Sequence[Mapping[str, Any]]) -> str:
    """Which papers, and what the letters in brackets mean."""
    names = dict.fromkeys(row["paper"] for row in figures)
    letters = {one.strip() for row in figures for one in row["known"].split(",")}
    known = "; ".join(f"{key}: {text}" for key, text in legend().items() if key in letters)
    return f"{'. '.join(papers()[name] for name in names)}. In brackets how we know it: {known}."


def our_rows(one: Mapping[str, Any], compared: Compared) -> list[dict[str, Any]]:
    """Our own figures at the compared points, to stand above the published ones."""
    return [
        {**point, "name": name, "setting": budget_label(point), "protocol": one["protocol_text"]}
        for name, point in compared.items()
        if point.get("accuracy") is not None
    ]


def our_averages(averages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Our own means over LIMO's ten sets, to stand above the published ones."""
    ten = [row for row in averages if row["group"] == "ten"]
    return [{**row, "name": row["arm"], "setting": ""} for row in ten]


def _our_row(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    return (
        Cell(text=f"ours: {row['name']}", note=row["setting"], wrap=True),
        accuracy_cell(row),
        Cell(text=row["protocol"], wrap=True),
        Cell(text=decimal(row.get("mean_thinking_tokens"))),
        Cell(text=MISSING),
        Cell(text="this run"),
    )


def _published_row(row: Mapping[str, Any], notes: Sequence[str]) -> tuple[Cell, ...]:
    mark = f"({notes.index(_note(row)) + 1})" if _note(row) else ""
    return (
        Cell(text=row["model"], note=row.get("setting", ""), wrap=True),
        Cell(text=f"{row['accuracy']:.1f}%", note=mark),
        Cell(text=row["protocol"]),
        Cell(text=count(row.get("thinking_tokens"))),
        Cell(text=count(row.get("num_examples"))),
        Cell(text=f"{row['paper']}, {row['table']} [{row['known']}]"),
    )
