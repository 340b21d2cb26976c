"""Forms for no trainer in particular: ShareGPT, OpenAI's fine-tuning, one table of everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slowthink.errors import ConfigError
from slowthink.export.folder import TrainerFiles
from slowthink.export.rendering import rendering_notes
from slowthink.export.training import ExportSource, TrainingRow, json_line

SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt"}
HOSTED_FORMATS = ("think-tags", "plain")
"""Formats whose delimiters are ordinary text; others are special tokens, which a hosted model
reads as text."""
FEWEST_HOSTED_ROWS = 10


def sharegpt_files(training: ExportSource) -> TrainerFiles:
    """Rows of `conversations`, as ShareGPT's: from human, gpt, system."""

    def row_of(row: TrainingRow) -> dict[str, Any]:
        turns = [
            {"from": SPEAKERS[message["role"]], "value": message["content"]}
            for message in (*row.prompt, row.reply)
        ]
        return {"conversations": turns, **row.columns}

    return TrainerFiles(row=row_of, notes=rendering_notes(training))


def openai_chat_files(training: ExportSource) -> TrainerFiles:
    """Rows of `messages` alone, since further fields are refused; ids are in `ids.jsonl`.

    Raises ConfigError for a format with delimiters that are special tokens, or are custom.
    """
    name = training.format.name
    if name not in HOSTED_FORMATS:
        raise ConfigError(
            f"openai-chat: chat.format is `{name}`; expected {' or '.join(HOSTED_FORMATS)}, since "
            "a hosted model has no special tokens of this format and would learn them as text. "
            "Write them as tags: --set chat.format=think-tags, or take --form sharegpt."
        )
    notes = ["Line N of ids.jsonl says where line N of train.jsonl is from."]
    if len(training.rows) < FEWEST_HOSTED_ROWS:
        notes.append(f"The service expects at least {FEWEST_HOSTED_ROWS} rows.")
    return TrainerFiles(
        row=lambda row: {"messages": [*row.prompt, row.reply]},
        texts={"ids.jsonl": "".join(json_line(dict(row.columns)) for row in training.rows)},
        notes=tuple(notes),
    )


def parquet_files(training: ExportSource) -> TrainerFiles:
    """`train.parquet`: messages, the parts of the text, and where each row is from."""

    def write(path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [_table_row(row) for row in training.rows]
        pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")

    return TrainerFiles(row=None, tables={"train.parquet": write}, notes=rendering_notes(training))


def _table_row(row: TrainingRow) -> dict[str, Any]:
    trace = row.trace
    return {
        "messages": [*row.prompt, row.reply],
        "question": trace.problem.question,
        "thinking": trace.thinking,
        "response": trace.response,
        "solution": trace.problem.solution or "",
        "provenance": trace.provenance,
        "num_thinking_tokens": trace.num_thinking_tokens,
        "num_response_tokens": trace.num_response_tokens,
        **row.columns,
    }
