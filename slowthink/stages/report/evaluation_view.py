"""The evaluation as the templates show it: charts, and rows of their tables, set by set.

A set is one benchmark under one protocol: an element of `sets.evaluated_sets`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slowthink.analysis.published import AVERAGE, legend, papers
from slowthink.analysis.scores import largest_budget_figures
from slowthink.stages.report import charts
from slowthink.stages.report.headline import headline_figures
from slowthink.stages.report.sets import (
    compared_points,
    describe_set,
    headline_comparison,
    published_for,
    set_title,
)
from slowthink.stages.report.tables import Cell, Column, Json, Rows, accuracy_with_bar
from slowthink.stages.report.text import budget_label, count, percent

GROUP_LABELS = {
    "in": "in domain", "out": "out of domain", "ten": "LIMO's ten sets", "all": "all sets",
}  # fmt: skip


def evaluation_view(data: Json) -> dict[str, Any]:
    """Values of `data.collect`'s dict for result.html, sets.html and across.html."""
    head = data["headline"]
    eval_sets = head["sets"]
    arms = dict.fromkeys(arm["name"] for eval_set in eval_sets for arm in eval_set["arms"])
    ours = [row | {"name": row["arm"]} for row in head["averages"] if row["group"] == "ten"]
    return {
        "sets": [
            _set_view(eval_set, {} if index else head, data["published"])
            | {"link": Cell(text=set_title(eval_set), href=f"#set-{index + 1}")}
            for index, eval_set in enumerate(eval_sets)
        ],
        "arm_columns": [
            Column(arm, ("largest", arm, "accuracy"), percent, note=("largest", arm, "ci95"))
            for arm in arms
        ],
        "figures": headline_figures(head),
        "has_thinking": any(
            point.get("forced", True) or point.get("max_thinking_tokens")
            for eval_set in eval_sets
            for arm in eval_set["arms"]
            for point in arm["points"]
        ),
        "comparison": headline_comparison(eval_sets[0], head) if eval_sets else None,
        "averages": [
            {
                **row,
                "over": GROUP_LABELS.get(row["group"], row["group"]),
                "num_sets": len(row["benchmarks"]),
                "names": ", ".join(set_title({"benchmark": name}) for name in row["benchmarks"]),
            }
            for row in head["averages"]
        ],
        "published_averages": published_view(published_for(AVERAGE), ours=ours) if ours else None,
        "parallel": [_parallel_view(scaling) for scaling in head["parallel"]],
    }


def _set_view(eval_set: Json, headline: Json, published: Mapping[str, Rows]) -> dict[str, Any]:
    """Chart and rows of one set; `headline` is empty for all sets but the first."""
    compared = compared_points(eval_set, headline)
    figures = published[eval_set["benchmark"]]
    points = [
        {"arm": arm["name"], "strong": compared.get(arm["name"]) is point, **point}
        for arm in eval_set["arms"]
        for point in arm["points"]
    ]
    samples = [point for point in points if len(point.get("pass_at_k") or {}) > 1]
    k_values = sorted({int(k) for point in samples for k in point["pass_at_k"]})
    return {
        "title": set_title(eval_set),
        "about": describe_set(eval_set),
        "data": eval_set,
        "curves": charts.responsive_chart(charts.curve_svg, eval_set["arms"]),
        "largest": {
            arm["name"]: largest_budget_figures(arm["points"])
            for arm in eval_set["arms"]
            if arm["points"]
        },
        "points": points,
        "samples": samples,
        "k_columns": [
            Column(
                f"k = {k}", ("pass_at_k", str(k)), percent,
                note=("maj_at_k", str(k)), note_format=percent, note_text="maj {}",
            )
            for k in k_values
        ],
        "comparisons": [
            pair
            | {arm: f"{pair[arm]} ({budget_label(pair[f'{arm}_point'])})" for arm in ("a", "b")}
            for pair in eval_set["comparisons"]
        ],
        "measures": [row for row in eval_set["measures"] if row.get("performance") is not None],
        **_domains(eval_set, compared),
        "published": published_view(
            [row for row in figures if row.get("main")], ours=_our_figures(eval_set, compared)
        ),
        "more_published": published_view([row for row in figures if not row.get("main")]),
    }  # fmt: skip


def _domains(eval_set: Json, compared: Mapping[str, Json]) -> dict[str, Any]:
    """Accuracy by domain, each arm at its compared point."""
    rates = {arm: point.get("pass_rate_by_domain") or {} for arm, point in compared.items()}
    domains = sorted({domain for by_domain in rates.values() for domain in by_domain})
    arms = [arm["name"] for arm in eval_set["arms"]]
    return {
        "domains": [
            {"domain": name, "arms": {arm: rates[arm].get(name) for arm in rates}}
            for name in domains
        ],
        "domain_columns": [
            Column(
                f"{arm} ({budget_label(compared[arm])})",
                ("arms", arm),
                accuracy_with_bar(colour + (len(arms) < 2)),
            )
            for colour, arm in enumerate(arms)
            if rates.get(arm)
        ],
    }


def _our_figures(eval_set: Json, compared: Mapping[str, Json]) -> Rows:
    """The compared points, as rows above the published figures."""
    protocol = eval_set["protocol_text"]
    return [
        {**point, "name": name, "setting": budget_label(point), "protocol": protocol}
        for name, point in compared.items()
        if point.get("accuracy") is not None
    ]


def _parallel_view(scaling: Json) -> dict[str, Any]:
    curves = charts.select_curves(scaling["curves"])
    return {
        "data": scaling,
        "title": set_title(scaling),
        "curves": charts.responsive_chart(charts.parallel_svg, curves),
        "points": [
            {"curve": curve["name"], **point}
            for curve in scaling["curves"]
            for point in curve["points"]
        ],
    }


def published_view(figures: Sequence[Json], *, ours: Iterable[Json] = ()) -> dict[str, Any] | None:
    """Our figures, then the papers', best first, with sources and notes; None if they have none."""
    if not figures:
        return None
    best_first = sorted(figures, key=lambda row: -row["accuracy"])
    notes = list(dict.fromkeys(note for row in best_first if (note := _note(row))))
    names = dict.fromkeys(row["paper"] for row in best_first)
    letters = {letter.strip() for row in figures for letter in row["known"].split(",")}
    return {
        "rows": [
            *({**row, "name": f"ours: {row['name']}", "source": "this run", "strong": True}
              for row in ours),
            *(_published_row(row, notes) for row in best_first),
        ],
        "has_tokens": any("thinking_tokens" in row for row in figures),
        "papers": [papers()[name] for name in names],
        "legend": {letter: text for letter, text in legend().items() if letter in letters},
        "notes": notes,
    }  # fmt: skip


def _published_row(row: Json, notes: Sequence[str]) -> dict[str, Any]:
    note_mark = f"({notes.index(_note(row)) + 1})" if _note(row) else ""
    return {
        "name": row["model"],
        "setting": row.get("setting"),
        "accuracy": Cell(text=f"{row['accuracy']:.1f}%", note=note_mark),
        "protocol": row["protocol"],
        "mean_thinking_tokens": Cell(text=count(row.get("thinking_tokens"))),
        "num_examples": row.get("num_examples"),
        "source": f"{row['paper']}, {row['table']} [{row['known']}]",
    }


def _note(row: Json) -> str:
    note = str(row.get("note", ""))
    if bounds := row.get("difference_ci95"):
        note = f"{bounds[0]:+g} to {bounds[1]:+g} points; {note}".replace("-", "−")
    return note
