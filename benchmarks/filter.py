"""Speed and memory of the filter: s1's leaks by our index and literally, and the funnel's steps.

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
NGRAM_WORDS = 8


@dataclass(frozen=True)
class Measurement:
    """Result and cost of a function in its own process."""

    result: Any
    seconds: float
    """Processor time, which other load on the machine changes least. No function uses threads."""
    peak_mb: int


def run(*, num_rounds: int = 5, path: Path | None = None, scale: bool = False) -> dict[str, Any]:
    """s1's leaks by each implementation in turn, each in its own process; and the funnel.

    `path` is a folder with pool/*.jsonl and eval/*.jsonl; without it, rows are generated. With
    `scale` instead the funnel on 62,500 to 1,000,000 generated rows.
    """
    if scale:
        return {"scale": growth(SIZES)}
    source = None if path is None else str(path)
    implementations = {"ours": our_leaks, "literal": literal_leaks, "lean": lean_leaks}
    measurements: dict[str, list[Measurement]] = {name: [] for name in implementations}
    for _ in range(num_rounds):
        for name, find_leaks in implementations.items():
            measurements[name].append(measure(find_leaks, source))
    return {
        "data": source or "made",
        "num_rounds": num_rounds,
        "s1": _comparison(measurements),
        "funnel": measure(funnel, source).result,
    }


def growth(sizes: tuple[int, ...]) -> dict[str, Any]:
    """The funnel on generated rows of each size, and the exponent of the time (log-log fit)."""
    import numpy as np

    measurements = [measure(generated_funnel, size) for size in sizes]
    seconds = [measurement.result["seconds"] for measurement in measurements]
    slope = np.polyfit(np.log(sizes), np.log(seconds), 1)[0] if len(sizes) > 1 else float("nan")
    return {
        "sizes": [m.result | {"peak_mb": m.peak_mb} for m in measurements],
        "exponent": round(float(slope), 3),
    }


def measure(function: Callable[[Any], Any], argument: object) -> Measurement:
    """Call the function in a fresh process. It times itself, without loading its data."""
    context = get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(_measure_here, function, argument).result()


def _measure_here(function: Callable[[Any], Any], argument: object) -> Measurement:
    from slowthink.pipeline.run_folder import peak_rss_mb

    result = function(argument)
    seconds = result.pop("cpu_seconds") if isinstance(result, dict) else 0.0
    return Measurement(result, seconds, peak_rss_mb())


def _comparison(measurements: dict[str, list[Measurement]]) -> dict[str, Any]:
    """Time and memory of the three implementations; `ratio` is that of literal to ours."""
    first = measurements["ours"][0].result
    seconds = {name: [m.seconds for m in rounds] for name, rounds in measurements.items()}
    return {
        "num_problems": first["num_problems"],
        "num_tested": first["num_tested"],
        "num_leaks": len(first["leaks"]),
        "same": all(m.result == first for rounds in measurements.values() for m in rounds),
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "ratio": _ratio(seconds["literal"], seconds["ours"]),
        "ratio_lean": _ratio(seconds["lean"], seconds["ours"]),
        "peak_mb": {name: max(m.peak_mb for m in rounds) for name, rounds in measurements.items()},
    }


def _ratio(theirs: list[float], ours: list[float]) -> dict[str, float]:
    return spread([their / our for our, their in zip(ours, theirs, strict=True)])


# --- the measured functions -----------------------------------------------------------------------


def our_leaks(source: str | None) -> dict[str, Any]:
    """Indices of the questions that share an 8-word n-gram with a test problem, by our index."""
    from slowthink.curation.overlap.ngrams import NgramIndex

    questions, test_texts = _read_texts(source)
    start_time = time.process_time()
    ngrams = NgramIndex.from_texts(test_texts, NGRAM_WORDS).first_shared(questions)
    leaks = [index for index, ngram in enumerate(ngrams) if ngram is not None]
    return _leaks_and_time(leaks, questions, test_texts, start_time)


def literal_leaks(source: str | None) -> dict[str, Any]:
    """The same as in s1 (simplescaling/s1: data/decontaminate_util.py): two dicts from each n-gram
    to the texts that contain it, one of the questions and one of the test problems."""
    questions, test_texts = _read_texts(source)
    start_time = time.process_time()
    question_ngrams, test_ngrams = _index_ngrams(questions), _index_ngrams(test_texts)
    leaks: set[int] = set()
    for ngram, indices in question_ngrams.items():
        if ngram in test_ngrams:
            leaks.update(indices)
    return _leaks_and_time(sorted(leaks), questions, test_texts, start_time)


def lean_leaks(source: str | None) -> dict[str, Any]:
    """The same with a dict of the test problems only; each question is read up to its first hit."""
    questions, test_texts = _read_texts(source)
    start_time = time.process_time()
    test_ngrams = _index_ngrams(test_texts)
    leaks = [
        index
        for index, text in enumerate(questions)
        if any(ngram in test_ngrams for ngram in _word_ngrams(text))
    ]
    return _leaks_and_time(leaks, questions, test_texts, start_time)


def _index_ngrams(texts: list[str]) -> dict[str, set[int]]:
    indices: dict[str, set[int]] = {}
    for index, text in enumerate(texts):
        for ngram in _word_ngrams(text):
            indices.setdefault(ngram, set()).add(index)
    return indices


def _word_ngrams(text: str) -> list[str]:
    words = " ".join(text.lower().strip().split()).split()
    return [" ".join(words[i : i + NGRAM_WORDS]) for i in range(len(words) - NGRAM_WORDS + 1)]


def _leaks_and_time(
    leaks: list[int], questions: list[str], test_texts: list[str], start_time: float
) -> dict[str, Any]:
    seconds = time.process_time() - start_time
    return {
        "leaks": leaks, "num_problems": len(questions), "num_tested": len(test_texts),
        "cpu_seconds": seconds,
    }  # fmt: skip


def funnel(source: str | None) -> dict[str, Any]:
    """Time of every step of the filter that uses no model."""
    questions, test_texts = _read_texts(source)
    return filter_rows.timed_funnel(questions, test_texts)


def generated_funnel(size: int) -> dict[str, Any]:
    """The same on generated rows, with the numbers of planted duplicates and leaks."""
    rows = filter_rows.generate_rows(size)
    return filter_rows.timed_funnel(rows.questions, rows.test_texts) | {"planted": rows.planted}


def _read_texts(source: str | None) -> tuple[list[str], list[str]]:
    """Questions of the pool, and those of the test sets."""
    if source is None:
        rows = filter_rows.generate_rows(40_000)
        return rows.questions, rows.test_texts
    return _read_questions(Path(source) / "pool"), _read_questions(Path(source) / "eval")


def _read_questions(folder: Path) -> list[str]:
    questions = []
    for path in sorted(folder.glob("*.jsonl")):
        with path.open(encoding="utf-8") as file:
            questions += [json.loads(line)["question"] for line in file]
    return questions


if __name__ == "__main__":
    main(run, __doc__)
