"""Generated rows with planted duplicates and leaks for the filter's benchmark, and timed steps.

generate_rows(1000).planted == {"exact": 20, "near": 20, "leaks": 10}
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any

MAX_TEST_TEXTS = 10_900
NUM_WORDS = 30_000
PLANTED_SHARES = {"exact": 0.02, "near": 0.02, "leaks": 0.01}
"""Shares of the rows that are exact duplicates, near duplicates and leaks."""
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


STEP_NAMES = ("quality", "duplicates", "contamination", "domains", "difficulty")
"""Keys of the filter's steps in the figures, in the order of `STEPS`."""


@dataclass(frozen=True)
class GeneratedRows:
    """Questions to train on, test questions, and the numbers of planted duplicates and leaks."""

    questions: list[str]
    test_texts: list[str]
    planted: dict[str, int]


def generate_rows(num_rows: int, *, seed: int = 0) -> GeneratedRows:
    """Questions of 20 to 70 words: frequent and rare words (Zipf), formulas, numbers."""
    rng = random.Random(f"filter {seed} {num_rows}")
    words = _vocabulary(random.Random(seed))
    planted = {name: int(share * num_rows) for name, share in PLANTED_SHARES.items()}
    distinct = [_question(rng, words) for _ in range(num_rows - sum(planted.values()))]
    test_texts = [_question(rng, words) for _ in range(min(MAX_TEST_TEXTS, num_rows))]
    exact = [text.replace(" ", "  ") + " " for text in rng.sample(distinct, k=planted["exact"])]
    near = [_add_word(text, rng) for text in rng.sample(distinct, k=planted["near"])]
    leaks = [f"Solve this. {text}" for text in rng.choices(test_texts, k=planted["leaks"])]
    questions = [*distinct, *exact, *near, *leaks]
    rng.shuffle(questions)
    return GeneratedRows(questions, test_texts, planted)


def _vocabulary(rng: random.Random) -> list[str]:
    """A list in which the word of rank r occurs about NUM_WORDS / (10 r) times, at least once."""
    syllables = ("ta", "re", "mi", "lo", "qua", "ner", "sis", "po", "the", "an", "gle", "cir", "um")
    words = [
        "".join(rng.choices(syllables, k=1 + rank.bit_length() // 4)) for rank in range(NUM_WORDS)
    ]
    return [
        word
        for rank, word in enumerate(words, start=1)
        for _ in range(max(1, NUM_WORDS // (10 * rank)))
    ]


def _question(rng: random.Random, words: list[str]) -> str:
    body = rng.choices(words, k=rng.randrange(14, 50))
    for _ in range(3):
        formula = rng.choice(FORMULAS)
        for name in "abc":
            formula = formula.replace(f"{{{name}}}", str(rng.randrange(2, 2000)))
        body[rng.randrange(len(body))] = formula
    return f"{rng.choice(OPENINGS)} {' '.join(body)}. {rng.choice(CLOSINGS)}"


def _add_word(text: str, rng: random.Random) -> str:
    """The text with `the` inserted at a random place in its first half."""
    words = text.split()
    words.insert(rng.randrange(len(words) // 2), "the")
    return " ".join(words)


def timed_funnel(questions: list[str], test_texts: list[str]) -> dict[str, Any]:
    """Each step's seconds and drops: quality, duplicates (exact and near) and decontamination."""
    import tempfile
    from pathlib import Path

    from slowthink.records import Split
    from slowthink.stages.filter import STEPS
    from slowthink.stages.filter.funnel import start_funnel

    problems = [_problem(text, index, Split.TRAIN) for index, text in enumerate(questions)]
    heldout = [_problem(text, index, Split.HELDOUT) for index, text in enumerate(test_texts)]
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        context = _context(Path(folder), heldout)
        start_time = time.perf_counter()
        funnel = start_funnel(problems)
        for name, step in zip(STEP_NAMES, STEPS, strict=True):
            step_start_time = time.perf_counter()
            step(funnel, context)
            seconds[name] = round(time.perf_counter() - step_start_time, 2)
        total = time.perf_counter() - start_time
    dropped = {step.name: step.num_in - step.num_out for step in funnel.steps}
    return {
        "num_problems": len(problems), "num_tested": len(heldout), "num_left": len(funnel.problems),
        "seconds": round(total, 2), "steps": seconds, "dropped": dropped, "cpu_seconds": 0.0,
    }  # fmt: skip


def _context(folder: Any, heldout: list[Any]) -> Any:
    """A stage context with these held-out problems."""
    from slowthink.data.tables import write_records
    from slowthink.pipeline.run_folder import make_context
    from slowthink.recipe.loading import parse_recipe
    from slowthink.records import Problem

    path = folder / "heldout.parquet"
    write_records(path, heldout, Problem)
    settings = {"input": str(path), "quality": "s1", "duplicates": {}, "contamination": {}}
    recipe = parse_recipe({"name": "bench", "filter": settings})
    return make_context(recipe, folder, "filter", notify=lambda text: None)


def _problem(text: str, index: int, split: Any) -> Any:
    from slowthink.records import Problem, duplicate_key, problem_id

    return Problem(
        id=problem_id(text), duplicate_key=duplicate_key(text), question=text, answer="1",
        source="bench", source_row=str(index), split=split,
    )  # fmt: skip
