"""Assign a domain to each problem; no problem is dropped and ids stay the same.

funnel.facts["domain_labels"] = {"methods": ["lexical"], "num_labelled": 40210, …}
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from slowthink.curation.domains import embedding, lexical, llm
from slowthink.curation.domains.agreement import measure_agreement
from slowthink.curation.domains.taxonomy import Label, Taxonomy, load_taxonomy
from slowthink.pipeline.contract import StageContext, count_values, funnel_step
from slowthink.pipeline.runner import map_rows
from slowthink.recipe import DomainsConfig, FilterConfig
from slowthink.records import Problem
from slowthink.sampling.prompted_model import open_prompted_model
from slowthink.stages.filter.funnel import Funnel

Labels = tuple[list[Label], dict[str, Any]]
"""Labels of problems, in order, and facts about the method."""
Method = Callable[[Sequence[Problem], Taxonomy, StageContext], Labels]


def assign_domains(funnel: Funnel, context: StageContext) -> None:
    """Assign domains to problems without one, or with `overwrite` to all."""
    settings: FilterConfig = context.config
    config = settings.domains
    if config is None:
        return
    taxonomy = load_taxonomy(config.taxonomy)
    problems = [p for p in funnel.problems if config.overwrite or p.domain is None]
    problems.sort(key=lambda problem: problem.id)
    by_method = {name: METHODS[name](problems, taxonomy, context) for name in config.methods}
    labels, _ = by_method[config.methods[0]]
    names = taxonomy.names()
    assigned = {
        problem.id: names[label.code]
        for problem, label in zip(problems, labels, strict=True)
        if label.code
    }
    funnel.problems = [
        replace(problem, domain=assigned.get(problem.id, problem.domain))
        for problem in funnel.problems
    ]
    funnel.steps.append(funnel_step("domains", len(funnel.problems), []))
    funnel.facts["domain_labels"] = _label_facts(funnel.problems, config, labels) | {
        "by_method": {name: _method_facts(*method) for name, method in by_method.items()},
        "agreement": _agreement_facts([method[0] for method in by_method.values()], names),
    }
    context.notify(f"filter: domain assigned to {len(assigned):,} of {len(problems):,} problems")


def _label_facts(
    problems: Sequence[Problem], config: DomainsConfig, labels: Sequence[Label]
) -> dict[str, Any]:
    return {
        "methods": list(config.methods),
        "taxonomy": config.taxonomy,
        "num_kept": len(problems) - len(labels),
        "num_labelled": sum(label.code is not None for label in labels),
        "domains": count_values(problem.domain for problem in problems),
    }


def _method_facts(labels: Sequence[Label], facts: dict[str, Any]) -> dict[str, Any]:
    reasons = [label.reason for label in labels if label.code is None]
    return {"num_unknown": len(reasons), "unknown": count_values(reasons)} | facts


def _agreement_facts(
    by_method: Sequence[Sequence[Label]], names: dict[str, str]
) -> dict[str, Any] | None:
    """Agreement of the two methods; None if there is only one."""
    if len(by_method) < 2:
        return None
    first, second = (
        [names[label.code] if label.code else None for label in labels] for labels in by_method
    )
    return measure_agreement(first, second)


def _texts_with_options(problems: Sequence[Problem]) -> list[str]:
    """The questions with their options."""
    return ["\n".join([problem.question, *problem.choices]) for problem in problems]


def _by_words(problems: Sequence[Problem], taxonomy: Taxonomy, context: StageContext) -> Labels:
    texts = _texts_with_options(problems)
    label = functools.partial(lexical.label_texts, taxonomy)
    labels = map_rows(label, texts, runner=context.recipe.runner)
    labels, divided = lexical.divide_large_classes(taxonomy, texts, labels)
    if not divided:
        return labels, {}
    names = [taxonomy.names()[code] for code in divided]
    context.notify(
        f"filter: over half of the problems are {names[0]}; they are labelled by its parts"
    )
    return labels, {"divided": names}


def _by_embedding(problems: Sequence[Problem], taxonomy: Taxonomy, context: StageContext) -> Labels:
    return embedding.label_texts(taxonomy, _texts_with_options(problems)), {}


def _with_llm(problems: Sequence[Problem], taxonomy: Taxonomy, context: StageContext) -> Labels:
    config: DomainsConfig = context.config.domains
    if not problems:
        return [], {"num_asked_again": 0}
    with context.open_ledger() as ledger, open_prompted_model(
        config.llm, context.recipe,
        ledger=ledger, tag=llm.TAG, notify=context.notify, progress=context.progress,
    ) as model:  # fmt: skip
        labels = llm.label_texts(taxonomy, model, problems, _texts_with_options(problems))
        return labels, {"num_asked_again": model.num_retried}


METHODS: dict[str, Method] = {"lexical": _by_words, "embedding": _by_embedding, "llm": _with_llm}
