"""The headline of a run: a few figures, each a label, a value and a sentence.

The page's cards and the terminal's lines are both made from these, so they cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from slowthink.stages.report.sets import headline_arm_names
from slowthink.stages.report.tables import Json
from slowthink.stages.report.text import (
    budget_label,
    count,
    includes_zero,
    interval,
    percent,
    percentage_points,
)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of the headline."""

    label: str
    value: str
    """After a change: the later value."""
    before: str = ""
    """Before a change: the earlier value."""
    note: str = ""
    alarm: bool = False

    def line(self) -> str:
        """The figure on one line of a terminal."""
        value = f"{self.before} -> {self.value}" if self.before else self.value
        return f"{self.label}: {value}" + (f" ({self.note})" if self.note else "")


def headline_figures(head: Json) -> list[Figure]:
    """Accuracy first; then pass@k and maj@k, the effect of thinking, and budgets, as measured."""
    return [*_accuracy(head), *_samples(head), *_thinking(head), *_budgets(head)]


def arm_names(head: Json) -> tuple[str, str]:
    """Names of the baseline and of the arm that the headline is about."""
    names = headline_arm_names(head["sets"][0], head) if head["sets"] else {}
    return names.get("base") or "base", names.get("tuned") or "tuned"


def _accuracy(head: Json) -> Iterator[Figure]:
    point, base_point = head["tuned_point"], head["base_point"]
    base, tuned = arm_names(head)
    if head["base_accuracy"] is not None and head["tuned_accuracy"] is not None:
        bounds, n = head["difference_ci95"], head.get("difference_n") or (point or {}).get("n")
        budgets = (
            f"{base} {budget_label(base_point)}; {tuned} {budget_label(point)}; "
            if base_point and point else ""
        )  # fmt: skip
        parts = [f"{percentage_points(head['difference'])} points"]
        parts += [f"paired 95 % interval {interval(bounds)}"] if bounds else []
        parts += [f"n = {count(n)} problems"] if n else []
        note = budgets + ", ".join(parts)
        if includes_zero(bounds):
            note += ". The 95 % interval includes 0: no difference is established"
        yield Figure(
            label=f"Accuracy, {base} to {tuned}", before=percent(head["base_accuracy"]),
            value=percent(head["tuned_accuracy"]), note=note,
        )  # fmt: skip
    elif point:
        bounds = point.get("ci95")
        parts = [f"95 % interval {interval(bounds)}"] if bounds else []
        parts += [f"n = {count(point['n'])} problems; {budget_label(point)}"]
        yield Figure(
            label=f"Accuracy, {tuned}", value=percent(point.get("accuracy")), note=", ".join(parts)
        )


def _samples(head: Json) -> Iterator[Figure]:
    """pass@k and maj@k at the largest k, for several samples of a problem."""
    point = head["tuned_point"] or {}
    passes, majorities = point.get("pass_at_k") or {}, point.get("maj_at_k") or {}
    k = max(map(int, passes), default=1)
    if k > 1:
        yield Figure(
            label=f"pass@{k} and maj@{k}, {arm_names(head)[1]}",
            value=f"{percent(passes[str(k)])}, {percent(majorities.get(str(k)))}",
            note=f"{count(point.get('num_samples'))} samples of each problem",
        )


def _thinking(head: Json) -> Iterator[Figure]:
    """Accuracy at the smallest and the largest cap; a claim only if the paired interval allows."""
    curve = head["curve"]
    if len(curve) < 2:
        return
    gain = head.get("thinking_gain") or {}
    caps = f"{budget_label(curve[0])} to {budget_label(curve[-1])}"
    note = caps
    if bounds := gain.get("ci95"):
        claim = (
            "no difference is established" if includes_zero(bounds)
            else "thinking pays" if bounds[0] > 0 else "thinking costs accuracy"
        )  # fmt: skip
        points = percentage_points(gain["difference"])
        note = f"{caps}: {points} points, paired 95 % interval {interval(bounds)}; {claim}"
    yield Figure(
        label=f"Accuracy by thinking budget, {arm_names(head)[1]}", note=note,
        before=percent(curve[0].get("accuracy")), value=percent(curve[-1].get("accuracy")),
    )  # fmt: skip


def _budgets(head: Json) -> Iterator[Figure]:
    """Violations, if any arm had a budget: stored samples have none."""
    num = head["budget_violations"]
    has_budgets = any(
        point.get("forced", True)
        for eval_set in head["sets"]
        for arm in eval_set["arms"]
        for point in arm["points"]
    )
    if num is not None and (has_budgets or num):
        note = "Every token id was checked against its budget" if has_budgets else ""
        value = "all held" if not num else f"{count(num)} violation{'s' if num != 1 else ''}"
        yield Figure(label="Budgets", value=value, note=note, alarm=bool(num))
