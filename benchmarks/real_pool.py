"""The curation's figures on real data: what LOG.md says of it, made again.

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
    """Rows in and out of each step, of one of FUNNELS on the whole pool against every test set."""
    tests = sorted((data / "eval").glob("*.jsonl"))
    sets = [{"name": path.stem.replace("_", "-"), "path": str(path)} for path in tests]
    settings = FUNNELS[name]
    settings["contamination"] |= {"benchmarks": sets}
    pools = sorted((data / "pool").glob("*.jsonl"))
    sources = [{"kind": "file", "path": str(path)} for path in pools]
    yield from steps_of(run(f"real-{name}", {"pool": {"sources": sources}, "filter": settings}))


def run(name: str, settings: dict[str, Any]) -> Path:
    """Run pool and filter; returns the run folder."""
    root = OUT / name
    recipe = parse_recipe({"name": name, "model": "smollm2-135m"} | settings)
    run_recipe(
        recipe, root, stages=("pool", "filter", "report"), reporter=ProgressReporter(quiet=True)
    )
    return root


def steps_of(root: Path) -> Rows:
    """The funnel, a row a step."""
    for stage in ("pool", "filter"):
        for step in read_manifest(root / stage)["steps"]:
            yield {
                "run": root.name, "step": step["name"], "num_in": step["num_in"],
                "num_out": step["num_out"],
            }  # fmt: skip


def selection(data: Path) -> Rows:
    """How many rows of s1's real selection each rule drops first."""
    rows = read(data / "pool/s1k_v1_selected_questions.jsonl")
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
        rules = [broken.name if broken else "kept" for broken in
                 first_broken_rules(config, problems)]  # fmt: skip
        yield {"rules": name, "dropped": dict(Counter(rules).most_common())}


# --- recorded samples -----------------------------------------------------------------------------


def recorded(data: Path) -> Rows:
    """Decisions that differ between `stop: exact` and `never` on recorded attempts."""
    OUT.mkdir(parents=True, exist_ok=True)
    samples = Samples(data)
    for name, (pool, difficulty) in cases(samples).items():
        kept, used = {}, {}
        for stop in ("exact", "never"):
            root = run(f"recorded-{name}-{stop}", {
                "pool": {"sources": [{"kind": "file", "path": samples.problems(pool)}]},
                "filter": {"quality": None, "duplicates": None,
                           "difficulty": stopping(difficulty, stop)},
            })  # fmt: skip
            kept[stop] = dropped_or_kept(root)
            rows = read_manifest(root / "filter")["facts"]["attempts"]
            used[stop] = sum(row["num_attempts"] for row in rows)
        yield from steps_of(OUT / f"recorded-{name}-exact")
        differing = sum(
            kept["exact"][problem] != kept["never"][problem] for problem in kept["never"]
        )
        yield {
            "case": name, "num_differing": differing, "num_attempts": used["exact"],
            "num_attempts_in_all": used["never"],
        }  # fmt: skip


def dropped_or_kept(root: Path) -> dict[str, str]:
    """`kept`, or the step that dropped it, by problem."""
    import pyarrow.parquet as pq

    kept = pq.read_table(root / "filter/data.parquet").to_pylist()
    dropped = pq.read_table(root / "filter/dropped.parquet").to_pylist()
    return {row["id"]: "kept" for row in kept} | {row["id"]: row["step"] for row in dropped}


def cases(samples: Samples) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name → the set whose problems they are, and the settings of the difficulty step."""
    part, whole = samples.part, samples.whole
    a, b = part("aime24", 0, 4), part("aime24", 4, 10)
    q, r = part("math100", 0, 4), part("math100", 4, 8)
    old = [whole("gsm8k", model=f"gpt-3 {size}_verification") for size in ("6b", "175b")]
    journey = [
        whole("math500", model=f"O1-Journey/{name}")
        for name in ("distill_tree_3k", "exp6_jl_only_wait")
    ]
    coarse = {"name": "coarse", "num_attempts": 4, "max_correct": 0}
    fine = {"name": "fine", "min_correct": 1, "max_correct": 3}
    bands = {"aime24": (10, 3), "math100": (8, 3), "math500": (6, 3), "gsm8k": (4, 2)}
    return {
        "s1-gsm8k": ("gsm8k", {"preset": "s1", "models": old}),
        "s1-all-gsm8k": ("gsm8k", {"preset": "s1", "rule": "all", "models": old}),
        "s1-math500": ("math500", {"preset": "s1", "models": journey}),
        "limo-v1-aime24": ("aime24", {"preset": "limo-v1", "models": [a, b, b]}),
        "limo-v1-math100": ("math100", {"preset": "limo-v1", "models": [q, r, r]}),
        "limo-v1-fine-gsm8k": ("gsm8k", {"steps": [
            {"name": "fine", "num_attempts": 4, "max_pass_rate": 0.5, "models": [whole("gsm8k")]}
        ]}),
        "limo-v2-aime24": ("aime24", {"preset": "limo-v2", "models": [a, b]}),
        "limo-v2-bands-aime24": ("aime24", {"steps": [
            coarse | {"models": [a]}, fine | {"num_attempts": 6, "models": [b]}
        ]}),
        "limo-v2-bands-math100": ("math100", {"steps": [
            coarse | {"models": [q]}, fine | {"num_attempts": 4, "models": [r]}
        ]}),
        **{f"coarse-{n}": (n, {"steps": [coarse | {"models": [whole(n)]}]}) for n in SAMPLES},
        **{f"fine-{n}": (n, {"steps": [
            fine | {"num_attempts": number, "max_correct": most, "models": [whole(n)]}
        ]}) for n, (number, most) in bands.items()},
    }  # fmt: skip


def stopping(difficulty: dict[str, Any], stop: str) -> dict[str, Any]:
    """The same with every step stopping so."""
    if "steps" not in difficulty:
        return difficulty | {"stop": stop}
    return {"steps": [step | {"stop": stop} for step in difficulty["steps"]]}


class Samples:
    """Recorded attempts of a data folder, as `models` entries of the difficulty step."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def path(self, name: str) -> Path:
        """The file of recorded samples."""
        return self._data / f"samples/{SAMPLES[name]}.jsonl"

    def problems(self, name: str) -> str:
        """The file of the samples' problems; those of math100 are in the samples alone."""
        if name != "math100":
            return str(self._data / f"eval/{name}{'_test' if name == 'gsm8k' else ''}.jsonl")
        rows = {row["question"]: row for row in read(self.path(name))}
        return write(
            name, [{key: row[key] for key in ("question", "answer")} for row in rows.values()]
        )

    def whole(self, name: str, **more: Any) -> dict[str, Any]:
        """All recorded attempts, or one model's."""
        return {"samples": str(self.path(name)), "last_number": name == "gsm8k"} | more

    def part(self, name: str, low: int, high: int) -> dict[str, Any]:
        """Attempts `low` to `high` - 1 of each problem, which no earlier step has used."""
        rows = [row for row in read(self.path(name)) if low <= row["sample"] < high]
        return {"samples": write(f"{name}-{low}-{high}", rows)}


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write(name: str, rows: list[dict[str, Any]]) -> str:
    """Write a JSONL file beside the runs; returns its path."""
    path = OUT / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def main() -> None:
    """Run each named experiment on the data of the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", choices=[*FUNNELS, *EXPERIMENTS])
    parser.add_argument("--data", type=Path, required=True, help="Holds pool/, eval/, samples/.")
    parser.add_argument("--json", action="store_true", help="A line of JSON a figure.")
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
