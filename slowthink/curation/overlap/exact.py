r"""Keys of questions, which are equal for questions that differ in form only.

    exact_keys([(r"求 $\dfrac{1}{2}x$ 的值。", ()), ("求１/2 x的值", ())])   # two equal keys
    meaning_keys(["Find 12/4.", "Find 12*4."])      # two different keys: the operators differ

Words, numbers and `+ - = < >` are tokens of the strict form. It omits `/ * ^ ! % √`, so these are
hashed separately: the keys of 12/4 and 12*4 differ.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from slowthink.curation.overlap.tokens import (
    HashedBatch,
    Hashes,
    hash_tokens,
    mix_bits,
    text_hashes,
)

OPERATORS = "÷×^!%√"
_SENTENCE_END = r"\s*\Z|\s+[^\sa-z\d+\-*/=<>$\\(]"
_FACTORIAL = (
    rf"!(?:(?<=\d!)|(?<=\d!!)|(?:(?<=[)}}\]]!)|(?<=[A-Za-z]!)(?<![A-Za-z]{{2}}!))(?!{_SENTENCE_END}))"
    r"(?!=)"
)
"""`!` after a number, or after a letter or bracket where no sentence ends ("Find x!")."""
_OPERATOR_PATTERN = re.compile(
    r"\\[a-z]+|\*+\d?|\^(?!\s*\{?\s*(?:\\circ|\\prime|°))"
    rf"|{_FACTORIAL}|/|÷|⁄|∕|×|·|∙|⋅|%|√"
)
_FULL_WIDTH_STOP = re.compile(rf"！(?={_SENTENCE_END})")
_OPERATOR_SYNONYMS = {
    **dict.fromkeys(("/", "⁄", "∕", *(rf"\{p}frac" for p in ("", "d", "t", "c"))), "÷"),
    **{"\\div": "÷", "\\over": "÷", "\\times": "×", "\\cdot": "×", "*": "×", "\\sqrt": "√"},
    **dict.fromkeys("·∙⋅", "×"),
}
"""Signs and commands → the operator of OPERATORS that they mean."""

_MEANING_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen twenty thirty "
    "forty fifty hundred thousand million first second third fourth fifth sixth last half double "
    "twice triple odd even not no non never except without maximum minimum max min maximal minimal "
    "maximize minimize largest smallest greatest least most fewest highest lowest longest shortest "
    "increasing decreasing increase decrease more less above below before after positive negative "
    "nonnegative nonpositive true false correct incorrect sum difference product quotient ratio "
    "sin cos tan cot sec csc sine cosine tangent le ge ne mean median mode perimeter area volume "
    "零 一 二 三 四 五 六 七 八 九 十 百 千 万 亿 两 半 倍 不 非 无 没 除 最 大 小 多 少 "
    "高 低 长 短 奇 偶 正 负 真 假 对 错 增 减 加 乘 和 差 积 商 前 后"
)
MEANING_WORDS = frozenset(_MEANING_WORDS.split())
"""Meaning-bearing words: two questions that differ in them are not duplicates."""

VARIABLE_LETTERS = frozenset("bcdefghijklmnopqrtuvwxyz")
"""Variables, without `a`, which is also an article, and `s`, which is also an ending."""

OPTION_LABEL = re.compile(r"(?:^|(?<=\s))[(（]?([A-J])[)）.．、:：]\s*(?=\S)")
_THIRD_OPTION_LABEL = re.compile(r"C[)）.．、:：]")


def exact_keys(questions: Sequence[tuple[str, Sequence[str]]]) -> Hashes:
    """[num_questions]: keys of pairs (question, options). Equal for questions with the same strict
    tokens and operators and the same options in any order; 0 for a question without tokens.

    Options written into the question as (A) …, (B) … count as options. With 64 bits, two of a
    million different questions have equal keys with probability 3e-8.
    """
    parts, lengths = [], []
    for question, choices in questions:
        stem, inline_options = split_options(question)
        parts += [stem, *inline_options, *choices]
        lengths.append(1 + len(inline_options) + len(choices))
    tokens = hash_tokens(parts)
    keys = mix_bits(text_hashes(tokens) + operator_keys(parts))
    stems = np.cumsum([0, *lengths])[:-1]
    is_stem = np.zeros(len(parts), bool)
    is_stem[stems] = True
    part_keys = np.where(is_stem, mix_bits(keys), keys)  # differs from an option of the same text
    if not len(questions):
        return part_keys
    has_tokens = np.add.reduceat(tokens.lengths, stems) > 0
    return np.where(has_tokens, np.add.reduceat(part_keys, stems), np.uint64(0))


def split_options(question: str) -> tuple[str, list[str]]:
    """The question without its options, and the options, if there are at least A, B and C in order.
    """  # fmt: skip
    if not _THIRD_OPTION_LABEL.search(question):
        return question, []
    matches = list(OPTION_LABEL.finditer(question))
    labels = "".join(match[1] for match in matches)
    start = labels.rfind("ABC")
    if start < 0 or labels[start:] != "ABCDEFGHIJ"[: len(labels) - start]:
        return question, []
    matches = matches[start:]
    ends = [*(match.start() for match in matches[1:]), len(question)]
    options = [question[match.end() : end] for match, end in zip(matches, ends, strict=True)]
    return question[: matches[0].start()], options


def extract_operators(text: str) -> str:
    """The text's operators that are not strict tokens, each as in OPERATORS and in its order."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _FULL_WIDTH_STOP.sub(" ", text))
    found = [_normalise_operator(sign) for sign in _OPERATOR_PATTERN.findall(text)]
    return "".join(operator * found.count(operator) for operator in OPERATORS) if found else ""


def _normalise_operator(sign: str) -> str:
    """The operator of OPERATORS that a sign means; for bold asterisks "", for another LaTeX command
    the command itself."""
    if sign[:2] == "**":
        return "^" if sign[-1].isdigit() else ""
    return _OPERATOR_SYNONYMS.get(sign.rstrip("0123456789"), sign)


def operator_keys(texts: Sequence[str]) -> Hashes:
    """[num_texts]: hashes of the texts' operators, independent of their order."""
    return np.array([_hash_operators(extract_operators(text)) for text in texts], np.uint64)


def meaning_keys(texts: Sequence[str], tokens: HashedBatch | None = None) -> Hashes:
    """[num_texts]: hashes of the texts' numbers, single letters and meaning-bearing words in order
    (12 - 5 is not 5 - 12), and of their operators.

    `tokens` may pass the texts' strict tokens if they are already computed.
    """
    tokens = hash_tokens(texts) if tokens is None else tokens
    words = np.sort(hash_tokens([" ".join(sorted(MEANING_WORDS | VARIABLE_LETTERS))]).values)
    nearest = np.minimum(np.searchsorted(words, tokens.values), len(words) - 1)
    is_kept = tokens.is_number | (words[nearest] == tokens.values)
    num_kept_before = np.concatenate([[0], np.cumsum(is_kept)])
    keys = text_hashes(HashedBatch(tokens.values[is_kept], num_kept_before[tokens.offsets]))
    return np.asarray(keys + operator_keys(texts), np.uint64)


def number_keys(texts: Sequence[str]) -> Hashes:
    """[num_texts]: hashes of the texts' numbers and operators, independent of their order."""
    tokens = hash_tokens(texts)
    mixed = tokens.values * np.uint64(0xD6E8FEB86659FD93)
    values = np.where(tokens.is_number, mixed ^ (mixed >> np.uint64(32)), np.uint64(0))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(values, dtype=np.uint64)])
    keys = sums[tokens.offsets[1:]] - sums[tokens.offsets[:-1]]
    return np.asarray(keys + operator_keys(texts), np.uint64)


@functools.lru_cache(maxsize=65_536)
def _hash_operators(operators: str) -> int:
    """A 64-bit hash of sorted operators; 0 for no operators."""
    value = 0
    for operator in operators:
        value = (value * 0x9E3779B97F4A7C15 + ord(operator) * 0xBF58476D1CE4E5B9) % 2**64
    return value
