"""The plan of a run: what is missing, what is finished, and rows and tokens of what is left.

    {"needed": [{"setting": "trace.sources.0.path", "path": "chains.jsonl", "remedy": "--set …"}],
     "downloads": ["Qwen/Qwen3-0.6B"],
     "status": {"pool": "done", "filter": "pending"}, "plan": {"pool": {"num_rows": 800, …}, …},
     "tokens_per_second": 410.2, "estimated_minutes": 2.4, …}

Writes nothing and loads no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slowthink.data.manifests import read_manifest
from slowthink.errors import DataError
from slowthink.pipeline.contract import GENERATING_STAGES, stage_inputs, stage_module
from slowthink.pipeline.plan import MissingInput, downloads, missing_inputs
from slowthink.pipeline.resolve import resolve_run
from slowthink.pipeline.run_folder import check_run_folder, stage_status
from slowthink.recipe import STAGES, Recipe
from slowthink.recipe.loading import recipe_names


def plan_run(recipe: Recipe, root: Path, *, stages: Sequence[str] | None = None) -> dict[str, Any]:
    """The settings, what `auto` becomes in them, and the plan of each stage (or those named).

    `estimated_minutes` is the time to generate the tokens of unfinished stages at the speed of a
    finished stage of this run; None if none was measured.
    """
    check_run_folder(root)
    resolved = resolve_run(recipe, root, measure=False)
    recipe, selected = resolved.recipe, list(stages or recipe.stages())
    status = _statuses(recipe, root, selected)
    pending = [stage for stage in selected if status[stage] != "done"]
    plan = {stage: stage_module(stage).plan(recipe) for stage in selected}
    num_tokens = sum(
        plan[stage].get("estimated_tokens", 0) for stage in pending if stage in GENERATING_STAGES
    )
    speed = _measured_speed(root)
    needed = [*missing_inputs(recipe, pending), *_missing_stages(recipe, root, pending)]
    return {
        "recipe": recipe.model_dump(mode="json"),
        "auto": resolved.to_json(),
        "out": str(root),
        "needed": [item.to_json() for item in needed],
        "downloads": downloads(recipe, pending),
        "status": status,
        "plan": plan,
        "estimated_tokens": num_tokens,
        "tokens_per_second": speed,
        "estimated_minutes": num_tokens / speed / 60 if speed else None,
    }


def _statuses(recipe: Recipe, root: Path, stages: Sequence[str]) -> dict[str, str]:
    """The status of each stage; those that read a changed or damaged one count as changed, since an
    update runs them again."""
    statuses: dict[str, str] = {}
    for stage in stages:
        inputs = (statuses.get(name) for name in stage_inputs(recipe, root, stage))
        is_outdated = any(status in ("changed", "damaged") for status in inputs)
        own = _status(recipe, root, stage)
        statuses[stage] = "changed" if is_outdated and own == "done" else own
    return statuses


def _status(recipe: Recipe, root: Path, stage: str) -> str:
    """done | changed | damaged | pending."""
    try:
        status = stage_status(recipe, root, stage, version=stage_module(stage).STAGE_VERSION)
    except DataError:
        return "damaged"
    return "done" if status.done else "changed" if status.changed else "pending"


def _missing_stages(recipe: Recipe, root: Path, stages: Sequence[str]) -> list[MissingInput]:
    """Earlier stages of the recipe that these read, directly or not, and that are neither finished
    nor among them, in order."""
    missing: set[str] = set()
    queue = [stage for stage in stages if stage != "report"]
    while queue:
        for name, folder in stage_inputs(recipe, root, queue.pop()).items():
            if name not in {*stages, *missing} and not (folder / "manifest.json").exists():
                missing.add(name)
                queue.append(name)
    is_saved = (root / "recipe.yaml").is_file()
    source = root if is_saved else f"{_source(recipe)} --out {root}"
    return [
        MissingInput(setting=name, path=str(root / name), command=f"slowthink {name} {source}")
        for name in STAGES
        if name in missing
    ]


def _source(recipe: Recipe) -> str:
    return recipe.name if recipe.name in recipe_names() else "RECIPE"


def _measured_speed(root: Path) -> float | None:
    """Decoded tokens per second of sampling in the run's finished stages, interrupted runs of them
    included; loading and grading are not. None if no manifest has both."""
    num_tokens = seconds = 0.0
    for stage in GENERATING_STAGES:
        if (root / stage / "manifest.json").exists():
            facts = read_manifest(root / stage).get("facts") or {}
            decoded = (facts.get("tokens") or {}).get("decoded")
            if decoded and (sampling_seconds := facts.get("sampling_seconds")):
                num_tokens += decoded
                seconds += sampling_seconds
    return round(num_tokens / seconds, 1) if seconds else None
