"""Prompts and training examples; the only module that renders them.

Both consist of the same parts, each tokenised separately, so a model sees the same ids in training
and when it is prompted:

    chat template (system, question, assistant header) | start | thinking, newline | end |
    response | EOS

A prompt ends with the thinking start; in training the loss begins with it.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.errors import ConfigError, SlowthinkError
from slowthink.forcing.formats import TokenFormat, compile_format, resolve_format
from slowthink.forcing.prompt_control import check_control, control_thinking, prompt_line
from slowthink.recipe import ChatConfig, in_language
from slowthink.records import Problem, ThinkingFormat


@dataclass(frozen=True, kw_only=True)
class TrainingIds:
    """Token ids of a training example; the loss is on `completion_ids` only, which end with EOS."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]


def user_message(problem: Problem, chat: ChatConfig, *, control_line: str | None = None) -> str:
    """The user message: question, options as (A), (B), …, instruction, line of length control."""
    lines = [problem.question]
    lines += [f"({chr(ord('A') + i)}) {choice}" for i, choice in enumerate(problem.choices)]
    if instruction := in_language(chat.instruction, problem.language):
        lines.append(instruction)
    if control_line:
        lines.append(control_line)
    return "\n".join(lines)


def render_header(
    tokenizer: Any,
    problem: Problem,
    chat: ChatConfig,
    *,
    control_line: str | None = None,
    history: Sequence[Mapping[str, str]] = (),
) -> str:
    """Render the prompt with the chat template, up to the assistant's header.

    `history`: messages (role, content) of the conversation before this question. Raises ConfigError
    if the model has no chat template, or one that cannot render these messages.
    """
    content = user_message(problem, chat, control_line=control_line)
    messages: list[Mapping[str, str]] = [*history, {"role": "user", "content": content}]
    render = functools.partial(
        render_messages, tokenizer, variables=chat.template_variables, date=chat.template_date
    )
    system_prompt = in_language(chat.system_prompt, problem.language)
    if system_prompt is None:
        return render(messages)
    header = render([{"role": "system", "content": system_prompt}, *messages])
    if system_prompt.strip() not in header and header == render(messages):
        raise ConfigError(
            f"chat.system_prompt: the chat template of `{tokenizer.name_or_path}` leaves it out; "
            f"expected it in the prompt. {_NO_SYSTEM_HINT}"
        )
    return header


def encode_messages(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
    """Token ids of the rendered messages: see `render_messages`."""
    return _encode(tokenizer, render_messages(tokenizer, messages))


_NO_SYSTEM_HINT = (
    "Drop it (chat.system_prompt: null), and put its text in chat.instruction, which follows the "
    "question."
)


def render_messages(
    tokenizer: Any,
    messages: Sequence[Mapping[str, str]],
    *,
    variables: Mapping[str, Any] | None = None,
    date: str = ChatConfig().template_date,
) -> str:
    """Render messages with the chat template, up to the assistant's header.

    A template that writes today's date (`strftime_now`) writes `date` instead, so that a recipe has
    the same prompts, and cached completions, on every day. Raises ConfigError if the model has no
    chat template, or one that cannot render these messages.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            f"model `{tokenizer.name_or_path}`: its tokenizer has no chat template; expected one, "
            "since problems are sent as chat messages. Use an instruct model, or save a "
            "chat_template.jinja in its folder."
        )
    options = dict(variables or {})
    if "strftime_now" in str(tokenizer.chat_template):
        options.setdefault("strftime_now", datetime.date.fromisoformat(date).strftime)
    try:
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **options
        )
    except SlowthinkError:
        raise
    except Exception as error:  # a template is a program that its author wrote: it raises anything
        raise ConfigError(_template_error(tokenizer, error, messages, variables)) from None
    return text


def _template_error(
    tokenizer: Any,
    error: Exception,
    messages: Sequence[Mapping[str, str]],
    variables: Mapping[str, Any] | None,
) -> str:
    """The message of an error that the chat template raised, with what to change."""
    hint = "Use a model whose template can, or save another chat_template.jinja in its folder."
    where = "model"
    if variables:
        where, hint = "chat.template_variables", "Change them: see the template's own names."
    if messages[0].get("role") == "system":
        where, hint = "chat.system_prompt", _NO_SYSTEM_HINT
    return (
        f"{where}: the chat template of `{tokenizer.name_or_path}` raised "
        f"{type(error).__name__}: {str(error)[:200]}; expected it to render "
        f"{', '.join(str(message.get('role')) for message in messages)} messages. {hint}"
    )


def _encode(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False))


@dataclass(frozen=True, kw_only=True)
class _SplitPrompt:
    """A prompt: what the chat template renders, and the thinking start."""

    header_ids: tuple[int, ...]
    start_ids: tuple[int, ...]


def _split_prompt(tokenizer: Any, header: str, format: TokenFormat) -> _SplitPrompt:
    """Move a thinking start that the template appends (R1, QwQ) from the header to the start.

    Raises ConfigError if the template also ends thinking right away.
    """
    start, end = format.format.start.strip(), format.format.end.strip()
    stripped = header.rstrip()
    if start and stripped.endswith(start):
        start_position = len(stripped) - len(start)
        header, appended = header[:start_position], header[start_position:]
        start_ids = _encode(tokenizer, appended + format.format.start.lstrip()[len(appended) :])
    else:
        start_ids = format.start_ids
    if start and end and stripped.endswith(end):
        raise ConfigError(
            f"chat.format `{format.format.name}`: the chat template of `{tokenizer.name_or_path}` "
            f"closes thinking before it begins (the prompt ends with {header[-40:]!r}); expected "
            f"it open. Set chat.template_variables: {{{_thinking_switch(tokenizer)}}}, or "
            "chat.format: plain."
        )
    return _SplitPrompt(header_ids=_encode(tokenizer, header), start_ids=start_ids)


def _thinking_switch(tokenizer: Any) -> str:
    """The variable of the chat template that opens thinking, with its value."""
    code = " ".join(re.findall(r"\{[%{].*?[%}]\}", str(tokenizer.chat_template), re.DOTALL))
    own = set(re.findall(r"\b(?:set|for)\s+(\w+)", code))
    names = re.findall(r"(?<![\w.'\"])(\w*think\w*)(?![\w'\"(])", code)
    name = next((name for name in names if name not in own), "enable_thinking")
    is_off = name.startswith(("no_", "disable", "skip"))
    return f"{name}: {'false' if is_off else 'true'}"


def _token_format(
    tokenizer: Any, chat: ChatConfig, custom_formats: Mapping[str, Any] | None
) -> TokenFormat:
    format = resolve_format(chat.format, tokenizer, custom_formats)
    if chat.control:
        check_control(chat.control, format)
    return compile_format(format, tokenizer)


def prompt_ids(
    tokenizer: Any,
    problem: Problem,
    chat: ChatConfig,
    custom_formats: Mapping[str, Any] | None = None,
    *,
    history: Sequence[Mapping[str, str]] = (),
) -> tuple[int, ...]:
    """Token ids of the whole prompt, up to and including the thinking start.

    `history`: messages of the conversation before this question. If the template already opens
    thinking (R1, QwQ), the start is not repeated.
    """
    format = _token_format(tokenizer, chat, custom_formats)
    control_line = prompt_line(chat.control) if chat.control else None
    header = render_header(tokenizer, problem, chat, control_line=control_line, history=history)
    prompt = _split_prompt(tokenizer, header, format)
    return prompt.header_ids + prompt.start_ids


@dataclass(frozen=True, kw_only=True)
class TrainingText:
    """s1's training text (simplescaling/s1 data/tokenization.py), in the parts of `training_ids`.

    `completion` is what the assistant says: the texts of start, thinking, end and response.
    """

    control_line: str | None
    """Last line of the user message, by `chat.control`."""
    start: str
    thinking: str
    """With a new line at its end if a forced end would add one."""
    end: str
    response: str

    @property
    def completion(self) -> str:
        """All text after the assistant's header, without the end-of-sequence token."""
        return self.start + self.thinking + self.end + self.response


def training_text(
    *,
    thinking: str,
    response: str,
    chat: ChatConfig,
    format: ThinkingFormat,
    count_tokens: Callable[[str], int],
) -> TrainingText:
    """The text of a training example. `count_tokens` is used by `chat.control` alone."""
    control_line, thinking = None, thinking.strip()
    if chat.control:
        check_control(chat.control, format)
        text = control_thinking(chat.control, thinking, count_tokens)
        control_line, thinking = text.prompt_line, text.thinking.strip()
    if thinking and format.newline_before_forced_end:
        thinking += "\n"
    has_block = bool(thinking) or chat.empty_thinking == "keep"
    return TrainingText(
        control_line=control_line, start=format.start if has_block else "", thinking=thinking,
        end=format.end if has_block else "", response=response.strip(),
    )  # fmt: skip


def training_ids(
    tokenizer: Any,
    problem: Problem,
    *,
    thinking: str,
    response: str,
    chat: ChatConfig,
    custom_formats: Mapping[str, Any] | None = None,
) -> TrainingIds:
    """Token ids of a `TrainingText`, each part tokenised separately, and the EOS token.

    Without thinking the row is as `chat.empty_thinking` says.
    """
    format = _token_format(tokenizer, chat, custom_formats)
    text = training_text(
        thinking=thinking, response=response, chat=chat, format=format.format,
        count_tokens=lambda text: len(format.encode(text)),
    )  # fmt: skip
    header = render_header(tokenizer, problem, chat, control_line=text.control_line)
    prompt = _split_prompt(tokenizer, header, format)
    answer = (*format.encode(text.response), tokenizer.eos_token_id)
    if not text.thinking and chat.empty_thinking != "keep":
        block = _empty_block(tokenizer, prompt, format) if chat.empty_thinking == "mask" else ()
        return TrainingIds(prompt_ids=prompt.header_ids + block, completion_ids=answer)
    block = prompt.start_ids + format.encode(text.thinking) + format.end_ids
    block = block if text.thinking else _empty_block(tokenizer, prompt, format)
    return TrainingIds(prompt_ids=prompt.header_ids, completion_ids=block + answer)


def _empty_block(tokenizer: Any, prompt: _SplitPrompt, format: TokenFormat) -> tuple[int, ...]:
    """Thinking that is empty: as the chat template writes it (Qwen3: with a blank line), if it
    does, else as a budget of 0 tokens."""
    native = f"{format.format.start}\n{format.format.end}"
    template = str(tokenizer.chat_template)
    if format.format.start and (native in template or repr(native)[1:-1] in template):
        return format.encode(native)
    return prompt.start_ids + format.end_ids
