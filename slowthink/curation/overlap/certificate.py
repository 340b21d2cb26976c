"""contamination.json: what was checked against what, under which settings, and every hit.

{"checked": {"what": "questions", "num": 47312, "digest": "5f0c…"}, "settings": {"preset": "strict",
 …}, "against": [{"name": "math500", "num_problems": 500, "digest": "9a1e…", "source": {"revision":
 …}, "num_hits": {"copy": 131, "template": 160}}, …], "hits": [{"id": "p-…", "benchmark": "math500",
 "item": "37", "kind": "copy", "score": 1.0, "span": "…", "dropped": true, …}, …]}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink import __version__
from slowthink.curation.overlap.contamination import KINDS, EvaluationItem, Leak
from slowthink.pipeline.run_folder import write_atomic
from slowthink.recipe import ContaminationConfig
from slowthink.serialise import digest

FILE = "contamination.json"


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """All problems of one set that is tested on."""

    name: str
    items: tuple[EvaluationItem, ...]
    source: Mapping[str, Any]
    """Which rows they are: path and sha256, or hub id and revision."""


def drops(leak: Leak, config: ContaminationConfig) -> bool:
    """Whether a text goes for this leak."""
    if leak.kind == "similar":
        return config.paraphrase is not None and config.paraphrase.similar == "drop"
    return leak.kind != "template" or config.templates == "drop"


def certificate(
    leaks: Mapping[str, Sequence[Leak]],
    sets: Sequence[EvaluationSet],
    config: ContaminationConfig,
    *,
    what: str,
    checked: Sequence[str],
) -> dict[str, Any]:
    """The certificate; `leaks` by the id of a checked row, `checked` all ids, `what` they are."""
    hits = [_hit(id, leak, config) for id in sorted(leaks) for leak in leaks[id]]
    return {
        "slowthink": __version__,
        "checked": {"what": what, "num": len(checked), "digest": digest(sorted(checked))},
        "settings": config.model_dump(mode="json"),
        "against": [_against(one, leaks) for one in sets],
        "num_dropped": len({hit["id"] for hit in hits if hit["dropped"]}),
        "hits": hits,
    }


def write_certificate(folder: Path, found: Mapping[str, Any]) -> None:
    """Write it into a stage's folder."""
    write_atomic(folder / FILE, json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def summary(found: Mapping[str, Any]) -> dict[str, Any]:
    """The certificate without its hits, for a manifest and the report's table."""
    kinds = Counter(hit["kind"] for hit in found["hits"])
    return {key: value for key, value in found.items() if key != "hits"} | {
        "num_hits": dict(sorted(kinds.items()))
    }


def _against(one: EvaluationSet, leaks: Mapping[str, Sequence[Leak]]) -> dict[str, Any]:
    """A set, and how many rows hit it, each by its gravest kind there."""
    kinds = Counter(
        min((leak.kind for leak in mine), key=KINDS.index)
        for found in leaks.values()
        if (mine := [leak for leak in found if leak.item.benchmark == one.name])
    )
    return {
        "name": one.name,
        "num_problems": len(one.items),
        "digest": digest([item.text for item in one.items]),
        "source": dict(one.source),
        "num_hits": dict(sorted(kinds.items())),
    }


def _hit(id: str, leak: Leak, config: ContaminationConfig) -> dict[str, Any]:
    return {
        "id": id, "benchmark": leak.item.benchmark, "item": leak.item.id, "kind": leak.kind,
        "score": leak.score, "of_item": leak.of_item, "of_text": leak.of_text, "run": leak.run,
        "span": leak.span, "said": leak.said, "dropped": drops(leak, config),
    }  # fmt: skip
