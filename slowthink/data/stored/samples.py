r"""Samples that were generated elsewhere, and their text in parts: thinking, delimiter, response.

One real record: `StoredSample(question="What is 17 + 25?", answer="42", thinking="17 + 25 = 42",
closing="</think>", response="\\boxed{42}", sample=0, problem_row="7", location="a.jsonl:8", …)`.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace

from slowthink.errors import DataError
from slowthink.records import Dropped, problem_id

SEPARATE_COLUMN = "\n</think>\n\n"
"""The delimiter of thinking that has its own column."""

_END = re.compile(r"</think>|<\|im_start\|>\s*answer|<\|end_of_thought\|>")
_START = re.compile(r"<think>|<\|im_start\|>\s*think|<\|begin_of_thought\|>")


@dataclass(frozen=True, kw_only=True)
class StoredSample:
    """One response of one model to one question, with what its file states of it."""

    question: str
    choices: tuple[str, ...] = ()
    answer: str | None = None
    """The file's reference answer; None where it has none."""
    response: str
    """The answer part, which is graded."""
    thinking: str | None = None
    """None: the text has no thinking that can be separated."""
    closing: str = ""
    """The delimiter that ended thinking; empty where there is none."""
    sample: int
    """Its number among the problem's samples."""
    score: float | None = None
    """Of a reward model."""
    labelled_correct: bool | None = None
    """The file's own grade; never used for a verdict."""
    problem_row: str
    """The file's own id of the problem."""
    model: str | None = None
    truncated: bool | None = None
    """Whether a limit ended generation; None where the file does not state it."""
    num_tokens: int | None = None
    """All generated tokens, as the file states."""
    temperature: float | None = None
    location: str = ""
    """file:line, and the index within the row where it has several."""

    @functools.cached_property
    def problem_id(self) -> str:
        """Id of the question as it is in the file."""
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
    """The samples of one model. Raises DataError where the file has none of it."""
    samples = tuple(sample for sample in stored.samples if sample.model == model)
    if not samples:
        raise DataError(
            f"stored samples: no sample of the model `{model}`; expected one of "
            f"{', '.join(stored.models) or '(the file names no model)'}. Name one of these."
        )
    return replace(stored, samples=samples)


@dataclass(frozen=True)
class TextParts:
    """A generated text in parts; joined, they are the text without its opening delimiter."""

    thinking: str | None
    closing: str
    response: str

    @property
    def unfinished(self) -> bool:
        """Whether thinking was opened and never closed."""
        return self.thinking is not None and not self.closing


def split_text(text: str) -> TextParts:
    """The parts of a generated text: what follows the last closing delimiter is the response.

    The opening delimiter may be missing, since it may be part of the prompt. Where thinking is
    never closed, the response is the text before it, mostly none.
    """
    ends = list(_END.finditer(text))
    if ends:
        last = ends[-1]
        before = text[: last.start()]
        opened = _START.match(before.lstrip())
        thinking = before.lstrip()[opened.end() :] if opened else before
        return TextParts(thinking, last.group(), text[last.end() :])
    started = _START.search(text)
    if started:
        return TextParts(text[started.end() :], "", text[: started.start()])
    return TextParts(None, "", text)
