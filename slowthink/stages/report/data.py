"""A run as one plain dict: what the page shows, and what `slowthink report RUN --json` prints.

Reads manifests and tables only; nothing is measured here. A stage that is absent leaves its part
empty, so a run of `evaluate` alone, or a half finished one, can be shown too.

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

import yaml

from slowthink.environment import commit, machine
from slowthink.errors import DataError
from slowthink.pipeline.contract import read_manifest
from slowthink.recipe import STAGES, ReportConfig
from slowthink.stages.report import excerpts, problem_columns
from slowthink.stages.report.curation import CURATION_STAGES, curation_summary
from slowthink.stages.report.sets import parallel_of, published_for, sets_of
from slowthink.stages.report.text import finite

SUMMARY_KEYS = (
    "base_accuracy", "tuned_accuracy", "difference", "difference_ci95", "difference_n",
    "base_point", "tuned_point",
)  # fmt: skip
STEP_COLUMNS = (
    "step", "epoch", "loss", "learning_rate", "grad_norm", "num_tokens", "num_loss_tokens",
)  # fmt: skip
TOKEN_KINDS = ("prefilled", "decoded", "forced", "re_prefilled")


@dataclass(frozen=True, kw_only=True)
class Run:
    """The finished stages of a run folder."""

    root: Path
    settings: Mapping[str, Any]
    """The resolved recipe, as far as it is known."""
    folders: Mapping[str, Path]
    manifests: Mapping[str, Mapping[str, Any]]

    def facts(self, stage: str) -> Mapping[str, Any]:
        """What the stage said of itself; empty where it did not run."""
        facts: Mapping[str, Any] = self.manifests.get(stage, {}).get("facts") or {}
        return facts

    @property
    def summary(self) -> Mapping[str, Any]:
        """The evaluate stage's figures."""
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
) -> Run:
    """The finished stages in `folders` (by default all in `root`).

    Raises DataError where there is none.
    """
    places = {stage: root / stage for stage in STAGES} if folders is None else dict(folders)
    done = {stage: path for stage, path in places.items() if (path / "manifest.json").exists()}
    if not done:
        raise DataError(
            f"{root}: no finished stage; expected folders such as {root / 'evaluate'} with a "
            "manifest.json. Name a run folder, or run it first: slowthink run RECIPE --out DIR"
        )
    manifests = {stage: read_manifest(path) for stage, path in done.items()}
    known = _settings(root, manifests) if settings is None else settings
    return Run(root=root, settings=known, folders=done, manifests=manifests)


def _settings(root: Path, manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The recipe beside the stages, else what their manifests keep of it."""
    path = root / "recipe.yaml"
    if path.exists():
        return dict(yaml.safe_load(path.read_text("utf-8")) or {})
    merged: dict[str, Any] = {"name": root.name}
    for manifest in manifests.values():
        merged |= manifest["settings"]
    return merged


# --- headline -------------------------------------------------------------------------------------


def headline(root: Path) -> dict[str, Any]:
    """The figures that matter of the run in this folder, as `--json` prints them.

    What was not measured is null, or an empty list. `wall_seconds` is the sum over stages, or
    `run.json`'s where that is larger. Raises DataError where no stage is finished.
    """
    return headline_of(open_run(root))


def headline_of(run: Run) -> dict[str, Any]:
    """The same of an opened run."""
    summary = run.summary
    found = {
        "name": run.settings.get("name"),
        **_cost(run),
        **{key: summary.get(key) for key in SUMMARY_KEYS},
        "curve": summary.get("curve") or [],
        "waits": summary.get("waits") or [],
        "budget_violations": summary.get("budget_violations"),
        "thinking_natural_rate": summary.get("thinking_natural_rate"),
        "answer_eos_rate": summary.get("answer_eos_rate"),
        "sweep": summary.get("sweep"),
        "sets": sets_of(summary),
        "averages": summary.get("averages") or [],
        "parallel": parallel_of(summary),
        "key_review": summary.get("key_review") or [],
        "judge": summary.get("judge"),
        "funnel": funnel(run),
        "curation": curation_summary(
            run.folders, {stage: run.facts(stage) for stage in run.manifests}, run.settings
        ),
    }
    cleaned: dict[str, Any] = finite(found)
    return cleaned


def _cost(run: Run) -> dict[str, Any]:
    seconds = {stage: one["wall_seconds"] for stage, one in run.manifests.items()}
    return {
        "wall_seconds": round(max(sum(seconds.values()), _whole_seconds(run.root)), 3),
        "seconds": seconds,
        "peak_rss_mb": max(one.get("peak_rss_mb") or 0 for one in run.manifests.values()),
        "tokens": _tokens(run),
    }


def _whole_seconds(root: Path) -> float:
    path = root / "run.json"
    if not path.exists():
        return 0.0
    return float(json.loads(path.read_text("utf-8")).get("wall_seconds") or 0.0)


def _tokens(run: Run) -> dict[str, int]:
    total: Counter[str] = Counter(dict.fromkeys(TOKEN_KINDS, 0))
    for stage in run.manifests:
        spent = run.facts(stage).get("tokens")
        if stage == "evaluate":
            spent = spent or run.summary.get("tokens")
        if isinstance(spent, Mapping):
            total.update({kind: int(spent.get(kind) or 0) for kind in TOKEN_KINDS})
    return dict(total)


def funnel(run: Run) -> list[dict[str, Any]]:
    """Every step of every stage that can drop rows: how many came in, how many passed, and why."""
    return [
        {"stage": stage, **_step(step)}
        for stage in STAGES
        for step in run.manifests.get(stage, {}).get("steps") or []
    ]


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "step": step["name"],
        "num_in": step["num_in"],
        "num_out": step["num_out"],
        "reasons": dict(step.get("reasons") or {}),
    }


# --- the page's data ------------------------------------------------------------------------------


def collect(run: Run, config: ReportConfig) -> dict[str, Any]:
    """All that one page shows."""
    head = headline_of(run)
    found = {
        "title": config.title or run.settings.get("name") or run.root.name,
        "headline": head,
        "published": {one["benchmark"]: published_for(one["benchmark"]) for one in head["sets"]},
        "warnings": _warnings(run),
        "drops": _drops(run),
        "num_heldout": (run.facts("pool").get("splits") or {}).get("heldout"),
        "domains": _domains(run),
        "lengths": _lengths(run),
        "difficulty": _difficulty(run),
        "training": _training(run),
        "transcripts": _transcripts(run, config),
        "run": _about(run),
    }
    cleaned: dict[str, Any] = finite(found)
    return cleaned


def _warnings(run: Run) -> list[dict[str, str]]:
    return [
        {"stage": stage, "text": str(text)}
        for stage in run.manifests
        for text in run.facts(stage).get("warnings") or []
    ]


def _drops(run: Run) -> list[dict[str, Any]]:
    """By stage, step and reason: how many rows were dropped, and a few of them."""
    found = [
        {"stage": stage} | drop
        for stage, folder in run.folders.items()
        for drop in excerpts.read_drops(folder, seed=run.seed)
    ]
    examples = [example for drop in found for example in drop["examples"]]
    folders = [run.folders[stage] for stage in CURATION_STAGES if stage in run.folders]
    questions = problem_columns.questions_of(folders, {example["id"] for example in examples})
    excerpts.add_questions(examples, questions)
    return found


def _domains(run: Run) -> list[dict[str, Any]]:
    """Training problems by domain, after each stage of the funnel that is present, and where the
    filter named domains also right after that; largest first, what has no domain last."""
    counts: dict[str, Mapping[str, int]] = {}
    for stage in CURATION_STAGES:
        if stage == "filter" and (labels := run.facts("filter").get("domain_labels")):
            counts["naming domains"] = labels["domains"]
        if stage in run.folders:
            counts[stage] = problem_columns.domain_counts(run.folders[stage])

    def place(name: str) -> tuple[Any, ...]:
        return (name == "unknown", *(-one.get(name, 0) for one in counts.values()), name)

    return [
        {"domain": name, "counts": {stage: one.get(name, 0) for stage, one in counts.items()}}
        for name in sorted({name for one in counts.values() for name in one}, key=place)
    ]


def _lengths(run: Run) -> list[dict[str, Any]]:
    """Quantiles of the chains' thinking tokens, where the stages noted them."""
    places = (
        ("all right chains", "trace", "thinking_tokens"),
        ("to choose from", "select", "thinking_tokens_before"),
        ("chosen", "select", "thinking_tokens"),
    )
    found = [(name, run.facts(stage).get(key)) for name, stage, key in places]
    if found[1][1]:
        found = found[1:]
    return [{"name": name, **quantiles} for name, quantiles in found if quantiles]


def _difficulty(run: Run) -> dict[str, Any] | None:
    """How many tried problems had each pass rate, as the filter stage says."""
    facts = run.facts("filter").get("difficulty")
    return dict(facts) if isinstance(facts, Mapping) else None


def _training(run: Run) -> dict[str, Any] | None:
    if "train" not in run.folders:
        return None
    rows = excerpts.read_columns(run.folders["train"] / "data.parquet", STEP_COLUMNS)
    return {"steps": sorted(rows, key=lambda row: row["step"])} if rows else None


def _transcripts(run: Run, config: ReportConfig) -> list[dict[str, Any]]:
    if "evaluate" not in run.folders:
        return []
    return excerpts.read_transcripts(
        run.folders["evaluate"], num=config.num_transcripts, seed=run.seed
    )


def _about(run: Run) -> dict[str, Any]:
    return {
        "name": run.settings.get("name"),
        "model": run.settings.get("model"),
        "revision": run.settings.get("revision"),
        "seed": run.settings.get("seed"),
        "commit": commit(),
        "machine": machine(),
        "versions": _versions(run),
        "stages": [_stage(run, stage) for stage in run.manifests],
        "settings": dict(run.settings),
    }


def _versions(run: Run) -> dict[str, str]:
    """Versions that the stages ran under; where they differ, all of them."""
    found: dict[str, list[str]] = {}
    for manifest in run.manifests.values():
        for package, version in (manifest.get("versions") or {}).items():
            if version not in found.setdefault(package, []):
                found[package].append(version)
    return {package: ", then ".join(versions) for package, versions in found.items()}


def _stage(run: Run, stage: str) -> dict[str, Any]:
    manifest = run.manifests[stage]
    keys = ("wall_seconds", "peak_rss_mb", "num_records", "num_dropped", "finished")
    simple = {
        key: value
        for key, value in run.facts(stage).items()
        if isinstance(value, (str, int, float, bool))
    }
    return {"stage": stage, **{key: manifest.get(key) for key in keys}, "facts": simple}
