"""The figures of curation on real data, as in LOG.md.

    python -m benchmarks.real_pool strict --data DIR
    # or s1, s1-cross, coarse (an hour), selection, recorded

Runs are written to runs/real/NAME. `recorded` replays the recorded samples under
the papers' steps, with `stop: exact` and `never`, and counts the decisions that differ.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slowthink.pipeline.contract import read_manifest
from slowthink.pipeline.progress import ProgressReporter
from slowthink.pipeline.run import run_recipe
from slowthink.recipe import QualityConfig
from slowthink.recipe.loading import parse_recipe
from slowthink.records import Problem, duplicate_key, problem_id
from slowthink.serialise import json_lines
from slowthink.stages.filter.quality import first_broken_rules

OUT = Path("runs/real")
COARSE = {
    "name": "coarse", "num_attempts": 4, "max_correct": 0, "stop": "exact", "wave_size": 2,
    "max_thinking_tokens": 192, "answer_tokens": 24,
    "models": [{"model": "smollm2-135m", "tokens_per_second": 250, "tokens_per_attempt": 180}],
}  # fmt: skip
STRICT = {
    "quality": "strict", "duplicates": {"exact": "strict"}, "contamination": {"preset": "strict"},
    "domains": {"methods": ["lexical"]},
}  # fmt: skip
S1 = {"quality": "s1", "duplicates": {"exact": "plain", "near": None}}
FUNNELS: dict[str, dict[str, Any]] = {
    "strict": STRICT,
    "s1": S1 | {"contamination": {"preset": "s1"}},
    "s1-cross": S1 | {"contamination": {"preset": "s1", "cross_source": True}},
    "coarse": STRICT | {"difficulty": {"hours": 0.2, "steps": [COARSE]}},
}
SAMPLES = {
    "aime24": "aime24_o1journey_n10", "gsm8k": "gsm8k_openai_4models",
    "math500": "math500_o1journey_12models", "math100": "math100_qwen_n8_rm",
}  # fmt: skip


Rows = Iterator[dict[str, Any]]


def funnel(name: str, data: Path) -> Rows:
    """Rows in and out of each step of one of FUNNELS, on the whole pool and all benchmarks."""
    benchmarks = [
        {"name": path.stem.replace("_", "-"), "path": str(path)}
        for path in sorted((data / "eval").glob("*.jsonl"))
    ]
    settings = FUNNELS[name]
    settings["contamination"] |= {"benchmarks": benchmarks}
    pool_files = sorted((data / "pool").glob("*.jsonl"))
    sources = [{"kind": "file", "path": str(path)} for path in pool_files]
    yield from step_rows(run(f"real-{name}", {"pool": {"sources": sources}, "filter": settings}))


def run(name: str, settings: dict[str, Any]) -> Path:
    """Run the stages pool and filter, and return the run folder."""
    root = OUT / name
    recipe = parse_recipe({"name": name, "model": "smollm2-135m"} | settings)
    run_recipe(
        recipe, root, stages=("pool", "filter", "report"), reporter=ProgressReporter(quiet=True)
    )
    return root


def step_rows(root: Path) -> Rows:
    """One row for each step of the run's funnel."""
    for stage in ("pool", "filter"):
        for step in read_manifest(root / stage)["steps"]:
            yield {
                "run": root.name, "step": step["name"], "num_in": step["num_in"],
                "num_out": step["num_out"],
            }  # fmt: skip


def selection(data: Path) -> Rows:
    """How many rows of s1's published selection each rule drops, counting the first rule broken."""
    rows = read_jsonl(data / "pool/s1k_v1_selected_questions.jsonl")
    problems = [
        Problem(
            id=problem_id(row["question"]), duplicate_key=duplicate_key(row["question"]),
            question=row["question"], answer=row.get("answer") or None,
            solution=row.get("solution") or None, source_row=row["id"],
            source=f"{row['source']} {row.get('meta', {}).get('source_type', '')}",
        )
        for row in rows
    ]  # fmt: skip
    settings: dict[str, Any] = {
        "strict": QualityConfig(), "strict without answer": QualityConfig(skip=("answer",)),
        "s1": "s1",
    }  # fmt: skip
    for name, config in settings.items():
        broken_rules = first_broken_rules(config, problems)
        counts = Counter(rule.name if rule else "kept" for rule in broken_rules)
        yield {"rules": name, "dropped": dict(counts.most_common())}


# --- recorded samples -----------------------------------------------------------------------------


def recorded(data: Path) -> Rows:
    """Decisions that differ between `stop: exact` and `never` on recorded attempts."""
    OUT.mkdir(parents=True, exist_ok=True)
    samples = RecordedSamples(data)
    for name, (dataset, difficulty) in cases(samples).items():
        decisions, num_attempts = {}, {}
        for stop in ("exact", "never"):
            root = run(f"recorded-{name}-{stop}", {
                "pool": {"sources": [{"kind": "file", "path": samples.problem_file(dataset)}]},
                "filter": {"quality": None, "duplicates": None,
                           "difficulty": with_stop(difficulty, stop)},
            })  # fmt: skip
            decisions[stop] = read_decisions(root)
            rows = read_manifest(root / "filter")["facts"]["attempts"]
            num_attempts[stop] = sum(row["num_attempts"] for row in rows)
        yield from step_rows(OUT / f"recorded-{name}-exact")
        num_differing = sum(
            decisions["exact"][id] != decision for id, decision in decisions["never"].items()
        )
        yield {
            "case": name, "num_differing": num_differing, "num_attempts": num_attempts["exact"],
            "num_attempts_in_all": num_attempts["never"],
        }  # fmt: skip


def read_decisions(root: Path) -> dict[str, str]:
    """Problem id → `kept`, or the step that dropped the problem."""
    import pyarrow.parquet as pq

    kept = pq.read_table(root / "filter/data.parquet").to_pylist()
    dropped = pq.read_table(root / "filter/dropped.parquet").to_pylist()
    return {row["id"]: "kept" for row in kept} | {row["id"]: row["step"] for row in dropped}


def cases(samples: RecordedSamples) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name of a case → its dataset, and its settings of the filter by difficulty."""
    part, whole = samples.part, samples.whole
    aime_4, aime_6 = part("aime24", 0, 4), part("aime24", 4, 10)
    math_4, math_next_4 = part("math100", 0, 4), part("math100", 4, 8)
    gpt_3 = [whole("gsm8k", model=f"gpt-3 {size}_verification") for size in ("6b", "175b")]
    o1_journey = [
        whole("math500", model=f"O1-Journey/{name}")
        for name in ("distill_tree_3k", "exp6_jl_only_wait")
    ]
    coarse = {"name": "coarse", "num_attempts": 4, "max_correct": 0}
    fine = {"name": "fine", "min_correct": 1, "max_correct": 3}
    bands = {"aime24": (10, 3), "math100": (8, 3), "math500": (6, 3), "gsm8k": (4, 2)}
    return {
        "s1-gsm8k": ("gsm8k", {"preset": "s1", "models": gpt_3}),
        "s1-all-gsm8k": ("gsm8k", {"preset": "s1", "rule": "all", "models": gpt_3}),
        "s1-math500": ("math500", {"preset": "s1", "models": o1_journey}),
        "limo-v1-aime24": ("aime24", {"preset": "limo-v1", "models": [aime_4, aime_6, aime_6]}),
        "limo-v1-math100": ("math100", {
            "preset": "limo-v1", "models": [math_4, math_next_4, math_next_4]
        }),
        "limo-v1-fine-gsm8k": ("gsm8k", {"steps": [
            {"name": "fine", "num_attempts": 4, "max_pass_rate": 0.5, "models": [whole("gsm8k")]}
        ]}),
        "limo-v2-aime24": ("aime24", {"preset": "limo-v2", "models": [aime_4, aime_6]}),
        "limo-v2-bands-aime24": ("aime24", {"steps": [
            coarse | {"models": [aime_4]}, fine | {"num_attempts": 6, "models": [aime_6]}
        ]}),
        "limo-v2-bands-math100": ("math100", {"steps": [
            coarse | {"models": [math_4]}, fine | {"num_attempts": 4, "models": [math_next_4]}
        ]}),
        **{f"coarse-{name}": (name, {"steps": [coarse | {"models": [whole(name)]}]})
           for name in SAMPLES},
        **{f"fine-{name}": (name, {"steps": [
            fine | {"num_attempts": num_attempts, "max_correct": most, "models": [whole(name)]}
        ]}) for name, (num_attempts, most) in bands.items()},
    }  # fmt: skip


def with_stop(difficulty: dict[str, Any], stop: str) -> dict[str, Any]:
    """The settings with `stop` in every step."""
    if "steps" not in difficulty:
        return difficulty | {"stop": stop}
    return {"steps": [step | {"stop": stop} for step in difficulty["steps"]]}


class RecordedSamples:
    """Recorded attempts in a data folder, as entries of the setting `models`."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def sample_file(self, dataset: str) -> Path:
        """The file of a dataset's recorded samples."""
        return self._data / f"samples/{SAMPLES[dataset]}.jsonl"

    def problem_file(self, dataset: str) -> str:
        """The file of a dataset's problems; those of math100 are taken from the samples."""
        if dataset != "math100":
            return str(self._data / f"eval/{dataset}{'_test' if dataset == 'gsm8k' else ''}.jsonl")
        answers = {row["question"]: row["answer"] for row in read_jsonl(self.sample_file(dataset))}
        rows = [{"question": question, "answer": answer} for question, answer in answers.items()]
        return write_jsonl(dataset, rows)

    def whole(self, dataset: str, **settings: Any) -> dict[str, Any]:
        """All recorded attempts at a dataset, or with `model` those of one model."""
        path = str(self.sample_file(dataset))
        return {"samples": path, "last_number": dataset == "gsm8k"} | settings

    def part(self, dataset: str, start: int, stop: int) -> dict[str, Any]:
        """The attempts with index `start` to `stop` - 1 at each problem of a dataset."""
        rows = read_jsonl(self.sample_file(dataset))
        rows = [row for row in rows if start <= row["sample"] < stop]
        return {"samples": write_jsonl(f"{dataset}-{start}-{stop}", rows)}


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file."""
    return [json.loads(line) for _, line in json_lines(path.read_text("utf-8"))]


def write_jsonl(name: str, rows: list[dict[str, Any]]) -> str:
    """Write a JSONL file into the folder of the runs, and return its path."""
    path = OUT / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def main() -> None:
    """Run each named experiment on the data in the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", choices=[*FUNNELS, *EXPERIMENTS])
    parser.add_argument(
        "--data", type=Path, required=True, help="Folder with pool/, eval/ and samples/."
    )
    parser.add_argument("--json", action="store_true", help="Print each row as a line of JSON.")
    options = parser.parse_args()
    for name in options.names:
        figures = (
            EXPERIMENTS[name](options.data) if name in EXPERIMENTS else funnel(name, options.data)
        )
        for row in figures:
            print(json.dumps(row) if options.json else "  ".join(map(str, row.values())))


EXPERIMENTS = {"selection": selection, "recorded": recorded}

if __name__ == "__main__":
    main()
