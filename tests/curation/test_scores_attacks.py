"""Chains of our own and attacked twins of them, written before the guard that they test.

One row: {"id": "en-pens/lorem", "kind": "lorem", "of": "en-pens", "half": "seen", "language": "en",
"question": …, "thinking": …}. The kind's hash decides the half, so that no kind of the unseen half
was known while the guard was written; `honest` chains and `terse` solutions belong to both.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

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
