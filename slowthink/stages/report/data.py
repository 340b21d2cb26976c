"""A run as one plain dict: what the page shows, and what `slowthink report RUN --json` prints.

Reads manifests and tables only; nothing is measured here. Parts of missing stages are empty, so
that a run of `evaluate` alone, or an unfinished run, has a report too.

    {"title": "quickstart", "headline": {"base_accuracy": 0.05, "tuned_accuracy": 0.45, ...},
     "funnel": [{"stage": "filter", "step": "quality", "num_in": 400, ...}], "sets": [...], ...}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink.environment import commit, machine
from slowthink.errors import DataError
from slowthink.pipeline.contract import read_manifest
from slowthink.recipe import STAGES, ReportConfig
from slowthink.serialise import load_yaml
from slowthink.stage_rows import COST_FILE
from slowthink.stages.report import excerpts, problem_columns
from slowthink.stages.report.curation import curation_summary
from slowthink.stages.report.sets import evaluated_sets, parallel_scaling, published_for
from slowthink.stages.report.text import json_safe
from slowthink.stages.report.warnings import run_warnings

SUMMARY_KEYS = (
    "base_accuracy", "tuned_accuracy", "difference", "difference_ci95", "difference_n",
    "base_point", "tuned_point", "thinking_gain",
)  # fmt: skip
STEP_COLUMNS = (
    "step", "epoch", "loss", "learning_rate", "grad_norm", "num_tokens", "num_loss_tokens",
    "token_accuracy",
)  # fmt: skip
TOKEN_KINDS = ("prefilled", "decoded", "forced", "re_prefilled")


@dataclass(frozen=True, kw_only=True)
class FinishedStages:
    """The finished stages of a run folder."""

    root: Path
    settings: Mapping[str, Any]
    """The resolved recipe, or the settings that the manifests contain."""
    folders: Mapping[str, Path]
    manifests: Mapping[str, Mapping[str, Any]]

    def facts(self, stage: str) -> Mapping[str, Any]:
        """The facts in the stage's manifest; empty if it did not run."""
        facts: Mapping[str, Any] = self.manifests.get(stage, {}).get("facts") or {}
        return facts

    @property
    def summary(self) -> Mapping[str, Any]:
        """The summary of the evaluate stage."""
        summary: Mapping[str, Any] = self.facts("evaluate").get("summary") or {}
        return summary

    @property
    def seed(self) -> int:
        """The recipe's seed."""
        return int(self.settings.get("seed") or 0)


def open_run(
    root: Path,
    *,
    folders: Mapping[str, Path] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> FinishedStages:
    """The finished stages in `folders` (default: all in `root`).

    Raises DataError if no stage is finished.
    """
    candidates = {stage: root / stage for stage in STAGES} if folders is None else folders
    finished = {
        stage: path for stage, path in candidates.items() if (path / "manifest.json").exists()
    }
    if not finished:
        raise DataError(
            f"{root}: no finished stage; expected folders such as {root / 'evaluate'} with a "
            "manifest.json. Name a run folder, or run it first: slowthink run RECIPE --out DIR"
        )
    manifests = {stage: read_manifest(path) for stage, path in finished.items()}
    if settings is None:
        settings = _settings(root, manifests)
    return FinishedStages(root=root, settings=settings, folders=finished, manifests=manifests)


def _settings(root: Path, manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The settings with which the stages were run, in their manifests; the name is that of the
    recipe in the run folder, whose other settings may be those of an update that failed."""
    settings: dict[str, Any] = {"name": root.name}
    for manifest in manifests.values():
        settings |= manifest["settings"]
    path = root / "recipe.yaml"
    recipe = dict(load_yaml(path.read_text("utf-8")) or {}) if path.exists() else {}
    return recipe | settings | {"name": recipe.get("name", settings["name"])}


# --- headline -------------------------------------------------------------------------------------


def headline(root: Path) -> dict[str, Any]:
    """The main figures of the run in this folder, as `--json` prints them.

    A figure that was not measured is null, or an empty list. `wall_seconds` is the sum over stages,
    or that of `run.json` if larger. Raises DataError if no stage is finished.
    """
    return _headline(open_run(root))


def _headline(run: FinishedStages) -> dict[str, Any]:
    summary = run.summary
    figures = {
        "name": run.settings.get("name"),
        **_cost(run),
        **{key: summary.get(key) for key in SUMMARY_KEYS},
        "curve": summary.get("curve") or [],
        "waits": summary.get("waits") or [],
        "budget_violations": summary.get("budget_violations"),
        "thinking_natural_rate": summary.get("thinking_natural_rate"),
        "answer_eos_rate": summary.get("answer_eos_rate"),
        "sweep": summary.get("sweep"),
        "sets": evaluated_sets(summary),
        "averages": summary.get("averages") or [],
        "parallel": parallel_scaling(summary),
        "key_review": summary.get("key_review") or [],
        "judge": summary.get("judge"),
        "funnel": funnel(run),
        "curation": curation_summary(
            run.folders, {stage: run.facts(stage) for stage in run.manifests}, run.settings
        ),
    }
    figures["warnings"] = run_warnings(
        {stage: run.facts(stage) for stage in run.manifests}, run.settings, figures["sets"],
        _pool_domains(run),
    )  # fmt: skip
    return dict(json_safe(figures))


def _pool_domains(run: FinishedStages) -> Mapping[str, int]:
    """Training problems by domain: as the filter assigned them, else those of the pool."""
    if labels := run.facts("filter").get("domain_labels"):
        domains: Mapping[str, int] = labels["domains"]
        return domains
    stage = next((stage for stage in ("filter", "pool") if stage in run.folders), None)
    return problem_columns.domain_counts(run.folders[stage]) if stage else {}


def _cost(run: FinishedStages) -> dict[str, Any]:
    seconds = {stage: manifest["wall_seconds"] for stage, manifest in run.manifests.items()}
    path = run.root / "run.json"
    whole_run = json.loads(path.read_text("utf-8")) if path.exists() else {}
    whole_run_seconds = float(whole_run.get("wall_seconds") or 0.0)
    return {
        "wall_seconds": round(max(sum(seconds.values()), whole_run_seconds), 3),
        "seconds": seconds,
        "peak_rss_mb": max(manifest.get("peak_rss_mb") or 0 for manifest in run.manifests.values()),
        "tokens": _tokens(run),
    }


def _tokens(run: FinishedStages) -> dict[str, int]:
    total: Counter[str] = Counter(dict.fromkeys(TOKEN_KINDS, 0))
    for stage in run.manifests:
        tokens = run.facts(stage).get("tokens")
        if stage == "evaluate":
            tokens = tokens or run.summary.get("tokens")
        if isinstance(tokens, Mapping):
            total.update({kind: int(tokens.get(kind) or 0) for kind in TOKEN_KINDS})
    return dict(total)


def funnel(run: FinishedStages) -> list[dict[str, Any]]:
    """Every step that can drop rows: numbers of rows before and after, and counts of reasons."""
    return [
        {
            "stage": stage,
            "step": step["name"],
            "num_in": step["num_in"],
            "num_out": step["num_out"],
            "reasons": dict(step.get("reasons") or {}),
        }
        for stage in STAGES
        for step in run.manifests.get(stage, {}).get("steps") or []
    ]


# --- the page's data ------------------------------------------------------------------------------


def collect(run: FinishedStages, config: ReportConfig) -> dict[str, Any]:
    """The data of the page, which is also `report.json`."""
    head = _headline(run)
    benchmarks = [eval_set["benchmark"] for eval_set in head["sets"]]
    data = {
        "title": config.title or run.settings.get("name") or run.root.name,
        "headline": head,
        "published": {name: published_for(name) for name in benchmarks},
        "warnings": head["warnings"],
        "drops": _drops(run),
        "num_heldout": (run.facts("pool").get("splits") or {}).get("heldout"),
        "domains": _domains(run),
        "lengths": _lengths(run),
        "difficulty": _difficulty(run),
        "training": _training(run),
        "transcripts": _transcripts(run, config),
        "run": _run_details(run),
    }
    return dict(json_safe(data))


def _drops(run: FinishedStages) -> list[dict[str, Any]]:
    """The number of dropped rows by stage, step and reason, with a few examples."""
    drops = [
        {"stage": stage} | drop
        for stage, folder in run.folders.items()
        for drop in excerpts.read_drops(folder, seed=run.seed)
    ]
    examples = [example for drop in drops for example in drop["examples"]]
    problem_columns.add_questions(examples, run.folders)
    return drops


def _domains(run: FinishedStages) -> list[dict[str, Any]]:
    """Training problems by domain after each finished stage, and after the filter assigned domains;
    the largest first, problems without a domain last."""
    counts: dict[str, Mapping[str, int]] = {}
    for stage in problem_columns.CURATION_STAGES:
        if stage == "filter" and (labels := run.facts("filter").get("domain_labels")):
            counts["naming domains"] = labels["domains"]
        if stage in run.folders:
            counts[stage] = problem_columns.domain_counts(run.folders[stage])
    by_stage = list(counts.values())
    names = sorted(
        {name for by_domain in counts.values() for name in by_domain},
        key=lambda name: (name == "unknown", [-num.get(name, 0) for num in by_stage], name),
    )
    return [
        {"domain": name, "counts": {stage: counts[stage].get(name, 0) for stage in counts}}
        for name in names
    ]


def _lengths(run: FinishedStages) -> list[dict[str, Any]]:
    """Quantiles of the chains' thinking tokens, if the stages reported them."""
    sources = (
        ("all right chains", "trace", "thinking_tokens"),
        ("to choose from", "select", "thinking_tokens_before"),
        ("chosen", "select", "thinking_tokens"),
    )
    reported = [(name, run.facts(stage).get(key)) for name, stage, key in sources]
    if reported[1][1]:
        reported = reported[1:]
    return [{"name": name, **quantiles} for name, quantiles in reported if quantiles]


def _difficulty(run: FinishedStages) -> dict[str, Any] | None:
    """Attempted problems by pass rate, as the filter stage reported them."""
    facts = run.facts("filter").get("difficulty")
    return dict(facts) if isinstance(facts, Mapping) else None


def _training(run: FinishedStages) -> dict[str, Any] | None:
    if "train" not in run.folders:
        return None
    rows = excerpts.read_columns(run.folders["train"] / "data.parquet", STEP_COLUMNS)
    costs = {cost["step"]: cost for cost in _step_costs(run.folders["train"])}
    steps = [row | costs.get(row["step"], {}) for row in rows]
    steps.sort(key=lambda row: row["step"])
    return {"steps": steps, "dev": run.facts("train").get("dev")} if steps else None


def _step_costs(folder: Path) -> list[dict[str, Any]]:
    """Speed and memory of each step; empty in a run of an older version."""
    path = folder / COST_FILE
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def _transcripts(run: FinishedStages, config: ReportConfig) -> list[dict[str, Any]]:
    if "evaluate" not in run.folders:
        return []
    return excerpts.read_transcripts(
        run.folders["evaluate"], num=config.num_transcripts, seed=run.seed
    )


def _run_details(run: FinishedStages) -> dict[str, Any]:
    return {
        **{key: run.settings.get(key) for key in ("name", "model", "revision", "seed")},
        "commit": commit(),
        "machine": machine(),
        "versions": _versions(run),
        "stages": [_stage_row(run, stage) for stage in run.manifests],
        "settings": dict(run.settings),
    }


def _versions(run: FinishedStages) -> dict[str, str]:
    """Package versions of the stages; every version if they differ."""
    versions: dict[str, dict[str, None]] = {}
    for manifest in run.manifests.values():
        for package, version in (manifest.get("versions") or {}).items():
            versions.setdefault(package, {})[version] = None
    return {package: ", then ".join(names) for package, names in versions.items()}


def _stage_row(run: FinishedStages, stage: str) -> dict[str, Any]:
    manifest = run.manifests[stage]
    keys = ("wall_seconds", "peak_rss_mb", "num_records", "num_dropped", "finished")
    scalars = {
        key: value
        for key, value in run.facts(stage).items()
        if isinstance(value, (str, int, float, bool))
    }
    return {"stage": stage, **{key: manifest.get(key) for key in keys}, "facts": scalars}
