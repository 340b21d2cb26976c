"""Choose among candidates: preselection, minimum quotas, then the method, within the limits."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence

from slowthink.errors import DataError
from slowthink.recipe import QuotaConfig, SelectConfig
from slowthink.records import item_seed
from slowthink.stages.select import diversity, methods
from slowthink.stages.select.selection import Candidate, Rejection, Selection

METHODS: dict[str, methods.Method] = {
    "s1": methods.pick_s1,
    "limo-v1": diversity.pick_balanced,
    "limo-v2": methods.pick_highest_scores,
    "random": methods.pick_random,
    "diverse": diversity.pick_diverse,
    "longest": methods.pick_longest,
    "full": methods.pick_all,
}


def make_selection(
    candidates: Sequence[Candidate], config: SelectConfig, *, seed: int
) -> Selection:
    """Choose among candidates with distinct ids, independent of their order.

    Raises DataError if candidates lack a score or level that the method or a minimum requires.
    """
    take_all = config.num_problems is None or config.method == "full"
    selection = Selection(
        config, num_problems=len(candidates) if take_all else config.num_problems or 0,
        rng=random.Random(item_seed(seed, "select", config.method)),
    )  # fmt: skip
    pool = list(_above_minimum_scores(sorted(candidates), selection))
    if config.method == "limo-v2":
        scores = [candidate.scores.get(config.score) for candidate in pool]
        _require_values(scores, f"score `{config.score}`", "method limo-v2")
    selection.add_all(methods.preselect(pool, config), phase="preselect")
    for quota, stratum in _minimum_quotas(pool, config.quotas):
        _fill_quota(selection, pool, quota, stratum)
    if pool and not selection.is_full:
        selection.add_all(METHODS[config.method](pool, selection), phase="draw")
    return selection


# --- minimum quotas -------------------------------------------------------------------------------


def _minimum_quotas(
    pool: Sequence[Candidate], quotas: Iterable[QuotaConfig]
) -> Iterator[tuple[QuotaConfig, str]]:
    """Each quota with a minimum, for each stratum to which it applies."""
    for quota in quotas:
        if quota.min and quota.value == "*":
            strata = {candidate.stratum(quota.by) for candidate in pool}
            yield from ((quota, stratum) for stratum in sorted(strata))
        elif quota.min:
            yield quota, quota.value


def _fill_quota(
    selection: Selection, pool: Sequence[Candidate], quota: QuotaConfig, stratum: str
) -> None:
    """Add picks of the method among the stratum's candidates until the minimum is reached."""
    counts = selection.counts[quota.by]
    candidates = [
        candidate
        for candidate in pool
        if candidate.stratum(quota.by) == stratum and candidate.id not in selection.chosen
    ]
    if not candidates:
        return
    picks = METHODS[selection.config.method](candidates, selection)
    while counts[stratum] < quota.min and not selection.is_full:
        pick = next(picks, None)
        if pick is None:
            return
        selection.add(pick, phase="quota")


def unmet_quotas(selection: Selection, candidates: Sequence[Candidate]) -> list[str]:
    """A line for each minimum quota that was not reached."""
    return [
        f"quota of {quota.by} {stratum}: {quota.min} requested, {count} selected"
        for quota, stratum in _minimum_quotas(candidates, selection.config.quotas)
        if (count := selection.counts[quota.by][stratum]) < quota.min
    ]


# --- minimum scores -------------------------------------------------------------------------------


def _above_minimum_scores(
    candidates: Sequence[Candidate], selection: Selection
) -> Iterator[Candidate]:
    """The candidates with the required scores and level; the others are rejected."""
    config = selection.config
    for name in config.min_scores:
        scores = [candidate.scores.get(name) for candidate in candidates]
        _require_values(scores, f"score `{name}`", f"min_scores.{name}")
    if config.min_level is not None:
        _require_values([candidate.level for candidate in candidates], "level", "min_level")
    for candidate in candidates:
        rejection = _below_minimum(candidate, config)
        if rejection is None:
            yield candidate
        else:
            selection.rejected[candidate.id] = rejection


def _below_minimum(candidate: Candidate, config: SelectConfig) -> Rejection | None:
    for name, minimum in config.min_scores.items():
        score = candidate.scores[name]
        if score < minimum:
            return Rejection("below a minimum score", f"{name} {score:g} < {minimum:g}")
    if config.min_level is not None and (candidate.level or 0) < config.min_level:
        return Rejection("below the minimum level", f"level {candidate.level} < {config.min_level}")
    return None


def _require_values(values: Sequence[float | None], name: str, setting: str) -> None:
    num_missing = sum(value is None for value in values)
    if num_missing:
        raise DataError(
            f"select: {num_missing} of {len(values)} traces have no {name}, which {setting} needs; "
            "expected one in each. Add scores to the traces first, or use another method "
            "(--set select.method=s1)."
        )
