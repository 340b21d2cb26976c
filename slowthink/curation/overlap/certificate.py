"""contamination.json: the texts and evaluation sets compared, the settings, and every hit.

{"checked": {"what": "questions", "num": 47312, "digest": "5f0c…"}, "settings": {"preset": "strict",
 …}, "against": [{"name": "math500", "num_problems": 500, "digest": "9a1e…", "source": {"revision":
 …}, "num_hits": {"copy": 131, "template": 160}}, …], "hits": [{"id": "p-…", "benchmark": "math500",
 "item": "37", "kind": "copy", "score": 1.0, "span": "…", "dropped": true, …}, …]}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slowthink import __version__
from slowthink.curation.overlap.contamination import KINDS, Leak
from slowthink.curation.overlap.evaluation_sets import EvaluationSet
from slowthink.pipeline.run_folder import write_atomic
from slowthink.recipe import ContaminationConfig
from slowthink.serialise import digest

FILE = "contamination.json"


def drops(leak: Leak, config: ContaminationConfig) -> bool:
    """Whether a text with this leak is dropped."""
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
    """The certificate. `leaks` maps ids of checked rows to their leaks, `checked` has all ids, and
    `what` names the kind of rows."""
    hits = [_hit(id, leak, config) for id in sorted(leaks) for leak in leaks[id]]
    return {
        "slowthink": __version__,
        "checked": {"what": what, "num": len(checked), "digest": digest(sorted(checked))},
        "settings": config.model_dump(mode="json"),
        "against": [_against(evaluation_set, leaks) for evaluation_set in sets],
        "num_dropped": len({hit["id"] for hit in hits if hit["dropped"]}),
        "hits": hits,
    }


def write_certificate(folder: Path, report: Mapping[str, Any]) -> None:
    """Write the certificate into a stage's folder."""
    write_atomic(folder / FILE, json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def summary(report: Mapping[str, Any]) -> dict[str, Any]:
    """The certificate without its hits, for a manifest and the report's table."""
    kinds = Counter(hit["kind"] for hit in report["hits"])
    return {key: value for key, value in report.items() if key != "hits"} | {
        "num_hits": dict(sorted(kinds.items()))
    }


def _against(evaluation_set: EvaluationSet, leaks: Mapping[str, Sequence[Leak]]) -> dict[str, Any]:
    """A set, and the number of rows that hit it, each counted by its gravest kind."""
    name = evaluation_set.name
    kinds_of_rows = [
        [leak.kind for leak in row if leak.item.benchmark == name] for row in leaks.values()
    ]
    gravest = Counter(min(kinds, key=KINDS.index) for kinds in kinds_of_rows if kinds)
    return {
        "name": name,
        "num_problems": len(evaluation_set.items),
        "digest": digest([item.text for item in evaluation_set.items]),
        "source": dict(evaluation_set.source),
        "num_hits": dict(sorted(gravest.items())),
    }


def _hit(id: str, leak: Leak, config: ContaminationConfig) -> dict[str, Any]:
    return {
        "id": id, "benchmark": leak.item.benchmark, "item": leak.item.id, "kind": leak.kind,
        "score": leak.score, "of_item": leak.of_item, "of_text": leak.of_text, "run": leak.run,
        "span": leak.span, "said": leak.judge_reason, "dropped": drops(leak, config),
    }  # fmt: skip
