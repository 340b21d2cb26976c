"""Cases out of public reports, in a folder beside the project: chains, chat APIs, servers, files."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from slowthink.cli.generate import _read_questions
from slowthink.data.stored.read import read_stored
from slowthink.engines.session import Point, generate
from slowthink.errors import ConfigError
from slowthink.forcing.prompts import prompt_ids
from slowthink.recipe import ChatConfig
from slowthink.records import AnswerEnd
from slowthink.stages.trace.formats import detect_format
from tests.engines.test_openai import LONG, make_job, open_toy
from tests.engines.test_openai_start import chat_job
from tests.servers.completions import Behaviour, serve

CASES = Path(__file__).resolve().parents[2] / "shared" / "data" / "field" / "failing.jsonl"
pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not CASES.exists(), reason="no shared data beside the project"),
]


def inputs(area: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in CASES.read_text("utf-8").split("\n") if line]
    return [row["input"] for row in rows if row["area"] == area]


def test_chains_are_split_or_refused() -> None:
    refused = 0
    for row in inputs("import of chains"):
        format = detect_format(list(row))
        assert format is not None
        chain = format.read(row)
        if chain.defect is not None:  # kept for the scores, and dropped by the gate
            assert chain.defect == "the thinking is empty"
            refused += 1
            continue
        assert chain.thinking.strip().endswith("6*9=54. Let me check: 54/9=6, good.")
        assert chain.response.strip() in (r"There are \boxed{54} pens.", r"\boxed{54}")
    assert refused == 1


def test_replies_of_chat_apis_are_split_ended_and_asked_for_again(chat, make_problem) -> None:
    server, session = chat
    results = []
    for number, case in enumerate(inputs("chat API")):
        message = {name: case[name] for name in ("content", "reasoning_content") if name in case}
        server.chat_message = message or {"content": "42"}
        server.chat_finish = case.get("finish_reason", "stop")
        server.tamper = (lambda reply, body=case["body"]: body) if "body" in case else None
        variables = case.get("chat.template_variables")
        config = ChatConfig(format="think-tags", template_variables=variables)
        points = (Point(1000, forced=False),)
        job = chat_job(session, make_problem, points=points, question=str(number), chat=config)
        before = len(server.bodies)
        result = next(generate(session, [job]))
        text = session.tokenizer.decode
        answer = result.answers[0] if result.answers else None
        results.append((
            text(result.chain.ids), answer and text(answer.ids), answer and answer.end_reason,
            result.error is None, len(server.bodies) - before,
        ))  # fmt: skip
    server.tamper = None
    stop = AnswerEnd.STOP
    assert results == [
        (r"Perhaps \boxed{45}? No, 54.", "**Final Answer:** 54", stop, True, 1),
        ("Six times nine is 54.", r"There are \boxed{54} pens.", stop, True, 1),
        ("6*9=54", "Answer: 5", AnswerEnd.LENGTH, True, 1),
        ("", None, None, False, 2),
        ("", None, None, False, 2),
        ("", "42", stop, True, 1),
    ]


def test_an_end_without_a_reason_is_an_end() -> None:
    pytest.importorskip("aiohttp")
    (case,) = inputs("completions server")
    assert case["finish_reason"] is None and not case["returns_ids"]

    def unnamed(reply: dict[str, Any]) -> dict[str, Any]:
        reply = copy.deepcopy(reply)
        choice = reply["choices"][0]
        choice["finish_reason"] = "length" if choice["finish_reason"] == "length" else None
        return reply

    behaviour = Behaviour(returns_ids=False, returns_stop_reason=False)
    with serve(behaviour=behaviour) as server, open_toy(server) as session:
        for limit in (unnamed, lambda reply: unnamed(reply) | {"usage": {}}):
            server.tamper = limit
            job = make_job(session, "q1", points=(Point(20),), format=LONG)
            assert next(generate(session, [job])).error is None


def test_templates_are_refused_or_pinned(smollm_tokenizer, make_problem) -> None:
    closing, dated, raising = inputs("chat templates")
    turns = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    tokenizer = copy.copy(smollm_tokenizer)
    tokenizer.chat_template = turns + closing["template end"]
    with pytest.raises(ConfigError, match="{thinking: true}"):
        prompt_ids(tokenizer, make_problem("Q"), ChatConfig(format="auto"))
    tokenizer.chat_template = dated["template"] + turns
    ids = prompt_ids(tokenizer, make_problem("Q"), ChatConfig(format="s1"))
    assert "Today Date: 26 Jul 2024" in tokenizer.decode(ids)
    tokenizer.chat_template = "{{ " + raising["template"] + " }}"
    config = ChatConfig(format="s1", system_prompt=raising["chat.system_prompt"])
    with pytest.raises(ConfigError, match=r"chat\.instruction"):
        prompt_ids(tokenizer, make_problem("Q"), config)


def test_thinking_that_was_cut_is_truncated(tmp_path: Path) -> None:
    (case,) = inputs("stored samples")
    rows = [
        {"doc_id": n, "doc": {"question": f"Q{n}"}, "target": case["target"], "resps": resps}
        for n, resps in enumerate([case["resps"], [["12 * 28.5 = 342.\n</think>\n\\boxed{342}"]]])
    ]
    path = tmp_path / "samples.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    cut, closed = read_stored(path, setting="samples").samples
    assert (cut.truncated, cut.response) == (True, "")
    assert (closed.truncated, closed.response.strip()) == (None, r"\boxed{342}")


def test_line_separators_in_a_string_end_no_line(tmp_path: Path) -> None:
    (case,) = inputs("files")
    path = tmp_path / "questions.jsonl"
    path.write_text(case["line"] + "\n" + case["line"], encoding="utf-8")
    assert len(_read_questions(path)) == 2
