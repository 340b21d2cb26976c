"""Normal forms of single texts and of batches."""

from __future__ import annotations

import numpy as np
import pytest

from slowthink.curation.overlap.tokens import (
    hash_tokens,
    mask_numbers,
    ngram_hashes,
    s1_words,
    strict_tokens,
    text_hashes,
)

TEXTS = [
    "What is 17 + 25?",
    "",
    "求 $\\dfrac{1}{2}x$ 的值。",
    "Let $x \\leq 1{,}000$; a right-angled triangle.",
    "A\x00B and Ａ－１",
    "   \n\t ",
    "An environment that never ends: \\begin{",
    "of the text before } no part",
    "1,",
    "000 and \u0301",
]
SAME = {
    "fractions": ("\\frac{a}{b}", "$\\dfrac{a}{b}$", "a/b"),
    "full width": ("x＝１２", "x=12"),
    "thousands": ("1,000,000", "1{,}000{,}000", "1\\,000\\,000", "1000000"),
    "signs": ("x ≤ π", "$x \\leqslant \\pi$", "x \\le \\pi"),
    "spacing": ("\\left( a,\\quad b \\right)", "(a, b)", "\\(\\text{a}, \\mathrm{b}\\)"),
    "case and dashes": ("A right-angled Triangle — here", "a right angled triangle, HERE."),
    "Chinese punctuation": ("求ｘ的值。", "求 x 的值"),
    "environments": ("\\begin{align*} a &= b \\end{align*}", "a = b"),
}
OTHER = {
    "sign": ("x - 1", "x + 1"),
    "number": ("x + 1", "x + 2"),
    "word": ("sinx", "sin x"),
    "decimal": ("3.5", "35"),
}


@pytest.mark.parametrize("forms", SAME.values(), ids=SAME)
def test_one_question_typeset_differently_has_one_strict_form(forms: tuple[str, ...]) -> None:
    assert len({tuple(strict_tokens(form)) for form in forms}) == 1


@pytest.mark.parametrize("forms", OTHER.values(), ids=OTHER)
def test_different_questions_have_different_strict_forms(forms: tuple[str, str]) -> None:
    assert strict_tokens(forms[0]) != strict_tokens(forms[1])


def test_s1_form_is_lower_case_words() -> None:
    assert s1_words("  Let $X$\tbe\n 1,000. ") == ["let", "$x$", "be", "1,000."]


def test_a_batch_gives_the_tokens_of_each_text() -> None:
    together = hash_tokens(TEXTS)
    expected = [len(strict_tokens(text.replace("\x00", " "))) for text in TEXTS]
    assert together.lengths.tolist() == expected
    for index, text in enumerate(TEXTS):
        assert np.array_equal(together.row(index), hash_tokens([text]).values)
        assert text_hashes(together)[index] == text_hashes(hash_tokens([text]))[0]


def test_ngrams_do_not_cross_texts() -> None:
    ngrams = ngram_hashes(hash_tokens(["a b c d", "b c d", "a b"]), 3)
    assert ngrams.lengths.tolist() == [2, 1, 0]
    assert ngrams.values[1] == ngrams.values[2] != ngrams.values[0]


def test_masking_makes_templates_equal_but_not_other_words() -> None:
    forms = text_hashes(
        mask_numbers(hash_tokens(["What is 3 + 4?", "What is 70 + 1?", "What was 3 + 4?"]))
    )
    assert forms[0] == forms[1] != forms[2]


def test_no_texts_give_no_tokens() -> None:
    assert len(hash_tokens([])) == 0 and len(ngram_hashes(hash_tokens([]), 5)) == 0


def test_hashes_are_the_same_in_every_process() -> None:
    assert hash_tokens(["triangle"]).values.tolist() == [11539169533928444906]
    assert int(text_hashes(hash_tokens(["a 1"]))[0]) == 6235375517280716488
