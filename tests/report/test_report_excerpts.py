"""Which rows the page shows in full."""

from __future__ import annotations

import json
from collections import Counter

from slowthink.stages.report.excerpts import read_transcripts, sample_transcripts
from slowthink.stages.report.text import shorten


def rows(arm: str, *, right: int, wrong: int, caps: tuple[int, ...] = (32, 64)) -> list[dict]:
    """Rows of an arm: at each cap, `right` correct and `wrong` wrong answers."""
    return [
        {
            "id": f"{arm}-{cap}-{number}", "arm": arm, "problem_id": f"p{number}", "sample": 0,
            "max_thinking_tokens": cap, "waits": 0, "forced": True,
            "verdict": "correct" if number < right else "wrong",
        }
        for cap in caps
        for number in range(right + wrong)
    ]  # fmt: skip


def test_right_and_wrong_are_drawn_in_equal_numbers():
    candidates = rows("a", right=2, wrong=30)
    chosen = [
        row for row in candidates if row["id"] in sample_transcripts(candidates, num=8, seed=0)
    ]
    assert Counter(row["verdict"] for row in chosen) == {"correct": 4, "wrong": 4}
    assert Counter(row["max_thinking_tokens"] for row in chosen) == {32: 4, 64: 4}


def test_same_problems_are_shown_at_several_points():
    candidates = rows("a", right=0, wrong=30)
    chosen = sample_transcripts(candidates, num=10, seed=0)
    problems = Counter(row_id.rpartition("-")[2] for row_id in chosen)
    assert set(problems.values()) == {2}


def test_choice_ignores_the_order_of_rows_and_follows_the_seed():
    candidates = rows("a", right=10, wrong=30) + rows("b", right=3, wrong=3)
    chosen = sample_transcripts(candidates, num=6, seed=0)
    assert sample_transcripts(candidates[::-1], num=6, seed=0) == chosen
    assert sample_transcripts(candidates, num=6, seed=1) != chosen


def test_each_arm_has_its_own_number_and_arms_alternate():
    candidates = rows("a", right=10, wrong=10) + rows("b", right=1, wrong=0, caps=(32,))
    chosen = sample_transcripts(candidates, num=3, seed=0)
    assert [row_id[0] for row_id in chosen] == ["a", "b", "a", "a"]


def test_no_transcripts_are_drawn_for_zero():
    assert sample_transcripts(rows("a", right=1, wrong=1), num=0, seed=0) == []


def test_transcripts_keep_forced_segments_apart(whole_run):
    shown = read_transcripts(whole_run / "evaluate", num=8, seed=0)
    waited = next(row for row in shown if row["point"] == "≤ 128 tokens + 2 waits")
    assert [kind for kind, _ in waited["segments"]] == [
        "thinking", "wait", "thinking", "closing", "answer",
    ]  # fmt: skip
    assert json.dumps(waited)


def test_long_text_keeps_both_ends_and_the_number_of_characters_left_out():
    assert shorten("a" * 6 + "b" * 6, limit=4) == "aa […8 characters left out…] bb"
    assert shorten("short", limit=5) == "short"
