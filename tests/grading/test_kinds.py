"""Kinds of answers as whole rows of a file: sentences in many languages, notations, matrices."""

from __future__ import annotations

import pytest

from slowthink.grading import Grader
from slowthink.grading.files import PairRow, pair_from_row
from slowthink.records import Verdict

SENTENCES = {
    "german": ("42", "Die Antwort ist 42."),
    "spanish": ("42", "La respuesta es 42"),
    "russian": ("42", "Ответ: 42"),
    "japanese": ("42", "答えは42です。"),
    "korean": ("42", "정답은 42입니다."),
    "thai": ("42", "คำตอบคือ 42"),
    "arabic-digits": ("42", "الجواب هو ٤٢"),
    "hindi-digits": ("42", "उत्तर ४२ है"),
    "vietnamese": ("42", "Đáp án là 42"),
    "thousands-by-spaces": ("1500", "Le prix total est de 1 500 euros."),
    "decimal-comma": ("3.5", "Das Ergebnis ist 3,5 Liter."),
    "decimal-comma-alone": ("3.5", "3,5"),
    "continental": ("1234.5", "1.234,5"),
    "about": ("100", "about 100"),
    "formulas": ("5", "We have $2x+1=11$, so $x = 5$."),
    "equations-listed": ("1,2", "The solutions are x = 1 and x = 2."),
    "answer-first": ("50", "50 is the answer"),
    "heading": ("50", "### Answer\n50"),
    "tag": ("50", "perhaps 40, or rather <answer>50</answer>"),
    "remark": ("2", "x = 2 (since x > 0)"),
    "remark-in-words": ("16", "16 (sixteen)"),
    "option-explained": ("B", "B is correct because A is wrong"),
    "option-chosen": ("C", "I choose C."),
    "option-small": ("A", "(a)"),
}

EQUAL = {
    "min-of-set": (r"\min\{3,5\}", "3"),
    "modulo": (r"17 \bmod 5", "2"),
    "roman-function": (r"\operatorname{lcm}(4,6)", "12"),
    "chosen-brackets": (r"\binom{10}{3}", "C(10,3)"),
    "chosen-indices": ("10", "C_{5}^{2}"),
    "repeating-dots": (r"\frac16", r"0.1666\ldots"),
    "repeating-dots-two-digits": ("3/11", "0.272727..."),
    "transposed-tuple": (r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)^T"),
    "transposed-matrix": (
        r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&3\\2&4\end{pmatrix}^T"
    ),
    "matrix-of-lists": (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "[[1,2],[3,4]]"),
    "brackets-reversed": ("(1,2]", "]1,2]"),
    "brackets-reversed-union": (
        r"(-\infty,1]\cup[2,\infty)", r"]-\infty;1] \cup [2;+\infty["
    ),
    "reals-without": (r"\mathbb{R}\setminus\{2\}", r"\mathbb{R} - \{2\}"),
    "reals-in-words": (r"\mathbb{R}", "all real numbers"),
    "reals-as-interval": ("all real numbers", r"(-\infty,\infty)"),
    "chain-turned": (r"a \le b < c", r"c > b \ge a"),
    "absolute-below": ("|x|<2", "-2<x<2"),
    "absolute-above": (r"|x-1|\ge 2", r"x\le -1 \text{ or } x\ge 3"),
    "declared": ("$f(x)=cx$ for some $c$", "f(x)=cx"),
    "declared-constant": ("$f(x)=x+c$ where c is a constant", "f(x)=x+c"),
    "time-in-two-units": ("90 minutes", r"1\text{ hour } 30 \text{ minutes}"),
    "length-in-two-units": ("66 inches", "5 ft 6 in"),
    "factors-no-unit": (r"\frac{1}{2}mv^2", "0.5 m v^2"),
    "array-of-equations": (
        r"\left\{\begin{array}{l}x=1\\y=2\end{array}\right.", "x=1, y=2"
    ),
    "dots": (r"(1,2,\ldots,n)", "(1,2,...,n)"),
    "subscript-after-power": (r"\frac{v^2_0}{2g}", r"\frac{v_0^2}{2 g}"),
    "ohm": (r"5\ \Omega", "5 ohms"),
    "speed": ("30 mph", "30 miles per hour"),
    "speed-converted": ("36 km/h", "10 m/s"),
    "charge": (r"1.6\times 10^{-19} C", "1.6e-19"),
}  # fmt: skip

DIFFERENT = {
    "degrees-radians": (r"45^\circ", "45 radians"),
    "other-number": ("42", "Die Antwort ist 43."),
    "words-with-number": ("at most 3", "at least 3"),
    "list-or-decimal": ("3,5", "3.5"),
    "point-or-decimal": ("1", "the x-intercept of the graph is (1,0)"),
    "brackets-reversed": ("[1,2]", "]1,2["),
    "chain-turned": ("a<b<c", "c<b<a"),
    "absolute": ("|x|<2", r"|x|\le 2"),
    "absolute-sides": ("|x|<2", "x<2"),
    "transposed": (
        r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}^T"
    ),
    "power-not-transposed": ("(1+r)", "(1+r)^T"),
    "repeating-or-not": ("1/3", "0.333"),
    "chosen": ("10", "C_{5}^{1}"),
    "speed": ("30 mph", "30 km/h"),
    "two-units": ("1 hour 30 minutes", "1 hour 20 minutes"),
    "remark-with-number": ("3 (mod 5)", "3 (mod 7)"),
    "tag": ("40", "perhaps 40, or rather <answer>50</answer>"),
    "condition-kept": ("$f(x)=cx$ for some $c>0$", "f(x)=cx for some c<0"),
    "reals-or-integers": ("all real numbers", "all integers"),
    "pronoun": ("A", "I choose C."),
}  # fmt: skip


def _verdict(grader: Grader, gold: str, pred: str) -> Verdict:
    return grader.grade_pairs([pair_from_row(PairRow(1, gold, pred))])[0].grade.verdict


@pytest.mark.parametrize(("gold", "pred"), SENTENCES.values(), ids=SENTENCES.keys())
def test_the_answer_is_extracted_from_a_short_sentence(
    grader: Grader, gold: str, pred: str
) -> None:
    assert _verdict(grader, gold, pred) is Verdict.CORRECT


@pytest.mark.parametrize(("gold", "pred"), EQUAL.values(), ids=EQUAL.keys())
def test_notations_of_one_answer_are_correct(grader: Grader, gold: str, pred: str) -> None:
    assert _verdict(grader, gold, pred) is Verdict.CORRECT


@pytest.mark.parametrize(("gold", "pred"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_other_answers_are_wrong(grader: Grader, gold: str, pred: str) -> None:
    assert _verdict(grader, gold, pred) is Verdict.WRONG


def test_a_reference_answer_of_words_and_a_number_is_compared_whole(grader: Grader) -> None:
    assert _verdict(grader, "at most 3", "At most 3.") is Verdict.CORRECT
    assert _verdict(grader, "at most 3", "3") is Verdict.WRONG
