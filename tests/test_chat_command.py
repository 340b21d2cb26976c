"""A conversation: its prompts, its messages, and a failed turn."""

from __future__ import annotations

import io
import json
import sys

import pytest

from slowthink.api.model import Model
from slowthink.cli.app import main
from slowthink.cli.chat import Conversation, converse
from slowthink.engines.replay import ReplaySession, Script
from slowthink.errors import ConfigError, SlowthinkError
from slowthink.recipe import Generation
from slowthink.recipe.loading import parse_settings
from slowthink.sampling.ledger import Ledger

SCRIPTS = {
    "What is 17 + 25?": Script(thinking=("17 + 25 = 32", ", no: 42"), answer="42"),
    "再加三呢？": Script(thinking=("42 + 3 = 45", "45"), answer="45"),
}


class RecordingSession(ReplaySession):
    """Records its prompts."""

    def __init__(self, **more) -> None:
        super().__init__(SCRIPTS, **more)
        self.prompts: list[str] = []

    def submit(self, job) -> None:
        self.prompts.append(self.tokenizer.decode(job.request.prompt_ids))
        super().submit(job)


@pytest.fixture
def open_chat(tmp_path):
    def make(session: ReplaySession) -> Conversation:
        settings = parse_settings(Generation, {"chat": {"format": "s1"}}, where="test")
        ledger = Ledger(tmp_path / "ledger.sqlite")
        ledger.__enter__()
        opened.append(ledger)
        return Conversation(Model(session, ledger, settings), cap=64, waits=0)

    opened: list[Ledger] = []
    yield make
    for ledger in opened:
        ledger.__exit__(None, None, None)


def test_later_prompts_repeat_questions_and_answers_but_no_thinking(open_chat) -> None:
    session = RecordingSession()
    chat = open_chat(session)
    first, second = chat.ask("What is 17 + 25?"), chat.ask("再加三呢？")
    assert (first.answer, second.answer) == ("Final Answer: 42", "Final Answer: 45")
    assert first.thinking == "17 + 25 = 32"
    assert session.prompts[1] == (
        "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n"
        "<|im_start|>assistant\nFinal Answer: 42<|im_end|>\n"
        "<|im_start|>user\n再加三呢？<|im_end|>\n<|im_start|>assistant\n<|im_start|>think\n"
    )


def test_a_budget_applies_from_the_next_turn_and_wait_strings_are_in_the_language_of_the_question(
    open_chat,
) -> None:
    chat = open_chat(RecordingSession())
    assert chat.run_command("/waits 1") == "waits 1"
    assert "Wait" in chat.ask("What is 17 + 25?").thinking
    assert "等等" in chat.ask("再加三呢？").thinking
    chat.run_command("/cap 5")
    turn = chat.ask("What is 17 + 25?")
    assert (turn.num_thinking_tokens, turn.thinking_end.value) == (5, "cap")


def test_new_conversation_starts_without_messages(open_chat) -> None:
    session = RecordingSession()
    chat = open_chat(session)
    chat.ask("What is 17 + 25?")
    chat.run_command("/new")
    chat.ask("再加三呢？")
    assert "17" not in session.prompts[-1]


@pytest.mark.parametrize("line", ["/cap x", "/waits", "/cap -1", "/fly", "/"])
def test_bad_command_names_what_is_expected(open_chat, line) -> None:
    with pytest.raises(ConfigError, match="expected"):
        open_chat(RecordingSession()).run_command(line)


def test_a_turn_that_does_not_fit_the_context_adds_no_messages(open_chat, capsys) -> None:
    chat = open_chat(RecordingSession(max_context=200))
    chat.budget["cap"] = 10_000
    turns = []
    assert (
        converse(
            chat, ["What is 17 + 25?\n", "\n", "/cap 8\n", "What is 17 + 25?"], show=turns.append
        )
        == 1
    )
    assert "error: " in capsys.readouterr().err
    assert len(turns) == 1
    assert len(chat.messages) == 2


def test_failed_turn_keeps_the_earlier_messages(open_chat) -> None:
    chat = open_chat(RecordingSession())
    chat.ask("What is 17 + 25?")
    with pytest.raises(SlowthinkError):
        chat.ask("Nobody wrote a script for this.")
    assert len(chat.messages) == 2


def test_command_reads_lines_and_prints_one_row_per_turn(tmp_path, monkeypatch, capsys) -> None:
    rows = [
        {"question": q, "thinking": list(script.thinking), "answer": script.answer}
        for q, script in SCRIPTS.items()
    ]
    path = tmp_path / "script.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is 17 + 25?\n/waits 1\n再加三呢？\nno\n"))
    options = ["--set", "engine.kind=replay", "--set", f"engine.replay={path}", "--format", "s1"]
    with pytest.raises(SystemExit) as stop:
        main(["chat", *options, "--json"])
    assert stop.value.code == 1  # the last has no script
    turns = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [turn["answer"] for turn in turns] == ["Final Answer: 42", "Final Answer: 45"]
    assert ["等等" in turn["thinking"] for turn in turns] == [False, True]
