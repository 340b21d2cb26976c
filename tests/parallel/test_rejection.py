"""Rejection sampling: decisions against a simple loop; only missing samples are generated."""

from __future__ import annotations

import random

import pytest

from slowthink.recipe import RejectionConfig
from slowthink.sampling.parallel.rejection import (
    RejectionSample,
    RejectionState,
    decide,
    rejection_curve,
)


def made_samples(seed: int, *, n: int = 8) -> list[RejectionSample]:
    rng = random.Random(seed)
    return [
        RejectionSample(num_thinking_tokens=rng.randint(1, 60), ended=rng.random() < 0.8,
            correct=rng.random() < 0.5, num_tokens=rng.randint(61, 90))
        for _ in range(n)
    ]  # fmt: skip


@pytest.mark.parametrize("limit", [5, 20, 60])
@pytest.mark.parametrize("max_tries", [1, 3, 8])
@pytest.mark.parametrize("seed", range(6))
def test_the_first_short_sample_is_accepted_and_all_tokens_count(seed, max_tries, limit) -> None:
    samples, num_tokens, num_tries = made_samples(seed), 0, 0
    accepted = None
    while accepted is None and num_tries < max_tries:
        sample = samples[num_tries]
        num_tries, num_tokens = num_tries + 1, num_tokens + sample.num_tokens
        if sample.ended and sample.num_thinking_tokens <= limit:
            accepted = sample
    result = decide(samples, limit=limit, max_tries=max_tries)
    assert (result.num_tries, result.num_tokens) == (num_tries, num_tokens)
    assert result.state is (RejectionState.ACCEPTED if accepted else RejectionState.UNRESOLVED)
    assert result.correct is bool(accepted and accepted.correct)


def test_too_few_samples_leave_a_problem_open() -> None:
    long = RejectionSample(num_thinking_tokens=50, ended=True, correct=True, num_tokens=55)
    assert decide([long], limit=10, max_tries=2).state is RejectionState.OPEN
    with pytest.raises(ValueError, match="samples are missing at the limit of 10"):
        rejection_curve({"p": [long]}, RejectionConfig(limits=(10,), max_tries=2))


def test_a_chain_cut_at_the_cap_is_too_long_for_every_limit() -> None:
    cut = RejectionSample(num_thinking_tokens=10, ended=False, correct=True, num_tokens=12)
    assert decide([cut], limit=10, max_tries=1).state is RejectionState.UNRESOLVED


def test_one_set_of_samples_serves_several_limits() -> None:
    short = RejectionSample(num_thinking_tokens=4, ended=True, correct=False, num_tokens=6)
    long = RejectionSample(num_thinking_tokens=9, ended=True, correct=True, num_tokens=11)
    tries = {"p": [long, short], "q": [long, long]}
    points = rejection_curve(tries, RejectionConfig(limits=(9, 5), max_tries=2))
    fields = [(p.k, p.accuracy, p.tokens_per_problem, p.unresolved_rate) for p in points]
    assert fields == [(5, 0.0, (17 + 22) / 2, 0.5), (9, 1.0, 11.0, 0.0)]
