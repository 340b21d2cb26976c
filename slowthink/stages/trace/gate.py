"""The gate: drops chains from which a model would learn something wrong, each with its evidence.

{"id": "limo.jsonl:3", "step": "gate", "reason": "the response is a refusal",
 "evidence": "response, character 0: I'm sorry, but I can't help with that."}

Before the chains are graded and scored, `prepare` splits those without an answer part and cleans
the others as the settings say; every change is noted. Afterwards the rules drop chains, whatever
their grades; then the grades do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from slowthink.curation import gate
from slowthink.curation.gate import answers
from slowthink.curation.gate.text import Fault, GatedText, fault_at
from slowthink.pipeline.runner import map_rows
from slowthink.recipe import GateConfig, TraceConfig
from slowthink.records import Dropped, Verdict
from slowthink.stages.trace.chains import ScoredChain, SourceChain

STEP = "gate"
REASONS = {
    Verdict.WRONG: "wrong answer",
    Verdict.NO_ANSWER: "the response states no answer",
    Verdict.TRUNCATED: "the response is cut off",
    Verdict.UNGRADABLE: "the problem has no usable key",
    Verdict.GRADER_ERROR: "the grader failed on it",
}
NO_ANSWER_PART = "no answer part"
SPLIT_NOTE = "split at its last box"
UNBOXED_NOTE = "boxes in the thinking removed"
SECOND_ANSWER_NOTE = "an earlier final answer removed"


# --- before grading -------------------------------------------------------------------------------


def prepare(
    chains: Sequence[SourceChain], config: GateConfig | None
) -> tuple[list[SourceChain], list[Dropped]]:
    """The chains, split and cleaned; and, without a gate, those that lack a part, as dropped."""
    if config is not None:
        return [_cleaned(_split(chain, config), config) for chain in chains], []
    kept = [chain for chain in chains if chain.defect is None]
    dropped = [
        chain.to_dropped("read", chain.defect, chain.thinking) for chain in chains if chain.defect
    ]
    return kept, dropped


def _split(chain: SourceChain, config: GateConfig) -> SourceChain:
    """A chain without an answer part: split at its last box if it has one, or all answer."""
    if chain.unsplit and config.unsplit == "answer":
        return replace(chain, thinking="", response=chain.thinking, unsplit=False)
    parts = None
    if chain.unsplit and config.unsplit == "split":
        parts = answers.split_at_answer(chain.thinking)
    if parts is None:
        return chain
    return replace(chain, thinking=parts[0], response=parts[1], notes=(*chain.notes, SPLIT_NOTE))


def _cleaned(chain: SourceChain, config: GateConfig) -> SourceChain:
    """The chain without stray boxes and second answers, if they are to be cleaned."""
    if config.stray_boxes == "clean" and answers.boxes_in(chain.thinking):
        thinking = answers.without_boxes(chain.thinking)
        chain = replace(chain, thinking=thinking, notes=(*chain.notes, UNBOXED_NOTE))
    if config.second_answers == "clean" and answers.earlier_answer(chain.response) is not None:
        response = answers.last_answer_only(chain.response)
        chain = replace(chain, response=response, notes=(*chain.notes, SECOND_ANSWER_NOTE))
    return chain


# --- after scoring --------------------------------------------------------------------------------


def drop_faulty(
    chains: Sequence[ScoredChain], config: GateConfig | None, *, runner: str = "local"
) -> tuple[list[ScoredChain], list[Dropped]]:
    """The chains to which no rule objects; and the others, as dropped."""
    if config is None:
        return list(chains), []
    find = partial(find_faults, config=config)
    faults = map_rows(find, [scored.chain for scored in chains], runner=runner)
    kept, dropped = [], []
    for scored, fault in zip(chains, faults, strict=True):
        if fault is None:
            kept.append(scored)
        else:
            dropped.append(scored.chain.to_dropped(STEP, fault.reason, fault.evidence))
    return kept, dropped


def find_faults(chains: Sequence[SourceChain], *, config: GateConfig) -> list[Fault | None]:
    """What the first rule that objects holds against each chain; called in the runner's worker
    processes."""
    return [_find_fault(chain, config) for chain in chains]


def _find_fault(chain: SourceChain, config: GateConfig) -> Fault | None:
    text = GatedText(
        question=chain.problem.question, thinking=chain.thinking, response=chain.response,
        language=chain.provenance.get("thinking_language"),
        hidden=chain.provenance.get("hidden"), truncated=chain.truncated,
    )  # fmt: skip
    fault = gate.find_fault(text, skip=config.skip)
    if fault is None and chain.defect is not None and not _may_lack_thinking(chain, config):
        fault = fault_at(chain.defect, "thinking", chain.thinking, len(chain.thinking) - 60)
    if fault is None and chain.unsplit and config.unsplit == "drop":
        fault = fault_at(NO_ANSWER_PART, "thinking", chain.thinking, len(chain.thinking) - 60)
    return fault or _find_stray_answer(chain, config)


def _may_lack_thinking(chain: SourceChain, config: GateConfig) -> bool:
    """True for a chain that is only an answer, if the settings let such chains pass."""
    return "no-thinking" in config.skip and bool(chain.response) and not chain.thinking


def _find_stray_answer(chain: SourceChain, config: GateConfig) -> Fault | None:
    """A box in the thinking or a second final answer, if the settings drop these."""
    restated = chain.unsplit and config.unsplit == "restate"
    if (
        config.stray_boxes == "drop"
        and not restated
        and (boxes := answers.boxes_in(chain.thinking))
    ):
        return fault_at("a box in the thinking", "thinking", chain.thinking, boxes[0].start)
    if config.second_answers == "drop":
        position = answers.earlier_answer(chain.response)
        if position is not None:
            return fault_at("a second final answer", "response", chain.response, position)
    return None


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
        is_ungradable = grade.verdict is Verdict.UNGRADABLE
        evidence = f"said {grade.extracted!r}, the key is {grade.gold!r}"
        evidence = "" if is_ungradable and grade.gold is None else evidence
        dropped.append(scored.chain.to_dropped("grade", REASONS[grade.verdict], evidence))
    return kept, dropped
