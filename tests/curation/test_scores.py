"""Scores of chains without a model: what each counts, in English and Chinese."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from slowthink.curation.scores.lexicons import KINDS, load_lexicon, read_lexicons
from slowthink.errors import ConfigError
from slowthink.recipe import (
    ChecksScore,
    GuardedLimoScore,
    LengthScore,
    LimoV2Score,
    LimoWeights,
    RedundancyScore,
)
from tests.curation.scored import chain, score, value_names

MODEL_FREE = (LimoV2Score(), GuardedLimoScore(), RedundancyScore(), ChecksScore())


@pytest.mark.parametrize("config", [LengthScore(), *MODEL_FREE], ids=lambda config: config.kind)
def test_a_score_has_the_parts_that_its_settings_name(config) -> None:
    (values,) = score(config, chain("6 * 7 = 42. Let me check: 60 - 18 = 42."))
    assert set(values) == value_names(config)


# --- words ----------------------------------------------------------------------------------------

COUNTED = {
    "whole words": ("verification", "Check the checkout. I rechecked it and double-check.", 2),
    "phrases": ("granularity", "Since then it follows that, since it is so", 2),
    "capitals": ("exploration", "Perhaps, PERHAPS, perhaps!", 3),
    "可能 without 不可能": ("exploration", "这是可能的，那是不可能的，可能性很小。", 1),
    "检验 without 假设检验": ("verification", "检验一下假设检验的结论。", 1),
    "所以 without 之所以": ("granularity", "之所以成立，因为前面证过，所以得证。", 2),
    "both languages": ("verification", "Let me verify. 我们来验算一下。", 2),
    "LaTeX": ("granularity", r"$a$\therefore{}$b$, thus\ldots", 2),
}


@pytest.mark.parametrize(("kind", "text", "num"), COUNTED.values(), ids=COUNTED)
def test_words_are_counted(kind: str, text: str, num: int) -> None:
    assert load_lexicon("standard").count(text)[kind] == num


def test_as_substrings_words_count_inside_others() -> None:
    lexicon = load_lexicon("published", whole_words=False)
    assert lexicon.count("rechecked, Check")["verification"] == 2
    counts = load_lexicon("published", ignore_case=False).count("Check, check")
    assert counts["verification"] == 1


def test_a_file_can_be_the_lexicon(tmp_path: Path) -> None:
    path = tmp_path / "words.yaml"
    path.write_text("{verification: [prüfe], exploration: [vielleicht], granularity: [also]}")
    assert load_lexicon(str(path)).count("Ich prüfe das. Also gut.") == {
        "verification": 1, "exploration": 0, "granularity": 1,
    }  # fmt: skip
    path.write_text("{verification: [prüfe]}")
    with pytest.raises(ConfigError, match=r"words.yaml': no words; expected `standard`"):
        load_lexicon(str(path), ignore_case=False)
    with pytest.raises(ConfigError, match="No such file"):
        load_lexicon(str(tmp_path / "absent.yaml"))


# --- limo-v2 --------------------------------------------------------------------------------------


def test_limo_v2_is_the_weighted_sum_of_length_and_rates() -> None:
    config = LimoV2Score(scale="cap", length_cap=100, rate_cap=0.1, length_unit="words")
    text = "check it because perhaps maybe " + "x " * 45  # 50 words: 1, 2 and 1 of the kinds
    (values,) = score(config, chain(text))
    assert values == {
        "limo-v2": pytest.approx(0.30 * 0.5 + 0.20 * 0.2 + 0.25 * 0.4 + 0.25 * 0.2),
        "limo-v2.length": 0.5, "limo-v2.verification": 0.2, "limo-v2.exploration": 0.4,
        "limo-v2.granularity": 0.2,
    }  # fmt: skip


def test_ranks_compare_all_chains_or_those_of_a_problem() -> None:
    chains = [
        chain("a " * size, question=question, num_tokens=size)
        for question, size in (("p", 10), ("p", 30), ("q", 20), ("q", 99))
    ]
    weights = LimoWeights(length=1, verification=0, exploration=0, granularity=0)
    pool = score(LimoV2Score(weights=weights), *chains)
    problem = score(LimoV2Score(weights=weights, scope="problem"), *chains)
    scaled = score(LimoV2Score(weights=weights, scale="min-max"), *chains)
    assert [v["limo-v2"] for v in pool] == [0.125, 0.625, 0.375, 0.875]
    assert [v["limo-v2"] for v in problem] == [0.25, 0.75, 0.25, 0.75]
    assert [v["limo-v2"] for v in scaled] == pytest.approx([0, 20 / 89, 10 / 89, 1], abs=1e-6)


def test_padding_and_sprinkled_words_win_under_limo_v2() -> None:
    """The failures of the published score, which `limo-v2-guarded` does not have."""
    honest = chain("6 * 7 = 42, so the answer is 42.")
    padded = chain("6 * 7 = 42, so the answer is 42. " + "That is a nice number. " * 20)
    sprinkled = chain("Perhaps check: 6 * 7 = 42, since therefore the answer is 42, maybe.")
    limo = [v["limo-v2"] for v in score(LimoV2Score(), honest, padded, sprinkled)]
    guarded = [v["limo-v2-guarded"] for v in score(GuardedLimoScore(), honest, padded, sprinkled)]
    assert limo[0] < limo[1] and limo[0] < limo[2]
    assert guarded[0] > guarded[1] and guarded[0] > guarded[2]


# --- steps and checks -----------------------------------------------------------------------------

REDUNDANCY = {
    "nothing repeated": ("6 * 7 = 42. 42 - 2 = 40.", 0.0),
    "a repeated line": ("6 * 7 = 42.\n6 * 7 = 42.", 0.5),
    "other words": ("6 times 7 gives 42.\nIn other words, multiplying 6 by 7 yields 42.", 0.5),
    "Chinese": ("6 × 7 = 42。\n也就是说，6 乘以 7 得到 42。\n42 - 2 = 40。", 1 / 3),
    "no step": ("", None),
}


@pytest.mark.parametrize(("text", "share"), REDUNDANCY.values(), ids=REDUNDANCY)
def test_steps_that_add_nothing_are_redundant(text: str, share: float | None) -> None:
    (values,) = score(RedundancyScore(), chain(text))
    assert values.get("step-redundancy") == (
        None if share is None else pytest.approx(share, abs=1e-6)
    )


FIRST = "6 * 7 = 42, and 42 + 18 = 60. "
CHECKS = {
    "the word alone": (FIRST + "Wait, let me check. Yes, that is right.", 0),
    "the next step": (FIRST + "42 - 40 = 2.", 0),
    "no word": (FIRST + "60 - 18 = 42.", 1),
    "found again": (FIRST + "Let me check: 60 - 18 = 42.", 1),
    "found again later": (FIRST + "Let me check. Go backwards. 60 - 18 = 42.", 1),
    "the same expression": (FIRST + "Let me check: 6 * 7 = 42. Check again: 6 * 7 = 42.", 0),
    "one value counts once": (FIRST + "Check: 60 - 18 = 42. Check: 7 * 6 = 42.", 1),
    "changed": ("h = 9, so 2h = 18. Wait, that is wrong. h = 6 and 2h = 12.", 2),
    "an operand from nowhere": ("6 * 7 = 42. 42 + 18 = 60. Then 60 - 18 = 42 and 10 * 6 = 60.", 1),
    "a variable used again": ("If n = 5, then 2n = 10. If n = 6, let me check 2n = 12.", 0),
    "a number corrected": ("6 * 7 = 43. So 43 pens. Wait, 6 * 7 = 42.", 1),
    "changed and taken back": ("6 * 7 = 42. Wait, 6 * 7 = 43? No, 6 * 7 = 42.", 0),
    "Chinese": ("6 × 7 = 42，42 + 18 = 60。验算一下：60 - 18 = 42。", 1),
    "Chinese word alone": ("6 × 7 = 42。检查一下，没有问题。", 0),
}


@pytest.mark.parametrize(("text", "num"), CHECKS.values(), ids=CHECKS)
def test_checks_count_by_what_follows(text: str, num: int) -> None:
    (values,) = score(ChecksScore(), chain(text, question="What is 6 * 7 + 18?"))
    assert values["effective-checks"] == num


# --- all ------------------------------------------------------------------------------------------

TEXTS = (
    "6 * 7 = 42. Let me check: 42 / 7 = 6.", "Perhaps 42, since 6 * 7 = 42.", "可能是 6 × 7 = 42。",
    "no values here at all", "42", "   ", "…", "x" * 50, "\\[ \\frac{84}{2} = 42 \\]\nSo 42.",
)  # fmt: skip


@pytest.mark.parametrize("config", MODEL_FREE, ids=lambda config: config.kind)
def test_scores_do_not_depend_on_the_order_of_chains(config: object) -> None:
    chains = [chain(text) for text in TEXTS]
    values = score(config, *chains)
    order = list(range(len(chains)))
    random.Random(0).shuffle(order)
    assert score(config, *[chains[i] for i in order]) == [values[i] for i in order]
    assert score(config) == []
    assert score(config, *chains[5:6]) == [{}]


HOSTILE = {
    "letters": "a" * 1_000_000, "spaces": ". " + " " * 1_000_000, "lines": "\n" * 1_000_000,
    "digits": "1" * 1_000_000, "thousands": "1," * 500_000, "points": "1." * 500_000,
    "equals": "a=" * 500_000, "characters": "可" * 1_000_000, "checks": "check " * 170_000,
    "stars": "*" * 1_000_000, "since": "since the" * 110_000, "one step": "2 + 3 " * 170_000,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_megabyte_of_anything_takes_seconds(text: str) -> None:
    for config in MODEL_FREE:
        start = time.process_time()
        score(config, chain(text))
        assert time.process_time() - start < 6


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_time_grows_with_the_length_of_the_text_not_its_square(text: str) -> None:
    for config in MODEL_FREE:
        start = time.process_time()
        score(config, chain(text[:20_000]))
        assert time.process_time() - start < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_words_in_both_languages(kind: str) -> None:
    words = read_lexicons()["standard"][kind]
    assert {word.isascii() for word in words} == {True, False}
    assert all(load_lexicon("standard").count(f"({word})")[kind] == 1 for word in words)
