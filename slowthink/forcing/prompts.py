"""Prompts and training texts; the only module that renders them.

Both are joined from the same pieces, each tokenised separately, so a model sees the same ids in
training and when it is prompted:

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
from slowthink.forcing.prompt_control import check_control, control_text, prompt_line
from slowthink.recipe import ChatConfig
from slowthink.records import Problem


@dataclass(frozen=True, kw_only=True)
class TrainingIds:
    """One training example; the loss is on `completion_ids` only, which end with EOS."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]


def question_text(problem: Problem, chat: ChatConfig, *, line: str | None = None) -> str:
    """The user message: question, options as (A), (B), …, instruction, and the control `line`."""
    lines = [problem.question]
    lines += [f"({chr(ord('A') + i)}) {choice}" for i, choice in enumerate(problem.choices)]
    if chat.instruction:
        lines.append(chat.instruction)
    if line:
        lines.append(line)
    return "\n".join(lines)


def header_text(
    tokenizer: Any,
    problem: Problem,
    chat: ChatConfig,
    *,
    line: str | None = None,
    earlier: Sequence[Mapping[str, str]] = (),
) -> str:
    """The prompt as the chat template renders it, up to the assistant's header.

    `earlier` are the messages of the conversation before this question (role, content). Raises
    ConfigError if the model has no chat template.
    """
    question = {"role": "user", "content": question_text(problem, chat, line=line)}
    messages: list[Mapping[str, str]] = [*earlier, question]
    if chat.system_prompt is not None:
        messages.insert(0, {"role": "system", "content": chat.system_prompt})
    return messages_text(tokenizer, messages, variables=chat.template_variables)


def messages_ids(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
    """Token ids of `messages_text`."""
    return _encode(tokenizer, messages_text(tokenizer, messages))


def messages_text(
    tokenizer: Any,
    messages: Sequence[Mapping[str, str]],
    *,
    variables: Mapping[str, Any] | None = None,
) -> str:
    """The messages as the chat template renders them, up to the assistant's header.

    Raises ConfigError if the model has no chat template.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            f"model `{tokenizer.name_or_path}`: its tokenizer has no chat template; expected one, "
            "since problems are sent as chat messages. Use an instruct model, or save a "
            "chat_template.jinja beside it."
        )
    text: str = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, **(variables or {})
    )
    return text


def _encode(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False))


@dataclass(frozen=True, kw_only=True)
class _Opening:
    """The prompt's header and the thinking start, which some templates already contain."""

    header_ids: tuple[int, ...]
    start_ids: tuple[int, ...]


def _opening(tokenizer: Any, header: str, format: TokenFormat) -> _Opening:
    """Split off a thinking start that the template appends to the header (R1, QwQ).

    Raises ConfigError if the template also closes thinking right away.
    """
    start, end = format.format.start.strip(), format.format.end.strip()
    bare = header.rstrip()
    if start and bare.endswith(start):
        header, opened = bare[: -len(start)], header[len(bare) - len(start) :]
        start_ids = _encode(tokenizer, opened + format.format.start.lstrip()[len(opened) :])
    else:
        start_ids = format.start_ids
    if start and end and bare.endswith(end) and start in header:
        raise ConfigError(
            f"chat.format `{format.format.name}`: the chat template of `{tokenizer.name_or_path}` "
            f"closes thinking before it begins (the prompt ends with {header[-40:]!r}); expected "
            "it open. Set chat.template_variables: {enable_thinking: true}, or chat.format: plain."
        )
    return _Opening(header_ids=_encode(tokenizer, header), start_ids=start_ids)


def _token_format(
    tokenizer: Any, chat: ChatConfig, own_formats: Mapping[str, Any] | None
) -> TokenFormat:
    format = resolve_format(chat.format, tokenizer, own_formats)
    if chat.control:
        check_control(chat.control, format)
    return compile_format(format, tokenizer)


def prompt_ids(
    tokenizer: Any,
    problem: Problem,
    chat: ChatConfig,
    own_formats: Mapping[str, Any] | None = None,
    *,
    earlier: Sequence[Mapping[str, str]] = (),
) -> tuple[int, ...]:
    """The whole prompt, up to and including the thinking start.

    `earlier` are the messages of the conversation before this question. Where the template already
    opens thinking (R1, QwQ), the start is not repeated.
    """
    format = _token_format(tokenizer, chat, own_formats)
    line = prompt_line(chat.control) if chat.control else None
    header = header_text(tokenizer, problem, chat, line=line, earlier=earlier)
    opening = _opening(tokenizer, header, format)
    return opening.header_ids + opening.start_ids


def training_ids(
    tokenizer: Any,
    problem: Problem,
    *,
    thinking: str,
    response: str,
    chat: ChatConfig,
    own_formats: Mapping[str, Any] | None = None,
) -> TrainingIds:
    """One training example: s1's training text (simplescaling/s1 data/tokenization.py).

    A new line follows the thinking wherever a forced end would add one.
    """
    format, line, thinking = _token_format(tokenizer, chat, own_formats), None, thinking.strip()
    if chat.control:
        text = control_text(chat.control, thinking, lambda text: len(format.encode(text)))
        line, thinking = text.line, text.thinking.strip()
    opening = _opening(tokenizer, header_text(tokenizer, problem, chat, line=line), format)
    newline = "\n" if format.format.newline_before_forced_end else ""
    body = thinking + newline if thinking else ""
    completion = opening.start_ids + format.encode(body) + format.end_ids
    completion += format.encode(response.strip())
    return TrainingIds(
        prompt_ids=opening.header_ids, completion_ids=(*completion, tokenizer.eos_token_id)
    )
