"""The page: one HTML file from one plain dict. It requests nothing and runs only its own script.

Jinja escapes every text. In addition, a Content-Security-Policy allows only the page's own script
and style, by hash: markup that passed the escaping would still be inert.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib import resources
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from slowthink.stages.report import charts, tables, text
from slowthink.stages.report.curation_view import curation_view
from slowthink.stages.report.evaluation_view import evaluation_view


def render_page(data: Mapping[str, Any]) -> str:
    """The HTML of `data.collect`'s dict."""
    steps = (data["training"] or {}).get("steps")
    return render(
        "page.html",
        script=asset("page.js"),
        data=data,
        step_charts=_step_charts(steps or ()),
        settings=yaml.safe_dump(data["run"]["settings"], allow_unicode=True, sort_keys=False),
        curated=curation_view(data),
        **evaluation_view(data),
    )


def _step_charts(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Markup]]:
    """The charts of training that have data; the first is the loss."""
    drawn = [
        charts.responsive_chart(partial(charts.step_svg, column=column), steps)
        for column in charts.STEP_CHARTS
    ]
    return [chart for chart in drawn if chart]


def render(template: str, *, script: str = "", **values: Any) -> str:
    """A page with its style and script inlined, and a policy that allows nothing else."""
    css = asset("page.css") + charts.chart_css()
    assets = {"css": Markup(css), "script": Markup(script), "policy": _policy(css, script)}
    page = _environment().get_template(template).render(**values, **assets)
    return page.encode("utf-8", "replace").decode("utf-8")


@cache
def _environment() -> Environment:
    """Functions of `text` are filters, and formats of columns. Cached to compile templates once."""
    environment = Environment(
        loader=PackageLoader("slowthink.stages.report", package_path=""),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "sort_keys": False}
    formats = dict(inspect.getmembers(text, inspect.isfunction))
    environment.filters.update(formats)
    environment.globals.update(formats, column=tables.Column, make_table=tables.make_table)
    return environment


def asset(name: str) -> str:
    """The text of a file of this package."""
    return (resources.files("slowthink.stages.report") / name).read_text("utf-8")


def _policy(css: str, script: str) -> str:
    """A Content-Security-Policy that loads nothing and allows only this style and script."""
    scripts = f"'{_csp_hash(script)}'" if script else "'none'"
    return (
        f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_csp_hash(css)}'; script-src {scripts}"
    )


def _csp_hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
