"""The page: one HTML file from one plain dict. It asks for nothing, and runs no script but its own.

Jinja escapes every text; a Content-Security-Policy that names the hash of the page's script and
style stands behind it, so that markup which came through all the same would still be inert.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from slowthink.stages.report import (
    across_tables,
    charts,
    curation_tables,
    set_tables,
    sets,
    svg,
    tables,
    text,
)

FILTERS = (
    "percent", "percentage_points", "interval", "count", "decimal", "duration", "budget_label",
    "p_value", "solve_mark", "detectable_difference", "includes_zero", "join_cjk",
)  # fmt: skip


def render_page(data: Mapping[str, Any]) -> str:
    """The HTML of `data.collect`'s dict."""
    return render("page.html", script=asset("page.js"), data=data, **_view(data))


def render(template: str, *, script: str = "", **values: Any) -> str:
    """A page of ours: style and script inlined, and a policy that admits nothing else."""
    css = asset("page.css") + charts.chart_css()
    assets = {"css": Markup(css), "script": Markup(script), "policy": _policy(css, script)}
    page = _environment().get_template(template).render(**values, **assets)
    return page.encode("utf-8", "replace").decode("utf-8")


@cache
def _environment() -> Environment:
    """Made once a process: it keeps its templates compiled."""
    environment = Environment(
        loader=PackageLoader("slowthink.stages.report", package_path=""),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "sort_keys": False}
    environment.filters.update({name: getattr(text, name) for name in FILTERS})
    return environment


def asset(name: str) -> str:
    """A file of this package, as text."""
    return (resources.files("slowthink.stages.report") / name).read_text("utf-8")


def _policy(css: str, script: str) -> str:
    """Nothing may be loaded; only this very style and script may be used."""
    scripts = f"'{_hash(script)}'" if script else "'none'"
    return (
        f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(css)}'; script-src {scripts}"
    )


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def responsive_chart(draw: Callable[..., str], rows: Sequence[Any]) -> dict[str, Markup] | None:
    """The same chart for wide screens and for phones; CSS shows one of them."""
    wide, narrow = (draw(rows, size=size) for size in (svg.WIDE, svg.NARROW))
    return {"wide": Markup(wide), "narrow": Markup(narrow)} if wide else None


# --- what the template shows ----------------------------------------------------------------------


def _view(data: Mapping[str, Any]) -> dict[str, Any]:
    head, training = data["headline"], data["training"]
    found = head["sets"]
    anchors = [f"set-{number}" for number in range(1, len(found) + 1)]
    return {
        "sets": [
            _set_view(one, anchor, {} if number else head, data["published"][one["benchmark"]])
            for number, (one, anchor) in enumerate(zip(found, anchors, strict=True))
        ],
        "overview": across_tables.overview_table(found, anchors),
        "roles": sets.headline_arm_names(sets.compared_points(found[0], head), head)
        if found
        else {},
        "headline_pair": sets.headline_comparison(found[0], head) if found else None,
        "averages": across_tables.average_table(head["averages"]),
        "published_averages": _published_averages(head["averages"]),
        "parallel": [_parallel_view(one) for one in head["parallel"]],
        "curated": curation_tables.curation_view(data),
        "funnel": _funnel(data),
        "losses": responsive_chart(charts.loss_svg, training["steps"]) if training else None,
        "settings": yaml.safe_dump(data["run"]["settings"], allow_unicode=True, sort_keys=False),
    }


def _set_view(
    one: Mapping[str, Any],
    anchor: str,
    headline: Mapping[str, Any],
    published: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """One set's charts and tables; `headline` is empty for all sets but the first."""
    compared = sets.compared_points(one, headline)
    main = [row for row in published if row.get("main")]
    ours = across_tables.our_rows(one, compared)
    return {
        "anchor": anchor,
        "title": sets.set_title(one),
        "about": sets.describe_set(one),
        "data": one,
        "curves": responsive_chart(charts.curve_svg, one["arms"]),
        "points": set_tables.point_table(one, compared),
        "samples": set_tables.sample_table(one, compared),
        "comparisons": set_tables.comparison_table(one),
        "measures": set_tables.measure_table(one),
        "endings": set_tables.ending_table(one, compared),
        "domains": tables.domain_table(one["arms"], compared),
        "published": across_tables.published_table(main, ours=ours),
        "more_published": across_tables.published_table(
            [row for row in published if not row.get("main")], caption="Curves and ablations."
        ),
    }


def _published_averages(averages: Sequence[Mapping[str, Any]]) -> tables.Table | None:
    """The papers' averages over the ten sets, where ours are over the same ten."""
    ours = across_tables.our_averages(averages)
    figures = sets.published_averages() if ours else []
    return across_tables.published_table(figures, ours=ours, caption="Means over the ten sets.")


def _parallel_view(parallel: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "data": parallel,
        "title": sets.set_title(parallel),
        "curves": responsive_chart(charts.parallel_svg, charts.drawn_curves(parallel["curves"])),
        "points": across_tables.parallel_table(parallel),
    }


def _funnel(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """By stage: the steps that dropped rows, each with a bar and examples, and names of the others.

    Bars of problems and chains share one scale; evaluate counts answers, so it has its own.
    """
    steps = data["headline"]["funnel"]
    widest: dict[bool, int] = {}
    for step in steps:
        answers = step["stage"] == "evaluate"
        widest[answers] = max(widest.get(answers, 1), step["num_in"])
    return [
        _funnel_stage(data, list(group), widest[stage == "evaluate"])
        for stage, group in itertools.groupby(steps, key=lambda step: str(step["stage"]))
    ]


def _funnel_stage(
    data: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], widest: int
) -> dict[str, Any]:
    dropping = [step for step in steps if step["num_in"] != step["num_out"]]
    return {
        "stage": steps[0]["stage"],
        "num_in": steps[0]["num_in"],
        "num_out": steps[-1]["num_out"],
        "bar": Markup(svg.bar(steps[-1]["num_out"] / widest)),
        "steps": [{**step, "dropped": _reasons(data, step)} for step in dropping],
        "quiet": [step["step"] for step in steps if step not in dropping],
    }


def _reasons(data: Mapping[str, Any], step: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Why rows left at this step, the most frequent reason first."""
    return [
        {"reason": reason, "count": num, "examples": _examples(data, step, reason)}
        for reason, num in sorted(step["reasons"].items(), key=lambda item: -item[1])
        if num
    ]


def _examples(data: Mapping[str, Any], step: Mapping[str, Any], reason: str) -> list[Any]:
    for drop in data["drops"]:
        if (drop["stage"], drop["step"], drop["reason"]) == (step["stage"], step["step"], reason):
            return list(drop["examples"])
    return []
