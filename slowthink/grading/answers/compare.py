r"""Comparison of a prediction with the reference answer by rules; workers decide the undecided.

Strings first, then choices, then the values that `values` parses. Example:
`compare(r"\frac{1}{2}", "0.5", context=AnswerContext())` is `AnswerComparison(True, "value")`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from slowthink.grading.answers import choice, nodes
from slowthink.grading.answers.equivalence import equivalent
from slowthink.grading.answers.labels import has_named_parts
from slowthink.grading.answers.latex import MAX_LENGTH, TEXT
from slowthink.grading.answers.nodes import LimitExceeded, ParseError
from slowthink.grading.answers.normalise import normalise, without_spaces
from slowthink.grading.answers.qualifiers import have_other_ranges
from slowthink.grading.answers.relations import is_label
from slowthink.grading.answers.terms import ComparisonRules
from slowthink.grading.answers.values import (
    Expression,
    Matrix,
    Relation,
    Value,
    parse_value,
)
from slowthink.grading.boxes import last_box
from slowthink.records import Problem

MAX_NESTING = 60
"""Deepest nesting of brackets that is parsed."""

_INTEGER = re.compile(r"^\s*-?\d{1,200}\s*$")
_NUMBER = re.compile(r"^\s*-?\d[\d.,]*\s*$")
_ARITHMETIC = re.compile(r"\d\)?\s*(?:[-+*×÷−]|\\times|\\cdot|\\div)\s*\(?\d")
_DECIMAL_COMMA = re.compile(r"^(?:R\\\$\s*|€\s*)?-?(?:0,\d+|\d+,(?:\d\d|\d{4,}))$")
_CONTINENTAL_DECIMAL = re.compile(
    r"^(?:R\\\$\s*|€\s*)?-?(?:\d+,\d+|\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,})(?:\s?€)?$"
)
_COMMA_BEFORE_UNIT = re.compile(
    r"^(-?\d+),(\d+)(?=\s*(?:\\text|\\?%|€|[a-zA-ZÀ-ÿ])(?!(?:nd|nd|r|t)\b)|\s*[一-鿿])"
)
_MARKS = {"√": "yes", "✓": "yes", "✔": "yes", "×": "no", "✗": "no", "✘": "no"}
"""Signs that stand alone for a word."""
_POINT_NAME = re.compile(r"^[ABD-MO-TV-Z](?:_\d|')?\s*(?=\([^()]*,[^()]*\)$)")
"""Name of a point before its coordinates; N and U are distributions, C a binomial coefficient."""
_DECIMAL_POINT = re.compile(r"^-?\d+(?:\.\d+)?$")
_INTEGER_PARAMETER = re.compile(r"([a-z])\s*\\in\s*(?:\\mathbb\s*\{?\s*)?[ZN](?![a-z])")
_SUBJECT = re.compile(r"[\s${]*(?:\\text\s*\{)?\s*([A-Za-z ]{4,60}?)\s+(?:is|are|equals)(?![a-z])")
"""What a sentence says something of."""
_CHINESE_SUBJECT = re.compile(
    r"[\s${]*(?:\\text\s*\{)?\s*(?!.{0,4}(?:答案|结果|解))([一-鿿]{2,12})\s*[为是]\s*\}?\s*[-\d$\\(]"
)
_OPPOSITES = (
    ("min", "max"), ("domain", "range"), ("increasing", "decreasing"), ("left", "right"),
    ("north", "south"), ("east", "west"), ("above", "below"), ("profit", "loss"), ("gain", "loss"),
    ("odd", "even"), ("before", "after"), ("最大", "最小"), ("奇", "偶"), ("左", "右"),
)  # fmt: skip
"""Of two words of which each is in one text only, the texts say different things."""
_SAME_SUBJECT = (
    frozenset({"maximum", "max", "maximal", "largest", "greatest", "biggest", "highest"}),
    frozenset({"minimum", "min", "minimal", "smallest", "least", "lowest"}),
    frozenset({"final", "correct", "required", "desired", "requested"}),
    frozenset({"total", "overall", "whole", "entire"}),
    frozenset({"the", "a", "an", "one", "this", "that", "each"}),
    frozenset({"of", "for", "in"}),
    frozenset({"answer", "solution", "result", "value"}),
)
"""Words that do not tell two subjects apart."""
_WORD = re.compile(r"[A-Za-z]*[a-z][A-Za-z]*")
_LETTERS_TOGETHER = re.compile(r"(?<![A-Za-z])[A-J]{3,}(?![A-Za-z])")
"""Where they are not in the order of the alphabet, they are an arrangement, not several options."""
_VECTOR = r"\\(?:vec|mathbf|overrightarrow)(?![a-z])\s*\{?\s*\w+\s*\}?"
_PRODUCT_OF_VECTORS = re.compile(rf"{_VECTOR}\s*\\(cdot|times)\s*(?={_VECTOR})")
_ASKS_FOR_ORDER = re.compile(
    r"respectively|in (?:that|this) order|in (?:increasing|decreasing|ascending|descending) order"
    r"|ordered (?:pair|triple|list|tuple|quadruple)|依次|分别|从小到大|从大到小|排序"
    r"|\b(?:sort|arrange|rank)\b|\border (?:the|these|them)\b"
    r"|from (?:the )?(?:small|larg|least|great|low|high)\w* to",
    re.IGNORECASE,
)
_ASKS_FOR_ROUNDING = re.compile(
    r"\bround|nearest|approximat|decimal place|significant|精确到|保留|近似|约等于", re.IGNORECASE
)
_ASKS_FOR_PERCENT = re.compile(r"percent|%|百分", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AnswerContext:
    """The parts of a problem on which the comparison of its answers depends."""

    question: str = ""
    choices: tuple[str, ...] = ()
    tolerance: float | None = None
    unit: str | None = None
    correct_letter: str | None = None
    """Letter of the correct option, if the reference answer is the option's text."""

    @classmethod
    def from_problem(cls, problem: Problem) -> AnswerContext:
        """Return the context of a problem."""
        has_letter = "choice_answer" in problem.meta
        letter = json.loads(problem.meta).get("choice_answer") if has_letter else None
        return cls(problem.question, problem.choices, problem.tolerance, problem.unit, letter)

    def rules(self) -> ComparisonRules:
        """Return the rules by which values are compared."""
        return _comparison_rules(self.question[-4000:], self.tolerance, self.unit)

    def options(self) -> Mapping[str, str]:
        """Return the options by letter: the problem's choices, or those in its question."""
        if self.choices:
            return dict(zip(choice.LETTERS, self.choices, strict=False))
        return choice.options_in_question(self.question)


@dataclass(frozen=True, slots=True)
class AnswerComparison:
    """Whether two answers are equal, and by which rule; None with the texts for a worker."""

    equal: bool | None
    method: str = ""
    gold: str = ""
    pred: str = ""


def compare(gold: str, pred: str, *, context: AnswerContext) -> AnswerComparison:
    """Compare a prediction with the reference answer: strings, choices, then values."""
    gold, pred = gold.strip(), pred.strip()
    if gold == pred:
        return AnswerComparison(True, "string")
    if _INTEGER.match(gold) and _INTEGER.match(pred):
        return AnswerComparison(int(gold) == int(pred), "integer")
    exceeded = exceeded_limit(pred) or exceeded_limit(gold)
    if exceeded:
        return AnswerComparison(False, f"bounds: {exceeded}")
    if _restates_question(gold, pred, context.question):
        return AnswerComparison(False, "restates the question")
    if has_named_parts(gold) and has_named_parts(pred.replace("=", ":")) and not context.choices:
        return _compare_values(gold, pred, context)
    is_same_choice = _compare_choices(gold, pred, context)
    if is_same_choice is not None:
        return AnswerComparison(is_same_choice, "choice")
    return _compare_values(gold, pred, context)


def _restates_question(gold: str, pred: str, question: str) -> bool:
    """Whether the prediction repeats the arithmetic of "What is 50 - 5?" without a result."""
    if not _NUMBER.match(gold) or not _ARITHMETIC.search(pred):
        return False
    return without_spaces(normalise(pred)) in without_spaces(normalise(question[-4000:]))


def exceeded_limit(text: str) -> str | None:
    """Return the limit that a text exceeds, so that it is not parsed; None if it exceeds none."""
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


def _compare_choices(gold: str, pred: str, context: AnswerContext) -> bool | None:
    """Compare as choices; None if neither side is a choice, or the options are unknown."""
    correct = choice.parse_choice(gold)
    chosen = choice.parse_choice(pred, any_case=bool(context.choices))
    if not chosen.letters and context.choices:
        chosen = _option_as_equation(pred, context) or chosen
    if not correct.letters and not chosen.letters:
        return None
    if _names_another_option(chosen, context):
        return False
    if context.correct_letter and chosen.letters:
        return chosen.letters == frozenset(re.findall(r"[A-J]", context.correct_letter))
    if correct.letters and chosen.letters:
        orders = [re.findall("[A-J]", _WORD.sub("", side)) for side in (gold, pred)]
        together = [run for side in (gold, pred) for run in _LETTERS_TOGETHER.findall(side)]
        is_arrangement = len(orders[0]) > 2 and not context.options()
        is_arrangement &= any(list(run) != sorted(run) for run in (orders[0], *together))
        return orders[0] == orders[1] if is_arrangement else correct.letters == chosen.letters
    if correct.letters:
        text = correct.text or context.options().get("".join(correct.letters), "")
        return _compare_values(text, pred, context).equal if text else None
    option = context.options().get("".join(chosen.letters))
    if option is None or chosen.text:
        return None
    return _compare_values(gold, option, context).equal


def _option_as_equation(pred: str, context: AnswerContext) -> choice.ChosenOption | None:
    """The option in "C = 14", where C is 14; E = mc^2 names none."""
    named = choice.letter_and_equal(pred)
    if named is None or (text := context.options().get(named[0])) is None:
        return None
    is_option = _compare_values(text, named[1], context).equal
    return choice.ChosenOption(frozenset(named[0]), named[1]) if is_option else None


def _names_another_option(chosen: choice.ChosenOption, context: AnswerContext) -> bool:
    """Whether the text beside a letter is the text of another option: "16 (C)" where D is 16."""
    options = context.options() if chosen.text and len(chosen.letters) == 1 else {}
    equal = {
        letter
        for letter, text in options.items()
        if _compare_values(text, chosen.text, context).equal
    }
    return bool(equal) and not equal & chosen.letters


@functools.lru_cache(maxsize=2048)
def _comparison_rules(question: str, tolerance: float | None, unit: str | None) -> ComparisonRules:
    return ComparisonRules(
        tolerance=tolerance,
        unit=unit,
        is_ordered=bool(_ASKS_FOR_ORDER.search(question)),
        is_rounded=bool(_ASKS_FOR_ROUNDING.search(question)),
        asks_percent=bool(_ASKS_FOR_PERCENT.search(question)),
    )


def _compare_values(gold: str, pred: str, context: AnswerContext) -> AnswerComparison:
    """Compare the values that two texts denote. One equal interpretation of commas is enough."""
    if _state_of_others(gold, pred) or _multiply_vectors_otherwise(gold, pred):
        return AnswerComparison(False, "value")
    gold, pred = (normalise(_MARKS.get(side) or _unboxed(side)) for side in (gold, pred))
    gold_bare, pred_bare = (without_spaces(TEXT.sub(r"\1", side)) for side in (gold, pred))
    if ("\\vec{" in gold_bare) != ("\\vec{" in pred_bare):
        gold_bare, pred_bare = (
            re.sub(r"^\\vec\{(\w\w)\}$", r"\1", s) for s in (gold_bare, pred_bare)
        )
    if gold_bare == pred_bare and gold_bare:
        return AnswerComparison(True, "string")
    if not pred_bare:
        return AnswerComparison(False, "empty")
    if bool(_POINT_NAME.match(gold)) != bool(_POINT_NAME.match(pred)):
        gold, pred = (_POINT_NAME.sub("", side) for side in (gold, pred))
    if have_other_ranges(gold, pred):
        return AnswerComparison(False, "value")
    rules, is_read = context.rules(), True
    formulas: tuple[str, str] | None = None
    for gold_text, pred_text, merge_thousands in _interpretations(gold, pred):
        try:
            gold_value = _parsed_value(gold_text, merge_thousands)
            pred_value = _parsed_value(pred_text, merge_thousands)
        except LimitExceeded as error:
            return AnswerComparison(False, f"bounds: {error}")
        except ParseError:
            is_read = False
            continue
        try:
            if equivalent(gold_value, pred_value, rules=rules):
                return AnswerComparison(True, "value")
        except LimitExceeded as error:
            return AnswerComparison(False, f"bounds: {error}")
        except ParseError:
            formulas = formulas or _formulas(gold_value, pred_value, (gold_text, pred_text))
    if formulas:
        return AnswerComparison(None, gold=formulas[0], pred=formulas[1])
    return AnswerComparison(False, "value" if is_read else "not read in full")


def _state_of_others(gold: str, pred: str) -> bool:
    """Whether two sentences say something of what one word tells apart: "the tens digit is 4" and
    "the units digit is 4"."""
    if any(
        (a in gold) != (a in pred) and (b in gold) != (b in pred) and (a in gold) != (b in gold)
        for a, b in _OPPOSITES
    ):
        return True
    named = [
        match.group(1) if (match := _CHINESE_SUBJECT.match(side)) else "" for side in (gold, pred)
    ]
    if all(named):
        return not (named[0] in named[1] or named[1] in named[0])
    subjects = [_SUBJECT.match(side) for side in (gold, pred)]
    if not all(subjects):
        return False
    words, others = (match.group(1).lower().split() for match in subjects if match)
    differing = [pair for pair in zip(words, others, strict=False) if pair[0] != pair[1]]
    if not (len(words) == len(others) >= 3 and len(differing) == 1):
        return False
    return not any(same.issuperset(differing[0]) for same in _SAME_SUBJECT)


def _multiply_vectors_otherwise(gold: str, pred: str) -> bool:
    """Whether one is a scalar product of vectors and the other a cross product."""
    signs = [set(_PRODUCT_OF_VECTORS.findall(side)) for side in (gold, pred)]
    return all(signs) and signs[0] != signs[1]


def _formulas(gold: Value, pred: Value, texts: tuple[str, str]) -> tuple[str, str] | None:
    """Return the formulas that a worker compares: two expressions or matrices that were read in
    full, each without a unit and without its name. None for others, which are then unequal."""
    formulas = []
    for value, text in zip((gold, pred), texts, strict=True):
        if isinstance(value, Relation) and value.signs == ("=",) and is_label(value.sides[0]):
            text = value.sides[1]
            try:
                value = parse_value(text)
            except ParseError:
                return None
        is_formula = (
            isinstance(value, Expression)
            and not value.unit
            and not (nodes.operations(value.node) & nodes.MISREAD)
        )
        if not is_formula and not isinstance(value, Matrix):
            return None
        formulas.append(text)
    return formulas[0], formulas[1]


def _unboxed(text: str) -> str:
    return (last_box(text) or text) if "box" in text else text


def _interpretations(gold: str, pred: str) -> list[tuple[str, str, bool]]:
    """Return interpretations of the commas: both texts, and whether commas separate thousands.

    Thousands separators come first, then list separators, then decimal commas.
    """
    pairs = [(gold, pred, True)]
    if names := _parameter_names(gold, pred):
        gold_name, pred_name = names
        renamed = re.sub(rf"(?<![\\a-zA-Z]){pred_name}(?![a-zA-Z])", gold_name, pred)
        pairs.append((gold, renamed, True))
    if re.search(r"\d,\d{3}", gold) or re.search(r"\d,\d{3}", pred):
        pairs.append((gold, pred, False))
    if _COMMA_BEFORE_UNIT.match(gold) or _COMMA_BEFORE_UNIT.match(pred):
        sides = [_COMMA_BEFORE_UNIT.sub(r"\1.\2", side) for side in (gold, pred)]
        pairs.append((sides[0], sides[1], True))
    if _DECIMAL_COMMA.match(gold) or _DECIMAL_COMMA.match(pred):
        sides = [s.replace(",", ".") if _DECIMAL_COMMA.match(s) else s for s in (gold, pred)]
        pairs.append((sides[0], sides[1], True))
    if _CONTINENTAL_DECIMAL.match(pred) and _DECIMAL_POINT.match(gold):
        pairs.append((gold, pred.replace(".", "").replace(",", "."), True))
    return pairs


def _parameter_names(gold: str, pred: str) -> tuple[str, str] | None:
    """Return the name of the integer parameter of each side; None if equal or not exactly one."""
    gold_names, pred_names = (_INTEGER_PARAMETER.findall(side) for side in (gold, pred))
    if len(gold_names) != 1 or len(pred_names) != 1 or gold_names == pred_names:
        return None
    return None if gold_names[0] in pred else (gold_names[0], pred_names[0])


@functools.lru_cache(maxsize=4096)
def _parsed_value(text: str, merge_thousands: bool) -> Value:
    return parse_value(text, merge_thousands=merge_thousands)
