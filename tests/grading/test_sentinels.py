"""Notes in place of an answer, and answers that look like them."""

from __future__ import annotations

import pytest

from slowthink.grading.sentinels import says_nothing

NOTES = (
    "notfound", "Not found", "NOT_FOUND.", "None", "N/A", "#N/A", "NaN", "null", "Unknown", "**None**",
    "see solution", "See the solution above.", "Please refer to the explanation.", "no answer",
    "[no answer found]", "answers may vary", "Answers will vary.", "Proof.", r"\text{Proof}",
    r"$\text{proof}$", r"\boxed{}", r"$\boxed{\,}$", r"\boxed{\text{N/A}}", "-", "?", "...", "—",
    "____", "", "  ", "TBD", "略", "(略)", "【答案】略", "证明略。", "见解析", "详见解析", "无答案",
    "证明题。", "暂无", "未找到", "siehe Lösung", "Voir la solution", "sin respuesta", "не найдено",
    "нет ответа", "解答なし", "정답 없음", "no ground truth", "Unable to extract", "failed to parse",
    "Could not find the answer", "Error: timeout", "I don't know", "N/A (proof)", "to be added",
    "The correct answer was not provided", "missing label", "待补充", "参考答案略", "证明过程见解析",
    "标准答案暂未公布", "缺少答案", "s. Lösung", "nicht vorhanden", "non disponible", "ver solución",
    "証明は省略", "해설 참고",
)  # fmt: skip
ANSWERS = (
    "no solution", "No solution.", "does not exist", "DNE", "none of these", "None of the above", "0",
    "无解", "不存在", "没有实数根", "undefined", "no", "No", "nothing", "cannot be determined", "impossible",
    r"\text{no real roots}", r"\emptyset", "∅", r"\{\}", r"\text{empty}", "the empty set", "<", ">", "=", "[]", "()", "{}", "Na", "n(A)",
    "√", "×", "+", "∞", "E", "N", "{", "(", "A", "NA^2", "infinitely many", "aucune solution",
    "ninguna de las anteriores", "keine Lösung", "нет решений", "解なし", "no integer solutions",
    "None (there is no such integer)", "invalid", "not possible", "no work", "没有", "不确定", "错误",
    "no solution found", "not present", "Type I error", "无法确定", "existe", "no value of x",
)  # fmt: skip


@pytest.mark.parametrize("text", NOTES)
def test_a_note_is_no_answer(text: str) -> None:
    assert says_nothing(text)


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_that_looks_like_a_note_is_an_answer(text: str) -> None:
    assert not says_nothing(text)
