"""Published samples through our grader and statistics, against an independent computation.

The computation here shares no code with slowthink: it reads the files with `json` and enumerates
every subset of every problem's samples, with the labels and answers in the files.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from slowthink.analysis import statistics as stats
from slowthink.analysis.votes import Sample, vote_curve
from slowthink.cli.app import main
from slowthink.data.stored.grading import grade_stored, stored_problems
from slowthink.data.stored.read import read_stored
from slowthink.data.stored.samples import StoredSamples, select_model
from slowthink.export import export_run
from slowthink.grading import Grader
from slowthink.pipeline.contract import read_manifest
from slowthink.records import Verdict
from slowthink.stage_rows import EvaluationRow

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "samples"
AIME, MATH = "aime24_o1journey_n10", "math100_qwen_n8_rm"
NUM_SAMPLES = {AIME: 10, MATH: 8}
WRONG_LABELS = {AIME: (), MATH: (("10{,}000", "10000"),)}
"""Reference answer and answer of samples that are wrong by label and correct by us: see LOG.md."""
CASES = [(name, k) for name, num in NUM_SAMPLES.items() for k in range(1, num + 1)]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.shared_data,
    pytest.mark.skipif(not DATA.exists(), reason="no shared data beside the project"),
]


# --- the independent computation ------------------------------------------------------------------


@dataclass(frozen=True)
class LabelledSample:
    """One sample of a file, with the label there."""

    correct: bool
    answer: str
    score: float


@cache
def labelled(name: str, *, corrected: bool = False) -> tuple[tuple[LabelledSample, ...], ...]:
    """Samples by problem; `corrected`: with the wrong labels corrected."""
    groups = defaultdict(list)
    for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        correct = row["correct"] or (
            corrected and (row["answer"], row["pred"]) in WRONG_LABELS[name]
        )
        pred = normalised(row["pred"])
        groups[row["problem_id"]].append(LabelledSample(correct, pred, row.get("rm_score", 0.0)))
    return tuple(tuple(group) for group in groups.values())


def normalised(text: str) -> str:
    """000 is 0."""
    return str(int(text)) if text.isdigit() else text


def brute(
    groups: tuple[tuple[LabelledSample, ...], ...],
    k: int,
    rule: Callable[[tuple[LabelledSample, ...]], float],
) -> float:
    """Mean over problems of the mean of `rule` over all subsets of k samples."""
    means = []
    for group in groups:
        subsets = list(itertools.combinations(group, k))
        means.append(sum(rule(subset) for subset in subsets) / len(subsets))
    return sum(means) / len(means)


def any_right(subset: tuple[LabelledSample, ...]) -> float:
    return float(any(sample.correct for sample in subset))


def majority(
    subset: tuple[LabelledSample, ...],
    weight: Callable[[LabelledSample], float] = lambda sample: 1.0,
) -> float:
    """Share of the answers with the most votes that are right."""
    votes: Counter[str] = Counter()
    for sample in subset:
        votes[sample.answer] += weight(sample)
    right = {sample.answer: sample.correct for sample in subset}
    winners = [a for a, n in votes.items() if math.isclose(n, max(votes.values()), rel_tol=1e-9)]
    return sum(right[answer] for answer in winners) / len(winners)


def weighted(subset: tuple[LabelledSample, ...]) -> float:
    return majority(subset, lambda sample: chance(sample.score))


def best(subset: tuple[LabelledSample, ...]) -> float:
    """Share of the samples with the highest score that are right."""
    tied = [sample for sample in subset if sample.score == max(sample.score for sample in subset)]
    return sum(sample.correct for sample in tied) / len(tied)


def chance(score: float) -> float:
    """A reward model's logit as a chance, since votes cannot be negative."""
    return 1 / (1 + math.exp(-score))


# --- ours -----------------------------------------------------------------------------------------


@cache
def stored(name: str) -> StoredSamples:
    return read_stored(DATA / f"{name}.jsonl", setting="evaluate.arms.0.samples")


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as opened:
        yield opened


@cache
def graded(name: str, grader: Grader) -> list[EvaluationRow]:
    return rows_from(stored(name), stored(name), grader, last_number=True)


def rows_from(
    samples: StoredSamples, whole: StoredSamples, grader: Grader, *, last_number: bool
) -> list[EvaluationRow]:
    """Graded by the reference answers of the whole file."""
    rows, dropped, _ = grade_stored(
        samples, stored_problems(whole, benchmark="set"), arm="theirs", benchmark="set",
        protocol="stored", grader=grader, count_tokens=lambda text: len(text.split()),
        last_number=last_number,
    )  # fmt: skip
    assert dropped == []
    return rows


def votes(name: str, grader: Grader) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for row in graded(name, grader):
        score = None if row.score is None else chance(row.score)
        right = row.verdict is Verdict.CORRECT
        groups[row.problem_id].append(Sample(vote_key(row), right, row.num_answer_tokens, score))
    return groups


def vote_key(row: EvaluationRow) -> str | None:
    """The answer, equal for its different spellings in these files."""
    return row.extracted and normalised(row.extracted.replace(" ", ""))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


# --- labels: our statistics alone -----------------------------------------------------------------


@pytest.mark.parametrize(("name", "k"), CASES)
def test_pass_at_k_of_the_stored_labels(name: str, k: int) -> None:
    groups: dict[str, list[bool]] = defaultdict(list)
    for sample in stored(name).samples:
        groups[sample.problem_row].append(bool(sample.labelled_correct))
    ours = [
        stats.pass_at_k(sum(labels), num_samples=len(labels), k=k) for labels in groups.values()
    ]
    assert mean(ours) == pytest.approx(brute(labelled(name), k, any_right), abs=1e-12)


@pytest.mark.parametrize(("name", "k"), CASES)
def test_maj_at_k_of_the_stored_answers(name: str, k: int) -> None:
    ours = [
        stats.maj_at_k(
            [sample.answer for sample in group], k=k, correct=[sample.correct for sample in group]
        )
        for group in labelled(name)
    ]
    assert mean(ours) == pytest.approx(brute(labelled(name), k, majority), abs=1e-12)


# --- our grader's verdicts ------------------------------------------------------------------------


@pytest.mark.parametrize("name", [AIME, MATH])
def test_our_verdicts_are_the_labels_but_for_the_wrong_ones(name: str, grader: Grader) -> None:
    differ = [
        (row.gold, row.extracted)
        for row, sample in zip(graded(name, grader), stored(name).samples, strict=True)
        if (row.verdict is Verdict.CORRECT) != sample.labelled_correct
    ]
    assert sorted(differ) == sorted(WRONG_LABELS[name])


@pytest.mark.parametrize(("name", "k"), CASES)
def test_pass_at_k_of_our_verdicts(name: str, k: int, grader: Grader) -> None:
    ours = [
        stats.pass_at_k(sum(sample.correct for sample in group), num_samples=len(group), k=k)
        for group in votes(name, grader).values()
    ]
    assert mean(ours) == pytest.approx(
        brute(labelled(name, corrected=True), k, any_right), abs=1e-12
    )


@pytest.mark.parametrize(
    ("name", "method", "rule"),
    [
        (AIME, "majority", majority),
        (MATH, "majority", majority),
        (MATH, "weighted", weighted),
        (MATH, "best-of-n", best),
    ],
)
def test_curves_of_our_verdicts_and_answers(name, method, rule, grader: Grader) -> None:
    samples, ks = votes(name, grader), range(1, NUM_SAMPLES[name] + 1)
    ours = vote_curve(samples, method=method, ks=ks, num_resamples=100)
    theirs = [brute(labelled(name, corrected=True), k, rule) for k in ks]
    assert [point.accuracy for point in ours] == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(("name", "accuracy"), [(AIME, 44 / 300), (MATH, 729 / 800)])
def test_accuracy_and_its_interval_over_problems(name, accuracy, grader: Grader) -> None:
    means = [mean([sample.correct for sample in group]) for group in votes(name, grader).values()]
    assert mean(means) == pytest.approx(accuracy)
    interval = stats.bootstrap_ci(means)
    spread = sum((value - accuracy) ** 2 for value in means) / len(means)
    half = 1.96 * math.sqrt(spread / len(means))  # of a mean over problems drawn anew
    assert (interval.low, interval.high) == pytest.approx(
        (accuracy - half, accuracy + half), abs=0.02
    )


# --- the whole stage ------------------------------------------------------------------------------


def evaluated(folder: Path, *arms: dict[str, object]) -> dict[str, Any]:
    """Summary of `slowthink evaluate` on a recipe with these arms and nothing else."""
    recipe = folder / "recipe.yaml"
    settings = {"arms": list(arms), "num_resamples": 1000}
    recipe.write_text(json.dumps({"name": "stored", "evaluate": settings}))
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(recipe), "--out", str(folder / "run"), "--quiet"])
    assert not stop.value.code
    summary: dict[str, Any] = read_manifest(folder / "run" / "evaluate")["facts"]["summary"]
    return summary


@pytest.mark.slow
@pytest.mark.parametrize("name", [AIME, MATH])
def test_the_evaluate_stage_gives_these_figures(name: str, tmp_path: Path) -> None:
    path = str(DATA / f"{name}.jsonl")
    summary = evaluated(tmp_path, {"name": "theirs", "samples": path, "last_number": True})
    (set_summary,) = summary["sets"]
    (arm,) = set_summary["arms"]
    (cell,) = arm["points"]
    groups = labelled(name, corrected=True)
    assert (set_summary["benchmark"], cell["n"], cell["num_samples"]) == (
        name, len(groups), NUM_SAMPLES[name],
    )  # fmt: skip
    assert cell["accuracy"] == pytest.approx(brute(groups, 1, any_right), abs=1e-12)
    assert cell["coverage"] == pytest.approx(brute(groups, NUM_SAMPLES[name], any_right))
    for rule, key in ((any_right, "pass_at_k"), (majority, "maj_at_k")):
        theirs = {k: brute(groups, int(k), rule) for k in cell[key]}
        assert cell[key] == pytest.approx(theirs, abs=1e-12)
        assert set(cell[key]) == {"1", "2", "4", "8", str(NUM_SAMPLES[name])}


@pytest.mark.slow
def test_exported_samples_are_evaluated_to_the_same_figures(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    arm = {"name": "theirs", "samples": str(DATA / f"{MATH}.jsonl"), "last_number": True}
    before = evaluated(tmp_path, arm)["sets"][0]["arms"][0]["points"]
    (file,) = export_run(tmp_path / "run", tmp_path / "out")["files"]
    after = evaluated(tmp_path / "again", arm | {"samples": file["path"]})
    assert after["sets"][0]["arms"][0]["points"] == before


# --- several models in one file -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "last_number", "more", "fewer"),
    [("gsm8k_openai_4models", True, 0, 0), ("math500_o1journey_12models", False, 39, 6)],
)
def test_each_model_s_verdicts_are_the_labels_but_for_the_ones_read(
    name: str, last_number: bool, more: int, fewer: int, grader: Grader
) -> None:
    """`more` samples are right by us and wrong by label, `fewer` the reverse: all read, LOG.md."""
    differ: Counter[bool] = Counter()
    for model in stored(name).models:
        own = select_model(stored(name), model=model)
        rows = rows_from(own, stored(name), grader, last_number=last_number)
        for row, sample in zip(rows, own.samples, strict=True):
            right = row.verdict is Verdict.CORRECT
            differ[right] += right != sample.labelled_correct
    assert (differ[True], differ[False]) == (more, fewer)


def test_samples_of_several_models_are_numbered_anew(grader: Grader) -> None:
    name = "gsm8k_openai_4models"
    first = [replace(sample, sample=0) for sample in stored(name).samples[:8]]
    some = replace(stored(name), samples=tuple(first))
    rows = rows_from(some, some, grader, last_number=True)
    assert [row.sample for row in rows] == [0, 1, 2, 3] * 2
