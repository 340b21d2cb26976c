"""Token ids of prompts and training texts, with the embedded model's tokenizer."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slowthink.engines.replay import ByteTokenizer
from slowthink.errors import ConfigError
from slowthink.forcing.formats import (
    FORMATS,
    compile_format,
    get_format,
    require_single_token_trigger,
)
from slowthink.forcing.prompts import prompt_ids, render_header, training_ids, user_message
from slowthink.recipe import ChatConfig, FormatConfig

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SYSTEM = (
    1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407,
    19712, 8182, 2, 198,
)  # fmt: skip
"""SmolLM2's own system prompt, which its template adds."""
HEADER = (*SYSTEM, 1, 4093, 198, 1780, 314, 216, 34, 27, 34, 47, 2, 198, 1, 520, 9531, 198)
START = (1, 17400, 198)
END = (1, 11247, 198)


def test_prompt_has_these_ids(smollm_tokenizer, make_problem) -> None:
    problem = make_problem("What is 2+2?")
    assert prompt_ids(smollm_tokenizer, problem, ChatConfig()) == HEADER + START


def test_training_text_has_these_ids(smollm_tokenizer, make_problem) -> None:
    example = training_ids(
        smollm_tokenizer,
        make_problem("What is 2+2?"),
        thinking="2 + 2 = 4",
        response="Final Answer: 4",
        chat=ChatConfig(),
    )
    thinking = (34, 1232, 216, 34, 446, 216, 36, 198)
    assert example.prompt_ids == HEADER
    answer = (29288, 19842, 42, 216, 36, 2)
    assert example.completion_ids == START + thinking + END + answer


@pytest.mark.parametrize("name", ["s1", "think-tags", "plain"])
def test_a_training_example_begins_with_its_prompt(smollm_tokenizer, make_problem, name) -> None:
    chat, problem = ChatConfig(format=name, system_prompt="Be brief."), make_problem()
    example = training_ids(
        smollm_tokenizer, problem, thinking="t", response="Final Answer: 42", chat=chat
    )
    whole = example.prompt_ids + example.completion_ids
    prompt = prompt_ids(smollm_tokenizer, problem, chat)
    assert whole[: len(prompt)] == prompt


def test_a_forced_closing_is_the_start_of_a_trained_answer(smollm_tokenizer, make_problem) -> None:
    format = compile_format(FORMATS["s1"], smollm_tokenizer)
    thinking = format.encode("2 + 2 = 4\n")
    closing = format.closing_ids(thinking, natural=False, cue="Final Answer:")
    example = training_ids(
        smollm_tokenizer, make_problem(), thinking="2 + 2 = 4", response="Final Answer: 4",
        chat=ChatConfig(),
    )  # fmt: skip
    assert closing == (*END, 29288, 19842, 42)
    assert example.completion_ids[len(START) + len(thinking) :][: len(closing)] == closing


@pytest.mark.parametrize(
    ("thinking", "natural", "expected"),
    [
        ("so", False, "\n<|im_start|>answer\nFinal Answer:"),
        ("so\n", False, "<|im_start|>answer\nFinal Answer:"),
        ("", False, "<|im_start|>answer\nFinal Answer:"),
        ("so", True, "<|im_start|>answer\n"),
    ],
    ids=["cap", "cap after a newline", "cap 0", "natural"],
)
def test_closing_as_in_s1(thinking, natural, expected) -> None:
    format = compile_format(FORMATS["s1"], ByteTokenizer())
    ids = format.closing_ids(format.encode(thinking), natural=natural, cue="Final Answer:")
    assert format.decode(ids) == expected


@pytest.mark.parametrize(
    ("natural", "cue", "expected"),
    [(False, "A:", "\nA:"), (True, "A:", "\nA:"), (True, None, None), (False, None, None)],
)
def test_closing_without_a_delimiter(natural, cue, expected) -> None:
    format = compile_format(FORMATS["plain"], ByteTokenizer())
    ids = format.closing_ids(format.encode("so"), natural=natural, cue=cue)
    assert (None if ids is None else format.decode(ids)) == expected


def test_a_trigger_of_several_tokens_is_a_long_one(smollm_tokenizer) -> None:
    s1 = compile_format(FORMATS["s1"], smollm_tokenizer)
    tags = compile_format(FORMATS["think-tags"], smollm_tokenizer)
    assert (s1.trigger_ids, s1.long_triggers) == ({1, 2}, ())
    assert (tags.trigger_ids, tags.long_triggers) == ({2}, ("</think>",))


def test_an_engine_that_cannot_roll_back_refuses_a_long_trigger(smollm_tokenizer) -> None:
    tags = compile_format(FORMATS["think-tags"], smollm_tokenizer)
    with pytest.raises(
        ConfigError, match="'</think>' is 3 tokens .* cannot roll back sampled tokens"
    ):
        require_single_token_trigger(tags, engine="vllm")


def test_the_error_for_an_unknown_format_names_similar_ones() -> None:
    with pytest.raises(ConfigError, match="did you mean `think-tags`"):
        get_format("think-tag")


def test_a_custom_format() -> None:
    own = {"mine": FormatConfig(start="[T]", end="[A]", end_triggers=("[A]",))}
    assert get_format("mine", own).end == "[A]"


def test_a_template_that_opens_thinking_opens_it_once(make_problem) -> None:
    class Opening(ByteTokenizer):
        def apply_chat_template(self, messages, tokenize, add_generation_prompt) -> str:
            return (
                super().apply_chat_template(messages, tokenize, add_generation_prompt) + "<think>\n"
            )

    tokenizer, chat = Opening(), ChatConfig(format="think-tags")
    text = tokenizer.decode(prompt_ids(tokenizer, make_problem(), chat))
    assert text.count("<think>") == 1
    example = training_ids(tokenizer, make_problem(), thinking="t", response="r", chat=chat)
    whole = tokenizer.decode(example.prompt_ids + example.completion_ids)
    assert whole.count("<think>") == 1


def test_a_model_without_chat_template_is_an_error(make_problem) -> None:
    class Bare(ByteTokenizer):
        chat_template = None

    with pytest.raises(ConfigError, match="no chat template"):
        render_header(Bare(), make_problem(), ChatConfig())


def test_options_and_instruction_follow_the_question(make_problem) -> None:
    problem = make_problem("Which?", choices=("one", "two"))
    text = user_message(problem, ChatConfig(instruction="Think."))
    assert text == "Which?\n(A) one\n(B) two\nThink."


@pytest.mark.parametrize("language", ["en", "zh", "zh-CN", "fr"])
def test_texts_may_be_by_the_problems_language(smollm_tokenizer, make_problem, language) -> None:
    texts = {"en": ("Be brief.", "Box it."), "zh": ("请简短。", "放入方框。")}
    system, instruction = texts.get(language[:2], texts["en"])
    by_language = ChatConfig(
        system_prompt={name: text[0] for name, text in texts.items()},
        instruction={name: text[1] for name, text in texts.items()},
    )
    plain = ChatConfig(system_prompt=system, instruction=instruction)
    problem = make_problem(language=language)
    prompts = [prompt_ids(smollm_tokenizer, problem, chat) for chat in (by_language, plain)]
    assert prompts[0] == prompts[1]
    header = render_header(smollm_tokenizer, problem, by_language)
    assert system in header and instruction in header


def test_texts_by_language_name_one() -> None:
    with pytest.raises(ValidationError, match="at least 1"):
        ChatConfig(instruction={})
