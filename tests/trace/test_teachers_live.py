"""Teachers on the real engines: chains with their origin, and nothing generated twice."""

from __future__ import annotations

import importlib.util

import pytest

from slowthink.pipeline.run_folder import make_context
from slowthink.recipe.loading import parse_recipe
from slowthink.stages.trace.gather import gather_chains


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["transformers", "vllm"])
def test_a_real_model_teaches_and_is_not_asked_twice(
    tmp_path, smollm, make_problem, kind: str
) -> None:
    if kind == "vllm" and importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    teacher = {
        "kind": "teacher", "model": smollm, "num_chains": 2, "chat": {"format": "auto"},
        "engine": {"kind": kind, "dtype": "float32", "max_context": 512},
        "budget": {"max_thinking_tokens": 48, "answer_tokens": 16},
    }  # fmt: skip
    recipe = parse_recipe({
        "name": "t", "pool": {"sources": [{"kind": "sandbox"}]}, "trace": {"sources": [teacher]},
    })  # fmt: skip
    problems = [
        make_problem("What is the capital of France? Answer in one word.", "Paris"),
        make_problem("Write one sentence about the sea.", None),
        make_problem("Repeat this word once: " + "sea " * 600, "sea"),
    ]
    context = make_context(recipe, tmp_path, "trace", notify=lambda text: None)
    first = gather_chains(context, problems)
    assert {chain.problem.id for chain in first.chains} == {p.id for p in problems[:2]}
    assert problems[2].id in {drop.id for drop in first.dropped}
    for chain in first.chains:
        assert chain.thinking and kind in chain.provenance["engine"]
        assert chain.truncated == (chain.provenance["tokens"] == 48)
    (facts,) = first.facts["teacher_runs"]
    assert (facts["num_requests"], facts["num_too_long"]) == (4, 1)
    again = gather_chains(context, problems)
    assert [chain.chain_id for chain in again.chains] == [c.chain_id for c in first.chains]
    (facts_again,) = again.facts["teacher_runs"]
    assert facts_again["decoded_tokens"] == facts["decoded_tokens"]
