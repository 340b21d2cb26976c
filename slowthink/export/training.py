"""The training set of a run: selected chains as the texts and ids that the recipe trains on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from slowthink.data.tables import read_records
from slowthink.engines.models import EMBEDDED, context_length, load_tokenizer, resolve_model
from slowthink.errors import DataError, SlowthinkError
from slowthink.forcing.formats import AUTO, resolve_format
from slowthink.forcing.prompts import TrainingText, training_text, user_message
from slowthink.recipe import Recipe, TrainConfig, in_language
from slowthink.records import Problem, ThinkingFormat, Trace, row_ids
from slowthink.stages.train.dev import split_dev
from slowthink.stages.train.examples import TrainingExample, tokenize
from slowthink.stages.train.lengths import limit_lengths
from slowthink.stages.train.schedule import num_steps

ROOM_TOKENS = 256
"""Room for what a trainer's own template adds: a default system prompt, a tail."""

Named = list[tuple[str, Trace, TrainingExample | None]]
"""Chains with the ids of their rows, and their token ids if there is a tokenizer."""


@dataclass(frozen=True, kw_only=True)
class TrainingRow:
    """One selected chain, as text."""

    id: str
    """The problem's, or the chain's where a problem has several."""
    trace: Trace
    system: str | None
    user: str
    text: TrainingText
    example: TrainingExample | None
    """Its token ids as stage `train` makes them; None without the tokenizer."""

    @property
    def prompt(self) -> list[dict[str, str]]:
        """The messages before the assistant's."""
        system = [{"role": "system", "content": self.system}] if self.system is not None else []
        return [*system, {"role": "user", "content": self.user}]

    @property
    def ids(self) -> TrainingExample:
        """Its token ids; there must be a tokenizer."""
        assert self.example is not None
        return self.example

    @property
    def reply(self) -> dict[str, str]:
        """The assistant's message, with the recipe's thinking delimiters."""
        return {"role": "assistant", "content": self.text.completion}

    @property
    def columns(self) -> dict[str, str]:
        """Where the row is from: ids, the user's own columns (`meta`), licence, grade, scores.

        All are strings, "" if unknown: trainers guess the types of columns from the first rows.
        """
        trace, problem = self.trace, self.trace.problem
        return {
            "id": self.id, "problem_id": problem.id, "chain_id": trace.key,
            "source": problem.source, "source_row": problem.source_row, "meta": problem.meta,
            "licence": problem.licence or "", "language": problem.language,
            "domain": problem.domain or "", "reference_answer": problem.answer or "",
            "teacher": trace.teacher, "verdict": trace.grade.verdict.value,
            "level": "" if trace.level is None else str(trace.level), "scores": trace.scores,
        }  # fmt: skip


@dataclass(frozen=True)
class ExportSource:
    """What every form is written from."""

    recipe: Recipe
    format: ThinkingFormat
    rows: tuple[TrainingRow, ...]
    tokenizer: Any
    """None if the base model is not on this machine: see `notes`."""
    longest: int
    """Tokens of the longest row: as trained on, or estimated by the trace stage's counts."""
    notes: tuple[str, ...] = ()
    """What a user of the folder must know, whatever the form."""

    @cached_property
    def config(self) -> TrainConfig:
        """The recipe's train section, or its defaults."""
        return self.recipe.train or TrainConfig()

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the whole training."""
        return num_steps(len(self.rows), self.config)

    @property
    def model(self) -> str:
        """The base model as other programs name it: a hub id or an absolute folder."""
        name = self.recipe.model
        is_folder = name == EMBEDDED or Path(name).exists()
        if not is_folder:
            return name
        trust = self.recipe.engine.trust_remote_code
        return str(resolve_model(name, trust_remote_code=trust).absolute())

    @property
    def cutoff(self) -> int:
        """A limit of length that cuts no row off, for trainers that truncate; the recipe's own if
        lengths are estimates."""
        limit = self.longest + ROOM_TOKENS
        return max(self.config.max_length, limit) if self.tokenizer is None else limit


def load_source(root: Path, recipe: Recipe) -> ExportSource:
    """A run's selected chains; too long ones are refused, dropped or cut as stage `train` does, and
    those of development problems are left out.

    Raises DataError if nothing is selected yet, too little for `train.checkpoint: dev`, or a chain
    is too long and `train.too_long` is refuse; ConfigError if the chat section needs the base
    model's tokenizer, which is missing.
    """
    traces = read_records(root / "select", Trace)
    if not traces:
        raise DataError(
            f"{root / 'select'}: no chains were selected; expected at least one. Run the earlier "
            f"stages with more problems: see slowthink report {root}"
        )
    kept, withheld = _withhold_dev(traces, recipe)
    tokenizer, notes = _open_tokenizer(recipe)
    longest = max(trace.num_thinking_tokens + trace.num_response_tokens for trace in kept)
    named: Named = [(row_id, t, None) for row_id, t in zip(row_ids(kept), kept, strict=True)]
    if tokenizer is not None:
        named, longest, dropped = _within_limit(named, tokenizer, recipe)
        notes += dropped
    format = resolve_format(recipe.chat.format, tokenizer, recipe.formats)
    rows = tuple(_row(*each, recipe, format, tokenizer) for each in named)
    return ExportSource(recipe, format, rows, tokenizer, longest, (*withheld, *notes))


def _withhold_dev(traces: Sequence[Trace], recipe: Recipe) -> tuple[list[Trace], tuple[str, ...]]:
    """The chains without those of development problems, which stage `train` does not train on
    either, and a note on these."""
    kept, problems = split_dev(traces, recipe.train or TrainConfig(), seed=recipe.seed)
    note = (
        f"The {len(traces) - len(kept)} chains of {len(problems)} development problems "
        "(train.checkpoint: dev) are left out, as they are in training."
    )
    return kept, (note,) if problems else ()


def _open_tokenizer(recipe: Recipe) -> tuple[Any, tuple[str, ...]]:
    """The base model's tokenizer; None, with a note, if it is unavailable and not necessary."""
    try:
        return load_tokenizer(
            recipe.model, recipe.revision, trust_remote_code=recipe.engine.trust_remote_code
        ), ()
    except SlowthinkError as error:
        if recipe.chat.control or recipe.chat.format == AUTO:
            raise
        return None, (
            f"The base model's tokenizer was not available ({error}), so nobody compared what the "
            "trainer makes of these rows with what `slowthink train` trains on, and lengths are "
            "estimates without the prompts.",
        )


def _within_limit(
    named: Named, tokenizer: Any, recipe: Recipe
) -> tuple[Named, int, tuple[str, ...]]:
    """The chains that stage `train` would train on, the longest's tokens, a note on others."""
    traces: dict[TrainingExample, Trace] = {}

    def make_example(row_id: str, trace: Trace) -> TrainingExample:
        example = tokenize(row_id, trace, tokenizer=tokenizer, recipe=recipe)
        traces[example] = trace
        return example

    trust = recipe.engine.trust_remote_code
    folder = resolve_model(recipe.model, recipe.revision, trust_remote_code=trust)
    limited = limit_lengths(
        [make_example(row_id, trace) for row_id, trace, _ in named],
        [trace for _, trace, _ in named],
        make_example, recipe.train or TrainConfig(),
        max_context=context_length(folder),
    )  # fmt: skip
    note = (
        f"Too long for train.max_length or the model's context: {len(limited.dropped)} chains are "
        f"left out, the thinking of {len(limited.cut)} is cut."
    )
    return (
        [(example.id, traces[example], example) for example in limited.examples],
        max(example.num_tokens for example in limited.examples),
        (note,) if limited.dropped or limited.cut else (),
    )


def _row(
    row_id: str, trace: Trace, example: TrainingExample | None,
    recipe: Recipe, format: ThinkingFormat, tokenizer: Any,
) -> TrainingRow:  # fmt: skip
    problem: Problem = trace.problem
    text = training_text(
        thinking=trace.thinking, response=trace.response, chat=recipe.chat, format=format,
        count_tokens=lambda text: len(tokenizer.encode(text, add_special_tokens=False)),
    )  # fmt: skip
    return TrainingRow(
        id=row_id, trace=trace, text=text, example=example,
        system=in_language(recipe.chat.system_prompt, problem.language),
        user=user_message(problem, recipe.chat, control_line=text.control_line),
    )  # fmt: skip


def json_line(row: dict[str, Any]) -> str:
    """One line of JSONL."""
    return json.dumps(row, ensure_ascii=False) + "\n"
