"""Tokenize traces and check their length; no example is ever truncated.

TrainingExample(id="p-0c1e…", prompt_ids=(1, 9690, …), completion_ids=(1, 15336, …, 2))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.errors import DataError
from slowthink.forcing.prompts import training_ids
from slowthink.recipe import Recipe, TrainConfig
from slowthink.records import Dropped, Trace, row_ids


@dataclass(frozen=True, kw_only=True)
class TrainingExample:
    """Token ids of one prompt and its completion; the loss is on the completion and its EOS."""

    id: str
    """The problem's, or the chain's where a problem has several."""
    problem_id: str = ""
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        """Length of prompt and completion together."""
        return len(self.prompt_ids) + len(self.completion_ids)


def tokenize_traces(
    traces: Sequence[Trace], tokenizer: Any, recipe: Recipe
) -> list[TrainingExample]:
    """Tokenize the traces, sorted by problem id, so that their order does not matter."""
    examples = []
    traces = sorted(traces, key=lambda trace: (trace.problem.id, trace.thinking, trace.response))
    for row_id, trace in zip(row_ids(traces), traces, strict=True):
        ids = training_ids(
            tokenizer, trace.problem, thinking=trace.thinking, response=trace.response,
            chat=recipe.chat, custom_formats=recipe.formats,
        )  # fmt: skip
        examples.append(
            TrainingExample(
                id=row_id, problem_id=trace.problem.id, prompt_ids=ids.prompt_ids,
                completion_ids=ids.completion_ids,
            )
        )  # fmt: skip
    return examples


def drop_too_long(
    examples: Sequence[TrainingExample], config: TrainConfig, *, max_context: int | None
) -> tuple[list[TrainingExample], list[Dropped]]:
    """Separate the examples within the limit from those to drop.

    Raises DataError if one is too long and `too_long` is `refuse`, or if none remains.
    """
    limit = min(config.max_length, max_context or config.max_length)
    too_long = [example for example in examples if example.num_tokens > limit]
    if too_long and config.too_long == "refuse":
        raise DataError(_too_long_message(too_long, len(examples), limit, config.max_length))
    kept = [example for example in examples if example.num_tokens <= limit]
    if not kept:
        raise DataError(
            f"train: {len(examples)} examples, and none is within the limit of {limit} tokens; "
            "expected at least one. Select shorter traces, or raise train.max_length."
        )
    return kept, [
        Dropped(
            id=example.id, step="length", reason="too long",
            evidence=f"{example.num_tokens} tokens, limit {limit}",
        )
        for example in too_long
    ]  # fmt: skip


def _too_long_message(
    too_long: Sequence[TrainingExample], num_examples: int, limit: int, max_length: int
) -> str:
    longest = max(example.num_tokens for example in too_long)
    limit_name = "train.max_length" if limit == max_length else "the model's context"
    raise_limit = f"--set train.max_length={longest}, " if limit == max_length else ""
    return (
        f"train: {len(too_long)} of {num_examples} examples are longer than {limit} tokens "
        f"({limit_name}); the longest has {longest}; expected none, since examples are never "
        f"truncated. Do one of: {raise_limit}--set train.too_long=drop, or select shorter traces."
    )
