"""Prompts and training examples; the only module that renders them.

Both consist of the same parts, each tokenised separately, so a model sees the same ids in training
and when it is prompted:

    chat template (system, question, assistant header) | start | thinking, newline | end |
    response | EOS

A prompt ends with the thinking start; in training the loss begins with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.errors import ConfigError
from slowthink.forcing.formats import TokenFormat, compile_format, resolve_format
from slowthink.forcing.prompt_control import check_control, control_thinking, prompt_line
from slowthink.recipe import ChatConfig
from slowthink.records import Problem


@dataclass(frozen=True, kw_only=True)
class TrainingIds:
    """Token ids of a training example; the loss is on `completion_ids` only, which end with EOS."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]


def user_message(problem: Problem, chat: ChatConfig, *, control_line: str | None = None) -> str:
    """The user message: question, options as (A), (B), …, instruction, line of length control."""
    lines = [problem.question]
    lines += [f"({chr(ord('A') + i)}) {choice}" for i, choice in enumerate(problem.choices)]
    if chat.instruction:
        lines.append(chat.instruction)
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
    if the model has no chat template.
    """
    content = user_message(problem, chat, control_line=control_line)
    messages: list[Mapping[str, str]] = [*history, {"role": "user", "content": content}]
    if chat.system_prompt is not None:
        messages.insert(0, {"role": "system", "content": chat.system_prompt})
    return render_messages(tokenizer, messages, variables=chat.template_variables)


def encode_messages(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
    """Token ids of the rendered messages: see `render_messages`."""
    return _encode(tokenizer, render_messages(tokenizer, messages))


def render_messages(
    tokenizer: Any,
    messages: Sequence[Mapping[str, str]],
    *,
    variables: Mapping[str, Any] | None = None,
) -> str:
    """Render messages with the chat template, up to the assistant's header.

    Raises ConfigError if the model has no chat template.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            f"model `{tokenizer.name_or_path}`: its tokenizer has no chat template; expected one, "
            "since problems are sent as chat messages. Use an instruct model, or save a "
            "chat_template.jinja in its folder."
        )
    text: str = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, **(variables or {})
    )
    return text


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
    if start and end and stripped.endswith(end) and start in header:
        raise ConfigError(
            f"chat.format `{format.format.name}`: the chat template of `{tokenizer.name_or_path}` "
            f"closes thinking before it begins (the prompt ends with {header[-40:]!r}); expected "
            "it open. Set chat.template_variables: {enable_thinking: true}, or chat.format: plain."
        )
    return _SplitPrompt(header_ids=_encode(tokenizer, header), start_ids=start_ids)


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


def training_ids(
    tokenizer: Any,
    problem: Problem,
    *,
    thinking: str,
    response: str,
    chat: ChatConfig,
    custom_formats: Mapping[str, Any] | None = None,
) -> TrainingIds:
    """Token ids of s1's training text (simplescaling/s1 data/tokenization.py).

    A new line follows the thinking if a forced end would add one.
    """
    format = _token_format(tokenizer, chat, custom_formats)
    control_line, thinking = None, thinking.strip()
    if chat.control:
        text = control_thinking(chat.control, thinking, lambda text: len(format.encode(text)))
        control_line, thinking = text.prompt_line, text.thinking.strip()
    header = render_header(tokenizer, problem, chat, control_line=control_line)
    prompt = _split_prompt(tokenizer, header, format)
    if thinking and format.format.newline_before_forced_end:
        thinking += "\n"
    completion = prompt.start_ids + format.encode(thinking) + format.end_ids
    completion += format.encode(response.strip())
    return TrainingIds(
        prompt_ids=prompt.header_ids, completion_ids=(*completion, tokenizer.eos_token_id)
    )
