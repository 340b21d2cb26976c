"""Which answer is extracted from a text, and where there is none."""

from __future__ import annotations

import time

import pytest

from slowthink.grading.answers.choice import parse_choice
from slowthink.grading.extract import extract, extract_from_prose
from slowthink.grading.keys import read_key

ANSWERS = {
    "box": (r"So $x=\boxed{12}$.", "12"),
    "box-nested-braces": (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
    "box-escaped-braces": (r"\boxed{\{1,2\}}", r"\{1,2\}"),
    "box-last": (r"First \boxed{3}. No: \boxed{4}.", "4"),
    "box-then-word": (r"\boxed{3} and boxed text", "3"),
    "box-fbox": (r"\fbox{7}", "7"),
    "box-framebox": (r"\framebox{294}", "294"),
    "box-framebox-width": (r"\framebox[2cm][c]{294} and \frameboxed text", "294"),
    "box-in-box": (r"\boxed{\boxed{5}}", "5"),
    "box-space": (r"\boxed {5}", "5"),
    "box-bare": (r"$\boxed 5$", "5"),
    "box-unclosed-formula": (r"we get $\boxed{\frac{3}{4}$ in all", r"\frac{3}{4}"),
    "box-unclosed-end": (r"\boxed{8} later \boxed{9", "8"),
    "box-empty": (r"\boxed{6} \boxed{}", "6"),
    "box-list": (r"$\boxed{2}$, $\boxed{3}$ and $\boxed{5}$", "2, 3, 5"),
    "box-twice": (r"\boxed{2}, \boxed{2}", "2"),
    "box-corrected": ("\\boxed{2}\n\nWait.\n\n\\boxed{3}", "3"),
    "box-before-marker": (r"\boxed{2} Answer: 3", "2"),
    "marker": ("Answer: 12", "12"),
    "marker-final": ("**Final Answer:** 12.", "12"),
    "marker-cue": ("Final Answer: $\\frac{1}{2}$", "\\frac{1}{2}"),
    "marker-next-line": ("Final Answer\nFinal Answer:\n\n12\n\nmore", "12"),
    "marker-bold-outside": ("**Answer: 12**", "12"),
    "marker-display": ("Answer:\n\\[\n12\n\\]", "12"),
    "marker-is": ("The answer is 12.", "12"),
    "marker-sentence": ("Final Answer: The final answer is $12$. I hope it is correct.", "12"),
    "marker-last": ("Answer: 3\nAnswer: 4", "4"),
    "marker-chinese": ("所以\n答案：12", "12"),
    "marker-chinese-final": ("最终答案是12。", "12"),
    "marker-hashes": ("work\n#### 12", "12"),
    "marker-words-after": ("Answer: It takes her 12 hours to get there", "12"),
    "thinking-left-out": ("<think>\\boxed{1}</think> Answer: 2", "2"),
    "thinking-s1": ("<|im_start|>think\n\\boxed{1}\n<|im_start|>answer\nAnswer: 2", "2"),
    "special-tokens": ("Answer: 2<|im_end|>", "2"),
}
MISSING = {
    "nothing": "I do not know.",
    "number-only": "there are 12 of them",
    "open-thinking": r"<think>maybe \boxed{3}",
    "cut-in-box": r"so it is \boxed{12",
    "empty": "",
    "empty-marker": "Answer:",
}
NUMBERS = {
    "last": ("3 apples and 4 pears", "4"),
    "thousands": ("12,345 people or so", "12,345"),
    "money": ("is it $7.50?", "7.50"),
    "percent": ("which is 25%", "25%"),
    "negative": ("goes down to -4", "-4"),
    "fraction": ("a chance of 3/8", "3/8"),
    "chinese": ("有没有99颗弹珠？", "99"),
}


@pytest.mark.parametrize(("text", "answer"), ANSWERS.values(), ids=ANSWERS.keys())
def test_the_answer_is_extracted(text: str, answer: str) -> None:
    assert extract(text) == answer


@pytest.mark.parametrize("text", MISSING.values(), ids=MISSING.keys())
def test_a_text_without_an_answer_gives_none(text: str) -> None:
    assert extract(text) is None


@pytest.mark.parametrize(("text", "answer"), NUMBERS.values(), ids=NUMBERS.keys())
def test_the_last_number_counts_only_on_request(text: str, answer: str) -> None:
    assert extract(text, last_number=True) == answer
    assert extract(text) is None


CHOICES = {
    "letter": ("The answer is (C).", "C"),
    "marker": ("Answer: B", "B"),
    "marker-text": ("Answer: B) a cat", "B"),
    "last-line": ("Weighing all this:\n\n**D**", "D"),
    "reason-after": ("The answer is D, it cannot be A or B", "D"),
    "article": ("Answer: A cat is not listed, so B", "B"),
    "undecided": ("I am unsure: A, B, C", None),
    "either": ("It is A or B", None),
    "beyond-options": ("Answer: E", "E"),
    "no-letter": ("It is a cat", None),
}


@pytest.mark.parametrize(("text", "letter"), CHOICES.values(), ids=CHOICES.keys())
def test_a_choice_is_the_letter_that_is_chosen(text: str, letter: str | None) -> None:
    assert extract(text, choices=("a dog", "a cat", "a cow", "a hen")) == letter


PIECES = {
    "answer-already": (r"x^2+1", r"x^2+1"),
    "number-with-unit": ("5 cm", "5 cm"),
    "formula-in-sentence": ("Therefore $x > 5$ is the solution.", "x > 5"),
    "label": ("Answer $9$", "9"),
    "is": ("The largest $n$ is 34", "34"),
    "price-is-no-formula": ("it costs $5 or a bit more, so 6$", "6"),
}


@pytest.mark.parametrize(("text", "answer"), PIECES.values(), ids=PIECES.keys())
def test_an_answer_is_extracted_from_prose(text: str, answer: str) -> None:
    assert extract_from_prose(text) == answer


def test_a_marked_sentence_is_kept_whole_on_request() -> None:
    text = "Answer: the series converges for every x in the interval"
    assert extract(text, whole_line=True) == text.removeprefix("Answer: ")


def test_only_the_end_of_a_long_text_is_read() -> None:
    assert extract(r"\boxed{1}" + "x" * 300_000) is None


def long_texts(thousands: int) -> dict[str, str]:
    """Texts that a careless search takes quadratic time for, of some thousands of characters."""
    n = 1000 * thousands
    return {
        "letters": "a" * n,
        "spaces": "a" + " " * n + "b",
        "lines": "\n" * (n // 3),
        "words": "word " * (n // 5) + "5",
        "is": " is" * (n // 3),
        "is-the": "a is " + " " * (n // 3) + "the",
        "tags": "<answer>" * (n // 20),
        "formulas-opened": r"\(" * (n // 10),
        "markers": "answer   " * (n // 25),
        "thousands": "1" + ",111" * (n // 16) + ",11",
        "letter-and-spaces": "A" + " " * (n // 2) + "x",
        "letters-listed": "A, " * (n // 3) + "x",
        "letters-rejected": "not A, " * (n // 7),
        "numbers": "1 " * (n // 2),
        "numbers-listed": "x = 1, " * (n // 7) + ".",
        "equals": "1+1=" * (n // 4) + "2",
        "bold": "**1** " * (n // 6),
        "boxes": r"\boxed{1} and the x is " * (n // 25),
        "boxes-empty": r"\boxed{...} " * (n // 12),
        "boxes-open": "boxed{" * (n // 6),
        "questions": "Answer: 1\nQuestion:" * (n // 20),
        "retractions": "Answer: 1. No, wrong. " * (n // 25),
        "retractions-begun": "Answer: 1. " + "wait " * (n // 5),
        "thoughts": "<think>" * (n // 7),
        "sentences": "So 1. " * (n // 6),
        "table": "| 1 " * (n // 4) + "|",
        "clauses": "，" * n,
        "options": "(A) " * (n // 4),
        "hashes": "#### " * (n // 5),
        "choice-lines": "*\t" * (n // 2) + "选",
    }


SIZES = (pytest.param(20, 0.5, id="20"), pytest.param(400, 2.0, id="400", marks=pytest.mark.slow))
"""Thousands of characters, and seconds."""


@pytest.mark.parametrize(("thousands", "seconds"), SIZES)
@pytest.mark.parametrize("name", long_texts(1))
def test_a_long_text_is_searched_in_time(name: str, thousands: int, seconds: float) -> None:
    text = long_texts(thousands)[name]

    def search() -> float:
        started = time.process_time()
        for whole in (text, "The answer is " + text):
            extract_from_prose(whole)
            extract(whole, last_number=True, choices=("one", "two", "three"))
            parse_choice(whole)
            read_key(whole)
        return time.process_time() - started

    # Other processes on the same cores slow a run down, so a slow one gets a second try.
    assert search() < seconds or search() < seconds
