r"""Samples that were made elsewhere, and their text in parts: thinking, delimiter, response.

One real record: `StoredSample(question="What is 17 + 25?", answer="42", thinking="17 + 25 = 42",
closing="</think>", response="\\boxed{42}", sample=0, problem_row="7", address="a.jsonl:8", …)`.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace

from slowthink.errors import DataError
from slowthink.records import Dropped, problem_id

SEPARATE_COLUMN = "\n</think>\n\n"
"""Stands for the delimiter where thinking came in a column of its own."""

_END = re.compile(r"</think>|<\|im_start\|>\s*answer|<\|end_of_thought\|>")
_START = re.compile(r"<think>|<\|im_start\|>\s*think|<\|begin_of_thought\|>")


@dataclass(frozen=True, kw_only=True)
class StoredSample:
    """One response of one model to one question, as its file tells it."""

    question: str
    choices: tuple[str, ...] = ()
    answer: str | None = None
    """The file's key; None where it has none."""
    response: str
    """The answer part: what is graded."""
    thinking: str | None = None
    """None: no thinking was told apart."""
    closing: str = ""
    """The delimiter that ended thinking; empty where none was seen."""
    sample: int
    """Its number among the problem's samples."""
    score: float | None = None
    """A reward model's."""
    labelled_correct: bool | None = None
    """What the file's maker found; never used for a verdict."""
    problem_row: str
    """The file's own id of the problem."""
    model: str | None = None
    truncated: bool | None = None
    """Cut off by a limit; None where the file does not say."""
    num_tokens: int | None = None
    """All that was generated, by the file's own count."""
    temperature: float | None = None
    address: str = ""
    """file:line, and the place within the row where it holds several."""

    @functools.cached_property
    def problem_id(self) -> str:
        """Id of the question as the file has it."""
        return problem_id(self.question, self.choices)


@dataclass(frozen=True, kw_only=True)
class StoredSamples:
    """The samples of one file, in its order."""

    samples: tuple[StoredSample, ...]
    dropped: tuple[Dropped, ...] = ()
    form: str
    """Of the first usable row: lm-eval, inspect, nemo-skills or generic."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, in order; without samples that name none."""
        return tuple(dict.fromkeys(one.model for one in self.samples if one.model is not None))


def select_model(stored: StoredSamples, *, model: str) -> StoredSamples:
    """The samples of one model. Raises DataError where the file has none of it."""
    chosen = tuple(one for one in stored.samples if one.model == model)
    if not chosen:
        raise DataError(
            f"stored samples: no sample of the model `{model}`; expected one of "
            f"{', '.join(stored.models) or '(the file names no model)'}. Name one of these."
        )
    return replace(stored, samples=chosen)


@dataclass(frozen=True)
class TextParts:
    """A text in parts; without its opening delimiter they make up the text again."""

    thinking: str | None
    closing: str
    response: str

    @property
    def unfinished(self) -> bool:
        """Whether thinking was opened and never closed."""
        return self.thinking is not None and not self.closing


def split_text(text: str) -> TextParts:
    """The parts of a generated text: what follows the last closing delimiter is the response.

    A closing delimiter may stand alone, its opening one having been in the prompt. Thinking that is
    opened and never closed leaves what stood before it, mostly nothing, as the response.
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
