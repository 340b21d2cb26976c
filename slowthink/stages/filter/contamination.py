"""Decontamination: drop training problems that overlap a test problem.

{"id": "p-…", "step": "contamination: strict", "reason": "copy of a problem of math500",
 "evidence": "math500 37 (score 1.0): how many vertical asymptotes does the graph of …"}
"""

from __future__ import annotations

from collections.abc import Sequence

from slowthink.curation.overlap import certificate
from slowthink.curation.overlap.contamination import Leak
from slowthink.curation.overlap.evaluation_sets import EvaluationItem, compared_text, load_sets
from slowthink.curation.overlap.leaks import Leaks, find_leaks, find_leaks_by_source
from slowthink.data.rows import as_evidence
from slowthink.pipeline.contract import StageContext
from slowthink.recipe import ContaminationConfig, Recipe
from slowthink.records import Dropped, Problem, Split
from slowthink.stages.filter.funnel import Funnel
from slowthink.stages.filter.paraphrases import add_paraphrases

REASONS = {
    "run": "shares a run of words with",
    "copy": "copy of a problem of",
    "paraphrase": "the same in other words as a problem of",
    "similar": "close in meaning to a problem of",
    "template": "the same but for its numbers or its question as a problem of",
}


def drop_contaminated(funnel: Funnel, context: StageContext) -> None:
    """Drop the problems that overlap test problems, and write the certificate of all leaks into the
    stage's folder."""
    config: ContaminationConfig | None = context.config.contamination
    if config is None:
        return
    heldout = [p for p in context.load(Problem, "pool") if p.split is Split.HELDOUT]
    sets = load_sets(config, heldout, seed=context.recipe.seed, setting="filter.contamination")
    items = [item for evaluation_set in sets for item in evaluation_set.items]
    problems = sorted(funnel.problems, key=lambda problem: problem.id)
    overlaps = _find_leaks(problems, items, config, context.recipe)
    overlaps, paraphrase_facts = add_paraphrases(problems, overlaps, items, context)
    leaks = {p.id: overlap for p, overlap in zip(problems, overlaps, strict=True) if overlap}
    ids = [problem.id for problem in problems]
    report = certificate.build(leaks, sets, config, ids=ids, row_kind="questions")
    report |= {"paraphrase": paraphrase_facts} if paraphrase_facts else {}
    certificate.write(context.folder, report)
    funnel.facts["contamination"] = certificate.summarise(report)
    step = f"contamination: {config.preset}"
    dropped = [_to_dropped(id, overlap, step, config) for id, overlap in sorted(leaks.items())]
    funnel.drop(step, [drop for drop in dropped if drop])
    context.notify(
        f"filter: {report['num_dropped']:,} of {len(ids):,} problems overlap the "
        f"{len(items):,} test problems and are dropped"
    )


def _find_leaks(
    problems: Sequence[Problem], items: Sequence[EvaluationItem], config: ContaminationConfig,
    recipe: Recipe,
) -> list[Leaks]:  # fmt: skip
    texts = [compared_text(problem, config) for problem in problems]
    if config.preset != "s1" or not config.cross_source:
        return find_leaks(texts, items, config, runner=recipe.runner)
    names = source_order({problem.source for problem in problems}, config, recipe)
    sources: dict[str, list[EvaluationItem]] = {name: [] for name in names}
    for problem, text in zip(problems, texts, strict=True):
        sources[problem.source].append(EvaluationItem(problem.source, problem.id, text))
    ids = [item.id for source in sources.values() for item in source]
    leaks = dict(zip(ids, find_leaks_by_source(sources, items, config), strict=True))
    return [leaks[problem.id] for problem in problems]


def source_order(names: set[str], config: ContaminationConfig, recipe: Recipe) -> list[str]:
    """The names sorted: those in the setting `source_order` first, then in the pool's order, the
    others alphabetically."""
    sources = recipe.pool.sources if recipe.pool else ()
    pool_names = [name for source in sources if (name := getattr(source, "name", None))]
    ordered = [*config.source_order, *pool_names, *sorted(names)]
    return [name for name in dict.fromkeys(ordered) if name in names]


def _to_dropped(
    id: str, leaks: Sequence[Leak], step: str, config: ContaminationConfig
) -> Dropped | None:
    """The record of a dropped problem; None if its leaks are only reported."""
    leak = next((leak for leak in leaks if certificate.must_drop(leak, config)), None)
    if leak is None:
        return None
    by_meaning = leak.kind in ("paraphrase", "similar")
    score = f"{'similarity' if by_meaning else 'score'} {leak.score}"
    shown = (leak.judge_reason or leak.item.text) if by_meaning else leak.span
    return Dropped(
        id=id, step=step, reason=f"{REASONS[leak.kind]} {leak.item.benchmark}",
        evidence=as_evidence(f"{leak.item.benchmark} {leak.item.id} ({score}): {shown}"),
    )  # fmt: skip
