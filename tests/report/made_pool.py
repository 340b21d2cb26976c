"""A small pool, English and Chinese, with planted duplicates, leaks and a wrong reference answer, run
through the real pool, filter and report stages. Attempts are stored samples, so no model runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slowthink.pipeline import run as pipeline
from slowthink.pipeline.progress import ProgressReporter
from slowthink.recipe.loading import parse_recipe

HOSTILE = "Find n if 2 n = 14. </script><img src=x onerror=\"window.hacked=1\"><b class='hostile'>7 = n</b>"
ENGLISH = (
    "A farmer plants 12 rows of 9 apple trees each, and 5 of all the trees die. How many live?",
    "The sum of three consecutive odd integers is 57. What is the largest of the three integers?",
    "Two trains leave the same station at 60 and 45 miles per hour in opposite directions. After "
    "how many hours are they 420 miles apart?",
    "How many positive divisors does the number 360 have?",
    HOSTILE,
)
CHINESE = (
    "一个数除以7余3，除以5余2，这个数最小是多少？",
    "某工厂计划用15天生产零件900个，实际每天比原计划多生产15个，实际用了多少天？",
    "求所有满足n的平方等于n加6的整数n之和，并说明这样的整数共有几个数位。",
)
EXAM = {
    "english": "Find the number of ways to put seven red balls and three blue balls in four "
    "labelled boxes so that no box is empty.",
    "chinese": "甲乙两地相距480千米，客车与货车同时从两地相向而行，客车每小时行70千米，"
    "货车每小时行50千米，几小时后两车相遇？",
}
TEMPLATE = EXAM["english"].replace("seven", "7").replace("three", "3").replace("four", "4")
EXAM["template"] = TEMPLATE.replace("7", "9").replace("3", "5").replace("4", "6")
IMAGE = "如图，三角形的三条边长分别是3、4、5，求它的面积。"
PLANTED = (
    ENGLISH[0].replace("A farmer", "A  FARMER"),
    ENGLISH[2] + " Give a number.",
    CHINESE[0].replace("7", "７").replace("，", ", "),
    "Solve this. " + EXAM["english"],
    EXAM["chinese"],
    TEMPLATE,
    IMAGE,
)
WRONG_KEY = ENGLISH[3]
ANSWERS = dict.fromkeys((*ENGLISH, *CHINESE, *PLANTED), "24") | {WRONG_KEY: "23"}


def make_pool_run(folder: Path) -> Path:
    """The run folder, with its report."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"Question": question, "Answer": key, "Picture": None} for question, key in ANSWERS.items()
    ]
    path = _write(folder / "pool.jsonl", rows)
    source = {"kind": "catalogue", "name": "theoremqa", "path": path}
    exam = _write(
        folder / "exam.jsonl", [{"question": question, "answer": "1"} for question in EXAM.values()]
    )
    samples = _write(folder / "samples.jsonl", _samples())
    made = {
        "name": "curated 数学", "pool": {"sources": [source]},
        "filter": {
            "quality": "strict", "duplicates": {}, "domains": {"methods": ["lexical"]},
            "contamination": {"benchmarks": [{"name": "exam", "path": exam}]},
            "difficulty": {
                "models": [{"samples": samples}], "num_attempts": 8, "max_problems": None,
                "max_pass_rate": 0.9,
            },
        },
        "report": {},
    }  # fmt: skip
    pipeline.run_recipe(parse_recipe(made), folder / "run", reporter=ProgressReporter(quiet=True))
    return folder / "run"


def _samples() -> Iterable[dict[str, Any]]:
    """Eight attempts per question: one correct at some, none at others, all at the last. Those at the
    question with the wrong reference answer all agree; one attempt is truncated."""
    for number, question in enumerate((*ENGLISH, *CHINESE)):
        right = {WRONG_KEY: 0, CHINESE[-1]: 8}.get(question, number % 3)
        for sample in range(8):
            wrong = "24" if question == WRONG_KEY else str(100 + sample)
            text = ANSWERS[question] if sample < right else wrong
            yield {
                "question": question, "answer": ANSWERS[question], "sample": sample, "model": "m",
                "response": f"\\boxed{{{text}}}", "truncated": number == 1 and sample == 7,
            }  # fmt: skip


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return str(path)
