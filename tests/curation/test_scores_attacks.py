"""Chains of our own and attacked twins of them, written before the guard that they test.

One row: {"id": "en-pens/lorem", "kind": "lorem", "of": "en-pens", "half": "seen", "language": "en",
"question": …, "thinking": …}. The kind's hash decides the half, so that no kind of the unseen half
was known while the guard was written; `honest` chains and `terse` solutions belong to both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scores import auc_table
from slowthink.recipe import GuardedLimoScore, LimoV2Score
from tests.curation.scored import chain, score

CORPUS = Path(__file__).parent.parent / "fixtures" / "attacked_chains.jsonl"
SHA256 = "4919df4cd1f15f5a61ad4a5ff8c7318ee8ec74f5e19dfd3d4a2f31f9cd14e04b"
ROWS = [json.loads(line) for line in CORPUS.read_text("utf-8").splitlines()]


def test_the_corpus_is_the_one_that_was_written_before_the_guard() -> None:
    assert hashlib.sha256(CORPUS.read_bytes()).hexdigest() == SHA256
    attacked = [row for row in ROWS if row["kind"] not in ("honest", "terse")]
    assert len(attacked) == 85
    for row in attacked:
        is_seen = hashlib.sha256(row["kind"].encode()).digest()[0] % 2 == 0
        assert row["half"] == ("seen" if is_seen else "unseen")


def scores(config: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The score of each row, by its id; all rows are one pool."""
    chains = [chain(row["thinking"], question=row["question"]) for row in rows]
    values = score(config, *chains)
    return {row["id"]: v[config.kind] for row, v in zip(rows, values, strict=True)}


GUARDED, LIMO = (scores(config, ROWS) for config in (GuardedLimoScore(), LimoV2Score()))
ATTACKED = [row for row in ROWS if row["half"] != "both"]
KNOWN_FAILURES = {"en-ages/other-problem", "en-circle/other-problem"}
"""Another problem's solution, appended, is new content, and shares small numbers with any other."""


@pytest.mark.parametrize("row", ATTACKED, ids=lambda row: row["id"])
def test_attacks_do_not_raise_the_guarded_score(row: dict[str, Any]) -> None:
    assert (GUARDED[row["id"]] > GUARDED[row["of"]]) is (row["id"] in KNOWN_FAILURES)


def test_a_thorough_chain_has_more_than_a_terse_one() -> None:
    """So the guard is not won by writing nothing."""
    terse = [row for row in ROWS if row["kind"] == "terse"]
    assert all(GUARDED[row["id"]] < GUARDED[row["of"]] for row in terse)


def test_most_attacks_raise_limo_v2() -> None:
    """The published score's failures."""
    assert sum(LIMO[row["id"]] > LIMO[row["of"]] for row in ATTACKED) > 0.6 * len(ATTACKED)


def test_the_benchmark_finds_shares_of_pairs_and_removes_length() -> None:
    rows = [
        {"problem_id": "p", "question": "6 * 7?", "response": text, "correct": correct}
        for text, correct in (
            ("6 * 7 = 42.", True), ("6 * 7 = 42, and so on.", True), ("It is 40 or 41, or so.", False)
        )
    ]  # fmt: skip
    table = auc_table(rows)
    assert table["length"]["plain"] == {
        "auc": 0.25, "ci95": [0.25, 0.25], "num_problems": 1, "num_pairs": 2,
    }  # fmt: skip
    assert table["length"]["residual"]["auc"] == 0.5
    assert table["limo-v2-guarded"]["plain"]["auc"] == 1.0
