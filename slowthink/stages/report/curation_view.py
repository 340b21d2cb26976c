"""The curation as the templates show it: the funnel, and rows of tables."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from slowthink.records import group_by
from slowthink.stages.report import svg
from slowthink.stages.report.curation import RATE_CLASSES
from slowthink.stages.report.tables import Cell, Column, Json, Rows, with_share
from slowthink.stages.report.text import MISSING, count, decimal, percent

QUANTILES = ("min", "p25", "p50", "p75", "max", "mean")
OVERLAP_LABELS = {
    "run": "Shared n-grams", "copy": "Copies", "paraphrase": "Paraphrases",
    "template": "Same template", "similar": "Similar",
}  # fmt: skip
DUPLICATE_LABELS = {
    "exact": "equal after normalisation", "near": "near duplicates", "semantic": "equal in meaning",
}  # fmt: skip
VERDICT_HEADS = {
    "correct": "Correct", "wrong": "Wrong", "no_answer": "No answer", "truncated": "Truncated",
    "ungradable": "Ungradable", "grader_error": "Grader errors",
}  # fmt: skip
OUTCOME_HEADS = {
    "keep": "Within the limits", "solved too often": "Too easy", "solved too rarely": "Too hard",
    "no attempt can be graded": "Undecided",
}  # fmt: skip


def curation_view(data: Json) -> dict[str, Any]:
    """Values of `data.collect`'s dict for curation.html, beside the dict itself."""
    curation, funnel = data["headline"]["curation"], data["headline"]["funnel"]
    lengths = group_by(curation["lengths"], lambda row: row["measure"])
    return {
        "funnel": _funnel(funnel, data["drops"]),
        "paper_steps": _paper_steps(curation["paper"], funnel),
        "contamination": [_contamination(certificate) for certificate in curation["contamination"]],
        "duplicates": [_duplicate_row(row) for row in curation["duplicates"]],
        "difficulty": _difficulty([_attempt_row(row) for row in curation["difficulty"]]),
        "reported_pass_rates": _reported_pass_rates(data["difficulty"]),
        "behaviour": [_behaviour_row(row) for row in curation["behaviour"]],
        "phases": _count_table((curation["selection"] or {}).get("phases", {})),
        "domains": _domains(data["domains"]),
        "lengths": [_lengths(measure, rows) for measure, rows in lengths.items()],
        "reported_lengths": data["lengths"] if len(lengths.get("thinking tokens", [])) < 2 else [],
        "quantile_columns": [Column(name, name, decimal) for name in QUANTILES],
    }


def _funnel(steps: Sequence[Json], drops: Sequence[Json]) -> Rows:
    """By stage: the steps that dropped rows, with a bar and examples, and names of the other steps.

    Bars of problems and chains share a scale; evaluate counts answers, so it has its own.
    """
    max_rows: dict[bool, int] = {}
    for step in steps:
        counts_answers = step["stage"] == "evaluate"
        max_rows[counts_answers] = max(max_rows.get(counts_answers, 1), step["num_in"])
    return [
        _funnel_stage(list(group), drops, max_rows[stage == "evaluate"])
        for stage, group in itertools.groupby(steps, key=lambda step: str(step["stage"]))
    ]


def _funnel_stage(steps: Sequence[Json], drops: Sequence[Json], max_rows: int) -> dict[str, Any]:
    dropping = [step for step in steps if step["num_in"] != step["num_out"]]
    return {
        "stage": steps[0]["stage"],
        "num_in": steps[0]["num_in"],
        "num_out": steps[-1]["num_out"],
        "bar": Markup(svg.bar(steps[-1]["num_out"] / max_rows)),
        "steps": [{**step, "dropped": _reasons(step, drops)} for step in dropping],
        "others": [step["step"] for step in steps if step not in dropping],
    }


def _reasons(step: Json, drops: Sequence[Json]) -> Rows:
    """Reasons why rows were dropped at this step, the most frequent first, with examples."""
    examples = {
        drop["reason"]: drop["examples"]
        for drop in drops
        if (drop["stage"], drop["step"]) == (step["stage"], step["step"])
    }
    return [
        {"reason": reason, "count": num, "examples": examples.get(reason, [])}
        for reason, num in sorted(step["reasons"].items(), key=lambda item: -item[1])
        if num
    ]


def _paper_steps(paper: Json | None, funnel: Sequence[Json]) -> Rows:
    """The steps of the paper's funnel, each with how many of our problems remain after it."""
    remaining: dict[str, int] = {}
    for step in funnel:
        if step["stage"] == "filter":
            remaining.setdefault("collected", step["num_in"])
            remaining[str(step["step"]).partition(":")[0]] = step["num_out"]
    return [
        {**step, "ours": remaining.get(step["step"]) if step.get("ours") is None else step["ours"]}
        for step in (paper or {}).get("steps", [])
    ]


def _duplicate_row(row: Json) -> dict[str, Any]:
    sizes = [f"{count(num)} of size {size}" for size, num in row["sizes"].items()]
    shown = sizes[:6] + (["and larger ones"] if len(sizes) > 6 else [])
    return {
        **row,
        "name": DUPLICATE_LABELS.get(row["part"], row["part"]),
        "num_not_english": row.get("num_not_english") or None,
        "sizes": ", ".join(shown) or MISSING,
    }


def _contamination(certificate: Json) -> dict[str, Any]:
    """A stage's certificate, with a column per kind of overlap and each benchmark's source."""
    hits = {kind for row in certificate["against"] for kind in row["num_hits"]}
    default = ["run"] if certificate["preset"] == "s1" else ["copy", "template"]
    kinds = [kind for kind in OVERLAP_LABELS if kind in hits] or default
    format_count = with_share(certificate["num_checked"])
    return {
        **certificate,
        "columns": [
            Column(OVERLAP_LABELS[kind], ("num_hits", kind), format_count) for kind in kinds
        ],
        "num_problems": sum(row["num_problems"] or 0 for row in certificate["against"]),
        "against": [
            row | {"source": _source_label(row["source"] or {})} for row in certificate["against"]
        ],
    }


def _source_label(source: Json) -> str:
    if source.get("stage"):
        return f"the {source['stage']}'s held-out problems"
    names = ("hub_id", "path", "revision", "sha256")
    parts = [str(source[name]) for name in names if source.get(name)]
    return " · ".join(part if len(part) < 40 else f"{part[:12]}…" for part in parts) or MISSING


def _difficulty(attempts: Rows) -> dict[str, Any]:
    """Attempts by verdict and outcome, and problems by pass rate, a column per step and model."""
    by_verdict = [
        Column(head, ("verdicts", name), count, omit="zero", alarm=name == "grader_error")
        for name, head in VERDICT_HEADS.items()
    ]
    by_outcome = [
        Column(head, ("outcomes", name), count, omit="zero") for name, head in OUTCOME_HEADS.items()
    ]
    return {
        "attempts": attempts,
        "attempt_columns": by_verdict + by_outcome,
        "pass_rates": [
            {"name": name, "counts": [row["pass_rates"][name] for row in attempts]}
            for name in RATE_CLASSES
            if any(row["pass_rates"][name] for row in attempts)
        ],
        "pass_rate_columns": [
            Column(row["label"], ("counts", index), with_share(row["num_problems"]))
            for index, row in enumerate(attempts)
        ],
    }


def _attempt_row(row: Json) -> dict[str, Any]:
    """One step and model, with a label that leaves out the model's owner or path."""
    step, model = str(row["step"]), str(row["model"]).rpartition("/")[2]
    num, possible = row["num_attempts"], row["num_possible"]
    num = sum(row["verdicts"].values()) if num is None else num
    return {
        **row,
        "verdicts": dict.fromkeys(VERDICT_HEADS, 0) | row["verdicts"],
        "outcomes": dict.fromkeys(OUTCOME_HEADS, 0) | row["outcomes"],
        "label": ", ".join(part for part in (step.removeprefix("difficulty: "), model) if part),
        "num_attempts": num,
        "possible": f"of {count(possible)}, {percent(num / possible)}" if possible else None,
    }


def _behaviour_row(row: Json) -> dict[str, Any]:
    """Chains of one level, with its name and its most frequent words as text."""
    level = "all" if row["level"] is None else f"level {row['level']}"
    return {**row, "level": level, "words": ", ".join(row["words"]) or MISSING}


def _reported_pass_rates(difficulty: Json | None) -> dict[str, Any]:
    """Problems by number of correct attempts, as the filter stage of an older run reported them."""
    histogram = (difficulty or {}).get("pass_rates")
    return _count_table(histogram if isinstance(histogram, Mapping) else {})


def _count_table(counts: Mapping[str, int]) -> dict[str, Any]:
    """Rows of names and counts, and the format of a count."""
    total = sum(counts.values())
    rows = [{"name": name, "num": num} for name, num in counts.items()]
    return {"rows": rows, "total": total, "format": with_share(total)}


def _domains(rows: Sequence[Json]) -> dict[str, Any]:
    """Training problems by domain after each stage; a last row counts the domains covered."""
    stages = list(rows[0]["counts"]) if rows else []
    covered = {
        stage: sum(bool(row["counts"][stage]) and row["domain"] != "unknown" for row in rows)
        for stage in stages
    }
    last = {
        "domain": "Domains covered",
        "counts": {stage: Cell(text=count(num)) for stage, num in covered.items()},
        "strong": True,
    }
    totals = {stage: sum(row["counts"][stage] for row in rows) for stage in stages}
    return {
        "rows": [*rows, last] if rows else [],
        "columns": [
            Column(f"after {stage}", ("counts", stage), with_share(total))
            for stage, total in totals.items()
        ],
    }


def _lengths(measure: str, distributions: Sequence[Json]) -> dict[str, Any]:
    """Lengths by class, then their quantiles, with one column per stage."""
    stages = {row["stage"]: row for row in distributions}
    classes = {name for row in distributions for name in row["counts"]}
    rows: Rows = [
        {
            "name": name.replace("-", "–"),
            **{stage: row["counts"].get(name) for stage, row in stages.items()},
        }
        for name in sorted(classes, key=lambda name: int(name.split("-")[0]))
    ]
    for name in QUANTILES:
        quantiles = {stage: decimal(row["quantiles"].get(name)) for stage, row in stages.items()}
        cells = {stage: Cell(text=text) for stage, text in quantiles.items()}
        rows.append({"name": name, **cells, "strong": True})
    columns = [
        Column(f"after {stage}", stage, with_share(row["num"])) for stage, row in stages.items()
    ]
    return {"measure": measure.capitalize(), "rows": rows, "columns": columns}
