r"""The row formats of published chains: each reader turns a row into an `ImportedChain`.

{"question": "…", "solution": "Okay, so … **Final Answer**\n\\boxed{802}", "answer": "802"}   limo
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from slowthink.data.language import question_language
from slowthink.data.messages import (
    THINKING_FIELDS,
    join_thinking,
    read_content,
    read_message,
    thinking_field,
)
from slowthink.data.rows import UnusableValue, optional_text, text_value
from slowthink.grading.boxes import last_box
from slowthink.grading.extract import extract_stated
from slowthink.grading.thinking import TextParts, remove_tags, split_text, unsplit_marks
from slowthink.records import Budget, Problem, Trace, duplicate_key, problem_id
from slowthink.serialise import from_plain

RowValues = dict[str, Any]

FINAL_ANSWER_HEADING = "**Final Answer**"
"""Start of the response in R1's chains that lost their delimiters."""
NO_ANSWER = "the chain states no answer"
_WRAPPED = re.compile(
    r"<(?P<tag>answer|response|solution|output|final|final_answer|final_response)>"
    r"(?P<inner>(?:(?!</?(?P=tag)>).)*)</(?P=tag)>",
    re.DOTALL | re.IGNORECASE,
)
_HEADED = re.compile(
    r"\s*#{1,6}\s*(?:thinking|reasoning|thoughts?|thought process|思考(?:过程)?)\s*:?[ \t]*\n(.+?)"
    r"\n#{1,6}\s*(?:final )?(?:response|answer|solution|output|回答|答案)\s*:?[ \t]*\n(.+)",
    re.DOTALL | re.IGNORECASE,
)
"""Headings in place of delimiters."""
_UNKNOWN_TAG = re.compile(
    r"\s*<(?!(?:p|em|strong|div|span|ul|ol|li|table|html|body|h[1-6]|code|pre|sub|sup|center|svg"
    r"|math|answer|response|solution|output|final\w*|step|[a-z])>)([A-Za-z][\w:-]*)>",
    re.IGNORECASE,
)
"""A tag that may be thinking's; not HTML's, an answer's or a letter."""
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
    notes: tuple[str, ...] = ()
    """What a reader of the row should know about the split."""
    unsplit: bool = False
    """The row gives one text: all of it is thinking, and the response restates its answer."""
    defect: str | None = None
    """What the chain lacks: an answer, an end of its thinking, or thinking."""


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


@dataclass(frozen=True, kw_only=True)
class ChainTexts:
    """Thinking and response of a row, and what a chain of it lacks."""

    thinking: str
    response: str
    unsplit: bool = False
    defect: str | None = None


def split_thinking(text: str) -> ChainTexts:
    """The thinking and the response in one text. Without a delimiter, all of the text is thinking,
    and the response restates its answer.

    Raises UnusableValue if the text is empty, or marks of other turns or channels remain.
    """
    return _check_parts(split_text(text))


def _check_parts(parts: TextParts) -> ChainTexts:
    """The thinking and the response of a text: see `split_thinking`."""
    if parts.thinking is None:
        return _split_unmarked(parts.response)
    _refuse_marks(parts)
    thinking, response = parts.thinking.strip(), without_wrapper(parts.response)
    defect = None
    if parts.unfinished:
        defect = "the thinking is never closed"
    elif not thinking:
        defect = "the thinking is empty"
    return ChainTexts(thinking=thinking, response=response, defect=defect)


def without_wrapper(response: str) -> str:
    """The response without tags around the whole of it: <answer>There are 54.</answer>."""
    wrapped = _WRAPPED.fullmatch(response.strip())
    return wrapped["inner"].strip() if wrapped else response.strip()


def _split_unmarked(text: str) -> ChainTexts:
    _refuse_marks(TextParts(None, "", text))
    if headed := _HEADED.fullmatch(text):
        return ChainTexts(thinking=headed[1].strip(), response=headed[2].strip())
    if (tag := _UNKNOWN_TAG.match(text)) and f"</{tag[1]}>" in text:
        raise UnusableValue(f"`{tag.group().strip()}` opens the text: is it thinking? Rename it")
    if FINAL_ANSWER_HEADING in text:
        before, _, after = text.rpartition(FINAL_ANSWER_HEADING)
        return ChainTexts(thinking=before.strip(), response=FINAL_ANSWER_HEADING + after.rstrip())
    if not text.strip():
        raise UnusableValue(NO_ANSWER)
    answer = extract_stated(text)
    if answer is None:
        return ChainTexts(thinking=text.strip(), response="", defect=NO_ANSWER)
    return ChainTexts(thinking=text.strip(), response=state_answer(answer), unsplit=True)


def _refuse_marks(parts: TextParts) -> None:
    if mark := unsplit_marks(parts):
        raise UnusableValue(f"`{mark}` is left in the response: it could not be split")


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
        language=question_language(values, question, default="en"),
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
        thinking=remove_tags(trace.thinking, trace.response),
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
    thinking = remove_tags(thinking, response)
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
    given, notes = thinking_field(values)
    response = optional_text(values.get("response"), "response") or ""
    if not response and given:
        parts = split_text(given)
        parts = replace(parts, notes=parts.notes + notes)
    else:
        parts = join_thinking(response, given, notes=notes)
    return _make_chain(
        values, parts, question=_require(values, "question"),
        source=optional_text(values.get("source"), "source") or "import",
        teacher=optional_text(values.get("model"), "model"),
    )  # fmt: skip


def _read_limo(values: RowValues) -> ImportedChain:
    parts = _text_parts(values, _require(values, "solution"))
    return _make_chain(values, parts, question=_require(values, "question"), source="limo")


def _read_sharegpt(values: RowValues) -> ImportedChain:
    """Conversations of one question and one reply, after any system turns."""
    turns = _fold_thoughts(_turns(values))
    if len(turns) != 2 or (_role(turns[0]), _role(turns[1])) not in _ROLES:
        raise UnusableValue("the conversation is not one question and one reply")
    field = _content_field(turns[0])
    question, thinking = read_content(_unwrap(turns[0], field))
    if thinking is not None or not question:
        raise UnusableValue(f"`{field}` of the question is missing or not a text")
    return _make_chain(values, _reply_parts(values, turns[1]), question=question, source="sharegpt")


_SYSTEM_ROLES = frozenset({"system", "developer"})
_THOUGHT_ROLES = frozenset({"thinking", "reasoning", "thought", "analysis"})
_ROLES = frozenset(
    (asker, replier)
    for asker in ("human", "user", "prompter")
    for replier in ("gpt", "assistant", "model", "bot", "chatgpt")
)
_READ_KEYS = frozenset(
    {
        "role",
        "from",
        "content",
        "value",
        "parts",
        "name",
        "id",
        "weight",
        "loss",
        "train",
        *THINKING_FIELDS,
    }
)


def _turns(values: RowValues) -> list[RowValues]:
    """The turns of a conversation without system turns; of a log of requests, with the reply."""
    request, response = values.get("request"), values.get("response")
    names = ("conversations", "messages", "conversation")
    turns = next((values[name] for name in names if values.get(name)), None)
    if turns is None and isinstance(request, dict):
        turns = (request.get("body") or request).get("messages")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise UnusableValue("`conversations` is not a list of turns")
    reply = values if "choices" in values else response
    reply = reply.get("body", reply) if isinstance(reply, dict) else {}
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], dict):
        message = choices[0].get("message")
        if isinstance(message, dict):
            turns = [*turns, {"role": "assistant"} | message]
    return [turn for turn in turns if _role(turn) not in _SYSTEM_ROLES]


def _fold_thoughts(turns: list[RowValues]) -> list[RowValues]:
    """The turns; thinking that is a turn of its own becomes a field of the reply after it."""
    thoughts = turns[1:-1]
    if not thoughts or not all(
        _role(turn) in _THOUGHT_ROLES or turn.get("channel") == "analysis" for turn in thoughts
    ):
        return turns
    contents = [read_content(turn.get(_content_field(turn)))[0] or "" for turn in thoughts]
    own = thinking_field(turns[-1])[0] or ""
    return [turns[0], turns[-1] | {"reasoning_content": "\n".join(filter(None, [*contents, own]))}]


def _content_field(turn: RowValues) -> str:
    return next((name for name in ("value", "content", "parts") if name in turn), "content")


def _role(turn: RowValues) -> Any:
    role = turn.get("from", turn.get("role"))
    return role if isinstance(role, str) else None


def _unwrap(turn: RowValues, field: str) -> Any:
    value = turn.get(field)
    if value is None:
        raise UnusableValue(f"`{field}` is missing or empty")
    if not isinstance(value, (str, list, dict)):
        return text_value(value, field)
    return value


def _reply_parts(values: RowValues, turn: RowValues) -> TextParts:
    """The parts of a reply; its thinking may also stand in the row. Keys not read are noted."""
    if turn.get("tool_calls"):
        raise UnusableValue("the reply calls a tool")
    field = _content_field(turn)
    parts = read_message({**turn, field: _unwrap(turn, field)}, content_field=field)
    texts = {key for key, value in turn.items() if isinstance(value, str) and len(value) > 20}
    notes = tuple(f"`{key}` of the reply is not read" for key in sorted(texts - _READ_KEYS))
    if parts.thinking is None:
        given, field_notes = thinking_field(values, any_name=True)
        parts = join_thinking(parts.response, given, notes=parts.notes + field_notes)
    return replace(parts, notes=parts.notes + notes)


def _read_alpaca(values: RowValues) -> ImportedChain:
    input = optional_text(values.get("input"), "input")
    question = _require(values, "instruction") + (f"\n{input}" if input else "")
    output, thinking = read_content(_unwrap(values, "output"))
    parts = _text_parts(values, output or "", thinking)
    return _make_chain(values, parts, question=question, source="alpaca")


def _text_parts(values: RowValues, text: str, thinking: str | None = None) -> TextParts:
    """The parts of a text; its thinking may stand in a column of its own."""
    given, notes = thinking_field(values, any_name=True)
    return join_thinking(text, thinking, given, notes=notes)


def _make_chain(
    values: RowValues, parts: TextParts, *, question: str, source: str, teacher: str | None = None
) -> ImportedChain:
    texts = _check_parts(parts)
    answer = optional_text(values.get("answer"), "answer")
    problem = _make_problem(values, question=question, answer=answer, source=source)
    return ImportedChain(
        problem=problem, thinking=texts.thinking, response=texts.response, teacher=teacher,
        notes=parts.notes, unsplit=texts.unsplit, defect=texts.defect,
    )  # fmt: skip


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
    names = set(columns) | ({"thinking"} if set(columns) & set(THINKING_FIELDS) else set())
    if "conversation" in names or {"request", "response"} <= names:
        names.add("messages")
    return next((f for f in CHAIN_FORMATS.values() if set(f.columns) <= names), None)
