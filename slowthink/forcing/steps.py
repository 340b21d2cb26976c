"""Steps of thinking: non-blank pieces of text that end with a delimiter, counted in token ids.

A step ends with the token that completes the delimiter; any text of that token after the delimiter
belongs to the next step. So the number of steps is a function of the ids, and a budget in steps
cuts between tokens.

    "First, 17 + 20.\\n\\nThen + 5.\\n\\n42"    two steps, and the start of a third
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]

_MARGIN = 4
"""Extra tokens decoded to find a delimiter, beyond one per byte of it."""


class StepCounter:
    """Incremental step count of one chain, whose last tokens may be rolled back."""

    def __init__(self, delimiter: str, decode: Decode) -> None:
        self.ends: list[int] = []
        """Number of tokens up to the end of each step."""
        self._delimiter = delimiter
        self._decode = decode
        self._num_seen = 0
        self._window = len(delimiter.encode()) + _MARGIN

    def update(self, ids: Sequence[int]) -> int:
        """Return the number of steps in `ids`: those of the last call, extended or shortened."""
        self._num_seen = min(self._num_seen, len(ids))
        while self.ends and self.ends[-1] > len(ids):
            self.ends.pop()
        while self._num_seen < len(ids):
            self._num_seen += 1
            if self._ends_at(ids, self._num_seen):
                self.ends.append(self._num_seen)
        return len(self.ends)

    def _ends_at(self, ids: Sequence[int], end: int) -> bool:
        start = self.ends[-1] if self.ends else 0
        if self._delimiter not in self._decode(ids[max(start, end - self._window) : end]):
            return False
        return has_step(self._decode(ids[start:end]), self._delimiter)


def has_step(text: str, delimiter: str) -> bool:
    """Whether a delimiter in the text ends a piece that is not blank."""
    *pieces, _ = text.split(delimiter)
    return any(piece.strip() for piece in pieces)


def num_steps(ids: Sequence[int], delimiter: str, decode: Decode) -> int:
    """Number of steps that these ids complete."""
    return StepCounter(delimiter, decode).update(ids)


def step_end(ids: Sequence[int], number: int, delimiter: str, decode: Decode) -> int | None:
    """Number of ids in the first `number` steps; None if there are fewer steps."""
    if number == 0:
        return 0
    counter = StepCounter(delimiter, decode)
    counter.update(ids)
    return counter.ends[number - 1] if len(counter.ends) >= number else None
