"""Token-, step- and class-conditional control: texts of training and prompts, and with forcing."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from slowthink.engines.replay import ByteTokenizer, ReplaySession, Script
from slowthink.engines.session import Point
from slowthink.errors import ConfigError
from slowthink.forcing.formats import FORMATS, compile_format
from slowthink.forcing.prompt_control import next_power_of_two, split_steps
from slowthink.forcing.prompts import prompt_ids, training_ids
from slowthink.forcing.steps import num_steps
from slowthink.recipe import (
    ChatConfig,
    ClassControl,
    ForcingConfig,
    Recipe,
    StepControl,
    TokenControl,
)
from slowthink.recipe.loading import parse_recipe
from slowthink.records import Sampling, ThinkingEnd
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.sampler import Sampler, make_tasks

QUESTION = "What is 17 + 25?"
THINKING = "17 + 20 = 37.\n\n37 + 5 = 42.\n\nSo 42."
MARK = "<|im_start|>{steps} steps left\n"


def training_texts(problem, control, *, format="s1", thinking=THINKING) -> tuple[str, str]:
    """The prompt's and the completion's text of a training example."""
    tokenizer = ByteTokenizer()
    example = training_ids(
        tokenizer, problem, thinking=thinking, response="Final Answer: 42",
        chat=ChatConfig(format=format, control=control),
    )  # fmt: skip
    return tokenizer.decode(example.prompt_ids), tokenizer.decode(example.completion_ids)


def prompt_text(problem, control, *, format="s1") -> str:
    tokenizer = ByteTokenizer()
    chat = ChatConfig(format=format, control=control)
    return tokenizer.decode(prompt_ids(tokenizer, problem, chat))


def user_turn(line: str) -> str:
    return f"<|im_start|>user\n{QUESTION}\n{line}<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("number", "power"), [(0, 1), (1, 1), (2, 2), (3, 4), (64, 64), (65, 128), (1000, 1024)]
)
def test_amounts_are_powers_of_two_at_or_above(number, power) -> None:
    assert next_power_of_two(number) == power


def test_tokens_in_training(make_problem) -> None:
    assert len(THINKING.encode()) == 35
    prompt, completion = training_texts(make_problem(), TokenControl())
    assert prompt == user_turn("Think for up to 64 tokens.")
    assert completion == (
        f"<|im_start|>think\n{THINKING}\n<|im_start|>answer\nFinal Answer: 42<|im_end|>"
    )


def test_steps_in_training_are_counted_down_to_one(make_problem) -> None:
    prompt, completion = training_texts(make_problem(), StepControl(), format="s1-steps")
    assert prompt == user_turn("Think for up to 4 steps.")
    assert completion == (
        "<|im_start|>think\n"
        "<|im_start|>3 steps left\n17 + 20 = 37.\n\n"
        "<|im_start|>2 steps left\n37 + 5 = 42.\n\n"
        "<|im_start|>1 steps left\nSo 42.\n"
        "<|im_start|>answer\nFinal Answer: 42<|im_end|>"
    )


def test_steps_with_marks_of_words_and_another_delimiter(make_problem) -> None:
    control = StepControl(step_delimiter=".", countdown="{steps} left\n")
    _, completion = training_texts(make_problem(), control, thinking="1 + 2 = 3. 3 + 4 = 7. So 7.")
    assert completion.startswith(
        "<|im_start|>think\n3 left\n1 + 2 = 3.\n2 left\n3 + 4 = 7.\n1 left\nSo 7.\n<|im_start|>"
    )


@pytest.mark.parametrize(
    ("threshold", "line"),
    [
        (35, "Answer after a short amount of thinking."),
        (34, "Answer after a long amount of thinking."),
    ],
)
def test_class_in_training_depends_on_length(make_problem, threshold, line) -> None:
    prompt, _ = training_texts(make_problem(), ClassControl(threshold_tokens=threshold))
    assert prompt == user_turn(line)


def test_class_without_a_threshold_does_not_change_the_training_text(make_problem) -> None:
    assert training_texts(make_problem(), ClassControl()) == training_texts(make_problem(), None)


@pytest.mark.parametrize(
    ("control", "line"),
    [
        (TokenControl(amount=1024), "Think for up to 1024 tokens."),
        (StepControl(amount=64, countdown="{steps} left\n"), "Think for up to 64 steps."),
        (ClassControl(amount="short"), "Answer after a short amount of thinking."),
        (ClassControl(amount="long"), "Answer after a long amount of thinking."),
        (TokenControl(amount=8, text="{amount} Tokens."), "8 Tokens."),
    ],
    ids=["tokens", "steps", "short", "long", "own text"],
)
def test_the_control_line_of_a_prompt(make_problem, control, line) -> None:
    assert prompt_text(make_problem(), control) == user_turn(line) + "<|im_start|>think\n"


def test_the_line_comes_after_options_and_instruction(make_problem) -> None:
    tokenizer, problem = ByteTokenizer(), make_problem("Which?", choices=("a", "b"))
    chat = ChatConfig(instruction="Box it.", control=TokenControl(amount=8))
    text = tokenizer.decode(prompt_ids(tokenizer, problem, chat))
    assert "user\nWhich?\n(A) a\n(B) b\nBox it.\nThink for up to 8 tokens.<|im_end|>" in text


def test_a_prompt_without_an_amount_is_an_error(make_problem) -> None:
    with pytest.raises(ConfigError, match="kind `tokens` without an `amount`.*amount: 64"):
        prompt_text(make_problem(), TokenControl())


def test_a_mark_that_would_end_thinking_is_an_error(make_problem) -> None:
    with pytest.raises(ConfigError, match="ends thinking in the format `s1`.*s1-steps"):
        training_texts(make_problem(), StepControl())


def test_a_recipe_names_control_by_kind() -> None:
    recipe = parse_recipe({"name": "r", "chat": {"control": {"kind": "steps", "amount": 4}}})
    assert recipe.chat.control == StepControl(amount=4)
    with pytest.raises(ConfigError, match="chat.control"):
        parse_recipe({"name": "r", "chat": {"control": {"kind": "words"}}})


def test_a_controlled_training_example_begins_with_its_prompt(
    smollm_tokenizer, make_problem
) -> None:
    """Token ids are equal if the control line states the same amount."""
    problem, chat = make_problem(), ChatConfig(control=TokenControl(amount=32))
    example = training_ids(smollm_tokenizer, problem, thinking=THINKING, response="42", chat=chat)
    prompt = prompt_ids(smollm_tokenizer, problem, chat)
    whole = example.prompt_ids + example.completion_ids
    assert whole[: len(prompt)] == prompt


@given(st.lists(st.sampled_from(["a", "b c", " ", "\n", "\n\n", "d."]), max_size=12))
def test_split_steps_are_those_that_a_budget_counts(pieces) -> None:
    text = "".join(pieces).strip()
    steps = split_steps(text, "\n\n")
    ids = ByteTokenizer().encode(text)
    closed = num_steps(ids, "\n\n", ByteTokenizer().decode)
    assert len(steps) - closed in (0, 1)
    assert "".join(steps).split() == text.split()


def test_length_control_combines_with_forcing(tmp_path, make_problem) -> None:
    """s1's TCC+BF, a cap in tokens, and SCC+BF, a cap in steps: those of the countdown."""
    thinking = "3 left\nA A.\n2 left\nB B.\n1 left\nC C."
    line = "Think for up to 2 steps."
    scripts = {f"{QUESTION}\n{line}": Script(thinking=(thinking,), answer="42")}
    session = ReplaySession(scripts)
    control = StepControl(amount=2, step_delimiter=".", countdown="{steps} left\n")
    forcing = ForcingConfig(max_thinking_steps=2, step_delimiter=".", answer_tokens=30)
    tasks = make_tasks(
        session, [make_problem()], recipe=Recipe(name="r"),
        chat=ChatConfig(control=control), budget=forcing.budget(100, 0), sampling=Sampling(),
        points=[Point(100), Point(100, steps=2), Point(11)],
    )  # fmt: skip
    with Ledger(tmp_path / "l.sqlite") as ledger:
        (completions,) = Sampler(session, ledger, tag="t").complete(tasks)
    assert [completion.thinking for completion in completions] == [
        thinking,
        "3 left\nA A.\n2 left\nB B.",
        "3 left\nA A.",
    ]
    cap, natural = ThinkingEnd.CAP, ThinkingEnd.NATURAL
    assert [completion.thinking_end for completion in completions] == [natural, cap, cap]
    assert [completion.answer for completion in completions][1:] == ["Final Answer: 42"] * 2


def test_s1_steps_end_only_where_the_answer_begins(smollm_tokenizer) -> None:
    """The special token begins each step, so by itself it does not declare an end."""
    format = compile_format(FORMATS["s1-steps"], smollm_tokenizer)
    assert format.long_triggers == ("<|im_start|>answer",)
    assert 1 not in format.trigger_ids
    closing = format.closing_ids(format.encode("So.\n"), natural=False, cue="Final Answer:")
    assert format.decode(closing or ()) == "<|im_start|>answer\nFinal Answer:"
