"""Cases of our own, of the kinds that public reports of other projects name.

`fixtures/field_kinds.jsonl` holds nine sets, each labelled by reason alone before the code had seen
it and graded once before its misses were read: `first`, `second`, `third`, `fresh`, `negatives`, and
`reading` to `reading-4`, which were written after a first look at models' answers and public threads.
LOG.md has the rates. A case that stays otherwise has its reason in `arguable`, and is asserted too.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from slowthink.cli.generate import _read_questions
from slowthink.curation.overlap.evaluation_sets import EvaluationItem
from slowthink.curation.overlap.leaks import find_leaks
from slowthink.data.rows import UnusableValue, read_rows
from slowthink.data.stored.read import read_stored
from slowthink.engines.session import Point, generate
from slowthink.errors import ConfigError
from slowthink.forcing.prompts import prompt_ids
from slowthink.grading.grader import GradeItem, Grader
from slowthink.recipe import ChatConfig, ContaminationConfig, DuplicatesConfig
from slowthink.records import AnswerEnd, Problem, Verdict
from slowthink.stages.filter.duplicates import drop_duplicates
from slowthink.stages.filter.funnel import Funnel
from slowthink.stages.filter.quality import QUALITY_RULES
from slowthink.stages.trace.formats import detect_format

Case = dict[str, Any]

LINES = (Path(__file__).parent / "fixtures/field_kinds.jsonl").read_text("utf-8").split("\n")
CASES: list[Case] = [json.loads(line) for line in LINES if line]


def check(area: str, is_right: Callable[[Case], bool], *, cases: list[Case] | None = None) -> None:
    """Assert that exactly the arguable cases of an area are not right."""
    cases = cases or [case for case in CASES if case["area"] == area]
    results = [(case, is_right(case)) for case in cases]
    surprising = [case for case, right in results if right == ("arguable" in case)]
    assert not surprising, "\n".join(map(str, surprising))


def make(answer: str, choices: tuple[str, ...] = ()) -> Problem:
    return Problem(
        id="p", duplicate_key="d", question="?", answer=answer, choices=choices, source="field",
        source_row="1",
    )  # fmt: skip


def test_grading(grader: Grader) -> None:
    cases = [case for case in CASES if case["area"] == "grading"]
    items = [
        GradeItem(
            problem=make(case["gold"], tuple(case.get("choices", ()))), answer_text=case["response"]
        )
        for case in cases
    ]
    verdicts = {
        id(case): grade.verdict is Verdict.CORRECT
        for case, grade in zip(cases, grader.grade_many(items), strict=True)
    }
    check("", lambda case: verdicts[id(case)] == (case["right"] == "correct"), cases=cases)


def test_imported_chains() -> None:
    def is_right(case: Case) -> bool:
        right = case["right"]
        may_refuse = bool(right.get("refused") or right.get("or refused"))
        format = detect_format(list(case["input"]))
        try:
            chain = None if format is None else format.read(case["input"])
        except UnusableValue:
            return may_refuse
        if chain is None or chain.defect:
            return may_refuse
        texts = [" ".join(text.split()) for text in (chain.thinking, chain.response)]
        return texts == [" ".join(str(right.get(k)).split()) for k in ("thinking", "response")]

    check("import of chains", is_right)


def test_duplicates(make_problem, tmp_path: Path) -> None:
    stage = SimpleNamespace(
        config=SimpleNamespace(duplicates=DuplicatesConfig()), folder=tmp_path,
        recipe=SimpleNamespace(runner="local"),
    )  # fmt: skip

    def is_right(case: Case) -> bool:
        answers = case["input"].get("answers", ("1", "1"))
        problems = [make_problem(case["input"][n], a) for n, a in zip("ab", answers, strict=True)]
        funnel = Funnel(problems)
        drop_duplicates(funnel, stage)
        return len(funnel.problems) == {"two": 2, "one": 1}[case["right"].split()[0]]

    check("deduplication", is_right)


def test_contamination() -> None:
    def is_right(case: Case) -> bool:
        items = [EvaluationItem("set", "1", case["input"]["tested"])]
        (leaks,) = find_leaks([case["input"]["training"]], items, ContaminationConfig())
        return any(leak.kind == "copy" for leak in leaks) == (case["right"] == "copy")

    check("decontamination", is_right)


def test_notes_in_place_of_an_answer(make_problem) -> None:
    def is_right(case: Case) -> bool:
        match = QUALITY_RULES["strict"]["answer"](make_problem(answer=case["input"]["answer"]))
        return (match is not None) == (case["right"] == "dropped")

    check("quality filter", is_right)


CLOSED = {
    "…</think>…": "12 * 28.5.\n</think>\n\\boxed{342}",
    "<think>…</think>…": "<think>\n12*28.5\n</think>\n\n\\boxed{342}",
    "plain": "12*28.5 = \\boxed{342}",
    "[THINK]…[/THINK]…": "[THINK]12*28.5[/THINK]\\boxed{342}",
    "<|channel|>analysis…final…": "<|channel|>analysis<|message|>12*28.5<|end|><|start|>assistant"
    "<|channel|>final<|message|>\\boxed{342}",
}


def test_stored_samples(tmp_path: Path, grader: Grader) -> None:
    def is_right(case: Case) -> bool:
        given = case["input"]
        texts = [given["resp"], *[CLOSED.get(given["others"], given["others"])] * 2]
        rows = [
            {"doc_id": n, "doc": {"question": f"Q{n}"}, "target": "342", "resps": [[text]]}
            for n, text in enumerate(texts)
        ]
        path = tmp_path / "samples.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        sample = read_stored(path, setting="samples").samples[0]
        if sample.truncated or not sample.response.strip():
            return bool(case["right"]["verdict"] == "truncated")
        verdict = grader.grade(make("342"), sample.response).verdict
        return bool(verdict.value == case["right"]["verdict"])

    check("stored samples", is_right)


def test_files(tmp_path: Path) -> None:
    def is_right(case: Case) -> bool:
        name = case["input"]["char"]
        char = chr(int(name[2:], 16)) if name.startswith("U+") else ""
        row = json.dumps({"question": f"A path.{char} How many?"}, ensure_ascii=char < " ")
        ends = {"CRLF": "\r\n", "none: blank last lines": "\n\n\n"}
        path = tmp_path / "questions.jsonl"
        text = ("\ufeff" if name == "BOM" else "") + row + ends.get(name, "")
        path.write_bytes(text.encode())
        if case["input"]["command"] == "pool":
            return len(list(read_rows(path, setting="x"))) == 1
        return len(_read_questions(path)) == 1

    check("files", is_right)


TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


def test_templates(smollm_tokenizer, make_problem) -> None:
    tokenizer = copy.copy(smollm_tokenizer)

    def is_right(case: Case) -> bool:
        given, right = case["input"], case["right"]
        chat = ChatConfig(format="s1", system_prompt=given.get("system"))
        if end := given.get("template end"):
            tokenizer.chat_template = TURNS + end
            chat = ChatConfig(format="auto")
        elif given["template"].startswith("raise"):
            tokenizer.chat_template = "{{ " + given["template"] + " }}"
        else:
            tokenizer.chat_template = given["template"] + TURNS
        try:
            ids = prompt_ids(tokenizer, make_problem("Q"), chat)
        except ConfigError:
            return bool(right.get("refused") or right.get("ConfigError"))
        if "pinned" in right:
            return "2024" in tokenizer.decode(ids)
        return right.get("refused") is False

    check("chat templates", is_right)


NOT_MESSAGE = {
    "finish_reason",
    "format",
    "gold",
    "body",
    "then",
    "chat.template_variables",
    "error",
}


def first_reply(case: Case) -> Callable[[Any], Any]:
    """Changes the first reply to a case's failure."""
    left = [case.get("body")]

    def change(reply: Any) -> Any:
        if not left:
            reply["choices"][0] |= {"finish_reason": "stop", "message": {"content": "42"}}
            return reply
        if (body := left.pop()) is not None:
            return body
        reply["choices"][0]["error"] = case["error"]
        return reply

    return change


def test_replies_of_chat_apis(chat, make_problem, grader: Grader) -> None:
    from tests.engines.test_openai_start import chat_job

    server, session = chat

    def result_of(case: Case, name: str) -> Any:
        given = case["input"]
        message = {key: value for key, value in given.items() if key not in NOT_MESSAGE}
        server.chat_message = message or {"content": "42"}
        server.chat_finish = given.get("finish_reason", "stop")
        server.tamper = first_reply(given) if {"body", "error"} & given.keys() else None
        config = ChatConfig(
            format=given.get("format", "think-tags"),
            template_variables=given.get("chat.template_variables"),
        )
        points = (Point(1000, forced=False),)
        return next(
            generate(
                session,
                [chat_job(session, make_problem, points=points, question=name, chat=config)],
            )
        )

    def is_right(case: Case) -> bool:
        right, before = case["right"], len(server.bodies)
        result = result_of(case, str(CASES.index(case)))
        num_requests, text = len(server.bodies) - before, session.tokenizer.decode
        answer = result.answers[0] if result.answers else None
        whole = result.error is None and answer and answer.end_reason is AnswerEnd.STOP
        texts = {
            "thinking": text(result.chain.ids) if result.chain else "",
            "answer": text(answer.ids) if answer else "",
        }
        checks = [
            " ".join(texts[name].split()) == " ".join(right[name].split())
            for name in texts.keys() & right.keys()
        ]
        if "retried" in right:
            checks.append((num_requests == 2, result.error is None) == (right["retried"],) * 2)
        if "whole" in right:
            checks.append(bool(whole) == right["whole"])
        if "verdict" in right and right["verdict"] != "truncated":
            verdict = grader.grade(make(case["input"]["gold"]), texts["answer"]).verdict
            checks.append(bool(whole) and verdict.value == right["verdict"])
        elif "verdict" in right:
            checks.append(not whole)
        if "sent or ConfigError" in right:
            checks.append("chat_template_kwargs" in server.bodies[-1])
        return all(checks)

    check("chat API", is_right)  # the last case is a rejected key, which ends the session
