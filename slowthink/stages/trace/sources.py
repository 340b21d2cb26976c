"""Where chains come from: the problems' own solutions, and files.

Candidate(address="limo.jsonl:3", problem=…, thinking="Okay, so …", response="**Final Answer** …")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from slowthink.data.rows import BadRow, SourceRow, UnusableValue, as_evidence, read_rows
from slowthink.errors import DataError
from slowthink.grading.extract import extract
from slowthink.recipe import FileTraces, SolutionTraces
from slowthink.records import Dropped, Problem, item_seed
from slowthink.serialise import digest
from slowthink.stages.trace.forms import FORMS, ChainFormat, Imported, final_answer, form_of

CALCULATOR_MARK = re.compile(r"<<[^<>]*>>")
"""GSM8K's notes to a calculator, e.g. <<48/2=24>>."""
FINAL_MARK = re.compile(r"\n####[^\n]*\s*\Z")


@dataclass(frozen=True, kw_only=True)
class UngradedChain:
    """A chain that is not graded yet."""

    address: str
    """file:line, or the problem's id where the chain is its solution."""
    problem: Problem
    thinking: str
    response: str
    teacher: str
    imported: bool
    """Its problem was made of the chain's row."""


@dataclass
class SourceChains:
    """What one source gave."""

    candidates: list[UngradedChain] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    num_rows: int = 0


def solution_chains(
    source: SolutionTraces, problems: Sequence[Problem], *, seed: int, setting: str
) -> SourceChains:
    """The solution of each problem as its thinking; the response states the answer it comes to."""
    found = SourceChains(num_rows=len(problems))
    for problem in problems:
        try:
            found.candidates.append(_from_solution(problem, source.teacher))
        except UnusableValue as error:
            found.dropped.append(Dropped(id=problem.id, step="read", reason=str(error)))
    return found


def _from_solution(problem: Problem, teacher: str) -> UngradedChain:
    """A chain whose own answer, where it marks one, is what will be graded."""
    solution = problem.solution or ""
    thinking = FINAL_MARK.sub("", CALCULATOR_MARK.sub("", solution)).strip()
    if not thinking:
        raise UnusableValue("the problem has no solution")
    answer = extract(solution) or problem.answer
    if answer is None:
        raise UnusableValue("the problem has no answer")
    return UngradedChain(
        address=problem.id, problem=problem, thinking=thinking, response=final_answer(answer),
        teacher=teacher, imported=False,
    )  # fmt: skip


def file_chains(
    source: FileTraces, problems: Sequence[Problem], *, seed: int, setting: str
) -> SourceChains:
    """The chains of a file. Raises DataError where it is missing or none of its rows is a chain."""
    found, columns = SourceChains(), dict[str, None]()
    name = Path(source.path).name
    for row in read_rows(source.path, setting=f"{setting}.path"):
        found.num_rows += 1
        if isinstance(row, SourceRow):
            columns.update(dict.fromkeys(row.values))
        bad = row if isinstance(row, BadRow) else _add(found, row, source)
        if bad is not None:
            address = f"{name}:{bad.line}"
            found.dropped.append(
                Dropped(id=address, step="read", reason=bad.reason, evidence=bad.evidence)
            )
    if not found.candidates:
        raise DataError(_no_chain(source, setting, found, list(columns)))
    return _take(found, source.max_traces, seed=seed)


def _add(found: SourceChains, row: SourceRow, source: FileTraces) -> BadRow | None:
    """Add the row's chain; what is wrong with it, if it has none."""
    form = form_of(list(row.values)) if source.rows == "auto" else FORMS[source.rows]
    if form is None:
        return BadRow(row.line, "no known form of chains", as_evidence(", ".join(row.values)))
    try:
        found.candidates.append(_from_row(form, row, source))
    except UnusableValue as error:
        return BadRow(row.line, str(error), as_evidence(str(row.values)))
    return None


def _from_row(form: ChainFormat, row: SourceRow, source: FileTraces) -> UngradedChain:
    chain: Imported = form.read(row.values)
    if not chain.thinking.strip() or not chain.response.strip():
        raise UnusableValue("thinking or response is empty")
    path = Path(source.path)
    problem = replace(chain.problem, source_row=chain.problem.source_row or str(row.line))
    return UngradedChain(
        address=f"{path.name}:{row.line}", problem=problem, thinking=chain.thinking.strip(),
        response=chain.response.strip(), teacher=source.teacher or chain.teacher or path.stem,
        imported=True,
    )  # fmt: skip


def _no_chain(source: FileTraces, setting: str, found: SourceChains, columns: Sequence[str]) -> str:
    reasons = "; ".join(sorted({drop.reason for drop in found.dropped})[:3])
    return (
        f"{source.path}: none of {found.num_rows} rows is a chain ({reasons}); the columns are "
        f"{', '.join(columns) or 'unreadable'}; expected those of {', '.join(FORMS)}. "
        f"Rename the columns, or name the form: --set {setting}.rows=limo"
    )


def _take(found: SourceChains, max_traces: int | None, *, seed: int) -> SourceChains:
    """At most `max_traces`, drawn by seed, whatever their order."""
    if max_traces is None or len(found.candidates) <= max_traces:
        return found
    ranked = sorted(found.candidates, key=lambda one: _draw(one, seed))
    taken = {candidate.address for candidate in ranked[:max_traces]}
    left = [
        Dropped(id=candidate.address, step="take", reason="not drawn (max_traces)")
        for candidate in found.candidates
        if candidate.address not in taken
    ]
    candidates = [one for one in found.candidates if one.address in taken]
    return replace(found, candidates=candidates, dropped=found.dropped + left)


def _draw(candidate: UngradedChain, seed: int) -> int:
    text = digest([candidate.problem.id, candidate.thinking, candidate.response])
    return item_seed(seed, "take", text)


SOURCES: dict[str, Callable[..., SourceChains]] = {
    "solution": solution_chains,
    "file": file_chains,
}
