r"""Typed comparison of two answers by rules; what they cannot decide is left to a worker.

One real record: `compare(r"\frac{1}{2}", "0.5", context=Context())` is
`Comparison(equal=True, method="number")`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from slowthink.grading.answers import choice
from slowthink.grading.answers.equivalence import ComparisonRules, equivalent
from slowthink.grading.answers.latex import MAX_LENGTH, LimitExceeded, ParseError
from slowthink.grading.answers.normalise import normalise, without_spaces
from slowthink.grading.answers.values import Value, parse_value, split_top_level
from slowthink.grading.extract import last_box
from slowthink.records import Problem

MAX_NESTING = 60

_INTEGER = re.compile(r"^\s*-?\d{1,200}\s*$")
_PLAIN_NUMBER = re.compile(r"^\s*-?\d[\d.,]*\s*$")
_SUM = re.compile(r"\d\)?\s*(?:[-+*×÷−]|\\times|\\cdot|\\div)\s*\(?\d")
_DECIMAL_COMMA = re.compile(r"^-?(?:0,\d+|\d+,(?:\d\d|\d{4,}))$")
_CONTINENTAL = re.compile(r"^-?(?:\d+,\d+|\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,})$")
_PARAMETER = re.compile(r"([a-z])\s*\\in\s*\\mathbb\s*\{?\s*[ZN]")
_POINT = re.compile(r"^-?\d+(?:\.\d+)?$")
_ORDERED = re.compile(
    r"respectively|in (?:that|this) order|in (?:increasing|decreasing|ascending|descending) order"
    r"|ordered (?:pair|triple|list|tuple|quadruple)|依次|分别|从小到大|从大到小|排序"
    r"|\b(?:sort|arrange|rank)\b|\border (?:the|these|them)\b"
    r"|from (?:the )?(?:small|larg|least|great|low|high)\w* to",
    re.IGNORECASE,
)
_ROUNDED = re.compile(
    r"\bround|nearest|approximat|decimal place|significant|精确到|保留|近似|约等于", re.IGNORECASE
)
_PERCENT = re.compile(r"percent|%|百分", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AnswerContext:
    """What the problem says about how its answer is to be read."""

    question: str = ""
    choices: tuple[str, ...] = ()
    tolerance: float | None = None
    unit: str | None = None
    letter: str | None = None
    """The right option's letter, where the source says it beside the option's text."""

    @classmethod
    def from_problem(cls, problem: Problem) -> AnswerContext:
        """The context of a problem."""
        letter = (
            json.loads(problem.meta).get("choice_answer")
            if "choice_answer" in problem.meta
            else None
        )
        return cls(problem.question, problem.choices, problem.tolerance, problem.unit, letter)

    def rules(self) -> ComparisonRules:
        """How values are to be compared."""
        return _rules(self.question[-4000:], self.tolerance, self.unit)

    def options(self) -> Mapping[str, str]:
        """Option texts by letter."""
        if self.choices:
            return dict(zip(choice.LETTERS, self.choices, strict=False))
        return _options_in(self.question)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Equal or not and by which rule; with None the two texts that a worker should compare."""

    equal: bool | None
    method: str = ""
    gold: str = ""
    pred: str = ""


def compare(gold: str, pred: str, *, context: AnswerContext) -> Comparison:
    """Compare an answer with the key: strings, choices, then values of the same kind."""
    gold, pred = gold.strip(), pred.strip()
    if gold == pred:
        return Comparison(True, "string")
    if _INTEGER.match(gold) and _INTEGER.match(pred):
        return Comparison(int(gold) == int(pred), "integer")
    too_big = beyond_bounds(pred) or beyond_bounds(gold)
    if too_big:
        return Comparison(False, f"bounds: {too_big}")
    if _restates_question(gold, pred, context.question):
        return Comparison(False, "restates the question")
    chosen = _choices(gold, pred, context)
    if chosen is not None:
        return Comparison(chosen, "choice")
    return _values(gold, pred, context)


def _restates_question(gold: str, pred: str, question: str) -> bool:
    """Whether the answer to "What is 50 - 5?" is "50 - 5": a sum left standing, not worked out."""
    if not _PLAIN_NUMBER.match(gold) or not _SUM.search(pred):
        return False
    return without_spaces(normalise(pred)) in without_spaces(normalise(question[-4000:]))


def beyond_bounds(text: str) -> str | None:
    """Why a text is too big to be parsed; None where it is not."""
    if len(text) > 2 * MAX_LENGTH:
        return f"more than {2 * MAX_LENGTH} characters"
    depth = deepest = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    if deepest > MAX_NESTING:
        return f"nested more than {MAX_NESTING} deep"
    if re.search(r"\d{1000}", text):
        return "a number of 1000 digits"
    if len(re.findall(r"\^", text)) > 200:
        return "more than 200 powers"
    return None


# --- choices --------------------------------------------------------------------------------------


def _choices(gold: str, pred: str, context: AnswerContext) -> bool | None:
    """Verdict of the rules for multiple choice; None where it is no such question."""
    right, given = (
        choice.parse_choice(gold),
        choice.parse_choice(pred, any_case=bool(context.choices)),
    )
    if not right.letters and not given.letters:
        return None
    if context.letter and given.letters:
        return given.letters == frozenset(re.findall(r"[A-J]", context.letter))
    if right.letters and given.letters:
        return right.letters == given.letters
    if right.letters:
        return _text_for_letter(right, pred, context)
    options = context.options()
    text = options.get("".join(given.letters))
    if text is None or given.text:
        return None
    return _values(gold, text, context).equal


def _text_for_letter(right: choice.ChosenOption, pred: str, context: AnswerContext) -> bool | None:
    """Gold is a letter, the answer is none: perhaps it is the option's text."""
    text = right.text or context.options().get("".join(right.letters), "")
    if text:
        return _values(text, pred, context).equal
    return None


@functools.lru_cache(maxsize=2048)
def _options_in(question: str) -> dict[str, str]:
    return choice.options_in(question)


@functools.lru_cache(maxsize=2048)
def _rules(question: str, tolerance: float | None, unit: str | None) -> ComparisonRules:
    return ComparisonRules(
        tolerance=tolerance,
        unit=unit,
        is_ordered=bool(_ORDERED.search(question)),
        is_rounded=bool(_ROUNDED.search(question)),
        asks_percent=bool(_PERCENT.search(question)),
    )


# --- values ---------------------------------------------------------------------------------------


def _values(gold: str, pred: str, context: AnswerContext) -> Comparison:
    """Compare the values that two texts write, in each reading that they allow."""
    texts = tuple(normalise(_unboxed(side)) for side in (gold, pred))
    bare = [without_spaces(re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text)) for text in texts]
    if bare[0] == bare[1] and bare[0]:
        return Comparison(True, "string")
    if not bare[1]:
        return Comparison(False, "empty")
    rules, undecided = context.rules(), False
    for readings in _readings(*texts):
        try:
            if equivalent(*[_value(text, merge) for text, merge in readings], rules=rules):
                return Comparison(True, "value")
        except LimitExceeded as error:
            return Comparison(False, f"bounds: {error}")
        except ParseError:
            undecided = True
    if not undecided:
        return Comparison(False, "value")
    if _is_words(texts[0]) or _is_words(texts[1]):
        return Comparison(False, "words")
    if _is_list(texts[0]) != _is_list(texts[1]) and "," not in min(texts, key=_num_commas):
        return Comparison(False, "shape")
    return Comparison(None, gold=texts[0], pred=texts[1])


def _is_list(text: str) -> bool:
    """Whether commas stand outside all brackets."""
    return len(split_top_level(text, ",")) > 1


def _num_commas(text: str) -> int:
    return text.count(",")


def _unboxed(text: str) -> str:
    return (last_box(text) or text) if "boxed" in text or "\\fbox" in text else text


def _readings(gold: str, pred: str) -> list[tuple[tuple[str, bool], tuple[str, bool]]]:
    """Ways to read the commas: thousands marks first, then separators, then a decimal comma."""
    readings = [((gold, True), (pred, True))]
    if names := _parameters(gold, pred):
        readings.append(
            (
                (gold, True),
                (re.sub(rf"(?<![\\a-zA-Z]){names[1]}(?![a-zA-Z])", names[0], pred), True),
            )
        )
    if re.search(r"\d,\d{3}", gold) or re.search(r"\d,\d{3}", pred):
        readings.append(((gold, False), (pred, False)))
    if _DECIMAL_COMMA.match(gold) or _DECIMAL_COMMA.match(pred):
        sides = [s.replace(",", ".") if _DECIMAL_COMMA.match(s) else s for s in (gold, pred)]
        readings.append(((sides[0], True), (sides[1], True)))
    if _CONTINENTAL.match(pred) and _POINT.match(gold):
        readings.append(((gold, True), (pred.replace(".", "").replace(",", "."), True)))
    return readings


def _parameters(gold: str, pred: str) -> tuple[str, str] | None:
    """What both sides call the whole number that runs through their solutions, if they differ."""
    names = [_PARAMETER.findall(side) for side in (gold, pred)]
    if any(len(found) != 1 for found in names) or names[0] == names[1] or names[0][0] in pred:
        return None
    return names[0][0], names[1][0]


@functools.lru_cache(maxsize=4096)
def _value(text: str, merge_thousands: bool) -> Value:
    return parse_value(text, merge_thousands=merge_thousands)


def _is_words(text: str) -> bool:
    """Whether a text is a sentence, which no parser can compare with anything."""
    bare = re.sub(r"\\(?:begin|end)\{\w+\}|\\[a-zA-Z]+", " ", text)
    return len(re.findall(r"[A-Za-z]{3,}", bare)) >= 4 or len(re.findall(r"[一-鿿]", bare)) >= 6
