"""Which problems to train on: pure functions of the candidates and a seed.

s1's domain sampling (arXiv 2501.19393, Algorithm 1, diversity phase): draw a domain uniformly; in
it draw one problem with weight 2^-rank, rank 0 being the longest trace of those left; take it out;
a domain without problems is out. What was preselected stays in its domain, as in the paper and its
notebook: drawn again it adds nothing. The notebook draws domains as often as benchmarks have them
once 700 are chosen (simplescaling/s1@77272c6: data/filter.ipynb).

    Candidate(id="p-0c1e…", domain="number bases", length=85)

A method is a stream of picks, best first; `selection` takes them until it is full.
"""

from __future__ import annotations

import fnmatch
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from slowthink.recipe import PreselectRule, SelectConfig


@dataclass(frozen=True, order=True)
class Candidate:
    """What a choice looks at."""

    id: str
    domain: str
    length: int
    """Thinking tokens."""
    source: str = ""
    correct: bool = True
    num_tokens: int = 0
    """Thinking and response."""
    level: int | None = None
    scores: Mapping[str, float] = field(default_factory=dict, compare=False)
    text: str = ""
    """The question."""


@dataclass(frozen=True, slots=True)
class Pick:
    """A candidate that a method would take next, and why it."""

    candidate: Candidate
    why: str


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What a method may look at while it draws."""

    config: SelectConfig
    rng: random.Random
    number: int
    chosen: Mapping[str, object] = field(default_factory=dict)
    """What has been chosen so far, by id; grows while the method draws."""
    note: Callable[[str, str, str], None] = lambda id, reason, evidence: None
    """Told why a candidate is passed over."""


Method = Callable[[Sequence[Candidate], Drawing], Iterator[Pick]]

AIME, GPQA = ("*aime*",), ("*gpqa*",)
MATH = ("math", "math_train", "*openaimath*", "hendrycks*math*")
MATH_MIN_TOKENS = {"paper": 5_600, "notebook": 5_601}
"""Algorithm 1 has "at least", the notebook "more than"."""


def draw_s1(candidates: Iterable[Candidate], drawing: Drawing) -> Iterator[Pick]:
    """All candidates, as Algorithm 1 or the notebook draws them."""
    pools: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda one: (-one.length, one.id)):
        pools.setdefault(candidate.domain, []).append(candidate)
    domains = sorted(pools)
    weights = _benchmark_weights(candidates, drawing.config)
    for draw in itertools.count(1):
        if not domains:
            return
        shaped = bool(weights) and len(drawing.chosen) >= drawing.config.switch_at
        domain = _drawn_domain(domains, weights if shaped else {}, drawing.rng.random())
        pool = pools[domain]
        rank, size = rank_at(drawing.rng.random(), len(pool)), len(pool)
        why = f"draw {draw}: {domain}, 1 of {len(domains)} domains, rank {rank} of {size}"
        yield Pick(pool.pop(rank), f"{why}, benchmarks' domains" if shaped else why)
        if not pool:
            domains.remove(domain)


def _drawn_domain(domains: Sequence[str], weights: Mapping[str, float], point: float) -> str:
    """The domain in which a point of [0, 1) falls; uniform where none of them has a weight."""
    shares = [weights.get(domain, 0.0) for domain in domains]
    total = sum(shares)
    if not total:
        return domains[int(point * len(domains))]
    ends = list(itertools.accumulate(shares))
    return next(
        (domain for domain, end in zip(domains, ends, strict=True) if point * total < end),
        domains[max(place for place, share in enumerate(shares) if share)],
    )


def _benchmark_weights(
    candidates: Iterable[Candidate], config: SelectConfig
) -> Mapping[str, float]:
    """Empty for the paper's mode."""
    if config.mode == "paper":
        return {}
    return config.benchmark_domains or benchmark_histogram(candidates)


def benchmark_histogram(candidates: Iterable[Candidate]) -> dict[str, float]:
    """AIME's histogram of domains + int(GPQA's * r), r = half of AIME's number over GPQA's.

    Empty where there is neither.
    """
    candidates = list(candidates)
    aime = Counter(one.domain for one in candidates if matches(one.source, AIME))
    gpqa = Counter(one.domain for one in candidates if matches(one.source, GPQA))
    scale = 0.5 * aime.total() / gpqa.total() if gpqa else 0.0
    shaped = {domain: float(aime[domain] + int(gpqa[domain] * scale)) for domain in {*aime, *gpqa}}
    return {domain: weight for domain, weight in sorted(shaped.items()) if weight}


def rank_at(point: float, num_ranks: int) -> int:
    """The rank in which a point of [0, 1) falls, the ranks' shares being as 2^-rank.

    Ranks below r have the share (1 - 2^-r) / (1 - 2^-n); solved for r.
    """
    whole = -math.expm1(-num_ranks * math.log(2))
    return min(int(-math.log2(1 - point * whole)), num_ranks - 1)


def choose_s1(candidates: Iterable[Candidate], number: int, rng: random.Random) -> list[str]:
    """Ids in the order in which Algorithm 1 draws them; all of them where there are no more."""
    drawing = Drawing(config=SelectConfig(), rng=rng, number=number)
    picks = itertools.islice(draw_s1(list(candidates), drawing), number)
    return [pick.candidate.id for pick in picks]


def draw_random(candidates: Sequence[Candidate], drawing: Drawing) -> Iterator[Pick]:
    """A uniform sample without replacement; then, where more are wanted, the others."""
    by_id = {candidate.id: candidate for candidate in candidates}
    first = drawing.rng.sample(sorted(by_id), min(drawing.number, len(by_id)))
    for id in first:
        yield Pick(by_id.pop(id), "drawn uniformly")
    for id in drawing.rng.sample(sorted(by_id), len(by_id)):
        yield Pick(by_id[id], "drawn uniformly, in place of one that could not be taken")


def draw_longest(candidates: Sequence[Candidate], drawing: Drawing) -> Iterator[Pick]:
    """Most thinking tokens first, ties by id."""
    ordered = sorted(candidates, key=lambda one: (-one.length, one.id))
    for rank, candidate in enumerate(ordered, 1):
        yield Pick(candidate, f"rank {rank} of {len(ordered)} by length")


def draw_highest(candidates: Sequence[Candidate], drawing: Drawing) -> Iterator[Pick]:
    """LIMO v2's (arXiv 2502.03387v3, section 3.2): highest score first, ties by id."""
    name = drawing.config.score
    ordered = sorted(candidates, key=lambda one: (-one.scores[name], one.id))
    for rank, candidate in enumerate(ordered, 1):
        score = f"{name} {candidate.scores[name]:g}"
        yield Pick(candidate, f"rank {rank} of {len(ordered)} by {score}")


def draw_full(candidates: Sequence[Candidate], drawing: Drawing) -> Iterator[Pick]:
    """All."""
    for candidate in sorted(candidates):
        yield Pick(candidate, "all are taken")


# --- preselection ---------------------------------------------------------------------------------


def preselect_rules(config: SelectConfig) -> tuple[PreselectRule, ...]:
    """The rules, s1's spelt out."""
    if config.preselect != "s1":
        return config.preselect or ()
    shortest = MATH_MIN_TOKENS[config.mode]
    return (
        PreselectRule(sources=(*AIME, *GPQA)),
        PreselectRule(sources=MATH, min_thinking_tokens=shortest),
    )


def preselected(candidates: Iterable[Candidate], config: SelectConfig) -> Iterator[Pick]:
    """What a rule takes, longest first, ties by id."""
    rules = preselect_rules(config)
    for candidate in sorted(candidates, key=lambda one: (-one.length, one.id)):
        for number, rule in enumerate(rules, 1):
            if _takes(rule, candidate):
                yield Pick(candidate, f"rule {number}: source {candidate.source}")
                break


def _takes(rule: PreselectRule, candidate: Candidate) -> bool:
    long_enough = candidate.length >= rule.min_thinking_tokens
    right = candidate.correct or not rule.correct
    return long_enough and right and matches(candidate.source, rule.sources)


def matches(source: str, patterns: Iterable[str]) -> bool:
    """Whether a source's name is one of these, in any case."""
    name = source.casefold()
    return any(fnmatch.fnmatchcase(name, pattern.casefold()) for pattern in patterns)
