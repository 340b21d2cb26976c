"""The page: one HTML file from one plain dict. It asks for nothing, and runs no script but its own.

Jinja escapes every text; a Content-Security-Policy that names the hash of the page's script and
style stands behind it, so that markup which came through all the same would still be inert.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from slowthink.report import charts, svg, tables, text


def render_page(data: Mapping[str, Any]) -> str:
    """The HTML of `data.collect`'s dict."""
    css, script = _asset("page.css") + charts.chart_css(), _asset("page.js")
    assets = {"css": Markup(css), "script": Markup(script), "policy": _policy(css, script)}
    page = _environment().get_template("page.html").render(data=data, **assets, **_view(data))
    return page.encode("utf-8", "replace").decode("utf-8")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("slowthink.report", package_path=""),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "sort_keys": False}
    names = ("percent", "points", "interval", "count", "decimal", "duration", "point_name")
    environment.filters.update({name: getattr(text, name) for name in names})
    return environment


def _asset(name: str) -> str:
    return (resources.files("slowthink.report") / name).read_text("utf-8")


def _policy(css: str, script: str) -> str:
    """Nothing may be loaded; only this very style and script may be used."""
    return (
        f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(css)}'; script-src '{_hash(script)}'"
    )


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


# --- what the template shows ----------------------------------------------------------------------


def _view(data: Mapping[str, Any]) -> dict[str, Any]:
    arms, headline = data["arms"], data["headline"]
    compared = tables.compared_points(arms, headline)
    training = data["training"]
    return {
        "curves": _two_sizes(charts.curve_svg, arms),
        "points": tables.point_table(arms, compared) if arms else None,
        "domain_accuracy": tables.domain_table(arms, compared),
        "selection": tables.selection_table(data["domains"]),
        "lengths": tables.length_table(data["lengths"]),
        "pass_rates": tables.pass_rate_table(data["difficulty"]),
        "funnel": _funnel(data),
        "losses": _two_sizes(charts.loss_svg, training["steps"]) if training else None,
        "roles": _roles(compared, headline),
        "settings": yaml.safe_dump(data["run"]["settings"], allow_unicode=True, sort_keys=False),
    }


def _roles(
    compared: Mapping[str, Mapping[str, Any]], headline: Mapping[str, Any]
) -> dict[str, str | None]:
    """Names of the two arms that the headline compares."""
    names = {}
    for role in ("base", "tuned"):
        point = headline[f"{role}_point"]
        names[role] = next((name for name, one in compared.items() if one == point), None)
    return names


def _two_sizes(draw: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, Markup] | None:
    """The same chart for wide screens and for phones; CSS shows one of them."""
    wide, narrow = (draw(rows, size=size) for size in (svg.WIDE, svg.NARROW))
    return {"wide": Markup(wide), "narrow": Markup(narrow)} if wide else None


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
