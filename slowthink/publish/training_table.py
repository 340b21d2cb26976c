"""The training set as one flat table, which `datasets.load_dataset` reads.

A column of a user's own file that slowthink does not know is not written: it may be private.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slowthink.records import Trace

TABLE = "data/train.parquet"
COLUMNS = {
    "id": "the problem's id: a hash of its question and options",
    "question": "the problem",
    "choices": "its answer options; empty if the answer is free",
    "answer": "the reference answer",
    "thinking": "the chain of thought",
    "response": "the answer after the thinking",
    "messages": "question and answer as chat messages, the thinking in reasoning_content",
    "teacher": "author of the chain",
    "verdict": "the grader's verdict on the response",
    "level": "level of the chain, 1 to 5",
    "scores": "scores of the chain by name, as JSON",
    "num_thinking_tokens": "tokens of the thinking, by the base model's tokenizer",
    "language": "language of the problem",
    "domain": "domain of the problem",
    "source": "name of the source",
    "origin": "dataset that the problem comes from",
    "revision": "its revision",
    "licence": "its licence",
}
"""Column → meaning."""
_TEXT_LISTS = {"choices"}
_NUMBERS = {"level", "num_thinking_tokens"}


def write_table(path: Path, traces: Iterable[Trace]) -> None:
    """Write the table, complete or not at all. Raises OSError, with the path, if it cannot be."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pa.Table.from_pylist(list(map(_row, traces)), schema=_schema())
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    try:
        pq.write_table(rows, temporary, compression="zstd")
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _schema() -> Any:
    import pyarrow as pa

    turn = pa.struct([(name, pa.string()) for name in ("role", "content", "reasoning_content")])
    kinds = dict.fromkeys(_TEXT_LISTS, pa.list_(pa.string())) | dict.fromkeys(_NUMBERS, pa.int64())
    kinds["messages"] = pa.list_(turn)
    return pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])


def _row(trace: Trace) -> dict[str, Any]:
    problem = trace.problem
    lineage = json.loads(problem.meta).get("lineage") or {}
    question = {"role": "user", "content": problem.question}
    answer = {"role": "assistant", "content": trace.response, "reasoning_content": trace.thinking}
    return {
        "id": problem.id, "question": problem.question, "choices": list(problem.choices),
        "answer": problem.answer, "thinking": trace.thinking, "response": trace.response,
        "messages": [question, answer], "teacher": trace.teacher,
        "verdict": trace.grade.verdict.value, "level": trace.level, "scores": trace.scores,
        "num_thinking_tokens": trace.num_thinking_tokens, "language": problem.language,
        "domain": problem.domain, "source": problem.source,
        "origin": lineage.get("origin") or problem.source, "revision": lineage.get("revision"),
        "licence": problem.licence,
    }  # fmt: skip
