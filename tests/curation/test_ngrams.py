"""s1's leaks: 8-word n-grams, compared with the literal implementation."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest

from slowthink.curation.overlap.ngrams import NgramIndex, Postings, shared_ngrams_by_group

WORDS = [
    "let",
    "the",
    "sum",
    "of",
    "a",
    "and",
    "b",
    "be",
    "$x$",
    "for",
    "all",
    "real",
    "1",
    "2",
    "3",
    "求",
    "值",
]


def literal(texts: list[str], test_texts: list[str], width: int) -> list[bool]:
    """The literal implementation of s1's decontamination, by sets of strings."""

    def ngrams(text: str) -> set[str]:
        words = text.lower().split()
        return {" ".join(words[i : i + width]) for i in range(len(words) - width + 1)}

    test_ngrams = set().union(*(ngrams(text) for text in test_texts))
    return [bool(ngrams(text) & test_ngrams) for text in texts]


def random_texts(seed: int, num: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randrange(0, 30))) for _ in range(num)]


@pytest.mark.parametrize("width", [1, 2, 3, 8])
def test_hits_are_those_of_the_literal_implementation(width: int) -> None:
    texts, test_texts = random_texts(1, 3_000), random_texts(2, 200)
    ngrams = NgramIndex.from_texts(test_texts, width).first_shared(texts)
    assert [ngram is not None for ngram in ngrams] == literal(texts, test_texts, width)


def test_a_hit_names_the_first_ngram_and_all_texts_that_share_one() -> None:
    test_texts = ["x y", "ONE two\tthree four", "zero one two three", "two three four"]
    shared = NgramIndex.from_texts(test_texts, 3).first_shared(["a one Two three four"])[0]
    assert shared is not None
    assert (shared.text_index, shared.ngram, shared.text_indices) == (1, "one two three", (1, 2, 3))


def test_texts_below_the_width_never_match() -> None:
    assert NgramIndex.from_texts(["a b c"], 8).first_shared(["a b c", ""]) == [None, None]


def test_an_index_of_nothing_finds_nothing() -> None:
    assert NgramIndex.from_texts([]).first_shared(["a b c d e f g h i"]) == [None]


def test_an_index_works_in_another_process() -> None:
    index = NgramIndex.from_texts(random_texts(2, 50), 3)
    copy = pickle.loads(pickle.dumps(index))
    assert copy.first_shared(random_texts(3, 100)) == index.first_shared(random_texts(3, 100))


def test_an_equal_hash_of_other_words_is_no_hit() -> None:
    index = NgramIndex.from_texts(["a b c"], 2)
    other_index = NgramIndex(("d e f",), 2, index.postings)
    assert other_index.first_shared(["a b c"]) == [None]


def test_texts_kept_of_a_source_are_test_texts_for_the_next() -> None:
    first, second = ["a b c d", "x y z w"], ["q b c d", "p x y z"]
    shared = shared_ngrams_by_group([first, second], ["w x y z"], width=3)
    assert [[ngram and ngram.text_index for ngram in group] for group in shared] == [
        [None, 0],
        [1, 0],
    ]
    reversed_groups = shared_ngrams_by_group([second, first], ["w x y z"], width=3)
    assert [[ngram and ngram.text_index for ngram in group] for group in reversed_groups] == [
        [None, 0],
        [1, 0],
    ]


def test_within_a_source_nothing_is_compared() -> None:
    assert shared_ngrams_by_group([["a b c", "a b c"]], [], width=3) == [[None, None]]


def test_postings_count_a_text_once_a_key() -> None:
    postings = Postings.from_hashes(np.array([7, 5, 7, 7], np.uint64), np.array([1, 1, 0, 1]))
    assert postings.keys.tolist() == [5, 7] and postings.counts.tolist() == [1, 2]
    assert postings.texts_with_keys(np.array([1, 0]))[0].tolist() == [0, 1, 1]
