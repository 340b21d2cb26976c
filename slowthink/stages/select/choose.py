"""Choose among chains: filters, preselection, minimum quotas, the method, within limits."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

from slowthink.curation.scores.preference import RankedChain, order_chains, require_score
from slowthink.errors import DataError
from slowthink.pipeline.contract import count_values
from slowthink.recipe import SelectConfig
from slowthink.records import group_by, item_seed
from slowthink.stages.select import diversity, methods
from slowthink.stages.select.selection import Candidate, Rejection, Selection, kind_of

METHODS: dict[str, methods.Method] = {
    "s1": methods.pick_s1,
    "limo-v1": diversity.pick_balanced,
    "limo-v2": methods.pick_best_scores,
    "random": methods.pick_random,
    "diverse": diversity.pick_diverse,
    "longest": methods.pick_longest,
    "full": methods.pick_all,
}


MAX_KINDS = 9
"""Kinds that a warning about a quota lists."""


def make_selection(
    candidates: Sequence[Candidate], config: SelectConfig, *, seed: int
) -> Selection:
    """Choose among chains, independent of the order of problems.

    Raises DataError if chains lack a score or level that a setting requires.
    """
    passing, rejected = _filter_chains(candidates, config)
    require_score((chain.scores for chain in passing), config.prefer)
    chains = {
        id: _ordered(same, config, seed=seed)
        for id, same in sorted(group_by(passing, lambda chain: chain.id).items())
    }
    pool = [ordered[0] for ordered in chains.values()]
    take_all = config.num_problems is None or config.method == "full"
    selection = Selection(
        config, num_problems=len(pool) if take_all else config.num_problems or 0,
        rng=random.Random(item_seed(seed, "select", config.method)), chains=chains,
    )  # fmt: skip
    selection.rejected |= rejected
    selection.add_all(methods.preselect(pool, config), phase="preselect")
    for quota, stratum in _minimum_quotas(selection):
        _fill_quota(selection, quota, stratum)
    if pool and not selection.is_full:
        selection.add_all(METHODS[config.method](pool, selection), phase="draw")
    return selection


def _ordered(chains: Sequence[Candidate], config: SelectConfig, *, seed: int) -> list[Candidate]:
    """The chains of one problem, preferred ones first."""
    ranked = [
        RankedChain(
            chain=chain, chain_id=chain.chain_id, num_tokens=chain.num_tokens, scores=chain.scores
        )
        for chain in chains
    ]
    return order_chains(ranked, config.prefer, problem_id=chains[0].id, seed=seed)


# --- minimum quotas -------------------------------------------------------------------------------


def _minimum_quotas(selection: Selection) -> Iterator[tuple[int, str]]:
    """The index of each quota with a minimum, for each stratum to which it applies."""
    for index, quota in enumerate(selection.config.quotas):
        if quota.min and quota.value == "*":
            firsts = (chains[0] for chains in selection.chains.values())
            strata = {selection.stratum(index, candidate) for candidate in firsts}
            yield from ((index, stratum) for stratum in sorted(strata))
        elif quota.min:
            yield index, quota.value


def _fill_quota(selection: Selection, quota: int, stratum: str) -> None:
    """Add picks of the method among the stratum's candidates until the minimum is reached."""
    counts, minimum = selection.counts[quota], selection.config.quotas[quota].min
    candidates = [
        chains[0]
        for id, chains in selection.chains.items()
        if selection.stratum(quota, chains[0]) == stratum and id not in selection.chosen
    ]
    if not candidates:
        return
    picks = METHODS[selection.config.method](candidates, selection)
    while counts[stratum] < minimum and not selection.is_full:
        pick = next(picks, None)
        if pick is None:
            return
        selection.add(pick, phase="quota")


def unmet_quotas(selection: Selection) -> list[str]:
    """A line for each minimum quota that was not reached: what is missing, and what there is."""
    firsts = [chains[0] for chains in selection.chains.values()]
    lines = []
    for index, stratum in _minimum_quotas(selection):
        quota, num_selected = selection.config.quotas[index], selection.counts[index][stratum]
        if num_selected < quota.min:
            there = count_values(selection.stratum(index, candidate) for candidate in firsts)
            kinds = [f"{num:,} of {kind}" for kind, num in there.items()]
            listed = ", ".join(kinds[:MAX_KINDS]) + (", …" if len(kinds) > MAX_KINDS else "")
            lines.append(
                f"quota of {kind_of(quota, stratum)}: {quota.min} problems requested, "
                f"{num_selected} selected of {there.get(stratum, 0)} there; by "
                f"{quota.score or quota.by} there are: {listed or 'none'}. Add problems of this "
                f"kind, or lower select.quotas.{index}.min"
            )
    return lines


# --- filters of chains ----------------------------------------------------------------------------


def _filter_chains(
    chains: Sequence[Candidate], config: SelectConfig
) -> tuple[list[Candidate], dict[str, Rejection]]:
    """The chains with the required scores and level; why the others are rejected, by their keys."""
    required = dict(_required_scores(config))
    for name, setting in required.items():
        _require_some([chain.scores.get(name) for chain in chains], f"score `{name}`", setting,
                      remedy=_score_remedy(chains))  # fmt: skip
    for setting in ("min_level", "levels"):
        if getattr(config, setting) is not None:
            _require_some([chain.level for chain in chains], "level", setting, remedy=_NO_LEVEL)
    passing, rejected = [], {}
    for chain in chains:
        rejection = _unmet_filter(chain, config, required)
        if rejection is None:
            passing.append(chain)
        else:
            rejected[chain.key] = rejection
    return passing, rejected


def _required_scores(config: SelectConfig) -> Iterator[tuple[str, str]]:
    """Names of the scores that settings read, each with its setting."""
    for setting in ("min_scores", "max_scores"):
        yield from ((name, f"{setting}.{name}") for name in getattr(config, setting))
    for index, quota in enumerate(config.quotas):
        if quota.score is not None:
            yield quota.score, f"quotas.{index}"
    if config.method == "limo-v2":
        yield config.score, "method limo-v2"


def _unmet_filter(
    chain: Candidate, config: SelectConfig, required: Mapping[str, str]
) -> Rejection | None:
    for name, setting in required.items():
        if name not in chain.scores:
            return Rejection("no score", f"{name}, which {setting} needs")
    for name, minimum in config.min_scores.items():
        if (score := chain.scores[name]) < minimum:
            return Rejection("below a minimum score", f"{name} {score:g} < {minimum:g}")
    for name, maximum in config.max_scores.items():
        if (score := chain.scores[name]) > maximum:
            return Rejection("above a maximum score", f"{name} {score:g} > {maximum:g}")
    if config.min_level is not None and (chain.level or 0) < config.min_level:
        return Rejection("below the minimum level", f"level {chain.level} < {config.min_level}")
    if config.levels is not None and chain.level not in config.levels:
        listed = ", ".join(map(str, config.levels))
        return Rejection("of another level", f"level {chain.level}, not {listed}")
    return None


_NO_LEVEL = "Assign levels first: --set 'trace.levels={score: limo-v2}'."


def _score_remedy(chains: Sequence[Candidate]) -> str:
    known = sorted({name for chain in chains for name in chain.scores if "." not in name})
    if known:
        return f"They have {', '.join(known)}: name one of these."
    return "They have no scores: add `trace.scores`."


def _require_some(values: Sequence[float | None], name: str, setting: str, *, remedy: str) -> None:
    """Raise DataError if all are missing: a chain may be too long for a score, but not all."""
    if values and all(value is None for value in values):
        raise DataError(
            f"select: {len(values)} of {len(values)} traces have no {name}, which {setting} needs; "
            f"expected one in each. {remedy} Or leave {setting} out."
        )
