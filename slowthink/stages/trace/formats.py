r"""The row formats of published chains: each reader turns a row into an `ImportedChain`.

{"question": "…", "solution": "Okay, so … **Final Answer**\n\\boxed{802}", "answer": "802"}   limo
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from slowthink.data.rows import UnusableValue, optional_text, text_value
from slowthink.grading.extract import extract, last_box
from slowthink.records import Budget, Problem, Trace, duplicate_key, problem_id
from slowthink.serialise import from_plain

RowValues = dict[str, Any]

THINKING_DELIMITERS = (
    ("<think>", "</think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|im_start|>think", "<|im_start|>answer"),
)
"""Opening and closing delimiters of thinking; some published chains lack the opening one."""
RESPONSE_DELIMITERS = ("<|begin_of_solution|>", "<|end_of_solution|>", "<|im_end|>")
"""Delimiters around a response, which are removed."""
FINAL_ANSWER_HEADING = "**Final Answer**"
"""Start of the response in R1's chains that lost their delimiters."""
MAX_SHORT_ANSWER = 64
"""A solution of one line and at most this many characters is itself an answer."""


@dataclass(frozen=True, kw_only=True)
class ImportedChain:
    """A chain and its problem, as given by a row."""

    problem: Problem
    """Used if the recipe has no pool of its own."""
    thinking: str
    response: str
    teacher: str | None = None


@dataclass(frozen=True)
class ChainFormat:
    """A format of rows and its reader."""

    columns: tuple[str, ...]
    """Every row of this format has all of these."""
    read: Callable[[RowValues], ImportedChain]
    """Raises UnusableValue if a value cannot be used."""


def state_answer(answer: str) -> str:
    """A response that states the answer after the cue that budget forcing inserts."""
    return f"{Budget(waits=0).final_answer_cue} {answer}"


def split_thinking(text: str) -> tuple[str, str]:
    """The thinking and the response in one text. Without a delimiter, all of the text is thinking,
    and the response restates its answer.

    Raises UnusableValue if there is neither a delimiter nor an answer.
    """
    for opening, closing in THINKING_DELIMITERS:
        if closing in text:
            before, _, response = text.partition(closing)
            for wrapper in RESPONSE_DELIMITERS:
                response = response.replace(wrapper, "")
            return before.partition(opening)[2].strip() or before.strip(), response.strip()
    if FINAL_ANSWER_HEADING in text:
        before, _, after = text.rpartition(FINAL_ANSWER_HEADING)
        return before.strip(), FINAL_ANSWER_HEADING + after.rstrip()
    answer = extract(text)
    if answer is None:
        raise UnusableValue("the chain states no answer")
    return text.strip(), state_answer(answer)


def answer_in_solution(solution: str | None) -> str | None:
    """The answer in a solution: its last box, or all of it if it is one short line."""
    if solution is None:
        return None
    boxed = last_box(solution)
    if boxed is not None:
        return boxed
    is_answer = "\n" not in solution and len(solution) <= MAX_SHORT_ANSWER
    return solution if is_answer else None


def _make_problem(values: RowValues, *, question: str, **fields: Any) -> Problem:
    question = question.strip()
    if not question:
        raise UnusableValue("the question is empty")
    return Problem(
        id=problem_id(question),
        duplicate_key=duplicate_key(question),
        question=question,
        source_row=str(values.get("id", "")),
        **fields,
    )


def _require(values: RowValues, column: str) -> str:
    """The text in a column. Raises UnusableValue if there is none."""
    value = values.get(column)
    if value is None:
        raise UnusableValue(f"`{column}` is missing or empty")
    return text_value(value, column)


# --- readers --------------------------------------------------------------------------------------


def _read_slowthink(values: RowValues) -> ImportedChain:
    problem = values.get("problem")
    if not isinstance(problem, dict):
        raise UnusableValue("not a Trace row (`problem` is no object)")
    texts = [_require(problem, "question")]
    texts += [_require(values, column) for column in ("thinking", "response")]
    if not all(text.strip() for text in texts):
        raise UnusableValue("question, thinking or response is empty")
    optional_text(problem.get("answer"), "answer")
    try:
        trace = from_plain(Trace, values)
    except (KeyError, TypeError, ValueError) as error:
        raise UnusableValue(f"not a Trace row ({type(error).__name__})") from None
    return ImportedChain(
        problem=trace.problem,
        thinking=trace.thinking,
        response=trace.response,
        teacher=trace.teacher,
    )


def _read_s1k(values: RowValues, *, teacher: str, thinking: str, response: str) -> ImportedChain:
    solution = optional_text(values.get("solution"), "solution")
    source = optional_text(values.get("source_type"), "source_type")
    problem = _make_problem(
        values, question=_require(values, "question"), answer=answer_in_solution(solution),
        answer_derived=True, source=source or "s1k",
    )  # fmt: skip
    return ImportedChain(problem=problem, thinking=thinking, response=response, teacher=teacher)


def _read_s1k_1_0(values: RowValues) -> ImportedChain:
    parts = values.get("thinking_trajectories")
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise UnusableValue("`thinking_trajectories` is not a list of strings")
    return _read_s1k(
        values, teacher="gemini-2.0-flash-thinking-exp", thinking="\n".join(parts).strip(),
        response=_require(values, "attempt"),
    )  # fmt: skip


def _read_s1k_1_1(values: RowValues) -> ImportedChain:
    return _read_s1k(
        values, teacher="deepseek-r1", thinking=_require(values, "deepseek_thinking_trajectory"),
        response=_require(values, "deepseek_attempt"),
    )  # fmt: skip


def _read_chain(values: RowValues) -> ImportedChain:
    """Columns question, thinking, response, answer, model, source; one of the texts may be null."""
    thinking = optional_text(values.get("thinking"), "thinking")
    response = optional_text(values.get("response"), "response")
    if thinking is None or response is None:
        thinking, response = split_thinking(thinking or response or "")
    problem = _make_problem(
        values, question=_require(values, "question"),
        answer=optional_text(values.get("answer"), "answer"),
        source=optional_text(values.get("source"), "source") or "import",
    )  # fmt: skip
    teacher = optional_text(values.get("model"), "model")
    return ImportedChain(problem=problem, thinking=thinking, response=response, teacher=teacher)


def _read_limo(values: RowValues) -> ImportedChain:
    solution = _require(values, "solution")
    return _make_chain(values, question=_require(values, "question"), text=solution, source="limo")


def _read_sharegpt(values: RowValues) -> ImportedChain:
    """Conversations of one question and one reply, after any system turns."""
    turns = values.get("conversations") or values.get("messages")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise UnusableValue("`conversations` is not a list of turns")
    turns = [turn for turn in turns if turn.get("from", turn.get("role")) != "system"]
    roles = [turn.get("from", turn.get("role")) for turn in turns]
    if roles not in (["human", "gpt"], ["user", "assistant"]):
        raise UnusableValue("the conversation is not one question and one reply")
    question, reply = (_require(turn, "value" if "value" in turn else "content") for turn in turns)
    return _make_chain(values, question=question, text=reply, source="sharegpt")


def _read_alpaca(values: RowValues) -> ImportedChain:
    input = optional_text(values.get("input"), "input")
    question = _require(values, "instruction") + (f"\n{input}" if input else "")
    return _make_chain(values, question=question, text=_require(values, "output"), source="alpaca")


def _make_chain(values: RowValues, *, question: str, text: str, source: str) -> ImportedChain:
    """A chain with its thinking and response in one text."""
    thinking, response = split_thinking(text)
    answer = optional_text(values.get("answer"), "answer")
    problem = _make_problem(values, question=question, answer=answer, source=source)
    return ImportedChain(problem=problem, thinking=thinking, response=response)


CHAIN_FORMATS: dict[str, ChainFormat] = {
    "slowthink": ChainFormat(("problem", "thinking", "response", "teacher"), _read_slowthink),
    "s1k-1.1": ChainFormat(
        ("question", "deepseek_thinking_trajectory", "deepseek_attempt"), _read_s1k_1_1
    ),
    "s1k": ChainFormat(("question", "thinking_trajectories", "attempt"), _read_s1k_1_0),
    "chain": ChainFormat(("question", "thinking", "response"), _read_chain),
    "limo": ChainFormat(("question", "solution", "answer"), _read_limo),
    "sharegpt": ChainFormat(("conversations",), _read_sharegpt),
    "messages": ChainFormat(("messages",), _read_sharegpt),
    "alpaca": ChainFormat(("instruction", "output"), _read_alpaca),
}
"""Formats by name, most specific first: `auto` uses the first one whose columns a row has."""


def detect_format(columns: Collection[str]) -> ChainFormat | None:
    """The format of a row with these columns; None if it is of no format."""
    matching = (f for f in CHAIN_FORMATS.values() if set(f.columns) <= set(columns))
    return next(matching, None)
