"""The quickstart in a shortened form, its results asserted; then run again: all skipped."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

EASY = {"difficulty": [1, 2]}
SHORT = {
    "pool.sources.0.families": {"sorting": EASY, "counting": EASY},
    "pool.sources.0.num_problems": 180,
    "pool.sources.0.num_heldout": 48,
    "filter.difficulty.max_problems": 8,
    "select.num_problems": 168,
    "train.max_steps": None,  # all, on any machine
    "evaluate.arms.0.caps": [0, 32],
    "evaluate.arms.1.waits": [1],
}
OUT = Path("runs/ci")


def slowthink(*arguments: str) -> dict:
    """Run a command with --json; its talk goes to our stderr."""
    command = [str(Path(sys.executable).with_name("slowthink")), *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    """Run, assert, run again."""
    shutil.rmtree(OUT, ignore_errors=True)
    changes = [
        part for key, value in SHORT.items() for part in ("--set", f"{key}={json.dumps(value)}")
    ]
    data = slowthink("run", "quickstart", "--out", str(OUT), *changes)
    print(json.dumps({key: data[key] for key in FIGURES}, indent=1))
    assert data["budget_violations"] == 0
    assert len(data["curve"]) >= 6
    assert all(point["ci95"][0] <= point["accuracy"] <= point["ci95"][1] for point in data["curve"])
    assert all(p["mean_thinking_tokens"] <= p["max_thinking_tokens"] for p in data["curve"])
    assert data["tuned_accuracy"] > data["base_accuracy"], "training on 168 chains did not help"
    assert data["peak_rss_mb"] <= 6000
    page = (OUT / "report" / "report.html").read_text()
    assert "<svg" in page and "http://" not in page.replace("http://www.w3.org", "")
    again = subprocess.run(
        [str(Path(sys.executable).with_name("slowthink")), "run", str(OUT)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert again.stdout.count("(skipped)") == 7, again.stdout
    print("1 passed, 0 failed")


FIGURES = (
    "wall_seconds",
    "peak_rss_mb",
    "base_accuracy",
    "tuned_accuracy",
    "difference",
    "difference_ci95",
    "budget_violations",
    "answer_eos_rate",
)

if __name__ == "__main__":
    main()
