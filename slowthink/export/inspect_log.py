"""A run's samples as logs of Inspect (inspect_ai), version 2 of its JSON form.

DIR/tuned/2026-11-28T11-56-43+00-00_aime24-limo-v1-t0.7-cap001024-waits0_3f2a….json; a problem is a
sample, its Nth sample an epoch. Read them with `inspect view --log-dir DIR`.
"""

from __future__ import annotations

import datetime
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slowthink.environment import __version__
from slowthink.export.samples import FILE_FIELDS, Choices, safe_name, write_samples
from slowthink.records import AnswerEnd, ThinkingEnd, Verdict, group_by
from slowthink.serialise import digest, is_file, plain
from slowthink.stage_rows import EvaluationRow

LOG_VERSION = 2
SCORER = "slowthink"
SCORES = {
    Verdict.CORRECT: "C", Verdict.WRONG: "I", Verdict.NO_ANSWER: "N", Verdict.TRUNCATED: "I",
}  # fmt: skip
"""Inspect's values. Other verdicts are no score: they are in no denominator."""
STOP_REASONS = {AnswerEnd.STOP: "stop", AnswerEnd.LENGTH: "max_tokens", AnswerEnd.ERROR: "unknown"}
SAMPLE_FIELDS = (
    "verdict", "method", "score", "thinking_end", "answer_end", "num_thinking_tokens",
    "num_answer_tokens", "num_forced_tokens", "num_closing_tokens", "count_source",
    "num_waits_used", "violations", "source", "domain",
)  # fmt: skip
"""Fields of a row that Inspect has no place for: a sample's metadata, with the transcript."""


def export_inspect(root: Path, target: Path) -> dict[str, Any]:
    """Write a run's samples: see `write_samples`."""
    finished = _finished(root / "evaluate")

    def text(rows: Sequence[EvaluationRow], choices: Choices) -> str:
        return json.dumps(_log(rows, choices, finished), ensure_ascii=False, indent=1) + "\n"

    return write_samples(root, target, name=lambda row: _file_name(row, finished), text=text)


def _finished(folder: Path) -> datetime.datetime:
    """When the evaluation ended, in UTC: by its manifest, else by the table's date."""
    if is_file(folder / "manifest.json"):
        text = json.loads((folder / "manifest.json").read_text("utf-8"))["finished"]
        moment = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")
    else:
        seconds = (folder / "data.parquet").stat().st_mtime
        moment = datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
    return moment.astimezone(datetime.UTC)


def _task(row: EvaluationRow) -> str:
    point = f"-cap{row.max_thinking_tokens:06d}-waits{row.waits}"
    if not row.forced:
        point = f"-free{row.max_thinking_tokens:06d}" if row.max_thinking_tokens else ""
    return f"{row.benchmark}-{row.protocol}-t{row.temperature:g}{point}"


def _task_id(row: EvaluationRow) -> str:
    return digest([str(getattr(row, name)) for name in FILE_FIELDS])[:22]


def _file_name(row: EvaluationRow, finished: datetime.datetime) -> str:
    """Inspect lists only files that are named DATE_TASK_ID.json."""
    date = finished.isoformat().replace(":", "-")
    task = safe_name(_task(row)).replace("_", "-")
    return f"{safe_name(row.arm)}/{date}_{task}_{_task_id(row)}.json"


def _log(
    rows: Sequence[EvaluationRow], choices: Choices, finished: datetime.datetime
) -> dict[str, Any]:
    """A whole log; its samples are last, since Inspect reads the rest alone where it can."""
    first, date = rows[0], finished.isoformat()
    problems = list(group_by(rows, lambda row: row.problem_id))
    samples = [_sample(row, choices.get(row.problem_id, ())) for row in rows]
    return {
        "version": LOG_VERSION,
        "status": "success",
        "eval": {
            "eval_id": _task_id(first),
            "run_id": _task_id(first),
            "created": date,
            "task": _task(first),
            "task_id": _task_id(first),
            "dataset": {
                "name": first.benchmark, "samples": len(problems), "sample_ids": problems,
                "shuffled": False,
            },
            "model": f"slowthink/{first.model}",
            "model_generate_config": {"temperature": first.temperature},
            "config": {"epochs": len({row.sample for row in rows})},
            "packages": {"slowthink": __version__},
            "metadata": {name: getattr(first, name) for name in FILE_FIELDS},
            "scorers": [{"name": SCORER, "metrics": [{"name": "accuracy"}]}],
        },
        "plan": {"steps": [{"solver": "slowthink"}]},
        "results": _results(rows),
        "stats": {"started_at": date, "completed_at": date},
        "samples": samples,
    }  # fmt: skip


def _results(rows: Sequence[EvaluationRow]) -> dict[str, Any]:
    """Accuracy: the mean over problems of the share of their counted samples that are correct."""
    by_problem = group_by((row for row in rows if row.verdict in SCORES), lambda r: r.problem_id)
    means = [
        statistics.fmean(row.verdict is Verdict.CORRECT for row in group)
        for group in by_problem.values()
    ]
    num_scored = sum(map(len, by_problem.values()))
    metrics = {"accuracy": {"name": "accuracy", "value": statistics.fmean(means)}} if means else {}
    return {
        "total_samples": len(rows),
        "completed_samples": len(rows),
        "scores": [
            {
                "name": SCORER, "scorer": SCORER, "reducer": "mean", "scored_samples": num_scored,
                "unscored_samples": len(rows) - num_scored, "metrics": metrics,
            }
        ],
    }  # fmt: skip


def _sample(row: EvaluationRow, choices: tuple[str, ...]) -> dict[str, Any]:
    values, segments = plain(row), json.loads(row.segments)
    thinking = "".join(text for kind, text in segments if kind in ("thinking", "wait"))
    reply = {
        "role": "assistant", "source": "generate", "model": row.model,
        "content": [
            *([{"type": "reasoning", "reasoning": thinking}] if thinking else []),
            {"type": "text", "text": row.answer},
        ],
    }  # fmt: skip
    sample = {
        "id": row.problem_id,
        "epoch": row.sample + 1,
        "input": row.question,
        "target": row.gold or "",
        "messages": [{"role": "user", "source": "input", "content": row.question}, reply],
        "output": {
            "model": row.model,
            "choices": [{"message": reply, "stop_reason": _stop_reason(row)}],
            "completion": row.answer,
            "usage": _usage(row),
        },
        "scores": _scores(row),
        "metadata": {**{name: values[name] for name in SAMPLE_FIELDS}, "segments": segments},
        "uuid": digest([row.id])[:22],
    }
    return {**sample, "choices": list(choices)} if choices else sample


def _stop_reason(row: EvaluationRow) -> str:
    unended = row.thinking_end is ThinkingEnd.NONE and row.verdict is Verdict.TRUNCATED
    return "max_tokens" if unended else STOP_REASONS[row.answer_end]


def _usage(row: EvaluationRow) -> dict[str, int]:
    num_output = row.num_thinking_tokens + row.num_closing_tokens + row.num_answer_tokens
    return {
        "input_tokens": row.num_prompt_tokens, "output_tokens": num_output,
        "total_tokens": row.num_prompt_tokens + num_output,
        "reasoning_tokens": row.num_thinking_tokens,
    }  # fmt: skip


def _scores(row: EvaluationRow) -> dict[str, Any]:
    if row.verdict not in SCORES:
        return {}
    return {
        SCORER: {
            "value": SCORES[row.verdict], "answer": row.extracted,
            "explanation": f"{row.verdict.value}, by {row.method}",
        }
    }  # fmt: skip
