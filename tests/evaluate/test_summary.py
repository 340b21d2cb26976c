"""Figures of an evaluation against figures worked out by hand."""

from __future__ import annotations

import itertools

import pytest

from slowthink.analysis.scores import point_figures
from slowthink.analysis.statistics import (
    bootstrap_ci,
    macro_mean_ci,
    paired_bootstrap,
    powers_of_two,
    sign_test,
    wilson,
)
from slowthink.recipe import ArmConfig
from slowthink.recipe.protocols import PROTOCOLS, describe_protocol, draws_for, resolve_protocol
from slowthink.records import Verdict
from slowthink.stages.evaluate.batches import arm_points
from tests.evaluate.made_rows import RIGHT, UNGRADABLE, WRONG, figures, make_row, make_set


def measured(rows):
    return point_figures(rows, num_resamples=100, seed=0)


def test_accuracy_of_one_sample_has_wilsons_interval() -> None:
    rows = [
        make_row(problem=p, verdict=v)
        for p, v in zip("abcd", (RIGHT, WRONG, RIGHT, RIGHT), strict=True)
    ]
    point = measured(rows)
    expected = wilson(3, 4)
    assert point["accuracy"] == 0.75
    assert point["ci95"] == [expected.low, expected.high]
    assert point["n"] == 4


def test_what_cannot_be_graded_leaves_the_denominator_and_is_counted() -> None:
    rows = [make_row(problem="a"), make_row(problem="b", verdict=UNGRADABLE)]
    point = measured(rows)
    assert (point["accuracy"], point["n"], point["num_ungradable"]) == (1.0, 1, 1)


def test_truncated_and_missing_answers_count_as_unsolved() -> None:
    verdicts = (RIGHT, Verdict.TRUNCATED, Verdict.NO_ANSWER, WRONG)
    point = measured([make_row(problem=str(i), verdict=v) for i, v in enumerate(verdicts)])
    rates = (point["accuracy"], point["truncated_rate"], point["no_answer_rate"])
    assert rates == (0.25, 0.25, 0.25)


def test_nothing_gradable_has_no_accuracy() -> None:
    point = measured([make_row(verdict=UNGRADABLE)])
    assert (point["accuracy"], point["n"], point["ci95"]) == (None, 0, [0.0, 1.0])


def test_several_samples_weigh_each_problem_the_same() -> None:
    rows = [make_row(problem="a", sample=i, verdict=RIGHT) for i in range(3)]
    rows += [make_row(problem="b", verdict=WRONG)]
    point = measured(rows)
    expected = bootstrap_ci([1.0, 0.0], num_resamples=100, seed=0)
    assert point["accuracy"] == 0.5
    assert point["ci95"] == [expected.low, expected.high]


ANSWERS = {"a": ["1", "1", "0", "2"], "b": ["0", "0", "1", "3"], "c": ["0", "2", "3", "0"]}


def sampled(answers=ANSWERS, **more):
    return [
        make_row(
            problem=problem, sample=i, verdict=RIGHT if text == "1" else WRONG, extracted=text,
            temperature=0.7, **more,
        )
        for problem, texts in answers.items()
        for i, text in enumerate(texts)
    ]  # fmt: skip


def brute_pass(texts, k) -> float:
    subsets = list(itertools.combinations(texts, k))
    return sum("1" in subset for subset in subsets) / len(subsets)


def brute_majority(texts, k) -> float:
    total = 0.0
    subsets = list(itertools.combinations(texts, k))
    for subset in subsets:
        top = max(subset.count(text) for text in subset)
        winners = {text for text in subset if subset.count(text) == top}
        total += ("1" in winners) / len(winners)
    return total / len(subsets)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_pass_and_majority_over_all_subsets(k) -> None:
    point = measured(sampled())
    assert point["pass_at_k"][str(k)] == pytest.approx(
        sum(brute_pass(texts, k) for texts in ANSWERS.values()) / 3
    )
    assert point["maj_at_k"][str(k)] == pytest.approx(
        sum(brute_majority(texts, k) for texts in ANSWERS.values()) / 3
    )
    assert point["coverage"] == pytest.approx(2 / 3)


def test_ks_are_doublings_and_the_number_of_samples() -> None:
    assert [powers_of_two(n) for n in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_equivalent_answers_vote_together() -> None:
    rows = sampled({"a": ["1", "1.0", "0", "0"]})
    rows = [make_row(**{**fields(row), "verdict": RIGHT}) if row.extracted == "1.0" else row
            for row in rows]  # fmt: skip
    groups = {row.id: 0 if row.extracted in ("1", "1.0") else 1 for row in rows}
    assert point_figures(rows, num_resamples=100, seed=0, groups=groups)["maj_at_k"]["4"] == 0.5


def fields(row):
    return {"problem": row.problem_id, "sample": row.sample, "extracted": row.extracted,
            "temperature": row.temperature}  # fmt: skip


def test_a_wrong_answer_never_votes_for_a_right_one() -> None:
    """3, 4 and 4, 3 are one set, but only one of them is sorted."""
    rows = sampled({"a": ["1", "0", "0"]})
    groups = {row.id: 0 for row in rows}
    assert point_figures(rows, num_resamples=100, seed=0, groups=groups)["maj_at_k"]["1"] == (
        pytest.approx(1 / 3)
    )


def test_an_answer_cut_off_has_no_vote() -> None:
    rows = sampled({"a": ["1", "0"]})
    cut = make_row(problem="a", sample=2, verdict=Verdict.TRUNCATED, extracted="0", temperature=0.7)
    assert measured([*rows, cut])["maj_at_k"]["3"] == 0.5


def test_temperatures_weigh_the_same_whatever_their_samples() -> None:
    rows = [make_row(problem="a", temperature=0.0, verdict=RIGHT)]
    rows += [
        make_row(problem="a", temperature=0.6, sample=i, verdict=RIGHT if i < 2 else WRONG)
        for i in range(8)
    ]
    point = measured(rows)
    assert point["accuracy"] == pytest.approx((1 + 2 / 8) / 2)
    assert (point["pass_at_k"], point["maj_at_k"]) == ({}, {})


def test_quantiles_and_tokens() -> None:
    rows = [make_row(problem=str(i), num_thinking_tokens=10 * i) for i in range(11)]
    point = measured(rows)
    assert point["thinking_tokens_quantiles"] == {"10": 10.0, "50": 50.0, "90": 90.0}
    assert point["tokens_spent"] == sum(10 * i + 2 for i in range(11))


# --- the whole ------------------------------------------------------------------------------------

ARMS = (
    {"name": "base", "model": "base", "caps": (8,), "free": True},
    {"name": "tuned", "caps": (0, 8), "waits": (1,)},
)


def made_rows():
    rows = []
    for i in range(10):
        problem = f"p{i}"
        rows += [
            make_row("base", problem, RIGHT if i < 1 else WRONG),
            make_row("base", problem, RIGHT if i < 3 else WRONG, forced=False),
            make_row("tuned", problem, RIGHT if i < 2 else WRONG, cap=0),
            make_row("tuned", problem, RIGHT if i < 8 else WRONG),
            make_row(
                "tuned", problem, RIGHT if i < 9 else WRONG, waits=1, violations=("x",) * (i == 0)
            ),
        ]
    return rows


def test_difference_is_against_the_better_of_the_bases_ways() -> None:
    summary = figures(made_rows(), ARMS, num_resamples=1000)
    expected = paired_bootstrap(
        [float(i < 3) for i in range(10)], [float(i < 8) for i in range(10)], num_resamples=1000, seed=0
    )  # fmt: skip
    assert summary["base_accuracy"] == 0.3
    assert summary["base_point"]["forced"] is False
    assert summary["tuned_accuracy"] == 0.8  # the longest without waits, not the best
    assert summary["difference"] == pytest.approx(0.5)
    assert summary["difference_ci95"] == [expected.ci95.low, expected.ci95.high]


def test_curve_waits_and_violations() -> None:
    summary = figures(made_rows(), ARMS)
    curve = [(c["max_thinking_tokens"], c["accuracy"]) for c in summary["curve"]]
    assert curve == [(0, 0.2), (8, 0.8)]
    assert [(c["waits"], c["accuracy"]) for c in summary["waits"]] == [(0, 0.8), (1, 0.9)]
    assert summary["budget_violations"] == 1


def test_one_arm_has_no_difference() -> None:
    rows = [row for row in made_rows() if row.arm == "tuned"]
    summary = figures(rows, ARMS[1:])
    assert (summary["difference"], summary["base_accuracy"]) == (None, None)
    assert summary["tuned_accuracy"] == 0.8


def test_arms_are_compared_pairwise_at_their_longest_points() -> None:
    (comparison,) = figures(made_rows(), ARMS)["sets"][0]["comparisons"]
    base, tuned = [float(i < 1) for i in range(10)], [float(i < 8) for i in range(10)]
    assert (comparison["a"], comparison["b"], comparison["n"]) == ("base", "tuned", 10)
    assert comparison["b_point"] == {"max_thinking_tokens": 8, "waits": 0, "forced": True}
    assert comparison["difference"] == pytest.approx(0.7)
    assert comparison["p_exact"] == pytest.approx(sign_test(base, tuned)) == pytest.approx(2 / 2**7)
    assert 0 < comparison["minimal_detectable_difference"] < 1


def test_s1s_measures_of_the_forced_points() -> None:
    (measures,) = figures(made_rows(), ARMS)["sets"][0]["measures"]
    assert (measures["arm"], measures["num_points"]) == ("tuned", 3)
    assert (measures["control"], measures["control_per_sample"]) == (1.0, 1.0)
    assert measures["performance"] == 0.9
    assert measures["scaling_per_token"] is None  # both points with thinking have 8 tokens


def test_control_counts_runs_above_their_cap() -> None:
    rows = [
        make_row(problem=p, cap=cap, num_thinking_tokens=12)
        for p in "ab"
        for cap in (8, 16)
    ]  # fmt: skip
    (measures,) = figures(rows, ARMS[1:])["sets"][0]["measures"]
    assert (measures["control"], measures["control_per_sample"]) == (0.5, 0.5)


def test_limos_hypothesis_has_a_measure() -> None:
    draws = {"temperatures": (0.7,), "num_samples": 2}
    rows = []
    for i in range(4):  # the base solves p0 always and p1 once; the tuned solves p0 to p2
        for sample in range(2):
            base = i == 0 or (i == 1 and sample == 0)
            rows.append(
                make_row("base", f"p{i}", RIGHT if base else WRONG, sample=sample, protocol="mine")
            )
            rows.append(
                make_row("tuned", f"p{i}", RIGHT if i < 3 else WRONG, sample=sample,
                         protocol="mine")
            )  # fmt: skip
    summary = figures(rows, ARMS, protocols=({"name": "mine", "draws": draws},))
    elicitation = summary["sets"][0]["elicitation"]
    assert (elicitation["base_pass_at_k"], elicitation["tuned_pass_at_1"], elicitation["k"]) == (
        0.5,
        0.75,
        2,
    )
    assert elicitation["num_gains"] == 2
    assert elicitation["gain"] == pytest.approx((0.5 + 1) / 4)
    assert elicitation["gain_within_base_coverage"] == pytest.approx(0.5 / 1.5)


def test_one_greedy_sample_of_the_base_measures_no_coverage() -> None:
    assert figures(made_rows(), ARMS)["sets"][0]["elicitation"] is None


def test_sets_and_protocols_stand_apart_and_are_averaged() -> None:
    rows, sets = [], []
    for name, domain, right in (("math500", "in", 3), ("amc23", "in", 1), ("kaoyan", "out", 2)):
        own = [
            make_row(problem=f"{name}{i}", verdict=RIGHT if i < right else WRONG, benchmark=name)
            for i in range(4)
        ]
        sets.append(make_set(own, name, domain))
        rows += own
    summary = figures(rows, ARMS[1:], sets=sets)
    assert [(s["benchmark"], s["domain"]) for s in summary["sets"]] == [
        ("math500", "in"), ("amc23", "in"), ("kaoyan", "out"),
    ]  # fmt: skip
    by_group = {average["group"]: average for average in summary["averages"]}
    assert set(by_group) == {"in", "all"}  # one set is no average; ten need all ten
    assert by_group["in"]["accuracy"] == pytest.approx(0.5)
    assert by_group["all"]["accuracy"] == pytest.approx(0.5)
    expected = macro_mean_ci([[1, 1, 1, 0], [1, 0, 0, 0]], num_resamples=200, seed=0)
    assert by_group["in"]["ci95"] == [expected.low, expected.high]


def test_points_of_an_arm() -> None:
    base, tuned = (ArmConfig.model_validate(arm) for arm in ARMS)
    assert [(p.cap, p.waits, p.forced) for p in arm_points(base)] == [(8, 0, False), (8, 0, True)]
    assert [(p.cap, p.waits) for p in arm_points(tuned)] == [(0, 0), (8, 0), (8, 1)]


# --- protocols ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "num_problems", "words"),
    [
        ("greedy", 500, "greedy, 1 sample"),
        ("s1", 30, "s1: greedy, 1 sample, question only"),
        ("limo-v1", 30, "limo-v1: T=0.7, 16 samples"),
        ("limo-v1", 500, "limo-v1: greedy, 1 sample"),
        ("limo-v2", 40, "limo-v2: T=0.6, 4 samples"),
        ("aime-preview", 30, "aime-preview: greedy, T=0.3, T=0.6, top-p 0.95, 8 samples"),
    ],
)
def test_presets_are_the_papers(name, num_problems, words) -> None:
    assert describe_protocol(resolve_protocol(name), num_problems=num_problems) == words


def test_a_small_set_has_fewer_than_fifty_problems() -> None:
    limo = PROTOCOLS["limo-v1"]
    assert draws_for(limo, num_problems=49).num_samples == 16
    assert draws_for(limo, num_problems=50).num_samples == 1


def test_a_slope_that_no_resample_has_is_no_interval() -> None:
    rows = [make_row(problem="a", cap=cap, num_thinking_tokens=5) for cap in (8, 16)]
    (measures,) = figures(rows, ARMS[1:])["sets"][0]["measures"]
    assert (measures["scaling_per_doubling"], measures["scaling_per_doubling_ci95"]) == (None, None)
