"""Problems of the package reasoning-gym: made by its tasks, with exact answers, graded by us.

Each task's own scorer is not used. `TASKS` lists those with one right answer, and how our graders
read it; others are taken only where the recipe names them, and their key is one of several.

    source_row: "chain_sum/train/3", answer_type: "integer",
    meta: {"lineage": {"origin": "reasoning-gym/chain_sum", "revision": "0.1.25", "changes": []}}
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from slowthink.data.problems import LocatedProblem, Origin, SourceProblems, lineage_json
from slowthink.data.rows import UnusableValue, as_evidence
from slowthink.errors import ConfigError, missing_extra
from slowthink.recipe import GymSource, GymTaskConfig
from slowthink.records import Dropped, Problem, Split, duplicate_key, item_seed, problem_id
from slowthink.stages.pool.sandbox import apportion
from slowthink.stages.pool.usable import check

_BY_TYPE = {
    "integer": (
        "aiw basic_arithmetic chain_sum count_bits count_primes gcd largest_island lcm "
        "leg_counting letter_counting maze number_sequence products rectangle_count rotten_oranges "
        "self_reference simple_equations binary_alternation"
    ),
    "number": "decimal_arithmetic decimal_chain_sum dice fraction_simplification gsm_symbolic",
    "expression": "complex_arithmetic polynomial_multiplication",
    "text": (
        "base_conversion calendar_arithmetic caesar_cipher circuit_logic color_cube_rotation "
        "course_schedule family_relationships isomorphic_strings needle_haystack ransom_note "
        "spell_backward string_insertion string_manipulation syllogism zebra_puzzles"
    ),
}
TASKS: dict[str, str] = {
    name: kind for kind, names in sorted(_BY_TYPE.items()) for name in names.split()
}
"""Tasks with one right answer in one form, and its type."""
SEVERAL = "its key is one of several right answers"
SPARE = 4
"""Draws for each problem wanted, at most: equal questions are drawn over."""


def gym_problems(source: GymSource, *, seed: int, setting: str) -> SourceProblems:
    """Held-out problems, then training problems, task by task; no question is there twice.

    Raises ConfigError where the package is not installed, for an unknown task or option, and where
    a task cannot give that many problems.
    """
    gym = _package()
    tasks = _tasks(source, gym, setting)
    found, seen = SourceProblems(), set[str]()
    for split, total in ((Split.HELDOUT, source.num_heldout), (Split.TRAIN, source.num_problems)):
        shares = apportion(total, {name: config.weight for name, config in tasks.items()})
        for name, config in tasks.items():
            drawn = _Draw(gym, name, config, split, seed, setting)
            _fill(found, drawn, shares[name], seen)
    found.facts = {"package": "reasoning-gym", "version": version("reasoning-gym")}
    return found


def _package() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("reasoning_gym.factory")
    except ImportError:
        raise missing_extra("reasoning-gym", extra="gym") from None


def _tasks(source: GymSource, gym: Any, setting: str) -> Mapping[str, GymTaskConfig]:
    tasks = source.tasks or {
        name: GymTaskConfig() for name in sorted(TASKS) if name in gym.DATASETS
    }
    unknown = sorted(set(tasks) - set(gym.DATASETS))
    if unknown:
        raise ConfigError(
            f"{setting}.tasks: reasoning-gym has no task `{unknown[0]}`; "
            f"expected one such as {', '.join(sorted(TASKS)[:6])}. Take one of its own names."
        )
    return tasks


class _Draw:
    """One task in one split."""

    def __init__(
        self, gym: Any, name: str, config: GymTaskConfig, split: Split, seed: int, setting: str
    ) -> None:
        self.gym, self.name, self.config, self.split = gym, name, config, split
        self.setting = setting
        self.seed = item_seed(seed, "reasoning-gym", name, split.value) % 2**31

    def rows(self, size: int) -> Iterator[Mapping[str, Any]]:
        """As many rows as there are, drawn from the split's own seed."""
        try:
            data = self.gym.create_dataset(
                self.name, size=size, seed=self.seed, **self.config.options
            )
        except (AssertionError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{self.setting}.tasks.{self.name}.options: "
                f"{as_evidence(str(error)) or 'refused'}; expected options of the task. "
                "See its page in reasoning-gym's documentation."
            ) from None
        yield from (data[index] for index in range(size))

    def problem(self, index: int, row: Mapping[str, Any]) -> Problem:
        """The row as a problem. Raises ValueProblem where it has no exact answer."""
        question, answer = str(row["question"]).strip(), row["answer"]
        if answer is None:
            raise UnusableValue("the task gives no exact answer")
        changes = () if self.name in TASKS else (SEVERAL,)
        origin = Origin(
            name="reasoning-gym",
            location=f"reasoning-gym/{self.name}",
            revision=version("reasoning-gym"),
        )
        return Problem(
            id=problem_id(question),
            duplicate_key=duplicate_key(question),
            question=question,
            answer=str(answer),
            answer_type=TASKS.get(self.name),
            source="reasoning-gym",
            source_row=f"{self.name}/{self.split.value}/{index}",
            licence="Apache-2.0",
            domain=self.name.replace("_", " "),
            split=self.split,
            meta=lineage_json(origin, changes),
        )


def _fill(found: SourceProblems, draw: _Draw, number: int, seen: set[str]) -> None:
    """Adds `number` problems whose questions are new; rows without a key are set aside."""
    left = number
    for index, row in enumerate(draw.rows(SPARE * number) if number else ()):
        if not left:
            return
        address = f"reasoning-gym:{draw.name}/{draw.split.value}/{index}"
        try:
            problem = draw.problem(index, row)
            check(problem)
        except UnusableValue as error:
            found.num_rows += 1
            found.dropped.append(Dropped(id=address, step="read", reason=str(error)))
            continue
        if problem.duplicate_key not in seen:
            seen.add(problem.duplicate_key)
            found.items.append(LocatedProblem(address, problem))
            found.num_rows, left = found.num_rows + 1, left - 1
    if left:
        raise ConfigError(
            f"{draw.setting}: task `{draw.name}` gave {number - left} distinct problems in "
            f"{SPARE * number} draws; expected {number}. Widen its options, or lower num_problems, "
            f"num_heldout or its weight: --set {draw.setting}.tasks.{draw.name}.weight=0.1"
        )
