"""The two cards: front matter that the hub reads, and a text by a template.

`data_card(facts, …)` and `model_card(facts, …)` return the whole README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from slowthink.publish.facts import Facts
from slowthink.publish.markdown import render
from slowthink.publish.results import model_index, tuned_arm
from slowthink.publish.training_table import COLUMNS, TABLE

SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
)  # fmt: skip
TAGS = ("reasoning", "chain-of-thought", "slowthink")
TRAINING_SETTINGS = (
    "epochs", "max_steps", "learning_rate", "warmup_ratio", "batch_size", "weight_decay", "betas",
    "max_grad_norm", "max_length", "lora", "optimizer", "stop", "checkpoint",
)  # fmt: skip


def data_card(facts: Facts, *, repo: str, licence: str | None) -> str:
    """README.md of a repository with the training set."""
    front = {
        "pretty_name": facts.run.settings.get("name"),
        "license": licence,
        "language": facts.languages,
        "task_categories": ["text-generation"],
        "size_categories": [size_category(len(facts.traces))],
        "tags": list(TAGS),
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": TABLE}]}
        ],
    }  # fmt: skip
    text = render("data_card.md", **_shared(facts, repo, licence), columns=COLUMNS)
    return _with_front_matter(front, text)


def model_card(facts: Facts, *, repo: str, licence: str | None, has_picture: bool) -> str:
    """README.md of a repository with the trained model. `has_picture`: curve.svg is beside it."""
    arms = filter(None, map(tuned_arm, facts.head["sets"]))
    measured = [point for arm in arms for point in arm["points"] if point.get("forced", True)]
    front = {
        "license": licence,
        "language": facts.languages,
        "base_model": None if facts.base_is_local else facts.base,
        "library_name": "peft" if facts.is_adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": [*TAGS, "budget-forcing"],
        "datasets": sorted({s.entry.hub_id for s in facts.sources if s.entry and s.entry.hub_id}),
        "model-index": model_index(facts, repo.split("/")[-1]),
    }
    text = render(
        "model_card.md", **_shared(facts, repo, licence), has_picture=has_picture,
        training={
            name: value
            for name, value in (facts.run.settings.get("train") or {}).items()
            if name in TRAINING_SETTINGS
        },
        trained=facts.run.facts("train"), measured=measured, budget=_largest_budget(measured),
    )  # fmt: skip
    return _with_front_matter(front, text)


def _shared(facts: Facts, repo: str, licence: str | None) -> dict[str, Any]:
    settings = facts.run.settings
    return {
        "facts": facts, "head": facts.head, "curation": facts.head["curation"], "repo": repo,
        "licence": licence, "settings": settings, "recipe": settings.get("name"),
        "checked": {
            benchmark["name"]
            for certificate in facts.head["curation"]["contamination"]
            for benchmark in certificate["against"]
        },
    }  # fmt: skip


def _largest_budget(points: list[Mapping[str, Any]]) -> Mapping[str, int]:
    """The largest cap and number of waits that were measured; {} if nothing was."""
    if not points:
        return {}
    return {
        "cap": max(int(point["max_thinking_tokens"]) for point in points),
        "waits": max(int(point.get("waits") or 0) for point in points),
    }


def size_category(num_rows: int) -> str:
    """The hub's name for a number of rows.

    >>> size_category(817), size_category(1000)
    ('n<1K', '1K<n<10K')
    """
    return next((name for limit, name in SIZES if num_rows < limit), "1M<n<10M")


def _with_front_matter(front: Mapping[str, Any], text: str) -> str:
    """The card; fields without a value are left out."""
    known = {key: value for key, value in front.items() if value not in (None, [], "")}
    return f"---\n{yaml.safe_dump(known, allow_unicode=True, sort_keys=False)}---\n\n{text}"
