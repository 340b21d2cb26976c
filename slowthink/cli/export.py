"""`slowthink export`: a run's samples in the format of lm-evaluation-harness.

Other tools read these files, and so does an arm with `samples: PATH` (`data.stored.read_stored`).

DIR/tuned/samples_aime24_limo-v1_t0.7_cap001024_waits0.jsonl, one row per problem:
{"doc_id": 0, "doc": {"question": "…", "answer": "204", …}, "target": "204", "resps": [["…", "…"]],
 "filtered_resps": [["204", "210"]], "exact_match": 0.5, …, "slowthink": {"waits": 0, …}}
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import typer

from slowthink.cli.options import Json, print_result
from slowthink.data.tables import read_records
from slowthink.errors import DataError
from slowthink.records import EvaluationRow, Problem, Verdict, group_by
from slowthink.serialise import plain

FILTER_NAME = "slowthink"
NO_ANSWER = "[invalid]"
"""lm-eval's placeholder for an answer that its filter did not find."""
MAX_ROW_CHARS = 1_500_000
"""Maximum length of one problem's samples on a line; more are written on further lines with the
same `doc_id`."""

FILE_FIELDS = (
    "arm", "benchmark", "protocol", "temperature", "max_thinking_tokens", "waits", "forced",
)  # fmt: skip
"""Rows that are equal in these fields are written into one file."""
POINT_FIELDS = ("arm", "model", "benchmark", "protocol", "max_thinking_tokens", "waits", "forced")
SAMPLE_FIELDS = (
    "verdict", "method", "extracted", "last_number", "score", "thinking_end", "answer_end",
    "num_thinking_tokens", "num_answer_tokens", "num_forced_tokens", "count_source",
    "num_waits_used", "violations",
)  # fmt: skip
"""Fields of a row that lm-eval has no place for."""


def export(
    run: Annotated[Path, typer.Argument(help="A run folder with a finished evaluation.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")],
    json_: Json = False,
) -> None:
    """Write a run's samples in the format of lm-evaluation-harness.

    Example: slowthink export runs/quickstart --out samples
    """
    data = export_run(run, out)
    lines = [
        f"{file['path']}: {file['num_problems']} problems, {file['num_samples']} samples"
        for file in data["files"]
    ]
    lines.append("to evaluate them again: an arm with `samples: PATH` under evaluate.arms")
    print_result("\n".join(lines), data, as_json=json_)


def export_run(run: str | Path, out: str | Path) -> dict[str, Any]:
    """Write a run's samples, one file per arm, benchmark, protocol, temperature and budget.

    Returns `out`, `num_samples` and `files` (path, arm, benchmark, protocol, num_problems,
    num_samples). Raises DataError if the run is not evaluated, or a file exists already.
    """
    from slowthink.serialise import write_atomic

    root, target = Path(run), Path(out)
    rows = read_records(root / "evaluate", EvaluationRow)
    choices = _read_choices(root)
    groups: dict[Path, list[EvaluationRow]] = {}
    for group in group_by_file(rows):
        path = target / file_name(group[0])
        while path in groups:  # names that differ only in characters that a path cannot contain
            path = path.with_stem(path.stem + "~")
        groups[path] = group
    for path in groups:
        if path.exists():
            raise DataError(
                f"{path}: the file exists already; expected a new one. "
                "Name another folder: --out DIR, or move the old file away."
            )
    for path, group in groups.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row, ensure_ascii=False) for row in harness_rows(group, choices)]
        write_atomic(path, "".join(f"{line}\n" for line in lines))
    return {
        "out": str(target),
        "num_samples": len(rows),
        "files": [_file_info(path, group) for path, group in groups.items()],
    }


def group_by_file(rows: Iterable[EvaluationRow]) -> list[list[EvaluationRow]]:
    """The rows of each file, in order of problem and sample."""
    groups = group_by(rows, attrgetter(*FILE_FIELDS))
    by_sample = attrgetter("problem_id", "sample")
    return [sorted(groups[key], key=by_sample) for key in sorted(groups)]


def file_name(row: EvaluationRow) -> str:
    """Path of the file with this row: arm/samples_BENCHMARK_PROTOCOL_tT_capN_waitsN.jsonl."""
    point = f"_cap{row.max_thinking_tokens:06d}_waits{row.waits}"
    if not row.forced:
        point = f"_free{row.max_thinking_tokens:06d}" if row.max_thinking_tokens else ""
    name = f"samples_{row.benchmark}_{row.protocol}_t{row.temperature:g}{point}.jsonl"
    return f"{_safe_name(row.arm)}/{_safe_name(name)}"


def harness_rows(
    rows: Sequence[EvaluationRow], choices: dict[str, tuple[str, ...]]
) -> Iterable[dict[str, Any]]:
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
        "resps": [[_response(row) for row in rows]],
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


def _response(row: EvaluationRow) -> str:
    """All text generated or forced after the prompt."""
    return "".join(text for _, text in json.loads(row.segments))


def _sample_fields(row: EvaluationRow) -> dict[str, Any]:
    """Fields of one sample; `closing_at` and `answer_at` are character offsets in its text."""
    values, text, segments = plain(row), _response(row), json.loads(row.segments)
    answer_at = len(text) - len(row.answer) if text.endswith(row.answer) else None
    num_thinking_chars = sum(len(text) for kind, text in segments if kind in ("thinking", "wait"))
    return {
        "sample": row.sample,
        "closing_at": None if answer_at is None else min(num_thinking_chars, answer_at),
        "answer_at": answer_at,
        **{name: values[name] for name in SAMPLE_FIELDS},
    }


def _read_choices(root: Path) -> dict[str, tuple[str, ...]]:
    """Answer options by problem id, from the run's pool."""
    if not (root / "pool" / "data.parquet").exists():
        return {}
    return {p.id: p.choices for p in read_records(root / "pool", Problem) if p.choices}


def _file_info(path: Path, rows: Sequence[EvaluationRow]) -> dict[str, Any]:
    first = rows[0]
    return {
        "path": str(path), "arm": first.arm, "benchmark": first.benchmark,
        "protocol": first.protocol, "num_problems": len({row.problem_id for row in rows}),
        "num_samples": len(rows),
    }  # fmt: skip


def _safe_name(name: str) -> str:
    """The name with only characters that are safe in one part of a path."""
    return re.sub(r"[^\w.,=+-]+", "-", name).lstrip(".") or "-"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
