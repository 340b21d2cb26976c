"""Samples that sequential filtering draws, beside all of them and the fewest that can be.

No model: attempts are right by chance, with a pass rate of each problem, drawn by seed; the code
that decides is the filter's own. One real record:

    {"pass_rates": "Beta(1, 1)", "stop": "exact", "wave_size": 1,
     "share_drawn": {"median": 0.369, "low": 0.366, "high": 0.372}, "optimum": 0.3689, …}
"""

from __future__ import annotations

import json
import random
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slowthink.records import Grade, Verdict
from slowthink.stages.filter.difficulty.attempts import Returned, run_attempts
from slowthink.stages.filter.difficulty.band import Band, BandDecision
from slowthink.stages.filter.difficulty.prior import NUM_PILOT, Beta, fit, foresee
from slowthink.stages.filter.difficulty.stopping import AttemptTracker, Exact, Rule, WithinError

SHARED = Path(__file__).resolve().parents[2].parent / "shared/data/samples"
BAND = Band(32, min_correct=1, max_correct=3)
PRIORS = ((1.0, 1.0), (0.5, 0.5), (1.0, 5.0), (1.0, 10.0))
WAVES = (1, 2, 4, 8)
MAX_ERROR = 0.05
RIGHT, WRONG = Grade(verdict=Verdict.CORRECT), Grade(verdict=Verdict.WRONG)

Pool = Mapping[str, Sequence[bool]]


def run(
    *, num_rounds: int = 5, num_problems: int = 4000, path: Path | None = None
) -> dict[str, Any]:
    """Shares of attempts drawn, and of decisions that differ from those of all attempts.

    Each as median with lowest and highest of the rounds; a round is a pool of its own (seed: the
    round). `path` is a folder of recorded samples (or the shared real ones).
    """
    made = [
        _made(Beta(*prior), stop, wave_size, num_rounds=num_rounds, num_problems=num_problems)
        for prior in PRIORS
        for stop, wave_size in [("exact", wave) for wave in WAVES] + [("error", 1)]
    ]
    folder = path or SHARED
    return {
        "band": "1 to 3 of 32",
        "num_problems": num_problems,
        "num_rounds": num_rounds,
        "max_error": MAX_ERROR,
        "made": made,
        "recorded": [row for file in sorted(folder.glob("*.jsonl")) for row in _recorded(file)],
    }


def _made(
    prior: Beta, stop: str, wave_size: int, *, num_rounds: int, num_problems: int
) -> dict[str, Any]:
    found = [
        played(made_pool(prior, num_problems, seed=seed), BAND, stop=stop, wave_size=wave_size)
        for seed in range(num_rounds)
    ]
    optimum = foresee(BAND, prior).num_drawn / BAND.num_attempts
    return {
        "pass_rates": f"Beta({prior.alpha:g}, {prior.beta:g})", "stop": stop,
        "wave_size": wave_size, "optimum": round(optimum, 4),
    } | {name: _spread([one[name] for one in found]) for name in found[0]}  # fmt: skip


def made_pool(prior: Beta, num_problems: int, *, seed: int) -> dict[str, list[bool]]:
    """All attempts at each problem."""
    draw = random.Random(f"difficulty {prior} {seed}")
    rates = [draw.betavariate(prior.alpha, prior.beta) for _ in range(num_problems)]
    return {
        f"p-{number:06}": [draw.random() < rate for _ in range(BAND.num_attempts)]
        for number, rate in enumerate(rates)
    }


def played(pool: Pool, band: Band, *, stop: str, wave_size: int = 1) -> dict[str, float]:
    """What the rule comes to: shares drawn (wasted ones among them) and differing, and, of the
    problems kept, how many all attempts would keep (precision), and the other way round (recall);
    1 of none.
    """
    follows = _followed(pool, Exact(band), wave_size)
    if stop == "error":
        pilot = {one: follows[one] for one in list(pool)[:NUM_PILOT]}
        seen = Counter((one.tally.num_correct, one.tally.num_counted) for one in pilot.values())
        rule = WithinError.fitted(band, fit(seen), max_error=MAX_ERROR)
        rest = {one: pool[one] for one in list(pool)[NUM_PILOT:]}
        follows = pilot | _followed(rest, rule, wave_size)
    whole = {one: band.outcome(sum(found), len(found)) for one, found in pool.items()}
    kept = {one for one, outcome in whole.items() if outcome is BandDecision.KEEP}
    ours = {one for one, follow in follows.items() if follow.outcome is BandDecision.KEEP}
    drawn = sum(len(one.grades) + one.num_unused for one in follows.values())
    return {
        "share_drawn": drawn / (len(pool) * band.num_attempts),
        "share_wasted": sum(one.num_unused for one in follows.values()) / drawn,
        "share_differing": len(kept ^ ours) / len(pool),
        "precision": len(kept & ours) / len(ours) if ours else 1.0,
        "recall": len(kept & ours) / len(kept) if kept else 1.0,
    }


def _followed(pool: Pool, rule: Rule, wave_size: int) -> dict[str, AttemptTracker]:
    follows = {one: AttemptTracker(rule, wave_size=wave_size) for one in pool}
    run_attempts(_Chance(pool), follows)
    return follows


class _Chance:
    """Gives all that is asked for at once: nothing can be cancelled, so waste is at its most."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._wanted: list[tuple[str, range]] = []

    def submit(self, wanted: Sequence[tuple[str, range]]) -> None:
        self._wanted += wanted

    def cancel(self, problem_id: str, numbers: Iterable[int]) -> None:
        """Too late."""

    def returned(self) -> list[Returned]:
        wanted, self._wanted = self._wanted, []
        return [
            Returned(one, number, RIGHT if self._pool[one][number] else WRONG)
            for one, wave in wanted
            for number in wave
        ]


def _recorded(path: Path) -> Iterator[dict[str, Any]]:
    """Of a file's problems with as many samples as most have, by the file's own labels: LIMO v2's
    coarse step, and 1 to 3 of 32 as near as so few samples have it."""
    pool: dict[str, dict[int, bool]] = {}
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        pool.setdefault(row["problem_id"], {})[row["sample"]] = bool(row["correct"])
    size, _ = Counter(len(found) for found in pool.values()).most_common(1)[0]
    whole = {
        one: [found[number] for number in sorted(found)]
        for one, found in sorted(pool.items())
        if len(found) == size
    }
    top = max(1, 3 * size // 32)
    bands = {
        f"none of {min(4, size)}": Band(min(4, size), max_correct=0),
        f"1 to {top} of {size}": Band(size, min_correct=1, max_correct=top),
    }
    for name, band in bands.items():
        cut = {one: found[: band.num_attempts] for one, found in whole.items()}
        for stop in ("exact", "error"):
            figures = {key: round(value, 4) for key, value in played(cut, band, stop=stop).items()}
            told = {"file": path.name, "band": name, "stop": stop, "num_problems": len(cut)}
            yield told | figures


def _spread(values: Sequence[float]) -> dict[str, float]:
    low, high = min(values), max(values)
    found = {"median": statistics.median(values), "low": low, "high": high}
    return {name: round(value, 4) for name, value in found.items()}
