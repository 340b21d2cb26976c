"""Say which field each problem belongs to; nothing is dropped, ids stay.

funnel.facts["domain_labels"] = {"methods": ["lexical"], "num_labelled": 40210, …}
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from slowthink.curation.domains import embedding, lexical
from slowthink.curation.domains.agreement import agreement
from slowthink.curation.domains.asking import open_labeller
from slowthink.curation.domains.taxonomy import Label, Taxonomy, load_taxonomy
from slowthink.pipeline.contract import StageContext, counts, step_of
from slowthink.pipeline.runner import map_rows
from slowthink.recipe import DomainsConfig, FilterConfig
from slowthink.records import Problem
from slowthink.stages.filter.state import Funnel

Method = Callable[[Sequence[Problem], Taxonomy, StageContext], tuple[list[Label], dict[str, Any]]]
"""Labels of problems, in order, and what is to be said of how they came about."""


def domains(funnel: Funnel, context: StageContext) -> None:
    """The step of the filter: problems without a domain (all, to overwrite) get one."""
    settings: FilterConfig = context.config
    config = settings.domains
    if config is None:
        return
    taxonomy = load_taxonomy(config.taxonomy)
    asked = [one for one in funnel.problems if config.overwrite or one.domain is None]
    asked.sort(key=lambda problem: problem.id)
    found = {name: METHODS[name](asked, taxonomy, context) for name in config.methods}
    labels = found[config.methods[0]][0]
    names = taxonomy.names()
    named = {p.id: names[one.code] for p, one in zip(asked, labels, strict=True) if one.code}
    funnel.problems = [
        replace(problem, domain=named[problem.id]) if problem.id in named else problem
        for problem in funnel.problems
    ]
    funnel.steps.append(step_of("domains", len(funnel.problems), []))
    funnel.facts["domain_labels"] = _facts(funnel.problems, config, labels) | {
        "by_method": {name: _method_facts(*one) for name, one in found.items()},
        "agreement": _agreement([one for one, _ in found.values()], names),
    }
    context.notify(f"filter: {len(named)} of {len(asked)} problems without a domain have one now")


def _facts(
    problems: Sequence[Problem], config: DomainsConfig, labels: Sequence[Label]
) -> dict[str, Any]:
    return {
        "methods": list(config.methods),
        "taxonomy": config.taxonomy,
        "num_kept": len(problems) - len(labels),
        "num_labelled": sum(label.code is not None for label in labels),
        "domains": counts(problem.domain for problem in problems),
    }


def _method_facts(labels: Sequence[Label], more: dict[str, Any]) -> dict[str, Any]:
    unknown = [label.why for label in labels if label.code is None]
    return {"num_unknown": len(unknown), "unknown": counts(unknown)} | more


def _agreement(found: Sequence[Sequence[Label]], names: dict[str, str]) -> dict[str, Any] | None:
    """None where there is one method only."""
    if len(found) < 2:
        return None
    first, second = ([names[one.code] if one.code else None for one in part] for part in found)
    return agreement(first, second)


def text_of(problem: Problem) -> str:
    """The question with its options."""
    return "\n".join([problem.question, *problem.choices])


def _by_words(
    problems: Sequence[Problem], taxonomy: Taxonomy, context: StageContext
) -> tuple[list[Label], dict[str, Any]]:
    label = functools.partial(lexical.label_texts, taxonomy)
    return map_rows(label, [text_of(one) for one in problems], runner=context.recipe.runner), {}


def _by_embedding(
    problems: Sequence[Problem], taxonomy: Taxonomy, context: StageContext
) -> tuple[list[Label], dict[str, Any]]:
    return embedding.label_texts(taxonomy, [text_of(one) for one in problems]), {}


def _by_model(
    problems: Sequence[Problem], taxonomy: Taxonomy, context: StageContext
) -> tuple[list[Label], dict[str, Any]]:
    config: DomainsConfig = context.config.domains
    if not problems:
        return [], {"num_asked_again": 0}
    with (
        context.open_ledger() as ledger,
        open_labeller(
            config.llm, context.recipe, taxonomy,
            ledger=ledger, notify=context.notify, progress=context.progress,
        ) as labeller,
    ):  # fmt: skip
        labels = labeller.labels(problems, [text_of(one) for one in problems])
    return labels, {"num_asked_again": labeller.num_retried}


METHODS: dict[str, Method] = {
    "lexical": _by_words,
    "embedding": _by_embedding,
    "llm": _by_model,
}
