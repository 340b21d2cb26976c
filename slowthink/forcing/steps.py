"""Steps of thinking: non-blank pieces of text that end with a delimiter, counted in token ids.

A step ends with the token that completes the delimiter; any text of that token after the delimiter
belongs to the next step. So the number of steps depends on the ids alone, and a budget in steps
cuts thinking between two tokens.

    "First, 17 + 20.\\n\\nThen + 5.\\n\\n42"    two steps, and the start of a third
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]

_MARGIN = 4
"""Tokens decoded to find a delimiter, in addition to one per byte of it."""


class StepCounter:
    """Counts the steps of one chain as it grows; its last tokens may be rolled back."""

    def __init__(self, delimiter: str, decode: Decode) -> None:
        self.end_positions: list[int] = []
        """Number of tokens up to the end of each step."""
        self._delimiter = delimiter
        self._decode = decode
        self._num_counted = 0
        """Number of tokens whose steps are counted."""
        self._window = len(delimiter.encode()) + _MARGIN

    def update(self, ids: Sequence[int]) -> int:
        """Return the number of steps in `ids`: the ids of the last call, extended or shortened."""
        self._num_counted = min(self._num_counted, len(ids))
        while self.end_positions and self.end_positions[-1] > len(ids):
            self.end_positions.pop()
        while self._num_counted < len(ids):
            self._num_counted += 1
            if self._step_ends_at(ids, self._num_counted):
                self.end_positions.append(self._num_counted)
        return len(self.end_positions)

    def _step_ends_at(self, ids: Sequence[int], position: int) -> bool:
        start = self.end_positions[-1] if self.end_positions else 0
        last_ids = ids[max(start, position - self._window) : position]
        if self._delimiter not in self._decode(last_ids):
            return False
        return has_step(self._decode(ids[start:position]), self._delimiter)


def has_step(text: str, delimiter: str) -> bool:
    """Whether the text contains a step: a piece that is not blank, then a delimiter."""
    *pieces, _ = text.split(delimiter)
    return any(piece.strip() for piece in pieces)


def num_steps(ids: Sequence[int], delimiter: str, decode: Decode) -> int:
    """Number of complete steps in these ids."""
    return StepCounter(delimiter, decode).update(ids)


def num_tokens_in_steps(
    ids: Sequence[int], steps: int, delimiter: str, decode: Decode
) -> int | None:
    """Number of tokens in the first `steps` steps of these ids; None if there are fewer steps."""
    if steps == 0:
        return 0
    counter = StepCounter(delimiter, decode)
    return counter.end_positions[steps - 1] if counter.update(ids) >= steps else None
