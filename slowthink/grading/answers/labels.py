r"""Answers in labelled parts: "(a) 3, (b) 5", "①3 ②5", "Part (i): 3".

Example: `split_labels("(b) 5; (a) 3")` is ((1, "3"), (2, "5")).
"""

from __future__ import annotations

import re

from slowthink.grading.answers.latex import TEXT

_ROMAN_NUMERALS = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x")
_CHINESE = "一二三四五六"
_ROMAN = {name: n for n, name in enumerate(_ROMAN_NUMERALS, start=1)}
_LABEL = re.compile(
    r"(?:^|(?<=[\s,;}.\d]))(?:\\text\s*\{\s*)?(?:(?:part|Part)\s+)?"
    r"(?:\((?:\\text\s*\{\s*)?([a-h]|[ivx]{1,4}|[IVX]{1,4}|\d{1,2})\s*\}?\)"
    r"|([a-h]|[ivx]{1,4}|\d{1,2})\)(?=\s)|第([一二三四五六\d])(?:小?[问题]|空|部分)(?=\s*:))"
    r"\s*[:.]?\s*\}?(?!\s*[-+*/^=,;)]\s*[^\d\\(]|\s*$)"
)
_COUNTED_PART = r"[一-鿿]{1,4}\d{1,9}(?:\.\d{1,9})?[一-鿿]?"
_COUNTED_PARTS = re.compile(rf"{_COUNTED_PART}(?:\s*[,;]\s*{_COUNTED_PART})+")
_NAMED_PARTS = re.compile(
    r"^(?:[Pp]art\s)?[A-Za-z]\w{0,9}\s*:\s*[^:,;]+(?:[,;]\s*(?:[Pp]art\s)?[A-Za-z]\w{0,9}\s*:\s*[^:,;]+)+$"
)


def split_labels(text: str) -> tuple[tuple[int, str], ...] | None:
    """Return the number of each label with its part, in the order of the numbers; None if a text
    is not in parts with consecutive labels."""
    if ")" not in text and "第" not in text:
        return None
    matches = list(_LABEL.finditer(text))
    if len(matches) < 2 or matches[0].start() != 0:
        return None
    labels = [next(filter(None, match.groups())).lower() for match in matches]
    numbers = _label_numbers(labels)
    ends = [*(match.start() for match in matches[1:]), len(text)]
    parts = [
        text[match.end() : end].strip(" ,;.").rstrip("\\ ;,")
        for match, end in zip(matches, ends, strict=True)
    ]
    in_order = sorted(zip(numbers, parts, strict=True))
    first = in_order[0][0]
    if not all(parts) or [n for n, _ in in_order] != list(range(first, first + len(parts))):
        return None
    return tuple(in_order)


def _label_numbers(labels: list[str]) -> list[int]:
    if all(label in _ROMAN for label in labels) and "i" in labels:
        return [_ROMAN[label] for label in labels]
    labels = [str(_CHINESE.find(label) + 1) if label in _CHINESE else label for label in labels]
    return [int(label) if label.isdigit() else ord(label[0]) - ord("a") + 1 for label in labels]


def has_named_parts(text: str) -> bool:
    """Whether a text gives several names a value each: "A: 12, B: 20"."""
    if ":" not in text or len(text) >= 300:
        return False
    return _NAMED_PARTS.match(TEXT.sub(r"\1", text)) is not None


def named_parts_as_equations(text: str) -> str:
    """Return "A: 12, B: 20" as "A= 12, B= 20", 鸡23，兔12 likewise; other texts unchanged."""
    if _COUNTED_PARTS.fullmatch(text):
        return re.sub(r"(?<=[一-鿿])(?=\d)", "=", text)
    if not has_named_parts(text):
        return text
    return re.sub(r"\b[Pp]art\s", "", TEXT.sub(r"\1", text)).replace(":", "=")
