"""The sandbox: procedural problems with exact answers and worked chains; no network is needed.

A problem follows from (seed, family, split, index). Held-out problems are drawn first, so that
another number of training problems leaves the evaluation as it is, and training problems repeat
neither their parameters nor their normalised question.

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
from slowthink.stages.pool.scratch import ChainKind, WorkedChain, write_chain

MAX_TRIES = 2000
"""Draws in a row that were all had before: the family is taken to be used up."""


@dataclass
class _Drawn:
    """What has been drawn so far; nothing is drawn twice."""

    setting: str
    """The source's recipe key, for messages."""
    parameters: set[tuple[str, Parameters]] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)


def sandbox_problems(
    source: SandboxSource, *, seed: int, setting: str = "pool.sources.0"
) -> Iterator[Problem]:
    """Held-out problems, then training problems, family by family.

    Raises ConfigError for an unknown family, and where a family cannot give that many problems.
    """
    families = _families(source, setting)
    drawn = _Drawn(setting)
    for split, total in ((Split.HELDOUT, source.num_heldout), (Split.TRAIN, source.num_problems)):
        shares = apportion(total, {name: config.weight for name, config in families.items()})
        for name, config in families.items():
            for index in range(shares[name]):
                lowest, highest = config.difficulty
                difficulty = lowest + index % (highest - lowest + 1)
                yield _problem(source, drawn, _Place(seed, name, split, index, difficulty))


def apportion(total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """`total` shared out by weight; the largest remainders get what is left over."""
    whole = sum(weights.values())
    exact = {name: total * weight / whole for name, weight in weights.items()}
    shares = {name: int(share) for name, share in exact.items()}
    left = sorted(exact, key=lambda name: (shares[name] - exact[name], name))
    for name in left[: total - sum(shares.values())]:
        shares[name] += 1
    return shares


def _families(source: SandboxSource, setting: str) -> dict[str, FamilyConfig]:
    families = source.families or {name: FamilyConfig() for name in FAMILIES}
    unknown = sorted(set(families) - set(FAMILIES))
    if unknown:
        raise ConfigError(
            f"{setting}.families: the sandbox has no family `{unknown[0]}`; "
            f"it has {', '.join(FAMILIES)}. Take one of these."
        )
    return families


@dataclass(frozen=True)
class _Place:
    """Which problem this is."""

    seed: int
    family: str
    split: Split
    index: int
    difficulty: int

    def rng(self, *names: object) -> random.Random:
        names = ("sandbox", self.family, self.split.value, self.index, self.difficulty, *names)
        return random.Random(item_seed(self.seed, *names))


def _problem(source: SandboxSource, drawn: _Drawn, place: _Place) -> Problem:
    family = FAMILIES[place.family]
    parameters, question = _draw_new(drawn, place)
    rng = place.rng("chain")
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
        source_row=f"{place.family}/{place.split.value}/{place.index}",
        licence="Apache-2.0",
        domain=family.domain,
        split=place.split,
        meta=_meta(place, parameters, chain),
    )


def _draw_new(drawn: _Drawn, place: _Place) -> tuple[Parameters, str]:
    """Parameters and question that have not been had."""
    family = FAMILIES[place.family]
    for number in range(MAX_TRIES):
        rng = place.rng("draw", number)
        parameters = family.draw(rng, place.difficulty)
        question = family.ask(parameters, rng)
        key = duplicate_key(question)
        if (place.family, parameters) not in drawn.parameters and key not in drawn.keys:
            drawn.parameters.add((place.family, parameters))
            drawn.keys.add(key)
            return parameters, question
    num_drawn = sum(name == place.family for name, _ in drawn.parameters)
    raise ConfigError(
        f"{drawn.setting}: family `{place.family}` has no more distinct problems of difficulty "
        f"{place.difficulty} after {num_drawn} in all; num_problems and num_heldout ask for more. "
        f"Raise its difficulty or lower its weight: "
        f"--set {drawn.setting}.families.{place.family}.difficulty=[2,5]"
    )


def _chain_kind(source: SandboxSource, chance: float) -> ChainKind:
    if chance < source.correct_share:
        return "correct"
    return "check" if chance < source.correct_share + source.check_share else "plain"


def _meta(place: _Place, parameters: Parameters, chain: WorkedChain) -> str:
    values = {
        "family": place.family, "difficulty": place.difficulty, "chain": chain.kind,
        "slip": chain.slip, "parameters": parameters,
        "lineage": {"origin": "sandbox", "revision": None, "changes": []},
    }  # fmt: skip
    return json.dumps(values, separators=(",", ":"))
