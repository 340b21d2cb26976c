"""People's levels and rejections in the selection."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from test_chains import THREE, run

from slowthink.data.reviews import DATABASE, Judgement, median_level
from slowthink.errors import DataError
from slowthink.pipeline.run_folder import input_digests
from slowthink.recipe.loading import parse_recipe
from slowthink.review.store import ReviewStore
from slowthink.serialise import plain

FULL = {"method": "full", "num_problems": None}
CHAIN = {trace.num_thinking_tokens: trace.key for trace in THREE}


def judged(tokens: int, reviewer: str, level: int | None = None, **more) -> Judgement:
    return Judgement(kind="chain", item=CHAIN[tokens], problem_id="p", reviewer=reviewer,
                     level=level, at="2026-01-01T00:00:00Z", **more)  # fmt: skip


def export(folder: Path, *judgements: Judgement) -> str:
    path = folder / "review.jsonl"
    path.write_text("".join(json.dumps(plain(each)) + "\n" for each in judgements))
    return str(path)


def test_the_median_level_of_people_replaces_a_chains_level(tmp_path) -> None:
    path = export(
        tmp_path, judged(30, "Ann", 5), judged(30, "Bo", 2), judged(10, "Ann", 1),
        judged(10, "Ann", 4), judged(20, "Ann", 3), judged(20, "Bo", 5), judged(20, "Cy", 4),
    )  # fmt: skip
    traces = [replace(trace, level=3) for trace in THREE]
    result = run(tmp_path, traces, review=path, **FULL)
    levels = {trace.num_thinking_tokens: trace.level for trace in result.records}
    assert levels == {30: 2, 10: 4, 20: 4, 5: 3}, "lower of two; the last of one; else as before"
    assert result.facts["review"] == {
        "num_levels": 3, "num_rejected": 0, "reviewers": {"Ann": 3, "Bo": 2, "Cy": 1}
    }  # fmt: skip
    strict = run(tmp_path, traces, review=path, min_level=4, **FULL)
    assert {trace.num_thinking_tokens for trace in strict.records} == {10, 20}


def test_a_chain_that_half_call_bad_is_dropped_with_reason_and_names(tmp_path) -> None:
    bad = {"flags": ("bad", "error")}
    path = export(
        tmp_path, judged(30, "Ann", 2, note="3 is\nnot 4", **bad), judged(30, "Bo", 4),
        judged(10, "Ann", **bad), judged(10, "Bo", 4), judged(10, "Cy", 4),
    )  # fmt: skip
    result = run(tmp_path, THREE, review=path, **FULL)
    assert {trace.num_thinking_tokens for trace in result.records} == {10, 20, 5}
    (drop,) = result.dropped
    assert (drop.id, drop.step, drop.reason) == (CHAIN[30], "review", "bad, say reviewers")
    assert drop.evidence == "Ann (error): 3 is not 4"
    assert [(step.name, step.num_out) for step in result.steps] == [
        ("read", 4), ("review", 3), ("choose", 3)
    ]  # fmt: skip


def test_auto_reads_the_runs_own_database_and_counts_as_its_input(tmp_path) -> None:
    recipe = parse_recipe(
        {"name": "test", "select": {"input": str(tmp_path / "t.parquet"), **FULL}}
    )
    root = tmp_path / "run"
    root.mkdir()
    before = input_digests(recipe, root, "select")
    with ReviewStore(root / DATABASE) as store:
        assert input_digests(recipe, root, "select") == before, "an empty one changes nothing"
        store.add(judged(30, "Ann", 5), seen=0)
        once = input_digests(recipe, root, "select")
        store.add(judged(30, "Ann", 1), seen=1)
        again = input_digests(recipe, root, "select")
        assert before.keys() ^ once.keys() == {"review"} and once["review"] != again["review"]
        result = run(tmp_path, THREE, **FULL)
    assert {trace.level for trace in result.records} == {1, None}
    ignored = run(tmp_path, THREE, review=None, **FULL)
    assert {trace.level for trace in ignored.records} == {None} and "review" not in ignored.facts


def test_reviews_that_fit_nothing_or_leave_nothing_are_refused(tmp_path) -> None:
    other = export(tmp_path, replace(judged(30, "Ann", 5), item="c-0"))
    with pytest.raises(DataError, match="1 judged chains, none of them among 4 traces"):
        run(tmp_path, THREE, review=other, **FULL)
    bad = export(tmp_path, *(judged(tokens, "Ann", flags=("bad",)) for tokens in CHAIN))
    with pytest.raises(DataError, match="reviewers call all 4 traces bad"):
        run(tmp_path, THREE, review=bad, **FULL)
    with pytest.raises(DataError, match="no such file; expected judgements of people"):
        run(tmp_path, THREE, review=str(tmp_path / "none.jsonl"), **FULL)


def test_the_median_is_the_lower_of_two() -> None:
    assert median_level([judged(30, "a", 2), judged(30, "b", 5)]) == 2
    assert median_level([judged(30, "a", flags=("bad",))]) is None
