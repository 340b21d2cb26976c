"""One forward pass of the student over each chain, for all scores that need it.

The student reads what training would show it: the prompt by the recipe's chat, then the assistant's
turn, whose tokens are measured. The sums are kept in the ledger by the model's fingerprint and the
token ids, so that no chain is read twice, by another score, in another run or after a kill.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowthink.curation.scores.score import ChainText, ScoreContext
from slowthink.engines.auto import resolve_engine
from slowthink.engines.models import context_length, fingerprint, load_tokenizer, resolve_model
from slowthink.forcing.prompts import TrainingIds, training_ids
from slowthink.recipe import EngineConfig, StudentScore
from slowthink.records import Cost
from slowthink.sampling.ledger import Ledger
from slowthink.serialise import digest

if TYPE_CHECKING:
    from slowthink.engines.transformers.token_ranks import TokenSums

PASS_VERSION = 1
"""Changes whenever the same model and token ids give other sums."""


@dataclass(frozen=True, kw_only=True)
class Student:
    """A model that is not loaded yet."""

    name: str
    folder: Path
    fingerprint: str
    engine: EngineConfig
    tokenizer: Any
    max_context: int | None

    def key(self, ids: TrainingIds) -> str:
        """Key of the sums of these tokens in the ledger."""
        model = [self.fingerprint, f"transformers/{self.engine.dtype}"]
        return digest(["student", PASS_VERSION, *model, ids.prompt_ids, ids.completion_ids])

    def has_room_for(self, ids: TrainingIds) -> bool:
        """Whether its context is long enough."""
        num_tokens = len(ids.prompt_ids) + len(ids.completion_ids)
        return self.max_context is None or num_tokens <= self.max_context


def measure_chains(
    chains: Sequence[ChainText], config: StudentScore, context: ScoreContext
) -> list[TokenSums | None]:
    """The sums over the assistant's turn of each chain; None if the student's context is too short.

    Raises ConfigError if the model is unavailable.
    """
    from slowthink.engines.transformers.token_ranks import TokenSums

    student = _find_student(config, context)
    texts = [_ids(chain, student, context) for chain in chains]
    keys = [student.key(ids) if student.has_room_for(ids) else None for ids in texts]
    by_key = {key: ids for key, ids in zip(keys, texts, strict=True) if key is not None}
    with context.open_ledger() as ledger:
        values = ledger.values(list(by_key))
        if len(values) < len(by_key):
            _read(student, by_key, values, ledger, context)
    context.facts.update(_facts(student, num_too_long=keys.count(None)))
    return [None if key is None else TokenSums(**values[key]) for key in keys]


def _find_student(config: StudentScore, context: ScoreContext) -> Student:
    name, revision = context.recipe.named_model(config.model, config.revision)
    engine = resolve_engine(config.engine or context.recipe.engine)
    trust = engine.trust_remote_code
    folder = resolve_model(name, revision, trust_remote_code=trust, notify=context.notify)
    limits = [limit for limit in (context_length(folder), engine.max_context) if limit]
    return Student(
        name=name, folder=folder, fingerprint=fingerprint(folder), engine=engine,
        tokenizer=load_tokenizer(name, revision, trust_remote_code=trust),
        max_context=min(limits, default=None),
    )  # fmt: skip


def _ids(chain: ChainText, student: Student, context: ScoreContext) -> TrainingIds:
    return training_ids(
        student.tokenizer, chain.problem, thinking=chain.thinking, response=chain.response,
        chat=context.recipe.chat, custom_formats=context.recipe.formats,
    )  # fmt: skip


def _read(
    student: Student,
    texts: Mapping[str, TrainingIds],
    values: dict[str, Any],
    ledger: Ledger,
    context: ScoreContext,
) -> None:
    """Load the student and add the sums of the texts that have none; each block's are stored at
    once."""
    from slowthink.engines.transformers.token_ranks import RankModel

    num_new = len(texts) - len(values)
    context.notify(
        f"{context.tag}: {student.name} reads {num_new} chains ({len(values)} are in the ledger)"
    )
    model = RankModel(student.folder, student.engine)
    keys, start_time = list(texts), time.monotonic()
    pairs = [(ids.prompt_ids, ids.completion_ids) for ids in texts.values()]
    done = {index for index, key in enumerate(keys) if key in values}
    for sums in model.measure(pairs, done=done):
        new = {keys[index]: asdict(text_sums) for index, text_sums in sums.items()}
        ledger.record_values(new)
        seconds, start_time = time.monotonic() - start_time, time.monotonic()
        ledger.record([], [], tag=context.tag, cost=model.cost, seconds=seconds)
        model.cost = Cost()
        values |= new
        context.progress(len(values), len(texts))


def _facts(student: Student, *, num_too_long: int) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "model": student.name, "fingerprint": student.fingerprint, "dtype": student.engine.dtype,
    }  # fmt: skip
    return facts | ({"num_too_long": num_too_long} if num_too_long else {})
