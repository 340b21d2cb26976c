"""Speed and memory of the filter: s1's leaks beside the literal way, the funnel, a million rows.

{"s1": {"ratio": {"median": 4.4, …}, "peak_mb": {"ours": 160, "literal": 390}, "same": true, …},
 "funnel": {"num_problems": 47312, "seconds": 31.0, …}}
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import filter_rows
from benchmarks.command import main, spread

SIZES = (62_500, 125_000, 250_000, 500_000, 1_000_000)
RUN_WORDS = 8


@dataclass(frozen=True)
class Timed:
    """What one process found, and what it took."""

    found: Any
    seconds: float
    """Processor time: neither way has threads, and a busy machine changes it least."""
    peak_mb: int


def run(*, num_rounds: int = 5, path: Path | None = None, scale: bool = False) -> dict[str, Any]:
    """s1's leaks our way and the literal way, by turns, each in its own process; and the funnel.

    `path` is a folder with pool/*.jsonl and eval/*.jsonl; without one rows are made. With `scale`
    the funnel on 62,500 to 1,000,000 made rows instead.
    """
    if scale:
        return {"scale": growth(SIZES)}
    source = None if path is None else str(path)
    ways = {"ours": our_leaks, "literal": literal_leaks, "lean": lean_leaks}
    timed: dict[str, list[Timed]] = {name: [] for name in ways}
    for _ in range(num_rounds):
        for name, way in ways.items():
            timed[name].append(apart(way, source))
    return {
        "data": source or "made",
        "num_rounds": num_rounds,
        "s1": _beside(timed),
        "funnel": apart(funnel, source).found,
    }


def growth(sizes: tuple[int, ...]) -> dict[str, Any]:
    """The funnel on made rows of each size, and the exponent of seconds by rows (log-log fit)."""
    import numpy as np

    found = [apart(made_funnel, size) for size in sizes]
    seconds = [one.found["seconds"] for one in found]
    slope = np.polyfit(np.log(sizes), np.log(seconds), 1)[0] if len(sizes) > 1 else float("nan")
    return {
        "sizes": [one.found | {"peak_mb": one.peak_mb} for one in found],
        "exponent": round(float(slope), 3),
    }


def apart(function: Callable[[Any], Any], argument: object) -> Timed:
    """The function in a fresh process; its own clock starts when its data is there."""
    context = get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(_measured, function, argument).result()


def _measured(function: Callable[[Any], Any], argument: object) -> Timed:
    from slowthink.pipeline.run_folder import peak_rss_mb

    found = function(argument)
    seconds = found.pop("cpu_seconds") if isinstance(found, dict) else 0.0
    return Timed(found, seconds, peak_rss_mb())


def _beside(timed: dict[str, list[Timed]]) -> dict[str, Any]:
    """Seconds, memory and ratios of the three ways; `ratio` is against the literal one."""
    first, seconds = timed["ours"][0].found, {}
    for name, rounds in timed.items():
        seconds[name] = [one.seconds for one in rounds]
    return {
        "num_problems": first["num_problems"],
        "num_tested": first["num_tested"],
        "num_leaks": len(first["leaks"]),
        "same": all(one.found == first for rounds in timed.values() for one in rounds),
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "ratio": _ratio(seconds["literal"], seconds["ours"]),
        "ratio_lean": _ratio(seconds["lean"], seconds["ours"]),
        "peak_mb": {name: max(one.peak_mb for one in rounds) for name, rounds in timed.items()},
    }


def _ratio(theirs: list[float], ours: list[float]) -> dict[str, float]:
    return spread([two / one for one, two in zip(ours, theirs, strict=True)])


# --- what is measured -----------------------------------------------------------------------------


def our_leaks(source: str | None) -> dict[str, Any]:
    """Numbers of the questions that share a run of 8 words, by our index."""
    from slowthink.curation.overlap.ngrams import NgramIndex

    questions, tested = _texts(source)
    started = time.process_time()
    found = NgramIndex.from_texts(tested, RUN_WORDS).first_shared(questions)
    leaks = [place for place, one in enumerate(found) if one is not None]
    return _found(leaks, questions, tested, started)


def literal_leaks(source: str | None) -> dict[str, Any]:
    """The same as s1 does it (simplescaling/s1: data/decontaminate_util.py): a dict from each run
    of 8 words to the texts that hold it, of both sides; the questions of the runs in both go."""
    questions, tested = _texts(source)
    started = time.process_time()
    ours, theirs = _literal_index(questions), _literal_index(tested)
    leaks: set[int] = set()
    for run, holders in ours.items():
        if run in theirs:
            leaks.update(holders)
    return _found(sorted(leaks), questions, tested, started)


def lean_leaks(source: str | None) -> dict[str, Any]:
    """The same with an index of the tested side alone, asked until a question's first hit."""
    questions, tested = _texts(source)
    started = time.process_time()
    index = _literal_index(tested)
    leaks = [
        place
        for place, text in enumerate(questions)
        if any(run in index for run in _literal_runs(text))
    ]
    return _found(leaks, questions, tested, started)


def _literal_index(texts: list[str]) -> dict[str, set[int]]:
    index: dict[str, set[int]] = {}
    for number, text in enumerate(texts):
        for run in _literal_runs(text):
            index.setdefault(run, set()).add(number)
    return index


def _literal_runs(text: str) -> list[str]:
    words = " ".join(text.lower().strip().split()).split()
    return [" ".join(words[i : i + RUN_WORDS]) for i in range(len(words) - RUN_WORDS + 1)]


def _found(
    leaks: list[int], questions: list[str], tested: list[str], started: float
) -> dict[str, Any]:
    seconds = time.process_time() - started
    return {
        "leaks": leaks, "num_problems": len(questions), "num_tested": len(tested),
        "cpu_seconds": seconds,
    }  # fmt: skip


def funnel(source: str | None) -> dict[str, Any]:
    """Seconds of every step of the filter that asks no model."""
    questions, tested = _texts(source)
    return filter_rows.timed_funnel(questions, tested)


def made_funnel(size: int) -> dict[str, Any]:
    """The same on made rows, with what was planted and what was found."""
    made = filter_rows.made_rows(size)
    return filter_rows.timed_funnel(made.questions, made.tested) | {"planted": made.planted}


def _texts(source: str | None) -> tuple[list[str], list[str]]:
    """Questions of the pool, and those that are tested on."""
    if source is None:
        made = filter_rows.made_rows(40_000)
        return made.questions, made.tested
    return _questions(Path(source) / "pool"), _questions(Path(source) / "eval")


def _questions(folder: Path) -> list[str]:
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        with path.open(encoding="utf-8") as file:
            found += [json.loads(line)["question"] for line in file]
    return found


if __name__ == "__main__":
    main(run, __doc__)
