r"""The grader: one verdict per answer. Workers, killed when too slow, decide what rules cannot.

`extract` finds the answer, `answers.compare` compares it with the reference answer. Example:
`Grade(verdict=CORRECT, extracted="\\dfrac12", gold="0.5", method="value")`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from slowthink.errors import ConfigError, GraderError
from slowthink.grading.answers.compare import AnswerContext, compare
from slowthink.grading.extract import extract
from slowthink.grading.keys import read_key
from slowthink.grading.reference import compat
from slowthink.grading.sentences import is_prose, is_verbal
from slowthink.grading.workers import WorkerPool, WorkerResult
from slowthink.records import Grade, Problem, Verdict

MODES = ("strict", "limo-compat", "s1-compat", "math-verify")
"""Our rules; the papers' string rules; math-verify with its defaults. All but the first exist for
comparison only."""

WORKER_TIME_SHARE = 0.5
"""Share of an answer's time limit that a worker may use; the other half is for replacing it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GradeItem:
    """One answer to grade; `last_number` lets the last number of the text count as the answer."""

    problem: Problem
    answer_text: str
    truncated: bool = False
    last_number: bool = False


@dataclass(frozen=True, slots=True)
class PairItem:
    """A reference answer and an extracted answer, or None if nothing was extracted."""

    gold: str
    answer: str | None
    context: AnswerContext = field(default_factory=AnswerContext)


@dataclass(frozen=True, slots=True)
class TimedGrade:
    """A grade and the time that it took."""

    grade: Grade
    seconds: float


class Grader:
    """Grades answers. A context manager: leaving it ends the worker processes.

    `timeout_seconds` is the time limit for one answer. Beyond it the verdict is GRADER_ERROR.
    """

    def __init__(
        self, mode: str = "strict", num_workers: int = 1, timeout_seconds: float = 5.0
    ) -> None:
        if mode not in MODES:
            raise ConfigError(
                f"grader mode: got {mode!r}; expected one of {', '.join(MODES)}. Use one of these."
            )
        self.mode = mode
        self.pool = WorkerPool(
            num_workers=num_workers,
            timeout_seconds=timeout_seconds * WORKER_TIME_SHARE,
            use_defaults=mode == "math-verify",
        )

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers. The grader stays usable and starts new ones when needed."""
        self.pool.close()

    def grade(
        self,
        problem: Problem,
        answer_text: str,
        *,
        truncated: bool = False,
        last_number: bool = False,
    ) -> Grade:
        """Return the grade of one answer."""
        item = GradeItem(
            problem=problem, answer_text=answer_text, truncated=truncated, last_number=last_number
        )
        return self.grade_many([item])[0]

    def grade_many(self, items: Iterable[GradeItem]) -> list[Grade]:
        """Return one grade per item, in order. Workers decide what the rules cannot."""
        outcomes = [_timed(self._grade_item, item) for item in items]
        return [timed.grade for timed in self._decide_by_workers(outcomes)]

    def grade_pairs(self, pairs: Iterable[PairItem]) -> list[TimedGrade]:
        """Return one grade per pair of reference and extracted answer, in order, with its time."""
        return self._decide_by_workers([_timed(self._grade_pair, pair) for pair in pairs])

    def compare_by_rules(self, pair: PairItem) -> bool | None:
        """Whether the two answers are equal by the rules; None if only a worker can decide."""
        grade = self._grade_pair(pair)
        return grade.verdict is Verdict.CORRECT if isinstance(grade, Grade) else None

    def start_workers(self) -> None:
        """Start the workers now, so that the first answer does not wait for them."""
        if self.mode in ("strict", "math-verify"):
            self.pool.compare_many([("1", "1")] * self.pool.num_workers)

    def _decide_by_workers(self, outcomes: list[tuple[_RulesOutcome, float]]) -> list[TimedGrade]:
        """Let workers compare the undecided pairs, and return all grades in order."""
        undecided = [outcome for outcome, _ in outcomes if isinstance(outcome, _UndecidedPair)]
        results = iter(self.pool.compare_many([(pair.gold, pair.pred) for pair in undecided]))
        grades = []
        for outcome, seconds in outcomes:
            if isinstance(outcome, Grade):
                grades.append(TimedGrade(outcome, seconds))
            else:
                result = next(results)
                grades.append(TimedGrade(outcome.grade(result), seconds + result.seconds))
        return grades

    def _grade_item(self, item: GradeItem) -> _RulesOutcome:
        gold = read_key(item.problem.answer or "")
        if gold is None:
            return Grade(verdict=Verdict.UNGRADABLE, method="no key")
        extracted = self._extract(item, gold)
        if item.truncated:
            return Grade(verdict=Verdict.TRUNCATED, extracted=extracted, gold=gold, method="length")
        if extracted is None:
            return Grade(verdict=Verdict.NO_ANSWER, gold=gold, method="extract")
        pred = item.answer_text if self.mode == "math-verify" else extracted
        return self._compare(gold, pred, AnswerContext.from_problem(item.problem))

    def _extract(self, item: GradeItem, gold: str) -> str | None:
        if self.mode == "math-verify":
            return item.answer_text.strip() or None
        if self.mode != "strict":
            return compat.extract_as(self.mode, item.answer_text) or None
        return extract(
            item.answer_text,
            last_number=item.last_number,
            choices=item.problem.choices,
            whole_line=is_verbal(gold),
        )

    def _grade_pair(self, pair: PairItem) -> _RulesOutcome:
        gold = read_key(pair.gold)
        if gold is None:
            return Grade(verdict=Verdict.UNGRADABLE, extracted=pair.answer, method="no key")
        if pair.answer is None or not pair.answer.strip():
            return Grade(verdict=Verdict.NO_ANSWER, gold=gold, method="extract")
        return self._compare(gold, pair.answer, pair.context)

    def _compare(self, gold: str, pred: str, context: AnswerContext) -> _RulesOutcome:
        if self.mode == "strict":
            return _compare_strictly(gold, pred, context)
        if self.mode == "math-verify":
            return _UndecidedPair(_as_formula(gold), _as_formula(pred), gold, pred)
        equal = compat.equal_as(self.mode, gold, pred)
        return _make_grade(equal, gold=gold, pred=pred, method=self.mode)


@dataclass(frozen=True, slots=True)
class _UndecidedPair:
    """Two normalised answers for a worker to compare, and their texts for the grade."""

    gold: str
    pred: str
    gold_text: str
    pred_text: str

    def grade(self, result: WorkerResult) -> Grade:
        """Return the grade by a worker's result. An answer that it cannot parse is wrong."""
        texts = {"gold": self.gold_text, "extracted": self.pred_text}
        if result.equal is None and result.error.startswith("worker"):
            return Grade(verdict=Verdict.GRADER_ERROR, method=result.error, **texts)
        verdict = Verdict.CORRECT if result.equal else Verdict.WRONG
        method = "math-verify" if result.equal is not None else f"math-verify: {result.error}"
        return Grade(verdict=verdict, method=method, **texts)


_RulesOutcome = Grade | _UndecidedPair


def _compare_strictly(gold: str, pred: str, context: AnswerContext) -> _RulesOutcome:
    try:
        comparison = compare(gold, pred, context=context)
    except (ArithmeticError, LookupError, ValueError, TypeError, RecursionError) as error:
        method = f"rules failed: {type(error).__name__}"
        return Grade(verdict=Verdict.GRADER_ERROR, extracted=pred, gold=gold, method=method)
    if comparison.equal is None:
        return _UndecidedPair(comparison.gold, comparison.pred, gold, pred)
    return _make_grade(comparison.equal, gold=gold, pred=pred, method=comparison.method)


def _as_formula(text: str) -> str:
    """Put a bare answer in dollar signs, as math-verify expects; a sentence stays unchanged."""
    has_delimiters = any(mark in text for mark in ("$", "\\(", "\\[", "boxed"))
    return text if has_delimiters or is_prose(text) else f"${text}$"


@cache
def check_dependencies() -> None:
    """Check that a worker compares known pairs correctly; a successful check is not repeated.

    Raises GraderError if math-verify's parser does not work (an antlr version mismatch makes it
    answer False without a warning).
    """
    pairs = [("\\frac{1}{2}", "0.5"), ("(x+1)^2", "x^2+2x+1"), ("(x+1)^2", "x^2+1")]
    pool = WorkerPool(timeout_seconds=30.0)
    try:
        equal = [result.equal for result in pool.compare_many(pairs)]
    finally:
        pool.close()
    if equal != [True, True, False]:
        raise GraderError(
            f"math-verify: known pairs {pairs} were graded {equal}; expected [True, True, False]. "
            "Its LaTeX parser does not work, usually because of another antlr4-python3-runtime "
            "(hydra needs 4.9). Run: pip install 'math-verify[antlr4_13_2]'"
        )


def _make_grade(equal: bool, *, gold: str, pred: str, method: str) -> Grade:
    verdict = Verdict.CORRECT if equal else Verdict.WRONG
    return Grade(verdict=verdict, extracted=pred, gold=gold, method=method)


def _timed(grade: Callable[[Any], _RulesOutcome], item: Any) -> tuple[_RulesOutcome, float]:
    start_time = time.perf_counter()
    return grade(item), time.perf_counter() - start_time
