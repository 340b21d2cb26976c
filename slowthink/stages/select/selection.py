"""The choice itself: preselection, minimum quotas, then the method, within the limits.

Chosen(place=12, phase="draw", why="draw 12: Geometry, 1 of 31 domains, rank 1 of 40")
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from slowthink.errors import DataError
from slowthink.recipe import QuotaConfig, SelectConfig
from slowthink.records import item_seed
from slowthink.stages.select.choose import (
    Candidate,
    Drawing,
    Method,
    Pick,
    draw_full,
    draw_highest,
    draw_longest,
    draw_random,
    draw_s1,
    preselected,
)
from slowthink.stages.select.spread import draw_balanced, draw_diverse

METHODS: dict[str, Method] = {
    "s1": draw_s1,
    "limo-v1": draw_balanced,
    "limo-v2": draw_highest,
    "random": draw_random,
    "diverse": draw_diverse,
    "longest": draw_longest,
    "full": draw_full,
}


@dataclass(frozen=True, slots=True)
class Chosen:
    """Why a candidate is in."""

    place: int
    """How many had been chosen with it; from 1."""
    phase: str
    """preselect | quota | draw."""
    why: str


@dataclass(frozen=True, slots=True)
class Left:
    """Why a candidate is not in, where there is more to say than that it was not chosen."""

    reason: str
    evidence: str = ""


class Selection:
    """What is chosen so far; takes what the limits allow."""

    def __init__(self, config: SelectConfig, *, number: int) -> None:
        self.chosen: dict[str, Chosen] = {}
        self.left: dict[str, Left] = {}
        self.num_wasted = 0
        """Draws of what had been chosen before (preselected, or by a quota)."""
        self.num_tokens = 0
        self.counts: dict[str, Counter[str]] = {by: Counter() for by in _KINDS}
        self._number = number
        self._config = config

    @property
    def is_full(self) -> bool:
        """Whether nothing more is taken."""
        return len(self.chosen) >= self._number

    def offer(self, pick: Pick, *, phase: str) -> bool:
        """Take the candidate if it is new and no limit is against it; else note the limit."""
        candidate = pick.candidate
        if candidate.id in self.chosen:
            self.num_wasted += 1
            return False
        limit = self._limit(candidate)
        if limit is not None:
            self.left[candidate.id] = limit
            return False
        self.left.pop(candidate.id, None)
        self.chosen[candidate.id] = Chosen(len(self.chosen) + 1, phase, pick.why)
        self.num_tokens += candidate.num_tokens
        for by, count in self.counts.items():
            count[kind_of(candidate, by)] += 1
        return True

    def note(self, id: str, reason: str, evidence: str) -> None:
        """Why a method passes a candidate over."""
        self.left[id] = Left(reason, evidence)

    def _limit(self, candidate: Candidate) -> Left | None:
        for quota in self._config.quotas:
            kind = kind_of(candidate, quota.by)
            full = quota.max is not None and self.counts[quota.by][kind] >= quota.max
            if full and quota.value in ("*", kind):
                return Left("over a quota", f"{quota.by} {kind}: {quota.max} at most")
        most = self._config.max_total_tokens
        if most is not None and self.num_tokens + candidate.num_tokens > most:
            evidence = f"{candidate.num_tokens} tokens; {most - self.num_tokens} of {most} left"
            return Left("over the token budget", evidence)
        return None


_KINDS = ("domain", "source", "level")


def kind_of(candidate: Candidate, by: str) -> str:
    """The domain, source or level as text."""
    return str(getattr(candidate, by))


def make_selection(
    candidates: Sequence[Candidate], config: SelectConfig, *, seed: int
) -> Selection:
    """The choice; the order of `candidates`, which have an id each, does not matter.

    Raises DataError where a method or a minimum needs scores or levels that are not there.
    """
    number = len(candidates) if config.num_problems is None else config.num_problems
    number = len(candidates) if config.method == "full" else number
    selection = Selection(config, number=number)
    pool = list(_good_enough(sorted(candidates), selection, config))
    if config.method == "limo-v2":
        _require_score(pool, config.score, "method limo-v2")
    drawing = Drawing(
        config=config, rng=random.Random(item_seed(seed, "select", config.method)),
        number=number, chosen=selection.chosen, note=selection.note,
    )  # fmt: skip
    _take(selection, preselected(pool, config), phase="preselect")
    for quota, kind in _minimums(pool, config.quotas):
        _fill_minimum(selection, pool, drawing, quota, kind)
    if pool and not selection.is_full:
        _take(selection, METHODS[config.method](pool, drawing), phase="draw")
    return selection


def _take(selection: Selection, picks: Iterable[Pick], *, phase: str) -> None:
    for pick in picks:
        if selection.is_full:
            return
        selection.offer(pick, phase=phase)
        if selection.is_full:
            return


def _minimums(
    pool: Sequence[Candidate], quotas: Iterable[QuotaConfig]
) -> Iterator[tuple[QuotaConfig, str]]:
    """Each quota with a minimum, for each kind that it is about."""
    for quota in quotas:
        if quota.min and quota.value == "*":
            yield from ((quota, kind) for kind in sorted({kind_of(c, quota.by) for c in pool}))
        elif quota.min:
            yield quota, quota.value


def _fill_minimum(
    selection: Selection, pool: Sequence[Candidate], drawing: Drawing, quota: QuotaConfig, kind: str
) -> None:
    count = selection.counts[quota.by]
    fitting = [
        one for one in pool if kind_of(one, quota.by) == kind and one.id not in selection.chosen
    ]
    picks = METHODS[drawing.config.method](fitting, drawing) if fitting else iter(())
    open_places = itertools.takewhile(lambda _: count[kind] < quota.min, itertools.count())
    for _ in open_places:
        pick = None if selection.is_full else next(picks, None)
        if pick is None:
            return
        selection.offer(pick, phase="quota")


def unmet(
    selection: Selection, candidates: Sequence[Candidate], quotas: Iterable[QuotaConfig]
) -> list[str]:
    """A line for each minimum that could not be had."""
    return [
        f"quota of {quota.by} {kind}: {quota.min} were asked for, {have} could be had"
        for quota, kind in _minimums(candidates, quotas)
        if (have := selection.counts[quota.by][kind]) < quota.min
    ]


# --- minimum scores -------------------------------------------------------------------------------


def _good_enough(
    candidates: Sequence[Candidate], selection: Selection, config: SelectConfig
) -> Iterator[Candidate]:
    for name in config.min_scores:
        _require_score(candidates, name, f"min_scores.{name}")
    if config.min_level is not None:
        missing = sum(one.level is None for one in candidates)
        _refuse_missing(missing, len(candidates), "level", "min_level")
    for candidate in candidates:
        reason = _too_low(candidate, config)
        if reason is None:
            yield candidate
        else:
            selection.left[candidate.id] = reason


def _too_low(candidate: Candidate, config: SelectConfig) -> Left | None:
    for name, least in config.min_scores.items():
        if candidate.scores[name] < least:
            return Left("below a minimum score", f"{name} {candidate.scores[name]:g} < {least:g}")
    if config.min_level is not None and (candidate.level or 0) < config.min_level:
        return Left("below the minimum level", f"level {candidate.level} < {config.min_level}")
    return None


def _require_score(candidates: Sequence[Candidate], name: str, setting: str) -> None:
    missing = sum(name not in candidate.scores for candidate in candidates)
    _refuse_missing(missing, len(candidates), f"score `{name}`", setting)


def _refuse_missing(missing: int, total: int, what: str, setting: str) -> None:
    if missing:
        raise DataError(
            f"select: {missing} of {total} traces have no {what}, which {setting} needs; expected "
            "one in each. Give the traces scores before, or take another method "
            "(--set select.method=s1)."
        )
