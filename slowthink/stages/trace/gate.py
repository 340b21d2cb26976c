"""The gate: a chain belongs to a training problem, is right, and is its problem's only one.

{"id": "limo.jsonl:3", "step": "grade", "reason": "wrong answer",
 "evidence": "said '12', the key is '802'"}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from slowthink.data.rows import as_evidence
from slowthink.errors import GraderError
from slowthink.grading import GradeItem, Grader
from slowthink.pipeline.runner import map_rows
from slowthink.records import Dropped, Grade, Problem, Split, Verdict, duplicate_key
from slowthink.stages.trace.sources import UngradedChain

MAX_ERROR_SHARE = 0.01
"""More answers on which the grader itself fails than this, and the stage fails."""

REASONS = {
    Verdict.WRONG: "wrong answer",
    Verdict.NO_ANSWER: "the response states no answer",
    Verdict.TRUNCATED: "the response is cut off",
    Verdict.UNGRADABLE: "the problem has no usable key",
    Verdict.GRADER_ERROR: "the grader failed on it",
}


@dataclass(frozen=True)
class GradedChain:
    """A chain with the verdict on its response."""

    candidate: UngradedChain
    grade: Grade


@dataclass(frozen=True)
class Known:
    """The problems of the earlier stages, by their question's normal form."""

    train: dict[str, Problem]
    heldout: frozenset[str]

    @classmethod
    def of(cls, train: Sequence[Problem], heldout: Sequence[Problem]) -> Known:
        """Problems with options are known by their question alone, too."""
        keyed = {key: problem for problem in reversed(train) for key in _keys(problem)}
        return cls(keyed, frozenset(key for problem in heldout for key in _keys(problem)))


def _keys(problem: Problem) -> set[str]:
    return {problem.duplicate_key, duplicate_key(problem.question)}


def match(
    candidates: Sequence[UngradedChain], known: Known
) -> tuple[list[UngradedChain], list[Dropped]]:
    """Chains with the earlier stages' problem in place of their row's; and the others, with why.

    Where there are no training problems before, the chain's row is the problem.
    """
    kept, dropped = [], []
    for candidate in candidates:
        keys = _keys(candidate.problem)
        ours = next((known.train[key] for key in sorted(keys) if key in known.train), None)
        reason = None
        if candidate.imported and keys & known.heldout:
            reason = "equal to a held-out problem"
        elif known.train and ours is None:
            reason = "its problem is not among the training problems"
        if reason is None:
            problem = ours if candidate.imported and ours else candidate.problem
            kept.append(replace(candidate, problem=replace(problem, split=Split.TRAIN)))
        else:
            evidence = as_evidence(candidate.problem.question)
            dropped.append(
                Dropped(id=candidate.address, step="match", reason=reason, evidence=evidence)
            )
    return kept, dropped


def grade_all(candidates: Sequence[UngradedChain], *, runner: str = "local") -> list[GradedChain]:
    """Each chain with its grade. Raises GraderError where the grader fails on more than 1 %."""
    items = [GradeItem(problem=one.problem, answer_text=one.response) for one in candidates]
    grades = map_rows(grade_batch, items, runner=runner)
    failed = sum(grade.verdict is Verdict.GRADER_ERROR for grade in grades)
    if failed > MAX_ERROR_SHARE * len(grades):
        raise GraderError(
            f"trace: the grader failed on {failed} of {len(grades)} chains; expected at most "
            f"{MAX_ERROR_SHARE:.0%}. See `slowthink doctor`, and the answers of these problems."
        )
    return [GradedChain(one, grade) for one, grade in zip(candidates, grades, strict=True)]


def grade_batch(items: Sequence[GradeItem]) -> list[Grade]:
    """A verdict an item."""
    with Grader() as grader:
        return grader.grade_many(items)


def keep_right(
    graded: Sequence[GradedChain], *, keep_ungraded: bool
) -> tuple[list[GradedChain], list[Dropped]]:
    """The chains that pass; and the others, with what was compared."""
    passing = {Verdict.CORRECT} | ({Verdict.UNGRADABLE} if keep_ungraded else set())
    dropped = [
        Dropped(
            id=one.candidate.address, step="grade", reason=REASONS[one.grade.verdict],
            evidence=as_evidence(f"said {one.grade.extracted!r}, the key is {one.grade.gold!r}"),
        )
        for one in graded
        if one.grade.verdict not in passing
    ]  # fmt: skip
    return [one for one in graded if one.grade.verdict in passing], dropped


def keep_first(graded: Sequence[GradedChain]) -> tuple[list[GradedChain], list[Dropped]]:
    """The first chain of each problem; and the others, with the one that is kept."""
    first: dict[str, GradedChain] = {}
    dropped = []
    for one in graded:
        kept = first.setdefault(one.candidate.problem.id, one)
        if kept is not one:
            dropped.append(
                Dropped(
                    id=one.candidate.address, step="one per problem",
                    reason="another right chain is kept",
                    evidence=as_evidence(kept.candidate.address),
                )
            )  # fmt: skip
    return list(first.values()), dropped
