"""The decoding loop of a transformers model.

Each row has a state machine (`forcing.machine`) that decides which token is fed next. Thinking and
answering are the same loop with different machines. Keys and values are kept for the answers.

Legend: B rows, T tokens fed at once, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from slowthink.engines.token_sampling import Draw, SampledToken, sample_tokens
from slowthink.engines.transformers.kv_cache import KeyValues, additive_mask, join
from slowthink.forcing.machine import ActionKind, AnswerMachine, ForcingMachine
from slowthink.records import Cost, Sampling

_PREFILL_TOKENS = 8192
"""Number of tokens, padding included, that are prefilled at once."""
_COMPACT_BELOW = 0.75
"""A batch is compacted when fewer than this share of its rows are still decoding."""


@dataclass(kw_only=True)
class DecodingRow:
    """One sequence being decoded."""

    prefix: tuple[int, ...]
    """Tokens before those of the machine."""
    machine: ForcingMachine | AnswerMachine
    sampling: Sampling
    uniform: Callable[[tuple[int, int]], float]
    """Number in [0, 1) that decides a token, by the machine's `draw_key`."""
    triggers: frozenset[int] = frozenset()
    """Ids whose probability the machine needs."""
    next_token: int | None = None
    """The next token to feed; None if the row has stopped."""
    rolled_back: bool = False
    """Tokens were rolled back, so the logits are not those after the last token."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """The whole sequence so far."""
        return (*self.prefix, *self.machine.ids)

    @property
    def num_tokens(self) -> int:
        """Length of the sequence so far."""
        return len(self.prefix) + len(self.machine.ids)


@dataclass(frozen=True, kw_only=True)
class Prefilled:
    """Rows ready to decode, with the logits (B, V) of their last tokens."""

    rows: Sequence[DecodingRow]
    kv: KeyValues
    logits: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class StoppedRows:
    """Rows whose machines have stopped, with their cache."""

    rows: Sequence[DecodingRow]
    kv: KeyValues


@dataclass
class Decoder:
    """A model and the number of tokens that it has processed."""

    model: Any
    device: Any
    cost: Cost = field(default_factory=Cost)

    def forward(
        self, kv: KeyValues, blocks: Sequence[Sequence[int]], starts: Sequence[int],
    ) -> torch.Tensor:  # fmt: skip
        """Feed each row its block of tokens, from position `starts[row]` on; returns the logits
        after the last one (B, V). Shorter blocks are padded on the left; empty ones are padding."""
        T = max(map(len, blocks))
        ids_BT = torch.zeros(len(blocks), T, dtype=torch.long)
        positions_BT = torch.full((len(blocks), T), -1, dtype=torch.long)
        for row, (block, start) in enumerate(zip(blocks, starts, strict=True)):
            if block:
                ids_BT[row, T - len(block) :] = torch.tensor(block)
                positions_BT[row, T - len(block) :] = torch.arange(start, start + len(block))
        ids_BT, positions_BT = ids_BT.to(self.device), positions_BT.to(self.device)
        mask = kv.append(positions_BT)
        out = self.model(
            input_ids=ids_BT, position_ids=positions_BT.clamp(min=0),
            attention_mask=additive_mask(mask, self.model.dtype),
            past_key_values=kv.cache, use_cache=True, logits_to_keep=1,
        )  # fmt: skip
        logits_BV: torch.Tensor = out.logits[:, -1]
        return logits_BV

    def prefill(self, sequences: Sequence[tuple[int, ...]]) -> tuple[KeyValues, torch.Tensor]:
        """Return the cache and last logits (B, V) of sequences; equal ones are fed once."""
        unique = sorted(set(sequences), key=lambda ids: (len(ids), ids))
        self.cost += Cost(prefilled=sum(map(len, unique)))
        caches, logits = [], []
        for chunk in _chunks(unique):
            kv = KeyValues(self.model.config.num_hidden_layers, len(chunk), self.device)
            logits.append(self.forward(kv, chunk, [0] * len(chunk)))
            caches.append(kv)
        index = {ids: i for i, ids in enumerate(unique)}
        rows = [index[ids] for ids in sequences]
        return join(caches).take(rows), torch.cat(logits)[rows]

    def decode(
        self, prefilled: Prefilled, admit: Callable[[int], Prefilled | None] | None = None
    ) -> Iterator[StoppedRows | None]:
        """Decode until every machine stops. Yields None after each step, and rows that stopped.

        `admit` is called with the number of rows that stopped, and may return new ones.
        """
        rows, kv = list(prefilled.rows), prefilled.kv
        self._decide_next_tokens(rows, kv, prefilled.logits)
        while rows:
            running = [i for i, row in enumerate(rows) if row.next_token is not None]
            if len(running) < _COMPACT_BELOW * len(rows) or not running:
                stopped = [i for i, row in enumerate(rows) if row.next_token is None]
                yield StoppedRows(rows=[rows[i] for i in stopped], kv=kv.take(stopped))
                kv, rows = kv.take(running), [rows[i] for i in running]
                new = admit(len(stopped)) if admit else None
                if new is not None:
                    self._decide_next_tokens(new.rows, new.kv, new.logits)
                    kv = join([kv, new.kv]) if rows else new.kv
                    rows += new.rows
                continue
            blocks = [[] if row.next_token is None else [row.next_token] for row in rows]
            logits = self.forward(kv, blocks, [row.num_tokens - 1 for row in rows])
            self._decide_next_tokens(rows, kv, logits)
            yield None

    def _decide_next_tokens(
        self, rows: Sequence[DecodingRow], kv: KeyValues, logits: torch.Tensor
    ) -> None:
        """Decide each row's next token: forced, sampled, or none because it has stopped."""
        undecided = list(range(len(rows)))
        while undecided:
            draws = {
                index: draw
                for index in undecided
                if (draw := self._next_draw(rows[index], kv, index))
            }
            undecided = [
                index for index, sampled in _sample(rows, logits, draws).items()
                if not self._observe(rows[index], sampled, kv, index)
            ]  # fmt: skip

    def _next_draw(self, row: DecodingRow, kv: KeyValues, index: int) -> Draw | None:
        """Set the row's next token if it is forced; otherwise return how to sample it."""
        action = row.machine.next_action()
        row.next_token = None
        if action.kind is ActionKind.FORCE:
            row.next_token, row.rolled_back = action.token, False
            self.cost += Cost(forced=1)
        elif action.kind is ActionKind.SAMPLE and row.rolled_back:
            kv.crop_row(index, row.num_tokens - 1)  # feed the last token again, for its logits
            row.next_token, row.rolled_back = row.tokens[-1], False
        elif action.kind is ActionKind.SAMPLE:
            uniform = row.uniform(row.machine.draw_key) if row.sampling.temperature else 0.0
            return Draw(row.sampling, uniform, action.banned)
        return None

    def _observe(self, row: DecodingRow, sampled: SampledToken, kv: KeyValues, index: int) -> bool:
        """Pass a sampled token to the row's machine. Returns False if it must sample another."""
        action = row.machine.observe(
            sampled.token, trigger_probability=sampled.trigger_probability, argmax=sampled.argmax
        )
        self.cost += Cost(decoded=1)
        if action.kind is ActionKind.KEEP:
            row.next_token = sampled.token
        elif action.kind is ActionKind.ROLLBACK:
            kv.crop_row(index, row.num_tokens)
            row.rolled_back = True
        return action.kind in (ActionKind.KEEP, ActionKind.STOP)


def _sample(
    rows: Sequence[DecodingRow], logits: torch.Tensor, draws: Mapping[int, Draw]
) -> dict[int, SampledToken]:
    """A token for each of these rows, by index."""
    if not draws:
        return {}
    triggers = frozenset().union(*(rows[index].triggers for index in draws))
    tokens = sample_tokens(logits[list(draws)], list(draws.values()), triggers=triggers)
    return dict(zip(draws, tokens, strict=True))


def _chunks(sequences: Sequence[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Group sequences, sorted by length, into chunks of at most `_PREFILL_TOKENS` padded tokens."""
    chunk: list[tuple[int, ...]] = []
    for ids in sequences:
        if chunk and len(ids) * (len(chunk) + 1) > _PREFILL_TOKENS:
            yield chunk
            chunk = []
        chunk.append(ids)
    if chunk:
        yield chunk
