"""Are scores of chains more than their length? Model-free scores against correctness and attacks.

- `auc`: how often a right response scores above a wrong one to the same problem (ties half), mean
  over the problems that have both, with a bootstrap interval over problems: `plain`; `residual`, of
  what a line on the rank by length leaves of the rank by score, within problems; `matched`, of
  pairs whose lengths differ by at most 10 %. 0.5 is chance. Lower is better is turned round.
- `attacks`: how many attacked twins of honest chains score above them, by half of the corpus
- `matched_questions`: how often length alone ranks R1's distilled chain first on LIMO's questions
- `traces`: seconds of processor time to score all shared traces, and rank correlations

    python -m benchmarks.scores --json --data /work/shared/data

Length is the number of strict tokens (curation/overlap/tokens.py), so no model is needed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import main
from slowthink.analysis.statistics import average_ranks, bootstrap_ci, spearman
from slowthink.curation.overlap.tokens import hash_tokens
from slowthink.curation.scores import SCORES
from slowthink.curation.scores.preference import higher_is_better
from slowthink.curation.scores.score import ChainText, ScoreContext, Values
from slowthink.recipe import (
    ChecksScore,
    GuardedLimoScore,
    LengthScore,
    LimoV2Score,
    Recipe,
    RedundancyScore,
)
from slowthink.records import Problem, group_by

Rows = Sequence[Mapping[str, Any]]
CONFIGS = (
    LengthScore(), LimoV2Score(), GuardedLimoScore(), RedundancyScore(), ChecksScore(),
)  # fmt: skip
SAMPLES = ("math500_o1journey_12models", "math100_qwen_n8_rm")
ARMS = ("limo_r1_distill_qwen32b", "limo_qwen25_32b_instruct", "limo_official_solutions")
CORPUS = Path(__file__).parent.parent / "tests" / "fixtures" / "attacked_chains.jsonl"
MATCHED = 0.1
"""Largest difference of the lengths of a matched pair, as a share of the longer one."""


def run(*, path: Path | None = None) -> dict[str, Any]:
    """All figures; those of real chains only with `path`, a folder with samples/ and traces/."""
    figures: dict[str, Any] = {"attacks": attacks(read(CORPUS))}
    if path is None:
        return figures
    figures["auc"] = {name: auc_table(read(path / "samples" / f"{name}.jsonl")) for name in SAMPLES}
    figures["matched_questions"] = longest_first(path)
    traces = [row for file in sorted((path / "traces").glob("*.jsonl")) for row in read(file)]
    return figures | {"traces": traces_figures(traces)}


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


# --- scoring --------------------------------------------------------------------------------------


def score_rows(texts: Sequence[str], rows: Rows) -> list[Values]:
    """All model-free scores of each row's text, as one pool."""
    lengths = hash_tokens(texts).lengths.tolist()
    chains = [
        ChainText(
            problem=_problem(row), thinking=text, response="", num_thinking_tokens=length
        )
        for text, length, row in zip(texts, lengths, rows, strict=True)
    ]  # fmt: skip
    values: list[Values] = [{} for _ in rows]
    for config in CONFIGS:
        for all_values, new in zip(
            values, SCORES[config.kind](config).score(chains, _CONTEXT), strict=True
        ):
            all_values |= new
    return values


def _problem(row: Mapping[str, Any]) -> Problem:
    question = str(row["question"] or "")
    id = str(row.get("problem_id") or question)
    return Problem(id=id, duplicate_key=id, question=question, source="scores", source_row=id)


def _open_no_ledger() -> Any:
    raise RuntimeError("benchmarks.scores: a model-free score asked for the ledger")


_CONTEXT = ScoreContext(
    recipe=Recipe(name="scores"), open_ledger=_open_no_ledger, tag="scores", notify=print,
    progress=lambda done, total: None,
)  # fmt: skip


# --- right above wrong ----------------------------------------------------------------------------


def auc_table(rows: Rows) -> dict[str, Any]:
    """The AUC of every score, with and without length; and of the reward model, if rows have it."""
    values = score_rows([row["response"] for row in rows], rows)
    for scores, row in zip(values, rows, strict=True):
        if row.get("rm_score") is not None:
            scores["rm_score"] = float(row["rm_score"])
    names = sorted({name for scores in values for name in scores})
    return {name: auc_row(name, values, rows) for name in names}


def auc_row(name: str, values: Sequence[Values], rows: Rows) -> dict[str, Any]:
    """One score's AUC: plain, of the residual on log length, and of pairs of matched length."""
    sign = 1.0 if higher_is_better(name) else -1.0
    scored = [index for index, scores in enumerate(values) if name in scores]
    problems = group_by(scored, lambda index: str(rows[index]["problem_id"]))
    score = {index: sign * values[index][name] for index in scored}
    length = {index: math.log(max(1.0, values[index]["length"])) for index in scored}
    residual = _without(length, score, problems.values())
    tolerance = -math.log(1 - MATCHED)
    pairs = {
        problem: [
            (right, wrong)
            for right in indices if rows[right]["correct"]
            for wrong in indices if not rows[wrong]["correct"]
        ]
        for problem, indices in problems.items()
    }  # fmt: skip
    matched = {
        problem: [(a, b) for a, b in of_problem if abs(length[a] - length[b]) <= tolerance]
        for problem, of_problem in pairs.items()
    }
    return {
        "plain": _auc(score, pairs), "residual": _auc(residual, pairs),
        "matched": _auc(score, matched),
    }  # fmt: skip


def _without(x: Mapping[int, float], y: Mapping[int, float], groups: Any) -> dict[int, float]:
    """What is left of y's ranks within the groups after a common line on x's ranks."""
    x_ranks, y_ranks = _centred_ranks(x, groups), _centred_ranks(y, groups)
    product = sum(x_ranks[index] * y_ranks[index] for index in x_ranks)
    slope = product / (sum(rank**2 for rank in x_ranks.values()) or 1.0)
    return {index: y_ranks[index] - slope * x_ranks[index] for index in x_ranks}


def _centred_ranks(values: Mapping[int, float], groups: Any) -> dict[int, float]:
    """Ranks within each group, in [-0.5, 0.5]."""
    centred = {}
    for indices in groups:
        ranks = average_ranks([values[index] for index in indices])
        centred |= dict(zip(indices, ((ranks - ranks.mean()) / len(ranks)).tolist(), strict=True))
    return centred


def _auc(
    score: Mapping[int, float], pairs: Mapping[str, Sequence[tuple[int, int]]]
) -> dict[str, Any]:
    """Mean over problems of the share of pairs in which the first is higher; equal ones half."""
    shares = [
        float(np.mean([_wins(score[right], score[wrong]) for right, wrong in of_problem]))
        for of_problem in pairs.values()
        if of_problem
    ]
    bounds = bootstrap_ci(shares).bounds
    return {
        "auc": round(float(np.mean(shares)), 3) if shares else None,
        "ci95": bounds and [round(bound, 3) for bound in bounds],
        "num_problems": len(shares),
        "num_pairs": sum(map(len, pairs.values())),
    }


def _wins(right: float, wrong: float) -> float:
    return 0.5 if math.isclose(right, wrong, abs_tol=1e-9) else float(right > wrong)


# --- attacks, matched questions, traces -----------------------------------------------------------


def attacks(rows: Rows) -> dict[str, Any]:
    """By half: attacked chains, and how many score better than their honest twin."""
    values = score_rows([row["thinking"] for row in rows], rows)
    by_id = {row["id"]: scores for row, scores in zip(rows, values, strict=True)}
    figures: dict[str, Any] = {}
    for half in ("seen", "unseen"):
        attacked = [row for row in rows if row["half"] == half]
        figures[half] = {"num_attacks": len(attacked)} | {
            config.kind: sorted(row["id"] for row in attacked if _pays(config.kind, row, by_id))
            for config in CONFIGS
        }
    return {
        half: {key: len(value) if isinstance(value, list) else value for key, value in row.items()}
        | {"guarded_ids": row["limo-v2-guarded"], "checks_ids": row["effective-checks"]}
        for half, row in figures.items()
    }


def _pays(name: str, row: Mapping[str, Any], by_id: Mapping[str, Values]) -> bool:
    sign = 1 if higher_is_better(name) else -1
    return sign * by_id[row["id"]].get(name, 0) > sign * by_id[row["of"]].get(name, 0)


def longest_first(path: Path) -> dict[str, Any]:
    """Of LIMO's questions that all arms answered: how often the first has the longest chain."""
    arms = [
        {row["question"]: len(row["thinking"] or row["response"]) for row in read(file)}
        for file in (path / "traces" / f"{name}.jsonl" for name in ARMS)
    ]
    shared = [question for question in arms[0] if all(question in arm for arm in arms[1:])]
    num_first = sum(
        max(arm[question] for arm in arms[1:]) < arms[0][question] for question in shared
    )
    return {"num_questions": len(shared), "share_longest": round(num_first / len(shared), 4)}


def traces_figures(rows: Rows) -> dict[str, Any]:
    """Processor time of all scores together, and rank correlations between the whole scores."""
    texts = [str(row["thinking"] or row["response"]) for row in rows]
    start = time.process_time()
    values = score_rows(texts, rows)
    seconds = time.process_time() - start
    return {
        "num_traces": len(rows),
        "num_characters": sum(map(len, texts)),
        "cpu_seconds": round(seconds, 2),
        "spearman": {
            f"{a} ~ {b}": _correlation(a, b, values)
            for a, b in combinations([config.kind for config in CONFIGS], 2)
        },
    }


def _correlation(a: str, b: str, values: Sequence[Values]) -> dict[str, Any]:
    both = [(scores[a], scores[b]) for scores in values if a in scores and b in scores]
    return {"rho": round(spearman([x for x, _ in both], [y for _, y in both]), 3), "n": len(both)}


if __name__ == "__main__":
    main(run, __doc__)
