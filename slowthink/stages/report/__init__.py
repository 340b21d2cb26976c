"""The report stage: a run as one HTML file, as data, and its curve as a picture.

Writes `report.html` (self-contained), `curve.svg` (for a README) and `report.json` into its folder;
the rows of its table are the points of the curve. Reads only manifests and tables of other stages.

    report.render(Path("runs/quickstart"), Path("runs/quickstart/report"))
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink.pipeline.contract import StageContext, StageResult
from slowthink.recipe import Recipe, ReportConfig
from slowthink.serialise import write_atomic
from slowthink.stages.report import charts, page
from slowthink.stages.report.data import FinishedStages, collect, headline, open_run

STAGE_VERSION = 3

__all__ = ["STAGE_VERSION", "ReportPoint", "headline", "plan", "render", "run"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportPoint:
    """A point of one arm on one set: a row of the report's table."""

    id: str
    """arm | protocol | benchmark | cap | waits | forced or free."""
    arm: str
    benchmark: str
    protocol: str
    max_thinking_tokens: int
    waits: int
    forced: bool
    n: int
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    mean_thinking_tokens: float | None


def run(context: StageContext) -> StageResult:
    """Write the report's files; the records are the points of the curve."""
    opened = open_run(
        context.root, folders=context.inputs, settings=context.recipe.model_dump(mode="json")
    )
    data = _write(opened, context.folder, context.config)
    context.notify(f"report: {context.root / context.stage / 'report.html'}")
    facts = {"num_transcripts": len(data["transcripts"]), "num_sets": len(data["headline"]["sets"])}
    return StageResult(records=list(_curve_points(data)), record_type=ReportPoint, facts=facts)


def plan(recipe: Recipe) -> dict[str, Any]:
    """The largest number of transcripts shown; no tokens are spent."""
    num_arms = len(recipe.evaluate.arms) if recipe.evaluate else 0
    num_per_arm = recipe.report.num_transcripts if recipe.report else 0
    return {"max_transcripts": num_per_arm * num_arms, "estimated_tokens": 0}


def render(root: Path, folder: Path, config: ReportConfig | None = None) -> Path:
    """Write the report of the stages finished in `root` into `folder`; returns the HTML file.

    Raises DataError if no stage is finished.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write(open_run(root), folder, config or ReportConfig())
    return folder / "report.html"


def _write(opened: FinishedStages, folder: Path, config: ReportConfig) -> dict[str, Any]:
    data = collect(opened, config)
    write_atomic(folder / "report.html", page.render_page(data))
    text = json.dumps(data, indent=1, ensure_ascii=False)
    write_atomic(folder / "report.json", text.encode("utf-8", "replace").decode("utf-8"))
    sets = data["headline"]["sets"]
    if sets and (picture := charts.curve_svg(sets[0]["arms"], css=charts.chart_css())):
        write_atomic(folder / "curve.svg", picture)
    return data


def _curve_points(data: Mapping[str, Any]) -> Iterator[ReportPoint]:
    for eval_set in data["headline"]["sets"]:
        for arm in eval_set["arms"]:
            for point in arm["points"]:
                yield _curve_point(eval_set, arm["name"], point)


def _curve_point(eval_set: Mapping[str, Any], arm: str, point: Mapping[str, Any]) -> ReportPoint:
    low, high = point.get("ci95") or (None, None)
    benchmark, protocol = eval_set["benchmark"], eval_set["protocol"]
    cap, waits = point["max_thinking_tokens"], point.get("waits") or 0
    forced = bool(point.get("forced", True))
    return ReportPoint(
        id=f"{arm}|{protocol}|{benchmark}|{cap}|{waits}|{'forced' if forced else 'free'}",
        arm=arm, benchmark=benchmark, protocol=protocol,
        max_thinking_tokens=cap, waits=waits, forced=forced,
        n=point["n"], accuracy=point.get("accuracy"), accuracy_low=low, accuracy_high=high,
        mean_thinking_tokens=point.get("mean_thinking_tokens"),
    )  # fmt: skip
