r"""The grader: one verdict for one answer, rules first, killable workers last.

One real record: `Grade(verdict=CORRECT, extracted="\\dfrac12", gold="0.5", method="number")`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import TypeVar

from slowthink.errors import ConfigError, GraderError
from slowthink.grading.answers.compare import AnswerContext, Comparison, compare
from slowthink.grading.extract import extract, is_prose, is_verbal
from slowthink.grading.reference import compat
from slowthink.grading.workers import WorkerPool, WorkerResult
from slowthink.records import Grade, Problem, Verdict

T = TypeVar("T")

MODES = ("strict", "limo-compat", "s1-compat", "math-verify")
"""Our rules; the papers' string rules; math-verify's parse and verify with their defaults. All but
the first are there to be compared with."""

WORKER_SHARE = 0.5
"""Of the time for one answer, what a worker gets; the rest is for replacing it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GradeItem:
    """One answer to be graded."""

    problem: Problem
    answer_text: str
    truncated: bool = False
    last_number: bool = False


@dataclass(frozen=True, slots=True)
class PairItem:
    """A key and an answer that has been extracted; None where there was none."""

    gold: str
    answer: str | None
    context: AnswerContext = field(default_factory=AnswerContext)


@dataclass(frozen=True, slots=True)
class TimedGrade:
    """A verdict and how long it took."""

    grade: Grade
    seconds: float


class Grader:
    """Grades answers; a context manager, since it may hold worker processes.

    `timeout_seconds` bounds the wait for one answer; what takes longer is GRADER_ERROR.
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
            seconds=timeout_seconds * WORKER_SHARE,
            defaults=mode == "math-verify",
        )

    def __enter__(self) -> Grader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers; the grader can still be used and starts new ones."""
        self.pool.close()

    def grade(
        self,
        problem: Problem,
        answer_text: str,
        *,
        truncated: bool = False,
        last_number: bool = False,
    ) -> Grade:
        """The verdict on one answer."""
        item = GradeItem(
            problem=problem, answer_text=answer_text, truncated=truncated, last_number=last_number
        )
        return self.grade_many([item])[0]

    def grade_many(self, items: Iterable[GradeItem]) -> list[Grade]:
        """One verdict an item, in order; what the rules leave open goes over the workers."""
        judge = {"strict": self._strict, "math-verify": self._default}.get(self.mode, self._compat)
        return [timed.grade for timed in self._close([_timed(judge, item) for item in items])]

    def grade_pairs(self, pairs: Iterable[PairItem]) -> list[TimedGrade]:
        """Verdicts on answers that have been extracted already, with the wait for each."""
        return self._close([_timed(self._pair, pair) for pair in pairs])

    def compare_by_rules(self, pair: PairItem) -> bool | None:
        """Whether the rules call the two equal; None where they leave it to the workers."""
        found = self._pair(pair)
        return found.verdict is Verdict.CORRECT if isinstance(found, Grade) else None

    def start_workers(self) -> None:
        """Start the workers now, so that the first answer does not wait for them."""
        if self.mode in ("strict", "math-verify"):
            self.pool.compare_many([("1", "1")] * self.pool.num_workers)

    def _close(self, found: list[tuple[Grade | _Open, float]]) -> list[TimedGrade]:
        """Send what is open over the workers, and put verdicts in order."""
        open_ones = [result for result, _ in found if isinstance(result, _Open)]
        answers = iter(self.pool.compare_many([(one.gold, one.pred) for one in open_ones]))
        closed = []
        for result, seconds in found:
            if isinstance(result, Grade):
                closed.append(TimedGrade(result, seconds))
            else:
                answer = next(answers)
                closed.append(TimedGrade(result.close(answer), seconds + answer.seconds))
        return closed

    def _pair(self, pair: PairItem) -> Grade | _Open:
        if not pair.gold.strip():
            return Grade(verdict=Verdict.UNGRADABLE, extracted=pair.answer, method="no key")
        if pair.answer is None or not pair.answer.strip():
            return Grade(verdict=Verdict.NO_ANSWER, gold=pair.gold, method="extract")
        if self.mode == "math-verify":
            return _asked(pair.gold, pair.answer)
        if self.mode != "strict":
            equal = compat.equal_as(self.mode, pair.gold, pair.answer)
            return _grade(equal, gold=pair.gold, pred=pair.answer, method=self.mode)
        return grade_by_rules(pair.gold, pair.answer, context=pair.context)

    def _strict(self, item: GradeItem) -> Grade | _Open:
        problem = item.problem
        gold = (problem.answer or "").strip()
        if not gold:
            return Grade(verdict=Verdict.UNGRADABLE, method="no key")
        extracted = extract(
            item.answer_text,
            last_number=item.last_number,
            choices=problem.choices,
            whole_line=is_verbal(gold),
        )
        early = _without_comparison(item, extracted, gold)
        if early is not None or extracted is None:
            return early or Grade(verdict=Verdict.NO_ANSWER, gold=gold, method="extract")
        return grade_by_rules(gold, extracted, context=AnswerContext.from_problem(problem))

    def _default(self, item: GradeItem) -> Grade | _Open:
        gold = (item.problem.answer or "").strip()
        if not gold:
            return Grade(verdict=Verdict.UNGRADABLE, method="no key")
        early = _without_comparison(item, item.answer_text.strip() or None, gold)
        return early or _asked(gold, item.answer_text)

    def _compat(self, item: GradeItem) -> Grade:
        gold = (item.problem.answer or "").strip()
        if not gold:
            return Grade(verdict=Verdict.UNGRADABLE, method="no key")
        extracted = compat.extract_as(self.mode, item.answer_text)
        early = _without_comparison(item, extracted or None, gold)
        if early is not None:
            return early
        equal = compat.equal_as(self.mode, gold, extracted)
        return _grade(equal, gold=gold, pred=extracted, method=self.mode)


@dataclass(frozen=True, slots=True)
class _Open:
    """A pair that the rules could not decide, and what to make of a worker's answer."""

    gold: str
    pred: str
    shown_gold: str
    shown_pred: str

    def close(self, answer: WorkerResult) -> Grade:
        """The verdict after a worker has had its say. What it cannot parse is not equal."""
        shown = {"gold": self.shown_gold, "extracted": self.shown_pred}
        if answer.equal is None and answer.error.startswith("worker"):
            return Grade(verdict=Verdict.GRADER_ERROR, method=answer.error, **shown)
        verdict = Verdict.CORRECT if answer.equal else Verdict.WRONG
        method = "math-verify" if answer.equal is not None else f"math-verify: {answer.error}"
        return Grade(verdict=verdict, method=method, **shown)


def grade_by_rules(gold: str, pred: str, *, context: AnswerContext) -> Grade | _Open:
    """The rules' verdict on a gold and an extracted answer, or what is left open."""
    try:
        found: Comparison = compare(gold, pred, context=context)
    except (ArithmeticError, LookupError, ValueError, TypeError, RecursionError) as error:
        method = f"rules failed: {type(error).__name__}"
        return Grade(verdict=Verdict.GRADER_ERROR, extracted=pred, gold=gold, method=method)
    if found.equal is not None:
        return _grade(found.equal, gold=gold, pred=pred, method=found.method)
    return _Open(found.gold, found.pred, gold, pred)


def _asked(gold: str, pred: str) -> _Open:
    """What math-verify is asked when it stands alone; a bare answer is put as the formula it is."""
    sides = [text if _is_marked(text) else f"${text}$" for text in (gold, pred)]
    return _Open(sides[0], sides[1], gold, pred)


def _is_marked(text: str) -> bool:
    """Whether formulas are marked as such in a text, or it is a sentence."""
    return any(mark in text for mark in ("$", "\\(", "\\[", "boxed")) or is_prose(text)


@cache
def check_dependencies() -> None:
    """Grade known pairs through a real worker, once a process where it finds nothing wrong.

    Raises GraderError where math-verify's parser does not work (an antlr version mismatch makes it
    answer False without a warning).
    """
    pairs = [("\\frac{1}{2}", "0.5"), ("(x+1)^2", "x^2+2x+1"), ("(x+1)^2", "x^2+1")]
    pool = WorkerPool(seconds=30.0)
    try:
        found = [answer.equal for answer in pool.compare_many(pairs)]
    finally:
        pool.close()
    if found != [True, True, False]:
        raise GraderError(
            f"math-verify: known pairs {pairs} were graded {found}; expected [True, True, False]. "
            "Its LaTeX parser is broken, mostly by another antlr4-python3-runtime (hydra's 4.9). "
            "Run: pip install 'math-verify[antlr4_13_2]'"
        )


def _without_comparison(item: GradeItem, extracted: str | None, gold: str) -> Grade | None:
    """The verdict where nothing needs comparing: a cut answer, or none."""
    if item.truncated:
        return Grade(verdict=Verdict.TRUNCATED, extracted=extracted, gold=gold, method="length")
    if extracted is None:
        return Grade(verdict=Verdict.NO_ANSWER, gold=gold, method="extract")
    return None


def _grade(equal: bool, *, gold: str, pred: str, method: str) -> Grade:
    verdict = Verdict.CORRECT if equal else Verdict.WRONG
    return Grade(verdict=verdict, extracted=pred, gold=gold, method=method)


def _timed(judge: Callable[[T], Grade | _Open], item: T) -> tuple[Grade | _Open, float]:
    started = time.perf_counter()
    return judge(item), time.perf_counter() - started
