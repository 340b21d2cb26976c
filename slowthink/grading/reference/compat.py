r"""The papers' own string rules, to compare our grader with.

Our own code, after the published grader of LIMO, arXiv 2502.03387 (extraction, normalisation,
equality in nine steps, without the symbolic step), and after s1's task code (the last box, else
"Answer:", else the whole text; s1 let a model judge unequal strings, which here are unequal).
LIMO's accept 6 for 600 and [0, 1] for (0, 1), so they are never a default. Example:
`equal_as("limo-compat", "6", "600")` is True.
"""

from __future__ import annotations

import math
import re

_UNIT_WORDS = (
    "east|degree|mph|kmph|ft|m square|deg|mile|q|monkey|prime|ratio|profit of rs|rd|o|gm|p m|lb"
    "|tile|per|dm|lt|gain|ab|way|west|a|b|c|d|e|f|g|h|t|inch|foot|yard|cm|mm|km|kg|second|minute"
    "|hour|day|week|month|year|man|sec|min|number|square|more|less|st|th|by|am|pm|dollar|cent|unit|point|l"
    "|m|s"
)
_UNIT = re.compile(rf"(^|\W)(?:{_UNIT_WORDS})s?($|\W)")
_NUMBER_WORDS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12,
}  # fmt: skip
_REMOVED_MARKS = (
    "\\!", "\\left", "\\right", "^{\\circ}", "^\\circ", "\\$", "$", "\\(", "\\)", "%", "\\%",
)  # fmt: skip


def extract_as(mode: str, text: str) -> str:
    """Return the answer that the paper of `mode` extracts; an empty string for none."""
    return _limo_extract(text) if mode == "limo-compat" else _s1_extract(text)


def equal_as(mode: str, gold: str, pred: str) -> bool:
    """Whether the paper of `mode` calls two answers equal."""
    if mode == "limo-compat":
        same_string = pred.strip().lower() == gold.strip().lower()
        return same_string or _limo_equal(_limo_normalise(pred), _limo_normalise(gold), depth=0)
    return _s1_normalise(pred) == _s1_normalise(gold)


def _s1_extract(text: str) -> str:
    text = re.split(r"<\|im_start\|>(?:answer\n)?", text)[-1]
    if "\\boxed" in text:
        return _braced_content(text.split("\\boxed")[-1])
    marked = re.findall(r"(?is)answer\s*:\s*(.*)", text)
    return (marked[-1] if marked else text).strip()


def _s1_normalise(text: str) -> str:
    text = text.strip()
    return str(int(text)) if re.fullmatch(r"\d{1,500}", text) else text


def _limo_extract(text: str) -> str:
    if "boxed" not in text:
        return ""
    answer = _braced_content(text.split("boxed")[-1]).replace("\n", "")
    return answer.lstrip(":").rstrip(".").rstrip("/")


def _braced_content(text: str) -> str:
    """Return the content of the first braces; without a brace, the text before the dollar sign."""
    if not text.startswith("{"):
        return text.split("$")[0].strip()
    depth = 0
    for position, char in enumerate(text):
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return text[1:position].strip()
    return text[1:].strip()


def _limo_normalise(text: str) -> str:
    """Normalise as published, in the same order of steps."""
    text = text.strip().replace("\n", "").rstrip(".")
    text = re.sub(r"\\begin\{(?:array)\}\{.*?\}|\\begin\{bmatrix\}", r"\\begin{pmatrix}", text)
    text = re.sub(r"\\end\{(?:array|bmatrix)\}", r"\\end{pmatrix}", text)
    for old, new in (("tfrac", "frac"), ("dfrac", "frac"), ("\\{", "{"), ("\\}", "}")):
        text = text.replace(old, new)
    text = text.replace("\\neq", "\\ne").replace("\\leq", "\\le").replace("\\geq", "\\ge")
    text = re.sub(r"\\text\{.*?\}$", "", text.replace("\\left", "").replace("\\right", "")).strip()
    for _ in range(2):
        text = _UNIT.sub(r"\1\2", text)
    for mark in _REMOVED_MARKS:
        text = text.replace(mark, "")
    return _limo_normalise_values(text)


def _limo_normalise_values(text: str) -> str:
    text = str(_NUMBER_WORDS.get(text.strip().lower(), text))
    text = re.sub(r"\\text\{(.*?)\}", r"\1", text)
    text = re.sub(r"(?:x|y|z)\s*=|x\s*\\in", "", text)
    text = text.replace("infinity", "\\infty").replace("and", "").replace("\\mathbf", "")
    text = re.sub(r"\\mbox\{.*?\}", "", text)
    text = text.replace("j", "i") if "i" not in text else text
    text = re.sub(r"(\d)\.0*(?=\D|$)", r"\1", text)
    sides = text.split("=")
    if len(sides) == 2 and len(sides[0].strip()) <= 2:
        text = sides[1]
    text = re.sub(r"\\sqrt(\w)", r"\\sqrt{\1}", text.replace(" ", ""))
    text = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", text)
    return re.sub(r"^(-?\d+)/(\d+)$", r"\\frac{\1}{\2}", text)


def _limo_parse_number(text: str) -> float | None:
    text = text.replace(",", "")
    is_percent = text.endswith("%")
    try:
        number = float(text.rstrip("%\\"))
    except ValueError:
        return None
    return number / 100 if is_percent else number


def _limo_equal(pred: str, gold: str, *, depth: int) -> bool:
    """Whether two answers are equal. The first published test that applies decides."""
    if depth > 5:
        return False
    if pred.lower() == gold.lower():
        return True
    if gold in tuple("ABCDE"):
        letters = re.findall(r"\b[A-E]\b", pred.upper())
        return bool(letters) and letters[-1] == gold
    option = re.sub(r"^(?:\([A-E]\)|\*\*[A-E]\*\*|[A-E][.:])\s*", "", pred)
    if option != pred:
        return _limo_equal(option, gold, depth=depth + 1)
    if _without_brackets(pred) == _without_brackets(gold):
        return True
    if "," in pred and "," in gold:
        return _limo_equal_lists(pred, gold, depth=depth)
    pred_number, gold_number = _limo_parse_number(pred), _limo_parse_number(gold)
    if pred_number is not None and gold_number is not None:
        return any(
            math.isclose(pred_number, value, abs_tol=1e-4)
            for value in (gold_number / 100, gold_number, gold_number * 100)
        )
    return _limo_equal_equations(pred, gold)


def _limo_equal_lists(pred: str, gold: str, *, depth: int) -> bool:
    sides = [
        sorted(part.strip() for part in _without_brackets(side).split(",")) for side in (pred, gold)
    ]
    return len(sides[0]) == len(sides[1]) and all(
        _limo_equal(a, b, depth=depth + 1) for a, b in zip(*sides, strict=True)
    )


def _without_brackets(text: str) -> str:
    """Remove all brackets, the reason why the published grader accepts [0,1] for (0,1)."""
    return re.sub(r"[{}()]", "", text.removeprefix("[").removesuffix("]")).strip("[]").lower()


def _limo_equal_equations(pred: str, gold: str) -> bool:
    pred_sides, gold_sides = ([s.strip() for s in text.split("=")] for text in (pred, gold))
    return len(pred_sides) == len(gold_sides) == 2 and set(pred_sides) == set(gold_sides)
