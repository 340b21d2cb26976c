"""Drop duplicate questions: exact, near and semantic duplicates, in this order.

    {"step": "duplicates: near", "reason": "near duplicate", "evidence": "0.94 like p-1f…: Find …"}

The clusters are written to clusters.jsonl in the stage's folder:

    {"part": "near", "kept": "p-1f…", "members": [{"id": "p-9b…", "score": 0.94}]}

Rows whose reference answers differ are listed in other_answers.jsonl (other_answers.py).
Rows are sorted by preference, then id, so the order of the input does not matter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from slowthink.curation.overlap.clusters import Cluster, MayMerge, cluster_equal_keys
from slowthink.curation.overlap.exact import exact_keys, split_options
from slowthink.curation.overlap.near import find_near_duplicates
from slowthink.curation.overlap.semantic import find_semantic_duplicates, is_readable
from slowthink.data.rows import as_evidence
from slowthink.pipeline.contract import StageContext
from slowthink.pipeline.runner import BATCH_ROWS, batched, map_batches
from slowthink.recipe import FilterConfig
from slowthink.recipe.curation import DuplicatesConfig, NearConfig, SemanticConfig
from slowthink.records import Dropped, Problem
from slowthink.serialise import write_atomic
from slowthink.stages.filter.funnel import Funnel
from slowthink.stages.filter.other_answers import OTHER_ANSWERS_FILE, AnswerCheck

CLUSTERS_FILE = "clusters.jsonl"
EXACT_SHORTHAND = DuplicatesConfig(exact="plain", near=None, keep=("answer",))
"""What `duplicates: exact` is short for."""
REASONS = {
    "exact": "duplicate question",
    "near": "near duplicate",
    "semantic": "the same in other words",
}


def drop_duplicates(funnel: Funnel, context: StageContext) -> None:
    """Drop duplicates, with one step of the funnel for each enabled part of the settings."""
    settings: FilterConfig = context.config
    if settings.duplicates is None:
        return
    config = EXACT_SHORTHAND if settings.duplicates == "exact" else settings.duplicates
    lines: list[str] = []
    other_answers: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    for part, find_clusters in duplicate_parts(config, context.recipe.runner).items():
        problems = sorted_by_preference(funnel.problems, config)
        check = AnswerCheck(part, problems)
        clusters, part_facts = find_clusters(problems, check.may_merge)
        check.record_merged(clusters)
        other_answers += check.rows
        step = f"duplicates: {part}"
        funnel.drop(step, _to_dropped(step, REASONS[part], problems, clusters))
        lines += [json.dumps(_cluster_row(part, problems, cluster)) + "\n" for cluster in clusters]
        facts[part] = _cluster_facts(clusters) | part_facts | _other_answers_facts(check.rows)
    write_atomic(context.folder / CLUSTERS_FILE, "".join(lines))
    other_lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in other_answers]
    write_atomic(context.folder / OTHER_ANSWERS_FILE, "".join(other_lines))
    funnel.facts["duplicates"] = facts


def sorted_by_preference(problems: Sequence[Problem], config: DuplicatesConfig) -> list[Problem]:
    """The problems, sorted so that the one to keep comes before its duplicates."""
    source_ranks = {name: rank for rank, name in enumerate(config.sources)}

    def rank(problem: Problem, rule: str) -> int:
        length = len(problem.solution or "")
        return {
            "answer": problem.answer is None,
            "solution": not problem.solution,
            "source_order": source_ranks.get(problem.source, len(source_ranks)),
            "longest_solution": -length,
            "shortest_solution": length or 1 << 62,
        }[rule]

    return sorted(problems, key=lambda p: (*(rank(p, rule) for rule in config.keep), p.id))


ClustersAndFacts = tuple[list[Cluster], dict[str, Any]]
Part = Callable[[Sequence[Problem], MayMerge], ClustersAndFacts]


def duplicate_parts(config: DuplicatesConfig, runner: str) -> dict[str, Part]:
    """The enabled searches by name, in order; each is for what the ones before it kept."""
    parts: dict[str, Part] = {}
    if config.exact is not None:
        parts["exact"] = partial(_find_exact, strict=config.exact == "strict", runner=runner)
    if config.near is not None:
        parts["near"] = partial(_find_near, config=config.near, runner=runner)
    if config.semantic is not None:
        parts["semantic"] = partial(_find_semantic, config=config.semantic)
    return parts


def _find_exact(
    problems: Sequence[Problem], may_merge: MayMerge, *, strict: bool, runner: str
) -> ClustersAndFacts:
    if not strict:
        plain_keys = [problem.duplicate_key for problem in problems]
        return cluster_equal_keys(plain_keys, may_merge=may_merge), {}
    questions = [(problem.question, problem.choices) for problem in problems]
    batches = map_batches(exact_keys, batched(questions, BATCH_ROWS), runner=runner)
    keys = [key or None for batch in batches for key in batch.tolist()]
    return cluster_equal_keys(keys, may_merge=may_merge), {}


def _find_near(
    problems: Sequence[Problem], may_merge: MayMerge, *, config: NearConfig, runner: str
) -> ClustersAndFacts:
    texts = [text_with_sorted_options(problem) for problem in problems]
    clusters = find_near_duplicates(
        texts, **config.model_dump(), may_merge=may_merge, runner=runner
    )
    return clusters, {}


def _find_semantic(
    problems: Sequence[Problem], may_merge: MayMerge, *, config: SemanticConfig
) -> ClustersAndFacts:
    texts = [text_with_sorted_options(problem) for problem in problems]
    rows = [row for row, text in enumerate(texts) if is_readable(text)]
    clusters = find_semantic_duplicates(
        [texts[row] for row in rows],
        **config.model_dump(),
        may_merge=lambda first, second: may_merge(rows[first], rows[second]),
    )
    num_skipped = len(texts) - len(rows)
    return [cluster.reindexed(rows) for cluster in clusters], {"num_not_english": num_skipped}


def text_with_sorted_options(problem: Problem) -> str:
    """The question with its options in alphabetical order, without their letters."""
    stem, inline_options = split_options(problem.question)
    return "\n".join([stem, *sorted([*inline_options, *problem.choices])])


def _to_dropped(
    step: str, reason: str, problems: Sequence[Problem], clusters: Sequence[Cluster]
) -> list[Dropped]:
    dropped = []
    for cluster in clusters:
        kept = problems[cluster.kept].id
        for member in cluster.members:
            problem = problems[member.row]
            similarity = "" if step.endswith("exact") else f", {member.score:.2f} alike"
            evidence = as_evidence(f"{kept} is kept{similarity}: {problem.question}")
            dropped.append(Dropped(id=problem.id, step=step, reason=reason, evidence=evidence))
    return dropped


def _cluster_row(part: str, problems: Sequence[Problem], cluster: Cluster) -> dict[str, Any]:
    members = [{"id": problems[m.row].id, "score": m.score} for m in cluster.members]
    return {"part": part, "kept": problems[cluster.kept].id, "members": members}


def _cluster_facts(clusters: Sequence[Cluster]) -> dict[str, Any]:
    sizes = [1 + len(cluster.members) for cluster in clusters]
    return {"num_clusters": len(sizes), "largest_cluster": max(sizes, default=0)}


def _other_answers_facts(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    num_merged = sum(row["merged"] for row in rows)
    return {"num_kept_apart": len(rows) - num_merged, "num_merged_with_other_answer": num_merged}
