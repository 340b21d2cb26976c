"""A cap of thinking tokens that is fitted to the solutions of the tested problems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slowthink.cli.plan_text import plan_text
from slowthink.engines.replay import ByteTokenizer
from slowthink.errors import ConfigError
from slowthink.pipeline.run_folder import execute, make_context
from slowthink.pipeline.run_plan import plan_run
from slowthink.recipe import Recipe
from slowthink.recipe.loading import load_recipe, parse_recipe
from slowthink.records import Problem
from slowthink.serialise import plain
from slowthink.stages import filter as filter_stage
from slowthink.stages.filter.difficulty.cap import FittedCap, fit_cap

TOKENIZER = ByteTokenizer()  # a token a byte


def solved(make_problem, lengths: list[int]) -> list[Problem]:
    return [
        make_problem(f"What is {n} + {n}?", str(2 * n), solution="x" * length, source="test")
        for n, length in enumerate(lengths)
    ]


@pytest.mark.parametrize(("lengths", "cap"), [
    ([*[100] * 19, 9000], 128),  # the longest 5 % do not count
    ([*[100] * 18, 129, 9000], 160),
    ([128] * 20, 128), ([1] * 20, 32), ([100] * 19, 256), ([], 256),
])  # fmt: skip
def test_the_cap_is_a_high_quantile_rounded_up(make_problem, lengths, cap) -> None:
    problems = solved(make_problem, lengths)
    without = [make_problem(f"Is {n} even?", "no", solution=None) for n in range(30)]
    fitted = fit_cap([*problems, *without], TOKENIZER)
    assert fitted == FittedCap(max_thinking_tokens=cap, num_solutions=len(lengths))
    assert fit_cap([*without, *problems[::-1]], TOKENIZER) == fitted


def run(folder: Path, problems: list[Problem], messages: list[str], **more: Any) -> dict[str, Any]:
    """The facts of a stage whose model thinks for 90 tokens, and is right from then on."""
    rows = [{"question": p.question, "thinking": ["x" * 90], "answer": p.answer} for p in problems]
    (folder / "script.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "p.jsonl").write_text("".join(json.dumps(plain(p)) + "\n" for p in problems))
    engine = {"kind": "replay", "replay": str(folder / "script.jsonl")}
    step = {"num_attempts": 1, "max_pass_rate": 1, "answer_tokens": 40} | more
    settings = {"quality": None, "duplicates": None, "input": str(folder / "p.jsonl")}
    recipe = parse_recipe(
        {"name": "t", "engine": engine, "filter": settings | {"difficulty": step}}
    )
    context = make_context(recipe, folder / "run", "filter", notify=messages.append)
    manifest = execute(context, filter_stage.run, version=filter_stage.STAGE_VERSION)
    attempts: list[dict[str, Any]] = manifest["facts"]["attempts"]
    return attempts[0]


def test_the_stage_fits_the_cap_and_records_it(tmp_path, make_problem) -> None:
    messages: list[str] = []
    problems = solved(make_problem, [70 + n for n in range(24)])
    facts = run(tmp_path, problems, messages, max_thinking_tokens="solutions")
    assert facts["fitted_cap"] == {"max_thinking_tokens": 96, "num_solutions": 24}
    assert facts["num_cut_off"] == 0
    line = "smollm2-135m: thinking is cut off at 96 tokens, the length of 95% of 24 solutions"
    assert f"filter: difficulty: {line}" in messages
    assert any("which is unknown until the solutions are read" in text for text in messages)


def test_without_solutions_the_default_cap_is_said(tmp_path, make_problem) -> None:
    messages: list[str] = []
    model = {"max_thinking_tokens": "solutions"}
    facts = run(tmp_path, solved(make_problem, [70] * 4), messages, models=[model])
    assert facts["fitted_cap"] == {"max_thinking_tokens": 256, "num_solutions": 4}
    assert any("at 256 tokens: only 4 tested problems have a solution" in m for m in messages)


def test_a_number_is_not_fitted(tmp_path, make_problem) -> None:
    facts = run(tmp_path, solved(make_problem, [70] * 24), [], max_thinking_tokens=64)
    assert "fitted_cap" not in facts and facts["num_cut_off"] == 24


def test_the_dry_run_of_small_says_that_its_cap_is_unknown(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [json.dumps({"question": f"What is {n} + 1?", "answer": n + 1}) for n in range(100)]
    (tmp_path / "pool.jsonl").write_text("\n".join(rows))
    text = plan_text(plan_run(load_recipe("small"), tmp_path / "run"))
    assert "tokens); for a cap of 256, which is unknown until the solutions are read" in text


def test_hours_need_a_length_where_the_cap_is_fitted() -> None:
    model = {"model": "a", "tokens_per_second": 1000.0}
    difficulty = {"max_thinking_tokens": "solutions", "hours": 1.0, "models": [model]}
    base = {"name": "t", "pool": {"sources": [{"kind": "sandbox", "num_problems": 9}]}}
    with pytest.raises(ConfigError, match="tokens_per_attempt where its cap is fitted"):
        filter_stage.plan(Recipe.model_validate(base | {"filter": {"difficulty": difficulty}}))
    model["tokens_per_attempt"] = 10_000
    plan = filter_stage.plan(Recipe.model_validate(base | {"filter": {"difficulty": difficulty}}))
    assert "180 tokens" not in str(plan) and "0.05 hours" in str(plan)
