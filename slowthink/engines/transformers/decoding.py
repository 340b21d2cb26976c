"""The decoding loop of a transformers model.

Each row has a state machine (`forcing.machine`) that decides which token is fed next. Thinking and
answering are the same loop with different machines: when a row's machine stops, the row that
succeeds it takes over its slot, with the keys and values that they share.

Legend: B rows, T tokens fed at once, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from slowthink.engines.token_sampling import Draw, SampledToken, sample_tokens
from slowthink.engines.transformers.kv_cache import KeyValues, Window, causal_mask
from slowthink.engines.transformers.static_step import StaticStep, rounded_sizes
from slowthink.errors import EngineError
from slowthink.forcing.machine import Action, ActionKind, AnswerMachine, ForcingMachine
from slowthink.records import Cost, Sampling

_PREFILL_TOKENS, _PREFILL_TOKENS_ON_CPU = 8192, 512
"""Number of tokens, padding included, that are prefilled at once. A CPU is not faster with more of
them, and the shorter prompts of a larger chunk are padded further."""
_PIECE_TOKENS = 4096
"""A longer sequence, which is alone in what is prefilled at once, is fed in pieces: its mask, a row
for each query head of a key head, would else take 13 GB at 30,000 tokens and 7 heads in bfloat16.
"""
_ADMIT_SHARE = 0.25
"""New rows are admitted when this share of the slots is free."""
_SPAN_ROWS = 8
"""On a CPU, so many rows attend together, to as many columns as the longest of them has."""
_MIN_STATIC_BLOCK = 16
"""Shorter blocks are fed token by token by a static step."""


@dataclass(kw_only=True)
class DecodingRow:
    """One sequence being decoded."""

    prefix: tuple[int, ...]
    """Tokens before those of the machine."""
    machine: ForcingMachine | AnswerMachine
    sampling: Sampling
    uniform: Callable[[tuple[int, int]], float]
    """Number in [0, 1) that decides a token, by the machine's `draw_key`."""
    max_tokens: int
    """Length that neither this sequence nor its successors exceed."""
    triggers: frozenset[int] = frozenset()
    """Ids whose probability the machine needs."""
    successor: Callable[[], DecodingRow | None] = lambda: None
    """Called when the machine has stopped: the row that takes over the slot, if any."""
    num_cached: int = 0
    """Tokens whose keys and values are in the cache: position of the next one to feed."""
    pending: list[int] = field(default_factory=list)
    """Tokens to feed before another one is decided."""
    rolled_back: bool = False
    """Tokens were rolled back, so the logits are not those after the last token."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """The whole sequence so far."""
        return (*self.prefix, *self.machine.ids)

    def next_action(self) -> Action:
        """The machine's next action: SAMPLE or STOP; forced tokens before it become pending."""
        while (action := self.machine.next_action()).kind is ActionKind.FORCE:
            self.pending.append(action.token)
        return action


class Decoder:
    """A model, its cache, and the number of tokens that it has processed.

    `static` steps have fixed shapes; by default on CUDA only, where they are captured as graphs.
    Their sizes are rounded up as long as the cache holds at most `max_cached` tokens; None: always.
    """

    def __init__(
        self, model: Any, device: Any, *, static: bool | None = None, max_cached: int | None = None
    ) -> None:
        self.model = model
        self.device = torch.device(device)
        self.cost = Cost()
        self._max_cached = max_cached
        self._kv = KeyValues(model.config.num_hidden_layers, self.device)
        is_static = self.device.type == "cuda" if static is None else static
        self.static_step = StaticStep(self._forward, self.device) if is_static else None

    # -- forward passes --

    def feed(
        self, first_slot: int, blocks: Sequence[Sequence[int]], starts: Sequence[int]
    ) -> torch.Tensor:
        """Feed each slot from `first_slot` on its block of tokens, from position `starts[row]` on;
        returns the logits after the last one (B, V).

        Shorter blocks begin with repetitions of their first token, at the same position.
        """
        T = max(map(len, blocks))
        if self.static_step is not None and T == 1 and not first_slot:
            largest = self._kv.num_slots, self._kv.num_columns
            return self.static_step([ids[0] for ids in blocks], starts, largest)
        ids, positions = [], []
        for block, start in zip(blocks, starts, strict=True):
            num_repeated = T - len(block)
            ids.append([block[0]] * num_repeated + list(block))
            positions.append([start] * num_repeated + list(range(start, start + len(block))))
        ids_BT, positions_BT = (torch.tensor(rows, device=self.device) for rows in (ids, positions))
        ends = [start + len(block) for start, block in zip(starts, blocks, strict=True)]
        spans = _spans(ends) if self.device.type == "cpu" and T == 1 else ()
        return self._forward(ids_BT, positions_BT, max(ends), first_slot=first_slot, spans=spans)

    def _forward(
        self, ids_BT: torch.Tensor, positions_BT: torch.Tensor, num_columns: int, *,
        first_slot: int = 0, spans: Sequence[tuple[slice, int]] = (),
    ) -> torch.Tensor:  # fmt: skip
        self._kv.use(
            Window(first_slot=first_slot, positions_BT=positions_BT, num_columns=num_columns)
        )
        out = self.model(
            input_ids=ids_BT, position_ids=positions_BT,
            attention_mask=causal_mask(positions_BT, num_columns, self.model.dtype),
            past_key_values=self._kv.cache, use_cache=True, logits_to_keep=1, spans=spans,
        )  # fmt: skip
        logits_BV: torch.Tensor = out.logits[:, -1]
        return logits_BV

    def _prefill(self, sequences: Sequence[tuple[int, ...]], first_slot: int) -> torch.Tensor:
        """Feed sequences, sorted by length, to the slots from `first_slot` on; returns the logits
        after them (B, V)."""
        self.cost += Cost(prefilled=sum(map(len, sequences)))
        logits = []
        limit = _PREFILL_TOKENS_ON_CPU if self.device.type == "cpu" else _PREFILL_TOKENS
        for chunk in _chunks(sequences, limit):
            logits.append(_feed_in_pieces(self, first_slot, chunk).clone())
            first_slot += len(chunk)
        return torch.cat(logits)

    # -- the loop --
    def decode(
        self,
        rows: Sequence[DecodingRow],
        admit: Callable[[int, int], Sequence[DecodingRow]] | None = None,
    ) -> Iterator[None]:
        """Decode until every machine, and those of all successors, have stopped; yields after each
        step.

        `admit` is called with the numbers of free slots and of rows that are still decoded, and may
        return new rows.
        """
        slots: list[DecodingRow] = []
        size, new = len(rows), rows
        while slots or new:
            if new:
                slots = self._start(slots, new)
            else:
                slots = self._step(slots)
                yield
            num_free = size - len(slots)
            is_due = num_free >= max(1, _ADMIT_SHARE * size) or not slots
            new = admit(num_free, len(slots)) if admit and is_due else ()

    def _start(self, slots: Sequence[DecodingRow], new: Sequence[DecodingRow]) -> list[DecodingRow]:
        """Prefill new rows into the slots after those in use; returns the rows to decode.

        A sequence that another slot begins with is copied; only its last token is fed.
        """
        num_slots = len(slots) + len(new)
        num_columns = max(row.max_tokens for row in (*slots, *new))
        if not self._kv.holds(num_slots, num_columns):
            sizes = [(num_slots, num_columns)]
            if self.static_step is not None:
                self.static_step.clear()
                sizes = rounded_sizes(num_slots, num_columns, self._max_cached)
            self._kv.reserve(sizes, num_kept=len(slots))
        fed, copied, sources = list[DecodingRow](), list[DecodingRow](), list[int]()
        for row in sorted(new, key=lambda row: (len(row.tokens), row.tokens)):
            source = _find_cached([*slots, *fed], row.tokens[:-1])
            row.num_cached = len(row.tokens)
            if source is None:
                fed.append(row)
            else:
                row.num_cached, row.pending = row.num_cached - 1, [row.tokens[-1]]
                copied.append(row)
                sources.append(source)
        started: list[DecodingRow | None] = []
        if fed:
            logits_BV = self._prefill([row.tokens for row in fed], len(slots))
            _require_numbers(logits_BV)
            started = self._decide(fed, logits_BV)
        first_copy = len(slots) + len(fed)
        self._kv.copy(sources, range(first_copy, first_copy + len(copied)), num_columns)
        return self._close_up([*slots, *started, *copied])

    def _step(self, slots: Sequence[DecodingRow]) -> list[DecodingRow]:
        """Feed as many pending tokens as all rows have, and decide those that follow."""
        T = min(len(row.pending) for row in slots)
        if self.static_step is not None and T < _MIN_STATIC_BLOCK:
            T = 1
        blocks = [row.pending[:T] for row in slots]
        logits_BV = self.feed(0, blocks, [row.num_cached for row in slots])
        for row in slots:
            row.num_cached += T
            del row.pending[:T]
        return self._close_up(self._decide(slots, logits_BV))

    def _close_up(self, slots: Sequence[DecodingRow | None]) -> list[DecodingRow]:
        """Move the last rows into free slots."""
        num_running = sum(row is not None for row in slots)
        free = [i for i in range(num_running) if slots[i] is None]
        closed_up = list(slots[:num_running])
        moved = {i: row for i, row in enumerate(slots) if i >= num_running and row is not None}
        if moved:
            num_columns = max(row.num_cached for row in moved.values())
            self._kv.copy(list(moved), free, num_columns)
            for target, row in zip(free, moved.values(), strict=True):
                closed_up[target] = row
        return [row for row in closed_up if row is not None]

    # -- decisions --

    def _decide(
        self, slots: Sequence[DecodingRow], logits_BV: torch.Tensor
    ) -> list[DecodingRow | None]:
        """Decide the next tokens of rows without pending ones; returns the row of each slot after
        that: the same one, a successor, or None."""
        rows: list[DecodingRow | None] = list(slots)
        undecided = [index for index, row in enumerate(slots) if not row.pending]
        num_decoded = 0
        while undecided:
            draws: dict[int, Draw] = {}
            for index in undecided:
                rows[index], draw = self._next_draw(rows[index])
                if draw is not None:
                    draws[index] = draw
            num_decoded += len(draws)
            drawing = [(index, row) for index in draws if (row := rows[index]) is not None]
            undecided = [
                index
                for (index, row), sampled in zip(
                    drawing, _sample(dict(drawing), logits_BV, draws), strict=True
                )
                if not self._observe(row, sampled)
            ]
        self.cost += Cost(decoded=num_decoded)
        return rows

    def _next_draw(self, row: DecodingRow | None) -> tuple[DecodingRow | None, Draw | None]:
        """The row of this slot, and how to sample its next token unless tokens are pending."""
        while row is not None and not row.pending:
            action = row.next_action()
            if row.pending:
                self.cost += Cost(forced=len(row.pending))
                row.rolled_back = False
            elif action.kind is ActionKind.STOP:
                row = row.successor()
            elif row.rolled_back:  # feed the last token again, for its logits
                row.num_cached, row.rolled_back = row.num_cached - 1, False
                row.pending = [row.tokens[-1]]
            else:
                uniform = row.uniform(row.machine.draw_key) if row.sampling.temperature else 0.0
                return row, Draw(row.sampling, uniform, action.banned)
        return row, None

    def _observe(self, row: DecodingRow, sampled: SampledToken) -> bool:
        """Pass a sampled token to the row's machine. Returns False if another decision follows."""
        action = row.machine.observe(
            sampled.token, trigger_probability=sampled.trigger_probability, argmax=sampled.argmax
        )
        if action.kind is ActionKind.ROLLBACK:
            row.num_cached, row.rolled_back = len(row.tokens), True
        elif action.kind is ActionKind.KEEP and row.next_action().kind is ActionKind.SAMPLE:
            row.pending.append(sampled.token)
        return bool(row.pending)

    def close(self) -> None:
        """Free model, cache and graphs: references in circles would keep them, so that on a GPU the
        next model, or vLLM, would find less memory."""
        self._kv.free()
        self.model = self.static_step = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _feed_in_pieces(
    decoder: Decoder, first_slot: int, chunk: Sequence[tuple[int, ...]]
) -> torch.Tensor:
    """Feed a chunk of prompts, a long one piece by piece; returns the logits after them (B, V)."""
    for start in range(0, len(chunk[-1]), _PIECE_TOKENS):  # once if there are several
        pieces = [ids[start : start + _PIECE_TOKENS] for ids in chunk]
        logits_BV = decoder.feed(first_slot, pieces, [start] * len(chunk))
    return logits_BV


def _require_numbers(logits_BV: torch.Tensor) -> None:
    """Raise EngineError if a prompt's logits are NaN: a token would be drawn in silence."""
    if logits_BV.isnan().any():
        raise EngineError(
            f"the model's logits are not numbers (NaN, {logits_BV.dtype}) after a prompt; expected "
            "numbers. Its weights are damaged, or too large for their type: set engine.dtype to "
            "float32, or name another model."
        )


def _sample(
    rows: dict[int, DecodingRow], logits_BV: torch.Tensor, draws: dict[int, Draw]
) -> list[SampledToken]:
    """A token for each of these rows."""
    if not draws:
        return []
    triggers = frozenset().union(*(row.triggers for row in rows.values()))
    if len(draws) < len(logits_BV):
        logits_BV = logits_BV[list(draws)]
    return sample_tokens(logits_BV, list(draws.values()), triggers=triggers)


def _find_cached(rows: Sequence[DecodingRow], ids: tuple[int, ...]) -> int | None:
    """The slot of a row whose cache begins with these ids."""
    for slot, row in enumerate(rows):
        if row.num_cached >= len(ids) and row.tokens[: len(ids)] == ids:
            return slot
    return None


def _spans(num_columns: Sequence[int]) -> list[tuple[slice, int]]:
    """Consecutive rows, with the number of columns that they attend to."""
    starts = range(0, len(num_columns), _SPAN_ROWS)
    return [
        (slice(start, start + _SPAN_ROWS), max(num_columns[start : start + _SPAN_ROWS]))
        for start in starts
    ]


def _chunks(
    sequences: Sequence[tuple[int, ...]], max_tokens: int
) -> Iterator[list[tuple[int, ...]]]:
    """Group sequences, sorted by length, into chunks of at most so many padded tokens."""
    chunk: list[tuple[int, ...]] = []
    for ids in sequences:
        if chunk and len(ids) * (len(chunk) + 1) > max_tokens:
            yield chunk
            chunk = []
        chunk.append(ids)
    if chunk:
        yield chunk
