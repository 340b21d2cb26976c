"""The curation's figures on the real data beside the project: what LOG.md says of it, made again.

    python -m benchmarks.real_pool strict   # or s1, s1-cross, coarse (an hour), selection, recorded

Runs lie in runs/real/NAME; each prints its funnel. `recorded` replays the recorded samples under
the papers' steps, with `stop: exact` and `never`, and counts the decisions that differ.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from slowthink.pipeline.progress import ProgressReporter
from slowthink.pipeline.run import run_recipe
from slowthink.pipeline.run_folder import read_manifest
from slowthink.recipe import QualityConfig
from slowthink.recipe.loading import parse_recipe
from slowthink.records import Problem, duplicate_key, problem_id
from slowthink.stages.filter.quality import first_objections

DATA = Path(__file__).resolve().parents[2] / "shared/data"
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


def funnel(name: str) -> None:
    """One of FUNNELS on the whole pool, against every evaluation set."""
    sets = [{"name": path.stem.replace("_", "-"), "path": str(path)} for path in files("eval")]
    settings = FUNNELS[name]
    settings["contamination"] |= {"benchmarks": sets}
    sources = [{"kind": "file", "path": str(path)} for path in files("pool")]
    show(run(f"real-{name}", {"pool": {"sources": sources}, "filter": settings}))


def files(folder: str) -> list[Path]:
    """The data's files."""
    return sorted((DATA / folder).glob("*.jsonl"))


def run(name: str, settings: dict[str, Any]) -> Path:
    """Run pool and filter; where they lie."""
    root = OUT / name
    recipe = parse_recipe({"name": name, "model": "smollm2-135m"} | settings)
    run_recipe(
        recipe, root, stages=("pool", "filter", "report"), reporter=ProgressReporter(quiet=True)
    )
    return root


def show(root: Path) -> None:
    """The funnel, a line a step."""
    for stage in ("pool", "filter"):
        for step in read_manifest(root / stage)["steps"]:
            print(f"{root.name}: {step['name']}: {step['num_in']} -> {step['num_out']}")


def selection() -> None:
    """s1's real selection: how many rows each rule drops first."""
    rows = read(DATA / "pool/s1k_v1_selected_questions.jsonl")
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
        found = Counter(one.rule if one else "kept" for one in first_objections(config, problems))
        print(name, dict(found.most_common()))


# --- recorded samples -----------------------------------------------------------------------------


def recorded() -> None:
    """Recorded attempts under the papers' steps."""
    OUT.mkdir(parents=True, exist_ok=True)
    for name, (pool, difficulty) in cases().items():
        kept, used = {}, {}
        for stop in ("exact", "never"):
            root = run(f"recorded-{name}-{stop}", {
                "pool": {"sources": [{"kind": "file", "path": problems_of(pool)}]},
                "filter": {"quality": None, "duplicates": None,
                           "difficulty": stopping(difficulty, stop)},
            })  # fmt: skip
            kept[stop] = dropped_or_kept(root)
            rows = read_manifest(root / "filter")["facts"]["attempts"]
            used[stop] = sum(row["num_attempts"] for row in rows)
        show(OUT / f"recorded-{name}-exact")
        differing = sum(kept["exact"][one] != kept["never"][one] for one in kept["never"])
        print(f"{name}: {differing} differ; {used['exact']} of {used['never']} attempts")


def dropped_or_kept(root: Path) -> dict[str, str]:
    """What became of each problem."""
    import pyarrow.parquet as pq

    kept = pq.read_table(root / "filter/data.parquet").to_pylist()
    gone = pq.read_table(root / "filter/dropped.parquet").to_pylist()
    return {row["id"]: "kept" for row in kept} | {row["id"]: row["step"] for row in gone}


def cases() -> dict[str, tuple[str, dict[str, Any]]]:
    """By name: whose problems, and the difficulty's settings."""
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


def problems_of(name: str) -> str:
    """The file of problems that the samples are of; math100's stand in the samples alone."""
    if name != "math100":
        return str(DATA / f"eval/{name}{'_test' if name == 'gsm8k' else ''}.jsonl")
    rows = {row["question"]: row for row in read(samples(name))}
    return write("math100", [{key: row[key] for key in ("question", "answer")}
                             for row in rows.values()])  # fmt: skip


def whole(name: str, **more: Any) -> dict[str, Any]:
    """All recorded attempts, or one model's."""
    return {"samples": str(samples(name)), "last_number": name == "gsm8k"} | more


def part(name: str, low: int, high: int) -> dict[str, Any]:
    """Attempts `low` to `high` - 1 of each problem: what a step before has not used."""
    OUT.mkdir(parents=True, exist_ok=True)
    rows = [row for row in read(samples(name)) if low <= row["sample"] < high]
    return {"samples": write(f"{name}-{low}-{high}", rows)}


def samples(name: str) -> Path:
    """The file of recorded samples."""
    return DATA / f"samples/{SAMPLES[name]}.jsonl"


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write(name: str, rows: list[dict[str, Any]]) -> str:
    """A JSONL file beside the runs."""
    path = OUT / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


if __name__ == "__main__":
    made = {"selection": selection, "recorded": recorded}
    for wanted in sys.argv[1:]:
        made[wanted]() if wanted in made else funnel(wanted)
