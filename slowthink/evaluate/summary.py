"""Rows → figures: accuracy with its interval at every point, and base against tuned.

{"max_thinking_tokens": 64, "waits": 0, "n": 200, "accuracy": 0.41, "ci95": [0.34, 0.48], …}
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slowthink.recipe import ArmConfig, ChatConfig
from slowthink.records import AnswerEnd, EvaluationRow, ThinkingEnd, Verdict
from slowthink.stats import Interval, bootstrap_ci, paired_bootstrap, wilson

PointKey = tuple[int, int, bool]
"""Cap, waits, forced."""


def summarise(
    rows: Sequence[EvaluationRow],
    arms: Sequence[ArmConfig],
    *,
    num_resamples: int,
    seed: int,
    chat: ChatConfig = ChatConfig(),  # noqa: B008
) -> dict[str, Any]:
    """All figures about the models' accuracy; `chat` is what an arm without its own has."""
    by_arm = {arm.name: _by_point(row for row in rows if row.arm == arm.name) for arm in arms}
    options = {"num_resamples": num_resamples, "seed": seed}
    cells = {
        name: {key: cell(found, **options) for key, found in points.items()}
        for name, points in by_arm.items()
    }
    headline, baseline = _roles(arms)
    tuned_key = _longest(cells[headline.name])
    tuned = cells[headline.name][tuned_key]
    summary = {
        "arms": [_arm(arm, chat, cells[arm.name], by_arm[arm.name]) for arm in arms],
        "tuned_accuracy": tuned["accuracy"],
        "tuned_point": tuned,
        "curve": [
            c for (_, waits, forced), c in cells[headline.name].items() if forced and not waits
        ],
        "waits": [
            c
            for (cap, _, forced), c in cells[headline.name].items()
            if forced and cap == tuned_key[0]
        ],
        "budget_violations": sum(bool(row.violations) for row in rows),
        "thinking_natural_rate": tuned["thinking_natural_rate"],
        "answer_eos_rate": tuned["answer_eos_rate"],
    }
    return summary | _difference(by_arm, cells, headline, baseline, tuned_key, **options)


def _roles(arms: Sequence[ArmConfig]) -> tuple[ArmConfig, ArmConfig | None]:
    """The arm that the headline is about, and the one it is measured against."""
    headline = next((arm for arm in arms if arm.model == "tuned"), arms[-1])
    baseline = next((arm for arm in arms if arm.model == "base"), arms[0])
    return headline, baseline if baseline is not headline else None


def _longest(cells: Mapping[PointKey, Any]) -> PointKey:
    """The largest cap, forced, no wait: fixed beforehand, not the best of the curve."""
    return max(key for key in cells if key[2] and not key[1])


def _by_point(rows: Iterable[EvaluationRow]) -> dict[PointKey, list[EvaluationRow]]:
    found: dict[PointKey, list[EvaluationRow]] = defaultdict(list)
    for row in rows:
        found[row.max_thinking_tokens, row.waits, row.forced].append(row)
    return dict(sorted(found.items(), key=lambda item: (not item[0][2], item[0])))


def cell(rows: Sequence[EvaluationRow], *, num_resamples: int, seed: int) -> dict[str, Any]:
    """The figures of one point of one arm."""
    first = rows[0]
    groups = scores(rows)
    accuracy, interval = accuracy_of(groups, num_resamples=num_resamples, seed=seed)
    return {
        "max_thinking_tokens": first.max_thinking_tokens,
        "waits": first.waits,
        "forced": first.forced,
        "n": len(groups),
        "accuracy": accuracy,
        "ci95": [interval.low, interval.high],
        "mean_thinking_tokens": _mean(row.num_thinking_tokens for row in rows),
        "mean_answer_tokens": _mean(row.num_answer_tokens for row in rows),
        "mean_waits_used": _mean(row.num_waits_used for row in rows),
        "truncated_rate": _share(rows, Verdict.TRUNCATED),
        "no_answer_rate": _share(rows, Verdict.NO_ANSWER),
        "num_ungradable": sum(row.verdict is Verdict.UNGRADABLE for row in rows),
        "num_grader_errors": sum(row.verdict is Verdict.GRADER_ERROR for row in rows),
        "thinking_natural_rate": _mean(row.thinking_end is ThinkingEnd.NATURAL for row in rows),
        "loop_rate": _mean(row.thinking_end is ThinkingEnd.LOOP for row in rows),
        "answer_eos_rate": _mean(row.answer_end is AnswerEnd.STOP for row in rows),
        "budget_violations": sum(bool(row.violations) for row in rows),
        "pass_rate_by_domain": _by_domain(rows),
    }


def scores(rows: Iterable[EvaluationRow]) -> dict[str, list[float]]:
    """1 or 0 per sample, by problem; what cannot be graded is left out, not counted as wrong."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.verdict.counts:
            found[row.problem_id].append(float(row.verdict is Verdict.CORRECT))
    return dict(sorted(found.items()))


def accuracy_of(
    groups: Mapping[str, Sequence[float]], *, num_resamples: int, seed: int
) -> tuple[float | None, Interval]:
    """Mean over problems of the mean over samples, with its 95 % interval over problems.

    Wilson's with one sample per problem (right also at 0 and 1), else the clustered bootstrap.
    None without gradable problems.
    """
    if not groups:
        return None, Interval(0.0, 1.0)
    accuracy = _mean(sum(group) / len(group) for group in groups.values())
    if all(len(group) == 1 for group in groups.values()):
        return accuracy, wilson(round(accuracy * len(groups)), len(groups))
    return accuracy, bootstrap_ci(dict(groups), num_resamples=num_resamples, seed=seed)


def _difference(
    by_arm: Mapping[str, Mapping[PointKey, Sequence[EvaluationRow]]],
    cells: Mapping[str, Mapping[PointKey, Any]],
    headline: ArmConfig,
    baseline: ArmConfig | None,
    tuned_key: PointKey,
    *,
    num_resamples: int,
    seed: int,
) -> dict[str, Any]:
    """The headline's longest point against the best that the baseline shows anywhere."""
    nothing = dict.fromkeys(("base_accuracy", "base_point", "difference", "difference_ci95"))
    if baseline is None or cells[headline.name][tuned_key]["accuracy"] is None:
        return nothing
    own = cells[baseline.name]
    best = max(own, key=lambda key: (own[key]["accuracy"] or 0.0, key))
    base, tuned = (
        {problem: sum(group) / len(group) for problem, group in scores(found).items()}
        for found in (by_arm[baseline.name][best], by_arm[headline.name][tuned_key])
    )
    shared = sorted(base.keys() & tuned.keys())
    if not shared:
        return nothing
    paired = paired_bootstrap(
        [base[p] for p in shared], [tuned[p] for p in shared],
        num_resamples=num_resamples, seed=seed,
    )  # fmt: skip
    return {
        "base_accuracy": own[best]["accuracy"],
        "base_point": own[best],
        "difference": paired.difference,
        "difference_ci95": [paired.ci95.low, paired.ci95.high],
        "difference_n": len(shared),
    }


def _arm(
    arm: ArmConfig,
    chat: ChatConfig,
    cells: Mapping[PointKey, Any],
    points: Mapping[PointKey, Sequence[EvaluationRow]],
) -> dict[str, Any]:
    rows = next(iter(points.values()))
    drawn = arm.sampling
    how = f"T={drawn.temperature}, top-p {drawn.top_p}" if drawn.temperature else "greedy"
    return {
        "name": arm.name,
        "model": rows[0].model,
        "format": (arm.chat or chat).format,
        "num_problems": len({row.problem_id for row in rows}),
        "num_samples": arm.num_samples,
        "protocol": f"{how}, {arm.num_samples} sample{'s' * (arm.num_samples > 1)}",
        "points": list(cells.values()),
    }


def _by_domain(rows: Sequence[EvaluationRow]) -> dict[str, dict[str, float]]:
    domains: dict[str, list[EvaluationRow]] = defaultdict(list)
    for row in rows:
        domains[row.domain or "unknown"].append(row)
    found = {}
    for domain, members in sorted(domains.items()):
        groups = scores(members)
        if groups:
            means = [sum(group) / len(group) for group in groups.values()]
            found[domain] = {"n": len(groups), "accuracy": _mean(means)}
    return found


def _share(rows: Sequence[EvaluationRow], verdict: Verdict) -> float:
    return _mean(row.verdict is verdict for row in rows)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
