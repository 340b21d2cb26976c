r"""Keys of a question: equal for questions that differ in form only, and what must not differ.

    exact_keys([(r"求 $\dfrac{1}{2}x$ 的值。", ()), ("求１/2 x的值", ())])   # one key twice
    sense_keys(["Find 12/4.", "Find 12*4."])                # two keys: the operators differ

Words, numbers and `+ - = < >` are the tokens of the strict form; `/ * ^ ! % √`, which that form
leaves out, are counted apart, so that 12/4 is never 12*4.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from slowthink.curation.overlap.tokens import Hashed, Hashes, hashed, mixed, whole

OPERATORS = "÷×^!%√"
_OPERATOR = re.compile(
    r"\\[a-z]+|\*+\d?|\^(?!\s*\{?\s*(?:\\circ|\\prime|°))|!(?<=[\w)}\]]!)(?!=)"
    r"|/|÷|⁄|∕|×|·|∙|⋅|%|√"
)
_SAME_OPERATOR = {
    **dict.fromkeys(("/", "⁄", "∕", *(rf"\{p}frac" for p in ("", "d", "t", "c"))), "÷"),
    **{"\\div": "÷", "\\over": "÷", "\\times": "×", "\\cdot": "×", "*": "×", "\\sqrt": "√"},
    **dict.fromkeys("·∙⋅", "×"),
}
"""What else an operator looks like."""

_WORDS = (
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
SENSE_WORDS = frozenset(_WORDS.split())
"""Words that turn a question into another one: two questions with other ones are not duplicates."""

LETTERS = frozenset("bcdefghijklmnopqrtuvwxyz")
"""Variables; `a` is also an article and `s` an ending."""

OPTION = re.compile(r"(?:^|(?<=\s))[(（]?([A-J])[)）.．、:：]\s*(?=\S)")
_THIRD_OPTION = re.compile(r"C[)）.．、:：]")


def exact_keys(questions: Sequence[tuple[str, Sequence[str]]]) -> Hashes:
    """[num_questions]: equal for questions (with options) of the same strict tokens and operators,
    options in any order. Row-wise; 0 where no token is left.

    Options written into the question as (A) …, (B) … count as options. 64 bits: among a million
    different questions two have one key with a chance of 3e-8.
    """
    parts, lengths = [], []
    for question, choices in questions:
        stem, inside = split_options(question)
        parts += [stem, *inside, *choices]
        lengths.append(1 + len(inside) + len(choices))
    tokens = hashed(parts)
    keys = mixed(whole(tokens) + operator_keys(parts))
    stems = np.cumsum([0, *lengths])[:-1]
    is_stem = np.zeros(len(parts), bool)
    is_stem[stems] = True
    found = np.where(is_stem, mixed(keys), keys)  # a stem is no option
    if not len(questions):
        return found
    any_token = np.add.reduceat(tokens.lengths, stems) > 0
    return np.where(any_token, np.add.reduceat(found, stems), np.uint64(0))


def split_options(question: str) -> tuple[str, list[str]]:
    """The question without its options, and the options, where at least A, B and C come in order.
    """  # fmt: skip
    if not _THIRD_OPTION.search(question):
        return question, []
    found = list(OPTION.finditer(question))
    labels = "".join(one[1] for one in found)
    start = labels.rfind("ABC")
    if start < 0 or labels[start:] != "ABCDEFGHIJ"[: len(labels) - start]:
        return question, []
    found = found[start:]
    ends = [*(one.start() for one in found[1:]), len(question)]
    options = [question[one.end() : end] for one, end in zip(found, ends, strict=True)]
    return question[: found[0].start()], options


def operators(text: str) -> str:
    """The text's operators by name, sorted: those that the strict tokens leave out."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    found = [_operator(sign) for sign in _OPERATOR.findall(text)]
    return "".join(name * found.count(name) for name in OPERATORS) if found else ""


def _operator(sign: str) -> str:
    """Its name; another word of LaTeX, and asterisks that set bold, are none."""
    if sign[:2] == "**":
        return "^" if sign[-1].isdigit() else ""
    return _SAME_OPERATOR.get(sign.rstrip("0123456789"), sign)


def operator_keys(texts: Sequence[str]) -> Hashes:
    """[num_texts]: a hash of each text's operators, in any order."""
    return np.array([_hash_of_operators(operators(text)) for text in texts], np.uint64)


def sense_keys(texts: Sequence[str], tokens: Hashed | None = None) -> Hashes:
    """[num_texts]: a hash of each text's numbers, single letters and sense words in their order,
    and of its operators: 12 - 5 is not 5 - 12.

    `tokens` are the texts' strict tokens, where they are at hand.
    """
    tokens = hashed(texts) if tokens is None else tokens
    words = np.sort(hashed([" ".join(sorted(SENSE_WORDS | LETTERS))]).values)
    place = np.minimum(np.searchsorted(words, tokens.values), len(words) - 1)
    bears = (tokens.values & np.uint64(1)).astype(bool) | (words[place] == tokens.values)
    ends = np.concatenate([[0], np.cumsum(bears)])
    found = whole(Hashed(tokens.values[bears], ends[tokens.offsets]))
    return np.asarray(found + operator_keys(texts), np.uint64)


def number_keys(texts: Sequence[str]) -> Hashes:
    """[num_texts]: a hash of each text's numbers and operators, in any order."""
    tokens = hashed(texts)
    is_number = (tokens.values & np.uint64(1)).astype(bool)
    spread = tokens.values * np.uint64(0xD6E8FEB86659FD93)
    values = np.where(is_number, spread ^ (spread >> np.uint64(32)), np.uint64(0))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(values, dtype=np.uint64)])
    found = sums[tokens.offsets[1:]] - sums[tokens.offsets[:-1]]
    return np.asarray(found + operator_keys(texts), np.uint64)


@functools.lru_cache(maxsize=65_536)
def _hash_of_operators(names: str) -> int:
    """A 64-bit hash of sorted operator names; 0 for none."""
    value = 0
    for name in names:
        value = (value * 0x9E3779B97F4A7C15 + ord(name) * 0xBF58476D1CE4E5B9) % 2**64
    return value
