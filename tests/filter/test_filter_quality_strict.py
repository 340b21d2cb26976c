"""Preset strict, by examples of what each rule drops and what it leaves, English and Chinese."""

from __future__ import annotations

import pytest

from slowthink.filter.quality import QUALITY_RULES, first_objections
from slowthink.filter.quality_strict import answer_kind, language_of
from slowthink.recipe import QualityConfig
from slowthink.records import Problem, duplicate_key, problem_id


def problem(question: str, *, answer: str | None = "1") -> Problem:
    return Problem(
        id=problem_id(question), duplicate_key=duplicate_key(question), question=question,
        answer=answer, source="test", source_row="1",
    )  # fmt: skip


def rules_that_drop(candidate: Problem) -> list[str]:
    return [name for name, rule in QUALITY_RULES["strict"].items() if rule(candidate) is not None]


CASES = {
    "plain": ("What is 1 + 1?", []),
    "plain zh": ("求函数的最大值。", []),
    "image mark": ("Find x. ![](a.png)", ["image"]),
    "lower-case mark": ("See ![image](a.png).", ["image"]),
    "bbcode": ("Find x [img]a.png[/img]", ["image"]),
    "html image": ('Find x <img src="a.png">', ["image"]),
    "includegraphics": (r"Find x \includegraphics{a}", ["image"]),
    "figure below": ("In the figure below, find AB.", ["image"]),
    "as shown zh": ("如图，在三角形ABC中，求AB。", ["image"]),
    "figure below zh": ("下图中阴影的面积是多少？", ["image"]),
    "figure skater": ("How often does the figure skater turn?", []),
    "graph of a function": ("The graph of y = x meets the axis where?", []),
    "asy": ("[asy] draw(A--B); [/asy] Find AB.", ["drawing"]),
    "tikz": (r"\begin{tikzpicture}\end{tikzpicture} Find AB.", ["drawing"]),
    "ascii art": ("Find x.\n  /\\  \n /  \\ \n/____\\\n", ["drawing"]),
    "markdown table": ("Find x.\n| a | b |\n|---|---|\n| 1 | 2 |", []),
    "link": ("See https://example.org/x for x.", ["link"]),
    "parts": ("(a) Find x. (b) Find y.", ["multi_part"]),
    "parts zh": ("(1) 求a的值; (2) 求b的值。", ["multi_part"]),
    "s1's parts": ("p1. Find x.\n\np2. Find y.", ["multi_part"]),
    "bold parts": ("**p1.** Find x. **p2.** Find y.", ["multi_part"]),
    "top7": ("They are the top7. Who wins?", []),
    "bold before a digit": ("**Problem** 7 asks for x.", []),
    "conditions": ("f satisfies (i) f(0)=1, (ii) f(x)>0. Find f(1).", []),
    "statements": ("(1) x is odd. (2) x is prime. Which is true of 4?", []),
    "options": ("Which is prime? (A) 4 (B) 7", []),
    "proof with a value": ("Find x and prove that it is the only one.", []),
    "data that show": ("Experiments show that g is 9.8. What is 2g?", []),
    "mojibake": ("Letâ€™s find x.", ["encoding"]),
    "replacement": ("Find \ufffd.", ["encoding"]),
    "entity": ("If x &lt; 3, find x.", ["encoding"]),
    "form feed of \\frac": ("Find \x0crac{1}{2}.", ["encoding"]),
    "accents": ("Où est É? What did Erdős prove?", []),
}


@pytest.mark.parametrize(("question", "expected"), CASES.values(), ids=CASES.keys())
def test_question_is_dropped_by(question: str, expected: list[str]) -> None:
    assert rules_that_drop(problem(question)) == expected


@pytest.mark.parametrize(
    "question", ["Prove that x > 0.", "Let x > 0. Show that x < 2.", "求证：x>0"]
)
def test_proof_is_dropped(question: str) -> None:
    assert rules_that_drop(problem(question)) == ["proof"]


@pytest.mark.parametrize("answer", [None, "", "N/A", "略", "见解析", "Proof.", "word " * 31])
def test_unusable_answer_is_dropped(answer: str | None) -> None:
    assert rules_that_drop(problem("Find x.", answer=answer)) == ["answer"]


@pytest.mark.parametrize("answer", ["7", r"\frac{1}{2}", "B", "(1, 2)", "Tuesday", "1,234", "无解"])
def test_usable_answer_stays(answer: str) -> None:
    assert rules_that_drop(problem("Find x.", answer=answer)) == []


def test_finding_shows_the_span_with_its_context() -> None:
    found = QUALITY_RULES["strict"]["image"](problem("x " * 100 + "as shown in the figure."))
    assert found is not None
    assert found.span.startswith("…") and found.span.endswith("shown in the figure.")


LANGUAGES = {
    "Find the value of x.": "en", "求函数的最大值": "zh", "関数の値を求めよ": "ja",
    "함수의 값을 구하라": "ko", "Найдите значение функции": "ru",
    "Soit un triangle dont les trois angles sont égaux ; calculer la mesure des côtés": "other",
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), LANGUAGES.items(), ids=list(LANGUAGES.values()))
def test_language_is_told_from_the_script(text: str, expected: str) -> None:
    assert language_of(text) == expected


def test_settings_allow_languages_and_answer_types() -> None:
    config = QualityConfig(languages=("en",), answer_types=("integer",), skip=("proof",))
    rows = [problem("求函数的最大值"), problem("Find x.", answer="1/2"), problem("Prove it.")]
    found = first_objections(config, rows)
    assert [one and one.rule for one in found] == ["language", "answer_type", None]


def test_answer_kind() -> None:
    answers = {"7": "integer", "0.5": "number", "B": "choice", "x+1": "expression", "1, x": "list",
               "red apples": "words"}  # fmt: skip
    assert {a: answer_kind(problem("Find.", answer=a)) for a in answers} == answers
