"""Chains that are there already: the problems' own solutions, and files.

SourceChain(location="limo.jsonl:3", problem=…, thinking="Okay, so …", response="…", …)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from slowthink.data.rows import BadRow, SourceRow, UnusableValue, as_evidence, read_rows
from slowthink.errors import DataError
from slowthink.grading.extract import extract_stated
from slowthink.recipe import FileTraces, SolutionTraces
from slowthink.records import Dropped, Problem, item_seed
from slowthink.serialise import digest
from slowthink.stages.trace.chains import SourceChain, SourceChains
from slowthink.stages.trace.formats import CHAIN_FORMATS, detect_format, state_answer

CALCULATOR_ANNOTATION = re.compile(r"<<[^<>]*>>")
"""GSM8K's annotations for a calculator, e.g. <<48/2=24>>."""
FINAL_ANSWER_LINE = re.compile(r"\n####[^\n]*\s*\Z")
MAX_ID_CHARACTERS = 80
"""What is shown of a row's own id."""
EMPTY = "thinking or response is empty"
NO_SOLUTION = "the problem has no solution"
"""Why a problem gives no chain."""


def read_solutions(source: SolutionTraces, problems: Sequence[Problem]) -> SourceChains:
    """Chains with each problem's solution as thinking, and a response that states its answer."""
    gathered = SourceChains(num_rows=len(problems))
    for problem in problems:
        try:
            gathered.chains.append(_chain_from_solution(problem, source.teacher))
        except UnusableValue as error:
            gathered.dropped.append(Dropped(id=problem.id, step="read", reason=str(error)))
    return gathered


def _chain_from_solution(problem: Problem, teacher: str) -> SourceChain:
    """A chain whose response states the answer in the solution, else the reference answer. Raises
    UnusableValue if there is no solution or no answer."""
    solution = problem.solution or ""
    thinking = FINAL_ANSWER_LINE.sub("", CALCULATOR_ANNOTATION.sub("", solution)).strip()
    if not thinking:
        raise UnusableValue(NO_SOLUTION)
    answer = extract_stated(solution) or problem.answer
    if answer is None:
        raise UnusableValue("the problem has no answer")
    return SourceChain(
        location=problem.id, problem=problem, thinking=thinking, response=state_answer(answer),
        teacher=teacher, imported=False,
    )  # fmt: skip


def read_chains(source: FileTraces, *, seed: int, setting: str) -> SourceChains:
    """The chains of a file. Raises DataError if it is missing or none of its rows is a chain."""
    gathered, columns = SourceChains(), dict[str, None]()
    for row in read_rows(source.path, setting=f"{setting}.path"):
        gathered.num_rows += 1
        if isinstance(row, SourceRow):
            columns.update(dict.fromkeys(row.values))
        chain = row if isinstance(row, BadRow) else _to_chain(row, source)
        if isinstance(chain, SourceChain):
            gathered.chains.append(chain)
        else:
            gathered.dropped.append(
                Dropped(
                    id=_location(row, source), step="read", reason=chain.reason,
                    evidence=chain.evidence,
                )
            )  # fmt: skip
    if all(chain.defect for chain in gathered.chains):
        raise DataError(_no_chain_message(source, setting, gathered, columns))
    return _sample_chains(gathered, source.max_traces, seed=seed)


def _location(row: SourceRow | BadRow, source: FileTraces) -> str:
    """file:line, and the row's own `id` if it has one: `limo.jsonl:3 (id q-17)`."""
    place = f"{Path(source.path).name}:{row.line}"
    own_id = row.values.get("id") if isinstance(row, SourceRow) else None
    if isinstance(own_id, bool) or not isinstance(own_id, int | str) or own_id == "":
        return place
    return f"{place} (id {' '.join(str(own_id).split())[:MAX_ID_CHARACTERS]})"


def _to_chain(row: SourceRow, source: FileTraces) -> SourceChain | BadRow:
    row_format = detect_format(row.values) if source.rows == "auto" else CHAIN_FORMATS[source.rows]
    if row_format is None:
        return BadRow(row.line, "no known form of chains", as_evidence(", ".join(row.values)))
    try:
        chain = row_format.read(row.values)
        thinking, response = chain.thinking.strip(), chain.response.strip()
        if not thinking and not response:
            raise UnusableValue(EMPTY)
        defect = chain.defect or (None if thinking and response else EMPTY)
    except UnusableValue as error:
        return BadRow(row.line, str(error), as_evidence(str(row.values)))
    path = Path(source.path)
    problem = replace(chain.problem, source_row=chain.problem.source_row or str(row.line))
    return SourceChain(
        location=_location(row, source), problem=problem, thinking=thinking, response=response,
        teacher=source.teacher or chain.teacher or path.stem, imported=True, notes=chain.notes,
        unsplit=chain.unsplit, defect=defect,
    )  # fmt: skip


def _no_chain_message(
    source: FileTraces, setting: str, gathered: SourceChains, columns: Iterable[str]
) -> str:
    defects = {chain.defect or "" for chain in gathered.chains}
    reasons = "; ".join(sorted(defects | {drop.reason for drop in gathered.dropped})[:3])
    return (
        f"{source.path}: none of {gathered.num_rows} rows is a chain ({reasons}); the columns are "
        f"{', '.join(columns) or 'unreadable'}; expected question, thinking, response "
        f"and answer, or the columns of another format ({', '.join(CHAIN_FORMATS)}). "
        f"Rename the columns, or name the format: --set {setting}.rows=limo"
    )


def _sample_chains(gathered: SourceChains, max_traces: int | None, *, seed: int) -> SourceChains:
    """At most `max_traces` chains, sampled by seed, independent of their order."""
    if max_traces is None or len(gathered.chains) <= max_traces:
        return gathered
    ranked = sorted(gathered.chains, key=lambda chain: _sampling_key(chain, seed))
    sampled = {chain.location for chain in ranked[:max_traces]}
    not_sampled = [
        chain.to_dropped("take", "not drawn (max_traces)")
        for chain in gathered.chains
        if chain.location not in sampled
    ]
    chains = [chain for chain in gathered.chains if chain.location in sampled]
    return replace(gathered, chains=chains, dropped=gathered.dropped + not_sampled)


def _sampling_key(chain: SourceChain, seed: int) -> int:
    return item_seed(seed, "take", digest([chain.problem.id, chain.thinking, chain.response]))
