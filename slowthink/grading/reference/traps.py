r"""False positives of LIMO's published grader: unequal pairs, one for each kind of its errors.

Obtained by running that grader (GAIR-NLP/LIMO @ 2284c6a, eval/utils). Example: reference answer
`[0,\infty)`, prediction `(0,\infty)`.
"""

from __future__ import annotations

from slowthink.grading.grader import Grader, PairItem
from slowthink.records import Verdict

TRAPS = {
    "percent-6-600": ("6", "600"),
    "percent-half-50": ("0.5", "50"),
    "percent-2-hundredth": ("2", "0.02"),
    "percent-105": ("1.05", "105"),
    "absolute-1e-5": ("3e-5", "1e-5"),
    "absolute-zero": ("0", "0.00005"),
    "absolute-zero-gold": ("0.00005", "0"),
    "brackets-infinite": (r"[0,\infty)", r"(0,\infty)"),
    "brackets-closed": ("(0,1)", "[0,1]"),
    "brackets-half": ("[1,2)", "(1,2]"),
    "brackets-power": ("x+1^2", "(x+1)^2"),
    "brackets-product": ("23+4", "2(3+4)"),
    "brackets-fraction": (r"\frac{1}{23}", r"\frac{12}{3}"),
    "units-eat-fraction": (r"\frac{b}{a}", r"\frac{a}{b}"),
    "units-eat-sum": ("b", "a+b"),
    "units-km": ("5 km", "5 cm"),
    "units-word": ("l", "land"),
    "units-plus-minus": (r"\2", r"\pm 2"),
    "choice-lower-case": ("A", "a"),
    "choice-undecided": ("C", "I am unsure: A, B, C"),
    "order-in-pair": ("(1,2)", "(2,1)"),
}  # fmt: skip
"""(reference answer, prediction) by name."""


def failed_traps(grader: Grader) -> list[str]:
    """Return the names of the traps that a grader calls correct."""
    grades = grader.grade_pairs([PairItem(*pair) for pair in TRAPS.values()])
    is_correct = [timed.grade.verdict is Verdict.CORRECT for timed in grades]
    return [name for name, correct in zip(TRAPS, is_correct, strict=True) if correct]
