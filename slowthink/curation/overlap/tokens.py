r"""Tokens of questions in normal form, and as 64-bit hashes for finding duplicates and leaks.

Two forms: s1's (simplescaling/s1@77272c6: data/decontaminate_util.py) is lower case, split at white
space, nothing else. The strict form is independent of typesetting:

    strict_tokens(r"求 $\dfrac{1}{2}x$ 的值。") == strict_tokens("求１/2 x的值") == ["求", "1", "2", "x", "的", "值"]

A batch is tokenized as one text and hashed with a cache of tokens; the later steps are all numpy:

    tokens = hash_tokens(["What is 17 + 25?", "What is 3?"])  # 5 + 3 tokens
    ngram_hashes(tokens, 3).row(1)         # the only n-gram of 3 tokens, as uint64
    ngram_hashes(mask_numbers(tokens), 3)  # the same with all numbers masked
"""  # noqa: E501

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

SEPARATOR = "\x00"
"""Separates the texts of a batch; a NUL inside a text counts as white space."""
MAX_CACHED_TOKENS = 2_000_000
"""Number of distinct tokens at which the cache is cleared, about 250 MB."""

CJK = r"\u3005\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Characters that are single tokens: Chinese and kana."""
_TOKEN_PATTERN = re.compile(
    rf"[a-z]+|\d+(?:\.\d+)?|[+=<>{SEPARATOR}]|-(?<![a-z]{{2}}-)(?<!--)(?!-)|[{CJK}]"
    rf"|[^\W\d_a-z{CJK}]+"
)
_ENVIRONMENT = re.compile(rf"\\(?:begin|end)\s*\{{[^{{}}{SEPARATOR}]*\}}")
_THOUSANDS_SEPARATOR = re.compile(r"[,{\\](?<=\d[,{\\])(?:,\}|[,!])?(?=\d{3}(?!\d))")
_FRACTION_OF_DIGITS = re.compile(r"frac(\d)(\d)")
_TYPESETTING_COMMAND = re.compile(
    r"\\(?:[dtc]?frac|left|right|[bB]igg?[lrm]?|cdot|times|quad|qquad|(?:display|text)style|limits"
    r"|text(?:bf|it|rm|normal|dollar)?|math(?:rm|bf|it|bb|cal|frak|sf|scr|op)|mbox|hbox|operatorname"
    r"|boldsymbol|bm|hspace|vspace|item|medskip|smallskip|bigskip|noindent|hfill|not|over|mid"
    r"|emph|[lr]brace|[lr]?vert)(?![a-z])"
)
"""Commands for typesetting only, and those of fractions and products. `/` and `*` are no tokens
either, so a/b has the tokens of a fraction."""
_GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho"
_SIGN_NAMES = {
    **dict(zip("αβγδεζηθικλμνξοπρ", _GREEK.split(), strict=True)),
    **{"σ": "sigma", "τ": "tau", "φ": "phi", "ϕ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega"},
    **{"√": "sqrt", "∞": "infty", "≤": "le", "≥": "ge", "≠": "ne", "−": "-", "–": "-"},
    **{"∠": "angle", "°": "circ", "∈": "in", "∪": "cup", "∩": "cap", "△": "triangle", "∑": "sum"},
    **{"∫": "int", "⊥": "perp", "∥": "parallel", "≡": "equiv", "→": "to", "±": "pm", "⊂": "subset"},
}  # fmt: skip
_SIGN_PATTERN = re.compile("[" + "".join(_SIGN_NAMES) + "]")
_COMMAND_SYNONYMS = (
    (re.compile(r"\\leq(?:slant)?(?![a-z])"), " le "),
    (re.compile(r"\\geq(?:slant)?(?![a-z])"), " ge "),
    (re.compile(r"\\neq(?![a-z])"), " ne "),
    (re.compile(r"\\var(?=epsilon|theta|phi|rho|sigma)"), r"\\"),
    (re.compile(r"\\lt(?![a-z])"), "<"),
    (re.compile(r"\\gt(?![a-z])"), ">"),
    (re.compile(r"\\degree(?![a-z])"), " circ "),
    (re.compile(r"(\\[a-z]+)-"), r"\1 -"),  # a minus sign, not a hyphen
)


@dataclass(frozen=True)
class HashedBatch:
    """Hashes of the tokens or n-grams of a batch of texts, concatenated."""

    values: Hashes
    """[num_values]. The last bit of a token's hash is 1 if it is a number, else 0."""
    offsets: NDArray[np.int64]
    """[num_texts + 1]: text i has values[offsets[i]:offsets[i + 1]]."""

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[num_texts]: number of values of each text."""
        return np.diff(self.offsets)

    @property
    def text_indices(self) -> NDArray[np.int64]:
        """[num_values]: index of the text that each value belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def is_number(self) -> NDArray[np.bool_]:
        """[num_values]: whether each token is a number."""
        return (self.values & np.uint64(1)).astype(bool)

    def row(self, index: int) -> Hashes:
        """The values of one text."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]


# --- one text -------------------------------------------------------------------------------------


def s1_words(text: str) -> list[str]:
    """The words of s1's form."""
    return text.lower().split()


def strict_tokens(text: str) -> list[str]:
    """The tokens of the strict form: Latin words, numbers, `+ - = < >` and Chinese characters."""
    return _TOKEN_PATTERN.findall(strict_text(text.replace(SEPARATOR, " ")))


def strict_text(text: str) -> str:
    """The text with its punctuation, after NFKC, case folding and unifying LaTeX commands."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).casefold()
        text = _SIGN_PATTERN.sub(_sign_name, text)
    else:
        text = text.lower()
    text = _THOUSANDS_SEPARATOR.sub("", text)
    if "\\" not in text:
        return text
    text = _FRACTION_OF_DIGITS.sub(r"frac \1 \2", text)
    text = _TYPESETTING_COMMAND.sub(" ", _ENVIRONMENT.sub(" ", text))
    for pattern, replacement in _COMMAND_SYNONYMS:
        text = pattern.sub(replacement, text)
    return text


def _sign_name(match: re.Match[str]) -> str:
    name = _SIGN_NAMES[match[0]]
    return name if name == "-" else f" {name} "


# --- batches --------------------------------------------------------------------------------------


class _TokenHashes(dict[str, int]):
    """Token → hash, the same in every process; the last bit is 1 for a number. A cache."""

    def __missing__(self, token: str) -> int:
        value = int.from_bytes(hashlib.blake2b(token.encode("utf-8", "surrogatepass"),
                               digest_size=8).digest(), "little")  # fmt: skip
        value = (value | 1) if token[0].isdigit() else (value & ~1)
        self[token] = value
        return value


_TOKEN_HASHES = _TokenHashes()


def hash_tokens(texts: Sequence[str]) -> HashedBatch:
    """Hashes of the strict tokens of each text; equal in every process, worker and batch."""
    if len(_TOKEN_HASHES) > MAX_CACHED_TOKENS:
        _TOKEN_HASHES.clear()
    joined = f" {SEPARATOR} ".join([text.replace(SEPARATOR, " ") for text in texts])
    tokens = _TOKEN_PATTERN.findall(strict_text(joined))
    values = np.fromiter(map(_TOKEN_HASHES.__getitem__, tokens), np.uint64, len(tokens))
    separators = np.flatnonzero(values == np.uint64(_TOKEN_HASHES[SEPARATOR]))
    offsets = np.zeros(len(texts) + 1, np.int64)
    if len(texts):
        offsets[1:-1] = separators - np.arange(len(separators))
        offsets[-1] = len(values) - len(separators)
    return HashedBatch(np.delete(values, separators), offsets)


def mask_numbers(tokens: HashedBatch) -> HashedBatch:
    """The tokens with all numbers replaced by the same one."""
    return HashedBatch(np.where(tokens.is_number, np.uint64(1), tokens.values), tokens.offsets)


def ngram_hashes(tokens: HashedBatch, width: int) -> HashedBatch:
    """Hashes of all n-grams of `width` tokens, in order; none for a text with fewer tokens."""
    lengths = np.maximum(tokens.lengths - (width - 1), 0)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ngrams = mix_bits(_ngrams(tokens.values, width))
    starts = np.repeat(tokens.offsets[:-1] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return HashedBatch(ngrams[starts], offsets)


def text_hashes(tokens: HashedBatch) -> Hashes:
    """[num_texts]: a hash of each text's tokens and their order."""
    positions = np.arange(len(tokens.values)) - np.repeat(tokens.offsets[:-1], tokens.lengths)
    parts = mix_bits(tokens.values + mix_bits(positions.astype(np.uint64)))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(parts, dtype=np.uint64)])
    return mix_bits(sums[tokens.offsets[1:]] - sums[tokens.offsets[:-1]])


def _ngrams(values: Hashes, width: int) -> Hashes:
    """Polynomial hashes modulo 2^64 of all windows of the values, also across texts."""
    num = max(0, len(values) - width + 1)
    ngrams = np.zeros(num, np.uint64)
    for offset in range(width):
        ngrams *= np.uint64(0x9E3779B97F4A7C15)
        ngrams += values[offset : offset + num]
    return ngrams


def mix_bits(values: Any) -> Hashes:
    """The values mixed over all 64 bits (the finaliser of splitmix64, Steele et al. 2014)."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return np.asarray(values, np.uint64)
