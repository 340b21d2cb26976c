"""The length of the examples: refused, dropped or cut if too long. No answer is ever cut.

kept, dropped, cut = limit_lengths(examples, traces, tokenize, config, max_context=2048)
cut[0]  # CutExample(id="p-0c1e…", num_tokens=2040, num_before=9121)
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from slowthink.errors import DataError
from slowthink.recipe import TrainConfig
from slowthink.records import Dropped, Trace
from slowthink.stages.train.examples import TrainingExample

_STEP_END = re.compile(r"\n+|(?<=[.!?])[ \t]+|(?<=[。！？])")
"""Where a line or a sentence ends."""
TOO_LONG = "too long"
ANSWER_TOO_LONG = "too long without thinking"


@dataclass(frozen=True, kw_only=True)
class CutExample:
    """An example whose thinking was cut."""

    id: str
    num_tokens: int
    num_before: int
    """Tokens before the cut."""


@dataclass(frozen=True, kw_only=True)
class LimitedLengths:
    """The examples within the limit, and what happened to the others."""

    examples: list[TrainingExample]
    dropped: list[Dropped]
    cut: list[CutExample]


def limit_lengths(
    examples: Sequence[TrainingExample],
    traces: Sequence[Trace],
    tokenize: Callable[[str, Trace], TrainingExample],
    config: TrainConfig,
    *,
    max_context: int | None,
) -> LimitedLengths:
    """The examples, of which too long ones are dropped or cut as `too_long` says.

    `traces` are those of the examples, in order; `tokenize` makes an example of its id and a trace.
    Raises DataError if one is too long and `too_long` is `refuse`, or if none remains.
    """
    limit = length_limit(config, max_context)
    too_long = [example for example in examples if example.num_tokens > limit]
    if too_long and config.too_long == "refuse":
        raise DataError(_too_long_message(too_long, len(examples), limit, config.max_length))
    limited = LimitedLengths(examples=[], dropped=[], cut=[])
    for example, trace in zip(examples, traces, strict=True):
        shorter: TrainingExample | None = example
        if example.num_tokens > limit:
            can_cut = config.too_long == "cut_thinking"
            shorter = _cut_thinking(example.id, trace, tokenize, limit) if can_cut else None
        if shorter is None:
            limited.dropped.append(_dropped(example, limit, config))
            continue
        limited.examples.append(shorter)
        if shorter is not example:
            limited.cut.append(
                CutExample(
                    id=example.id, num_tokens=shorter.num_tokens, num_before=example.num_tokens
                )
            )
    if not limited.examples:
        raise DataError(_nothing_left_message(len(examples), limit))
    return limited


def length_limit(config: TrainConfig, max_context: int | None) -> int:
    """Most tokens of an example: the setting's, or the model's context if that is shorter."""
    return min(config.max_length, max_context or config.max_length)


def _cut_thinking(
    id: str, trace: Trace, tokenize: Callable[[str, Trace], TrainingExample], limit: int
) -> TrainingExample | None:
    """The example with as many whole steps of its thinking as fit; None if none does."""

    def cut(end: int) -> TrainingExample:
        return tokenize(id, replace(trace, thinking=trace.thinking[:end].rstrip()))

    ends = [match.start() for match in _STEP_END.finditer(trace.thinking.strip())]
    ends = [end for end in ends if trace.thinking[:end].strip()]
    number = bisect_right(ends, limit, key=lambda end: cut(end).num_tokens)
    return cut(ends[number - 1]) if number else None


def _dropped(example: TrainingExample, limit: int, config: TrainConfig) -> Dropped:
    reason = ANSWER_TOO_LONG if config.too_long == "cut_thinking" else TOO_LONG
    evidence = f"{example.num_tokens} tokens, limit {limit}"
    return Dropped(id=example.id, step="length", reason=reason, evidence=evidence)


def _nothing_left_message(num_examples: int, limit: int) -> str:
    if not num_examples:
        return (
            "train: the training set has no rows; expected at least one. Run the stages before it "
            "again, or name another file: --set train.input=PATH"
        )
    return (
        f"train: {num_examples} examples, and none is within the limit of {limit} tokens; "
        "expected at least one. Select shorter traces, or raise train.max_length."
    )


def _too_long_message(
    too_long: Sequence[TrainingExample], num_examples: int, limit: int, max_length: int
) -> str:
    longest = max(example.num_tokens for example in too_long)
    limit_name = "train.max_length" if limit == max_length else "the model's context"
    raise_limit = f"--set train.max_length={longest}, " if limit == max_length else ""
    return (
        f"train: {len(too_long)} of {num_examples} examples are longer than {limit} tokens "
        f"({limit_name}); the longest has {longest}; expected none, since an answer is never cut. "
        f"Do one of: {raise_limit}--set train.too_long=drop, --set train.too_long=cut_thinking, or "
        "select shorter traces."
    )
