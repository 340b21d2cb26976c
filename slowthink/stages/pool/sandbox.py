"""The sandbox: procedural problems with exact answers and worked chains; needs no network.

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
from slowthink.stages.pool.scratchpad import ChainKind, WorkedChain, write_chain

MAX_TRIES = 2000
"""After this many repeated draws in a row, the family has no more problems."""


@dataclass
class _Drawn:
    """Parameters and questions drawn before, so that none is drawn twice."""

    setting: str
    """The source's recipe key, for messages."""
    parameters: set[tuple[str, Parameters]] = field(default_factory=set)
    duplicate_keys: set[str] = field(default_factory=set)


def sandbox_problems(
    source: SandboxSource, *, seed: int, setting: str = "pool.sources.0"
) -> Iterator[Problem]:
    """Held-out problems, then training problems, family by family.

    Raises ConfigError for an unknown family, and where a family has fewer problems than requested.
    """
    families = _families(source, setting)
    drawn = _Drawn(setting)
    for split, total in ((Split.HELDOUT, source.num_heldout), (Split.TRAIN, source.num_problems)):
        shares = apportion(total, {name: config.weight for name, config in families.items()})
        for name, config in families.items():
            for index in range(shares[name]):
                lowest, highest = config.difficulty
                difficulty = lowest + index % (highest - lowest + 1)
                yield _problem(source, drawn, _Position(seed, name, split, index, difficulty))


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
class _Position:
    """Identifies a problem."""

    seed: int
    family: str
    split: Split
    index: int
    difficulty: int

    def rng(self, *names: object) -> random.Random:
        names = ("sandbox", self.family, self.split.value, self.index, self.difficulty, *names)
        return random.Random(item_seed(self.seed, *names))


def _problem(source: SandboxSource, drawn: _Drawn, position: _Position) -> Problem:
    family = FAMILIES[position.family]
    parameters, question = _draw_new(drawn, position)
    rng = position.rng("chain")
    chain = write_chain(
        lambda sheet: family.work(parameters, sheet), _chain_kind(source, rng.random()), rng
    )
    return Problem(
        id=problem_id(question),
        duplicate_key=duplicate_key(question),
        question=question,
        answer=chain.answer,
        solution=chain.text,
        source="sandbox",
        source_row=f"{position.family}/{position.split.value}/{position.index}",
        licence="Apache-2.0",
        domain=family.domain,
        split=position.split,
        meta=_meta(position, parameters, chain),
    )


def _draw_new(drawn: _Drawn, position: _Position) -> tuple[Parameters, str]:
    """New parameters and their question. Raises ConfigError where every draw is a repeat."""
    family = FAMILIES[position.family]
    for number in range(MAX_TRIES):
        rng = position.rng("draw", number)
        parameters = family.draw(rng, position.difficulty)
        question = family.ask(parameters, rng)
        named, key = (position.family, parameters), duplicate_key(question)
        if named not in drawn.parameters and key not in drawn.duplicate_keys:
            drawn.parameters.add(named)
            drawn.duplicate_keys.add(key)
            return parameters, question
    num_drawn = sum(name == position.family for name, _ in drawn.parameters)
    raise ConfigError(
        f"{drawn.setting}: family `{position.family}` has no more distinct problems of difficulty "
        f"{position.difficulty} after {num_drawn} in total; num_problems and num_heldout need "
        f"more. Raise its difficulty or lower its weight: "
        f"--set {drawn.setting}.families.{position.family}.difficulty=[2,5]"
    )


def _chain_kind(source: SandboxSource, chance: float) -> ChainKind:
    if chance < source.correct_share:
        return "correct"
    return "check" if chance < source.correct_share + source.check_share else "plain"


def _meta(position: _Position, parameters: Parameters, chain: WorkedChain) -> str:
    values = {
        "family": position.family, "difficulty": position.difficulty, "chain": chain.kind,
        "slip": chain.slip, "parameters": parameters,
        "lineage": {"origin": "sandbox", "revision": None, "changes": []},
    }  # fmt: skip
    return json.dumps(values, separators=(",", ":"))
