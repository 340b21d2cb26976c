"""The gate's check on chains: one that holds a problem which is tested on does not pass.

{"id": "chains.jsonl:3", "step": "contamination", "reason": "holds a problem of aime24", …}
"""

from __future__ import annotations

from collections.abc import Sequence

from slowthink.benchmarks.exams import exam_sets
from slowthink.overlap.certificate import certificate, drops, summary, write_certificate
from slowthink.overlap.leaks import find_in_chains
from slowthink.recipe import ContaminationConfig
from slowthink.records import Dropped, Problem, Split
from slowthink.rows import cut
from slowthink.runs import StageContext
from slowthink.trace.sources import Candidate

STEP = "contamination"


def keep_unleaked(
    candidates: Sequence[Candidate], context: StageContext
) -> tuple[list[Candidate], list[Dropped], dict[str, object]]:
    """The chains that hold no tested problem; the others, with what they hold; and facts."""
    config: ContaminationConfig | None = context.config.contamination
    if config is None:
        return list(candidates), [], {}
    pool = context.load(Problem, "pool") if "pool" in context.inputs else []
    heldout = [one for one in pool if one.split is Split.HELDOUT]
    strict = config.model_copy(update={"preset": "strict"})
    sets = exam_sets(strict, heldout, seed=context.recipe.seed, setting="trace.contamination")
    items = [item for one in sets for item in one.items]
    texts = [f"{one.thinking}\n{one.response}" for one in candidates]
    found = find_in_chains(texts, items, strict, runner=context.recipe.runner)
    leaks = {one.address: leak for one, leak in zip(candidates, found, strict=True) if leak}
    checked = [one.address for one in candidates]
    paper = certificate(leaks, sets, strict, what="chains", checked=checked)
    write_certificate(context.folder, paper)
    dropped = [
        Dropped(
            id=id, step=STEP, reason=f"holds a problem of {first.item.benchmark}",
            evidence=cut(f"{first.item.benchmark} {first.item.id}: {first.span}"),
        )
        for id in checked
        if (first := next((one for one in leaks.get(id, ()) if drops(one, strict)), None))
    ]  # fmt: skip
    gone = {drop.id for drop in dropped}
    kept = [one for one in candidates if one.address not in gone]
    return kept, dropped, {"contamination": summary(paper)}
