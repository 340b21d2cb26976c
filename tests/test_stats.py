"""Statistics against brute force on small cases, and against the published table."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest

from slowthink.analysis import pairing, scaling, statistics as stats
from slowthink.analysis.published import load_published
from slowthink.analysis.scores import point_figures, problem_scores
from tests.evaluate.made_rows import RIGHT, WRONG, make_row


def brute_pass_at_k(correct: list[bool], k: int) -> float:
    subsets = list(itertools.combinations(correct, k))
    return sum(any(subset) for subset in subsets) / len(subsets)


def brute_maj_at_k(answers: list[str | None], correct: list[bool], k: int) -> float:
    total = 0.0
    subsets = list(itertools.combinations(range(len(answers)), k))
    for subset in subsets:
        votes = Counter(answers[i] for i in subset if answers[i] is not None)
        if not votes:
            continue
        winners = [a for a, n in votes.items() if n == max(votes.values())]
        total += sum(correct[answers.index(a)] for a in winners) / len(winners)
    return total / len(subsets)


@pytest.mark.parametrize("num_correct", range(7))
@pytest.mark.parametrize("k", range(1, 7))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(num_correct: int, k: int) -> None:
    correct = [i < num_correct for i in range(6)]
    found = stats.pass_at_k(num_correct, num_samples=6, k=k)
    assert found == pytest.approx(brute_pass_at_k(correct, k))


@pytest.mark.parametrize(("num_correct", "k"), [(3, 0), (3, 7), (7, 2), (-1, 2)])
def test_pass_at_k_refuses_impossible_counts(num_correct: int, k: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        stats.pass_at_k(num_correct, num_samples=6, k=k)


@pytest.mark.parametrize("k", range(1, 8))
def test_maj_at_k_is_the_mean_over_all_subsets(k: int) -> None:
    answers = ["4", "4", "5", None, "6", "5", "4"]
    correct = [answer == "4" for answer in answers]
    found = stats.maj_at_k(answers, k=k, correct=correct)
    assert found == pytest.approx(brute_maj_at_k(answers, correct, k))


def test_a_tie_is_split() -> None:
    assert stats.maj_at_k(["1", "2"], k=2, correct=[True, False]) == 0.5


def test_weights_decide_a_vote() -> None:
    found = stats.maj_at_k(
        ["1", "2", "2"], k=3, correct=[True, False, False], weights=[3.0, 1.0, 1.0]
    )
    assert found == 1.0


def test_nobody_answering_is_not_correct() -> None:
    assert stats.maj_at_k([None, None], k=2, correct=[False, False]) == 0.0


def test_many_subsets_are_drawn_with_a_fixed_seed_near_the_exact_value() -> None:
    answers = ["1"] * 14 + ["2"] * 10
    correct = [answer == "1" for answer in answers]
    found = stats.maj_at_k(answers, k=9, correct=correct)
    exact = sum(math.comb(14, i) * math.comb(10, 9 - i) for i in range(5, 10)) / math.comb(24, 9)
    assert found == pytest.approx(exact, abs=0.03)
    assert found == stats.maj_at_k(answers, k=9, correct=correct)


@pytest.mark.parametrize(
    ("num_correct", "num", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (17, 30, 0.3920, 0.7262),
    ],
)
def test_wilson_gives_known_intervals(num_correct: int, num: int, low: float, high: float) -> None:
    found = stats.wilson(num_correct, num)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_wilson_holds_its_ends_in_its_own_equation() -> None:
    found, z = stats.wilson(7, 23), 1.959963985
    for end in (found.low, found.high):
        assert abs(7 / 23 - end) == pytest.approx(z * math.sqrt(end * (1 - end) / 23))


def test_without_samples_anything_is_possible() -> None:
    assert stats.wilson(0, 0) == stats.Interval(0.0, 1.0)


def test_the_bootstrap_matches_all_resamples_of_three_problems() -> None:
    means = [0.0, 0.5, 1.0]
    every = sorted(sum(draw) / 3 for draw in itertools.product(means, repeat=3))
    found = stats.bootstrap_ci(means, confidence=0.5)
    low, high = np.quantile(every, [0.25, 0.75])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))


def test_samples_of_one_problem_do_not_narrow_the_interval() -> None:
    def interval(num_samples: int) -> list[float]:
        rows = [
            make_row(problem=problem, verdict=verdict, sample=i)
            for problem, verdict in (("a", RIGHT), ("b", WRONG), ("c", RIGHT), ("d", WRONG))
            for i in range(num_samples)
        ]
        return point_figures(rows, num_resamples=200, seed=0)["ci95"]

    assert interval(2) == interval(64)


def test_the_bootstrap_of_nothing_is_nan() -> None:
    assert math.isnan(stats.bootstrap_ci([]).low)


def test_equal_arms_do_not_differ() -> None:
    found = stats.paired_bootstrap([0.2, 0.5, 1.0], [0.2, 0.5, 1.0])
    assert (found.difference, found.p_value) == (0.0, 1.0)
    assert found.ci95 == stats.Interval(0.0, 0.0)


def test_a_clear_difference_has_a_small_p_and_an_interval_above_zero() -> None:
    generator = random.Random(1)
    a = [float(generator.random() < 0.4) for _ in range(200)]
    b = [max(x, float(generator.random() < 0.3)) for x in a]
    found = stats.paired_bootstrap(a, b)
    assert found.difference == pytest.approx(sum(b) / 200 - sum(a) / 200)
    assert found.ci95.low > 0
    assert found.p_value < 0.001


def test_the_paired_p_is_the_share_of_all_resamples_that_lie_as_far_out() -> None:
    differences = [1.0, 1.0, 0.0, -1.0]
    every = [sum(draw) / 4 for draw in itertools.product(differences, repeat=4)]
    exact = sum(abs(x - 0.25) >= 0.25 for x in every) / len(every)
    found = stats.paired_bootstrap([0.0] * 4, differences)
    assert found.p_value == pytest.approx(exact, abs=0.02)


def test_pairs_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="same problems"):
        stats.paired_bootstrap([1.0], [1.0, 0.0])


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 0), (3, 2), (9, 1), (4, 4)])
def test_the_sign_test_counts_all_signs(wins: int, losses: int) -> None:
    num = wins + losses
    signs = [sum(flips) for flips in itertools.product((0, 1), repeat=num)]
    exact = sum(abs(2 * s - num) >= abs(wins - losses) for s in signs) / 2**num
    a = [0.0] * wins + [1.0] * losses + [1.0] * 3
    b = [1.0] * wins + [0.0] * losses + [1.0] * 3
    assert stats.sign_test(a, b) == pytest.approx(exact)


def test_the_detectable_difference_is_found_with_the_stated_power() -> None:
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(2_000, 100))
    size = stats.minimal_detectable_difference(np.zeros(100), noise[0] / noise[0].std(ddof=1))
    z = (noise + size).mean(1) / ((noise + size).std(axis=1, ddof=1) / 10)
    assert (np.abs(z) > 1.96).mean() == pytest.approx(0.8, abs=0.04)
    assert math.isnan(stats.minimal_detectable_difference([0.0], [1.0]))


# --- s1's Table 3, from its published points ------------------------------------------------------


TABLE_3 = (
    ("budget-forcing", 100, 15, 56.7, 5, 14.8),
    ("token-conditional", 40, -24, 40.0, 5, -23.8),
    ("token-conditional-forced", 100, 13, 40.0, 5, 13.2),
    ("step-conditional", 60, 3, 36.7, 5, 2.9),
    ("step-conditional-forced", 100, 6, 36.7, 5, 6.4),
    ("class-conditional", 50, 25, 36.7, 2, 25.2),
    ("rejection-sampling", 100, -35, 40.0, 5, -35.5),
)
"""Series, Control, Scaling, Performance, runs; then Scaling with one decimal, from the points."""


@pytest.mark.parametrize(
    ("name", "control", "slope", "best", "num_runs", "exact_slope"),
    TABLE_3,
    ids=[row[0] for row in TABLE_3],
)
def test_the_published_table_comes_out_of_the_published_points(
    name: str, control: float, slope: float, best: float, num_runs: int, exact_slope: float
) -> None:
    series = load_published("aime24", series=name)
    points = [figure for figure in series if figure.in_scaling]
    assert len(points) == num_runs
    tokens = [point.thinking_tokens for point in points]
    limits = [point.limit_tokens or math.inf for point in points]
    assert 100 * scaling.control(tokens, high=limits) == pytest.approx(control)
    # accuracies are rounded to one decimal; of 30 questions the exact share is known
    exact = [(point.thinking_tokens, 100 * round(0.3 * point.accuracy) / 30) for point in points]
    found = scaling.scaling(exact, per="doubling")
    assert round(found) == slope
    assert found == pytest.approx(exact_slope, abs=0.1)
    assert scaling.performance([(0.0, figure.accuracy) for figure in series]) == best


def test_every_published_series_is_a_row_of_the_table() -> None:
    series = {figure.series for figure in load_published("aime24")} - {None}
    assert {row[0] for row in TABLE_3} == series


def test_scaling_per_token_is_the_equation_as_printed() -> None:
    points = [(1000.0, 10.0), (2000.0, 20.0), (4000.0, 20.0)]
    slopes = [10 / 1000, 10 / 3000, 0.0]
    assert scaling.scaling(points) == pytest.approx(sum(slopes) / 3)


def test_points_at_equal_tokens_have_no_slope() -> None:
    assert scaling.scaling([(100.0, 1.0), (100.0, 2.0), (200.0, 3.0)], per="doubling") == 1.5
    assert math.isnan(scaling.scaling([(100.0, 1.0)]))
    assert math.isnan(scaling.scaling([(27.4, 1.0), (np.nextafter(27.4, 28), 2.0)], per="doubling"))


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="doubling"):
        scaling.scaling([(1.0, 1.0)], per="byte")


def test_control_counts_each_run_against_its_own_limits() -> None:
    assert scaling.control([5, 15, 25], high=[10, 10, 30], low=6) == pytest.approx(1 / 3)
    assert math.isnan(scaling.control([], high=1))


def test_the_interval_of_scaling_holds_the_slope_of_all_problems() -> None:
    generator = np.random.default_rng(3)
    tokens = np.array([[500.0] * 40, [1000.0] * 40, [2000.0] * 40])
    accuracy = generator.random((3, 40)) < np.array([[0.2], [0.5], [0.8]])
    found = scaling.scaling_ci(tokens, accuracy * 100.0, num_resamples=300)
    points = list(zip(tokens.mean(1), accuracy.mean(1) * 100, strict=True))
    assert found.low < scaling.scaling(points, per="doubling") < found.high


# --- averages over sets, LIMO's hypothesis, the best point ----------------------------------------


def test_macro_mean_weighs_sets_the_same_and_draws_within_each() -> None:
    small, large = [1.0, 1.0, 1.0], [0.0] * 50
    found = stats.macro_mean_ci([small, large], num_resamples=200)
    assert (found.low, found.high) == (0.5, 0.5)  # neither set varies within itself
    mixed = stats.macro_mean_ci([[1.0, 0.0] * 20, [0.0] * 5], num_resamples=2000)
    alone = stats.bootstrap_ci([1.0, 0.0] * 20, num_resamples=2000)
    assert mixed.low == pytest.approx(alone.low / 2, abs=0.02)
    assert mixed.high == pytest.approx(alone.high / 2, abs=0.02)


def test_macro_mean_of_nothing_is_nan() -> None:
    assert math.isnan(stats.macro_mean_ci([]).low)
    assert math.isnan(stats.macro_mean_ci([[1.0], []]).high)


def test_elicitation_against_a_sum_by_hand() -> None:
    correct, samples, tuned = [4, 1, 0, 2], [4, 4, 4, 4], [1.0, 0.5, 1.0, 0.25]
    found = pairing.elicitation(correct, samples, tuned, k=4)
    gains = [0.0, 0.25, 1.0, 0.0]  # the loss on the last counts as 0
    assert found["base_pass_at_k"] == 0.75
    assert found["tuned_pass_at_1"] == pytest.approx(sum(tuned) / 4)
    assert (found["num_gains"], found["gain"]) == (2, pytest.approx(sum(gains) / 4))
    assert found["gain_within_base_coverage"] == pytest.approx(0.25 / 1.25)
    low, high = found["ci95"]
    assert 0 <= low <= found["gain_within_base_coverage"] <= high <= 1


def test_elicitation_with_fewer_tries_counts_a_problem_in_part() -> None:
    found = pairing.elicitation([1], [4], [1.0], k=2)
    assert (
        found["gain_within_base_coverage"]
        == pytest.approx(stats.pass_at_k(1, num_samples=4, k=2))
        == 0.5
    )


def test_elicitation_without_a_gain_has_no_share() -> None:
    found = pairing.elicitation([4, 0], [4, 4], [0.5, 0.0], k=4)
    assert (found["num_gains"], found["gain"]) == (0, 0.0)
    assert found["gain_within_base_coverage"] is None and found["ci95"] is None


def test_elicitation_refuses_other_problems() -> None:
    with pytest.raises(ValueError, match="2, 2 and 1 problems"):
        pairing.elicitation([1, 1], [2, 2], [1.0], k=2)


def test_performance_interval_chooses_the_best_point_anew() -> None:
    accuracy = np.array([[1.0, 0.0], [0.0, 1.0]])
    found = scaling.performance_ci(accuracy, num_resamples=500)
    assert (found.low, found.high) == (0.5, 1.0)  # a lone problem drawn twice: one point has it
    assert math.isnan(scaling.performance_ci(np.zeros((0, 0))).low)


def test_problem_scores_weigh_temperatures_the_same() -> None:
    answers = [("b", 0.0, RIGHT), ("a", 0.0, RIGHT), ("a", 0.6, WRONG), ("a", 0.6, RIGHT)]
    rows = [make_row(problem=p, temperature=t, verdict=verdict) for p, t, verdict in answers]
    assert list(problem_scores(rows).items()) == [("a", 0.75), ("b", 1.0)]


def test_nothing_right_in_many_samples_is_not_certain() -> None:
    found = stats.accuracy_ci([0.0] * 40, num_answers=160)
    assert found == stats.wilson(0, 40)
    assert found.high > 0.05
    assert stats.accuracy_ci([1.0] * 40, num_answers=160) == stats.wilson(40, 40)


def test_the_interval_of_an_accuracy_is_wilsons_or_the_bootstraps() -> None:
    assert stats.accuracy_ci([1.0, 0.0, 1.0], num_answers=3) == stats.wilson(2, 3)
    scores = [0.5, 0.0, 1.0]
    assert stats.accuracy_ci(scores, num_answers=6, num_resamples=500) == stats.bootstrap_ci(
        scores, num_resamples=500
    )
    assert stats.accuracy_ci([], num_answers=0) == stats.Interval(0.0, 1.0)


def test_paired_figures_are_on_the_problems_that_both_have() -> None:
    a = {"x": 0.0, "y": 1.0, "only a": 1.0}
    b = {"x": 1.0, "y": 1.0, "only b": 0.0}
    found = pairing.paired_figures(a, b, num_resamples=200)
    assert found is not None
    assert (found["n"], found["difference"], found["p_exact"]) == (2, 0.5, 1.0)
    assert pairing.paired_figures({"x": 1.0}, {"y": 1.0}) is None
    lone = pairing.paired_figures({"x": 0.0}, {"x": 1.0})
    assert lone is not None
    assert lone["minimal_detectable_difference"] is None
