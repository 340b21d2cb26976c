r"""Words and phrases counted in chains: whole words in English, anywhere in Chinese.

load_lexicon("standard").count("Let me double-check. 我们验算一下，这不可能。") == {
    "verification": 2, "exploration": 0, "granularity": 0}
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from slowthink.errors import ConfigError
from slowthink.serialise import load_yaml

KINDS = ("verification", "exploration", "granularity")
_FILE = Path(__file__).with_name("lexicon.yaml")


@dataclass(frozen=True)
class Lexicon:
    """Words by kind, and phrases in which they mean something else."""

    pattern: re.Pattern[str]
    """A group for each kind; no group for the phrases. A word of two kinds counts as the first."""

    def find(self, text: str) -> Iterator[tuple[str, str]]:
        """Each counted word in order, with its kind."""
        return ((m.lastgroup, m[0]) for m in self.pattern.finditer(text) if m.lastgroup)

    def count(self, text: str) -> dict[str, int]:
        """Number of words of each kind in the text."""
        counter = Counter(m.lastgroup for m in self.pattern.finditer(text))
        return {kind: counter[kind] for kind in KINDS}


@cache
def load_lexicon(name: str, *, whole_words: bool = True, ignore_case: bool = True) -> Lexicon:
    """A shipped lexicon (`standard`, `published`), or that of a YAML file of the same form.

    Raises ConfigError if there is none.
    """
    words = read_lexicons().get(name) or _read_file(name)
    skipped = words.get("not") if whole_words else None
    groups = [_alternatives(skipped, whole_words=True)] if skipped else []
    groups += [
        f"(?P<{kind}>{_alternatives(words[kind], whole_words=whole_words)})" for kind in KINDS
    ]
    return Lexicon(re.compile("|".join(groups), re.IGNORECASE if ignore_case else re.NOFLAG))


@cache
def read_lexicons() -> dict[str, Any]:
    """The contents of lexicon.yaml."""
    return dict(load_yaml(_FILE.read_text("utf-8")))


def _read_file(name: str) -> dict[str, list[str]]:
    try:
        words = load_yaml(Path(name).read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise _lexicon_error(name, str(error)) from error
    lists = [words.get(kind) for kind in KINDS] if isinstance(words, dict) else []
    if not lists or not all(isinstance(words, list) and words for words in lists):
        raise _lexicon_error(name, "no words")
    return {str(kind): [str(word) for word in words[kind] or []] for kind in words}


def _lexicon_error(name: str, seen: str) -> ConfigError:
    return ConfigError(
        f"trace.scores: lexicon {name!r}: {seen}; expected `standard`, `published`, or a YAML file "
        f"with a list of words for each of {', '.join(KINDS)} (and `not`, optional). "
        "Name another: --set 'trace.scores=[{kind: limo-v2, lexicon: FILE}]'"
    )


def _alternatives(words: list[str], *, whole_words: bool) -> str:
    """The words, longest first; ASCII ones between word boundaries."""
    ordered = sorted(words, key=lambda word: (-len(word), word))
    latin = "|".join(re.escape(word) for word in ordered if word.isascii())
    others = "|".join(re.escape(word) for word in ordered if not word.isascii())
    if latin and whole_words:
        latin = rf"(?<![a-zA-Z])(?:{latin})(?![a-zA-Z])"
    return "|".join(part for part in (latin, others) if part)
