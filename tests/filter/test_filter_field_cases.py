"""The cases of curation out of public reports, in the data beside the project."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slowthink.curation.overlap.evaluation_sets import EvaluationItem
from slowthink.curation.overlap.leaks import find_leaks
from slowthink.recipe import ContaminationConfig, DuplicatesConfig
from slowthink.stages.filter.duplicates import drop_duplicates
from slowthink.stages.filter.funnel import Funnel
from slowthink.stages.filter.quality import QUALITY_RULES

CASES = Path(__file__).resolve().parents[3] / "shared/data/field/failing.jsonl"
pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not CASES.exists(), reason="no shared data beside the project"),
]


def cases(area: str) -> list[dict[str, Any]]:
    if not CASES.exists():
        return []
    rows = [json.loads(line) for line in CASES.read_text("utf-8").split("\n") if line]
    return [row for row in rows if row["area"] == area]


@pytest.mark.parametrize("case", cases("deduplication"), ids=lambda case: case["input"]["b"][:40])
def test_duplicates(case: dict[str, Any], make_problem, tmp_path) -> None:
    answers = case["input"].get("answers", ("1", "1"))
    problems = [
        make_problem(case["input"][name], answer)
        for name, answer in zip("ab", answers, strict=True)
    ]
    funnel = Funnel(problems)
    settings = SimpleNamespace(duplicates=DuplicatesConfig())
    recipe = SimpleNamespace(runner="local")
    drop_duplicates(funnel, SimpleNamespace(config=settings, folder=tmp_path, recipe=recipe))
    assert len(funnel.problems) == {"two": 2, "one": 1}[case["right"].split()[0]]


@pytest.mark.parametrize(
    "case", cases("decontamination"), ids=lambda case: case["input"]["tested"][:40]
)
def test_contamination(case: dict[str, Any]) -> None:
    items = [EvaluationItem("set", "1", case["input"]["tested"])]
    (leaks,) = find_leaks([case["input"]["training"]], items, ContaminationConfig())
    assert case["right"].startswith("no copy") and all(leak.kind == "template" for leak in leaks)


@pytest.mark.parametrize("case", cases("quality filter"), ids=lambda case: case["input"]["answer"])
def test_quality(case: dict[str, Any], make_problem) -> None:
    match = QUALITY_RULES["strict"]["answer"](make_problem(answer=case["input"]["answer"]))
    assert match is not None and match.reason == "the answer says nothing"
