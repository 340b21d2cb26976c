"""`slowthink check`: prove a recipe's keys before anything is spent on them."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from slowthink import runs
from slowthink.grading import GradeItem, Grader, check_dependencies
from slowthink.pipeline import stage_module
from slowthink.recipe import Recipe
from slowthink.records import Problem, Verdict


def check_recipe(recipe: Recipe) -> dict[str, Any]:
    """Load the recipe's sources and have the grader judge every key against itself.

    Raises what loading raises, and GraderError where the parser is broken.
    """
    check_dependencies()
    problems = _problems(recipe)
    keyed = [problem for problem in problems if problem.answer]
    with Grader(num_workers=2) as grader:
        items = [GradeItem(problem=p, answer_text=f"Final Answer: {p.answer}") for p in keyed]
        grades = grader.grade_many(items)
    accepted: dict[str, int] = defaultdict(int)
    total: dict[str, int] = defaultdict(int)
    refused = []
    for problem, grade in zip(keyed, grades, strict=True):
        total[problem.source] += 1
        accepted[problem.source] += grade.verdict is Verdict.CORRECT
        if grade.verdict is not Verdict.CORRECT:
            refused.append({"id": problem.id, "gold": problem.answer, "method": grade.method})
    return {
        "ok": not refused,
        "num_problems": len(problems),
        "num_without_key": len(problems) - len(keyed),
        "keys": [
            {"source": s, "keys": n, "accepted": accepted[s]} for s, n in sorted(total.items())
        ],
        "refused": refused,
    }


def _problems(recipe: Recipe) -> list[Problem]:
    """What the recipe's pool gathers, made in a folder that is thrown away."""
    if recipe.pool is None:
        return []
    with tempfile.TemporaryDirectory() as folder:
        context = runs.make_context(recipe, Path(folder), "pool", say=lambda _: None)
        return list(stage_module("pool").run(context).records)
