"""What the stages before training did to the pool, as plain data: `report.json`'s key `curation`.

Each part is empty (a list, or null) if its stage or setting is absent:

- `lengths`: question characters and thinking tokens after each stage that has them: quantiles, and
  `counts` in classes that double in width (`"64-127": 12`)
- `difficulty`: for each step and model: problems by pass rate, verdicts of all attempts, attempts
  made of those possible, decisions
- `duplicates`: for each kind of duplicate: number and sizes of clusters, and the largest clusters
- `contamination`: for each stage that checked and each benchmark: its problems, hits by kind, and
  the closest hit with the shared text, or with the judge's reason
- `key_review`: number of doubtful reference answers, and the first of those rows
- `score_correlations`, `behaviour`: rank correlations between the chains' scores, and lengths and
  words of each level's chains
- `domain_labels`: which methods assigned domains, to how many problems, and how far two agree
- `selection`: the method, the number of problems chosen in each phase, and examples with reasons
- `paper`: the funnel of the paper whose method it is, if the sources are the paper's, beside ours
- `expected`: problems of each published source according to the papers, beside ours

    {"duplicates": [{"part": "near", "num_clusters": 3, "largest_cluster": 2, "num_dropped": 3,
      "sizes": {"2": 3}, "examples": [{"kept": {"id": "p-1f…", …}, "members": [{…}]}]}], …}
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slowthink.data.registry import published_datasets
from slowthink.pipeline.contract import quantiles
from slowthink.records import group_by
from slowthink.stages.report import problem_columns
from slowthink.stages.report.tables import Rows
from slowthink.stages.report.text import shorten

MAX_CLUSTERS = 3
"""Clusters shown of each kind of duplicate."""
MAX_MEMBERS = 3
"""Members shown of each cluster."""
MAX_PER_PHASE = 3
"""Problems shown of each phase of the selection."""
MAX_DOUBTFUL = 30
"""Doubtful reference answers shown."""
RATE_CLASSES = (
    "none", "up to 25%", "25% to 50%", "50% to 75%", "above 75%", "all", "not gradable",
)  # fmt: skip
LENGTH_MEASURES = {
    "question characters": (problem_columns.question_lengths, ("pool", "filter", "select")),
    "thinking tokens": (problem_columns.thinking_lengths, ("trace", "select")),
}
"""Measure → function that reads it, stages after which it is read."""

Folders = Mapping[str, Path]
Facts = Mapping[str, Mapping[str, Any]]


def curation_summary(folders: Folders, facts: Facts, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All parts, from folders and facts of the finished stages and the settings of the recipe."""
    filter_folder, filter_facts = folders.get("filter"), facts.get("filter", {})
    select_facts = facts.get("select", {})
    certificates = [contamination_summary(stage, folders) for stage in ("filter", "trace")]
    summary = {
        "lengths": [
            {"measure": measure, "stage": stage, **distribution(lengths)}
            for measure, (read_lengths, stages) in LENGTH_MEASURES.items()
            for stage in stages
            if stage in folders and (lengths := read_lengths(folders[stage]))
        ],
        "difficulty": difficulty_rows(filter_folder, filter_facts),
        "duplicates": duplicate_rows(filter_folder, filter_facts),
        "contamination": [certificate for certificate in certificates if certificate],
        "key_review": doubtful_references(filter_folder),
        "score_correlations": facts.get("trace", {}).get("score_correlations") or [],
        "behaviour": facts.get("trace", {}).get("behaviour") or [],
        "domain_labels": filter_facts.get("domain_labels"),
        "selection": selection_summary(folders.get("select"), select_facts),
        "paper": select_facts.get("paper"),
        "expected": expected_counts(facts.get("pool", {}), settings),
    }
    problem_columns.add_questions(_examples(summary), folders)
    return summary


def _examples(summary: Mapping[str, Any]) -> Rows:
    """The summary's example problems, which still lack their questions."""
    clusters = [cluster for row in summary["duplicates"] for cluster in row["examples"]]
    benchmarks = [row for stage in summary["contamination"] for row in stage["against"]]
    return [
        *(problem for cluster in clusters for problem in (cluster["kept"], *cluster["members"])),
        *(row["example"] for row in benchmarks if row["example"]),
        *(summary["selection"] or {}).get("examples", []),
    ]


def _read_jsonl(folder: Path | None, name: str) -> Iterator[dict[str, Any]]:
    """Rows of a stage's JSONL file; none if the file does not exist."""
    if folder is None or not (folder / name).exists():
        return
    with (folder / name).open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def distribution(lengths: Mapping[int, int]) -> dict[str, Any]:
    """Quantiles of the lengths, and counts by class; `lengths` maps a length to its count."""
    values = np.repeat(list(lengths), list(lengths.values()))
    num_by_bits: Counter[int] = Counter()
    for length, num in lengths.items():
        num_by_bits[int(length).bit_length()] += num
    bit_lengths = range(min(num_by_bits, default=0), max(num_by_bits, default=-1) + 1)
    return {
        "num": len(values),
        "quantiles": quantiles(values.tolist()),
        "counts": {_class_name(bits): num_by_bits[bits] for bits in bit_lengths},
    }


def _class_name(bits: int) -> str:
    """The range of lengths with this many binary digits, e.g. `64-127` for 7."""
    return f"{1 << (bits - 1)}-{(1 << bits) - 1}" if bits > 1 else str(bits)


def difficulty_rows(folder: Path | None, facts: Mapping[str, Any]) -> Rows:
    """Results of the models' attempts, one row per step and model, in order."""
    rows = {(a["step"], a["model"]): _empty_row(a) for a in facts.get("attempts") or []}
    for line in _read_jsonl(folder, "difficulty.jsonl"):
        step, model = str(line.get("step") or "difficulty"), str(line.get("model") or "")
        row = rows.setdefault((step, model), _empty_row({"step": step, "model": model}))
        row["pass_rates"][pass_rate_class(line.get("pass_rate"))] += 1
        row["verdicts"].update(line.get("verdicts") or {})
        row["outcomes"].update([line["outcome"]] if line.get("outcome") else [])
    for row in rows.values():
        row["num_problems"] = row["pass_rates"].total()
        row["pass_rates"] = {name: row["pass_rates"][name] for name in RATE_CLASSES}
        row["verdicts"], row["outcomes"] = dict(row["verdicts"]), dict(row["outcomes"])
    return [row for row in rows.values() if row["num_problems"] or row["num_untested"]]


def _empty_row(attempts: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("num_attempts", "num_possible", "num_wasted", "num_untested")
    return {
        "step": attempts["step"], "model": attempts["model"],
        **{key: attempts.get(key) for key in keys},
        "pass_rates": Counter(), "verdicts": Counter(), "outcomes": Counter(),
    }  # fmt: skip


def pass_rate_class(rate: float | None) -> str:
    """The class of a pass rate, one of `RATE_CLASSES`.

    >>> pass_rate_class(0.0), pass_rate_class(0.25), pass_rate_class(0.97), pass_rate_class(None)
    ('none', 'up to 25%', 'above 75%', 'not gradable')
    """
    if rate is None:
        return RATE_CLASSES[-1]
    if rate in (0, 1):
        return "all" if rate else "none"
    limits = {0.25: "up to 25%", 0.5: "25% to 50%", 0.75: "50% to 75%", 1.0: "above 75%"}
    return next(name for limit, name in limits.items() if rate <= limit)


def duplicate_rows(folder: Path | None, facts: Mapping[str, Any]) -> Rows:
    """One row for each kind of duplicate that was searched for."""
    parts: Mapping[str, Any] = facts.get("duplicates") or {}
    clusters = group_by(_read_jsonl(folder, "clusters.jsonl"), lambda line: str(line["part"]))
    return [
        {"part": part, **(parts.get(part) or {}), **_cluster_figures(clusters.get(part, []))}
        for part in {**parts, **clusters}
    ]


def _cluster_figures(clusters: Rows) -> dict[str, Any]:
    sizes = Counter(1 + len(cluster["members"]) for cluster in clusters)
    largest = heapq.nsmallest(
        MAX_CLUSTERS, clusters, key=lambda cluster: (-len(cluster["members"]), cluster["kept"])
    )
    return {
        "num_dropped": sum(len(cluster["members"]) for cluster in clusters),
        "sizes": {str(size): sizes[size] for size in sorted(sizes)},
        "examples": [
            {
                "kept": {"id": cluster["kept"]},
                "num_members": len(cluster["members"]),
                "members": [dict(member) for member in cluster["members"][:MAX_MEMBERS]],
            }
            for cluster in largest
        ],
    }


def contamination_summary(stage: str, folders: Folders) -> dict[str, Any] | None:
    """Summary of the stage's certificate and each benchmark's closest hit; None if it has none."""
    path = folders.get(stage, Path()) / "contamination.json"
    if stage not in folders or not path.exists():
        return None
    certificate = json.loads(path.read_text("utf-8"))
    settings, closest = certificate["settings"], _closest_hits(certificate["hits"])
    return {
        "stage": stage,
        "what": certificate["checked"]["what"],
        "preset": settings["preset"],
        "templates": settings.get("templates"),
        "similar": (settings.get("paraphrase") or {}).get("similar"),
        "paraphrase": certificate.get("paraphrase"),
        "num_checked": certificate["checked"]["num"],
        "num_dropped": certificate["num_dropped"],
        "against": [
            {key: benchmark.get(key) for key in ("name", "num_problems", "num_hits", "source")}
            | {"example": closest.get(benchmark["name"])}
            for benchmark in certificate["against"]
        ],
    }


def _closest_hits(hits: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each benchmark's first hit: those that dropped their row first, then by score and length."""
    closest: dict[str, dict[str, Any]] = {}
    for hit in sorted(hits, key=lambda hit: (not hit["dropped"], -hit["score"], -hit["run"])):
        closest.setdefault(hit["benchmark"], dict(hit))
    return closest


def selection_summary(folder: Path | None, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """How the training set was selected; None if the stage did not report its phases."""
    if not facts.get("phases"):
        return None
    examples: dict[str, Rows] = {}
    for line in _read_jsonl(folder, "rationale.jsonl"):
        of_phase = examples.setdefault(line["phase"] or "", [])
        is_further_chain = bool(of_phase) and of_phase[-1]["id"] == line["id"]
        if line["chosen"] and len(of_phase) < MAX_PER_PHASE and not is_further_chain:
            of_phase.append({key: line[key] for key in ("id", "phase", "why")})
    keys = (
        "method", "mode", "num_asked", "num_problems", "num_chains", "num_wasted_draws", "phases",
        "teachers", "levels",
    )  # fmt: skip
    return {key: facts.get(key) for key in keys} | {
        "examples": [example for phase in sorted(examples) for example in examples[phase]]
    }


def doubtful_references(folder: Path | None) -> dict[str, Any] | None:
    """How many reference answers the models contradict, and the first of them; None if none."""
    rows = list(_read_jsonl(folder, "key_review.jsonl"))
    if not rows:
        return None
    for row in rows[:MAX_DOUBTFUL]:
        row["question"] = shorten(row["question"], limit=problem_columns.MAX_TEXT)
    return {"num": len(rows), "rows": rows[:MAX_DOUBTFUL]}


def expected_counts(facts: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    """For each published source that a paper counted: the paper's number of problems, and ours."""
    sources = (settings.get("pool") or {}).get("sources") or []
    names = {source.get("name") for source in sources if source.get("kind") == "catalogue"}
    ours, published = facts.get("sources") or {}, published_datasets("pool")
    return [
        {
            "source": name, "title": published[name].title, "paper": paper, "expected": num,
            "ours": ours.get(name, 0),
        }
        for name in sorted(names & published.keys())
        for paper, num in published[name].counts.items()
    ]  # fmt: skip
