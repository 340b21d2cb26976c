"""Scores, levels and their figures in the trace stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slowthink.records import Grade, Problem, Verdict
from slowthink.stages.trace.chains import ScoredChain, SourceChain
from slowthink.stages.trace.figures import behaviour, correlations
from tests.trace.test_trace_stage import run

CHAINS = (
    ("1 + 1?", "1 + 1 = 2.", "2"),
    ("2 * 3 + 1?", "2 * 3 = 6. 6 + 1 = 7. Let me check: 7 - 1 = 6.", "7"),
    ("7 * 8?", "Perhaps 7 * 8 = 56. Since 56 / 8 = 7, therefore it is 56.\nWait.\nFine.", "56"),
    ("9 - 5?", "Wrong: 9 - 5 = 5.", "4"),
)


@pytest.mark.slow
def test_all_chains_are_scored_and_the_kept_ones_have_levels(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    rows = [
        {"question": question, "thinking": thinking, "answer": answer,
         "response": f"Final Answer: {answer if answer != '4' else '5'}"}
        for question, thinking, answer in CHAINS
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run(tmp_path, trace={
        "sources": [{"kind": "file", "path": str(path)}],
        "scores": [{"kind": "limo-v2"}, {"kind": "effective-checks"}],
        "levels": {"score": "limo-v2", "num_levels": 3},
    })  # fmt: skip
    assert sorted(trace.level for trace in result.records) == [1, 2, 3]
    assert {trace.level for trace in result.records if trace.problem.question == "7 * 8?"} == {3}
    assert json.loads(result.records[1].scores)["effective-checks"] == 1.0
    pairs = {(row["a"], row["b"]): row["n"] for row in result.facts["score_correlations"]}
    assert pairs == {
        ("effective-checks", "length"): 4, ("effective-checks", "limo-v2"): 4,
        ("length", "limo-v2"): 4,
    }  # fmt: skip
    assert [row["level"] for row in result.facts["behaviour"]] == [1, 2, 3]


def scored(
    thinking: str, *, num_tokens: int, level: int | None = None, **scores: Any
) -> ScoredChain:
    problem = Problem(id="p", duplicate_key="p", question="?", source="test", source_row="1")
    chain = SourceChain(
        location="p", problem=problem, thinking=thinking, response="", teacher="t", imported=True
    )
    return ScoredChain(
        chain=chain, grade=Grade(verdict=Verdict.CORRECT), num_thinking_tokens=num_tokens,
        num_response_tokens=0, scores=scores, level=level,
    )  # fmt: skip


def test_correlations_are_of_ranks_and_count_chains_that_have_both() -> None:
    chains = [
        scored("", num_tokens=tokens, score=value, **more)
        for tokens, value, more in ((10, 0.9, {"x": 1.0}), (100, 0.5, {"x": 1.0}), (1000, 0.1, {}))
    ]
    assert correlations(chains) == [
        {"a": "length", "b": "score", "spearman": -1.0, "n": 3},
        {"a": "length", "b": "x", "spearman": None, "n": 2},
        {"a": "score", "b": "x", "spearman": None, "n": 2},
    ]


def test_behaviour_is_reported_by_level() -> None:
    rows = behaviour([
        scored("wait, since\nthe triangle \\frac", num_tokens=10, level=5),
        scored("等等，三角形。\n也许\n可能", num_tokens=30, level=5),
        scored("triangle triangle", num_tokens=4, level=1),
    ])  # fmt: skip
    assert rows[0] == {
        "level": 1, "num_chains": 1, "thinking_tokens": 4.0, "lines": 1.0, "verification": 0.0,
        "exploration": 0.0, "granularity": 0.0, "words": {"triangle": 2},
    }  # fmt: skip
    assert (rows[1]["thinking_tokens"], rows[1]["lines"]) == (20.0, 2.5)
    assert rows[1]["exploration"] == 100.0
    assert list(rows[1]["words"]) == ["since", "triangle", "wait", "也许", "可能", "等等"]
