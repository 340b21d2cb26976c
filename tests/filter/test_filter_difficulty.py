"""Pass rates, bands and settings of difficulty, on made-up attempts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slowthink.data.manifests import output_digest
from slowthink.errors import ConfigError
from slowthink.grading import Grader
from slowthink.pipeline.run_folder import input_digests, stage_settings, stage_status
from slowthink.recipe import DifficultyConfig, DifficultyStep, KeyCheckConfig, Recipe
from slowthink.recipe.loading import parse_recipe
from slowthink.records import Grade, Problem, Verdict
from slowthink.serialise import file_sha256
from slowthink.stages.filter.difficulty.band import Band, BandDecision
from slowthink.stages.filter.difficulty.cost import estimate_costs, ids_to_test, stratified_order
from slowthink.stages.filter.difficulty.key_check import find_dispute
from slowthink.stages.filter.difficulty.pass_rates import (
    difficulty_facts,
    drop_reason,
    estimate_pass_rate,
)
from slowthink.stages.filter.difficulty.step import combine_decisions

LETTERS = {
    "c": Verdict.CORRECT, "w": Verdict.WRONG, "n": Verdict.NO_ANSWER, "t": Verdict.TRUNCATED,
    "u": Verdict.UNGRADABLE, "e": Verdict.GRADER_ERROR,
}  # fmt: skip


def grades(letters: str) -> list[Grade]:
    return [Grade(verdict=LETTERS[letter]) for letter in letters]


def problem(number: int, *, domain: str | None = None, source: str = "test") -> Problem:
    return Problem(
        id=f"p-{number:03}", duplicate_key=str(number), question=str(number), source=source,
        source_row="1", answer="7", domain=domain,
    )  # fmt: skip


def settings(**values: object) -> DifficultyConfig:
    config = parse_recipe({"name": "t", "filter": {"input": "p", "difficulty": values}}).filter
    assert config is not None and config.difficulty is not None
    return config.difficulty


RATES = {
    "all right": ("cc", 2, 2, 1.0),
    "none right": ("ww", 0, 2, 0.0),
    "cut off counts as unsolved": ("ct", 1, 2, 0.5),
    "no answer counts as unsolved": ("cn", 1, 2, 0.5),
    "ungradable leaves the denominator": ("cuu", 1, 1, 1.0),
    "grader error leaves the denominator": ("we", 0, 1, 0.0),
    "nothing counts": ("uu", 0, 0, None),
}


@pytest.mark.parametrize("letters, correct, counted, rate", RATES.values(), ids=RATES.keys())
def test_pass_rate_of(letters: str, correct: int, counted: int, rate: float | None) -> None:
    estimate = estimate_pass_rate("p", grades(letters), step=DifficultyStep())
    assert (estimate.num_correct, estimate.num_counted, estimate.pass_rate) == (
        correct,
        counted,
        rate,
    )


def test_truncated_attempts_leave_the_denominator_if_the_step_says_so() -> None:
    estimate = estimate_pass_rate("p", grades("ctt"), step=DifficultyStep(truncated="uncounted"))
    assert (estimate.num_correct, estimate.num_counted) == (1, 1)
    assert estimate.verdicts == {"truncated": 2, "correct": 1}


def test_interval_is_wilsons() -> None:
    estimate = estimate_pass_rate("p", grades("cw"), step=DifficultyStep())
    assert estimate.low == pytest.approx(0.0945, abs=1e-4)
    assert estimate.high == pytest.approx(0.9055, abs=1e-4)


def test_kinds_of_failure_are_counted_separately() -> None:
    estimate = estimate_pass_rate("p", grades("ctnwt"), step=DifficultyStep())
    assert estimate.verdicts == {"truncated": 2, "correct": 1, "no_answer": 1, "wrong": 1}


BANDS = {
    "at the upper end": ("cw", 0.0, 0.5, None),
    "above": ("ccw", 0.0, 0.5, "solved too often (above max_pass_rate)"),
    "at the lower end": ("cwww", 0.25, 1.0, None),
    "below": ("wwww", 0.25, 1.0, "solved too rarely (below min_pass_rate)"),
    "unsolved is kept by default": ("ww", 0.0, 0.5, None),
    "not measurable": ("u", 0.0, 1.0, "no attempt can be graded"),
}


@pytest.mark.parametrize(("letters", "low", "high", "expected"), BANDS.values(), ids=BANDS.keys())
def test_band_keeps_or_drops(letters: str, low: float, high: float, expected: str | None) -> None:
    step = DifficultyStep(min_pass_rate=low, max_pass_rate=high, num_attempts=4)
    assert (
        drop_reason(estimate_pass_rate("p", grades(letters), step=step).decision, step) == expected
    )


def test_a_band_of_counts_replaces_the_rates() -> None:
    band = Band(32, max_pass_rate=0.0, min_correct=1, max_correct=3)
    decisions = [band.decide(num_correct, 32) for num_correct in (0, 1, 3, 4)]
    assert decisions == [
        BandDecision.TOO_RARELY,
        BandDecision.KEEP,
        BandDecision.KEEP,
        BandDecision.TOO_OFTEN,
    ]


def test_evidence_is_the_pass_rate() -> None:
    estimate = estimate_pass_rate("p", grades("cc"), step=DifficultyStep())
    assert estimate.evidence() == "2 of 2 right, 95 % interval 0.34 to 1.00"


def test_tested_problems_do_not_depend_on_order_and_change_with_the_seed() -> None:
    problems, config = [problem(number) for number in range(100)], DifficultyConfig(max_problems=10)
    first = ids_to_test(problems, config, Recipe(name="t", seed=0))
    assert len(first) == 10
    assert ids_to_test(problems[::-1], config, Recipe(name="t", seed=0)) == first
    assert ids_to_test(problems, config, Recipe(name="t", seed=1)) != first


@pytest.mark.parametrize("values", [{"max_problems": None}, {"preset": "s1"}])
def test_without_a_limit_and_by_a_preset_all_are_tested(values: dict[str, object]) -> None:
    problems = [problem(number) for number in range(200)]
    assert len(ids_to_test(problems, settings(**values), Recipe(name="t", seed=0))) == 200


def test_facts_have_histogram_interval_and_domains() -> None:
    step, texts = DifficultyStep(), {"a": "cc", "b": "cw", "c": "wt"}
    measures = [estimate_pass_rate(id, grades(text), step=step) for id, text in texts.items()]
    facts = difficulty_facts(measures, num_untested=7, domains={"a": "x", "b": "x", "c": None})
    assert facts["pass_rates"] == {"0 of 2": 1, "1 of 2": 1, "2 of 2": 1}
    assert (facts["num_tested"], facts["num_untested"], facts["pass_rate"]) == (3, 7, 0.5)
    assert facts["verdicts"] == {"correct": 3, "truncated": 1, "wrong": 2}
    assert facts["pass_rate_by_domain"] == {"unknown": 0.0, "x": 0.75}
    assert facts["pass_rate_ci95"] == pytest.approx([0.1876, 0.8124], abs=1e-4)


# --- several models, presets ----------------------------------------------------------------------

KEEP, OFTEN, RARELY = BandDecision.KEEP, BandDecision.TOO_OFTEN, BandDecision.TOO_RARELY


@pytest.mark.parametrize(
    ("outcomes", "by_any", "by_all"),
    [
        ([OFTEN], OFTEN, OFTEN),
        ([KEEP, OFTEN], OFTEN, KEEP),
        ([OFTEN, OFTEN], OFTEN, OFTEN),
        ([RARELY, OFTEN], RARELY, RARELY),
        ([KEEP, KEEP], KEEP, KEEP),
        ([], KEEP, KEEP),
    ],
)
def test_models_decide_together(
    outcomes: list[BandDecision], by_any: BandDecision, by_all: BandDecision
) -> None:
    assert combine_decisions(outcomes, rule="any") is by_any
    assert combine_decisions(outcomes, rule="all") is by_all


def test_presets_are_the_papers() -> None:
    (s1,) = settings(preset="s1").resolved_steps()
    assert [model.model for model in s1.models] == [
        "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-32B-Instruct",
    ]  # fmt: skip
    assert (s1.num_attempts, s1.max_correct, s1.rule, s1.temperature) == (1, 0, "any", 0.05)
    coarse, fine = settings(preset="limo-v2").resolved_steps()
    assert (coarse.num_attempts, coarse.max_correct, coarse.stop) == (4, 0, "exact")
    assert (fine.num_attempts, fine.min_correct, fine.max_correct) == (32, 1, 3)
    assert [step.name for step in settings(preset="limo-v1").resolved_steps()] == ["coarse", "fine"]


def test_a_preset_takes_other_models_and_ways_to_stop() -> None:
    models = [{"model": "a", "max_thinking_tokens": 64}, {"model": "b"}]
    coarse, fine = settings(preset="limo-v2", models=models, stop="never").resolved_steps()
    assert (coarse.models[0].model, fine.models[0].model) == ("a", "b")
    assert (coarse.stop, fine.stop) == ("never", "never")


def test_a_resolved_recipe_means_the_same() -> None:
    recipe = parse_recipe({"name": "t", "filter": {"input": "p", "difficulty": {"preset": "s1"}}})
    again = Recipe.model_validate(recipe.model_dump(mode="json"))
    assert again == recipe
    assert again.filter.difficulty.resolved_steps() == recipe.filter.difficulty.resolved_steps()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"preset": "s1", "num_attempts": 4}, "num_attempts: given together with"),
        ({"preset": "s1", "steps": [{}]}, "preset and steps"),
        ({"preset": "s1", "models": [{}]}, None),
        ({"preset": "s1", "models": [{"model": "a"}]}, "1 given; preset s1 has 2"),
        ({"steps": [{"name": "a"}, {"name": "a"}]}, "same name"),
        ({"min_correct": 3, "max_correct": 1}, "no problem could be kept"),
        ({"stop": "error"}, "`error` was removed; write `exact` instead and delete `max_error`"),
        ({"max_error": 0.01}, "max_error: unknown key"),
    ],
)
def test_impossible_settings_are_errors(values: dict[str, object], expected: str | None) -> None:
    if expected is None:
        assert len(settings(**values).resolved_steps()[0].models) == 2
        return
    with pytest.raises(ConfigError, match=expected):
        settings(**values)


def test_an_older_stage_folder_with_removed_settings_counts_as_done(tmp_path: Path) -> None:
    difficulty = {"steps": [{"name": "a", "stop": "exact"}]}
    recipe = parse_recipe({"name": "t", "filter": {"input": "p", "difficulty": difficulty}})
    old = stage_settings(recipe, "filter")
    old["filter"]["difficulty"]["max_error"] = 0.05
    old["filter"]["difficulty"]["steps"][0]["max_error"] = 0.05
    table = tmp_path / "filter" / "data.parquet"
    table.parent.mkdir()
    table.touch()
    manifest = {
        "settings": old,
        "stage_version": 3,
        "inputs": input_digests(recipe, tmp_path, "filter"),
        "output_digest": output_digest(file_sha256(table), {}),
        "num_records": 0,
        "num_dropped": 0,
        "facts": {},
    }
    path = table.with_name("manifest.json")
    path.write_text(json.dumps(manifest))
    assert stage_status(recipe, tmp_path, "filter", version=3).done
    old["filter"]["difficulty"]["steps"][0]["max_error"] = 0.01
    path.write_text(json.dumps(manifest))
    assert not stage_status(recipe, tmp_path, "filter", version=3).done


# --- cost and sub-pool ----------------------------------------------------------------------------


def test_cost_is_estimated_for_each_model_and_step() -> None:
    models = [{"model": "a", "tokens_per_second": 1000.0}, {"model": "b"}]
    config = settings(preset="limo-v2", models=models)
    coarse, fine = estimate_costs(config, Recipe(name="t"), num_problems=1000)
    assert (coarse.max_attempts, fine.max_attempts) == (4000, 32000)
    assert coarse.expected_attempts == 2083  # 1 + 1/2 + 1/3 + 1/4 under Beta(1, 1)
    assert coarse.max_tokens == 4000 * (32768 + 512)
    assert coarse.expected_hours == pytest.approx(2083 * 33280 / 1000 / 3600)
    assert fine.expected_hours is None


def test_hours_need_a_speed() -> None:
    with pytest.raises(ConfigError, match="no tokens_per_second for b"):
        ids_to_test([problem(1)], settings(models=[{"model": "b"}], hours=1), Recipe(name="t"))


def test_a_sub_pool_fits_the_hours_and_contains_all_domains() -> None:
    problems = [problem(n, domain="rare" if n < 2 else "common") for n in range(100)]
    models = [{"model": "b", "tokens_per_second": 44.0}]
    config = settings(models=models, max_problems=None, hours=20 / 3600)  # 2 attempts of 44 tokens
    ids = ids_to_test(problems, config, Recipe(name="t"))
    assert len(ids) == 10
    assert ids == ids_to_test(problems[::-1], config, Recipe(name="t"))
    assert sum(id < "p-002" for id in ids) == 1


def test_every_prefix_of_a_stratified_order_has_the_shares() -> None:
    problems = [problem(n, domain="abcd"[n % 4] if n < 80 else None) for n in range(120)]
    domains = {p.id: p.domain for p in problems}
    first = [domains[id] for id in stratified_order(problems, seed=0)[:30]]
    assert [first.count(name) for name in ("a", "b", "c", "d", None)] == [5, 5, 5, 5, 10]


# --- the reference answer -------------------------------------------------------------------------


def voting_grades(num_correct: int, wrong: dict[str, int]) -> list[Grade]:
    grades = [Grade(verdict=Verdict.CORRECT, extracted="7", gold="7")] * num_correct
    for text, votes in wrong.items():
        grades += [Grade(verdict=Verdict.WRONG, extracted=text, gold="7")] * votes
    return [*grades, Grade(verdict=Verdict.NO_ANSWER, gold="7")]


KEYS = {
    "agreed on another answer": (1, {"1/2": 5, "0.5": 4}, ("1/2", 9, 10)),
    "too few votes": (0, {"8": 3}, None),
    "no agreement": (0, {"8": 3, "9": 3, "10": 2}, None),
    "the reference answer has as many votes": (6, {"8": 6}, None),
    "correct": (6, {}, None),
}


@pytest.mark.parametrize(("num_correct", "wrong", "expected"), KEYS.values(), ids=KEYS.keys())
def test_reference_answer_is_disputed(
    num_correct: int, wrong: dict[str, int], expected: tuple | None
) -> None:
    with Grader() as grader:
        disputed = find_dispute(
            problem(1), voting_grades(num_correct, wrong), grader, config=KeyCheckConfig()
        )
    figures = disputed and (disputed.models_answer, disputed.votes, disputed.num_answers)
    assert figures == expected
