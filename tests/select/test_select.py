"""Selection: s1's domain sampling against a literal one, and against expected frequencies."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from slowthink.errors import DataError
from slowthink.pipeline.contract import StageResult
from slowthink.pipeline.run_folder import make_context
from slowthink.recipe import SelectConfig
from slowthink.recipe.loading import parse_recipe
from slowthink.records import Grade, Problem, Split, Trace, Verdict, problem_id
from slowthink.serialise import plain
from slowthink.stages import select
from slowthink.stages.select.choose import make_selection
from slowthink.stages.select.methods import pick_s1, sample_rank
from slowthink.stages.select.selection import Candidate, Selection

CANDIDATES = st.lists(
    st.builds(Candidate, st.uuids().map(str), st.sampled_from("abcd"), st.integers(0, 50)),
    max_size=30,
    unique_by=lambda candidate: candidate.id,
)


class FixedPoints(random.Random):
    """A random source that returns the given points."""

    def __init__(self, points: list[float]) -> None:
        super().__init__()
        self.points = iter(points)

    def random(self) -> float:
        return next(self.points)


def sample_s1(candidates: list[Candidate], number: int, rng: random.Random) -> list[str]:
    """Ids in the order in which Algorithm 1 samples them."""
    selection = Selection(SelectConfig(), num_problems=number, rng=rng)
    picks = itertools.islice(pick_s1(candidates, selection), number)
    return [pick.candidate.id for pick in picks]


def literal(candidates: list[Candidate], number: int, points: list[float]) -> list[str]:
    """Algorithm 1's sampling, word for word: one explicit weight after the other."""
    chosen: list[str] = []
    left, draws = list(candidates), iter(points)
    while left and len(chosen) < number:
        domains = sorted({candidate.domain for candidate in left})
        domain = domains[int(next(draws) * len(domains))]
        ranked = sorted(
            (c for c in left if c.domain == domain), key=lambda c: (-c.num_thinking_tokens, c.id)
        )
        weights = [2.0**-rank for rank in range(len(ranked))]
        target, index = next(draws) * sum(weights), 0
        while index < len(ranked) - 1 and target >= weights[index]:
            target -= weights[index]
            index += 1
        chosen.append(ranked[index].id)
        left.remove(ranked[index])
    return chosen


@given(CANDIDATES, st.integers(0, 35), st.randoms(use_true_random=False))
def test_s1_sampling_is_the_literal_one(
    candidates: list[Candidate], number: int, rng: random.Random
) -> None:
    points = [rng.random() for _ in range(80)]
    assert sample_s1(candidates, number, FixedPoints(points)) == literal(candidates, number, points)


@given(CANDIDATES, st.integers(0, 35), st.integers(0, 1000))
def test_s1_choice_ignores_the_order_of_rows_and_repeats_nothing(
    candidates: list[Candidate], number: int, seed: int
) -> None:
    chosen = sample_s1(candidates, number, random.Random(seed))
    assert chosen == sample_s1(candidates[::-1], number, random.Random(seed))
    assert len(chosen) == len(set(chosen)) == min(number, len(candidates))


def test_s1_draws_domains_uniformly_and_ranks_by_powers_of_two() -> None:
    small = [Candidate(f"s{n}", "small", n) for n in range(3)]
    large = [Candidate(f"l{n}", "large", n) for n in range(100)]
    draws = Counter(sample_s1(small + large, 1, random.Random(seed))[0] for seed in range(8000))
    expected = {"l99": 1 / 4, "l98": 1 / 8, "l97": 1 / 16, "s2": 2 / 7, "s1": 1 / 7, "s0": 1 / 14}
    for name, share in expected.items():
        assert draws[name] / 8000 == pytest.approx(share, abs=0.02)


def test_empty_domains_are_removed() -> None:
    candidates = [Candidate("a", "small", 1), *(Candidate(f"b{n}", "large", n) for n in range(9))]
    assert len(sample_s1(candidates, 10, random.Random(0))) == 10


@pytest.mark.parametrize(("point", "ranks", "expected"), [
    (0.0, 1, 0), (0.999999, 1, 0), (0.0, 5, 0), (0.6, 2, 0), (0.7, 2, 1), (0.5, 2000, 1),
    (0.75, 2000, 2), (1 - 2**-53, 2000, 53), (1 - 2**-53, 4, 3),
])  # fmt: skip
def test_point_falls_in_rank(point: float, ranks: int, expected: int) -> None:
    assert sample_rank(point, ranks) == expected


def test_random_choice_is_uniform() -> None:
    candidates = [Candidate(name, "x", 1) for name in "abcd"]
    draws = Counter(
        name
        for seed in range(4000)
        for name in make_selection(
            candidates, SelectConfig(method="random", num_problems=2), seed=seed
        ).chosen
    )
    assert all(draws[name] / 4000 == pytest.approx(0.5, abs=0.03) for name in "abcd")


# --- the stage ------------------------------------------------------------------------------------


def trace(number: int, *, domain: str | None = "sums", split: Split = Split.TRAIN) -> Trace:
    question = f"What is {number} + 1?"
    problem = Problem(
        id=problem_id(question), duplicate_key=question, question=question, answer="1",
        source="test", source_row="1", domain=domain, split=split,
    )  # fmt: skip
    return Trace(
        problem=problem, thinking=f"chain {number}", response="Final Answer: 1", teacher="test",
        grade=Grade(verdict=Verdict.CORRECT), num_thinking_tokens=number, num_response_tokens=5,
        tokenizer="t",
    )  # fmt: skip


def run(folder: Path, traces: list[Trace], **settings: Any) -> StageResult:
    path = folder / "traces.jsonl"
    path.write_text("".join(json.dumps(plain(trace)) + "\n" for trace in traces))
    recipe = parse_recipe({"name": "test", "select": {"input": str(path), **settings}})
    return select.run(make_context(recipe, folder / "run", "select", notify=lambda text: None))


def test_shuffled_input_gives_the_same_selection(tmp_path: Path) -> None:
    traces = [trace(number, domain="abc"[number % 3]) for number in range(60)]
    shuffled = random.Random(1).sample(traces, 60)
    first, second = (run(tmp_path, rows, num_problems=20) for rows in (traces, shuffled))
    assert (first.records, first.dropped) == (second.records, second.dropped)
    assert len(first.records) == 20


def test_what_is_not_chosen_is_recorded(tmp_path: Path) -> None:
    result = run(tmp_path, [trace(number) for number in range(5)], num_problems=3)
    assert [drop.reason for drop in result.dropped] == ["not chosen"] * 2
    assert result.dropped[0].evidence.startswith("domain sums, ")
    assert [(step.name, step.num_in, step.num_out) for step in result.steps] == [
        ("read", 5, 5),
        ("choose", 5, 3),
    ]


def test_each_row_has_a_rationale(tmp_path: Path) -> None:
    result = run(tmp_path, [trace(number) for number in range(5)], num_problems=3)
    lines = (tmp_path / "run" / "select.partial" / "rationale.jsonl").read_text().splitlines()
    rows = {row["id"]: row for row in map(json.loads, lines)}
    assert list(rows) == sorted(rows) and len(rows) == 5
    assert sorted(row["place"] for row in rows.values() if row["chosen"]) == [1, 2, 3]
    first = next(row for row in rows.values() if row["place"] == 1)
    assert first["phase"] == "draw"
    assert first["why"].startswith("draw 1: sums, 1 of 1 domains, rank ")
    for drop in result.dropped:
        assert rows[drop.id]["why"] == f"not chosen: {drop.evidence}"


def test_shuffled_input_gives_the_same_rationale(tmp_path: Path) -> None:
    traces = [trace(number, domain="abc"[number % 3]) for number in range(30)]
    texts = []
    for rows in (traces, traces[::-1]):
        run(tmp_path, rows, num_problems=12, method="limo-v1")
        texts.append((tmp_path / "run" / "select.partial" / "rationale.jsonl").read_bytes())
    assert texts[0] == texts[1]


def test_heldout_traces_are_never_chosen(tmp_path: Path) -> None:
    result = run(tmp_path, [trace(1), trace(2, split=Split.HELDOUT)], method="full")
    assert [trace.problem.question for trace in result.records] == ["What is 1 + 1?"]
    assert [drop.reason for drop in result.dropped] == ["held out for evaluation"]


def test_a_chain_is_read_once(tmp_path: Path) -> None:
    result = run(tmp_path, [trace(1), trace(1)], method="full")
    assert (len(result.records), result.dropped[0].reason) == (1, "the same chain again")


def test_all_are_chosen_if_fewer_are_available_than_requested(tmp_path: Path) -> None:
    result = run(tmp_path, [trace(1), trace(2)], num_problems=10)
    assert len(result.records) == 2
    assert result.facts["warnings"] == ["10 problems requested; only 2 are available"]
    assert result.facts["domains"] == result.facts["domains_before"] == {"sums": 2}


def test_missing_domains_give_a_warning(tmp_path: Path) -> None:
    result = run(tmp_path, [trace(1, domain=None), trace(2, domain=None)], num_problems=1)
    assert result.facts["warnings"] == [
        "no problem has a domain, so s1's sampling prefers the longest chains"
    ]


def test_no_limit_and_full_take_all(tmp_path: Path) -> None:
    traces = [trace(number) for number in range(4)]
    assert len(run(tmp_path, traces, num_problems=None).records) == 4
    assert len(run(tmp_path, traces, method="full", num_problems=2).records) == 4


def test_no_traces_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 0 traces is for training"):
        run(tmp_path, [])


def test_another_seed_chooses_others() -> None:
    traces = [trace(number, domain="abc"[number % 3]) for number in range(60)]
    config = SelectConfig(num_problems=20)
    picks = [
        {trace.problem.id for trace in select.choose(traces, config, seed=s)[0]} for s in (0, 1)
    ]
    assert picks[0] != picks[1]


def test_plan_is_the_requested_number_or_all_available() -> None:
    base = {"name": "t", "pool": {"sources": [{"kind": "sandbox", "num_problems": 90}]}}
    assert select.plan(parse_recipe(base | {"select": {"num_problems": 30}}))["num_problems"] == 30
    assert select.plan(parse_recipe(base | {"select": {}}))["num_problems"] == 90
