r"""The forms of published chains, as tables of readers: a row becomes an `Imported` chain.

{"question": "…", "solution": "Okay, so … **Final Answer**\n\\boxed{802}", "answer": "802"}   limo
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slowthink.data.rows import UnusableValue, optional_text, text_value
from slowthink.grading.extract import extract, last_box
from slowthink.records import Budget, Problem, Trace, duplicate_key, problem_id
from slowthink.serialise import from_plain

Values = dict[str, Any]

DELIMITERS = (
    ("<think>", "</think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|im_start|>think", "<|im_start|>answer"),
)
"""What opens and closes thinking in published chains; some leave the opening out."""
WRAPPERS = ("<|begin_of_solution|>", "<|end_of_solution|>", "<|im_end|>")
"""What stands round a response and is no part of it."""
FINAL_ANSWER = "**Final Answer**"
"""Where the response begins in chains of R1 that lost their delimiters."""
MAX_SHORT_ANSWER = 64
"""A solution of one line up to this many characters is an answer itself."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A chain as its row tells it."""

    problem: Problem
    """Made of the row; stands in where the recipe has no pool of its own."""
    thinking: str
    response: str
    teacher: str | None = None


@dataclass(frozen=True)
class ChainFormat:
    """One form of rows."""

    columns: tuple[str, ...]
    """A row with all of these may be of this form."""
    read: Callable[[Values], Imported]
    """Raises ValueProblem where a value cannot be used."""


def final_answer(answer: str) -> str:
    """The response that states an answer: what the forced cue is followed by, too."""
    return f"{Budget(waits=0).final_answer_cue} {answer}"


def split_text(text: str) -> tuple[str, str]:
    """Thinking and response of one text; without a delimiter the response restates its answer.

    Raises ValueProblem where there is neither a delimiter nor an answer.
    """
    for opening, closing in DELIMITERS:
        if closing in text:
            before, _, after = text.partition(closing)
            return before.partition(opening)[2].strip() or before.strip(), _unwrap(after)
    if FINAL_ANSWER in text:
        before, _, after = text.rpartition(FINAL_ANSWER)
        return before.strip(), FINAL_ANSWER + after.rstrip()
    answer = extract(text)
    if answer is None:
        raise UnusableValue("the chain states no answer")
    return text.strip(), final_answer(answer)


def _unwrap(text: str) -> str:
    for wrapper in WRAPPERS:
        text = text.replace(wrapper, "")
    return text.strip()


def short_answer(solution: str | None) -> str | None:
    """The answer that a solution holds: its last box, or all of it where it is one short line."""
    if solution is None:
        return None
    boxed = last_box(solution)
    if boxed is not None:
        return boxed
    one_line = "\n" not in solution and len(solution) <= MAX_SHORT_ANSWER
    return solution if one_line else None


def _problem(values: Values, *, question: str, answer: str | None, **more: Any) -> Problem:
    if not question.strip():
        raise UnusableValue("the question is empty")
    question = question.strip()
    return Problem(
        id=problem_id(question),
        duplicate_key=duplicate_key(question),
        question=question,
        answer=answer,
        source_row=str(values.get("id", "")),
        **{"source": "import", **more},
    )


def _text(values: Values, column: str) -> str:
    value = values.get(column)
    if value is None:
        raise UnusableValue(f"`{column}` is missing or empty")
    return text_value(value, column)


# --- the forms ------------------------------------------------------------------------------------


def _read_slowthink(values: Values) -> Imported:
    problem = values.get("problem")
    if not isinstance(problem, dict):
        raise UnusableValue("not a Trace row (`problem` is no object)")
    texts = [_text(problem, "question"), _text(values, "thinking"), _text(values, "response")]
    if not all(text.strip() for text in texts):
        raise UnusableValue("question, thinking or response is empty")
    optional_text(problem.get("answer"), "answer")
    try:
        trace = from_plain(Trace, values)
    except (KeyError, TypeError, ValueError) as error:
        raise UnusableValue(f"not a Trace row ({type(error).__name__})") from None
    return Imported(
        problem=trace.problem,
        thinking=trace.thinking,
        response=trace.response,
        teacher=trace.teacher,
    )


def _read_s1k(values: Values, *, teacher: str, thinking: str, response: str) -> Imported:
    solution = optional_text(values.get("solution"), "solution")
    source = optional_text(values.get("source_type"), "source_type")
    problem = _problem(
        values, question=_text(values, "question"), answer=short_answer(solution),
        answer_derived=True, source=source or "s1k",
    )  # fmt: skip
    return Imported(problem=problem, thinking=thinking, response=response, teacher=teacher)


def _read_s1k_first(values: Values) -> Imported:
    chains = values.get("thinking_trajectories")
    if not isinstance(chains, list) or not all(isinstance(part, str) for part in chains):
        raise UnusableValue("`thinking_trajectories` is not a list of strings")
    return _read_s1k(
        values, teacher="gemini-2.0-flash-thinking-exp", thinking="\n".join(chains).strip(),
        response=_text(values, "attempt"),
    )  # fmt: skip


def _read_s1k_second(values: Values) -> Imported:
    return _read_s1k(
        values, teacher="deepseek-r1", thinking=_text(values, "deepseek_thinking_trajectory"),
        response=_text(values, "deepseek_attempt"),
    )  # fmt: skip


def _read_limo(values: Values) -> Imported:
    thinking, response = split_text(_text(values, "solution"))
    answer = optional_text(values.get("answer"), "answer")
    problem = _problem(values, question=_text(values, "question"), answer=answer, source="limo")
    return Imported(problem=problem, thinking=thinking, response=response)


def _read_chain(values: Values) -> Imported:
    """Columns question, thinking, response, answer, model, source; one of the texts may be null."""
    thinking = optional_text(values.get("thinking"), "thinking")
    response = optional_text(values.get("response"), "response")
    if thinking is None or response is None:
        thinking, response = split_text(thinking or response or "")
    problem = _problem(
        values, question=_text(values, "question"),
        answer=optional_text(values.get("answer"), "answer"),
        source=optional_text(values.get("source"), "source") or "import",
    )  # fmt: skip
    teacher = optional_text(values.get("model"), "model")
    return Imported(problem=problem, thinking=thinking, response=response, teacher=teacher)


def _read_sharegpt(values: Values) -> Imported:
    """One question and one reply, after any system turn."""
    turns = values.get("conversations") or values.get("messages")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise UnusableValue("`conversations` is not a list of turns")
    said = [(turn.get("from", turn.get("role")), turn) for turn in turns]
    said = [(who, turn) for who, turn in said if who != "system"]
    speakers = [who for who, _ in said]
    if speakers not in (["human", "gpt"], ["user", "assistant"]):
        raise UnusableValue("the conversation is not one question and one reply")
    question, reply = (_text(turn, "value" if "value" in turn else "content") for _, turn in said)
    thinking, response = split_text(reply)
    answer = optional_text(values.get("answer"), "answer")
    problem = _problem(values, question=question, answer=answer, source="sharegpt")
    return Imported(problem=problem, thinking=thinking, response=response)


def _read_alpaca(values: Values) -> Imported:
    more = optional_text(values.get("input"), "input")
    question = _text(values, "instruction") + (f"\n{more}" if more else "")
    thinking, response = split_text(_text(values, "output"))
    answer = optional_text(values.get("answer"), "answer")
    problem = _problem(values, question=question, answer=answer, source="alpaca")
    return Imported(problem=problem, thinking=thinking, response=response)


FORMS: dict[str, ChainFormat] = {
    "slowthink": ChainFormat(("problem", "thinking", "response", "teacher"), _read_slowthink),
    "s1k-1.1": ChainFormat(
        ("question", "deepseek_thinking_trajectory", "deepseek_attempt"), _read_s1k_second
    ),
    "s1k": ChainFormat(("question", "thinking_trajectories", "attempt"), _read_s1k_first),
    "chain": ChainFormat(("question", "thinking", "response"), _read_chain),
    "limo": ChainFormat(("question", "solution", "answer"), _read_limo),
    "sharegpt": ChainFormat(("conversations",), _read_sharegpt),
    "messages": ChainFormat(("messages",), _read_sharegpt),
    "alpaca": ChainFormat(("instruction", "output"), _read_alpaca),
}
"""By name, the most particular first: `auto` takes the first whose columns a row has."""


def form_of(columns: list[str]) -> ChainFormat | None:
    """The form of a row with these columns; None where it has none."""
    fitting = (form for form in FORMS.values() if set(form.columns) <= set(columns))
    return next(fitting, None)
