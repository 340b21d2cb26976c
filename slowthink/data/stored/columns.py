"""Values of rows under the column names that other tools use.

first_value({"problem": "What is 17 + 25?", "expected_answer": 42}, QUESTION) == "What is 17 + 25?"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slowthink.data.column_names import USUAL_NAMES, spellings
from slowthink.data.finish import Finish, read_finish
from slowthink.data.rows import UnusableValue, optional_text, parse_number, text_list, text_value
from slowthink.grading.keys import read_key

Values = Mapping[str, Any]

QUESTION = spellings("question")
ANSWER = spellings("answer")
RESPONSE = USUAL_NAMES["response"]
RESPONSES = USUAL_NAMES["responses"]
CHOICES = USUAL_NAMES["choices"]
SAMPLE = USUAL_NAMES["sample"]
SCORE = USUAL_NAMES["score"]
CORRECT = USUAL_NAMES["correct"]
MODEL = USUAL_NAMES["model"]
ROW_ID = USUAL_NAMES["id"]
TRUNCATED = ("truncated",)
FINISH = ("finish_reason", "stop_reason")
NUM_TOKENS = ("num_tokens", "num_generated_tokens", "completion_tokens", "output_tokens")
TEMPERATURE = ("temperature",)

_TRUE_LABELS = ("true", "1", "1.0", "yes", "c", "correct")
_FALSE_LABELS = ("false", "0", "0.0", "no", "i", "incorrect", "wrong")


def filled_column(values: Values, names: Sequence[str]) -> str | None:
    """The first of these columns that has a value; None if none has."""
    return next((name for name in names if values.get(name) is not None), None)


def first_value(values: Values, names: Sequence[str]) -> Any:
    """The value of the first of these columns that has one; None if none has."""
    name = filled_column(values, names)
    return None if name is None else values[name]


def read_question(values: Values) -> str:
    """The question. Raises UnusableValue if there is none."""
    name = filled_column(values, QUESTION)
    question = None if name is None else text_value(values[name], name).strip()
    if not question:
        raise UnusableValue(f"`{name or 'question'}` is missing or empty")
    return question


def read_choices(values: Values) -> tuple[str, ...]:
    """The options: a list, {"text": […]}, or {"A": …, "B": …}."""
    name = filled_column(values, CHOICES)
    options = None if name is None else values[name]
    if isinstance(options, Mapping):
        options = options["text"] if "text" in options else [options[k] for k in sorted(options)]
    return text_list(options, name or "choices")


def reference_answer(value: Any, choices: tuple[str, ...]) -> str | None:
    """The reference answer; of a solution its end, of an option's index its letter."""
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    if isinstance(value, int) and not isinstance(value, bool):
        is_index = 0 <= value < len(choices) and str(value) not in choices
        return chr(ord("A") + value) if is_index else str(value)
    text = optional_text(value, "answer")
    if text is None:
        return None
    return read_key(text)


def parse_label(value: Any) -> bool | None:
    """A label such as "correct" or 0 as a truth value; None if it is neither true nor false."""
    text = str(value).strip().lower()
    return True if text in _TRUE_LABELS else False if text in _FALSE_LABELS else None


def parse_count(value: Any) -> int | None:
    """A count of 0 or more; None for anything else."""
    number = parse_number(value)
    return int(number) if number is not None and number >= 0 else None


def hit_limit(values: Values) -> bool | None:
    """Whether a limit ended generation; None if the row does not state it."""
    if (truncated := parse_label(first_value(values, TRUNCATED))) is not None:
        return truncated
    reason = first_value(values, FINISH)
    finish = read_finish(reason)
    return None if finish is None else finish is not Finish.STOP
