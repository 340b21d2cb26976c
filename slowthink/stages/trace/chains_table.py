"""`chains.parquet`: every chain that was matched to a problem, kept or not, with all its scores.

chain_id  problem_id  location      teacher  verdict  num_thinking_tokens  kept   step   …
c-9a1f…   p-0c1e…     limo.jsonl:3  r1       wrong    2210                 false  grade  …

Then one column per score or part of a score; the metadata of its Parquet field has the score's
version and settings, and whether higher or lower values are better. Chains that were dropped
before grading have no verdict, tokens and scores. The texts are of chains that were not kept;
those of the others are in `data.parquet`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slowthink.curation.scores import SCORES
from slowthink.recipe.scores import ScoreConfig
from slowthink.records import Dropped
from slowthink.stages.trace.chains import ScoredChain, SourceChain

FILE = "chains.parquet"
COLUMNS = {
    "chain_id": "string", "problem_id": "string", "location": "string", "teacher": "string",
    "verdict": "string", "extracted": "string", "num_thinking_tokens": "int64",
    "num_response_tokens": "int64", "kept": "bool", "step": "string", "reason": "string",
    "evidence": "string", "import_notes": "string", "level": "int64",
    "question": "string", "thinking": "string", "response": "string",
}  # fmt: skip
"""The columns that every table has, with their types."""


def write(
    path: Path,
    scored: Sequence[ScoredChain],
    ungraded: Sequence[SourceChain],
    *,
    kept: Sequence[ScoredChain],
    dropped: Sequence[Dropped],
    scores: Sequence[ScoreConfig],
) -> None:
    """Write the table, sorted by chain. `ungraded`: chains that were matched to a problem, and
    dropped before they were graded."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fates = {drop.id: drop for drop in dropped}
    levels = {each.chain.location: each.level for each in kept}
    names = sorted({name for each in scored for name in each.scores})
    rows = [_row(chain, fates.get(chain.location)) for chain in ungraded]
    for each in scored:
        chain = each.chain
        fate = None if chain.location in levels else fates.get(chain.location)
        values = {
            "verdict": each.grade.verdict.value, "extracted": each.grade.extracted,
            "num_thinking_tokens": each.num_thinking_tokens,
            "num_response_tokens": each.num_response_tokens, "level": levels.get(chain.location),
        }  # fmt: skip
        rows.append(_row(chain, fate) | values | dict(each.scores))
    rows.sort(key=lambda row: (row["chain_id"], row["location"]))
    fields = [pa.field(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()]
    fields += [pa.field(name, pa.float64(), metadata=_metadata(name, scores)) for name in names]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(fields)), path, compression="zstd")


def _row(chain: SourceChain, fate: Dropped | None) -> dict[str, Any]:
    texts = {
        "question": "\n".join([chain.problem.question, *chain.problem.choices]),
        "thinking": chain.thinking, "response": chain.response,
    } if fate else {}  # fmt: skip
    return texts | {
        "chain_id": chain.chain_id, "problem_id": chain.problem.id, "location": chain.location,
        "teacher": chain.teacher, "kept": fate is None,
        "step": fate and fate.step, "reason": fate and fate.reason,
        "evidence": fate and fate.evidence, "import_notes": "; ".join(chain.notes) or None,
    }  # fmt: skip


def _metadata(name: str, configs: Sequence[ScoreConfig]) -> dict[str, str]:
    """Version and settings of the score that gave a column."""
    for config in configs:
        score = SCORES[config.kind](config)
        if score.name == name.split(".")[0]:
            settings = json.dumps(config.model_dump(mode="json"), sort_keys=True)
            better = "higher" if score.higher_is_better else "lower"
            return {"version": str(score.version), "settings": settings, "better": better}
    return {}
