"""Curves of the report, from stored samples, rejection sampling and REBASE."""

from __future__ import annotations

import json

import pytest
from stepping import SteppingSession, total_of

from slowthink.analysis.votes import Sample
from slowthink.engines.session import Point
from slowthink.recipe import RebaseConfig, RejectionConfig
from slowthink.records import Grade, Verdict
from slowthink.sampling.parallel import StoredPoint, run_rebase, run_rejection, stored_curves
from slowthink.sampling.parallel.context import votes_for
from slowthink.sampling.parallel.scorers import ScoredText, Scorer


def stored(point: Point, *, scores: tuple[float | None, ...] = (None,) * 4) -> StoredPoint:
    right = [Sample(0, True, 10 + point.cap, s) for s in scores[:2]]
    wrong = [Sample(i, False, 10 + point.cap, s) for i, s in enumerate(scores[2:], 1)]
    return StoredPoint(point=point, samples={"p": right + wrong, "q": wrong + wrong})


def by_name(curves):
    return {curve["name"]: curve for curve in curves}


def test_without_scores_there_are_one_sample_and_the_majority() -> None:
    curves = by_name(stored_curves([stored(Point(8)), stored(Point(32)), stored(Point(32, 1))]))
    assert list(curves) == [
        "one sample, longer thinking", "majority, cap 8", "majority, cap 32",
        "majority, cap 32, 1 wait",
    ]  # fmt: skip
    line = curves["one sample, longer thinking"]["points"]
    assert [(p["k"], p["tokens_per_problem"], p["accuracy"]) for p in line] == [
        (8, 18.0, 0.25), (32, 42.0, 0.25),
    ]  # fmt: skip
    together = curves["majority, cap 32, 1 wait"]
    assert together["sequential_point"] == {"max_thinking_tokens": 32, "waits": 1, "forced": True}
    assert [(p["k"], p["accuracy"], p["n"]) for p in together["points"]][-1] == (4, 0.5, 2)


def test_scored_samples_have_weighted_votes_and_best_of_n() -> None:
    points = [stored(Point(8), scores=(0.9, 0.8, 0.3, 0.2))]
    curves = by_name(stored_curves(points, scorer_tokens_per_sample=20.0))
    best = curves["best-of-n, cap 8"]["points"][-1]
    assert (best["k"], best["accuracy"], best["scorer_tokens_per_problem"]) == (4, 0.5, 80.0)
    assert curves["weighted, cap 8"]["method"] == "weighted"
    assert json.loads(json.dumps(list(curves.values())))


def test_negative_scores_choose_but_do_not_vote() -> None:
    curves = by_name(stored_curves([stored(Point(8), scores=(-0.1, -0.2, -3.0, -4.0))]))
    assert list(curves)[1:] == ["majority, cap 8", "best-of-n, cap 8"]


def test_rejection_and_rebase_return_curves_of_the_same_form(context_for, make_problem) -> None:
    problems = [make_problem(f"q{i}", "6") for i in range(4)]
    scorer = Scorer(lambda items: [ScoredText(float(total_of(i.text)), 2) for i in items], facts={})
    with context_for(SteppingSession()) as context:
        curves = run_rejection(context, problems, RejectionConfig(limits=(6, 12), max_tries=3))
        curves += run_rebase(
            context, problems, RebaseConfig(widths=(2,), max_step_tokens=8), scorer
        )
    assert [(c["name"], c["method"]) for c in curves] == [
        ("rejection, 3 tries at most", "rejection"),
        ("REBASE, majority", "rebase"),
        ("REBASE, weighted", "rebase"),
    ]
    assert [p["k"] for p in curves[0]["points"]] == [6, 12]
    few, many = (p["tokens_per_problem"] for p in curves[0]["points"])
    assert few > many
    keys = {"k", "tokens_per_problem", "scorer_tokens_per_problem", "accuracy", "ci95", "n"}
    assert all(keys <= set(p) for c in curves for p in c["points"])


@pytest.mark.parametrize("verdict", [Verdict.TRUNCATED, Verdict.NO_ANSWER])
def test_equivalent_answers_vote_together_and_truncated_ones_do_not(grader, verdict) -> None:
    grades = [Grade(verdict=Verdict.CORRECT, extracted="0.5"), Grade(verdict=verdict, extracted="7"),
              Grade(verdict=Verdict.CORRECT, extracted="\\frac12"), Grade(verdict=Verdict.WRONG, extracted="7")]  # fmt: skip
    assert votes_for(grades, grader) == [(0, True), None, (0, True), (1, False)]


def test_a_wrong_answer_never_votes_for_a_right_one(grader) -> None:
    """Without the question, the two lists could be equivalent."""
    grades = [Grade(verdict=Verdict.CORRECT, extracted="3, 4, 9"), Grade(verdict=Verdict.WRONG, extracted="4, 3, 9")]  # fmt: skip
    right, wrong = votes_for(grades, grader)
    assert right != wrong
