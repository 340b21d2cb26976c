"""The trace stage as a whole; these count tokens with the embedded model's tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slowthink.errors import DataError
from slowthink.pipeline.contract import StageResult
from slowthink.pipeline.run_folder import execute, make_context
from slowthink.recipe.loading import parse_recipe
from slowthink.stages import pool, trace
from slowthink.stages.report.excerpts import read_drops

pytestmark = pytest.mark.usefixtures("tokenizers_once")

SHARED = Path("/work/shared/data/traces")
SANDBOX = {"kind": "sandbox", "num_problems": 18, "num_heldout": 9}


def run(root: Path, **sections: Any) -> StageResult:
    recipe = parse_recipe({"name": "test", **sections})
    if recipe.pool is not None:
        context = make_context(recipe, root, "pool", notify=lambda text: None)
        execute(context, pool.run, version=1)
    return trace.run(make_context(recipe, root, "trace", notify=lambda text: None))


@pytest.mark.slow
def test_every_sandbox_chain_passes_and_is_counted(tmp_path: Path) -> None:
    result = run(tmp_path, pool={"sources": [SANDBOX]}, trace={})
    assert (len(result.records), list(result.dropped)) == (18, [])
    assert {step.name: step.num_out for step in result.steps} == {
        "read": 18, "take": 18, "match": 18, "gate": 18, "grade": 18, "one per problem": 18,
    }  # fmt: skip
    assert all(20 <= t.num_thinking_tokens <= 250 for t in result.records)
    assert result.facts["verdicts"] == {"correct": 18}


@pytest.mark.slow
def test_recipe_may_begin_with_own_chains(tmp_path: Path) -> None:
    rows = [
        {"question": "1 + 1?", "thinking": "Two.", "response": "Final Answer: 2", "answer": "2"},
        {"question": "1 + 2?", "thinking": "Four.", "response": "Final Answer: 4", "answer": "3"},
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run(tmp_path, trace={"sources": [{"kind": "file", "path": str(path)}]})
    (kept,) = result.records
    assert (kept.problem.question, kept.teacher, kept.num_response_tokens) == ("1 + 1?", "mine", 5)
    assert [drop.id for drop in result.dropped] == ["mine.jsonl:2"]


def test_dropped_chains_are_counted_by_reason_and_named_by_line_and_their_own_id(
    tmp_path: Path,
) -> None:
    right = {"question": "1 + 1?", "thinking": "One and one.", "response": "Final Answer: 2",
             "answer": "2"}  # fmt: skip
    wrong = right | {"question": "1 + 2?", "answer": "3"}
    path = tmp_path / "mine.jsonl"
    rows = [right, *(wrong | {"id": f"q-{n}"} for n in range(4)), {"question": "?", "id": 7}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = parse_recipe(
        {"name": "t", "trace": {"sources": [{"kind": "file", "path": str(path)}]}}
    )
    printed: list[str] = []
    context = make_context(recipe, tmp_path / "run", "trace", notify=printed.append)
    execute(context, trace.run, version=trace.STAGE_VERSION)
    assert "trace: 1 dropped, read: no known form of chains (mine.jsonl:6 (id 7))" in printed
    named = "mine.jsonl:2 (id q-0), mine.jsonl:3 (id q-1), mine.jsonl:4 (id q-2), …"
    assert f"trace: 4 dropped, grade: wrong answer ({named})" in printed
    drops = read_drops(tmp_path / "run/trace", seed=0)  # as the page shows them
    shown = {example["id"] for drop in drops for example in drop["examples"]}
    assert "mine.jsonl:6 (id 7)" in shown and len(shown & set(named.split(", "))) >= 2


@pytest.mark.parametrize(("thinking", "message"), [
    ("One and two is four.", r"no chain is left \(1 x wrong answer\).*trace\.ungraded=keep"),
    ("Okay.", r"no chain is left \(1 x .*thinking.*\).*trace\.gate=null"),
])  # fmt: skip
def test_no_chain_is_an_error_with_the_reasons_and_a_remedy(
    thinking: str, message: str, tmp_path: Path
) -> None:
    row = {"question": "1 + 2?", "thinking": thinking, "response": "Final Answer: 4", "answer": 3}
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=message):
        run(tmp_path, trace={"sources": [{"kind": "file", "path": str(path)}]})


def test_rows_of_no_known_form_are_explained_by_the_columns_that_chains_need(
    tmp_path: Path,
) -> None:
    chain = {"question": "1 + 2?", "thinking": "One and two is four.", "response": "4", "answer": 3}
    rows = [chain, {"question": "?", "thinking": "Hm"}, {"question": "!", "thinking": "Hm"}]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    message = r"2 x no known form of chains; 1 x .* Rename the columns to question, thinking, resp"
    with pytest.raises(DataError, match=message):
        run(tmp_path, trace={"sources": [{"kind": "file", "path": str(path)}]})


@pytest.mark.parametrize(("keep", "thinking"), [
    ("one", ["Two."]), ("right", ["Two.", "One and one is two."]),
    ("all", ["Two.", "One and one is two.", "It may well be three or four."]),
])  # fmt: skip
def test_several_chains_of_a_problem_are_kept_in_the_order_of_preference(
    keep: str, thinking: list[str], tmp_path: Path
) -> None:
    rows = [
        {"question": "1 + 1?", "thinking": text, "response": f"Final Answer: {said}", "answer": "2"}
        for text, said in (("It may well be three or four.", "3"), ("One and one is two.", "2"),
                           ("Two.", "2"))
    ]  # fmt: skip
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = [{"kind": "file", "path": str(path)}]
    result = run(tmp_path, trace={"sources": sources, "keep": keep, "prefer": {"by": "shortest"}})
    assert [trace.thinking for trace in result.records] == thinking
    assert len({trace.chain_id for trace in result.records}) == len(thinking)
    assert (result.facts["num_problems"], result.facts["num_chains"]) == (1, len(thinking))


def test_problems_without_solutions_get_the_hint_that_helps(tmp_path: Path) -> None:
    path = tmp_path / "exam.jsonl"
    path.write_text(json.dumps({"question": "1 + 2?", "answer": "3"}) + "\n")
    with pytest.raises(DataError, match=r"1 x the problem has no solution.*solution_field=COLUMN"):
        run(tmp_path, pool={"sources": [{"kind": "file", "path": str(path)}]}, trace={})


def test_plan_counts_chains() -> None:
    recipe = parse_recipe({"name": "test", "pool": {"sources": [SANDBOX]}, "trace": {}})
    assert trace.plan(recipe)["num_chains"] == 18


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.exists(), reason="the shared data is not here")
def test_real_long_chains_are_right_by_their_keys_and_nearly_all_pass_the_gate(
    tmp_path: Path,
) -> None:
    path = SHARED / "limo_r1_distill_qwen32b.jsonl"
    result = run(tmp_path, trace={"sources": [{"kind": "file", "path": str(path)}]})
    assert result.facts["verdicts"] == {"correct": 291}
    assert {drop.step for drop in result.dropped} == {"gate"} and len(result.dropped) <= 4
    assert result.facts["wait_share"] > 0.9
