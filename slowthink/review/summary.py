"""What people found, in figures: agreement with each other and with the scores of the run.

{"num_chains": 50, "num_done": 48, "alpha": 0.71, "reviewers": {"Ann": {"chains": 50, …}, …}, …}

Agreement is of judgements made blind: those that a reviewer changed after seeing the others' count
for the training set, not for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slowthink.analysis.agreement import krippendorff_alpha, quadratic_kappa
from slowthink.analysis.statistics import none_if_nan, spearman
from slowthink.curation.scores.levels import assign_levels
from slowthink.curation.scores.preference import higher_is_better
from slowthink.data.reviews import EQUAL, PAIR, Judgement, by_chain, is_rejected, latest
from slowthink.recipe import LevelsConfig
from slowthink.review.chains import ReviewChain, ReviewSet

FAR = 2
"""Levels apart from which a disagreement is listed."""
TRACE_LEVEL = "level of the trace stage"


def summarise(
    reviewed: ReviewSet, judgements: Iterable[Judgement], *, num_reviewers: int
) -> dict[str, Any]:
    """Progress, agreement, disagreements, and agreement with the scores; as JSON."""
    known = [each for each in judgements if reviewed.item(each.item)]
    blind = latest(each for each in known if each.blind)
    levels = _by_item({key: each.level for key, each in blind.items() if each.level is not None})
    preferred = _by_item(
        {key: _preference(each) for key, each in blind.items() if each.kind == "pair"}
    )
    counts: dict[str, int] = {}
    for item, _ in latest(known):
        counts[item] = counts.get(item, 0) + 1
    chains = by_chain(known)
    return {
        "num_chains": sum(item.kind == "chain" for item in reviewed.items.values()),
        "num_pairs": sum(item.kind == "pair" for item in reviewed.items.values()),
        "num_reviewers": num_reviewers,
        "num_done": sum(counts.get(item, 0) >= num_reviewers for item in reviewed.items),
        "reviewers": _reviewers(known),
        "num_rejected": sum(map(is_rejected, chains.values())),
        "alpha": _round(krippendorff_alpha(tuple(same.values()) for same in levels.values())),
        "num_rated_twice": sum(len(same) > 1 for same in levels.values()),
        "pairs_of_reviewers": _pairs_of_reviewers(levels),
        "preference_alpha": _round(
            krippendorff_alpha(tuple(same.values()) for same in preferred.values())
        ),
        "scores": _scores(reviewed.chains, levels),
        "disagreements": [
            {"chain": item, "levels": same}
            for item, same in levels.items()
            if max(same.values()) - min(same.values()) >= FAR
        ],
    }  # fmt: skip


def _preference(judgement: Judgement) -> int:
    """0, 1 or 2: the first chain of the pair is better, neither is, the second is."""
    order = judgement.item.split(PAIR)
    order.insert(1, EQUAL)
    return order.index(judgement.preferred or EQUAL)


def _by_item(values: Mapping[tuple[str, str], Any]) -> dict[str, dict[str, Any]]:
    """By item, then by reviewer; both sorted."""
    items: dict[str, dict[str, Any]] = {}
    for (item, reviewer), value in sorted(values.items()):
        items.setdefault(item, {})[reviewer] = value
    return items


def _reviewers(judgements: Sequence[Judgement]) -> dict[str, dict[str, int]]:
    figures: dict[str, dict[str, int]] = {}
    for (_, reviewer), each in sorted(latest(judgements).items()):
        own = figures.setdefault(reviewer, {"chains": 0, "pairs": 0, "bad": 0})
        own[f"{each.kind}s"] += 1
        own["bad"] += each.is_bad
    return figures


def _pairs_of_reviewers(levels: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    names = sorted({name for same in levels.values() for name in same})
    rows = []
    for a, b in itertools.combinations(names, 2):
        both = [(same[a], same[b]) for same in levels.values() if a in same and b in same]
        if both:
            first, second = zip(*both, strict=True)
            exact = sum(x == y for x, y in both) / len(both)
            kappa = quadratic_kappa(first, second)
            rows.append({
                "a": a, "b": b, "n": len(both), "exact": _round(exact), "kappa": _round(kappa)
            })  # fmt: skip
    return rows


def _scores(
    chains: Mapping[str, ReviewChain], levels: Mapping[str, Mapping[str, int]]
) -> list[dict[str, Any]]:
    """Rank correlation of the median level with each score, and kappa with five bands of it."""
    medians = {item: sorted(same.values())[(len(same) - 1) // 2] for item, same in levels.items()}
    values = {item: dict(chains[item].scores) for item in medians}
    for item, scores in values.items():
        if chains[item].level is not None:
            scores[TRACE_LEVEL] = float(chains[item].level or 0)
    rows = []
    for name in sorted({name for scores in values.values() for name in scores}):
        items = [item for item in medians if name in values[item]]
        people = [medians[item] for item in items]
        config = LevelsConfig(score=name, cut="value" if name == TRACE_LEVEL else "equal")
        bands = assign_levels([values[item] for item in items], items, config)
        sign = 1 if higher_is_better(name) else -1
        rho = none_if_nan(spearman(people, [sign * values[item][name] for item in items]))
        kappa = quadratic_kappa(people, [band or 0 for band in bands])
        rows.append(
            {"score": name, "n": len(items), "spearman": _round(rho), "kappa": _round(kappa)}
        )
    return rows


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def summary_text(figures: Mapping[str, Any]) -> str:
    """The figures as lines of text."""
    items = figures["num_chains"] + figures["num_pairs"]
    lines = [
        f"items             {items} ({figures['num_chains']} chains, "
        f"{figures['num_pairs']} pairs), {figures['num_done']} done by "
        f"{figures['num_reviewers']} reviewers",
        *(
            f"{name[:17]:17} {own['chains']} chains, {own['pairs']} pairs, {own['bad']} bad"
            for name, own in figures["reviewers"].items()
        ),
        f"alpha             {_shown(figures['alpha'])} of {figures['num_rated_twice']} chains with "
        "two blind levels or more (Krippendorff, ordinal)",
    ]
    lines += [
        f"kappa             {_shown(row['kappa'])} {row['a']}, {row['b']}: {row['n']} chains, "
        f"{row['exact']:.0%} equal (quadratic weights)"
        for row in figures["pairs_of_reviewers"]
    ]
    if figures["preference_alpha"] is not None:
        lines.append(f"preferences       alpha {_shown(figures['preference_alpha'])}")
    lines += [
        f"{row['score'][:17]:17} Spearman {_shown(row['spearman'])}, kappa {_shown(row['kappa'])} "
        f"with the median level of {row['n']} chains"
        for row in figures["scores"]
    ]
    lines += [
        f"far apart         {row['chain']}: "
        + ", ".join(f"{name} {level}" for name, level in row["levels"].items())
        for row in figures["disagreements"]
    ]
    if figures["num_rejected"]:
        lines.append(f"bad               {figures['num_rejected']} chains, which select drops")
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
