"""Selection among problems of several chains: order, limits, filters, quotas, what is recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slowthink import select as select_traces
from slowthink.curation.scores import SCORES
from slowthink.data.tables import read_records, write_records
from slowthink.errors import DataError
from slowthink.pipeline.contract import StageResult
from slowthink.pipeline.run_folder import make_context
from slowthink.recipe import SelectConfig
from slowthink.recipe.loading import parse_recipe
from slowthink.recipe.saved import parse_saved
from slowthink.records import Grade, Problem, Trace, Verdict, chain_id, problem_id, row_ids
from slowthink.stages import select
from slowthink.stages.report.curation import selection_summary
from slowthink.stages.report.problem_columns import domain_counts, question_lengths
from slowthink.stages.select.choose import make_selection, unmet_quotas
from slowthink.stages.select.selection import Candidate, Selection


def chain(problem: int, tokens: int, *, domain: str = "sums", **more: Any) -> Trace:
    question, thinking = f"What is {problem} + 1?", f"chain of {tokens}"
    id = problem_id(question)
    row = Problem(
        id=id, duplicate_key=question, question=question, answer="1", source="test",
        source_row="1", domain=domain,
    )  # fmt: skip
    values: dict[str, Any] = {
        "chain_id": chain_id(id, thinking, "1"), "problem": row, "thinking": thinking,
        "response": "1", "teacher": "t", "grade": Grade(verdict=Verdict.CORRECT),
        "num_thinking_tokens": tokens, "num_response_tokens": 1, "tokenizer": "x",
    }  # fmt: skip
    return Trace(**values | more)


def run(folder: Path, traces: list[Trace], *, notify: Any = len, **settings: Any) -> StageResult:
    write_records(folder / "traces.parquet", traces, Trace)
    path = str(folder / "traces.parquet")
    recipe = parse_recipe({"name": "test", "select": {"input": path, **settings}})
    return select.run(make_context(recipe, folder / "run", "select", notify=notify))


def lengths(result: StageResult) -> list[tuple[str, int]]:
    return sorted(
        (t.problem.question[8:].rstrip("?"), t.num_thinking_tokens) for t in result.records
    )


def rationale(folder: Path) -> list[dict[str, Any]]:
    path = folder / "run" / "select.partial" / "rationale.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(autouse=True)
def low_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """A score whose low values are good, as student-fit's are."""
    monkeypatch.setitem(SCORES, "student-fit", SimpleNamespace(higher_is_better=False))


THREE = [chain(1, 30), chain(1, 10), chain(1, 20), chain(2, 5)]


def test_a_chosen_problem_brings_all_its_chains(tmp_path: Path) -> None:
    result = run(tmp_path, THREE, num_problems=2)
    assert lengths(result) == [("1 + 1", 10), ("1 + 1", 20), ("1 + 1", 30), ("2 + 1", 5)]
    assert (result.facts["num_problems"], result.facts["num_chains"]) == (2, 4)
    assert result.facts["domains"] == {"sums": 2}, "domains count problems"
    assert result.facts["phases"] == {"draw": 2}


@pytest.mark.parametrize(("by", "expected"), [
    ("first", [30, 10]), ("shortest", [10, 20]), ("longest", [30, 20]), ("student-fit", [20, 30]),
    ("limo-v2", [20, 10]),
])  # fmt: skip
def test_chains_are_taken_in_the_order_of_preference(
    by: str, expected: list[int], tmp_path: Path
) -> None:
    scores = {30: {"student-fit": 2, "limo-v2": 0.1}, 10: {"student-fit": 3, "limo-v2": 0.2},
              20: {"student-fit": 1, "limo-v2": 0.9}, 5: {"student-fit": 0, "limo-v2": 0}}  # fmt: skip
    traces = [replace(t, scores=json.dumps(scores[t.num_thinking_tokens])) for t in THREE]
    result = run(
        tmp_path, traces, method="longest", num_problems=1, chains_per_problem=2, prefer={"by": by}
    )
    assert {n for _, n in lengths(result)} == set(expected)
    lines = [row for row in rationale(tmp_path) if "chain" in row]
    keys = {t.chain_id: t.num_thinking_tokens for t in traces}
    assert [keys[row["chain"]] for row in lines][:2] == expected
    assert lines[2]["why"].startswith(
        "over the number of chains per problem: chain 3 of 3; 2 at most; a chain of p-"
    )


def test_dropped_chains_are_named_by_their_own_id(tmp_path: Path) -> None:
    result = run(tmp_path, THREE, num_problems=2, chains_per_problem=1)
    dropped = {drop.id for drop in result.dropped}
    assert dropped == {THREE[1].chain_id, THREE[2].chain_id}
    assert [(step.num_in, step.num_out) for step in result.steps] == [(4, 4), (4, 2)]
    none = run(tmp_path, THREE, method="longest", num_problems=1)
    assert [drop.id for drop in none.dropped] == [THREE[3].problem.id], "a problem's only chain"


def test_the_limits_of_chains_and_tokens_cut_a_problems_chains(tmp_path: Path) -> None:
    two = run(tmp_path, THREE, method="longest", num_problems=2, num_chains=2)
    assert lengths(two) == [("1 + 1", 10), ("1 + 1", 30)]
    budget = run(tmp_path, THREE, method="longest", num_problems=2, max_total_tokens=31 + 11 + 7)
    assert lengths(budget) == [("1 + 1", 10), ("1 + 1", 30), ("2 + 1", 5)]
    (drop,) = budget.dropped
    assert (drop.reason, drop.id) == ("over the token budget", THREE[2].chain_id)
    assert drop.evidence.startswith("21 tokens; 7 of 49 left; a chain of p-")
    assert budget.facts["num_thinking_tokens"] + budget.facts["num_response_tokens"] == 48


def test_filters_drop_chains_and_leave_the_problem_its_others(tmp_path: Path) -> None:
    traces = [replace(t, scores=json.dumps({"student-fit": t.num_thinking_tokens / 10}),
                      level=t.num_thinking_tokens // 10) for t in THREE]  # fmt: skip
    low = run(tmp_path, traces, num_problems=2, max_scores={"student-fit": 1.5})
    assert lengths(low) == [("1 + 1", 10), ("2 + 1", 5)]
    evidence = {drop.evidence.split(";")[0] for drop in low.dropped}
    assert evidence == {"student-fit 3 > 1.5", "student-fit 2 > 1.5"}
    levels = run(tmp_path, traces, num_problems=2, levels=[0, 3])
    assert lengths(levels) == [("1 + 1", 30), ("2 + 1", 5)]
    assert {drop.evidence.split(";")[0] for drop in levels.dropped} == {
        "level 1, not 0, 3", "level 2, not 0, 3",
    }  # fmt: skip


def test_no_chain_within_the_filters_selects_none() -> None:
    rows = [Candidate("a", "d", 1, level=2)]
    selection = make_selection(rows, SelectConfig(levels=(5,)), seed=0)
    assert selection.chosen == {} and selection.rejected["a"].reason == "of another level"


def test_the_lowest_student_fit_comes_first(tmp_path: Path) -> None:
    traces = [chain(n, n, scores=json.dumps({"student-fit": n, "student-fit.rank": -n}))
              for n in range(1, 9)]  # fmt: skip
    best = run(tmp_path, traces, method="limo-v2", score="student-fit", num_problems=2)
    assert [n for _, n in lengths(best)] == [1, 2]


def test_quotas_by_band_of_a_score_and_by_teacher() -> None:
    rows = [
        Candidate(f"p{n:02}", "d", n, scores={"student-fit": n / 10}, teacher="ab"[n % 2])
        for n in range(40)
    ]
    config = SelectConfig(method="random", num_problems=20, quotas=[
        {"by": "score", "score": "student-fit", "bands": 4, "value": "*", "min": 3, "max": 3},
        {"by": "teacher", "value": "a", "max": 5},
    ])  # fmt: skip
    selection = make_selection(rows, config, seed=0)
    bands = [int(id[1:]) // 10 for id in selection.chosen]
    assert max(map(bands.count, range(4))) <= 3 and len(bands) >= 8
    assert sum(int(id[1:]) % 2 == 0 for id in selection.chosen) <= 5
    evidence = {rejected.evidence for rejected in selection.rejected.values()}
    assert "student-fit, band 1 of 4: 3 at most" in evidence


def test_an_unmet_quota_of_a_band_names_it() -> None:
    rows = [Candidate(str(n), "d", n, scores={"length": n}) for n in range(4)]
    quota = {"by": "score", "score": "length", "bands": 2, "value": "2", "min": 3}
    selection = make_selection(rows, SelectConfig(quotas=[quota]), seed=0)
    (line,) = unmet_quotas(selection)
    assert line.startswith("quota of length, band 2 of 2: 3 problems requested, 2 selected of 2 ")
    assert "by length there are: 2 of 1, 2 of 2." in line


def test_a_quota_of_a_level_without_chains_says_what_there_is(tmp_path: Path) -> None:
    traces = [chain(n, n, level=1 + n % 2) for n in range(1, 10)]
    quotas = [{"by": "level", "value": "5", "min": 3}]
    printed: list[str] = []
    result = run(tmp_path, traces, notify=printed.append, num_problems=4, quotas=quotas)
    warning = (
        "quota of level 5: 3 problems requested, 0 selected of 0 there; by level there are: "
        "5 of 2, 4 of 1. Add problems of this kind, or lower select.quotas.0.min"
    )
    assert result.facts["warnings"] == [warning]  # which the page and --json print
    assert f"WARNING: select: {warning}" in printed


def test_a_quota_by_score_needs_the_scores_name() -> None:
    with pytest.raises(ValueError, match="belong together"):
        SelectConfig(quotas=[{"by": "score", "value": "*"}])
    with pytest.raises(DataError, match=r"no score `length`, which quotas.0 needs"):
        quota = {"by": "score", "score": "length", "value": "*"}
        make_selection([Candidate("a", "d", 1)], SelectConfig(quotas=[quota]), seed=0)


def test_a_chain_that_a_score_left_out_is_skipped(tmp_path: Path) -> None:
    traces = [chain(1, 9), *(chain(n, n, scores='{"student-fit": 1}', level=3) for n in (2, 3))]
    result = run(tmp_path, traces, method="limo-v2", score="student-fit", num_problems=3)
    (drop,) = result.dropped
    assert (drop.reason, drop.id) == ("no score", traces[0].problem.id)
    assert drop.evidence.startswith("student-fit, which method limo-v2 needs; domain sums")
    (drop,) = run(tmp_path, traces, num_problems=3, levels=[3]).dropped
    assert (drop.reason, drop.evidence[:16]) == ("of another level", "level None, not ")
    with pytest.raises(DataError, match="prefer: no chain has a score `limo-v2`"):
        run(tmp_path, traces, prefer={"by": "limo-v2"})


def test_the_first_chain_stands_for_its_problem(tmp_path: Path) -> None:
    traces = [chain(1, 50), chain(1, 1), chain(2, 20), chain(2, 15)]
    longest = run(tmp_path, traces, method="longest", num_problems=1)
    assert [n for _, n in lengths(longest)] == [1, 50]
    shortest = run(tmp_path, traces, method="longest", num_problems=1, prefer={"by": "shortest"})
    assert [n for _, n in lengths(shortest)] == [15, 20]


def test_tables_of_older_versions_have_chains_without_an_id(tmp_path: Path) -> None:
    old = [replace(trace, chain_id="") for trace in THREE]
    result = run(tmp_path, old, num_problems=2, chains_per_problem=1, prefer={"by": "shortest"})
    assert lengths(result) == [("1 + 1", 10), ("2 + 1", 5)]
    assert {drop.id for drop in result.dropped} == {THREE[0].chain_id, THREE[2].chain_id}


def test_the_table_keeps_the_order_of_a_problems_chains(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_records(path, [THREE[3], *THREE[:3]], Trace)
    tokens = [t.num_thinking_tokens for t in read_records(path, Trace)]
    assert [n for n in tokens if n != 5] == [30, 10, 20]


def test_rows_are_named_by_the_problem_or_by_the_chain() -> None:
    assert row_ids(THREE) == [*(trace.chain_id for trace in THREE[:3]), THREE[3].problem.id]


def test_the_report_counts_problems_once_and_shows_them_once(tmp_path: Path) -> None:
    write_records(tmp_path / "data.parquet", THREE, Trace)
    assert domain_counts(tmp_path) == {"sums": 2}
    assert question_lengths(tmp_path) == {len("What is 1 + 1?"): 2}
    result = run(tmp_path, THREE, num_problems=2)
    summary = selection_summary(tmp_path / "run" / "select.partial", result.facts)
    assert summary is not None
    assert len({e["id"] for e in summary["examples"]}) == len(summary["examples"]) == 2
    assert (summary["num_problems"], summary["num_chains"]) == (2, 4)


def test_python_selects_chains_too() -> None:
    chosen = select_traces(THREE, num_problems=2, chains_per_problem=1, prefer={"by": "longest"})
    assert sorted(trace.num_thinking_tokens for trace in chosen) == [5, 30]
    assert [drop.step for drop in chosen.dropped] == ["choose", "choose"]


def test_a_selection_without_chains_has_one_per_problem() -> None:
    assert Selection(SelectConfig(), num_problems=1, rng=None).chains == {}  # type: ignore[arg-type]


@pytest.mark.parametrize(("settings", "expected"), [
    ({}, (90, 90)), ({"num_problems": 30}, (30, 30)),
    ({"num_problems": 30, "keep": "right"}, (30, 150)),
    ({"num_problems": 30, "keep": "right", "chains_per_problem": 2}, (30, 60)),
    ({"num_problems": 30, "keep": "all", "num_chains": 100}, (30, 100)),
])  # fmt: skip
def test_plan_counts_problems_and_chains(
    settings: dict[str, Any], expected: tuple[int, int]
) -> None:
    keep = settings.get("keep", "one")
    recipe = parse_recipe({
        "name": "t", "pool": {"sources": [{"kind": "sandbox", "num_problems": 90}]},
        "trace": {"keep": keep, "sources": [{"kind": "teacher", "num_chains": 4},
                                            {"kind": "solution"}]},
        "select": {key: value for key, value in settings.items() if key != "keep"},
    })  # fmt: skip
    plan = select.plan(recipe)
    assert (plan["num_problems"], plan["num_chains"]) == expected


def test_a_stage_selected_by_another_method_ignores_the_former_default_of_score() -> None:
    old = parse_saved({"select": {"method": "s1", "score": "quality"}}, where="m")
    assert old.select == SelectConfig()
    scored = parse_saved({"select": {"method": "limo-v2", "score": "quality"}}, where="m")
    assert scored.select is not None and scored.select.score == "quality"
