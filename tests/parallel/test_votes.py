"""Votes and best-of-n against the mean over all subsets."""

from __future__ import annotations

import itertools
import random

import pytest

from slowthink.analysis.statistics import Interval, wilson
from slowthink.analysis.votes import ProblemVotes, Sample, best_of_n, curve_point, vote, vote_curve


def made_samples(seed: int, *, n: int = 6) -> list[Sample]:
    """Samples, some with equal answers, no answer or equal scores; answer 0 is right."""
    rng = random.Random(seed)
    answers = [rng.choice([0, 0, 1, 2, None]) for _ in range(n)]
    return [
        Sample(a, a == 0, rng.randint(5, 40), rng.choice([0.1, 0.4, 0.4, 0.9])) for a in answers
    ]


def accuracy(subset, method: str) -> float:
    """Probability that these samples choose the right answer, with ties broken at random."""
    if method == "best-of-n":
        best_score = max(s.score for s in subset)
        best = [s for s in subset if s.score == best_score]
        return sum(s.correct for s in best) / len(best)
    votes: dict = {}
    for s in subset:
        if s.answer is not None:
            votes[s.answer] = votes.get(s.answer, 0) + (s.score if method == "weighted" else 1)
    if not votes:
        return 0.0
    winners = [a for a, v in votes.items() if abs(v - max(votes.values())) < 1e-9]
    return winners.count(0) / len(winners)


@pytest.mark.parametrize("method", ["majority", "weighted", "best-of-n"])
@pytest.mark.parametrize("seed", range(5))
def test_a_curve_is_the_mean_over_all_subsets(method, seed) -> None:
    samples = {"p": made_samples(seed), "q": made_samples(seed + 100)}
    for point in vote_curve(samples, method=method, ks=[1, 2, 3, 6], num_resamples=100):
        expected, tokens = [], []
        for group in samples.values():
            subsets = list(itertools.combinations(group, point.k))
            expected.append(sum(accuracy(s, method) for s in subsets) / len(subsets))
            tokens.append(
                sum(sum(s.num_tokens for s in subset) for subset in subsets) / len(subsets)
            )
        assert point.accuracy == pytest.approx(sum(expected) / 2)
        assert point.tokens_per_problem == pytest.approx(sum(tokens) / 2)
        assert point.n == 2


def test_every_k_is_a_power_of_two_or_all() -> None:
    assert [p.k for p in vote_curve({"p": made_samples(0)}, method="majority")] == [1, 2, 4, 6]


def test_the_scorers_tokens_count_for_methods_that_use_scores() -> None:
    options = {"ks": [4], "scorer_tokens_per_sample": 30.0}
    cost = {m: vote_curve({"p": made_samples(0)}, method=m, **options)[0].scorer_tokens_per_problem
            for m in ("majority", "weighted", "best-of-n")}  # fmt: skip
    assert cost == {"majority": 0.0, "weighted": 120.0, "best-of-n": 120.0}


def test_a_tie_of_scores_counts_as_its_share_of_right_ones() -> None:
    samples = [Sample(0, True, 1, 0.5), Sample(1, False, 1, 0.5), Sample(2, False, 1, 0.1)]
    assert best_of_n(samples, k=3) == pytest.approx(0.5)
    assert best_of_n(samples, k=2) == pytest.approx((0.5 + 1 + 0) / 3)


def test_a_missing_score_is_an_error() -> None:
    samples = {"p": [Sample(0, True, 1, 0.5), Sample(0, True, 1)]}
    with pytest.raises(ValueError, match="1 of 2 samples have no score"):
        vote_curve(samples, method="best-of-n")


def test_negative_weights_do_not_vote() -> None:
    with pytest.raises(ValueError, match="expected weights of 0 or more"):
        vote([Sample(0, True, 1, -0.5)], weighted=True)


def test_more_samples_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="k = 7 of 6"):
        vote_curve({"p": made_samples(0)}, method="best-of-n", ks=[7])


def test_nobody_votes_for_no_answer() -> None:
    assert vote([Sample(None, False, 1), Sample(None, False, 1), Sample(0, True, 1)]) == 1.0
    assert vote([Sample(None, False, 1)]) == 0.0


def test_the_interval_of_right_and_wrong_problems_is_wilsons() -> None:
    outcomes = [
        ProblemVotes(accuracy=a, num_tokens=4, resolved=bool(a)) for a in (1.0, 1.0, 0.0, 1.0)
    ]
    point = curve_point(3, outcomes)
    assert (point.accuracy, point.ci95, point.unresolved_rate) == (0.75, wilson(3, 4), 0.25)


def test_the_interval_of_shares_is_over_problems() -> None:
    outcomes = [ProblemVotes(accuracy=a, num_tokens=4) for a in (0.5, 0.5, 0.5)]
    assert curve_point(1, outcomes, num_resamples=100).ci95 == Interval(0.5, 0.5)
