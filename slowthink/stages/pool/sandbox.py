"""The sandbox: procedural problems with exact answers and chains of thought; needs no network.

A problem depends on (seed, family, split, index) only. Held-out problems are drawn first, so the
number of training problems does not change the evaluation, and training problems repeat neither
their parameters nor their normalised question.

    meta: {"family":"sums","difficulty":1,"chain":"correct","slip":"58 + 2 = 61",
           "parameters":[50,["+",8],["+",2]]}
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from slowthink.errors import ConfigError
from slowthink.recipe import FamilyConfig, SandboxSource
from slowthink.records import Problem, Split, duplicate_key, item_seed, problem_id
from slowthink.stages.pool.families import FAMILIES, Parameters
from slowthink.stages.pool.scratchpad import ChainKind, ProceduralChain, write_chain

MAX_TRIES = 2000
"""After this many repeated draws in a row, the family has no more problems."""


@dataclass
class _DrawHistory:
    """Parameters and questions drawn so far, so that no problem is generated twice."""

    setting: str
    """The source's recipe key, for messages."""
    parameters: set[tuple[str, Parameters]] = field(default_factory=set)
    duplicate_keys: set[str] = field(default_factory=set)


def sandbox_problems(
    source: SandboxSource, *, seed: int, setting: str = "pool.sources.0"
) -> Iterator[Problem]:
    """Held-out problems, then training problems, family by family.

    Raises ConfigError for an unknown family, and if a family has fewer problems than requested.
    """
    families = _families(source, setting)
    history = _DrawHistory(setting)
    for split, total in ((Split.HELDOUT, source.num_heldout), (Split.TRAIN, source.num_problems)):
        shares = apportion(total, {name: config.weight for name, config in families.items()})
        for name, config in families.items():
            for index in range(shares[name]):
                lowest, highest = config.difficulty
                difficulty = lowest + index % (highest - lowest + 1)
                spec = _ProblemSpec(seed, name, split, index, difficulty)
                yield _make_problem(source, history, spec)


def apportion(total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Shares of `total` in proportion to the weights, by the largest remainder method."""
    sum_weights = sum(weights.values())
    exact = {name: total * weight / sum_weights for name, weight in weights.items()}
    shares = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (shares[name] - exact[name], name))
    for name in by_remainder[: total - sum(shares.values())]:
        shares[name] += 1
    return shares


def _families(source: SandboxSource, setting: str) -> dict[str, FamilyConfig]:
    families = source.families or {name: FamilyConfig() for name in FAMILIES}
    unknown = sorted(set(families) - set(FAMILIES))
    if unknown:
        raise ConfigError(
            f"{setting}.families: the sandbox has no family `{unknown[0]}`; expected one of "
            f"{', '.join(FAMILIES)}. Name one of these."
        )
    return families


@dataclass(frozen=True)
class _ProblemSpec:
    """All that a problem depends on, besides the source's settings."""

    seed: int
    family: str
    split: Split
    index: int
    difficulty: int

    def rng(self, *purpose: object) -> random.Random:
        salt = ("sandbox", self.family, self.split.value, self.index, self.difficulty, *purpose)
        return random.Random(item_seed(self.seed, *salt))


def _make_problem(source: SandboxSource, history: _DrawHistory, spec: _ProblemSpec) -> Problem:
    family = FAMILIES[spec.family]
    parameters, question = _draw_question(history, spec)
    rng = spec.rng("chain")
    kind = _choose_chain_kind(source, rng.random())
    chain = write_chain(lambda scratchpad: family.solve(parameters, scratchpad), kind, rng)
    return Problem(
        id=problem_id(question),
        duplicate_key=duplicate_key(question),
        question=question,
        answer=chain.answer,
        solution=chain.text,
        source="sandbox",
        source_row=f"{spec.family}/{spec.split.value}/{spec.index}",
        licence="Apache-2.0",
        domain=family.domain,
        split=spec.split,
        meta=_meta(spec, parameters, chain),
    )


def _draw_question(history: _DrawHistory, spec: _ProblemSpec) -> tuple[Parameters, str]:
    """New parameters and their question. Raises ConfigError if every draw is a repeat."""
    family = FAMILIES[spec.family]
    for attempt in range(MAX_TRIES):
        rng = spec.rng("draw", attempt)
        parameters = family.draw(rng, spec.difficulty)
        question = family.phrase(parameters, rng)
        identity, key = (spec.family, parameters), duplicate_key(question)
        if identity not in history.parameters and key not in history.duplicate_keys:
            history.parameters.add(identity)
            history.duplicate_keys.add(key)
            return parameters, question
    num_drawn = sum(name == spec.family for name, _ in history.parameters)
    raise ConfigError(
        f"{history.setting}: family `{spec.family}` has no more distinct problems of difficulty "
        f"{spec.difficulty} after {num_drawn} in total; num_problems and num_heldout need "
        f"more. Raise its difficulty or lower its weight: "
        f"--set {history.setting}.families.{spec.family}.difficulty=[2,5]"
    )


def _choose_chain_kind(source: SandboxSource, uniform: float) -> ChainKind:
    if uniform < source.correct_share:
        return "correct"
    return "check" if uniform < source.correct_share + source.check_share else "plain"


def _meta(spec: _ProblemSpec, parameters: Parameters, chain: ProceduralChain) -> str:
    values = {
        "family": spec.family, "difficulty": spec.difficulty, "chain": chain.kind,
        "slip": chain.slip, "parameters": parameters,
        "lineage": {"origin": "sandbox", "revision": None, "changes": []},
    }  # fmt: skip
    return json.dumps(values, separators=(",", ":"))
