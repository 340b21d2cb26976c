"""Requests through ledger, replayed session and grader: nothing twice, every point right."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from slowthink.engines.base import Point
from slowthink.engines.replay import ReplaySession, Script, read_script
from slowthink.errors import ConfigError, DataError
from slowthink.evaluate.rows import segments
from slowthink.grading import Grader
from slowthink.ledger import Ledger
from slowthink.recipe import ChatConfig, Recipe
from slowthink.records import AnswerEnd, Budget, Sampling, ThinkingEnd, Verdict
from slowthink.sampling import Sampler, grade_completion, make_tasks

QUESTION = "What is 17 + 25?"
SCRIPTS = {QUESTION: Script(thinking=("17+25=32", " no, 42", " yes"), answer="42")}
POINTS = [Point(0), Point(4), Point(20), Point(40, 1), Point(40, 2), Point(40, 3)]


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


def ask(ledger, problem, points, *, format="s1", scripts=SCRIPTS, **budget):
    session = ReplaySession(scripts)
    tasks = make_tasks(
        session,
        [problem],
        recipe=Recipe(name="r"),
        chat=ChatConfig(format=format),
        budget=Budget(answer_tokens=30, **budget),
        sampling=Sampling(),
        points=points,
    )
    return Sampler(session, ledger, tag="t").complete(tasks)[0], session.cost


def test_every_point_of_a_sweep(ledger, make_problem) -> None:
    found, _ = ask(ledger, make_problem(), POINTS)
    assert [c.thinking for c in found] == [
        "",
        "17+2",
        "17+25=32",
        "17+25=32Wait no, 42",
        "17+25=32Wait no, 42Wait yes",
        "17+25=32Wait no, 42Wait yesWait",
    ]
    cap, natural = ThinkingEnd.CAP, ThinkingEnd.NATURAL
    assert [c.thinking_end for c in found] == [cap, cap, natural, natural, natural, natural]
    assert found[1].answer == "Final Answer: 42"
    assert found[2].answer == "Final Answer: 42"
    assert {c.answer_end for c in found} == {AnswerEnd.STOP}
    assert [c.violations for c in found] == [()] * len(POINTS)


def test_nothing_is_asked_twice(ledger, make_problem) -> None:
    first, _ = ask(ledger, make_problem(), POINTS)
    again, cost = ask(ledger, make_problem(), POINTS)
    assert again == first
    assert cost.decoded == 0


def test_a_larger_cap_and_more_waits_only_add(ledger, make_problem) -> None:
    _, short = ask(ledger, make_problem(), [Point(4)])
    found, more = ask(ledger, make_problem(), [Point(4), Point(20), Point(40, 1)])
    forced, natural = len(" 42") + 1, len("Final Answer: 42") + 1  # with the end
    assert short.decoded == 4 + forced
    assert more.decoded == len("5=32") + 1 + len(" no, 42") + 1 + 2 * natural
    assert found[2].thinking == "17+25=32Wait no, 42"


@pytest.mark.parametrize(
    "change",
    [
        {"budget": {"min_thinking_tokens": 2}},
        {"format": "plain"},
        {"scripts": {**SCRIPTS, "other": Script(thinking=(), answer="")}},
        {"budget": {"wait_strings": ("Hmm",)}},
    ],
    ids=["minimum", "format", "weights", "wait strings"],
)
def test_what_changes_the_answer_never_reuses_an_old_one(ledger, make_problem, change) -> None:
    ask(ledger, make_problem(), [Point(20, 0)])
    options = {k: v for k, v in change.items() if k != "budget"} | change.get("budget", {})
    _, cost = ask(ledger, make_problem(), [Point(20, 0)], **options)
    assert cost.decoded > 0


def test_a_system_prompt_changes_the_key(make_problem) -> None:
    session = ReplaySession(SCRIPTS)
    keys = set()
    for system in (None, "Be brief."):
        tasks = make_tasks(
            session, [make_problem()], recipe=Recipe(name="r"),
            chat=ChatConfig(system_prompt=system), budget=Budget(), sampling=Sampling(),
            points=[Point(4)],
        )  # fmt: skip
        keys.add(tasks[0].request.chain_key())
    assert len(keys) == 2


def test_the_cap_is_not_in_the_chains_key_but_in_the_requests(make_problem) -> None:
    session = ReplaySession(SCRIPTS)
    one = make_tasks(
        session, [make_problem()], recipe=Recipe(name="r"), chat=ChatConfig(),
        budget=Budget(max_thinking_tokens=4), sampling=Sampling(), points=[Point(4)],
    )[0].request  # fmt: skip
    other = replace(one, budget=replace(one.budget, max_thinking_tokens=8, waits=2))
    assert one.chain_key() == other.chain_key()
    assert one.key() != other.key()


def test_unforced_thinking_that_does_not_end_has_no_answer(ledger, make_problem) -> None:
    found, _ = ask(
        ledger, make_problem(), [Point(4, 0, False), Point(20, 0, False)], format="plain"
    )
    assert (found[0].answer, found[0].answer_end) == ("17+2", AnswerEnd.LENGTH)
    assert (found[1].answer, found[1].answer_end) == ("17+25=32", AnswerEnd.STOP)
    with Grader() as grader:
        problem = make_problem(answer="32")
        verdicts = [
            grade_completion(grader, problem, one, last_number=True).verdict for one in found
        ]
    assert verdicts == [Verdict.TRUNCATED, Verdict.CORRECT]


def test_transcript_marks_what_was_forced(ledger, make_problem) -> None:
    found, _ = ask(ledger, make_problem(), [Point(40, 1), Point(4)])
    decode = ReplaySession(SCRIPTS).tokenizer.decode
    assert segments(found[0], decode) == [
        ("thinking", "17+25=32"),
        ("wait", "Wait"),
        ("thinking", " no, 42"),
        ("closing", "<|im_start|>answer\n"),
        ("answer", "Final Answer: 42"),
    ]
    assert ("closing", "\n<|im_start|>answer\nFinal Answer:") in segments(found[1], decode)


def test_a_budget_above_the_context_is_refused_before_any_work(ledger, make_problem) -> None:
    session = ReplaySession(SCRIPTS, max_context=200)
    tasks = make_tasks(
        session, [make_problem()], recipe=Recipe(name="r"), chat=ChatConfig(),
        budget=Budget(answer_tokens=8), sampling=Sampling(), points=[Point(150)],
    )  # fmt: skip
    with pytest.raises(ConfigError, match="context holds 200. Lower caps"):
        Sampler(session, ledger, tag="t").complete(tasks)
    assert session.cost.decoded == 0


def test_an_engine_without_roll_back_refuses_a_delimiter_of_several_tokens(
    ledger, make_problem
) -> None:
    with pytest.raises(ConfigError, match="engine `replay` cannot take drawn tokens back"):
        ask(ledger, make_problem(), [Point(4)], format="think-tags")


def test_scripts_are_read_from_a_file(tmp_path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(json.dumps({"question": "q", "thinking": ["t"], "answer": "a"}) + "\n{}\n")
    with pytest.raises(DataError, match=r"s\.jsonl:2: no script"):
        read_script(str(path))
