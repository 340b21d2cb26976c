"""Methods of selection: pure functions from candidates and a seeded selection to picks, best first.

s1's domain sampling (arXiv 2501.19393, Algorithm 1, diversity phase): sample a domain uniformly;
in it sample a problem with weight 2^-rank, rank 0 being its longest remaining trace, without
replacement; remove a domain once it is empty. Preselected problems stay in their domain, as in the
paper and its notebook: sampling one again adds nothing. Once 700 are chosen, the notebook samples
domains as often as they occur in benchmarks (simplescaling/s1@77272c6: data/filter.ipynb).
"""

from __future__ import annotations

import fnmatch
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from slowthink.recipe import PreselectRule, SelectConfig
from slowthink.stages.select.selection import Candidate, Pick, Selection

Method = Callable[[Sequence[Candidate], Selection], Iterator[Pick]]
"""Yields picks in the order in which they are added to the selection, which it may read."""

AIME, GPQA = ("*aime*",), ("*gpqa*",)
MATH = ("math", "math_train", "*openaimath*", "hendrycks*math*")
MATH_MIN_TOKENS = {"paper": 5_600, "notebook": 5_601}
"""Algorithm 1 has "at least", the notebook "more than"."""


def draw_s1(candidates: Sequence[Candidate], selection: Selection) -> Iterator[Pick]:
    """All candidates, in the order in which Algorithm 1 or the notebook samples them."""
    config, rng = selection.config, selection.rng
    by_domain: dict[str, list[Candidate]] = {}
    for candidate in longest_first(candidates):
        by_domain.setdefault(candidate.domain, []).append(candidate)
    domains = sorted(by_domain)
    weights: Mapping[str, float] = {}
    if config.mode == "notebook":
        weights = config.benchmark_domains or benchmark_histogram(candidates)
    for draw in itertools.count(1):
        if not domains:
            return
        weighted = bool(weights) and len(selection.chosen) >= config.switch_at
        domain = _sample_domain(domains, weights if weighted else {}, rng.random())
        remaining = by_domain[domain]
        rank, size = sample_rank(rng.random(), len(remaining)), len(remaining)
        why = f"draw {draw}: {domain}, 1 of {len(domains)} domains, rank {rank} of {size}"
        yield Pick(remaining.pop(rank), f"{why}, benchmarks' domains" if weighted else why)
        if not remaining:
            domains.remove(domain)


def longest_first(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Sorted by thinking tokens, most first; ties by id."""
    return sorted(candidates, key=lambda one: (-one.num_thinking_tokens, one.id))


def _sample_domain(domains: Sequence[str], weights: Mapping[str, float], point: float) -> str:
    """The domain at a point of [0, 1) by weight; uniform if no domain has a weight."""
    shares = [weights.get(domain, 0.0) for domain in domains]
    total = sum(shares)
    if not total:
        return domains[int(point * len(domains))]
    ends = list(itertools.accumulate(shares))
    return next(
        (domain for domain, end in zip(domains, ends, strict=True) if point * total < end),
        domains[max(index for index, share in enumerate(shares) if share)],
    )


def benchmark_histogram(candidates: Iterable[Candidate]) -> dict[str, float]:
    """AIME's count by domain + int(GPQA's * r), with r = AIME's total / (2 * GPQA's total).

    Empty without problems of either.
    """
    candidates = list(candidates)
    aime = Counter(one.domain for one in candidates if matches_any(one.source, AIME))
    gpqa = Counter(one.domain for one in candidates if matches_any(one.source, GPQA))
    scale = 0.5 * aime.total() / gpqa.total() if gpqa else 0.0
    summed = {domain: float(aime[domain] + int(gpqa[domain] * scale)) for domain in {*aime, *gpqa}}
    return {domain: weight for domain, weight in sorted(summed.items()) if weight}


def sample_rank(point: float, num_ranks: int) -> int:
    """The rank at a point of [0, 1), where rank r has weight 2^-r.

    Ranks below r have the share (1 - 2^-r) / (1 - 2^-n); solved for r.
    """
    whole = -math.expm1(-num_ranks * math.log(2))
    return min(int(-math.log2(1 - point * whole)), num_ranks - 1)


def draw_random(candidates: Sequence[Candidate], selection: Selection) -> Iterator[Pick]:
    """A uniform sample without replacement; then the others, as replacements."""
    by_id = {candidate.id: candidate for candidate in candidates}
    rng = selection.rng
    for id in rng.sample(sorted(by_id), min(selection.num_problems, len(by_id))):
        yield Pick(by_id.pop(id), "drawn uniformly")
    for id in rng.sample(sorted(by_id), len(by_id)):
        yield Pick(by_id[id], "drawn uniformly, in place of one that could not be taken")


def draw_longest(candidates: Sequence[Candidate], selection: Selection) -> Iterator[Pick]:
    """Most thinking tokens first, ties by id."""
    for rank, candidate in enumerate(longest_first(candidates), 1):
        yield Pick(candidate, f"rank {rank} of {len(candidates)} by length")


def draw_highest(candidates: Sequence[Candidate], selection: Selection) -> Iterator[Pick]:
    """LIMO v2's (arXiv 2502.03387v3, section 3.2): highest score first, ties by id."""
    name = selection.config.score
    ordered = sorted(candidates, key=lambda one: (-one.scores[name], one.id))
    for rank, candidate in enumerate(ordered, 1):
        score = f"{name} {candidate.scores[name]:g}"
        yield Pick(candidate, f"rank {rank} of {len(ordered)} by {score}")


def draw_full(candidates: Sequence[Candidate], selection: Selection) -> Iterator[Pick]:
    """All candidates, by id."""
    for candidate in sorted(candidates):
        yield Pick(candidate, "all are taken")


# --- preselection ---------------------------------------------------------------------------------


def preselected(candidates: Iterable[Candidate], config: SelectConfig) -> Iterator[Pick]:
    """The candidates that a rule of `preselect` matches, longest first, ties by id."""
    rules = config.preselect or ()
    if rules == "s1":
        rules = (
            PreselectRule(sources=(*AIME, *GPQA)),
            PreselectRule(sources=MATH, min_thinking_tokens=MATH_MIN_TOKENS[config.mode]),
        )
    for candidate in longest_first(candidates):
        for number, rule in enumerate(rules, 1):
            if _matches_rule(candidate, rule):
                yield Pick(candidate, f"rule {number}: source {candidate.source}")
                break


def _matches_rule(candidate: Candidate, rule: PreselectRule) -> bool:
    long_enough = candidate.num_thinking_tokens >= rule.min_thinking_tokens
    correct = candidate.correct or not rule.correct
    return long_enough and correct and matches_any(candidate.source, rule.sources)


def matches_any(source: str, patterns: Iterable[str]) -> bool:
    """Whether a source's name matches one of the patterns, in any case."""
    name = source.casefold()
    return any(fnmatch.fnmatchcase(name, pattern.casefold()) for pattern in patterns)
