"""Steps of thinking: pieces of text that a delimiter ends, counted over token ids.

A step ends with the token that completes the delimiter after text that is not blank; what the same
token holds beyond the delimiter belongs to the next step. So the number of steps is a function of
the ids alone, and a budget in steps cuts between tokens.

    "First, 17 + 20.\\n\\nThen + 5.\\n\\n42"    two steps, and the start of a third
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]

_MARGIN = 4
"""Tokens looked at beyond the delimiter's own bytes."""


class StepCounter:
    """Counts the steps of one stream of thinking as it grows, or has tokens taken back."""

    def __init__(self, delimiter: str, decode: Decode) -> None:
        self.ends: list[int] = []
        """Tokens up to and with the one that ends each step."""
        self._delimiter = delimiter
        self._decode = decode
        self._num_seen = 0
        self._window = len(delimiter.encode()) + _MARGIN

    def update(self, ids: Sequence[int]) -> int:
        """The number of steps in these ids: those seen last, with more at their end or less."""
        self._num_seen = min(self._num_seen, len(ids))
        while self.ends and self.ends[-1] > len(ids):
            self.ends.pop()
        while self._num_seen < len(ids):
            self._num_seen += 1
            if self._ends_at(ids, self._num_seen):
                self.ends.append(self._num_seen)
        return len(self.ends)

    def _ends_at(self, ids: Sequence[int], end: int) -> bool:
        begun = self.ends[-1] if self.ends else 0
        if self._delimiter not in self._decode(ids[max(begun, end - self._window) : end]):
            return False
        return is_step(self._decode(ids[begun:end]), self._delimiter)


def is_step(text: str, delimiter: str) -> bool:
    """Whether some delimiter in the text comes after something that is not blank."""
    *pieces, _ = text.split(delimiter)
    return any(piece.strip() for piece in pieces)


def num_steps(ids: Sequence[int], delimiter: str, decode: Decode) -> int:
    """How many steps these ids complete."""
    return StepCounter(delimiter, decode).update(ids)


def step_end(ids: Sequence[int], number: int, delimiter: str, decode: Decode) -> int | None:
    """How many ids the first `number` steps take; None where there are fewer."""
    if number == 0:
        return 0
    counter = StepCounter(delimiter, decode)
    counter.update(ids)
    return counter.ends[number - 1] if len(counter.ends) >= number else None
