"""Methods of selection: generators of picks, in the order in which candidates are to be chosen.

s1's domain sampling (arXiv 2501.19393, Algorithm 1, diversity phase): sample a domain uniformly;
in it sample a problem with weight 2^-rank, rank 0 being its longest remaining trace, without
replacement; remove a domain once it is empty. Preselected problems stay in their domain, as in the
paper and its notebook; sampling one of them adds nothing. Once 700 are chosen, the notebook samples
domains in proportion to those of the benchmarks (simplescaling/s1@77272c6: data/filter.ipynb).
"""

from __future__ import annotations

import bisect
import fnmatch
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from slowthink.curation.scores.preference import higher_is_better
from slowthink.recipe import PreselectRule, SelectConfig
from slowthink.stages.select.selection import Candidate, Pick, Selection

Method = Callable[[Sequence[Candidate], Selection], Iterator[Pick]]
"""Yields picks; each is added to the selection, if it is within the limits, before the next one."""

AIME_SOURCES, GPQA_SOURCES = ("*aime*",), ("*gpqa*",)
MATH_SOURCES = ("math", "math_train", "*openaimath*", "hendrycks*math*")
MATH_MIN_TOKENS = {"paper": 5_600, "notebook": 5_601}
"""Algorithm 1 requires at least 5,600 tokens, the notebook more than 5,600."""


def pick_s1(candidates: Sequence[Candidate], selection: Selection) -> Iterator[Pick]:
    """All candidates, in the order in which Algorithm 1 or the notebook samples them (`mode`)."""
    config, rng = selection.config, selection.rng
    by_domain: dict[str, list[Candidate]] = {}
    for candidate in longest_first(candidates):
        by_domain.setdefault(candidate.domain, []).append(candidate)
    domains = sorted(by_domain)
    weights: Mapping[str, float] = {}
    if config.mode == "notebook":
        weights = config.benchmark_domains or benchmark_domain_weights(candidates)
    for draw in itertools.count(1):
        if not domains:
            return
        is_weighted = bool(weights) and len(selection.chosen) >= config.switch_at
        domain = _sample_domain(domains, weights if is_weighted else {}, rng.random())
        remaining = by_domain[domain]
        rank, size = sample_rank(rng.random(), len(remaining)), len(remaining)
        why = f"draw {draw}: {domain}, 1 of {len(domains)} domains, rank {rank} of {size}"
        yield Pick(remaining.pop(rank), f"{why}, benchmarks' domains" if is_weighted else why)
        if not remaining:
            domains.remove(domain)


def longest_first(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Sorted by thinking tokens, most first; ties by id."""
    return sorted(candidates, key=lambda candidate: (-candidate.num_thinking_tokens, candidate.id))


def _sample_domain(domains: Sequence[str], weights: Mapping[str, float], point: float) -> str:
    """The domain sampled with these weights by a uniform `point` in [0, 1). All domains have equal
    weights if none of them has any."""
    shares = [weights.get(domain, 0.0) for domain in domains]
    total = sum(shares)
    if not total:
        return domains[int(point * len(domains))]
    index = bisect.bisect_right(list(itertools.accumulate(shares)), point * total)
    last = max(index for index, share in enumerate(shares) if share)
    return domains[min(index, last)]


def benchmark_domain_weights(candidates: Iterable[Candidate]) -> dict[str, float]:
    """The number of AIME problems in each domain, plus int(r * that of GPQA problems), with r such
    that all GPQA problems weigh half as much as all AIME problems. Empty without any of them.
    """
    candidates = list(candidates)
    aime = Counter(c.domain for c in candidates if matches_any(c.source, AIME_SOURCES))
    gpqa = Counter(c.domain for c in candidates if matches_any(c.source, GPQA_SOURCES))
    scale = 0.5 * aime.total() / gpqa.total() if gpqa else 0.0
    summed = {domain: float(aime[domain] + int(gpqa[domain] * scale)) for domain in {*aime, *gpqa}}
    return {domain: weight for domain, weight in sorted(summed.items()) if weight}


def sample_rank(point: float, num_ranks: int) -> int:
    """The rank sampled with weights 2^-rank by a uniform `point` in [0, 1).

    Inverts the cumulative distribution: ranks below r have the share (1 - 2^-r) / (1 - 2^-n).
    """
    total = -math.expm1(-num_ranks * math.log(2))
    return min(int(-math.log2(1 - point * total)), num_ranks - 1)


def pick_random(candidates: Sequence[Candidate], selection: Selection) -> Iterator[Pick]:
    """A uniform sample without replacement; then the others, in place of those over a limit."""
    by_id = {candidate.id: candidate for candidate in candidates}
    rng = selection.rng
    for id in rng.sample(sorted(by_id), min(selection.num_problems, len(by_id))):
        yield Pick(by_id.pop(id), "drawn uniformly")
    for id in rng.sample(sorted(by_id), len(by_id)):
        yield Pick(by_id[id], "drawn uniformly, in place of one that could not be taken")


def pick_longest(candidates: Sequence[Candidate], selection: Selection) -> Iterator[Pick]:
    """Most thinking tokens first, ties by id."""
    for rank, candidate in enumerate(longest_first(candidates), 1):
        yield Pick(candidate, f"rank {rank} of {len(candidates)} by length")


def pick_best_scores(candidates: Sequence[Candidate], selection: Selection) -> Iterator[Pick]:
    """LIMO v2's (arXiv 2502.03387v3, section 3.2): best score first, ties by id."""
    name = selection.config.score
    sign = -1 if higher_is_better(name) else 1
    ordered = sorted(
        candidates, key=lambda candidate: (sign * candidate.scores[name], candidate.id)
    )
    for rank, candidate in enumerate(ordered, 1):
        score = f"{name} {candidate.scores[name]:g}"
        yield Pick(candidate, f"rank {rank} of {len(ordered)} by {score}")


def pick_all(candidates: Sequence[Candidate], selection: Selection) -> Iterator[Pick]:
    """All candidates, by id."""
    for candidate in sorted(candidates):
        yield Pick(candidate, "all are taken")


# --- preselection ---------------------------------------------------------------------------------


def preselect(candidates: Iterable[Candidate], config: SelectConfig) -> Iterator[Pick]:
    """The candidates that a rule of `preselect` matches, longest first, ties by id."""
    rules = config.preselect or ()
    if rules == "s1":
        rules = (
            PreselectRule(sources=(*AIME_SOURCES, *GPQA_SOURCES)),
            PreselectRule(sources=MATH_SOURCES, min_thinking_tokens=MATH_MIN_TOKENS[config.mode]),
        )
    for candidate in longest_first(candidates):
        for number, rule in enumerate(rules, 1):
            if _matches_rule(candidate, rule):
                yield Pick(candidate, f"rule {number}: source {candidate.source}")
                break


def _matches_rule(candidate: Candidate, rule: PreselectRule) -> bool:
    is_long_enough = candidate.num_thinking_tokens >= rule.min_thinking_tokens
    may_be_chosen = candidate.correct or not rule.correct
    return is_long_enough and may_be_chosen and matches_any(candidate.source, rule.sources)


def matches_any(source: str, patterns: Iterable[str]) -> bool:
    """Whether a source's name matches one of the patterns, in any case."""
    name = source.casefold()
    return any(fnmatch.fnmatchcase(name, pattern.casefold()) for pattern in patterns)
