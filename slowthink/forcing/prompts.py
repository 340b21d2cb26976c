"""The only place that renders a prompt or a training text.

Both are made of the same pieces, tokenised apart and joined, so that what a model was trained on
and what it is asked are the same ids by construction:

    chat template (system, question, assistant header) | start | thinking, newline | end | response
    | EOS
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.errors import ConfigError
from slowthink.forcing.formats import TokenFormat, compile_format, format_of
from slowthink.forcing.prompt_control import check_control, controlled, prompt_line
from slowthink.recipe import ChatConfig
from slowthink.records import Problem


@dataclass(frozen=True, kw_only=True)
class TrainingIds:
    """One example: the loss is on `completion_ids`, the real EOS included, and on nothing else."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]


def question_text(problem: Problem, chat: ChatConfig, *, line: str | None = None) -> str:
    """What the user says: the question, its options as (A), (B), …, the instruction, and a line."""
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
    """The prompt up to the assistant's header, as the chat template has it.

    `earlier` are a talk's messages before this question (role, content). Raises ConfigError where
    the model has no chat template.
    """
    asked = {"role": "user", "content": question_text(problem, chat, line=line)}
    messages: list[Mapping[str, str]] = [*earlier, asked]
    if chat.system_prompt is not None:
        messages.insert(0, {"role": "system", "content": chat.system_prompt})
    return messages_text(tokenizer, messages, variables=chat.template_variables)


def messages_ids(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
    """The ids of `messages_text`."""
    return _encoded(tokenizer, messages_text(tokenizer, messages))


def messages_text(
    tokenizer: Any,
    messages: Sequence[Mapping[str, str]],
    *,
    variables: Mapping[str, Any] | None = None,
) -> str:
    """The model's chat template over these messages, up to the assistant's header.

    Raises ConfigError where the model has no chat template.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            f"model `{tokenizer.name_or_path}`: its tokenizer has no chat template; slowthink puts "
            "problems as chat. Use an instruct model, or save a chat_template.jinja beside it."
        )
    text: str = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, **(variables or {})
    )
    return text


def _encoded(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False))


@dataclass(frozen=True, kw_only=True)
class _Opening:
    """A header without the thinking start, and the start: the template's own where it has one."""

    header_ids: tuple[int, ...]
    start_ids: tuple[int, ...]


def _opening(tokenizer: Any, header: str, format: TokenFormat) -> _Opening:
    """Tells the header from a thinking start that the template puts after it (R1, QwQ).

    Raises ConfigError where the template also closes that thinking at once.
    """
    start, end = format.format.start.strip(), format.format.end.strip()
    bare = header.rstrip()
    if start and bare.endswith(start):
        header, opened = bare[: -len(start)], header[len(bare) - len(start) :]
        start_ids = _encoded(tokenizer, opened + format.format.start.lstrip()[len(opened) :])
    else:
        start_ids = format.start_ids
    if start and end and bare.endswith(end) and start in header:
        raise ConfigError(
            f"chat.format `{format.format.name}`: the chat template of `{tokenizer.name_or_path}` "
            f"closes thinking before it begins (its prompt ends with {header[-40:]!r}); expected "
            "it open. Set chat.template_variables: {enable_thinking: true}, or chat.format: plain."
        )
    return _Opening(header_ids=_encoded(tokenizer, header), start_ids=start_ids)


def _compiled(
    tokenizer: Any, chat: ChatConfig, own_formats: Mapping[str, Any] | None
) -> TokenFormat:
    format = format_of(chat.format, tokenizer, own_formats)
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
    """The whole prompt, after a talk's `earlier` messages; thinking starts right after it.

    A template that opens thinking by itself (R1, QwQ) is not made to open it twice.
    """
    format = _compiled(tokenizer, chat, own_formats)
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
    """One example in ids: s1's training text (simplescaling/s1 data/tokenization.py).

    The new line after the thinking is there where a forced end would put one.
    """
    format, line, thinking = _compiled(tokenizer, chat, own_formats), None, thinking.strip()
    if chat.control:
        text = controlled(chat.control, thinking, lambda text: len(format.encode(text)))
        line, thinking = text.line, text.thinking.strip()
    opening = _opening(tokenizer, header_text(tokenizer, problem, chat, line=line), format)
    newline = "\n" if format.format.newline_before_forced_end else ""
    body = thinking + newline if thinking else ""
    completion = opening.start_ids + format.encode(body) + format.end_ids
    completion += format.encode(response.strip())
    return TrainingIds(
        prompt_ids=opening.header_ids, completion_ids=(*completion, tokenizer.eos_token_id)
    )
