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
from slowthink.recipe import ChatConfig
from slowthink.records import Problem
from slowthink.thinking.formats import compile_format, get_format


@dataclass(frozen=True, kw_only=True)
class TrainingIds:
    """One example: the loss is on `completion_ids`, the real EOS included, and on nothing else."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]


def question_text(problem: Problem, chat: ChatConfig) -> str:
    """What the user says: the question, its options as (A), (B), …, and the instruction."""
    lines = [problem.question]
    lines += [f"({chr(ord('A') + i)}) {choice}" for i, choice in enumerate(problem.choices)]
    if chat.instruction:
        lines.append(chat.instruction)
    return "\n".join(lines)


def header_ids(tokenizer: Any, problem: Problem, chat: ChatConfig) -> tuple[int, ...]:
    """The prompt up to the assistant's header, without the thinking start.

    Raises ConfigError where the model has no chat template.
    """
    messages = [{"role": "user", "content": question_text(problem, chat)}]
    if chat.system_prompt is not None:
        messages.insert(0, {"role": "system", "content": chat.system_prompt})
    return messages_ids(tokenizer, messages)


def messages_ids(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
    """The model's chat template over these messages, up to the assistant's header.

    Raises ConfigError where the model has no chat template.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            f"model `{tokenizer.name_or_path}`: its tokenizer has no chat template; slowthink puts "
            "problems as chat. Use an instruct model, or save a chat_template.jinja beside it."
        )
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def prompt_ids(
    tokenizer: Any, problem: Problem, chat: ChatConfig, own_formats: Mapping[str, Any] | None = None
) -> tuple[int, ...]:
    """The whole prompt; thinking starts right after it.

    A template that opens thinking by itself (R1, QwQ) is not made to open it twice.
    """
    format = compile_format(get_format(chat.format, own_formats), tokenizer)
    header = header_ids(tokenizer, problem, chat)
    start = format.start_ids
    if start and header[-len(start) :] == start:
        return header
    return header + start


def training_ids(
    tokenizer: Any,
    problem: Problem,
    *,
    thinking: str,
    response: str,
    chat: ChatConfig,
    own_formats: Mapping[str, Any] | None = None,
) -> TrainingIds:
    """One example in ids: s1's training text (simplescaling/s1 data/tokenization.py)."""
    format = compile_format(get_format(chat.format, own_formats), tokenizer)
    header = header_ids(tokenizer, problem, chat)
    start = format.start_ids
    if start and header[-len(start) :] == start:
        header = header[: -len(start)]
    body = thinking.strip() + "\n" if thinking.strip() else ""
    completion = start + format.encode(body) + format.end_ids + format.encode(response.strip())
    return TrainingIds(prompt_ids=header, completion_ids=(*completion, tokenizer.eos_token_id))
