"""The gate: drops chains from which a model would learn something wrong, each with its evidence.

{"id": "limo.jsonl:3", "step": "grade", "reason": "wrong answer",
 "evidence": "said '12', the key is '802'"}
"""

from __future__ import annotations

from collections.abc import Sequence

from slowthink.recipe import TraceConfig
from slowthink.records import Dropped, Verdict
from slowthink.stages.trace.chains import ScoredChain

REASONS = {
    Verdict.WRONG: "wrong answer",
    Verdict.NO_ANSWER: "the response states no answer",
    Verdict.TRUNCATED: "the response is cut off",
    Verdict.UNGRADABLE: "the problem has no usable key",
    Verdict.GRADER_ERROR: "the grader failed on it",
}


def passing_verdicts(config: TraceConfig) -> frozenset[Verdict]:
    """Verdicts of chains that are kept."""
    passing = {Verdict.CORRECT}
    if config.ungraded == "keep":
        passing.add(Verdict.UNGRADABLE)
    if config.keep == "all":
        passing |= {Verdict.WRONG, Verdict.NO_ANSWER}
    return frozenset(passing)


def drop_by_grade(
    chains: Sequence[ScoredChain], passing: frozenset[Verdict]
) -> tuple[list[ScoredChain], list[Dropped]]:
    """The chains with a passing verdict; and the others, as dropped, with both answers."""
    kept, dropped = [], []
    for scored in chains:
        grade = scored.grade
        if grade.verdict in passing:
            kept.append(scored)
            continue
        evidence = f"said {grade.extracted!r}, the key is {grade.gold!r}"
        dropped.append(scored.chain.to_dropped("grade", REASONS[grade.verdict], evidence))
    return kept, dropped
