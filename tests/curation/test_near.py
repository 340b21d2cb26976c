"""Near duplicates: compared with brute force, and pairs that must never count as one."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from slowthink.curation.overlap.clusters import (
    Cluster,
    DuplicatePair,
    Member,
    bucket_pairs,
    cluster_pairs,
)
from slowthink.curation.overlap.minhash import band_hashes
from slowthink.curation.overlap.near import find_near_duplicates
from slowthink.curation.overlap.tokens import hash_tokens, ngram_hashes, strict_tokens

BASE = "Find the number of positive integers below 1000 that 7 divides and that 11 does not divide."
OTHERS = {
    "numbers": BASE.replace("1000", "2000"),
    "order of numbers": BASE.replace("7 ", "x ").replace("11", "7").replace("x ", "11 "),
    "sense": BASE.replace("positive", "negative"),
    "noun": BASE.replace("integers", "polynomials"),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_another_question_is_no_duplicate(other: str) -> None:
    assert find_near_duplicates([BASE, other], min_overlap=0.6) == []


def test_longer_wording_and_typing_errors_are_duplicates() -> None:
    texts = [BASE, BASE.replace("number of", "number of the"), BASE.replace("divides", "divids")]
    (cluster,) = find_near_duplicates(texts, min_overlap=0.6)
    assert (cluster.kept, [member.row for member in cluster.members]) == (0, [1, 2])


def test_addition_chains_of_one_template_are_all_kept() -> None:
    rng = random.Random(0)
    texts = {
        "A shop sells apples. Add these numbers one by one and give the total of the whole list: "
        + " + ".join(str(rng.randint(1, 99)) for _ in range(6))
        for _ in range(600)
    }
    assert find_near_duplicates(sorted(texts)) == []


def test_candidates_find_what_brute_force_finds() -> None:
    rng = random.Random(1)
    words = [f"{a}{b}ing" for a in "bcdfgklmprst" for b in ("al", "el", "il", "ol", "ul")]
    texts = []
    for _ in range(150):
        base = [rng.choice(words) for _ in range(40)]
        texts += [" ".join(base), " ".join(base[: rng.randint(30, 40)])]
    sets = [set(zip(t, t[1:], t[2:], strict=False)) for t in map(strict_tokens, texts)]
    expected = {
        (first, second)
        for first, second in itertools.combinations(range(len(texts)), 2)
        if len(sets[first] & sets[second]) / len(sets[first] | sets[second]) >= 0.8
    }
    clusters = find_near_duplicates(texts, same_sense=False)
    pairs = {(cluster.kept, member.row) for cluster in clusters for member in cluster.members}
    assert pairs == expected and len(expected) > 50


def test_agreeing_minima_estimate_the_overlap() -> None:
    words = [f"{a}{b}" for a in "bcdfghjklm" for b in ("ra", "re", "ri", "ro", "ru", "ry", "la")]
    sets = ngram_hashes(hash_tokens([" ".join(words), " ".join(words[:56])]), 1)
    hashes = band_hashes(sets)
    assert np.mean(hashes[0] == hashes[1]) == pytest.approx(0.8**4, abs=0.3)


def test_members_resemble_the_kept_row_itself() -> None:
    pairs = [DuplicatePair(3, 7, 0.9), DuplicatePair(0, 3, 1.0)]
    assert cluster_pairs(pairs) == [Cluster(kept=0, members=(Member(3, 1.0),))]


def test_a_large_bucket_is_paired_with_its_leaders_only() -> None:
    firsts, seconds = bucket_pairs(np.zeros(100, np.uint64), max_leaders=2)
    assert len(firsts) == 99 + 98 and set(firsts) == {0, 1}
    assert np.all(firsts < seconds)


@pytest.mark.parametrize("texts", [[], [""], ["", ""], ["x"]])
def test_short_and_empty_texts_are_fine(texts: list[str]) -> None:
    assert sum(len(c.members) for c in find_near_duplicates(texts)) == max(0, len(texts) - 1)
