"""decontamination: training problems that hold a problem which is tested on.

{"id": "p-…", "step": "contamination: strict", "reason": "copy of a problem of math500",
 "evidence": "math500 37 (score 1.0): how many vertical asymptotes does the graph of …"}
"""

from __future__ import annotations

from collections.abc import Sequence

from slowthink.curation.overlap.certificate import certificate, drops, summary, write_certificate
from slowthink.curation.overlap.contamination import EvaluationItem, Leak
from slowthink.curation.overlap.evaluation_sets import exam_sets, text_of
from slowthink.curation.overlap.leaks import Leaks, find_leaks, find_leaks_in_order
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
    "template": "the same but for its numbers as a problem of",
}


def contamination(funnel: Funnel, context: StageContext) -> None:
    """One step; the certificate lies in the stage's folder, and says of every hit what it is."""
    config: ContaminationConfig | None = context.config.contamination
    if config is None:
        return
    heldout = [one for one in context.load(Problem, "pool") if one.split is Split.HELDOUT]
    sets = exam_sets(config, heldout, seed=context.recipe.seed, setting="filter.contamination")
    items = [item for one in sets for item in one.items]
    problems = sorted(funnel.problems, key=lambda one: one.id)
    found = _leaks(problems, items, config, context.recipe)
    found, facts = add_paraphrases(problems, found, items, context)
    leaks = {one.id: leak for one, leak in zip(problems, found, strict=True) if leak}
    ids = [one.id for one in problems]
    paper = certificate(leaks, sets, config, what="questions", checked=ids)
    paper |= {"paraphrase": facts} if facts else {}
    write_certificate(context.folder, paper)
    funnel.facts["contamination"] = summary(paper)
    step = f"contamination: {config.preset}"
    funnel.drop(step, [drop for id in ids if (drop := _dropped(id, leaks.get(id), step, config))])
    context.notify(f"filter: {paper['num_dropped']} problems leak {len(items)} that are tested on")


def _leaks(
    problems: Sequence[Problem], items: Sequence[EvaluationItem], config: ContaminationConfig,
    recipe: Recipe,
) -> list[Leaks]:  # fmt: skip
    texts = [text_of(one, config) for one in problems]
    if config.preset != "s1" or not config.cross_source:
        return find_leaks(texts, items, config, runner=recipe.runner)
    by_source: dict[str, list[tuple[int, EvaluationItem]]] = {
        name: [] for name in in_order({one.source for one in problems}, config, recipe)
    }
    for place, (one, text) in enumerate(zip(problems, texts, strict=True)):
        by_source[one.source].append((place, EvaluationItem(one.source, one.id, text)))
    groups = {name: [item for _, item in source] for name, source in by_source.items()}
    places = [place for source in by_source.values() for place, _ in source]
    found = dict(zip(places, find_leaks_in_order(groups, items, config), strict=True))
    return [found[place] for place in range(len(problems))]


def in_order(names: set[str], config: ContaminationConfig, recipe: Recipe) -> list[str]:
    """Sources as the settings order them, then as the pool does, then by name."""
    pool = [getattr(one, "name", None) for one in recipe.pool.sources] if recipe.pool else []
    wanted = [*config.source_order, *(name for name in pool if name), *sorted(names)]
    return [name for name in dict.fromkeys(wanted) if name in names]


def _dropped(
    id: str, leaks: Sequence[Leak] | None, step: str, config: ContaminationConfig
) -> Dropped | None:
    leak = next((leak for leak in leaks or () if drops(leak, config)), None)
    if leak is None:
        return None
    reason = f"{REASONS[leak.kind]} {leak.item.benchmark}"
    by_meaning = leak.kind in ("paraphrase", "similar")
    score = f"{'similarity' if by_meaning else 'score'} {leak.score}"
    shown = (leak.said or leak.item.text) if by_meaning else leak.span
    evidence = as_evidence(f"{leak.item.benchmark} {leak.item.id} ({score}): {shown}")
    return Dropped(id=id, step=step, reason=reason, evidence=evidence)
