"""Texts in prompts to judges and labellers, and strict parsing of their replies."""

from __future__ import annotations

import re


def plain_lines(text: str) -> list[str]:
    """Return the non-blank lines of a reply without Markdown."""
    lines = [re.sub(r"[*_`#$>]+", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line]


def final_value(text: str, pattern: re.Pattern[str]) -> str | None:
    """Return group 1 of the pattern in the last line, in lower case.

    None if the last line does not fully match, or if another line matches with another value.
    """
    matches = [pattern.fullmatch(line) for line in plain_lines(text)]
    values = {match[1].lower() for match in matches if match}
    return values.pop() if len(values) == 1 and matches[-1] else None


_TURN_MARK = re.compile(r"<(?=[|｜]|(?:start|end)_of_turn>|/?s>|[be]os>)|\[(?=/?INST\])")


def fenced(text: str, *, max_chars: int | None = None) -> str:
    """Return the first `max_chars` characters of a text between fences that it cannot close, nor
    the turn: a space breaks up each mark of a chat template."""
    text = _TURN_MARK.sub(lambda mark: f"{mark.group()} ", text[:max_chars])
    return f"<<<\n{text.replace('<<<', '‹‹‹').replace('>>>', '›››')}\n>>>"
