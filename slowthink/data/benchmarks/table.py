"""What is known of each benchmark: where it lies on the hub, its columns, its licence.

A new set is one entry here. What could not be verified is None: revisions are recorded when a set
is loaded, and sets without a hub id are loaded from a file.

    BENCHMARKS["math500"].hub_id == "HuggingFaceH4/MATH-500"
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BOXED_LETTER = "Put the letter of the right option in \\boxed{}."
BOXED_ZH = "请把最终答案放在 \\boxed{} 中；选择题只填选项字母。"


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One set."""

    title: str
    num_problems: int
    """As published; a file or a revision may hold fewer."""
    origin: str
    """Where the facts below, or a file of the set, are found."""
    hub_id: str | None = None
    hub_config: str | None = None
    split: str = "test"
    """On the hub."""
    revision: str | None = None
    """On the hub; None: not known, the one that is loaded is recorded."""
    question: str = "question"
    """Columns on the hub, these and the next."""
    answer: str | None = "answer"
    answer_mark: str | None = None
    """Where the answer stands behind a worked solution: what comes before it."""
    solution: str | None = None
    context: str | None = None
    """A text that belongs before the question."""
    correct_option: str | None = None
    """Where options stand in columns of their own: they are shuffled, the answer is a letter."""
    incorrect_options: tuple[str, ...] = ()
    instruction: str | None = None
    """A line after the question."""
    grader: Literal["math", "choice"] = "math"
    """What its answers are: values (and perhaps option letters among them), or letters alone."""
    language: str = "en"
    licence: str | None = None
    """As stated where it lies. None: none is stated."""
    domain: Literal["in", "out"] | None = None
    """In or out of the training data's domain, as LIMO sorts its sets (arXiv 2502.03387, 5.1)."""
    ten: bool = False
    """One of the ten sets of LIMO's main table."""


_LIMO = "github.com/GAIR-NLP/LIMO, eval/data/{}/test.jsonl at 2284c6a"

BENCHMARKS: dict[str, Benchmark] = {
    "aime24": Benchmark(
        title="AIME 2024",
        num_problems=30,
        origin="the hub's dataset card; lighteval's aime24 task",
        hub_id="HuggingFaceH4/aime_2024",
        split="train",
        question="problem",
        solution="solution",
        domain="in",
        ten=True,
    ),
    "aime25": Benchmark(
        title="AIME 2025",
        num_problems=30,
        origin="the hub's page of MathArena and the cards of its sister sets",
        hub_id="MathArena/aime_2025",
        split="train",
        question="problem",
        licence="CC-BY-NC-SA-4.0",
    ),
    "math500": Benchmark(
        title="MATH-500",
        num_problems=500,
        origin="eval.yaml of the hub's dataset",
        hub_id="HuggingFaceH4/MATH-500",
        question="problem",
        solution="solution",
        domain="in",
        ten=True,
    ),
    "gpqa-diamond": Benchmark(
        title="GPQA Diamond",
        num_problems=198,
        origin="the hub's dataset page; lighteval's gpqa task (columns). Gated: accept its terms",
        hub_id="Idavidrein/gpqa",
        hub_config="gpqa_diamond",
        split="train",
        question="Question",
        answer=None,
        solution="Explanation",
        correct_option="Correct Answer",
        incorrect_options=("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"),
        instruction=BOXED_LETTER,
        grader="choice",
        licence="CC-BY-4.0",
        domain="out",
        ten=True,
    ),
    "amc23": Benchmark(
        title="AMC 2023",
        num_problems=40,
        origin="the hub's file list; projects that load it (columns)",
        hub_id="math-ai/amc23",
        domain="in",
        ten=True,
    ),
    "olympiadbench": Benchmark(
        title="OlympiadBench, text-only English mathematics",
        num_problems=675,
        origin="the hub's viewer (674 rows; LIMO's copy has 675), projects that load it (columns)",
        hub_id="Hothan/OlympiadBench",
        hub_config="OE_TO_maths_en_COMP",
        split="train",
        answer="final_answer",
        solution="solution",
        context="context",
        licence="Apache-2.0",
        domain="out",
        ten=True,
    ),
    "minerva": Benchmark(
        title="Minerva (OCW courses)",
        num_problems=272,
        origin="the hub's dataset card",
        hub_id="math-ai/minervamath",
        domain="out",
        ten=True,
    ),
    "chmath": Benchmark(
        title="CHMath (Chinese league 2024, in English)",
        num_problems=30,
        origin=_LIMO.format("cn_math_2024"),
        domain="out",
        ten=True,
    ),
    "gaokao": Benchmark(
        title="Gaokao 2024",
        num_problems=79,
        origin=_LIMO.format("gaokao"),
        instruction=BOXED_ZH,
        language="zh",
        domain="out",
        ten=True,
    ),
    "kaoyan": Benchmark(
        title="Kaoyan (postgraduate entrance)",
        num_problems=199,
        origin=_LIMO.format("kaoyan"),
        instruction=BOXED_ZH,
        language="zh",
        domain="out",
        ten=True,
    ),
    "grade-school": Benchmark(
        title="GradeSchool (Chinese primary school)",
        num_problems=210,
        origin=_LIMO.format("grade_school_math"),
        language="zh",
        domain="out",
        ten=True,
    ),
    "hmmt": Benchmark(
        title="HMMT February 2025",
        num_problems=30,
        origin="the hub's dataset page; evalscope's pull request 1154",
        hub_id="MathArena/hmmt_feb_2025",
        split="train",
        question="problem",
        licence="CC-BY-NC-SA-4.0",
    ),
    "olymmath": Benchmark(
        title="OlymMATH EN-HARD",
        num_problems=100,
        origin="arXiv 2503.21380; projects that load it (configs, columns, licence)",
        hub_id="RUC-AIBOX/OlymMATH",
        hub_config="en-hard",
        question="problem",
        licence="MIT",
    ),
    "gsm8k": Benchmark(
        title="GSM8K",
        num_problems=1319,
        origin="the hub's dataset card",
        hub_id="openai/gsm8k",
        hub_config="main",
        answer_mark="####",
        licence="MIT",
    ),
}

ALIASES = {
    "aime2024": "aime24",
    "aime-2024": "aime24",
    "aime2025": "aime25",
    "aime-2025": "aime25",
    "math-500": "math500",
    "gpqa": "gpqa-diamond",
    "amc": "amc23",
    "amc-2023": "amc23",
    "minerva-math": "minerva",
    "cn-math-2024": "chmath",
    "grade-school-math": "grade-school",
    "grade-school-math-zh": "grade-school",
    "gaokao24-zh": "gaokao",
    "kaoyan-zh": "kaoyan",
    "olympiadbench-oe-to-maths-en": "olympiadbench",
    "hmmt-feb-2025": "hmmt",
    "hmmt25": "hmmt",
    "olymmath-en-hard": "olymmath",
    "gsm8k-test": "gsm8k",
}
"""Other names, in lower case and with hyphens."""


def find_benchmark(name: str) -> tuple[str, Benchmark | None]:
    """A set's name as in the table, and its entry; the name itself and None for one's own."""
    plain = name.strip().lower().replace("_", "-")
    known = ALIASES.get(plain, plain)
    return (known, BENCHMARKS[known]) if known in BENCHMARKS else (name, None)
