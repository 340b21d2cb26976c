"""The column names that people and tools give to questions, answers, solutions: one table.

Pools, `grade`, `check`, stored samples and the commands on files look here where a file has no
column of the default name. What is guessed is reported, never silent:

    guess_column(["题目", "答案"], "question") == "题目"
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "question": (
        "question", "problem", "题目", "问题", "题干", "试题", "题目内容", "question_text",
        "problem_statement", "problem_text", "prompt", "instruction", "input", "query",
    ),
    "answer": (
        "answer", "gold", "final_answer", "expected_answer", "reference_answer", "correct_answer",
        "gold_answer", "target", "gt", "ground_truth", "答案", "正确答案", "标准答案", "参考答案",
    ),
    "solution": (
        "solution", "rationale", "worked_solution", "reference_solution", "explanation",
        "解析", "解答", "解题过程", "解答过程", "题解", "过程",
    ),
    "choices": ("choices", "options", "选项"),
    "pred": ("pred", "prediction", "predicted_answer", "predicted", "model_answer", "预测"),
    "response": (
        "response", "generation", "completion", "output", "generated_text", "model_output",
        "回答", "模型回答", "回复",
    ),
    "responses": ("responses", "generations", "completions", "outputs", "generated_responses"),
    "sample": ("sample", "sample_id", "sample_index"),
    "score": ("score", "rm_score", "reward"),
    "correct": ("correct", "is_correct", "symbolic_correct", "judge_correct", "equal"),
    "model": ("model", "model_name"),
    "id": ("problem_id", "id", "doc_id", "idx", "unique_id", "编号", "题号"),
}  # fmt: skip
"""By what a column holds, the likeliest name first. A role's default name is the first, but for
`id`; case, spaces and hyphens do not matter."""


def guess_column(columns: Iterable[str], role: str) -> str | None:
    """The column that has one of the role's usual names, the likeliest; None if none has."""
    by_name = {_normalise(column): column for column in reversed([*columns])}
    return next((by_name[name] for name in USUAL_NAMES[role] if name in by_name), None)


def choose_column(given: str | None, columns: Collection[str], role: str) -> str | None:
    """The given column; where that is only the role's default name and no column has it, the
    guessed one, if there is any."""
    if given != USUAL_NAMES[role][0] or given in columns:
        return given
    return guess_column(columns, role) or given


def spellings(role: str) -> tuple[str, ...]:
    """The role's usual names, each also capitalised."""
    names = [spelled for name in USUAL_NAMES[role] for spelled in (name, name.capitalize())]
    return tuple(dict.fromkeys(names))


def guesses_text(guessed: Mapping[str, str]) -> str:
    """What is reported of guessed columns, by role: `question is read from column `题目``."""
    return ", ".join(f"{role} is read from column `{name}`" for role, name in guessed.items())


def _normalise(name: str) -> str:
    return str(name).strip().lower().replace(" ", "_").replace("-", "_")
