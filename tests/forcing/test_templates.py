"""Thinking in chat templates: detected formats, templates that open thinking, variables."""

from __future__ import annotations

import copy
import datetime
import re

import pytest
from pydantic import ValidationError

from slowthink.engines.replay import ByteTokenizer
from slowthink.errors import ConfigError
from slowthink.forcing.formats import FORMATS, compile_format, resolve_format
from slowthink.forcing.prompts import prompt_ids, training_ids
from slowthink.recipe import ChatConfig, FormatConfig

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
ASSISTANT = "{% if add_generation_prompt %}<|im_start|>assistant\n"
QWEN3 = (
    TURNS + ASSISTANT + "{% if enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
QWQ = TURNS + ASSISTANT + "<think>\n{% endif %}"
BARE_OPENING = TURNS + ASSISTANT + "<think>{% endif %}"
R1 = TURNS.replace("m.content", "m.content.split('</think>')[-1]") + ASSISTANT + "{% endif %}"
HARMONY = TURNS + "{% if add_generation_prompt %}<|start|>assistant{% endif %}{# <|channel|> #}"


class Templated(ByteTokenizer):
    name_or_path = "some/model"

    def __init__(self, template: str | None) -> None:
        self.chat_template = template  # type: ignore[assignment]


def with_template(tokenizer, template: str):
    changed = copy.copy(tokenizer)
    changed.chat_template = template
    return changed


@pytest.mark.parametrize(
    ("template", "name"),
    [(QWEN3, "think-tags"), (QWQ, "think-tags"), (R1, "think-tags"), (HARMONY, "gpt-oss")],
    ids=["qwen3", "qwq", "r1", "gpt-oss"],
)
def test_auto_detects_the_format_of_the_template(template, name) -> None:
    assert resolve_format("auto", Templated(template)) is FORMATS[name]


@pytest.mark.parametrize("template", [TURNS + ASSISTANT + "{% endif %}", None])
def test_auto_without_delimiters_in_the_template_names_the_formats(template) -> None:
    expected = (
        "`some/model` has none of .*gpt-oss, mine, plain, s1, s1-steps, think-tags .*trained on s1"
    )
    own = {"mine": FormatConfig(end="[A]")}
    with pytest.raises(ConfigError, match=expected):
        resolve_format("auto", Templated(template), own)


def test_a_named_format_is_not_detected(smollm_tokenizer) -> None:
    assert resolve_format("s1", Templated(QWEN3)) is FORMATS["s1"]
    with pytest.raises(
        ConfigError, match="expected one of auto, gpt-oss, plain, s1, s1-steps, think-tags"
    ):
        resolve_format("tags", smollm_tokenizer)


@pytest.mark.parametrize("template", [QWQ, BARE_OPENING, R1], ids=["opened", "bare", "not opened"])
def test_thinking_is_opened_once_in_prompts_and_training(
    smollm_tokenizer, make_problem, template
) -> None:
    tokenizer, chat = with_template(smollm_tokenizer, template), ChatConfig(format="auto")
    prompt = prompt_ids(tokenizer, make_problem("Q"), chat)
    expected = "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n<think>\n"
    assert tokenizer.decode(prompt) == expected
    example = training_ids(tokenizer, make_problem("Q"), thinking="t", response="r", chat=chat)
    whole = example.prompt_ids + example.completion_ids
    assert tokenizer.decode(whole) == expected + "t\n</think>\n\nr<|im_end|>"
    assert whole[: len(prompt)] == prompt
    assert tokenizer.decode(example.prompt_ids).endswith("assistant\n")


def test_template_variables_reach_the_template(smollm_tokenizer, make_problem) -> None:
    tokenizer = with_template(smollm_tokenizer, QWEN3)
    off = ChatConfig(format="plain", template_variables={"enable_thinking": False})
    text = tokenizer.decode(prompt_ids(tokenizer, make_problem("Q"), off))
    assert text.endswith("assistant\n<think>\n\n</think>\n\n")
    on = ChatConfig(format="auto", template_variables={"enable_thinking": True})
    assert tokenizer.decode(prompt_ids(tokenizer, make_problem("Q"), on)).endswith("<think>\n")


def test_a_template_that_closes_thinking_at_once_is_an_error(
    smollm_tokenizer, make_problem
) -> None:
    tokenizer = with_template(smollm_tokenizer, QWEN3)
    chat = ChatConfig(format="auto", template_variables={"enable_thinking": False})
    with pytest.raises(ConfigError, match="closes thinking before it begins.*enable_thinking: tru"):
        prompt_ids(tokenizer, make_problem("Q"), chat)


@pytest.mark.parametrize("setting", ["keep", "mask", "none"])
def test_empty_thinking_is_written_as_the_template_writes_it(
    setting, smollm_tokenizer, make_problem
) -> None:
    tokenizer = with_template(smollm_tokenizer, QWEN3)
    chat = ChatConfig(format="auto", empty_thinking=setting)
    ids = training_ids(tokenizer, make_problem("Q"), thinking=" ", response="r", chat=chat)
    off = ChatConfig(format="plain", template_variables={"enable_thinking": False})
    closed = prompt_ids(tokenizer, make_problem("Q"), off)
    answer = (*tokenizer.encode("r"), tokenizer.eos_token_id)
    whole = ids.prompt_ids + ids.completion_ids
    if setting == "none":
        assert "think" not in tokenizer.decode(whole) and ids.completion_ids == answer
        return
    assert whole == closed + answer
    block = "<think>\n\n</think>\n\n"
    assert tokenizer.decode(ids.completion_ids).startswith(block) == (setting == "keep")
    assert (ids.prompt_ids == closed) == (setting == "mask")


def test_gpt_oss_closes_its_channel_without_a_new_line(make_problem) -> None:
    tokenizer = Templated(HARMONY)
    chat = ChatConfig(format="auto")
    example = training_ids(tokenizer, make_problem("Q"), thinking="t", response="r", chat=chat)
    assert tokenizer.decode(example.completion_ids) == (
        "<|channel|>analysis<|message|>t<|end|><|start|>assistant<|channel|>final<|message|>"
        "r<|im_end|>"
    )
    format = compile_format(FORMATS["gpt-oss"], tokenizer)
    closing = format.closing_ids(format.encode("t"), natural=False, cue="Final Answer:")
    assert format.decode(closing) == (
        "<|end|><|start|>assistant<|channel|>final<|message|>Final Answer:"
    )


DEEPSEEK = (
    TURNS + ASSISTANT + "{% if not thinking is defined %}{% set thinking = false %}{% endif %}"
    "{% if thinking %}<think>{% else %}</think>{% endif %}{% endif %}"
)
SEED = TURNS + ASSISTANT + "{% if no_think %}<think></think>{% endif %}{% endif %}"


@pytest.mark.parametrize(
    ("template", "variables", "hint"),
    [
        (DEEPSEEK.replace("{% set thinking = false %}", ""), None, "{thinking: true}"),
        (TURNS + ASSISTANT + "{% if think_on %}<think>{% else %}</think>{% endif %}{% endif %}", None,
         "{think_on: true}"),
        (SEED, {"no_think": True}, "{no_think: false}"),
        (TURNS + ASSISTANT + "</think>\n\n{% endif %}", None, "{enable_thinking: true}"),
    ],
    ids=["deepseek", "another name", "negated", "always"],
)  # fmt: skip
def test_a_template_that_only_closes_thinking_is_an_error(
    smollm_tokenizer, make_problem, template, variables, hint
) -> None:
    tokenizer = with_template(smollm_tokenizer, template)
    chat = ChatConfig(format="auto", template_variables=variables)
    with pytest.raises(ConfigError, match=re.escape(hint)):
        prompt_ids(tokenizer, make_problem("Q"), chat)
    with pytest.raises(ConfigError, match="closes thinking before it begins"):
        training_ids(tokenizer, make_problem("Q"), thinking="t", response="r", chat=chat)


RAISES = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + TURNS
)
LEAVES_OUT = TURNS.replace(
    "{% for m in messages %}", "{% for m in messages if m.role != 'system' %}"
)


@pytest.mark.parametrize(
    "template",
    [RAISES, LEAVES_OUT, "{{ messages[0].content.missing.deeper }}" + TURNS,
     "{{ messages[0].role + 1 if messages[0].role == 'system' }}" + TURNS],
    ids=["raises", "left out", "undefined", "type error"],
)  # fmt: skip
def test_a_template_without_system_messages_is_an_error_with_a_remedy(
    smollm_tokenizer, make_problem, template
) -> None:
    tokenizer = with_template(smollm_tokenizer, template)
    chat = ChatConfig(format="s1", system_prompt="Think hard.")
    with pytest.raises(ConfigError, match=r"chat\.system_prompt: .*chat\.instruction"):
        prompt_ids(tokenizer, make_problem("Q"), chat)
    if template in (RAISES, LEAVES_OUT):
        instruction = ChatConfig(format="s1", instruction="Think hard.")
        assert "Think hard." in tokenizer.decode(
            prompt_ids(tokenizer, make_problem("Q"), instruction)
        )


def test_variables_at_which_a_template_raises_are_an_error(smollm_tokenizer, make_problem) -> None:
    tokenizer = with_template(smollm_tokenizer, "{{ effort + 1 }}" + TURNS)
    chat = ChatConfig(format="s1", template_variables={"effort": "high"})
    with pytest.raises(ConfigError, match=r"chat\.template_variables: .*raised TypeError"):
        prompt_ids(tokenizer, make_problem("Q"), chat)


@pytest.mark.parametrize(
    ("call", "default", "pinned"),
    [
        ("strftime_now('%d %b %Y')", "26 Jul 2024", "03 Feb 2025"),
        ("strftime_now('%Y-%m-%d')", "2024-07-26", "2025-02-03"),
        ("strftime_now('%B %Y %H:%M')", "July 2024 00:00", "February 2025 00:00"),
    ],
)
def test_a_date_in_a_template_is_the_recipes(
    smollm_tokenizer, make_problem, call, default, pinned
) -> None:
    tokenizer = with_template(smollm_tokenizer, "Today: {{ " + call + " }}\n" + TURNS)

    def text(**chat) -> str:
        ids = prompt_ids(tokenizer, make_problem("Q"), ChatConfig(format="s1", **chat))
        return str(tokenizer.decode(ids))

    assert text().startswith(f"Today: {default}\n")
    assert text(template_date="2025-02-03").startswith(f"Today: {pinned}\n")
    assert text(template_date=datetime.date(2025, 2, 3)) == text(template_date="2025-02-03")
    with pytest.raises(ValidationError):
        ChatConfig(template_date="yesterday")
