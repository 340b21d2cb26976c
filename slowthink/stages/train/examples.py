"""Examples: traces as token ids.

TrainingExample(id="p-0c1e…", prompt_ids=(1, 9690, …), completion_ids=(1, 15336, …, 2))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.forcing.prompts import training_ids
from slowthink.recipe import Recipe
from slowthink.records import Trace, row_ids


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


def in_order(traces: Sequence[Trace]) -> list[Trace]:
    """The traces, sorted by problem id, so that the order of the file does not matter."""
    return sorted(traces, key=lambda trace: (trace.problem.id, trace.thinking, trace.response))


def tokenize_traces(
    traces: Sequence[Trace], tokenizer: Any, recipe: Recipe
) -> list[TrainingExample]:
    """The examples of these traces, `in_order`."""
    traces = in_order(traces)
    return [
        tokenize(row_id, trace, tokenizer=tokenizer, recipe=recipe)
        for row_id, trace in zip(row_ids(traces), traces, strict=True)
    ]


def tokenize(row_id: str, trace: Trace, *, tokenizer: Any, recipe: Recipe) -> TrainingExample:
    """The example of a trace."""
    ids = training_ids(
        tokenizer, trace.problem, thinking=trace.thinking, response=trace.response,
        chat=recipe.chat, custom_formats=recipe.formats,
    )  # fmt: skip
    return TrainingExample(
        id=row_id, problem_id=trace.problem.id, prompt_ids=ids.prompt_ids,
        completion_ids=ids.completion_ids,
    )  # fmt: skip
