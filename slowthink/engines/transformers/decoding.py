"""The decoding loop of a transformers model: rows in, tokens out, keys and values kept.

Each row has a state machine (`forcing.machine`) that decides what is fed next; thinking and
answering are the same loop with different machines.

Legend: B rows, T tokens fed at once, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from slowthink.engines.token_sampling import Draw, SampledToken, sample_tokens
from slowthink.engines.transformers.kv_cache import KeyValues, additive_mask, join
from slowthink.forcing.machine import ActionKind, AnswerMachine, ForcingMachine
from slowthink.records import Cost, Sampling

_PREFILL_TOKENS = 8192
"""Tokens prefilled at once."""
_COMPACT_BELOW = 0.75
"""A batch is compacted when fewer than this share of its rows are still decoding."""


@dataclass(kw_only=True)
class DecodingRow:
    """One sequence being decoded."""

    prefix: tuple[int, ...]
    """Tokens before the machine's own."""
    machine: ForcingMachine | AnswerMachine
    sampling: Sampling
    uniform: Callable[[tuple[int, int]], float]
    """The number that decides a sampled draw."""
    triggers: frozenset[int] = frozenset()
    """Ids whose probability the machine needs."""
    feed: int | None = None
    """The next token to feed; None when the row is done."""
    stale: bool = False
    """The last logits are not those of the last kept token."""

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
    """A model and the tokens it has spent."""

    model: Any
    device: Any
    cost: Cost = field(default_factory=Cost)

    def forward(
        self, kv: KeyValues, blocks: Sequence[Sequence[int]], starts: Sequence[int],
    ) -> torch.Tensor:  # fmt: skip
        """Feed each row its block, from position `starts[row]` on; returns the last logits (B, V).

        Shorter blocks are padded on the left; an empty one feeds a hole.
        """
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
        """Cache and last logits (B, V) of these sequences; equal ones are fed once."""
        unique = sorted(set(sequences), key=lambda ids: (len(ids), ids))
        self.cost += Cost(prefilled=sum(map(len, unique)))
        parts, logits = [], []
        for chunk in _chunks(unique):
            part = KeyValues(self.model.config.num_hidden_layers, len(chunk), self.device)
            logits.append(self.forward(part, chunk, [0] * len(chunk)))
            parts.append(part)
        place = {ids: number for number, ids in enumerate(unique)}
        order = [place[ids] for ids in sequences]
        return join(parts).take(order), torch.cat(logits)[order]

    def decode(
        self, prefilled: Prefilled, admit: Callable[[int], Prefilled | None] | None = None
    ) -> Iterator[StoppedRows | None]:
        """Decode until every machine stops: yields None after each step, and rows as they are done.

        `admit` is called with the number of rows that left, and may return new ones.
        """
        active, kv = list(prefilled.rows), prefilled.kv
        self._decide_next(active, kv, prefilled.logits)
        while active:
            running = [place for place, row in enumerate(active) if row.feed is not None]
            if len(running) < _COMPACT_BELOW * len(active) or not running:
                done = [place for place, row in enumerate(active) if row.feed is None]
                yield StoppedRows(rows=[active[place] for place in done], kv=kv.take(done))
                kv, active = kv.take(running), [active[place] for place in running]
                fresh = admit(len(done)) if admit else None
                if fresh is not None:
                    self._decide_next(fresh.rows, fresh.kv, fresh.logits)
                    kv = join([kv, fresh.kv]) if active else fresh.kv
                    active += fresh.rows
                continue
            blocks = [[] if row.feed is None else [row.feed] for row in active]
            logits = self.forward(kv, blocks, [row.num_tokens - 1 for row in active])
            self._decide_next(active, kv, logits)
            yield None

    def _decide_next(
        self, rows: Sequence[DecodingRow], kv: KeyValues, logits: torch.Tensor
    ) -> None:
        """Decide each row's next token: forced, drawn, or none because it is done."""
        undecided = list(range(len(rows)))
        while undecided:
            draws = [
                (place, row_draw)
                for place in undecided
                if (row_draw := self._next_draw(rows[place], kv, place))
            ]
            drawn = _draw(rows, logits, draws)
            undecided = [
                place for (place, _), token in zip(draws, drawn, strict=True)
                if not self._accept(rows[place], token, kv, place)
            ]  # fmt: skip

    def _next_draw(self, row: DecodingRow, kv: KeyValues, place: int) -> Draw | None:
        """Set the row's next token if the machine forces it; else return the draw it needs."""
        action = row.machine.next_action()
        row.feed = None
        if action.kind is ActionKind.FORCE:
            row.feed, row.stale = action.token, False
            self.cost += Cost(forced=1)
        elif action.kind is ActionKind.SAMPLE and row.stale:
            kv.crop_row(place, row.num_tokens - 1)  # feed the last kept token again
            row.feed, row.stale = row.tokens[-1], False
        elif action.kind is ActionKind.SAMPLE:
            uniform = row.uniform(row.machine.draw_key) if row.sampling.temperature else 0.0
            return Draw(row.sampling, uniform, action.banned)
        return None

    def _accept(self, row: DecodingRow, drawn: SampledToken, kv: KeyValues, place: int) -> bool:
        """Pass the drawn token to the machine; whether that decides the row's next token."""
        action = row.machine.observe(
            drawn.token, trigger_probability=drawn.trigger_probability, argmax=drawn.argmax
        )
        self.cost += Cost(decoded=1)
        if action.kind is ActionKind.KEEP:
            row.feed = drawn.token
        elif action.kind is ActionKind.ROLLBACK:
            kv.crop_row(place, row.num_tokens)
            row.stale = True
        return action.kind in (ActionKind.KEEP, ActionKind.STOP)


def _draw(
    rows: Sequence[DecodingRow], logits: torch.Tensor, draws: Sequence[tuple[int, Draw]]
) -> list[SampledToken]:
    if not draws:
        return []
    places, row_draws = zip(*draws, strict=True)
    triggers = frozenset().union(*(rows[place].triggers for place in places))
    return sample_tokens(logits[list(places)], row_draws, triggers=triggers)


def _chunks(sequences: Sequence[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Sequences, shortest first, in groups of at most `_PREFILL_TOKENS` padded tokens."""
    chunk: list[tuple[int, ...]] = []
    for ids in sequences:
        if chunk and len(ids) * (len(chunk) + 1) > _PREFILL_TOKENS:
            yield chunk
            chunk = []
        chunk.append(ids)
    if chunk:
        yield chunk
