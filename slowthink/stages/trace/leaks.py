"""The gate's check on chains: one that holds a problem which is tested on does not pass.

{"id": "chains.jsonl:3", "step": "contamination", "reason": "holds a problem of aime24", …}

Questions are the filter's to check; where it has not, they are checked here as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from slowthink.curation.overlap.certificate import certificate, drops, summary, write_certificate
from slowthink.curation.overlap.contamination import Leak
from slowthink.curation.overlap.evaluation_sets import EvaluationItem, evaluation_sets, text_of
from slowthink.curation.overlap.leaks import Leaks, find_in_chains, find_leaks
from slowthink.data.rows import as_evidence
from slowthink.pipeline.contract import StageContext
from slowthink.recipe import ContaminationConfig, Recipe
from slowthink.records import Dropped, Problem, Split
from slowthink.stages.trace.sources import UngradedChain

STEP = "contamination"


def keep_unleaked(
    candidates: Sequence[UngradedChain], context: StageContext
) -> tuple[list[UngradedChain], list[Dropped], dict[str, object]]:
    """The chains that hold no tested problem; the others, with what they hold; and facts."""
    config: ContaminationConfig | None = context.config.contamination
    if config is None:
        return list(candidates), [], {}
    pool = context.load(Problem, "pool") if "pool" in context.inputs else []
    heldout = [one for one in pool if one.split is Split.HELDOUT]
    strict = config.model_copy(update={"preset": "strict"})
    sets = evaluation_sets(strict, heldout, seed=context.recipe.seed, setting="trace.contamination")
    items = [item for one in sets for item in one.items]
    found = _leaks(candidates, items, strict, context.recipe)
    paper = certificate(
        _by_address(candidates, found), sets, strict,
        what="chains", checked=[one.address for one in candidates],
    )  # fmt: skip
    write_certificate(context.folder, paper)
    kept, dropped = [], []
    for one, leaks in zip(candidates, found, strict=True):
        first = next((leak for leak in leaks if drops(leak, strict)), None)
        if first is None:
            kept.append(one)
        else:
            dropped.append(_dropped(one, first))
    return kept, dropped, {"contamination": summary(paper)}


def _leaks(
    candidates: Sequence[UngradedChain],
    items: Sequence[EvaluationItem],
    config: ContaminationConfig,
    recipe: Recipe,
) -> list[Leaks]:
    """Of each chain, and of its question where no filter has looked at it."""
    texts = [f"{one.thinking}\n{one.response}" for one in candidates]
    found = find_in_chains(texts, items, config, runner=recipe.runner)
    if recipe.filter is not None and recipe.filter.contamination is not None:
        return found
    questions = [text_of(one.problem, config) for one in candidates]
    of_questions = find_leaks(questions, items, config, runner=recipe.runner)
    return [(*first, *then) for first, then in zip(of_questions, found, strict=True)]


def _by_address(
    candidates: Sequence[UngradedChain], found: Sequence[Leaks]
) -> dict[str, list[Leak]]:
    """Two files may have the same name, and their chains the same address."""
    leaks: dict[str, list[Leak]] = {}
    for one, mine in zip(candidates, found, strict=True):
        if mine:
            leaks.setdefault(one.address, []).extend(mine)
    return leaks


def _dropped(chain: UngradedChain, leak: Leak) -> Dropped:
    return Dropped(
        id=chain.address, step=STEP, reason=f"holds a problem of {leak.item.benchmark}",
        evidence=as_evidence(f"{leak.item.benchmark} {leak.item.id}: {leak.span}"),
    )  # fmt: skip
