"""Share of attempts that `stop: exact` makes, compared with all attempts and with the minimum.

No model runs: each problem has a pass rate, sampled by seed, and its attempts are correct with that
probability. The filter's own code decides. One row of the output:

    {"pass_rates": "Beta(1, 1)", "wave_size": 1,
     "share_drawn": {"median": 0.369, "low": 0.366, "high": 0.372}, "optimum": 0.3689, …}
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.command import main, spread
from slowthink.records import Grade, Verdict
from slowthink.sampling.attempts import AttemptTracker, GradedAttempt, run_attempts
from slowthink.serialise import json_lines
from slowthink.stages.filter.difficulty.band import Band, BandDecision
from slowthink.stages.filter.difficulty.cost import Beta, expected_attempts_until_decided
from slowthink.stages.filter.difficulty.stopping import PassRateRule

BAND = Band(32, min_correct=1, max_correct=3)
PASS_RATES = (Beta(1.0, 1.0), Beta(0.5, 0.5), Beta(1.0, 5.0), Beta(1.0, 10.0))
WAVES = (1, 2, 4, 8)
CORRECT, WRONG = Grade(verdict=Verdict.CORRECT), Grade(verdict=Verdict.WRONG)

Pool = Mapping[str, Sequence[bool]]
"""Problem id → whether each of its attempts is correct."""


def run(
    *, num_rounds: int = 5, num_problems: int = 4000, path: Path | None = None
) -> dict[str, Any]:
    """Shares of attempts made and wasted, and of decisions that differ from those of all attempts.

    Each figure has the median, lowest and highest of the rounds; each round simulates its own pool,
    with the round's index as seed. `path` is a folder with recorded samples, samples/*.jsonl.
    """
    files = sorted((path / "samples").glob("*.jsonl")) if path else []
    return {
        "band": "1 to 3 of 32",
        "num_problems": num_problems,
        "num_rounds": num_rounds,
        "made": [
            _simulated(pass_rates, wave_size, num_rounds=num_rounds, num_problems=num_problems)
            for pass_rates in PASS_RATES
            for wave_size in WAVES
        ],
        "recorded": [row for file in files for row in _recorded(file)],
    }


def _simulated(
    pass_rates: Beta, wave_size: int, *, num_rounds: int, num_problems: int
) -> dict[str, Any]:
    rounds = [
        stopping_figures(
            simulated_pool(pass_rates, num_problems, seed=seed), BAND, wave_size=wave_size
        )
        for seed in range(num_rounds)
    ]
    optimum = expected_attempts_until_decided(BAND, pass_rates) / BAND.num_attempts
    return {
        "pass_rates": f"Beta({pass_rates.alpha:g}, {pass_rates.beta:g})",
        "stop": "exact",
        "wave_size": wave_size,
        "optimum": round(optimum, 4),
    } | {name: spread([figures[name] for figures in rounds]) for name in rounds[0]}


def simulated_pool(pass_rates: Beta, num_problems: int, *, seed: int) -> dict[str, list[bool]]:
    """Simulated attempts, the maximum number at each problem."""
    rng = random.Random(f"difficulty {pass_rates} {seed}")
    rates = [rng.betavariate(pass_rates.alpha, pass_rates.beta) for _ in range(num_problems)]
    return {
        f"p-{index:06}": [rng.random() < rate for _ in range(BAND.num_attempts)]
        for index, rate in enumerate(rates)
    }


def stopping_figures(pool: Pool, band: Band, *, wave_size: int = 1) -> dict[str, float]:
    """Shares of attempts made (including wasted ones), of these that are wasted, and of problems
    decided differently than by all attempts; precision and recall of the kept problems against
    those that all attempts would keep (1 if there are none)."""
    trackers = {id: AttemptTracker(PassRateRule(band), wave_size=wave_size) for id in pool}
    run_attempts(_SimulatedSource(pool), trackers)
    kept_by_all = {
        id
        for id, attempts in pool.items()
        if band.decide(sum(attempts), len(attempts)) is BandDecision.KEEP
    }
    kept = {id for id, tracker in trackers.items() if tracker.decision is BandDecision.KEEP}
    num_wasted = sum(tracker.num_wasted for tracker in trackers.values())
    num_made = sum(len(tracker.grades) for tracker in trackers.values()) + num_wasted
    return {
        "share_drawn": num_made / (len(pool) * band.num_attempts),
        "share_wasted": num_wasted / num_made,
        "share_differing": len(kept_by_all ^ kept) / len(pool),
        "precision": len(kept & kept_by_all) / len(kept) if kept else 1.0,
        "recall": len(kept & kept_by_all) / len(kept_by_all) if kept_by_all else 1.0,
    }


class _SimulatedSource:
    """Completes all requested attempts at once, so none can be cancelled and waste is maximal."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._pending: list[tuple[str, range]] = []

    def submit(self, waves: Sequence[tuple[str, range]]) -> None:
        self._pending += waves

    def cancel(self, problem_id: str, indices: Iterable[int]) -> None:
        """Does nothing: all requested attempts are completed already."""

    def completed(self) -> list[GradedAttempt]:
        waves, self._pending = self._pending, []
        return [
            GradedAttempt(id, index, CORRECT if self._pool[id][index] else WRONG)
            for id, wave in waves
            for index in wave
        ]


def _recorded(path: Path) -> Iterator[dict[str, Any]]:
    """Figures for a file's problems with the most common number of samples, graded by the file's
    own labels: LIMO v2's coarse step, and its band of 1 to 3 of 32 scaled to that number."""
    samples: dict[str, dict[int, bool]] = {}
    for _, line in json_lines(path.read_text("utf-8")):
        row = json.loads(line)
        samples.setdefault(row["problem_id"], {})[row["sample"]] = bool(row["correct"])
    num_attempts, _ = Counter(map(len, samples.values())).most_common(1)[0]
    complete = {
        id: [is_correct for _, is_correct in sorted(by_index.items())]
        for id, by_index in sorted(samples.items())
        if len(by_index) == num_attempts
    }
    num_coarse, max_correct = min(4, num_attempts), max(1, 3 * num_attempts // 32)
    bands = {
        f"none of {num_coarse}": Band(num_coarse, max_correct=0),
        f"1 to {max_correct} of {num_attempts}": Band(
            num_attempts, min_correct=1, max_correct=max_correct
        ),
    }
    for name, band in bands.items():
        pool = {id: attempts[: band.num_attempts] for id, attempts in complete.items()}
        figures = {key: round(value, 4) for key, value in stopping_figures(pool, band).items()}
        row = {"file": path.name, "band": name, "stop": "exact", "num_problems": len(pool)}
        yield row | figures


if __name__ == "__main__":
    main(run, __doc__)
