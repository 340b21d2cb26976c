"""The forms of others' samples, as a table of readers: a row becomes one or more samples.

{"doc_id": 7, "doc": {…}, "target": "42", "arguments": {…}, "resps": [["…", "…"]], …}      lm-eval
{"id": 7, "epoch": 1, "input": "…", "target": "42", "output": {"choices": […]}, …}         inspect
{"problem": "…", "expected_answer": "42", "generation": "…"}                           nemo-skills
{"problem_id": "7", "question": "…", "answer": "42", "sample": 0, "response": "…"}         generic
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.data.rows import UnusableValue, optional_text, text_list, text_value
from slowthink.data.stored import columns
from slowthink.data.stored.columns import (
    Values,
    filled_column,
    first_value,
    parse_label,
    parse_number,
    read_choices,
    reference_answer,
)
from slowthink.data.stored.samples import SEPARATE_COLUMN, StoredSample, TextParts, split_text
from slowthink.records import Verdict

UNNUMBERED = -1
"""The row gives no number; the reader counts."""
LABELS = ("exact_match", "math_verify", "acc", "accuracy", "score")
"""Metrics of lm-eval that say right or wrong, the likeliest first."""


@dataclass(frozen=True)
class SampleFormat:
    """One form of rows."""

    name: str
    columns: tuple[tuple[str, ...], ...]
    """A row that fills one column of each group may be of this form."""
    read: Callable[[Values], list[StoredSample]]
    """Raises ValueProblem where a value cannot be used."""


def detect_format(values: Values) -> SampleFormat | None:
    """The form of a row; None where it has none."""
    return next(
        (f for f in FORMATS if all(filled_column(values, group) for group in f.columns)), None
    )


# --- rows with a question and a response ----------------------------------------------------------


def _read_plain(values: Values) -> list[StoredSample]:
    """One sample, or several where the response is a list; its labels and scores then are too."""
    question, choices = columns.read_question(values), read_choices(values)
    name = filled_column(values, (*columns.RESPONSE, *columns.RESPONSES)) or "response"
    found = values[name]
    texts = list(text_list(found, name)) if isinstance(found, list) else [text_value(found, name)]
    if not texts:
        raise UnusableValue(f"`{name}` is empty")
    return [
        _plain_sample(
            {column: _one(value, place, len(texts)) for column, value in values.items()},
            text, question=question, choices=choices,
            answer=reference_answer(first_value(values, columns.ANSWER), choices),
        )
        for place, text in enumerate(texts)
    ]  # fmt: skip


def _one(value: Any, place: int, num: int) -> Any:
    """A sample's own value of a column that has one for each."""
    return value[place] if isinstance(value, list) and len(value) == num else value


def _plain_sample(
    values: Values, text: str, *, question: str, choices: tuple[str, ...], answer: str | None
) -> StoredSample:
    thinking = optional_text(first_value(values, columns.THINKING), "thinking")
    parts = with_thinking(split_text(text), thinking)
    temperature = parse_number(first_value(values, columns.TEMPERATURE))
    return StoredSample(
        question=question, choices=choices, answer=answer,
        response=parts.response, thinking=parts.thinking, closing=parts.closing,
        sample=_number_of(values), score=parse_number(first_value(values, columns.SCORE)),
        labelled_correct=parse_label(first_value(values, columns.CORRECT)),
        problem_row=_id_of(values), model=_name(first_value(values, columns.MODEL)),
        truncated=is_truncated(columns.hit_limit(values), parts),
        num_tokens=columns.parse_count(first_value(values, columns.NUM_TOKENS)),
        temperature=temperature,
    )  # fmt: skip


def with_thinking(parts: TextParts, thinking: str | None) -> TextParts:
    """The parts with thinking that the file keeps apart."""
    if thinking is None:
        return parts
    return TextParts(thinking, parts.closing or (SEPARATE_COLUMN if parts.response.strip() else ""),
                 parts.response)  # fmt: skip


def is_truncated(told: bool | None, parts: TextParts) -> bool | None:
    """Whether the text was cut off; thinking that never closed was, whatever else is known."""
    return True if parts.unfinished else told


def _number_of(values: Values) -> int:
    found = columns.parse_count(first_value(values, columns.SAMPLE))
    return UNNUMBERED if found is None else found


def _id_of(values: Values) -> str:
    found = first_value(values, columns.ROW_ID)
    return str(found) if isinstance(found, (str, int)) else ""


def _name(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


# --- lm-evaluation-harness ------------------------------------------------------------------------


def _read_lm_eval(values: Values) -> list[StoredSample]:
    """The samples of one document: `resps` has a list for each request, longer with `repeats`.

    After evaluator.py and loggers/evaluation_tracker.py of EleutherAI/lm-evaluation-harness 0.4.
    """
    doc = values.get("doc")
    doc = doc if isinstance(doc, Mapping) else {}
    texts, choices = _responses(values["resps"]), read_choices(doc)
    own = values.get("slowthink")
    own = own if isinstance(own, Mapping) else {}
    prompt, settings = _arguments(values.get("arguments"))
    told = first_value(doc, columns.ANSWER)
    index = isinstance(told, int) and bool(choices)
    key = reference_answer(told if index or not values.get("target") else values["target"], choices)
    common: dict[str, Any] = {
        "question": _question(doc, prompt), "choices": choices, "answer": key,
        "problem_row": _id_of(doc) or str(values.get("doc_id", "")),
        "temperature": _temperature(settings), "model": _name(own.get("model")),
    }  # fmt: skip
    ours = own.get("samples")
    if isinstance(ours, list) and len(ours) == len(texts):
        return [_own_sample(text, one, common) for text, one in zip(texts, ours, strict=True)]
    label = _label(values) if len(texts) == 1 else None
    return [_harness_sample(text, label, common) for text in texts]


def _harness_sample(text: str, label: bool | None, common: Mapping[str, Any]) -> StoredSample:
    parts = split_text(text)
    return StoredSample(
        **common, response=parts.response, thinking=parts.thinking, closing=parts.closing,
        sample=UNNUMBERED, labelled_correct=label, truncated=is_truncated(None, parts),
    )  # fmt: skip


def _own_sample(text: str, told: Any, common: Mapping[str, Any]) -> StoredSample:
    """A sample that slowthink wrote: the block beside it says where its parts begin."""
    if not isinstance(told, Mapping):
        raise UnusableValue("`slowthink.samples` is not a list of objects")
    parts = _own_parts(
        text, *(columns.parse_count(told.get(at)) for at in ("closing_at", "answer_at"))
    )
    verdict, number_told = told.get("verdict"), columns.parse_count(told.get("sample"))
    counts = [
        columns.parse_count(told.get(f"num_{part}_tokens")) for part in ("thinking", "answer")
    ]
    return StoredSample(
        **common, response=parts.response, thinking=parts.thinking, closing=parts.closing,
        sample=UNNUMBERED if number_told is None else number_told,
        score=parse_number(told.get("score")),
        labelled_correct=_verdict_label(verdict), truncated=verdict == Verdict.TRUNCATED.value,
        num_tokens=None if None in counts else sum(c for c in counts if c is not None),
    )  # fmt: skip


def _own_parts(text: str, closing_at: int | None, answer_at: int | None) -> TextParts:
    """The parts as slowthink graded them; where nothing was forced, the delimiter is the text's."""
    if closing_at is None or answer_at is None:
        return split_text(text)
    thinking, closing = text[:closing_at], text[closing_at:answer_at]
    if not closing and (drawn := split_text(thinking)).closing:
        thinking, closing = drawn.thinking or "", drawn.closing + drawn.response
    return TextParts(thinking or None, closing, text[answer_at:])


def _verdict_label(verdict: Any) -> bool | None:
    if verdict not in [one.value for one in Verdict] or not Verdict(verdict).counts:
        return None
    return Verdict(verdict) is Verdict.CORRECT


def _responses(resps: Any) -> list[str]:
    if not isinstance(resps, list):
        raise UnusableValue("`resps` is not a list")
    texts = [text for one in resps for text in (one if isinstance(one, list) else [one])]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise UnusableValue("`resps` holds no generated text (log-likelihoods?)")
    return [text_value(text, "resps") for text in texts]


def _arguments(arguments: Any) -> tuple[str | None, Mapping[str, Any]]:
    """Prompt and settings of {"gen_args_0": {"arg_0": …, "arg_1": …}} or [[prompt, settings]]."""
    if isinstance(arguments, Mapping):
        arguments = [list(one.values()) for one in arguments.values() if isinstance(one, Mapping)]
    request = arguments[0] if isinstance(arguments, list) and arguments else []
    request = request if isinstance(request, list) else [request]
    settings = request[1] if len(request) > 1 and isinstance(request[1], Mapping) else {}
    return _prompt(request[0]) if request else None, settings


def _prompt(value: Any) -> str | None:
    """The prompt's text; of a chat, which is JSON within a list, the last thing the user says."""
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if not isinstance(value, str):
        return None
    if value.lstrip().startswith("[{"):
        try:
            turns = json.loads(value)
        except ValueError:
            return value
        return _last_said(turns) or value
    return value


def _last_said(turns: Any) -> str | None:
    """Text of the last turn of the user."""
    said = [t for t in turns if isinstance(t, Mapping) and t.get("role") == "user"]
    return content_text(said[-1].get("content"))[0] if said else None


def _question(doc: Values, prompt: str | None) -> str:
    names = [name for name in columns.QUESTION if isinstance(doc.get(name), str)]
    found = str(doc[names[0]]) if names else (prompt or "")
    if not found.strip():
        raise UnusableValue("neither `doc` nor `arguments` holds the question")
    return text_value(found, "question").strip()


def _temperature(settings: Mapping[str, Any]) -> float | None:
    return 0.0 if settings.get("do_sample") is False else parse_number(settings.get("temperature"))


def _label(values: Values) -> bool | None:
    """Right or wrong, by the first metric that says so."""
    metrics = values.get("metrics")
    named = [name for name in metrics if isinstance(name, str)] if isinstance(metrics, list) else []
    names = [*LABELS, *named]
    return next(
        (found for name in names if (found := parse_label(values.get(name))) is not None), None
    )


# --- inspect --------------------------------------------------------------------------------------


def _read_inspect(values: Values) -> list[StoredSample]:
    """One sample of an inspect log (`samples` of its JSON), by the fields of inspect_ai's log."""
    output = values["output"]
    told = output.get("choices") if isinstance(output, Mapping) else None
    choice = told[0] if isinstance(told, list) and told and isinstance(told[0], Mapping) else {}
    message = choice.get("message")
    text, thinking = content_text(message.get("content") if isinstance(message, Mapping) else None)
    if text is None:
        raise UnusableValue("`output` holds no completion")
    choices, asked = read_choices(values), values["input"]
    question = _last_said(asked) if isinstance(asked, list) else asked
    parts, epoch = (
        with_thinking(split_text(text), thinking),
        columns.parse_count(values.get("epoch")),
    )
    usage = output.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    return [
        StoredSample(
            question=text_value(question, "input").strip(), choices=choices,
            answer=reference_answer(values["target"], choices),
            response=parts.response, thinking=parts.thinking, closing=parts.closing,
            sample=epoch - 1 if epoch else UNNUMBERED, problem_row=_id_of(values),
            labelled_correct=_scored(values.get("scores")), model=_name(output.get("model")),
            truncated=is_truncated(columns.hit_limit(choice), parts),
            num_tokens=columns.parse_count(first_value(usage, columns.NUM_TOKENS)),
        )
    ]  # fmt: skip


def content_text(content: Any) -> tuple[str | None, str | None]:
    """Text and reasoning of a message: a string, or a list of typed parts."""
    if isinstance(content, str):
        return content, None
    if not isinstance(content, list):
        return None, None
    parts = [part for part in content if isinstance(part, Mapping)]
    return _joined(parts, "text"), _joined(parts, "reasoning")


def _joined(parts: Sequence[Mapping[str, Any]], kind: str) -> str | None:
    texts = [part.get(kind) for part in parts if part.get("type") == kind]
    found = [text for text in texts if isinstance(text, str)]
    return "\n".join(found) if found else None


def _scored(scores: Any) -> bool | None:
    """The first score's value: C or I, or a number."""
    score = next(iter(scores.values()), None) if isinstance(scores, Mapping) else None
    return parse_label(score.get("value")) if isinstance(score, Mapping) else None


FORMATS = (
    SampleFormat("lm-eval", (("resps",), ("doc", "arguments")), _read_lm_eval),
    SampleFormat(
        "inspect", (("input",), ("target",), ("output",), ("epoch", "scores")), _read_inspect
    ),
    SampleFormat("nemo-skills", (("problem",), ("expected_answer",), ("generation",)), _read_plain),
    SampleFormat(
        "generic", (columns.QUESTION, (*columns.RESPONSE, *columns.RESPONSES)), _read_plain
    ),
)
"""The most particular first: the first whose columns a row has reads it."""
