"""The gate on published chains and solutions: verdicts, fates, false alarms, and the benchmark."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from benchmarks.traces import read_chains, run, run_stage, traces_recipe
from slowthink.curation.gate import find_fault
from slowthink.curation.gate.text import GatedText
from slowthink.recipe.loading import parse_recipe
from slowthink.stages.trace.sources import CALCULATOR_ANNOTATION

SHARED = Path("/work/shared/data")
on_shared_data = [
    pytest.mark.slow, pytest.mark.shared_data,
    pytest.mark.skipif(not SHARED.exists(), reason="the shared data is not here"),
]  # fmt: skip
VERDICTS = {
    "limo_official_solutions": {"correct": 477, "no_answer": 19, "wrong": 1},
    "limo_qwen25_32b_instruct": {"correct": 496, "wrong": 1},
    "limo_r1_distill_qwen32b": {"correct": 291},
    "o1journey_aime_longthought": {"correct": 681, "wrong": 4},
    "r1_distills_general_500": {"ungradable": 500},
}
"""Of 491 and 680 the data's README says that they end on the answer string by string. The others
are equal to it: four times 063 for 63 and once 160° for 160 (Qwen), and once 83° for 83 (O1). Two
solutions by people box their answer with `\\framebox`."""


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """All shared chains, as the table of the stage has them."""
    root = tmp_path_factory.mktemp("traces")
    run_stage(traces_recipe(SHARED, scores=[{"kind": "length"}]), root)
    return read_chains(root)


class TestSharedChains:
    pytestmark = on_shared_data

    def test_each_has_a_row_with_its_score_and_a_reason_if_it_was_dropped(
        self, chains: list[dict[str, Any]]
    ) -> None:
        assert len(chains) == 2500
        for row in chains:
            assert row["kept"] == (row["step"] is None) == (row["reason"] is None)
            assert row["kept"] or row["evidence"]
            assert (row["length"] is None) == (row["step"] == "contamination")

    def test_verdicts_agree_with_what_the_data_states(self, chains: list[dict[str, Any]]) -> None:
        verdicts: dict[str, Counter[str]] = {}
        for row in chains:
            if row["verdict"]:
                verdicts.setdefault(row["teacher"], Counter())[row["verdict"]] += 1
        assert verdicts == VERDICTS

    def test_chains_of_the_test_set_are_dropped_before_they_are_graded(
        self, chains: list[dict[str, Any]]
    ) -> None:
        contaminated = [row for row in chains if row["step"] == "contamination"]
        assert {row["teacher"] for row in contaminated} == {"gemini_flash_thinking_aime24"}
        assert len(contaminated) == 30 and {row["verdict"] for row in contaminated} == {None}

    def test_few_chains_of_good_teachers_are_dropped(self, chains: list[dict[str, Any]]) -> None:
        """At most 2 %; those of small models on riddles, cut off at a limit, often."""
        dropped = Counter(row["teacher"] for row in chains if row["step"] == "gate")
        assert dropped["limo_r1_distill_qwen32b"] <= 5
        assert dropped["limo_qwen25_32b_instruct"] <= 9
        assert dropped["o1journey_aime_longthought"] <= 13
        assert 80 <= dropped["r1_distills_general_500"] <= 120

    def test_texts_without_an_answer_part_are_split_and_noted(
        self, chains: list[dict[str, Any]]
    ) -> None:
        notes = Counter(
            row["import_notes"] for row in chains if row["teacher"].startswith("o1journey")
        )
        assert notes == {"split at its last box": 685}

    def test_gemini_is_right_as_often_as_its_origin_says(self, tmp_path: Path) -> None:
        path = SHARED / "traces" / "gemini_flash_thinking_aime24.jsonl"
        sources = [{"kind": "file", "path": str(path)}]
        run_stage(parse_recipe({"name": "g", "trace": {"sources": sources}}), tmp_path)
        right = {row["problem_id"] for row in read_chains(tmp_path) if row["verdict"] == "correct"}
        assert len(right) == 17


# --- false alarms on solutions by people ----------------------------------------------------------

ALLOWED = {"olympiadbench": 0.01, "gsm8k_train": 0.005, "limo_500_official": 0.01,
           "s1k_published_questions": 0.01}  # fmt: skip
"""Largest share of a pool's solutions that the gate may drop."""


def solutions(name: str) -> Iterator[GatedText]:
    """The solutions of a pool as thinking; of OlympiadBench, those of Chinese questions."""
    with (SHARED / "pool" / f"{name}.jsonl").open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            is_chinese = len(re.findall("[\u4e00-\u9fff]", row["question"])) > 5
            solution = CALCULATOR_ANNOTATION.sub("", row.get("solution") or "").strip()
            if solution and (is_chinese or name != "olympiadbench"):
                response = "答案是7。" if is_chinese else "The answer is 7."
                yield GatedText(question=row["question"], thinking=solution, response=response)


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.exists(), reason="the shared data is not here")
@pytest.mark.parametrize("name", ALLOWED)
def test_false_alarms_on_solutions_are_rare(name: str) -> None:
    faults = [find_fault(text) for text in solutions(name)]
    reasons = Counter(fault.reason for fault in faults if fault)
    assert reasons.total() <= ALLOWED[name] * len(faults), reasons


# --- without the shared data ----------------------------------------------------------------------


@pytest.mark.slow
def test_benchmark_runs_on_made_chains() -> None:
    figures = run(num_rounds=1)
    assert figures["num_traces"] == 300
    assert figures["verdicts"] == {"made": {"correct": 270, "wrong": 30}}
    assert figures["funnel"]["gate"] == {"the text repeats itself": 30}


@pytest.mark.slow
def test_order_of_rows_does_not_change_the_output(tmp_path: Path) -> None:
    rows = [
        {
            "id": f"r{number}", "question": f"What is {number % 5} + 2?",
            "thinking": "I add them one by one, starting at two." + " Again." * (number % 3),
            "response": rf"It is \boxed{{{number % 5 + 2 + (number % 4 == 3)}}}.",
            "answer": str(number % 5 + 2),
        }
        for number in range(20)
    ]  # fmt: skip
    outputs = []
    for name, ordered in (("a", rows), ("b", rows[::-1])):
        folder = tmp_path / name
        (folder / "traces").mkdir(parents=True)
        text = "".join(json.dumps(row) + "\n" for row in ordered)
        (folder / "traces" / "made.jsonl").write_text(text)
        recipe = traces_recipe(folder, keep="one", prefer={"by": "shortest"})
        result = run_stage(recipe, folder)
        (path,) = folder.rglob("chains.parquet")
        table = pq.read_table(path).drop_columns(["location", "evidence"]).to_pylist()
        outputs.append((sorted(map(repr, result.records)), sorted(map(repr, table))))
    assert outputs[0] == outputs[1]
