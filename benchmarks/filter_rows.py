"""Rows for the filter's benchmark: made ones with planted duplicates and leaks; and timed steps.

made_rows(1000).planted == {"exact": 20, "near": 20, "leaks": 10}
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any

NUM_TESTED = 10_900
NUM_WORDS = 30_000
SHARES = {"exact": 0.02, "near": 0.02, "leaks": 0.01}
"""Of the rows."""
OPENINGS = (
    "Let", "Suppose that", "Given that", "Find all", "In triangle $ABC$,", "A box holds",
    "How many ways are there to", "Consider the sequence", "For how many positive integers $n$ is",
    "Let $f(x)$ be a polynomial with", "There are", "A circle with centre $O$ and radius",
)  # fmt: skip
CLOSINGS = (
    "Find the value of $x+y$.", "Express your answer as a common fraction.", "Prove your claim.",
    "What is the remainder when it is divided by 1000?", "Compute the sum of all such numbers.",
    "where $m$ and $n$ are relatively prime positive integers. Find $m+n$.", "How many are there?",
)  # fmt: skip
FORMULAS = ("$x^{a} + {b}x = {c}$", r"$\frac{{a}}{{b}}$", r"$\sqrt{{a}}$", "${a}$", "{b}")


@dataclass(frozen=True)
class Made:
    """Questions to train on, questions that are tested on, and how many were planted."""

    questions: list[str]
    tested: list[str]
    planted: dict[str, int]


def made_rows(size: int, *, seed: int = 0) -> Made:
    """So many questions of 20 to 70 words: frequent and rare words (Zipf), formulas, numbers."""
    draw = random.Random(f"filter {seed} {size}")
    words = _vocabulary(random.Random(seed))
    planted = {name: int(share * size) for name, share in SHARES.items()}
    fresh = [_question(draw, words) for _ in range(size - sum(planted.values()))]
    tested = [_question(draw, words) for _ in range(min(NUM_TESTED, size))]
    again = [text.replace(" ", "  ") + " " for text in draw.sample(fresh, k=planted["exact"])]
    near = [_reworded(text, draw) for text in draw.sample(fresh, k=planted["near"])]
    leaks = [f"Solve this. {text}" for text in draw.choices(tested, k=planted["leaks"])]
    questions = [*fresh, *again, *near, *leaks]
    draw.shuffle(questions)
    return Made(questions, tested, planted)


def _vocabulary(draw: random.Random) -> list[str]:
    """A list in which a word of rank r stands about NUM_WORDS / r times."""
    syllables = ("ta", "re", "mi", "lo", "qua", "ner", "sis", "po", "the", "an", "gle", "cir", "um")
    words = [
        "".join(draw.choices(syllables, k=1 + rank.bit_length() // 4)) for rank in range(NUM_WORDS)
    ]
    return [
        word
        for rank, word in enumerate(words, start=1)
        for _ in range(max(1, NUM_WORDS // (10 * rank)))
    ]


def _question(draw: random.Random, words: list[str]) -> str:
    body = draw.choices(words, k=draw.randrange(14, 50))
    for _ in range(3):
        formula = draw.choice(FORMULAS)
        for name in "abc":
            formula = formula.replace(f"{{{name}}}", str(draw.randrange(2, 2000)))
        body[draw.randrange(len(body))] = formula
    return f"{draw.choice(OPENINGS)} {' '.join(body)}. {draw.choice(CLOSINGS)}"


def _reworded(text: str, draw: random.Random) -> str:
    """The same with one small word more."""
    words = text.split()
    words.insert(draw.randrange(len(words) // 2), "the")
    return " ".join(words)


def timed_funnel(questions: list[str], tested: list[str]) -> dict[str, Any]:
    """Each step's seconds and drops: quality, duplicates (exact and near) and decontamination."""
    import tempfile
    from pathlib import Path

    from slowthink.records import Split
    from slowthink.stages.filter import STEPS
    from slowthink.stages.filter.funnel import start_funnel

    problems = [_problem(text, number, Split.TRAIN) for number, text in enumerate(questions)]
    heldout = [_problem(text, number, Split.HELDOUT) for number, text in enumerate(tested)]
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        context = _context(Path(folder), heldout)
        began = time.perf_counter()
        funnel = start_funnel(problems)
        for step in STEPS:
            started = time.perf_counter()
            step(funnel, context)
            seconds[step.__name__] = round(time.perf_counter() - started, 2)
        total = time.perf_counter() - began
    dropped = {step.name: step.num_in - step.num_out for step in funnel.steps}
    return {
        "num_problems": len(questions), "num_tested": len(tested), "num_left": len(funnel.problems),
        "seconds": round(total, 2), "steps": seconds, "dropped": dropped, "cpu_seconds": 0.0,
    }  # fmt: skip


def _context(folder: Any, heldout: list[Any]) -> Any:
    """A stage context whose held-out problems are the tested ones."""
    from slowthink.data.tables import write_records
    from slowthink.pipeline.run_folder import make_context
    from slowthink.recipe.loading import parse_recipe
    from slowthink.records import Problem

    path = folder / "tested.parquet"
    write_records(path, heldout, Problem)
    settings = {"input": str(path), "quality": "s1", "duplicates": {}, "contamination": {}}
    recipe = parse_recipe({"name": "bench", "filter": settings})
    return make_context(recipe, folder, "filter", notify=lambda text: None)


def _problem(text: str, number: int, split: Any) -> Any:
    from slowthink.records import Problem, duplicate_key, problem_id

    return Problem(
        id=problem_id(text), duplicate_key=duplicate_key(text), question=text, answer="1",
        source="bench", source_row=str(number), split=split,
    )  # fmt: skip
