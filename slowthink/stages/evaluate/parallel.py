"""Parallel scaling on one arm's samples, beside sequential scaling: votes on the samples, and tree
search and rejection sampling run live.

{"arm": "tuned", "benchmark": "heldout", "protocol": "t0.8", "scorer": {…}, "curves": […]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from slowthink.analysis.scores import AnswerGroups, by_point, by_problem, vote_key
from slowthink.analysis.votes import Sample
from slowthink.engines.session import Point, Session
from slowthink.errors import ConfigError
from slowthink.grading import Grader
from slowthink.pipeline.contract import StageContext
from slowthink.recipe import EvaluateConfig
from slowthink.recipe.protocols import draws_for, resolve_protocol
from slowthink.records import Verdict
from slowthink.sampling.parallel import (
    ParallelContext,
    ScoreItem,
    Scorer,
    StoredPoint,
    open_scorer,
    run_rebase,
    run_rejection,
    stored_curves,
    transcript_text,
)
from slowthink.stage_rows import EvaluationRow
from slowthink.stages.evaluate.batches import (
    ArmResult,
    EvaluationContext,
    SampleBatch,
    sample_batches,
)
from slowthink.stages.evaluate.disputed import answer_groups

TAG = "evaluate/parallel"
"""Tag of the tokens of live methods and scorers in the ledger."""


def check_parallel(config: EvaluateConfig, sizes: Mapping[str, int]) -> None:
    """Raise ConfigError if the voting protocol draws one sample, or at several temperatures."""
    parallel = config.parallel
    if parallel is None:
        return
    protocols = {protocol.name: protocol for protocol in map(resolve_protocol, config.protocols)}
    if parallel.protocol not in protocols:
        raise ConfigError(
            f"evaluate.parallel.protocol: `{parallel.protocol}` is not among evaluate.protocols "
            f"({', '.join(protocols)}); expected one that draws several samples. Add it there."
        )
    for name, num_problems in sizes.items():
        draws = draws_for(protocols[parallel.protocol], num_problems=num_problems)
        if draws.num_samples < 2 or len(draws.temperatures) > 1:
            raise ConfigError(
                f"evaluate.parallel.protocol: `{parallel.protocol}` draws {draws.num_samples} "
                f"sample(s) at {len(draws.temperatures)} temperature(s) from {name}; expected "
                "several at one. Define a protocol: "
                "{name: mine, draws: {temperatures: [0.8], num_samples: 8}}"
            )


def parallel_curves(
    context: EvaluationContext, session: Session, rows: Sequence[EvaluationRow]
) -> tuple[list[dict[str, Any]], list[EvaluationRow]]:
    """The curves of every set, and the rows with their scores."""
    config, stage = context.config.parallel, context.stage
    assert config is not None
    arm = next(arm for arm in context.config.arms if arm.name == config.arm)
    with ExitStack() as stack:
        scorer = None
        if config.scorer is not None:
            scorer = stack.enter_context(
                open_scorer(
                    config.scorer, stage.recipe, ledger=context.ledger, tag=TAG, notify=stage.notify
                )
            )
            stage.notify(f"evaluate: scoring {arm.name}'s samples")
        curves, by_id = [], {row.id: row for row in rows}
        for batch in sample_batches(context, arm, session):
            if batch.protocol.name == config.protocol:
                set_key = arm.name, batch.problem_set.name, batch.protocol.name
                batch_rows = [row for row in rows if _set_key(row) == set_key]
                tokens_per_sample = 0.0
                if scorer is not None and batch_rows:
                    batch_rows, tokens_per_sample = _score_rows(batch, batch_rows, scorer)
                    by_id |= {row.id: row for row in batch_rows}
                curves.append(_set_curves(context, batch, batch_rows, scorer, tokens_per_sample))
    return curves, list(by_id.values())


def recount_votes(
    context: StageContext, arm: ArmResult, curves: Sequence[Mapping[str, Any]], grader: Grader
) -> ArmResult:
    """The regraded arm with its curves: votes are counted again, curves of live methods keep their
    original grades."""
    groups = answer_groups(arm.rows, grader)
    updated = []
    for set_curves in curves:
        key = set_curves["arm"], set_curves["benchmark"], set_curves["protocol"]
        voted = stored_curves(
            _stored_points([row for row in arm.rows if _set_key(row) == key], groups),
            scorer_tokens_per_sample=set_curves["scorer_tokens_per_sample"],
            seed=context.recipe.seed,
            num_resamples=context.config.num_resamples,
        )
        live = [
            curve | {"graded": "before"}
            for curve in set_curves["curves"]
            if curve["method"] in ("rejection", "rebase")
        ]
        updated.append({**set_curves, "curves": voted + live})
    return replace(arm, parallel=updated)


def _set_key(row: EvaluationRow) -> tuple[str, str, str]:
    return row.arm, row.benchmark, row.protocol


def _score_rows(
    batch: SampleBatch, rows: Sequence[EvaluationRow], scorer: Scorer
) -> tuple[list[EvaluationRow], float]:
    """The batch's rows with their scores, and the scorer's tokens per sample."""
    problems = {problem.id: problem for problem in batch.problem_set.problems}
    texts = scorer.score_texts(
        [ScoreItem(problems[row.problem_id], transcript_text(row.segments)) for row in rows]
    )
    scored = [replace(row, score=text.score) for row, text in zip(rows, texts, strict=True)]
    return scored, sum(text.num_tokens for text in texts) / len(texts)


def _set_curves(
    context: EvaluationContext,
    batch: SampleBatch,
    rows: Sequence[EvaluationRow],
    scorer: Scorer | None,
    tokens_per_sample: float,
) -> dict[str, Any]:
    """All curves of the batch's set; `rows` are the batch's."""
    curves = stored_curves(
        _stored_points(rows, answer_groups(rows, context.grader)),
        scorer_tokens_per_sample=tokens_per_sample,
        seed=context.stage.recipe.seed,
        num_resamples=context.config.num_resamples,
    )
    return {
        "arm": batch.arm.name,
        "benchmark": batch.problem_set.name,
        "protocol": batch.protocol.name,
        "scorer": scorer.facts if scorer else None,
        "scorer_tokens_per_sample": tokens_per_sample,
        "curves": curves + _live_curves(context, batch, scorer),
    }


def _stored_points(rows: Sequence[EvaluationRow], groups: AnswerGroups) -> list[StoredPoint]:
    """All samples at each point, without problems that have an ungradable answer there."""
    return [
        StoredPoint(
            point=Point(*key),
            samples={
                problem: [_voting_sample(row, groups) for row in samples]
                for problem, samples in by_problem(point_rows).items()
                if all(row.verdict.is_counted for row in samples)
            },
        )
        for key, point_rows in by_point(rows).items()
    ]


def _voting_sample(row: EvaluationRow, groups: AnswerGroups) -> Sample:
    return Sample(
        answer=vote_key(row, groups),
        correct=row.verdict is Verdict.CORRECT,
        num_tokens=row.num_thinking_tokens + row.num_closing_tokens + row.num_answer_tokens,
        score=row.score,
    )


def _live_curves(
    context: EvaluationContext, batch: SampleBatch, scorer: Scorer | None
) -> list[dict[str, Any]]:
    """Curves of the methods that sample more: rejection sampling and tree search."""
    config = context.config.parallel
    assert config is not None
    stage, problems = context.stage, list(batch.problem_set.problems)
    draws = draws_for(batch.protocol, num_problems=len(problems))
    parallel = ParallelContext(
        session=batch.session,
        ledger=context.ledger,
        grader=context.grader,
        recipe=stage.recipe,
        chat=batch.chat,
        forcing=batch.arm.forcing,
        max_thinking_tokens=max(batch.arm.caps),
        sampling=draws.sampling(batch.temperature).to_record(),
        tag=TAG,
        num_resamples=context.config.num_resamples,
        progress=stage.progress,
    )
    curves = []
    if config.rejection is not None:
        stage.notify(f"evaluate: rejection sampling on {batch.problem_set.name}")
        curves += run_rejection(parallel, problems, config.rejection)
    if config.rebase is not None and scorer is not None:
        stage.notify(f"evaluate: tree search (REBASE) on {batch.problem_set.name}")
        curves += run_rebase(parallel, problems, config.rebase, scorer)
    return curves
