"""What the gate's rules see of a chain, and what they return.

Fault("the response is a refusal", "response, character 0: I'm sorry, but I can't …")
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

CONTEXT_CHARS = 30
"""Characters shown before the place of a fault."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GatedText:
    """A chain's texts, and what is known about their origin."""

    question: str
    thinking: str
    response: str
    language: str | None = None
    """Language that the thinking was asked for. None: the question's."""
    hidden: str | None = None
    """How the provider hides the thinking; None: it does not, as far as is known."""
    truncated: bool = False
    """It reached a limit before it was complete."""

    def parts(self) -> Iterator[tuple[str, str]]:
        """Thinking and response, each after its name."""
        yield "thinking", self.thinking
        yield "response", self.response


@dataclass(frozen=True, slots=True)
class Fault:
    """What a rule holds against a chain."""

    reason: str
    evidence: str
    """The text, and where it is."""


def fault_at(reason: str, part: str, text: str, position: int) -> Fault:
    """A fault whose evidence is the text around a position."""
    position = max(0, position)
    start = max(0, position - CONTEXT_CHARS)
    excerpt = " ".join(text[start : position + 160].split())
    return Fault(reason, f"{part}, character {position:,}: {excerpt}")
