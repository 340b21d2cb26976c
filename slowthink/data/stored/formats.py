"""Formats of stored samples, as a table of readers: a row becomes one or more samples.

{"doc_id": 7, "doc": {…}, "target": "42", "arguments": {…}, "resps": [["…", "…"]], …}      lm-eval
{"id": 7, "epoch": 1, "input": "…", "target": "42", "output": {"choices": […]}, …}         inspect
{"problem": "…", "expected_answer": "42", "generation": "…"}                           nemo-skills
{"problem_id": "7", "question": "…", "answer": "42", "sample": 0, "response": "…"}         generic
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from slowthink.data.messages import join_thinking, read_content, read_message, thinking_field
from slowthink.data.rows import UnusableValue, parse_number, text_list, text_value
from slowthink.data.stored import columns
from slowthink.data.stored.columns import (
    Values,
    filled_column,
    first_value,
    parse_label,
    read_choices,
    reference_answer,
)
from slowthink.data.stored.samples import StoredSample
from slowthink.grading.thinking import TextParts, split_text
from slowthink.records import Verdict

UNNUMBERED = -1
"""The row has no sample number; `SampleReader` assigns one."""
CORRECTNESS_METRICS = ("exact_match", "math_verify", "acc", "accuracy", "score")
"""Metrics of lm-eval that are 1 for a right answer, the likeliest first."""


@dataclass(frozen=True)
class SampleFormat:
    """One format of rows."""

    name: str
    columns: tuple[tuple[str, ...], ...]
    """The alternative names of each column that a row of this format has."""
    read: Callable[[Values], list[StoredSample]]
    """Raises UnusableValue if a value cannot be used."""


def detect_format(values: Values) -> SampleFormat | None:
    """The first format whose columns the row has; None if there is none."""
    return next(
        (f for f in FORMATS if all(filled_column(values, names) for names in f.columns)), None
    )


# --- rows with a question and a response ----------------------------------------------------------


def _read_plain(values: Values) -> list[StoredSample]:
    """One sample, or several if the response is a list; other columns may then be lists too."""
    question, choices = columns.read_question(values), read_choices(values)
    name = filled_column(values, (*columns.RESPONSE, *columns.RESPONSES)) or "response"
    value = values[name]
    if isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
        value, thinking = read_content(value)  # the typed parts of one response
        values = {**values, "thinking": thinking} if thinking else values
    texts = list(text_list(value, name)) if isinstance(value, list) else [text_value(value, name)]
    if not texts:
        raise UnusableValue(f"`{name}` is empty")
    return [
        _plain_sample(
            {column: _sample_value(value, index, len(texts)) for column, value in values.items()},
            text, question=question, choices=choices,
            answer=reference_answer(first_value(values, columns.ANSWER), choices),
        )
        for index, text in enumerate(texts)
    ]  # fmt: skip


def _sample_value(value: Any, index: int, num_samples: int) -> Any:
    """One sample's value of a column, which may be a list with a value for each sample."""
    return value[index] if isinstance(value, list) and len(value) == num_samples else value


def _plain_sample(
    values: Values, text: str, *, question: str, choices: tuple[str, ...], answer: str | None
) -> StoredSample:
    parts = join_thinking(text, thinking_field(values)[0] or None)
    temperature = parse_number(first_value(values, columns.TEMPERATURE))
    return StoredSample(
        question=question, choices=choices, answer=answer,
        response=parts.response, thinking=parts.thinking, closing=parts.closing,
        opened=parts.opened,
        sample=_sample_number(values), score=parse_number(first_value(values, columns.SCORE)),
        labelled_correct=parse_label(first_value(values, columns.CORRECT)),
        problem_row=_problem_row(values), model=_model_name(first_value(values, columns.MODEL)),
        truncated=is_truncated(columns.hit_limit(values), parts),
        num_tokens=columns.parse_count(first_value(values, columns.NUM_TOKENS)),
        temperature=temperature,
    )  # fmt: skip


def is_truncated(hit_limit: bool | None, parts: TextParts) -> bool | None:
    """Whether the text is truncated: a limit ended it, or thinking never ended. None: unknown."""
    return True if parts.unfinished else hit_limit


def _sample_number(values: Values) -> int:
    sample = columns.parse_count(first_value(values, columns.SAMPLE))
    return UNNUMBERED if sample is None else sample


def _problem_row(values: Values) -> str:
    row_id = first_value(values, columns.ROW_ID)
    return str(row_id) if isinstance(row_id, (str, int)) else ""


def _model_name(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


# --- lm-evaluation-harness ------------------------------------------------------------------------


def _read_lm_eval(values: Values) -> list[StoredSample]:
    """The samples of one document: `resps` has a list for each request, longer with `repeats`.

    After evaluator.py and loggers/evaluation_tracker.py of EleutherAI/lm-evaluation-harness 0.4.
    """
    doc, export = _mapping(values.get("doc")), _mapping(values.get("slowthink"))
    texts, choices = _response_texts(values["resps"]), read_choices(doc)
    prompt, settings = _parse_arguments(values.get("arguments"))
    answer = first_value(doc, columns.ANSWER)
    is_index = isinstance(answer, int) and bool(choices)
    if not is_index and values.get("target"):
        answer = values["target"]
    answer = reference_answer(answer, choices)
    common: dict[str, Any] = {
        "question": _question(doc, prompt), "choices": choices, "answer": answer,
        "problem_row": _problem_row(doc) or str(values.get("doc_id", "")),
        "temperature": _temperature(settings), "model": _model_name(export.get("model")),
    }  # fmt: skip
    exported = export.get("samples")
    if isinstance(exported, list) and len(exported) == len(texts):
        pairs = zip(texts, exported, strict=True)
        return [_exported_sample(text, sample, common) for text, sample in pairs]
    labelled_correct = _correct_by_metric(values) if len(texts) == 1 else None
    return [_harness_sample(text, labelled_correct, common) for text in texts]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _harness_sample(
    text: str, labelled_correct: bool | None, common: Mapping[str, Any]
) -> StoredSample:
    parts = split_text(text)
    return StoredSample(
        **common, response=parts.response, thinking=parts.thinking, closing=parts.closing,
        opened=parts.opened,
        sample=UNNUMBERED, labelled_correct=labelled_correct, truncated=is_truncated(None, parts),
    )  # fmt: skip


def _exported_sample(text: str, exported: Any, common: Mapping[str, Any]) -> StoredSample:
    """A sample that slowthink exported: `exported` has the offsets of its parts."""
    if not isinstance(exported, Mapping):
        raise UnusableValue("`slowthink.samples` is not a list of objects")
    offsets = [columns.parse_count(exported.get(name)) for name in ("closing_at", "answer_at")]
    parts = _exported_parts(text, *offsets)
    verdict, sample = exported.get("verdict"), columns.parse_count(exported.get("sample"))
    counts = [
        columns.parse_count(exported.get(f"num_{part}_tokens")) for part in ("thinking", "answer")
    ]
    return StoredSample(
        **common, response=parts.response, thinking=parts.thinking, closing=parts.closing,
        opened=parts.opened, sample=UNNUMBERED if sample is None else sample,
        score=parse_number(exported.get("score")),
        labelled_correct=_correct_by_verdict(verdict), truncated=verdict == Verdict.TRUNCATED.value,
        num_tokens=None if None in counts else sum(filter(None, counts)),
    )  # fmt: skip


def _exported_parts(text: str, closing_at: int | None, answer_at: int | None) -> TextParts:
    """The parts as slowthink graded them; an unforced delimiter is part of the thinking."""
    if closing_at is None or answer_at is None:
        return split_text(text)
    thinking, closing = text[:closing_at], text[closing_at:answer_at]
    if not closing and (parts := split_text(thinking)).closing:
        thinking, closing = parts.thinking or "", parts.closing + parts.response
    return TextParts(thinking or None, closing, text[answer_at:])


def _correct_by_verdict(verdict: Any) -> bool | None:
    if verdict not in [each.value for each in Verdict] or not Verdict(verdict).is_counted:
        return None
    return Verdict(verdict) is Verdict.CORRECT


def _response_texts(resps: Any) -> list[str]:
    if not isinstance(resps, list):
        raise UnusableValue("`resps` is not a list")
    texts = [text for item in resps for text in (item if isinstance(item, list) else [item])]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise UnusableValue("`resps` holds no generated text (log-likelihoods?)")
    return [text_value(text, "resps") for text in texts]


def _parse_arguments(arguments: Any) -> tuple[str | None, Mapping[str, Any]]:
    """Prompt and settings of {"gen_args_0": {"arg_0": …, "arg_1": …}} or [[prompt, settings]]."""
    if isinstance(arguments, Mapping):
        arguments = [list(a.values()) for a in arguments.values() if isinstance(a, Mapping)]
    request = arguments[0] if isinstance(arguments, list) and arguments else []
    request = request if isinstance(request, list) else [request]
    settings = request[1] if len(request) > 1 and isinstance(request[1], Mapping) else {}
    return _prompt(request[0]) if request else None, settings


def _prompt(value: Any) -> str | None:
    """The prompt's text; of a chat, which is JSON in a list, the last user message."""
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if not isinstance(value, str):
        return None
    if value.lstrip().startswith("[{"):
        with suppress(ValueError):
            return _last_user_message(json.loads(value)) or value
    return value


def _last_user_message(messages: Any) -> str | None:
    users = [m for m in messages if isinstance(m, Mapping) and m.get("role") == "user"]
    content = users[-1].get("content") if users else None
    if isinstance(content, list):  # an image is no part of the text
        content = [part for part in content if _mapping(part).get("type") == "text"]
    return read_content(content)[0]


def _question(doc: Values, prompt: str | None) -> str:
    names = [name for name in columns.QUESTION if isinstance(doc.get(name), str)]
    question = str(doc[names[0]]) if names else (prompt or "")
    if not question.strip():
        raise UnusableValue("neither `doc` nor `arguments` holds the question")
    return text_value(question, "question").strip()


def _temperature(settings: Mapping[str, Any]) -> float | None:
    return 0.0 if settings.get("do_sample") is False else parse_number(settings.get("temperature"))


def _correct_by_metric(values: Values) -> bool | None:
    """Whether the answer is right, by the first metric that states it; None if none does."""
    metrics = values.get("metrics")
    listed = metrics if isinstance(metrics, list) else []
    names = [*CORRECTNESS_METRICS, *(name for name in listed if isinstance(name, str))]
    labels = (parse_label(values.get(name)) for name in names)
    return next((label for label in labels if label is not None), None)


# --- inspect --------------------------------------------------------------------------------------


def _read_inspect(values: Values) -> list[StoredSample]:
    """One sample of an inspect log (`samples` of its JSON), by the fields of inspect_ai's log."""
    output = _mapping(values["output"])
    completions = output.get("choices")
    completion = _mapping(completions[0] if isinstance(completions, list) and completions else None)
    message = _mapping(completion.get("message"))
    if message.get("content") is None:
        raise UnusableValue("`output` holds no completion")
    parts = read_message(message)
    choices, prompt = read_choices(values), values["input"]
    question = _last_user_message(prompt) if isinstance(prompt, list) else prompt
    epoch = columns.parse_count(values.get("epoch"))
    usage = _mapping(output.get("usage"))
    return [
        StoredSample(
            question=text_value(question, "input").strip(), choices=choices,
            answer=reference_answer(values["target"], choices),
            response=parts.response, thinking=parts.thinking, closing=parts.closing,
            opened=parts.opened,
            sample=epoch - 1 if epoch else UNNUMBERED, problem_row=_problem_row(values),
            labelled_correct=_correct_by_score(values.get("scores")),
            model=_model_name(output.get("model")),
            truncated=is_truncated(columns.hit_limit(completion), parts),
            num_tokens=columns.parse_count(first_value(usage, columns.NUM_TOKENS)),
        )
    ]  # fmt: skip


def _correct_by_score(scores: Any) -> bool | None:
    """The label of the first score, whose value is C, I or a number."""
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
"""The most specific first, since `detect_format` returns the first match."""
