"""What the stages before training did to the pool, as plain data: `report.json`'s key `curation`.

Every part is empty (a list, or null) where its stage, or the setting it needs, was not there:

- `lengths`: question characters and thinking tokens, for each stage that holds them: quantiles,
  and `counts` in classes that double in width (`"64-127": 12`)
- `difficulty`: for each step and model, problems by pass rate, verdicts of all attempts, attempts
  made of those possible, decisions
- `duplicates`: for each way of being equal, number and sizes of clusters, and the largest ones
- `contamination`: for each stage that checked, and each set checked against, problems there, hits
  by kind, and the nearest hit with the text that is shared, or why a judge calls it the same
- `key_review`: how many keys are in doubt, and the first of those rows
- `domain_labels`: who named the problems' domains, how many, and how far two methods agree
- `selection`: the method, how many problems each of its phases took, and why some of them
- `paper`: the funnel of the paper whose method it is, where the sources are its own, beside ours
- `expected`: how many problems the papers had of the catalogue's sources, beside ours

    {"duplicates": [{"part": "near", "num_clusters": 3, "largest_cluster": 2, "num_dropped": 3,
      "sizes": {"2": 3}, "examples": [{"kept": {"id": "p-1f…", …}, "members": [{…}]}]}], …}
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from slowthink.data.registry import published_sets
from slowthink.pipeline.contract import quantiles
from slowthink.stages.report import problem_columns
from slowthink.stages.report.text import shorten

CURATION_STAGES = ("pool", "filter", "trace", "select")
MAX_CLUSTERS = 3
"""Shown of each way of being equal."""
MAX_MEMBERS = 3
"""Shown of a cluster."""
MAX_CHOICES = 3
"""Shown of each phase of the selection."""
MAX_KEYS = 30
"""Keys in doubt that are shown."""
MAX_TEXT = 400
"""Characters shown of a question."""
PASS_RATES = ("none", "up to 25%", "25% to 50%", "50% to 75%", "above 75%", "all", "not gradable")

Folders = Mapping[str, Path]
Facts = Mapping[str, Mapping[str, Any]]


def curation_summary(folders: Folders, facts: Facts, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All of it, from the folders and the facts of the stages that are there, and the recipe."""
    found = {
        "lengths": _lengths(folders),
        "difficulty": difficulty_rows(folders.get("filter"), facts.get("filter", {})),
        "duplicates": duplicate_rows(folders.get("filter"), facts.get("filter", {})),
        "contamination": [
            one for stage in ("filter", "trace") if (one := contamination_summary(stage, folders))
        ],
        "key_review": key_review(folders.get("filter")),
        "domain_labels": facts.get("filter", {}).get("domain_labels"),
        "selection": selection_summary(folders.get("select"), facts.get("select", {})),
        "paper": facts.get("select", {}).get("paper"),
        "expected": expected_counts(facts.get("pool", {}), settings),
    }
    _name_questions(found, folders)
    return found


def _name_questions(found: Mapping[str, Any], folders: Folders) -> None:
    """Put its question into every problem that is named."""
    named = [
        one
        for part in found["duplicates"]
        for example in part["examples"]
        for one in (example["kept"], *example["members"])
    ]
    sets = [one for checked in found["contamination"] for one in checked["against"]]
    named += [one["example"] for one in sets if one["example"]]
    named += (found["selection"] or {}).get("examples", [])
    stages = [folders[stage] for stage in CURATION_STAGES if stage in folders]
    questions = problem_columns.questions_of(stages, {one["id"] for one in named})
    for one in named:
        one["question"] = shorten(questions.get(one["id"], ""), limit=MAX_TEXT)


def _lines(folder: Path | None, name: str) -> Iterator[dict[str, Any]]:
    """Rows of a stage's JSONL file; none where there is no such file."""
    if folder is None or not (folder / name).exists():
        return
    with (folder / name).open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


# --- lengths --------------------------------------------------------------------------------------


def _lengths(folders: Folders) -> list[dict[str, Any]]:
    """Of each stage that holds problems their questions' lengths, of each with chains theirs."""
    measures = {
        "question characters": (problem_columns.question_lengths, ("pool", "filter", "select")),
        "thinking tokens": (problem_columns.thinking_lengths, ("trace", "select")),
    }
    return [
        {"measure": measure, "stage": stage, **distribution(counts)}
        for measure, (count, stages) in measures.items()
        for stage in stages
        if stage in folders and (counts := count(folders[stage]))
    ]


def distribution(lengths: Mapping[int, int]) -> dict[str, Any]:
    """Quantiles of the lengths and how many lie in each class; `lengths` are counts by length."""
    values = np.repeat(list(lengths), list(lengths.values()))
    classes: Counter[int] = Counter()
    for length, num in lengths.items():
        classes[int(length).bit_length()] += num
    every = range(min(classes, default=0), max(classes, default=-1) + 1)
    return {
        "num": len(values),
        "quantiles": quantiles(values.tolist()),
        "counts": {_class_name(size): classes[size] for size in every},
    }


def _class_name(bits: int) -> str:
    """The lengths that take so many binary digits: 7 are `64-127`."""
    return f"{1 << (bits - 1)}-{(1 << bits) - 1}" if bits > 1 else str(bits)


# --- difficulty -----------------------------------------------------------------------------------


def difficulty_rows(folder: Path | None, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the models' attempts came to, a row for each step and model, in order."""
    rows: dict[tuple[str, str], dict[str, Any]] = {
        (one["step"], one["model"]): _untried(one) for one in facts.get("attempts") or []
    }
    for line in _lines(folder, "difficulty.jsonl"):
        key = (str(line.get("step") or "difficulty"), str(line.get("model") or ""))
        row = rows.setdefault(key, _untried({"step": key[0], "model": key[1]}))
        row["pass_rates"][pass_rate_class(line.get("pass_rate"))] += 1
        row["verdicts"].update(line.get("verdicts") or {})
        row["outcomes"].update([line["outcome"]] if line.get("outcome") else [])
    for row in rows.values():
        row["num_problems"] = row["pass_rates"].total()
        row["pass_rates"] = {name: row["pass_rates"][name] for name in PASS_RATES}
        row["verdicts"], row["outcomes"] = dict(row["verdicts"]), dict(row["outcomes"])
    return [row for row in rows.values() if row["num_problems"] or row["num_untested"]]


def _untried(attempts: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("num_attempts", "num_possible", "num_wasted", "num_untested")
    return {
        "step": attempts["step"], "model": attempts["model"],
        **{key: attempts.get(key) for key in keys},
        "pass_rates": Counter(), "verdicts": Counter(), "outcomes": Counter(),
    }  # fmt: skip


def pass_rate_class(rate: float | None) -> str:
    """Where a pass rate belongs, in `PASS_RATES`.

    >>> pass_rate_class(0.0), pass_rate_class(0.25), pass_rate_class(0.97), pass_rate_class(None)
    ('none', 'up to 25%', 'above 75%', 'not gradable')
    """
    if rate is None:
        return PASS_RATES[-1]
    if rate in (0, 1):
        return "all" if rate else "none"
    limits = {0.25: "up to 25%", 0.5: "25% to 50%", 0.75: "50% to 75%", 1.0: "above 75%"}
    return next(name for limit, name in limits.items() if rate <= limit)


# --- duplicates -----------------------------------------------------------------------------------


def duplicate_rows(folder: Path | None, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each way in which questions were looked at as equal."""
    parts: Mapping[str, Any] = facts.get("duplicates") or {}
    clusters: dict[str, list[dict[str, Any]]] = {part: [] for part in parts}
    for line in _lines(folder, "clusters.jsonl"):
        clusters.setdefault(line["part"], []).append(line)
    return [
        {"part": part, **(parts.get(part) or {}), **_clusters(found)}
        for part, found in clusters.items()
    ]


def _clusters(found: list[dict[str, Any]]) -> dict[str, Any]:
    sizes = Counter(1 + len(one["members"]) for one in found)
    largest = heapq.nsmallest(
        MAX_CLUSTERS, found, key=lambda one: (-len(one["members"]), one["kept"])
    )
    return {
        "num_dropped": sum(len(one["members"]) for one in found),
        "sizes": {str(size): sizes[size] for size in sorted(sizes)},
        "examples": [
            {
                "kept": {"id": one["kept"]},
                "num_members": len(one["members"]),
                "members": [dict(member) for member in one["members"][:MAX_MEMBERS]],
            }
            for one in largest
        ],
    }


# --- contamination --------------------------------------------------------------------------------


def contamination_summary(stage: str, folders: Folders) -> dict[str, Any] | None:
    """The stage's certificate in short, with the nearest hit of each set; None without one."""
    path = folders.get(stage, Path()) / "contamination.json"
    if stage not in folders or not path.exists():
        return None
    paper = json.loads(path.read_text("utf-8"))
    nearest = _nearest(paper["hits"])
    return {
        "stage": stage,
        "what": paper["checked"]["what"],
        "preset": paper["settings"]["preset"],
        "templates": paper["settings"].get("templates"),
        "similar": (paper["settings"].get("paraphrase") or {}).get("similar"),
        "paraphrase": paper.get("paraphrase"),
        "num_checked": paper["checked"]["num"],
        "num_dropped": paper["num_dropped"],
        "against": [
            {key: one.get(key) for key in ("name", "num_problems", "num_hits", "source")}
            | {"example": nearest.get(one["name"])}
            for one in paper["against"]
        ],
    }


def _nearest(hits: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By set, the hit that says most: one that dropped its row first, then by score and length."""
    found: dict[str, dict[str, Any]] = {}
    for hit in sorted(hits, key=lambda one: (not one["dropped"], -one["score"], -one["run"])):
        found.setdefault(hit["benchmark"], dict(hit))
    return found


# --- selection ------------------------------------------------------------------------------------


def selection_summary(folder: Path | None, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """How the training set was chosen; None where the stage did not say."""
    if not facts.get("phases"):
        return None
    examples: dict[str, list[dict[str, Any]]] = {}
    for line in _lines(folder, "rationale.jsonl"):
        shown = examples.setdefault(line["phase"] or "", [])
        if line["chosen"] and len(shown) < MAX_CHOICES:
            shown.append({key: line[key] for key in ("id", "phase", "why")})
    keys = ("method", "mode", "num_asked", "num_wasted_draws", "phases")
    return {key: facts.get(key) for key in keys} | {
        "examples": [one for phase in sorted(examples) for one in examples[phase]]
    }


# --- keys in doubt, and the papers' counts --------------------------------------------------------


def key_review(folder: Path | None) -> dict[str, Any] | None:
    """How many keys the models agree against, and the first of them; None where there are none."""
    rows = list(_lines(folder, "key_review.jsonl"))
    if not rows:
        return None
    shown = [
        row | {"question": shorten(row["question"], limit=MAX_TEXT)} for row in rows[:MAX_KEYS]
    ]
    return {"num": len(rows), "rows": shown}


def expected_counts(facts: Mapping[str, Any], settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each of the catalogue's sources that a paper counted: problems there, and our pool's."""
    sources = (settings.get("pool") or {}).get("sources") or []
    names = {one.get("name") for one in sources if one.get("kind") == "catalogue"}
    ours, known = facts.get("sources") or {}, published_sets("pool")
    return [
        {
            "source": name, "title": known[name].title, "paper": paper, "expected": num,
            "ours": ours.get(name, 0),
        }
        for name in sorted(names & known.keys())
        for paper, num in known[name].counts.items()
    ]  # fmt: skip
