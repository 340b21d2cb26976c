"""The judge on the replay engine: parsed strictly, cached, and never overruling the rules."""

from __future__ import annotations

import json

import pytest

from slowthink.data.pair_files import read_pairs
from slowthink.engines.replay import ReplaySession, Script
from slowthink.grading.files import grade_rows
from slowthink.grading.judge_prompt import PROMPT_SEED, build_messages
from slowthink.recipe import JudgeConfig, Recipe
from slowthink.records import Grade, Problem, Verdict, duplicate_key, problem_id
from slowthink.sampling.judge import (
    GradedAnswer,
    Judge,
    JudgeItem,
    judge_rows,
    judge_undecided,
    open_judge,
)
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.prompted_model import PromptedModel
from slowthink.sampling.sampler import Sampler

RIGHT = "Same value.\nVERDICT: CORRECT"
WRONG = "Another value.\nVERDICT: INCORRECT"


def make_problem(question="q", answer="12", solution=None, choices=()):
    return Problem(
        id=problem_id(question), duplicate_key=duplicate_key(question), question=question,
        answer=answer, solution=solution, source="s", source_row="1", choices=choices,
    )  # fmt: skip


def make_graded(name, verdict, *, extracted="13", method="number", **fields):
    problem = make_problem(f"question {name}", **fields)
    grade = Grade(verdict=verdict, extracted=extracted, gold=problem.answer, method=method)
    return GradedAnswer(
        id=name, problem=problem, answer=f"attempt {name}: {extracted}", grade=grade
    )


def judge_prompt(mode, row):
    """The prompt about this answer."""
    gold = row.problem.answer if mode == "answer" else row.problem.solution
    answer = row.grade.extracted if mode == "answer" else row.answer
    question = row.problem.question
    return build_messages(mode, question=question, gold=gold, answer=answer)[1]["content"]


@pytest.fixture
def open_judge_with(tmp_path):
    """A judge with scripted replies, on one ledger for all sessions of a test."""
    ledgers = []

    def make(replies, *, num_audited=0, modes=("answer", "solution"), max_context=100_000):
        scripts = {prompt: Script(thinking=(text,), answer="") for prompt, text in replies.items()}
        session = ReplaySession(scripts, max_context=max_context)
        session.fingerprint = "the judge"
        ledger = Ledger(tmp_path / "ledger.sqlite")
        ledger.__enter__()
        ledgers.append(ledger)
        config = JudgeConfig(model="base", num_audited=num_audited, modes=modes, max_tokens=200)
        sampler = Sampler(session, ledger, tag="judge")
        return Judge(config, PromptedModel(session, sampler, max_tokens=200, seed=PROMPT_SEED))

    def make_again(*args, **options):
        while ledgers:
            ledgers.pop().__exit__(None, None, None)
        return make(*args, **options)

    yield make_again
    while ledgers:
        ledgers.pop().__exit__(None, None, None)


def judge_reply(open_judge_with, text):
    item = JudgeItem(mode="answer", problem=make_problem(), answer="13")
    row = GradedAnswer(id="x", problem=make_problem(), answer="",
                    grade=Grade(verdict=Verdict.WRONG, extracted="13", gold="12"))  # fmt: skip
    return open_judge_with({judge_prompt("answer", row): text}).judge([item])[0]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (RIGHT, Verdict.CORRECT),
        (WRONG, Verdict.WRONG),
        ("INCORRECT would be too harsh", None),
        ("It is correct.", None),
        ("VERDICT: CORRECT</think>VERDICT: INCORRECT", Verdict.WRONG),
        ("Hm.\nVERDICT: CORRECT</think>I cannot say.", None),
    ],
)
def test_only_a_strict_last_line_after_the_thinking_is_a_verdict(
    open_judge_with, text, verdict
) -> None:
    reply = judge_reply(open_judge_with, text)
    assert (reply.value, reply.text) == (verdict, text)


def test_an_item_beyond_the_context_has_no_verdict(open_judge_with) -> None:
    judge = open_judge_with({}, max_context=300)
    item = JudgeItem(mode="answer", problem=make_problem(), answer="13" * 200)
    (reply,) = judge.judge([item])
    assert (reply.value, reply.text) == (None, None)


def test_equal_items_are_judged_once_also_after_a_restart(open_judge_with) -> None:
    row = make_graded("a", Verdict.GRADER_ERROR)
    item = JudgeItem(mode="answer", problem=row.problem, answer="13")
    judge = open_judge_with({judge_prompt("answer", row): WRONG})
    first, second = judge.judge([item, item])
    assert first == second
    spent = judge.model.session.cost.decoded
    assert spent <= len(WRONG) + 1
    again = open_judge_with({})  # has no script
    assert again.judge([item]) == [first]
    assert again.model.session.cost.decoded == 0


ROWS = [
    make_graded("open", Verdict.GRADER_ERROR, method="worker: time"),
    make_graded("unparsed", Verdict.WRONG, method="math-verify: not parsed"),
    make_graded("no-key", Verdict.UNGRADABLE, method="no key", answer=None, solution="Proof."),
    make_graded("nothing", Verdict.UNGRADABLE, method="no key", answer=None),
    make_graded("none", Verdict.NO_ANSWER, extracted=None, method="extract"),
    make_graded("cut", Verdict.TRUNCATED, method="length"),
    make_graded("wrong", Verdict.WRONG),
    make_graded("right", Verdict.CORRECT, extracted="12"),
]
BY_ID = {row.id: row for row in ROWS}


def test_undecided_answers_are_judged_and_no_others(open_judge_with) -> None:
    judge = open_judge_with(
        {
            judge_prompt("answer", BY_ID["open"]): RIGHT,
            judge_prompt("answer", BY_ID["unparsed"]): "Hm, hard to say.",
            judge_prompt("solution", BY_ID["no-key"]): WRONG,
        }
    )
    decided, report = judge_undecided(judge, ROWS, seed=0)
    assert {name: (g.verdict, g.method) for name, g in decided.items()} == {
        "open": (Verdict.CORRECT, "judge answer"),
        "no-key": (Verdict.WRONG, "judge solution"),
    }
    assert decided["open"].gold == "12"
    counts = {key: report[key] for key in ("num_asked", "num_no_opinion", "num_decided")}
    assert counts == {"num_asked": 3, "num_no_opinion": 1, "num_decided": 2}


def test_modes_can_be_left_out(open_judge_with) -> None:
    judge = open_judge_with({judge_prompt("solution", BY_ID["no-key"]): RIGHT}, modes=("solution",))
    decided, report = judge_undecided(judge, ROWS, seed=0)
    assert set(decided) == {"no-key"}
    assert report["num_asked"] == 1


def test_the_audit_measures_agreement_and_changes_nothing(open_judge_with) -> None:
    rows = [make_graded(f"w{i}", Verdict.WRONG) for i in range(6)]
    rows += [make_graded(f"r{i}", Verdict.CORRECT, extracted="12") for i in range(2)]
    replies = {judge_prompt("answer", row): WRONG for row in rows}
    replies[judge_prompt("answer", rows[0])] = "no idea"
    decided, report = judge_undecided(open_judge_with(replies, num_audited=8), rows, seed=0)
    assert decided == {}
    assert (report["audited"], report["audited_no_opinion"]) == (8, 1)
    assert report["agreement"] == pytest.approx(5 / 7)
    assert {row["id"] for row in report["disagreements"]} == {"r0", "r1"}
    assert all(row["judge"] == "wrong" for row in report["disagreements"])
    json.dumps(report)


def test_half_of_the_audited_answers_are_right_if_available(open_judge_with) -> None:
    rows = [make_graded(f"w{i}", Verdict.WRONG) for i in range(20)]
    rows += [make_graded(f"r{i}", Verdict.CORRECT, extracted="12") for i in range(20)]
    replies = {judge_prompt("answer", row): RIGHT for row in rows}
    _, report = judge_undecided(open_judge_with(replies, num_audited=10), rows, seed=0)
    assert (report["audited"], report["agreement"]) == (10, 0.5)


def test_two_sentences_that_differ_are_judged(open_judge_with) -> None:
    key = "the function is increasing on the whole line"
    rows = [
        make_graded(
            "prose", Verdict.WRONG, extracted="it grows everywhere on the real line", answer=key
        ),
        make_graded("number", Verdict.WRONG, extracted="12", answer=key),
    ]
    judge = open_judge_with({judge_prompt("answer", rows[0]): RIGHT})
    decided, report = judge_undecided(judge, rows, seed=0)
    assert set(decided) == {"prose"}
    assert report["num_asked"] == 1


def test_the_judge_sees_the_options(open_judge_with) -> None:
    problem = make_problem("Which?", answer="A", choices=("red", "blue"))
    question = "Which?\n(A) red\n(B) blue"
    messages = build_messages("answer", question=question, gold="A", answer="crimson")
    judge = open_judge_with({messages[1]["content"]: RIGHT})
    (reply,) = judge.judge([JudgeItem(mode="answer", problem=problem, answer="crimson")])
    assert reply.value is Verdict.CORRECT


def test_the_undecided_rows_of_a_file_are_judged(open_judge_with, grader, tmp_path):
    path = tmp_path / "pairs.jsonl"
    lines = [
        {"gold": "5", "pred": "5", "question": "q1"},
        {"question": "Prove it.", "solution": "Clear.", "response": "It is clear."},
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    rows = read_pairs(path)
    graded = grade_rows(rows, grader)
    messages = build_messages(
        "solution", question="Prove it.", gold="Clear.", answer="It is clear."
    )
    judge = open_judge_with({messages[1]["content"]: RIGHT})
    judged, report = judge_rows(judge, rows, graded)
    assert [g.verdict for g in graded.grades] == [Verdict.CORRECT, Verdict.UNGRADABLE]
    assert [(g.verdict, g.method) for g in judged.grades] == [
        (Verdict.CORRECT, "string"),
        (Verdict.CORRECT, "judge solution"),
    ]
    assert (report["num_asked"], report["num_decided"], report["agreement"]) == (1, 1, None)


@pytest.mark.slow
def test_the_embedded_model_judges_once_and_is_parsed_strictly(smollm, tmp_path) -> None:
    """It is too small to judge; each of its replies is a verdict or undecided."""
    config = JudgeConfig(model=smollm, num_audited=2, max_tokens=16)
    rows = [
        make_graded("open", Verdict.GRADER_ERROR, method="worker: time"),
        make_graded("right", Verdict.CORRECT, extracted="12"),
        make_graded("wrong", Verdict.WRONG),
    ]
    recipe = Recipe(name="judging", model=smollm)
    results, spent = [], []
    for _ in range(2):
        with (
            Ledger(tmp_path / "ledger.sqlite") as ledger,
            open_judge(config, recipe, ledger=ledger) as judge,
        ):
            results.append(judge_undecided(judge, rows, seed=0))
            spent.append(judge.model.session.cost.decoded)
    assert results[0] == results[1]
    assert spent[0] > 0 and spent[1] == 0
    report = results[0][1]
    assert report["num_decided"] + report["num_no_opinion"] == report["num_asked"] == 1
    assert report["audited"] == 2
