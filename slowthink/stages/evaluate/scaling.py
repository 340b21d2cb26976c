"""Sequential against parallel scaling on one arm's samples: votes on what is there, tree search and
rejection sampling asked for live.

{"arm": "tuned", "benchmark": "heldout", "protocol": "t0.8", "scorer": {…}, "curves": […]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from slowthink.engines.session import Point, Session
from slowthink.errors import ConfigError
from slowthink.recipe import EvaluateConfig, ParallelConfig
from slowthink.recipe.protocols import draws_for, resolve
from slowthink.records import EvaluationRow, Problem, Verdict
from slowthink.sampling.parallel import (
    ParallelContext,
    Sample,
    ScoreItem,
    Scorer,
    StoredPoint,
    open_scorer,
    rebase_live,
    rejection_live,
    stored_curves,
    transcript_text,
)
from slowthink.stages.evaluate.arms import EvaluationContext, SampleBatch, sample_batches
from slowthink.stages.evaluate.cells import Groups, by_problem, vote_of
from slowthink.stages.evaluate.review import grouped
from slowthink.stages.evaluate.summary import by_point

TAG = "evaluate/parallel"
"""Under what the ledger counts the tokens of live methods and scorers."""


def check_parallel(config: EvaluateConfig, sizes: Mapping[str, int]) -> None:
    """Raise ConfigError where the protocol that shall vote draws one sample, or several ways."""
    parallel = config.parallel
    if parallel is None:
        return
    named = {one.name: one for one in map(resolve, config.protocols)}
    if parallel.protocol not in named:
        raise ConfigError(
            f"evaluate.parallel.protocol: `{parallel.protocol}` is not among evaluate.protocols "
            f"({', '.join(named)}); expected one that draws several samples. Add it there."
        )
    for name, size in sizes.items():
        draws = draws_for(named[parallel.protocol], num_problems=size)
        if draws.num_samples < 2 or len(draws.temperatures) > 1:
            raise ConfigError(
                f"evaluate.parallel.protocol: `{parallel.protocol}` draws {draws.num_samples} "
                f"sample(s) at {len(draws.temperatures)} temperature(s) from {name}; expected "
                "several at one. Give an own protocol: "
                "{name: mine, draws: {temperatures: [0.8], num_samples: 8}}"
            )


def parallel_curves(
    bench: EvaluationContext, session: Session, rows: Sequence[EvaluationRow]
) -> tuple[list[dict[str, Any]], list[EvaluationRow]]:
    """The curves of every set, and the rows with their scores."""
    config = bench.config.parallel
    assert config is not None
    arm = next(arm for arm in bench.config.arms if arm.name == config.arm)
    asked = [
        ask for ask in sample_batches(bench, arm, session) if ask.protocol.name == config.protocol
    ]
    if config.scorer is None:
        return [_curves(bench, ask, _own(rows, ask), None) for ask in asked], list(rows)
    context = bench.context
    with open_scorer(
        config.scorer, context.recipe, ledger=bench.ledger, tag=TAG, notify=context.notify
    ) as scorer:
        context.notify(f"evaluate: scoring {arm.name}'s samples")
        scored = {row.id: row for ask in asked for row in _scored(ask, _own(rows, ask), scorer)}
        rows = [scored.get(row.id, row) for row in rows]
        return [_curves(bench, ask, _own(rows, ask), scorer) for ask in asked], rows


def votes_again(
    config: EvaluateConfig,
    kept: Sequence[Mapping[str, Any]],
    rows: Sequence[EvaluationRow],
    groups: Groups,
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """The curves of a run after regrading: votes are counted anew, live curves stay as they were
    graded when they were made."""
    live = ("rejection", "rebase")
    found = []
    for one in kept:
        own = [
            row for row in rows if _place(row) == (one["arm"], one["benchmark"], one["protocol"])
        ]
        curves = stored_curves(
            _points(own, groups),
            scorer_tokens_per_sample=one["scorer_tokens_per_sample"],
            seed=seed,
            num_resamples=config.num_resamples,
        )
        curves += [
            curve | {"graded": "before"} for curve in one["curves"] if curve["method"] in live
        ]
        found.append(dict(one) | {"curves": curves})
    return found


def _place(row: EvaluationRow) -> tuple[str, str, str]:
    return row.arm, row.benchmark, row.protocol


def _own(rows: Sequence[EvaluationRow], ask: SampleBatch) -> list[EvaluationRow]:
    place = (ask.arm.name, ask.one.name, ask.protocol.name)
    return [row for row in rows if _place(row) == place]


def _scored(ask: SampleBatch, rows: Sequence[EvaluationRow], scorer: Scorer) -> list[EvaluationRow]:
    problems = {problem.id: problem for problem in ask.one.problems}
    scores = scorer.score([_item(problems[row.problem_id], row) for row in rows])
    return [replace(row, score=score) for row, score in zip(rows, scores, strict=True)]


def _item(problem: Problem, row: EvaluationRow) -> ScoreItem:
    return ScoreItem(problem, transcript_text(row.segments))


def _curves(
    bench: EvaluationContext, ask: SampleBatch, rows: Sequence[EvaluationRow], scorer: Scorer | None
) -> dict[str, Any]:
    config, context = bench.config.parallel, bench.context
    assert config is not None
    per_sample = 0.0
    if scorer is not None and rows:
        problems = {problem.id: problem for problem in ask.one.problems}
        read = scorer.score_texts([_item(problems[row.problem_id], row) for row in rows])
        per_sample = sum(one.num_tokens for one in read) / len(read)
    curves = stored_curves(
        _points(rows, grouped(rows, bench.grader)),
        scorer_tokens_per_sample=per_sample,
        seed=context.recipe.seed,
        num_resamples=bench.config.num_resamples,
    )
    return {
        "arm": ask.arm.name,
        "benchmark": ask.one.name,
        "protocol": ask.protocol.name,
        "scorer": scorer.facts if scorer else None,
        "scorer_tokens_per_sample": per_sample,
        "curves": curves + _live(bench, ask, config, scorer),
    }


def _points(rows: Sequence[EvaluationRow], groups: Groups) -> list[StoredPoint]:
    """All samples at each point, without problems that cannot be graded."""
    return [
        StoredPoint(
            point=Point(*key),
            samples={
                problem: [_sample(row, groups) for row in own]
                for problem, own in by_problem(found).items()
                if all(row.verdict.counts for row in own)
            },
        )
        for key, found in by_point(rows).items()
    ]


def _sample(row: EvaluationRow, groups: Groups) -> Sample:
    return Sample(
        answer=vote_of(row, groups),
        correct=row.verdict is Verdict.CORRECT,
        num_tokens=row.num_thinking_tokens + row.num_closing_tokens + row.num_answer_tokens,
        score=row.score,
    )


def _live(
    bench: EvaluationContext, ask: SampleBatch, config: ParallelConfig, scorer: Scorer | None
) -> list[dict[str, Any]]:
    context, problems = bench.context, list(ask.one.problems)
    draws = draws_for(ask.protocol, num_problems=len(problems))
    asking = ParallelContext(
        session=ask.session,
        ledger=bench.ledger,
        grader=bench.grader,
        recipe=context.recipe,
        chat=ask.chat,
        forcing=ask.arm.forcing,
        max_thinking_tokens=max(ask.arm.caps),
        sampling=draws.sampling(ask.temperature).record(),
        tag=TAG,
        num_resamples=bench.config.num_resamples,
        progress=context.progress,
    )
    curves = []
    if config.rejection is not None:
        context.notify(f"evaluate: rejection sampling on {ask.one.name}")
        curves += rejection_live(asking, problems, config.rejection)
    if config.rebase is not None and scorer is not None:
        context.notify(f"evaluate: tree search (REBASE) on {ask.one.name}")
        curves += rebase_live(asking, problems, config.rebase, scorer)
    return curves
