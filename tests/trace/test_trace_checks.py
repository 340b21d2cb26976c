"""Sources of chains and their checks: matched to a problem, graded, one per problem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slowthink.errors import DataError
from slowthink.recipe import FileTraces, PreferenceConfig, SolutionTraces, TraceConfig
from slowthink.records import Dropped, Problem, Split, Verdict, duplicate_key, problem_id
from slowthink.stages.trace.chains import ScoredChain, SourceChain, SourceChains
from slowthink.stages.trace.gate import drop_by_grade, passing_verdicts
from slowthink.stages.trace.keeping import keep_one
from slowthink.stages.trace.matching import KnownProblems, match_problems
from slowthink.stages.trace.scoring import grade_chains
from slowthink.stages.trace.sources import read_chains, read_solutions


def problem(question: str, answer: str | None = "2", **more: Any) -> Problem:
    return Problem(
        id=problem_id(question), duplicate_key=duplicate_key(question), question=question,
        answer=answer, source="test", source_row="1", **more,
    )  # fmt: skip


def chain(question: str, answer_text: str, *, at: int = 1, answer: str | None = "2") -> SourceChain:
    return SourceChain(
        location=f"f.jsonl:{at}", problem=problem(question, answer), thinking="Hm.",
        response=f"Final Answer: {answer_text}", teacher="me", imported=True,
    )  # fmt: skip


def from_file(folder: Path, *lines: Any, **settings: Any) -> SourceChains:
    path = folder / "chains.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    source = FileTraces(path=str(path), **settings)
    return read_chains(source, seed=0, setting="trace.sources.0")


def row(question: str, answer_text: str = "2") -> dict[str, Any]:
    return {
        "question": question,
        "thinking": "Hm.",
        "response": rf"\boxed{{{answer_text}}}",
        "answer": "2",
    }


def from_solutions(*problems: Problem) -> SourceChains:
    return read_solutions(SolutionTraces(), problems)


def graded(chains: list[SourceChain]) -> list[ScoredChain]:
    return [
        ScoredChain(chain=chain, grade=grade, num_thinking_tokens=9, num_response_tokens=3)
        for chain, grade in zip(chains, grade_chains(chains), strict=True)
    ]


def passed(chains: list[ScoredChain], **settings: Any) -> tuple[list[ScoredChain], list[Dropped]]:
    return drop_by_grade(chains, passing_verdicts(TraceConfig(**settings)))


# --- solutions ------------------------------------------------------------------------------------


def test_solution_is_the_thinking_and_the_answer_is_cued() -> None:
    (only,) = from_solutions(problem("a?", "42", solution="40 + 2 = 42. So 42.")).chains
    assert (only.thinking, only.response) == ("40 + 2 = 42. So 42.", "Final Answer: 42")


def test_answer_that_the_solution_marks_itself_is_what_is_graded() -> None:
    gathered = from_solutions(problem("a?", "42", solution=r"Thus \boxed{41}."))
    assert gathered.chains[0].response == "Final Answer: 41"
    _, dropped = passed(graded(gathered.chains))
    assert [drop.reason for drop in dropped] == ["wrong answer"]


def test_calculator_notes_and_final_answer_line_are_removed() -> None:
    solution = "Half is 48/2 = <<48/2=24>>24.\n#### 24"
    assert from_solutions(problem("a?", "24", solution=solution)).chains[0].thinking == (
        "Half is 48/2 = 24."
    )


def test_problem_without_solution_or_answer_is_dropped() -> None:
    gathered = from_solutions(problem("a?"), problem("b?", None, solution="Hm."))
    assert [drop.reason for drop in gathered.dropped] == [
        "the problem has no solution",
        "the problem has no answer",
    ]


# --- files ----------------------------------------------------------------------------------------


def test_bad_rows_are_dropped_with_their_lines(tmp_path: Path) -> None:
    gathered = from_file(tmp_path, row("a?"), "{torn", {"prompt": "a?"}, row("b?") | {"answer": []})
    assert [chain.location for chain in gathered.chains] == ["chains.jsonl:1"]
    assert [(drop.id, drop.reason) for drop in gathered.dropped] == [
        ("chains.jsonl:2", "not valid JSON"),
        ("chains.jsonl:3", "no known form of chains"),
        ("chains.jsonl:4", "`answer` is a list; expected a string"),
    ]


def test_file_without_chains_names_columns_and_formats(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"the columns are prompt; expected question, thinking, response and answer, or .*s1k",
    ):
        from_file(tmp_path, {"prompt": "a?"})


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    source = FileTraces(path=str(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match=r"no such file.*trace\.sources\.0\.path=PATH"):
        read_chains(source, seed=0, setting="trace.sources.0")


def test_drawn_rows_do_not_depend_on_their_order(tmp_path: Path) -> None:
    rows = [row(f"{number}?") for number in range(30)]

    def drawn(rows: list[dict[str, Any]]) -> set[str]:
        gathered = from_file(tmp_path, *rows, max_traces=7)
        assert len(gathered.dropped) == 23
        return {chain.problem.question for chain in gathered.chains}

    assert len(drawn(rows)) == 7 and drawn(rows) == drawn(rows[::-1])


def test_teacher_is_the_setting_then_the_row_then_the_file(tmp_path: Path) -> None:
    rows = [row("a?"), row("b?") | {"model": "r1"}]
    assert [chain.teacher for chain in from_file(tmp_path, *rows).chains] == ["chains", "r1"]
    assert from_file(tmp_path, *rows, teacher="me").chains[1].teacher == "me"


# --- checks ---------------------------------------------------------------------------------------


def test_chain_of_a_heldout_problem_is_dropped() -> None:
    known = KnownProblems.from_splits([], [problem("Is it A?", split=Split.HELDOUT)])
    kept, dropped = match_problems([chain("is it  a?", "2"), chain("b?", "2", at=2)], known)
    assert [chain.location for chain in kept] == ["f.jsonl:2"]
    assert [drop.reason for drop in dropped] == ["equal to a held-out problem"]


def test_chain_takes_the_problem_of_the_earlier_stage() -> None:
    earlier = problem("A?", "5", domain="sums")
    (kept,), _ = match_problems([chain("a?", "5")], KnownProblems.from_splits([earlier], []))
    assert kept.problem is not earlier and kept.problem == earlier


def test_chain_of_an_unknown_problem_is_dropped_if_there_is_a_pool() -> None:
    _, dropped = match_problems([chain("b?", "2")], KnownProblems.from_splits([problem("a?")], []))
    assert [drop.reason for drop in dropped] == ["its problem is not among the training problems"]


def test_choice_problem_is_known_by_its_question_alone() -> None:
    earlier = Problem(
        id="p-1", duplicate_key=duplicate_key("a?", ("x", "y")), question="a?", choices=("x", "y"),
        answer="A", source="test", source_row="1",
    )  # fmt: skip
    (kept,), _ = match_problems([chain("a?", "A")], KnownProblems.from_splits([earlier], []))
    assert kept.problem.choices == ("x", "y")


def test_wrong_and_unanswered_chains_are_dropped_with_the_answers_compared() -> None:
    chains = [chain("a?", "2"), chain("b?", "3", at=2), chain("c?", "", at=3)]
    right, dropped = passed(graded(chains))
    assert [each.chain.location for each in right] == ["f.jsonl:1"]
    assert [(drop.id, drop.reason) for drop in dropped] == [
        ("f.jsonl:2", "wrong answer"),
        ("f.jsonl:3", "the response states no answer"),
    ]
    assert dropped[0].evidence == "said '3', the key is '2'"


def test_chain_without_a_reference_answer_is_kept_only_on_request() -> None:
    chains = graded([chain("a?", "2", answer=None)])
    assert chains[0].grade.verdict is Verdict.UNGRADABLE
    assert passed(chains, ungraded="keep") == (chains, [])
    assert passed(chains)[1][0].reason == "the problem has no usable key"


def test_wrong_chains_are_kept_on_request() -> None:
    chains = graded([chain("a?", "2"), chain("a?", "3", at=2)])
    assert passed(chains, keep="all") == (chains, [])


def test_first_right_chain_of_a_problem_is_kept() -> None:
    chains = graded([chain("a?", "2", at=4), chain("b?", "2", at=5), chain("a?", "2", at=6)])
    kept, dropped = keep_one(chains, PreferenceConfig(), seed=0)
    assert [each.chain.location for each in kept] == ["f.jsonl:4", "f.jsonl:5"]
    assert [(drop.id, drop.reason, drop.evidence) for drop in dropped] == [
        ("f.jsonl:6", "another right chain is kept", "f.jsonl:4")
    ]
