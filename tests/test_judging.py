"""The judge on the replay engine: strict, cached, and never above the rules."""

from __future__ import annotations

import json

import pytest

from slowthink.engines.replay import ReplaySession, Script
from slowthink.grading.files import grade_rows, read_pairs
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


def problem_of(question="q", answer="12", solution=None, choices=()):
    return Problem(
        id=problem_id(question), duplicate_key=duplicate_key(question), question=question,
        answer=answer, solution=solution, source="s", source_row="1", choices=choices,
    )  # fmt: skip


def row_of(name, verdict, *, extracted="13", method="number", **problem):
    one = problem_of(f"question {name}", **problem)
    grade = Grade(verdict=verdict, extracted=extracted, gold=one.answer, method=method)
    return GradedAnswer(id=name, problem=one, answer=f"attempt {name}: {extracted}", grade=grade)


def prompt_of(mode, row):
    """The prompt about this answer."""
    gold = row.problem.answer if mode == "answer" else row.problem.solution
    answer = row.grade.extracted if mode == "answer" else row.answer
    question = row.problem.question
    return build_messages(mode, question=question, gold=gold, answer=answer)[1]["content"]


@pytest.fixture
def judge_of(tmp_path):
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


def judgement(judge_of, text):
    item = JudgeItem(mode="answer", problem=problem_of(), answer="13")
    row = GradedAnswer(id="x", problem=problem_of(), answer="",
                    grade=Grade(verdict=Verdict.WRONG, extracted="13", gold="12"))  # fmt: skip
    return judge_of({prompt_of("answer", row): text}).judge([item])[0]


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
def test_only_a_strict_last_line_after_the_thinking_is_a_verdict(judge_of, text, verdict) -> None:
    found = judgement(judge_of, text)
    assert (found.value, found.text) == (verdict, text)


def test_an_item_beyond_the_context_has_no_verdict(judge_of) -> None:
    judge = judge_of({}, max_context=300)
    item = JudgeItem(mode="answer", problem=problem_of(), answer="13" * 200)
    (found,) = judge.judge([item])
    assert (found.value, found.text) == (None, None)


def test_equal_items_are_judged_once_also_after_a_restart(judge_of) -> None:
    row = row_of("a", Verdict.GRADER_ERROR)
    item = JudgeItem(mode="answer", problem=row.problem, answer="13")
    judge = judge_of({prompt_of("answer", row): WRONG})
    first, second = judge.judge([item, item])
    assert first == second
    spent = judge.model.session.cost.decoded
    assert spent <= len(WRONG) + 1
    again = judge_of({})  # this one could not answer anything
    assert again.judge([item]) == [first]
    assert again.model.session.cost.decoded == 0


ROWS = [
    row_of("open", Verdict.GRADER_ERROR, method="worker: time"),
    row_of("unparsed", Verdict.WRONG, method="math-verify: not parsed"),
    row_of("no-key", Verdict.UNGRADABLE, method="no key", answer=None, solution="Proof."),
    row_of("nothing", Verdict.UNGRADABLE, method="no key", answer=None),
    row_of("none", Verdict.NO_ANSWER, extracted=None, method="extract"),
    row_of("cut", Verdict.TRUNCATED, method="length"),
    row_of("wrong", Verdict.WRONG),
    row_of("right", Verdict.CORRECT, extracted="12"),
]
BY_ID = {row.id: row for row in ROWS}


def test_undecided_answers_are_judged_and_no_others(judge_of) -> None:
    judge = judge_of(
        {
            prompt_of("answer", BY_ID["open"]): RIGHT,
            prompt_of("answer", BY_ID["unparsed"]): "Hm, hard to say.",
            prompt_of("solution", BY_ID["no-key"]): WRONG,
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


def test_modes_can_be_left_out(judge_of) -> None:
    judge = judge_of({prompt_of("solution", BY_ID["no-key"]): RIGHT}, modes=("solution",))
    decided, report = judge_undecided(judge, ROWS, seed=0)
    assert set(decided) == {"no-key"}
    assert report["num_asked"] == 1


def test_the_audit_measures_agreement_and_changes_nothing(judge_of) -> None:
    rows = [row_of(f"w{i}", Verdict.WRONG) for i in range(6)]
    rows += [row_of(f"r{i}", Verdict.CORRECT, extracted="12") for i in range(2)]
    replies = {prompt_of("answer", row): WRONG for row in rows}
    replies[prompt_of("answer", rows[0])] = "no idea"
    decided, report = judge_undecided(judge_of(replies, num_audited=8), rows, seed=0)
    assert decided == {}
    assert (report["audited"], report["audited_no_opinion"]) == (8, 1)
    assert report["agreement"] == pytest.approx(5 / 7)
    assert {one["id"] for one in report["disagreements"]} == {"r0", "r1"}
    assert all(one["judge"] == "wrong" for one in report["disagreements"])
    json.dumps(report)


def test_half_of_the_audited_answers_are_right_if_available(judge_of) -> None:
    rows = [row_of(f"w{i}", Verdict.WRONG) for i in range(20)]
    rows += [row_of(f"r{i}", Verdict.CORRECT, extracted="12") for i in range(20)]
    replies = {prompt_of("answer", row): RIGHT for row in rows}
    _, report = judge_undecided(judge_of(replies, num_audited=10), rows, seed=0)
    assert (report["audited"], report["agreement"]) == (10, 0.5)


def test_two_sentences_that_differ_are_judged(judge_of) -> None:
    key = "the function is increasing on the whole line"
    rows = [
        row_of(
            "prose", Verdict.WRONG, extracted="it grows everywhere on the real line", answer=key
        ),
        row_of("number", Verdict.WRONG, extracted="12", answer=key),
    ]
    judge = judge_of({prompt_of("answer", rows[0]): RIGHT})
    decided, report = judge_undecided(judge, rows, seed=0)
    assert set(decided) == {"prose"}
    assert report["num_asked"] == 1


def test_the_judge_sees_the_options(judge_of) -> None:
    problem = problem_of("Which?", answer="A", choices=("red", "blue"))
    question = "Which?\n(A) red\n(B) blue"
    messages = build_messages("answer", question=question, gold="A", answer="crimson")
    judge = judge_of({messages[1]["content"]: RIGHT})
    (found,) = judge.judge([JudgeItem(mode="answer", problem=problem, answer="crimson")])
    assert found.value is Verdict.CORRECT


def test_the_undecided_rows_of_a_file_are_judged(judge_of, grader, tmp_path):
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
    judge = judge_of({messages[1]["content"]: RIGHT})
    found, report = judge_rows(judge, rows, graded)
    assert [g.verdict for g in graded.grades] == [Verdict.CORRECT, Verdict.UNGRADABLE]
    assert [(g.verdict, g.method) for g in found.grades] == [
        (Verdict.CORRECT, "string"),
        (Verdict.CORRECT, "judge solution"),
    ]
    assert (report["num_asked"], report["num_decided"], report["agreement"]) == (1, 1, None)


@pytest.mark.slow
def test_the_embedded_model_judges_once_and_is_parsed_strictly(smollm, tmp_path) -> None:
    """It is too small to judge: what counts is that each opinion is a verdict or none."""
    config = JudgeConfig(model=smollm, num_audited=2, max_tokens=16)
    rows = [
        row_of("open", Verdict.GRADER_ERROR, method="worker: time"),
        row_of("right", Verdict.CORRECT, extracted="12"),
        row_of("wrong", Verdict.WRONG),
    ]
    recipe = Recipe(name="judging", model=smollm)
    found, spent = [], []
    for _ in range(2):
        with (
            Ledger(tmp_path / "ledger.sqlite") as ledger,
            open_judge(config, recipe, ledger=ledger) as judge,
        ):
            found.append(judge_undecided(judge, rows, seed=0))
            spent.append(judge.model.session.cost.decoded)
    assert found[0] == found[1]
    assert spent[0] > 0 and spent[1] == 0
    report = found[0][1]
    assert report["num_decided"] + report["num_no_opinion"] == report["num_asked"] == 1
    assert report["audited"] == 2
