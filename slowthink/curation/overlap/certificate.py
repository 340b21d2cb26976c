"""contamination.json: the texts and evaluation sets compared, the settings, and every leak.

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

from slowthink.curation.overlap.contamination import LEAK_KINDS, Leak
from slowthink.curation.overlap.evaluation_sets import EvaluationSet
from slowthink.environment import __version__
from slowthink.recipe import ContaminationConfig
from slowthink.serialise import digest, write_atomic

CERTIFICATE_FILE = "contamination.json"


def must_drop(leak: Leak, config: ContaminationConfig) -> bool:
    """Whether a text with this leak must be dropped under the settings."""
    if leak.kind == "similar":
        return config.paraphrase is not None and config.paraphrase.similar == "drop"
    return leak.kind != "template" or config.templates == "drop"


def build(
    leaks: Mapping[str, Sequence[Leak]],
    evaluation_sets: Sequence[EvaluationSet],
    config: ContaminationConfig,
    *,
    ids: Sequence[str],
    row_kind: str,
) -> dict[str, Any]:
    """The certificate as JSON. `ids` are those of all checked rows, `leaks` maps some of them to
    the leaks found, and `row_kind` is "questions" or "chains"."""
    hits = [_hit_entry(id, leak, config) for id in sorted(leaks) for leak in leaks[id]]
    return {
        "slowthink": __version__,
        "checked": {"what": row_kind, "num": len(ids), "digest": digest(sorted(ids))},
        "settings": config.model_dump(mode="json"),
        "against": [_set_entry(evaluation_set, leaks) for evaluation_set in evaluation_sets],
        "num_dropped": len({hit["id"] for hit in hits if hit["dropped"]}),
        "hits": hits,
    }


def write(folder: Path, certificate: Mapping[str, Any]) -> None:
    """Write the certificate into a stage's folder."""
    text = json.dumps(certificate, indent=1, ensure_ascii=False)
    write_atomic(folder / CERTIFICATE_FILE, text + "\n")


def summarise(certificate: Mapping[str, Any]) -> dict[str, Any]:
    """The certificate with the number of leaks of each kind in place of the leaks themselves."""
    num_hits = Counter(hit["kind"] for hit in certificate["hits"])
    summary = {key: value for key, value in certificate.items() if key != "hits"}
    return summary | {"num_hits": dict(sorted(num_hits.items()))}


def _set_entry(
    evaluation_set: EvaluationSet, leaks: Mapping[str, Sequence[Leak]]
) -> dict[str, Any]:
    """An evaluation set, and the number of rows that leak its problems, by their worst kind."""
    name = evaluation_set.name
    kinds_by_row = [
        [leak.kind for leak in row_leaks if leak.item.benchmark == name]
        for row_leaks in leaks.values()
    ]
    worst_kinds = Counter(min(kinds, key=LEAK_KINDS.index) for kinds in kinds_by_row if kinds)
    return {
        "name": name,
        "num_problems": len(evaluation_set.items),
        "digest": digest([item.text for item in evaluation_set.items]),
        "source": dict(evaluation_set.source),
        "num_hits": dict(sorted(worst_kinds.items())),
    }


def _hit_entry(id: str, leak: Leak, config: ContaminationConfig) -> dict[str, Any]:
    return {
        "id": id, "benchmark": leak.item.benchmark, "item": leak.item.id, "kind": leak.kind,
        "score": leak.score, "of_item": leak.item_coverage, "of_text": leak.text_coverage,
        "run": leak.match_length, "span": leak.span, "said": leak.judge_reason,
        "dropped": must_drop(leak, config),
    }  # fmt: skip
