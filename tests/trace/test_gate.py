"""The gate's rules on labelled chains; splitting and cleaning; what the stage does with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from gate_cases import CASES, EN
from gate_cases_further import FURTHER
from gate_cases_unseen import read_cases

from slowthink.curation.gate import RULES, answers, find_fault
from slowthink.curation.gate.text import GatedText
from slowthink.recipe import GateConfig
from slowthink.recipe.traces import GateRule
from slowthink.records import Grade, Problem, Verdict, duplicate_key, problem_id
from slowthink.stages.trace import gate
from slowthink.stages.trace.chains import ScoredChain, SourceChain

LABELLED = [
    pytest.param(rule, found, fields, id=f"{rule}-{index}-{'bad' if found else 'good'}")
    for rule in RULES
    for index, (found, fields) in enumerate(
        [*CASES[rule], *(case for name, case in FURTHER if name == rule)]
    )
]


@pytest.mark.parametrize(("rule", "found", "fields"), LABELLED)
def test_rule_finds_what_breaks_it_and_nothing_else(
    rule: str, found: bool, fields: dict[str, Any]
) -> None:
    fault = RULES[rule](GatedText(**fields))
    assert (fault is not None) == found
    if fault is None:
        assert find_fault(GatedText(**fields)) is None


@pytest.mark.parametrize("rule", RULES)
def test_rules_judge_cases_that_widened_them(rule: str) -> None:
    cases = [
        case for case in (*read_cases("seen"), *read_cases(name="probes")) if case.rule == rule
    ]
    assert cases
    for case in cases:
        text = GatedText(**case.fields)
        assert (RULES[rule](text) is not None) == case.found, case.line
        assert case.found or find_fault(text) is None, case.line


def test_rules_judge_most_of_the_half_that_was_opened_last() -> None:
    cases = list(read_cases("unseen"))
    found = [RULES[case.rule](GatedText(**case.fields)) is not None for case in cases]
    wrong = [case.line for case, each in zip(cases, found, strict=True) if each != case.found]
    assert len(cases) == 208 and len(wrong) <= 6, wrong


def test_settings_name_every_rule() -> None:
    assert set(RULES) == set(GateRule.__args__)  # type: ignore[attr-defined]


def test_evidence_is_the_text_and_its_place() -> None:
    fault = find_fault(GatedText(**EN | {"response": "Well. I'm sorry, but I can't help you."}))
    assert fault is not None
    assert fault.evidence == "response, character 6: Well. I'm sorry, but I can't help you."


@pytest.mark.parametrize("found, fields", CASES["stray-box"])
def test_boxes_in_the_thinking(found: bool, fields: dict[str, Any]) -> None:
    assert bool(answers.boxes_in(fields["thinking"])) == found


@pytest.mark.parametrize("found, fields", CASES["second-answer"])
def test_second_final_answers(found: bool, fields: dict[str, Any]) -> None:
    response = fields["response"]
    assert (answers.earlier_answer(response) is not None) == found
    if found:
        assert answers.earlier_answer(answers.last_answer_only(response)) is None


@pytest.mark.parametrize(
    ("found", "response"),
    [
        (True, "**Answer:** 22\n\n**Answer:** 23"),
        (True, "Final answer: 22 or Final answer: 23"),
        (True, "最终答案：22\n最终答案：23"),
        (True, "\\framebox{22} hence \\boxed{23}"),
        (False, "\\boxed{\\frac12}, that is \\boxed{0.5}"),
        (False, "Answer: 3/4. The answer is 0.75."),
        (False, "The first root: \\boxed{3}. The second root: \\boxed{20}."),
        (False, "1. \\boxed{3}\n2. \\boxed{20}"),
        (False, "第一问\\boxed{3}；第二问\\boxed{20}"),
        (False, "答案为\\boxed{23}。故选\\boxed{C}。"),
    ],
)
def test_further_forms_of_second_answers(found: bool, response: str) -> None:
    assert (answers.earlier_answer(response) is not None) == found
    assert answers.earlier_answer(answers.last_answer_only(response)) is None


SPLITS = {
    "paragraph": ("So x = 4.\n\nThe answer is \\boxed{4}.", "The answer is \\boxed{4}."),
    "sentence": ("x + 1 = 5. " * 50 + "So it is \\boxed{4}.", "So it is \\boxed{4}."),
    "display": ("We add.\n\nHence:\n\n\\[\n\\boxed{4}.\n\\]\n", "Hence:\n\n\\[\n\\boxed{4}.\n\\]"),
    "two boxes": ("We solve.\n\nSo \\boxed{3} and \\boxed{4}.", "So \\boxed{3} and \\boxed{4}."),
    "Chinese": ("先求和。" * 120 + "所以答案是\\boxed{4}。", "所以答案是\\boxed{4}。"),
    "heading": (
        "We add.\n\n**Final Answer**\n\nIt is \\boxed{4}.",
        "**Final Answer**\n\nIt is \\boxed{4}.",
    ),
    "Chinese heading": ("先求和。\n\n**答案**\n\n\\boxed{4}", "**答案**\n\n\\boxed{4}"),
    "item": ("- red: 3\n- blue: 1\n- total: \\boxed{4}", "- total: \\boxed{4}"),
    "option": ("A) 3\nB) 4\n\nAnswer: \\boxed{B}", "Answer: \\boxed{B}"),
    "clause": (
        "We add;\nthe total is <|begin_of_box|>4<|end_of_box|>.",
        "the total is <|begin_of_box|>4<|end_of_box|>.",
    ),
    "numbered step": ("1. Add.\n2. It is \\boxed{4}.", "2. It is \\boxed{4}."),
    "framed": ("We add. It is \\framebox{4}.", "It is \\framebox{4}."),
    "text after it": ("We add.\n\nIt is \\boxed{4}.\n\nDone.", "It is \\boxed{4}.\n\nDone."),
}


@pytest.mark.parametrize(("text", "response"), SPLITS.values(), ids=SPLITS.keys())
def test_text_without_an_answer_part_is_split_at_its_last_box(text: str, response: str) -> None:
    parts = answers.split_at_answer(text)
    assert parts is not None and parts[1] == response
    assert text.strip().startswith(parts[0]) and "box" not in parts[0]


def test_text_without_a_box_or_with_nothing_before_it_is_not_split() -> None:
    assert answers.split_at_answer("So it is 4.") is None
    assert answers.split_at_answer("The answer is \\boxed{4}.") is None


# --- in the stage ---------------------------------------------------------------------------------


def chain(at: int = 1, **fields: Any) -> SourceChain:
    question = EN["question"]
    problem = Problem(
        id=problem_id(question), duplicate_key=duplicate_key(question), question=question,
        answer="23", source="test", source_row="1",
    )  # fmt: skip
    texts = {"thinking": EN["thinking"], "response": EN["response"]}
    return SourceChain(
        location=f"f.jsonl:{at}", problem=problem, teacher="me", imported=True, **texts | fields
    )


def scored(chain: SourceChain) -> ScoredChain:
    grade = Grade(verdict=Verdict.CORRECT)
    return ScoredChain(chain=chain, grade=grade, num_thinking_tokens=9, num_response_tokens=3)


def faults(*chains: SourceChain, **settings: Any) -> list[str]:
    _, dropped = gate.drop_faulty([scored(each) for each in chains], GateConfig(**settings))
    assert all((drop.step, bool(drop.evidence)) == ("gate", True) for drop in dropped)
    return [drop.reason for drop in dropped]


UNSPLIT = chain(
    thinking=EN["thinking"] + "\n\nSo it is \\boxed{23}.", response="Final Answer: 23", unsplit=True
)


@pytest.mark.parametrize("how", ["counted only", "encrypted", "summary"])
@pytest.mark.parametrize("thinking", ["", EN["thinking"]], ids=["no text", "text"])
def test_chain_whose_provider_hides_its_thinking_is_dropped_unless_skipped(
    how: str, thinking: str
) -> None:
    hidden = chain(thinking=thinking, provenance={"hidden": how})
    assert faults(hidden) == ["the provider hides the thinking"]
    assert faults(hidden, skip=["no-thinking"]) == []
    assert faults(chain(provenance={"hidden": None})) == []


def test_unsplit_chain_is_split_restated_or_dropped_by_setting() -> None:
    (split,), _ = gate.prepare([UNSPLIT], GateConfig())
    assert (split.thinking, split.response) == (EN["thinking"], "So it is \\boxed{23}.")
    assert split.notes == ("split at its last box",)
    restated, _ = gate.prepare([UNSPLIT], GateConfig(unsplit="restate"))
    assert restated == [UNSPLIT] and faults(UNSPLIT, unsplit="restate", stray_boxes="drop") == []
    assert faults(UNSPLIT, unsplit="drop") == ["no answer part"]


def test_answers_without_thinking_pass_by_setting() -> None:
    bare = chain(thinking="", defect="the thinking is empty")
    assert faults(bare) == ["no thinking"] and faults(bare, skip=("no-thinking",)) == []
    assert faults(replace(bare, response=""), skip=("no-thinking",)) != []
    (answer,), _ = gate.prepare([UNSPLIT], GateConfig(unsplit="answer"))
    assert (answer.thinking, answer.response) == ("", UNSPLIT.thinking)
    assert faults(answer, skip=("no-thinking",)) == []


def test_stray_boxes_are_kept_cleaned_or_dropped_by_setting() -> None:
    boxed = chain(thinking="First \\boxed{20} blue balls. And 3 more.")
    assert faults(boxed) == []
    assert faults(boxed, stray_boxes="drop") == ["a box in the thinking"]
    (clean,), _ = gate.prepare([boxed], GateConfig(stray_boxes="clean"))
    assert clean.thinking == "First 20 blue balls. And 3 more."
    assert clean.notes == ("boxes in the thinking removed",)


def test_second_answers_are_dropped_cleaned_or_kept_by_setting() -> None:
    twice = chain(response="It is \\boxed{22}. No: it is \\boxed{23}.")
    assert faults(twice) == ["a second final answer"]
    assert faults(twice, second_answers="keep") == []
    (clean,), _ = gate.prepare([twice], GateConfig(second_answers="clean"))
    assert clean.response == "It is 22. No: it is \\boxed{23}."
    assert clean.notes == ("an earlier final answer removed",)


def test_skipped_rule_does_not_drop() -> None:
    refusal = chain(response="I'm sorry, but I can't help with that.")
    assert faults(refusal) == ["the response is a refusal"]
    assert faults(refusal, skip=["refusal"]) == []


def test_chain_with_a_defect_is_never_kept() -> None:
    cut = chain(response="", defect="the thinking is never closed")
    assert faults(cut) == ["the thinking is never closed"]
    kept, dropped = gate.prepare([cut, chain(2)], None)
    assert [each.location for each in kept] == ["f.jsonl:2"]
    assert [(drop.step, drop.reason) for drop in dropped] == [
        ("read", "the thinking is never closed")
    ]


def test_order_of_chains_and_batches_change_nothing() -> None:
    chains = [chain(at, **fields) for at, fields in enumerate(RESPONSES)]
    forward = gate.find_faults(chains, config=GateConfig())
    backward = gate.find_faults(chains[::-1], config=GateConfig())
    assert forward == backward[::-1] and forward.count(None) == 1


RESPONSES = [
    {"response": "I refuse to answer."}, {}, {"thinking": ""}, {"response": "So the total is"},
]  # fmt: skip


def test_without_a_gate_nothing_is_changed_or_dropped() -> None:
    chains = [UNSPLIT, replace(chain(2), response="I'm sorry, but I can't help with that.")]
    assert gate.prepare(chains, None) == (chains, [])
    kept, dropped = gate.drop_faulty([scored(each) for each in chains], None)
    assert len(kept) == 2 and dropped == []
