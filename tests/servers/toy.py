"""A toy language model over bytes: the next token's distribution is a hash of the last few tokens.

Slow and simple, and independent of the package's code: `Toy.distribution` is the model,
`process_distribution` applies the sampling settings as DESIGN.md defines them, and `literal_loop` is
s1's loop with its own uniforms.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from slowthink.engines.replay import ByteTokenizer

TRIGGER, EOS = 256, 257
WAIT = "W"


@dataclass(frozen=True)
class Toy:
    """A vocabulary of a few letters, a trigger and EOS."""

    letters: str = "abcdef"
    trigger_weight: float = 0.6
    """A letter's is between 0.1 and 1.1."""
    eos_weight: float = 0.15
    memory: int = 3
    """Number of tokens that the next one depends on."""
    salt: int = 0

    def distribution(self, ids: Sequence[int]) -> dict[int, float]:
        """P of each possible next token."""
        state = repr((self.salt, list(ids[-self.memory :]))).encode()
        rng = random.Random(hashlib.sha256(state).digest())
        weights = {ord(letter): 0.1 + rng.random() for letter in self.letters}
        weights[TRIGGER] = self.trigger_weight * 2 * rng.random()
        weights[EOS] = self.eos_weight * 2 * rng.random()
        total = sum(weights.values())
        return {token: weight / total for token, weight in weights.items()}


def process_distribution(
    distribution: dict[int, float],
    *,
    temperature: float,
    top_p: float = 1.0,
    top_k: int = 0,
    min_p: float = 0.0,
    bias: dict[int, float] | None = None,
) -> dict[int, float]:
    """P after bias, temperature, min-p, top-k and top-p, renormalised."""
    logits = {t: math.log(p) + (bias or {}).get(t, 0.0) for t, p in distribution.items() if p}
    if not temperature:
        return {max(logits, key=lambda t: logits[t]): 1.0}
    weights = {t: math.exp(x / temperature) for t, x in logits.items()}
    total = sum(weights.values())
    kept_p = {t: w / total for t, w in weights.items()}
    highest = max(kept_p.values())
    kept_p = {t: p for t, p in kept_p.items() if p >= min_p * highest}
    ranked = sorted(kept_p, key=lambda t: -kept_p[t])
    if top_k > 0:
        ranked = ranked[:top_k]
    total, kept, mass = sum(kept_p[t] for t in ranked), [], 0.0
    for token in ranked:
        if mass >= top_p * total:
            break
        kept.append(token)
        mass += kept_p[token]
    return {t: kept_p[t] / mass for t in kept}


def draw(distribution: dict[int, float], uniform: float) -> int:
    """The token at which the cumulative sum exceeds `uniform`."""
    mass = 0.0
    for token in sorted(distribution):
        mass += distribution[token]
        if uniform < mass:
            return token
    return max(distribution)


def literal_loop(
    toy: Toy,
    prompt: Sequence[int],
    *,
    cap: int,
    waits: int,
    wait: Sequence[int],
    minimum: int = 0,
    rng: random.Random | None = None,
    **sampling: float,
) -> tuple[int, ...]:
    """The thinking of s1's loop: draw a token; a trigger drawn while waits remain is replaced by the
    wait string; below the minimum, or without a string, another token is drawn from P without
    triggers."""
    rng = rng or random.Random(0)
    ids: list[int] = []
    used = 0
    while len(ids) < cap:
        p = process_distribution(toy.distribution([*prompt, *ids]), **sampling)
        token = draw(p, rng.random())
        if token in (TRIGGER, EOS):
            if len(ids) >= minimum:
                if used >= waits or len(ids) + len(wait) + 1 > cap:
                    break
                used += 1
                if wait:
                    ids += wait
                    continue
            bias = {TRIGGER: -1e9, EOS: -1e9}
            token = draw(
                process_distribution(toy.distribution([*prompt, *ids]), bias=bias, **sampling),
                rng.random(),
            )
        ids.append(token)
    return tuple(ids)


def exact_distribution(
    toy: Toy,
    prompt: Sequence[int],
    *,
    cap: int,
    waits: int,
    wait: Sequence[int],
    minimum: int = 0,
    **sampling: float,
) -> dict[tuple[int, ...], float]:
    """The distribution of the results of `literal_loop`, by enumerating all of them."""
    result: dict[tuple[int, ...], float] = {}

    def go(ids: tuple[int, ...], used: int, mass: float) -> None:
        if len(ids) >= cap:
            result[ids] = result.get(ids, 0.0) + mass
            return
        raw = toy.distribution([*prompt, *ids])
        p = process_distribution(raw, **sampling)
        for token, share in p.items():
            if token not in (TRIGGER, EOS):
                go((*ids, token), used, mass * share)
        end = sum(p.get(token, 0.0) for token in (TRIGGER, EOS)) * mass
        if not end:
            return
        short = len(ids) < minimum
        if not short and (used >= waits or len(ids) + len(wait) + 1 > cap):
            result[ids] = result.get(ids, 0.0) + end
        elif wait and not short:
            go((*ids, *wait), used + 1, end)
        else:
            rest = {t: share for t, share in p.items() if t not in (TRIGGER, EOS)}
            for token, share in rest.items():
                go((*ids, token), used + (not short), end * share / sum(rest.values()))

    go((), 0, 1.0)
    return result


def greedy_answer(toy: Toy, start: Sequence[int], *, limit: int) -> tuple[int, ...]:
    """The likeliest tokens until EOS or the limit."""
    ids: list[int] = []
    while len(ids) < limit:
        p = toy.distribution([*start, *ids])
        token = max(p, key=lambda t: p[t])
        if token == EOS:
            break
        ids.append(token)
    return tuple(ids)


TOKENIZER = ByteTokenizer()
