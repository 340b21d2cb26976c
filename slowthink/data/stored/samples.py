r"""Samples that were generated elsewhere, in parts: thinking, delimiter, response.

One real record: `StoredSample(question="What is 17 + 25?", answer="42", thinking="17 + 25 = 42",
closing="</think>", response="\\boxed{42}", sample=0, problem_row="7", location="a.jsonl:8", …)`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from slowthink.errors import DataError
from slowthink.records import Dropped, problem_id


@dataclass(frozen=True, kw_only=True)
class StoredSample:
    """One response of one model to one question, and what its file states about it."""

    question: str
    choices: tuple[str, ...] = ()
    answer: str | None = None
    """The file's reference answer; None if it has none."""
    response: str
    """The answer part, which is graded."""
    thinking: str | None = None
    """None: the text has no thinking that can be separated."""
    closing: str = ""
    """The delimiter that ended thinking; empty if there is none."""
    opened: bool = False
    """Whether the text itself opens thinking, not its prompt."""
    sample: int
    """Number among the problem's samples, from 0."""
    score: float | None = None
    """Score of a reward model."""
    labelled_correct: bool | None = None
    """The file's own grade; never used for a verdict."""
    problem_row: str
    """The file's own id of the problem."""
    model: str | None = None
    truncated: bool | None = None
    """Whether a limit ended generation; None if the file does not state it."""
    num_tokens: int | None = None
    """All generated tokens, as the file states."""
    temperature: float | None = None
    location: str = ""
    """file:line, and `#index` if the row has several samples."""

    @functools.cached_property
    def problem_id(self) -> str:
        """Our id for the question as worded in the file."""
        return problem_id(self.question, self.choices)


@dataclass(frozen=True, kw_only=True)
class StoredSamples:
    """The samples of one file, in its order."""

    samples: tuple[StoredSample, ...]
    dropped: tuple[Dropped, ...] = ()
    format: str
    """Of the first usable row: lm-eval, inspect, nemo-skills or generic."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, in order; samples without one are ignored."""
        return tuple(dict.fromkeys(s.model for s in self.samples if s.model is not None))


def select_model(stored: StoredSamples, *, model: str) -> StoredSamples:
    """The samples of one model. Raises DataError if the file has none."""
    samples = tuple(sample for sample in stored.samples if sample.model == model)
    if not samples:
        raise DataError(
            f"stored samples: no sample of the model `{model}`; expected one of "
            f"{', '.join(stored.models) or '(the file names no model)'}. Name one of these."
        )
    return replace(stored, samples=samples)
