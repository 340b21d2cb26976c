"""A run's samples in the format of lm-evaluation-harness.

Other tools read these files, and so does an arm with `samples: PATH` (`data.stored.read_stored`).

DIR/tuned/samples_aime24_limo-v1_t0.7_cap001024_waits0.jsonl, one row per problem:
{"doc_id": 0, "doc": {"question": "…", "answer": "204", …}, "target": "204", "resps": [["…", "…"]],
 "filtered_resps": [["204", "210"]], "exact_match": 0.5, …, "slowthink": {"waits": 0, …}}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from slowthink.export.samples import Choices, safe_name, sample_text, write_samples
from slowthink.records import Verdict, group_by
from slowthink.serialise import plain
from slowthink.stage_rows import EvaluationRow

FILTER_NAME = "slowthink"
NO_ANSWER = "[invalid]"
"""lm-eval's placeholder for an answer that its filter did not find."""
MAX_ROW_CHARS = 1_500_000
"""Maximum length of one problem's samples on a line; more are written on further lines with the
same `doc_id`."""

POINT_FIELDS = ("arm", "model", "benchmark", "protocol", "max_thinking_tokens", "waits", "forced")
SAMPLE_FIELDS = (
    "verdict", "method", "extracted", "last_number", "score", "thinking_end", "answer_end",
    "num_thinking_tokens", "num_answer_tokens", "num_forced_tokens", "count_source",
    "num_waits_used", "violations",
)  # fmt: skip
"""Fields of a row that lm-eval has no place for."""


def export_lm_eval(root: Path, target: Path) -> dict[str, Any]:
    """Write a run's samples: see `write_samples`."""

    def text(rows: Sequence[EvaluationRow], choices: Choices) -> str:
        return "".join(
            f"{json.dumps(row, ensure_ascii=False)}\n" for row in harness_rows(rows, choices)
        )

    return write_samples(root, target, name=file_name, text=text)


def file_name(row: EvaluationRow) -> str:
    """Path of the file with this row: arm/samples_BENCHMARK_PROTOCOL_tT_capN_waitsN.jsonl."""
    point = f"_cap{row.max_thinking_tokens:06d}_waits{row.waits}"
    if not row.forced:
        point = f"_free{row.max_thinking_tokens:06d}" if row.max_thinking_tokens else ""
    name = f"samples_{row.benchmark}_{row.protocol}_t{row.temperature:g}{point}.jsonl"
    return f"{safe_name(row.arm)}/{safe_name(name)}"


def harness_rows(rows: Sequence[EvaluationRow], choices: Choices) -> Iterable[dict[str, Any]]:
    """One row per problem, in order; `choices` are answer options by problem id."""
    groups = group_by(rows, lambda row: row.problem_id)
    for doc_id, (problem_id, group) in enumerate(groups.items()):
        for part in _split_long(group):
            yield _harness_row(doc_id, part, choices.get(problem_id, ()))


def _split_long(rows: Sequence[EvaluationRow]) -> list[list[EvaluationRow]]:
    """Split one problem's rows into parts of at most MAX_ROW_CHARS characters, or of one row."""
    parts: list[list[EvaluationRow]] = [[]]
    num_chars = 0
    for row in rows:
        num_chars += len(row.segments)
        if parts[-1] and num_chars > MAX_ROW_CHARS:
            parts.append([])
            num_chars = len(row.segments)
        parts[-1].append(row)
    return parts


def _harness_row(
    doc_id: int, rows: Sequence[EvaluationRow], choices: tuple[str, ...]
) -> dict[str, Any]:
    first, gold = rows[0], rows[0].gold or ""
    doc: dict[str, Any] = {
        "question": first.question,
        "answer": gold,
        "problem_id": first.problem_id,
    }
    doc |= {"choices": list(choices)} if choices else {}
    settings = {"temperature": first.temperature, "do_sample": first.temperature > 0}
    is_correct = [row.verdict is Verdict.CORRECT for row in rows if row.verdict.is_counted]
    extracted = [row.extracted if row.extracted is not None else NO_ANSWER for row in rows]
    return {
        "doc_id": doc_id,
        "doc": doc,
        "target": gold,
        "arguments": {"gen_args_0": {"arg_0": first.question, "arg_1": settings}},
        "resps": [[sample_text(row) for row in rows]],
        "filtered_resps": extracted if len(extracted) == 1 else [extracted],
        "filter": FILTER_NAME,
        "metrics": ["exact_match"],
        "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(first.question),
        "target_hash": _hash(gold),
        "exact_match": sum(is_correct) / len(is_correct) if is_correct else None,
        "slowthink": {
            **{name: getattr(first, name) for name in POINT_FIELDS},
            "samples": [_sample_fields(row) for row in rows],
        },
    }


def _sample_fields(row: EvaluationRow) -> dict[str, Any]:
    """Fields of one sample; `closing_at` and `answer_at` are character offsets in its text."""
    values, text, segments = plain(row), sample_text(row), json.loads(row.segments)
    answer_at = len(text) - len(row.answer) if text.endswith(row.answer) else None
    num_thinking_chars = sum(len(text) for kind, text in segments if kind in ("thinking", "wait"))
    return {
        "sample": row.sample,
        "closing_at": None if answer_at is None else min(num_thinking_chars, answer_at),
        "answer_at": answer_at,
        **{name: values[name] for name in SAMPLE_FIELDS},
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
