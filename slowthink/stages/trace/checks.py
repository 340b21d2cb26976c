"""Checks of chains: each belongs to a training problem, is correct, and is its problem's only one.

{"id": "limo.jsonl:3", "step": "grade", "reason": "wrong answer",
 "evidence": "said '12', the key is '802'"}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from slowthink.errors import GraderError
from slowthink.grading import GradeItem, Grader
from slowthink.pipeline.runner import map_rows
from slowthink.records import Dropped, Grade, Problem, Split, Verdict, duplicate_key
from slowthink.stages.trace.sources import UngradedChain

MAX_ERROR_SHARE = 0.01
"""The stage fails if the grader itself fails on more than this share of the responses."""

REASONS = {
    Verdict.WRONG: "wrong answer",
    Verdict.NO_ANSWER: "the response states no answer",
    Verdict.TRUNCATED: "the response is cut off",
    Verdict.UNGRADABLE: "the problem has no usable key",
    Verdict.GRADER_ERROR: "the grader failed on it",
}


@dataclass(frozen=True)
class GradedChain:
    """A chain with the grade of its response."""

    chain: UngradedChain
    grade: Grade


@dataclass(frozen=True)
class KnownProblems:
    """Training problems by duplicate key, and the duplicate keys of held-out problems."""

    train: dict[str, Problem]
    heldout: frozenset[str]

    @classmethod
    def from_splits(cls, train: Sequence[Problem], heldout: Sequence[Problem]) -> KnownProblems:
        """Problems with options are also found by their question without the options."""
        by_key = {key: problem for problem in reversed(train) for key in _duplicate_keys(problem)}
        return cls(
            by_key, frozenset(key for problem in heldout for key in _duplicate_keys(problem))
        )


def _duplicate_keys(problem: Problem) -> set[str]:
    return {problem.duplicate_key, duplicate_key(problem.question)}


def match_problems(
    chains: Sequence[UngradedChain], known: KnownProblems
) -> tuple[list[UngradedChain], list[Dropped]]:
    """Chains, each with the training problem that equals its row's; and the others, as dropped.

    Without any training problems, each chain keeps the problem of its row.
    """
    kept, dropped = [], []
    for chain in chains:
        keys = _duplicate_keys(chain.problem)
        equal = next((known.train[key] for key in sorted(keys) if key in known.train), None)
        if chain.imported and keys & known.heldout:
            reason = "equal to a held-out problem"
        elif known.train and equal is None:
            reason = "its problem is not among the training problems"
        else:
            problem = equal if chain.imported and equal else chain.problem
            kept.append(replace(chain, problem=replace(problem, split=Split.TRAIN)))
            continue
        dropped.append(chain.to_dropped("match", reason, chain.problem.question))
    return kept, dropped


def grade_chains(chains: Sequence[UngradedChain], *, runner: str = "local") -> list[GradedChain]:
    """Each chain with its grade. Raises GraderError if the grader fails on more than 1 %."""
    items = [GradeItem(problem=chain.problem, answer_text=chain.response) for chain in chains]
    grades = map_rows(grade_batch, items, runner=runner)
    num_failed = sum(grade.verdict is Verdict.GRADER_ERROR for grade in grades)
    if num_failed > MAX_ERROR_SHARE * len(grades):
        raise GraderError(
            f"trace: the grader failed on {num_failed} of {len(grades)} chains; expected at most "
            f"{MAX_ERROR_SHARE:.0%}. Run `slowthink doctor`, and check these problems' answers."
        )
    return [GradedChain(chain, grade) for chain, grade in zip(chains, grades, strict=True)]


def grade_batch(items: Sequence[GradeItem]) -> list[Grade]:
    """A grade for each item, by a new grader; called in the runner's worker processes."""
    with Grader() as grader:
        return grader.grade_many(items)


def keep_correct(
    graded: Sequence[GradedChain], *, keep_ungraded: bool
) -> tuple[list[GradedChain], list[Dropped]]:
    """The correct chains; and the others, as dropped, with the response's and reference answer."""
    passing = {Verdict.CORRECT} | ({Verdict.UNGRADABLE} if keep_ungraded else set())
    kept, dropped = [], []
    for graded_chain in graded:
        grade = graded_chain.grade
        if grade.verdict in passing:
            kept.append(graded_chain)
            continue
        evidence = f"said {grade.extracted!r}, the key is {grade.gold!r}"
        dropped.append(graded_chain.chain.to_dropped("grade", REASONS[grade.verdict], evidence))
    return kept, dropped


def keep_first(graded: Sequence[GradedChain]) -> tuple[list[GradedChain], list[Dropped]]:
    """The first chain of each problem; and the others, as dropped, with the first's location."""
    kept: dict[str, GradedChain] = {}
    dropped = []
    for graded_chain in graded:
        first = kept.setdefault(graded_chain.chain.problem.id, graded_chain)
        if first is not graded_chain:
            reason, location = "another right chain is kept", first.chain.location
            dropped.append(graded_chain.chain.to_dropped("one per problem", reason, location))
    return list(kept.values()), dropped
