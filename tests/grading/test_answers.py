"""Kinds of answers, each with equal and unequal pairs; and LIMO's traps."""

from __future__ import annotations

import pytest

from slowthink.grading import Grader
from slowthink.grading.answers.compare import AnswerContext, compare
from slowthink.grading.grader import PairItem
from slowthink.grading.reference.traps import TRAPS
from slowthink.records import Verdict

EQUAL = {
    "integer-zeros": ("23", "023"),
    "integer-thousands": ("1234567", "1,234,567"),
    "integer-thin-space": ("48000", r"48\,000"),
    "integer-braced-comma": ("48000", "48{,}000"),
    "integer-spaces": ("48000", "48 000"),
    "integer-words": ("27", "twenty-seven"),
    "integer-words-chinese": ("27", "二十七"),
    "integer-full-width": ("27", "２７"),
    "integer-decimal-point": ("27", "27.0"),
    "integer-sum": ("27", "3^3"),
    "integer-markdown": ("27", "**27**"),
    "negative-unicode": ("-8", "−8"),
    "decimal-fraction": ("0.375", r"\frac{3}{8}"),
    "decimal-bare-point": ("0.375", ".375"),
    "decimal-comma": ("3,75", "3.75"),
    "decimal-half-place": ("2.7183", "2.71828"),
    "decimal-of-root": (r"\sqrt{5}", "2.236"),
    "decimal-long": (r"\frac{2}{7}", "0.285714"),
    "decimal-large": ("6.02e23", "6.0199e23"),
    "scientific": (r"6.5 \times 10^3", "6500"),
    "scientific-cdot": (r"3.2\cdot 10^{-4}", "0.00032"),
    "fraction-slash": (r"\frac{3}{8}", "3/8"),
    "fraction-dfrac": (r"\frac{3}{8}", r"\dfrac38"),
    "fraction-lowest": (r"\frac{6}{16}", r"\frac{3}{8}"),
    "fraction-mixed": (r"3\frac{1}{4}", "13/4"),
    "fraction-mixed-plain": ("3 1/4", "3.25"),
    "fraction-negative": (r"-\frac{3}{8}", r"\frac{-3}{8}"),
    "percent-sign": (r"15\%", "15%"),
    "percent-bare": (r"15\%", "15"),
    "percent-ratio": (r"15\%", "0.15"),
    "percent-of-ratio": ("0.15", r"15\%"),
    "percent-word": (r"15\%", "15 percent"),
    "degrees": (r"35^\circ", "35"),
    "degrees-unicode": ("35", "35°"),
    "degrees-radians": (r"60^\circ", r"\frac{\pi}{3}"),
    "money": (r"\$12.50", "12.50"),
    "money-cents": (r"\$12.50", "12.5 dollars"),
    "unit-text": (r"9\text{ cm}", "9"),
    "unit-same": ("9 cm", r"9\,\mathrm{cm}"),
    "unit-square": (r"40 \text{ m}^2", "40 square meters"),
    "unit-convert": ("2 km", "2000 m"),
    "unit-chinese": ("5", "5元"),
    "unit-per": (r"12\pi \text{ feet per minute}", r"12\pi"),
    "root-simplified": (r"\sqrt{50}", r"5\sqrt{2}"),
    "root-rationalised": (r"\frac{1}{\sqrt{3}}", r"\frac{\sqrt{3}}{3}"),
    "root-plain": (r"5\sqrt{2}", "5*sqrt(2)"),
    "root-unicode": (r"5\sqrt{2}", "5√2"),
    "pi-order": (r"\frac{4}{3}\pi", r"\frac{4\pi}{3}"),
    "power-form": (r"2^{12}\cdot 3", "12288"),
    "factorial": ("5!", "120"),
    "binomial": (r"\binom{9}{4}", "126"),
    "logarithm": (r"\log_2 32", "5"),
    "complex": ("3-2i", "-2i+3"),
    "polynomial-order": ("x^2-4x+3", "3 - 4x + x^2"),
    "polynomial-factored": ("x^2-4x+3", "(x-1)(x-3)"),
    "rational-function": (r"\frac{a+3}{5}", r"\frac{a}{5}+\frac35"),
    "trigonometric": (r"1+\cot^2 t", r"\csc^2 t"),
    "double-angle": (r"\sin 2x", r"2\sin x\cos x"),
    "subscripts": (r"a_{n}=3n-1", "a_n = 3n - 1"),
    "greek": ("αβ", r"\beta\alpha"),
    "exponential": (r"e^{2x}", r"(e^x)^2"),
    "absolute": ("|3-x|", "|x-3|"),
    "equation-value": ("7", "x = 7"),
    "equation-value-gold": ("x=7", "7"),
    "equation-function": ("f(x)=x^2+1", "x^2+1"),
    "equation-moved": ("y=2x-5", "2x-y-5=0"),
    "equation-scaled": ("3x+6y=9", "x+2y=3"),
    "equation-swapped": ("7=t", "t=7"),
    "equation-sum": ("18", "m+n=18"),
    "circle": ("x^2+y^2=9", "x^2+y^2-9=0"),
    "repeating-decimal": (r"\frac{1}{6}", r"0.1\overline{6}"),
    "millions": ("2.5 million", "2500000"),
    "ten-thousands-chinese": ("15000", "1.5万"),
    "approximation-after": (r"3\sqrt{2}", r"3\sqrt{2} \approx 4.243"),
    "no-solution": (r"\emptyset", "no solution"),
    "infinity-word": (r"\infty", "infinity"),
    "condition-left-out": (r"\frac{\pi}{6}+k\pi, k\in\mathbb{Z}", r"k\pi+\frac{\pi}{6}"),
    "reals-named": (r"x \in R", r"\mathbb{R}"),
    "chain": ("11", "n = 5+6 = 11"),
    "ratio": ("3:4", "6:8"),
    "ratio-named": ("AB:CD=3:4", "3:4"),
    "ratio-three": ("1:2:3", "2:4:6"),
    "list-order": ("-3, 5", "5, -3"),
    "list-and": ("-3, 5", r"-3 \text{ and } 5"),
    "list-or": ("-3, 5", "x=-3 or x=5"),
    "list-mixed-forms": ("0.5, 10", r"10, \frac{1}{2}"),
    "list-semicolon": ("2;3;5", "2, 3, 5"),
    "list-set": ("2, 3, 5", r"\{5,3,2\}"),
    "list-plus-minus": (r"2\pm\sqrt{7}", r"2-\sqrt7,\ 2+\sqrt7"),
    "list-named": ("x=4, y=9", "4, 9"),
    "list-of-pairs": ("(1,2),(3,4)", "(3,4),(1,2)"),
    "list-of-solutions": ("a=1,b=2;a=3,b=4", "(1,2),(3,4)"),
    "set-order": (r"\{1,2,3\}", r"\{3,1,2\}"),
    "set-plus-minus": (r"\{0,\pm 4\}", r"\{-4,0,4\}"),
    "set-empty": (r"\emptyset", r"\varnothing"),
    "tuple-spaces": ("(3,-1,2)", r"\left( 3, -1, 2 \right)"),
    "tuple-forms": ("(0.5, 2)", r"(\frac12, \frac{6}{3})"),
    "tuple-named": ("(x,y)=(3,4)", "(3,4)"),
    "vector-column": (r"\begin{pmatrix} 1 \\ 2 \\ 3 \end{pmatrix}", "(1,2,3)"),
    "matrix-brackets": (
        r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
        r"\left[\begin{array}{cc} 1 & 2 \\ 3 & 4 \end{array}\right]",
    ),
    "matrix-entries": (
        r"\begin{pmatrix} 1/2 & 0 \\ 0 & 1 \end{pmatrix}",
        r"\begin{bmatrix} 0.5 & 0 \\ 0 & 1 \end{bmatrix}",
    ),
    "interval-spaces": ("(2,5]", r"\left( 2, 5 \right]"),
    "interval-inequality": ("[2,5)", r"2 \le x < 5"),
    "interval-one-sided": (r"(-\infty,4]", r"x \leq 4"),
    "interval-member": (r"x \in (2,5)", "(2,5)"),
    "interval-full-width": ("(2,5]", "（２，５］"),
    "union": (r"(-\infty,1)\cup(3,\infty)", r"(3,+\infty)\cup(-\infty,1)"),
    "union-hole": (r"(0,2)\cup(2,5)", r"0<x<5, x\neq 2"),
    "union-point": (r"\{0\}\cup[1,2]", r"[1,2]\cup\{0\}"),
    "all-reals": (r"\mathbb{R}", r"(-\infty,\infty)"),
    "set-builder": (r"\{x \mid -1 < x \le 3\}", "(-1,3]"),
    "inequality-swapped": ("x>4", "4<x"),
    "inequality-scaled": (r"x \ge 4", r"-2x \le -8"),
    "inequality-two-letters": ("a < b", "b > a"),
    "base": ("1101_2", "1101_{2}"),
    "base-left-out": ("1101_2", "1101"),
    "base-value": ("1101_2", "13"),
    "words-case": (r"\text{Tuesday}", "tuesday"),
    "words-true": ("True", "true"),
    "words-yes-chinese": ("yes", "是"),
    "words-spacing": ("no real solutions", r"\text{No real solutions}"),
    "punctuation": ("42", "42。"),
    "dollars": ("42", "$42$."),
    "nested-box": ("42", r"\boxed{42}"),
    "choice-wrapped": ("B", r"\text{(B)}"),
    "choice-dotted": ("B", "B."),
    "choice-with-text": ("B", r"\textbf{(B)}\ 17"),
    "choice-letter-of-text": ("B. 17", "B"),
    "choice-text-of-letter": ("B. 17", "17"),
    "choice-several": ("BD", "B, D"),
}  # fmt: skip

DIFFERENT = {
    "integer": ("42", "43"),
    "integer-rounded": ("42", "41.9996"),
    "integer-near": ("12000000", "12000001"),
    "integer-digits": ("12", "1 2"),
    "thousands-or-list": ("32349", "32, 349"),
    "sign": ("7", "-7"),
    "infinity-sign": (r"\infty", r"-\infty"),
    "repeating-or-not": ("1/3", "0.3"),
    "decimal": ("1.25", "1.26"),
    "decimal-last-place": ("1623.40", "1623.43"),
    "decimal-coarse": (r"\frac{2}{3}", "0.67"),
    "decimal-of-terminating": ("0.0625", "0.063"),
    "pi-approximation": (r"\pi", r"\frac{22}{7}"),
    "fraction-inverse": (r"\frac{3}{8}", r"\frac{8}{3}"),
    "mixed-or-product": (r"3\frac{1}{4}", r"\frac{3}{4}"),
    "percent-unasked": ("0.5", r"0.5\%"),
    "percent-other": (r"15\%", "1.5"),
    "unit-size": ("9 m", "9 cm"),
    "unit-kind": ("9 kg", "9 m"),
    "degrees": (r"35^\circ", r"53^\circ"),
    "root-lost": (r"\sqrt{7}", "7"),
    "plus-minus-lost": (r"2\pm\sqrt{7}", r"2+\sqrt{7}"),
    "polynomial": ("x^2-4x+3", "x^2+4x+3"),
    "other-symbol": ("2a+1", "2b+1"),
    "capital": ("r^2", "R^2"),
    "absolute": ("|x|", "x"),
    "equation-coefficient": ("2x+z=1", "1"),
    "equation-other-name": ("x=5", "y=5"),
    "equation-function": (r"\sin x=1", r"\cos x=1"),
    "list-missing": ("-3, 5", "5"),
    "list-extra": ("-3, 5", "-3, 5, 7"),
    "tuple-order": ("(1,2)", "(2,1)"),
    "tuple-or-set": ("(1,2)", r"\{1,2\}"),
    "matrix-entry": (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1&3\end{pmatrix}"),
    "matrix-shape": (
        r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2&3&4\end{pmatrix}"
    ),
    "interval-inequality": ("[2,5)", r"2 < x < 5"),
    "interval-end": ("(2,5)", "(2,6)"),
    "inequality-direction": ("x>4", "x<4"),
    "inequality-strict": ("x>4", r"x\ge 4"),
    "union-hole": (r"(0,2)\cup(2,5)", "(0,5)"),
    "reals-stated-only": ("x>4", r"x\in R, y\in R"),
    "reals-stated-only-union": (r"x\in R, y\in R", r"[1,2]\cup[3,4]"),
    "base": ("1101_2", "1101_3"),
    "words": ("north", "south"),
    "words-number": ("nobody", "0"),
    "choice": ("B", "C"),
    "choice-list": ("B", "A, B"),
    "choice-several": ("BD", "B"),
    "statement-numbers": ("I and II", "I"),
    "statement-doubled": ("II", "I"),
    "ratio-of-words": ("1:2:3", "1:2:north"),
    "garbage": ("42", "n/a"),
    "empty-braces": ("42", "{}"),
}  # fmt: skip

MISSED = {
    "choice-letter-of-option": ("C. {x | x<4}", "C"),
    "large-relative": ("4.5e33", "4.4999e33"),
    "half": ("0.5", r"\frac{1}{2}"),
    "square": ("x^2+2x+1", "(x+1)^2"),
}
"""reference/limo.md, section 4.6: what the paper's own grader rejects and should not."""


def _verdict(grader: Grader, gold: str, pred: str, **context: object) -> Verdict:
    pair = PairItem(gold, pred, AnswerContext(**context))  # type: ignore[arg-type]
    return grader.grade_pairs([pair])[0].grade.verdict


@pytest.mark.parametrize(("gold", "pred"), EQUAL.values(), ids=EQUAL.keys())
def test_equal_answers_are_correct(grader: Grader, gold: str, pred: str) -> None:
    assert _verdict(grader, gold, pred) is Verdict.CORRECT


@pytest.mark.parametrize(("gold", "pred"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_different_answers_are_wrong(grader: Grader, gold: str, pred: str) -> None:
    assert _verdict(grader, gold, pred) is Verdict.WRONG


@pytest.mark.parametrize(("gold", "pred"), TRAPS.values(), ids=TRAPS.keys())
def test_traps_of_the_published_grader_are_wrong(grader: Grader, gold: str, pred: str) -> None:
    assert _verdict(grader, gold, pred) is Verdict.WRONG
    assert _verdict(grader, pred, gold) is Verdict.WRONG


@pytest.mark.parametrize(("gold", "pred"), MISSED.values(), ids=MISSED.keys())
def test_what_the_published_grader_misses_is_correct(grader: Grader, gold: str, pred: str) -> None:
    assert _verdict(grader, gold, pred) is Verdict.CORRECT


def test_most_kinds_need_no_worker() -> None:
    pairs = [*EQUAL.values(), *DIFFERENT.values(), *TRAPS.values()]
    undecided = [p for p in pairs if compare(*p, context=AnswerContext()).equal is None]
    assert len(undecided) <= 0.05 * len(pairs), undecided


def test_a_list_is_ordered_where_the_question_says_so(grader: Grader) -> None:
    question = "Find the smallest and the largest root, respectively."
    assert _verdict(grader, "1, 2", "2, 1", question=question) is Verdict.WRONG
    assert _verdict(grader, "1, 2", "2, 1", question="Find all roots.") is Verdict.CORRECT


@pytest.mark.parametrize(
    "question",
    ["Sort from small to large: 2, 1.", "Arrange 2, 1.", "Order these: 2, 1.", "从小到大排列 2, 1"],
)
def test_a_list_is_ordered_where_sorting_is_the_question(grader: Grader, question: str) -> None:
    assert _verdict(grader, "1, 2", "2, 1", question=question) is Verdict.WRONG
    assert _verdict(grader, "1, 2", "1, 2", question=question) is Verdict.CORRECT


def test_the_question_repeated_is_no_answer(grader: Grader) -> None:
    question = "What is 50 - 5 - 8 + 3?"
    assert _verdict(grader, "40", "50 - 5 - 8 + 3", question=question) is Verdict.WRONG
    assert _verdict(grader, "40", "40", question=question) is Verdict.CORRECT
    assert _verdict(grader, "0.5", "1/2", question="One half, 1/2, is drawn.") is Verdict.CORRECT


@pytest.mark.parametrize(
    ("gold", "pred", "verdict"),
    [
        ("35", "37 - 7 + 5 = 12", Verdict.WRONG),
        ("12", "37 - 7 + 5 = 12", Verdict.CORRECT),
        ("35", "37 - 7 + 5 = 35", Verdict.CORRECT),
        (r"3\sqrt{2}", r"3\sqrt{2} \approx 4.24", Verdict.CORRECT),
    ],
)
def test_the_last_number_of_a_false_chain_counts(
    grader: Grader, gold: str, pred: str, verdict: Verdict
) -> None:
    assert _verdict(grader, gold, pred) is verdict


def test_a_stated_tolerance_is_used(grader: Grader) -> None:
    assert _verdict(grader, "9.8", "9.75", tolerance=0.01) is Verdict.CORRECT
    assert _verdict(grader, "9.8", "9.75") is Verdict.WRONG


def test_a_stated_unit_is_used(grader: Grader) -> None:
    assert _verdict(grader, "2", "200 cm", unit="m") is Verdict.CORRECT
    assert _verdict(grader, "2", "2 cm", unit="m") is Verdict.WRONG


@pytest.mark.parametrize(
    ("gold", "pred", "unit", "verdict"),
    [
        ("20", r"2000 \text{ mm}^2", "$cm^2$", Verdict.CORRECT),
        ("20", r"20 \text{ m}^2", "$cm^2$", Verdict.WRONG),
        ("5", "18 km/h", r"$\mathrm{~m} / \mathrm{s}$", Verdict.CORRECT),
        ("60", r"\frac{\pi}{3}", r"^{\circ}", Verdict.CORRECT),
        ("60", "60", r"^{\circ}", Verdict.CORRECT),
        ("0.5", r"0.5\%", "%", Verdict.CORRECT),
        ("0.5", r"50\%", "%", Verdict.WRONG),
        ("7", "7m", "m", Verdict.CORRECT),
        ("7", "7", "m", Verdict.CORRECT),
        ("7", "8", "m", Verdict.WRONG),
    ],
)
def test_a_stated_unit_may_be_written_in_latex(
    grader: Grader, gold: str, pred: str, unit: str, verdict: Verdict
) -> None:
    assert _verdict(grader, gold, pred, unit=unit) is verdict


def test_a_percent_sign_is_free_where_the_question_asks_for_percent(grader: Grader) -> None:
    question = "What percent of the seeds sprout?"
    assert _verdict(grader, "0.5", r"0.5\%", question=question) is Verdict.CORRECT


def test_a_rounded_reference_accepts_the_unrounded_number(grader: Grader) -> None:
    question = "Round to the nearest hundredth."
    assert _verdict(grader, "0.67", r"\frac{2}{3}", question=question) is Verdict.CORRECT
    assert _verdict(grader, "0.67", r"\frac{2}{3}") is Verdict.WRONG


def test_option_text_and_letter_are_the_same_choice(grader: Grader) -> None:
    choices = ("one apple", "two pears", "three plums")
    assert _verdict(grader, "B", "two pears", choices=choices) is Verdict.CORRECT
    assert _verdict(grader, "two pears", "B", choices=choices) is Verdict.CORRECT
    assert _verdict(grader, "two pears", "(C)", choices=choices) is Verdict.WRONG
    assert _verdict(grader, "B", "three plums", choices=choices) is Verdict.WRONG


def test_options_are_read_from_the_question(grader: Grader) -> None:
    question = "Which is prime? A. 21 B. 22 C. 23 D. 24"
    assert _verdict(grader, "23", "C", question=question) is Verdict.CORRECT
    assert _verdict(grader, "C", "23", question=question) is Verdict.CORRECT
    assert _verdict(grader, "C", "24", question=question) is Verdict.WRONG


def test_an_option_may_begin_with_a_command(grader: Grader) -> None:
    question = "Which is least? A. \\sqrt{9} B. \\frac{5}{2} C. \\log_2 8 \\\\ D. 4"
    assert _verdict(grader, "B", "\\frac52", question=question) is Verdict.CORRECT
    assert _verdict(grader, "B", "\\sqrt{9}", question=question) is Verdict.WRONG
    assert _verdict(grader, "\\frac{5}{2}", "B", question=question) is Verdict.CORRECT
    assert _verdict(grader, "C", "\\log_2 8", question=question) is Verdict.CORRECT


@pytest.mark.parametrize(
    "pred", ["“y>3”是“y>1”的充分条件", '"y>3"是"y>1"的充分条件', "「y>3」是「y>1」的充分条件"]
)
def test_quotation_marks_do_not_count(grader: Grader, pred: str) -> None:
    assert _verdict(grader, "y>3是y>1的充分条件", pred) is Verdict.CORRECT
    assert _verdict(grader, "y>3是y>1的必要条件", pred) is Verdict.WRONG


def test_the_text_beside_a_letter_keeps_its_braces(grader: Grader) -> None:
    question = "Which is even? A. 3 B. 2 C. 5"
    assert _verdict(grader, r"B. \frac{4}{2}", r"\frac42", question=question) is Verdict.CORRECT
    assert _verdict(grader, r"\textbf{(B) } \sqrt{4}", "2", question=question) is Verdict.CORRECT
    assert _verdict(grader, r"\textbf{B. 2}", "2", question=question) is Verdict.CORRECT
    assert _verdict(grader, r"B. \frac{4}{2}", "3", question=question) is Verdict.WRONG
