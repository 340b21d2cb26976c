"""Drop chains that contain a test problem.

{"id": "chains.jsonl:3", "step": "contamination", "reason": "holds a problem of aime24", …}

Questions are checked by the filter. If it does not check them, this stage does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from slowthink.curation.overlap import certificate
from slowthink.curation.overlap.contamination import Leak
from slowthink.curation.overlap.evaluation_sets import EvaluationItem, compared_text, load_sets
from slowthink.curation.overlap.leaks import Leaks, find_leaks, find_leaks_in_chains
from slowthink.pipeline.contract import StageContext
from slowthink.recipe import ContaminationConfig, Recipe
from slowthink.records import Dropped, Problem
from slowthink.stages.trace.chains import SourceChain


def drop_contaminated(
    chains: Sequence[SourceChain], heldout: Sequence[Problem], context: StageContext
) -> tuple[list[SourceChain], list[Dropped], dict[str, object]]:
    """The chains without test problems; the others, as dropped; and facts for the manifest.

    Writes the certificate into the stage's folder.
    """
    config: ContaminationConfig | None = context.config.contamination
    if config is None:
        return list(chains), [], {}
    strict = config.model_copy(update={"preset": "strict"})
    sets = load_sets(strict, heldout, seed=context.recipe.seed, setting="trace.contamination")
    items = [item for evaluation_set in sets for item in evaluation_set.items]
    leaks_by_chain = _find_leaks(chains, items, strict, context.recipe)
    # Two files may have the same name, and their chains the same location.
    by_location: dict[str, list[Leak]] = defaultdict(list)
    kept, dropped = [], []
    for chain, leaks in zip(chains, leaks_by_chain, strict=True):
        if leaks:
            by_location[chain.location] += leaks
        leak = next((leak for leak in leaks if certificate.must_drop(leak, strict)), None)
        if leak is None:
            kept.append(chain)
            continue
        reason = f"holds a problem of {leak.item.benchmark}"
        evidence = f"{leak.item.benchmark} {leak.item.id}: {leak.span}"
        dropped.append(chain.to_dropped("contamination", reason, evidence))
    checked = [chain.location for chain in chains]
    report = certificate.build(by_location, sets, strict, ids=checked, row_kind="chains")
    certificate.write(context.folder, report)
    return kept, dropped, {"contamination": certificate.summarise(report)}


def _find_leaks(
    chains: Sequence[SourceChain],
    items: Sequence[EvaluationItem],
    config: ContaminationConfig,
    recipe: Recipe,
) -> list[Leaks]:
    """Leaks into each chain, and into its question unless the filter has checked it."""
    texts = [f"{chain.thinking}\n{chain.response}" for chain in chains]
    in_chains = find_leaks_in_chains(texts, items, config, runner=recipe.runner)
    if recipe.filter is not None and recipe.filter.contamination is not None:
        return in_chains
    questions = [compared_text(chain.problem, config) for chain in chains]
    in_questions = find_leaks(questions, items, config, runner=recipe.runner)
    return [question + chain for question, chain in zip(in_questions, in_chains, strict=True)]
