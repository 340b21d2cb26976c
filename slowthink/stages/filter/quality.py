"""Quality rules: each takes a problem and returns its fault, or None to keep the problem.

    {"id": "p-…", "step": "quality: multi_part", "reason": "holds a part number such as p1.",
     "evidence": "…p1. Find x. p2. Find y."}

Preset `s1` is exactly s1's (simplescaling/s1@77272c6: data/filter.ipynb), including its mistakes:
`p7.` also matches "top7.", and a bold span is dropped if a digit follows in the line. Preset
`strict` (quality_strict.py) is ours.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from slowthink.data.rows import as_evidence
from slowthink.pipeline.contract import StageContext
from slowthink.pipeline.runner import map_rows
from slowthink.recipe.curation import QualityConfig
from slowthink.records import Dropped, Problem
from slowthink.stages.filter import quality_strict
from slowthink.stages.filter.funnel import Funnel
from slowthink.stages.filter.quality_strict import FaultPattern, RuleMatch

Rule = Callable[[Problem], RuleMatch | None]

DRAWING = FaultPattern("holds a drawing in [asy] code", re.compile(r"\[asy\]"))
IMAGE = FaultPattern("refers to an image", re.compile(r"!\[Image\]"))
PART_NUMBER = FaultPattern("holds a part number such as p1.", re.compile(r"p[1-9]\d{0,2}\."))
BOLD_THEN_DIGIT = FaultPattern(
    "holds a bold run before a digit", re.compile(r"\*\*(?=.*\d)[^\s\]]*\*\*")
)


def no_reference_solution(problem: Problem) -> RuleMatch | None:
    """Neither an answer nor a solution; s1 drops these, since attempts cannot be graded."""
    if problem.answer or problem.solution:
        return None
    return RuleMatch("has neither an answer nor a solution", as_evidence(problem.question))


def drawing(problem: Problem) -> RuleMatch | None:
    """Asymptote code; kept in AIME problems, as in s1."""
    return None if "aime" in problem.source.casefold() else DRAWING.find(problem.question)


def image(problem: Problem) -> RuleMatch | None:
    """A reference to a missing image."""
    return IMAGE.find(problem.question)


def multi_part(problem: Problem) -> RuleMatch | None:
    """Any of the strings p1. to p999."""
    return PART_NUMBER.find(problem.question)


def bold_number(problem: Problem) -> RuleMatch | None:
    """A bold span without white space or `]`, with a digit in it or later in the line."""
    return BOLD_THEN_DIGIT.find(problem.question)


QUALITY_RULES: dict[str, dict[str, Rule]] = {
    "s1": {
        "no_reference": no_reference_solution,
        "drawing": drawing,
        "image": image,
        "multi_part": multi_part,
        "bold_number": bold_number,
    },
    "strict": dict(quality_strict.configured_rules(QualityConfig())),
}
"""Preset → its rules by name, in the order in which they are applied."""


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """The rule that drops a problem."""

    name: str
    match: RuleMatch


def rules_for(preset: str | QualityConfig) -> Mapping[str, Rule]:
    """The rules of a preset by name; with settings, those of preset strict under the settings."""
    if isinstance(preset, QualityConfig):
        return quality_strict.configured_rules(preset)
    return QUALITY_RULES[preset]


def first_broken_rules(
    preset: str | QualityConfig, problems: Sequence[Problem]
) -> list[BrokenRule | None]:
    """The first rule of the preset that each problem breaks; None if it breaks none."""
    rules = rules_for(preset)
    return [_first_broken_rule(rules, problem) for problem in problems]


def _first_broken_rule(rules: Mapping[str, Rule], problem: Problem) -> BrokenRule | None:
    for name, rule in rules.items():
        if (match := rule(problem)) is not None:
            return BrokenRule(name, match)
    return None


def drop_low_quality(funnel: Funnel, context: StageContext) -> None:
    """Drop the problems that break a rule, with one step of the funnel for each rule."""
    preset: str | QualityConfig | None = context.config.quality
    if preset is None:
        return
    check = functools.partial(first_broken_rules, preset)
    broken_rules = map_rows(check, funnel.problems, runner=context.recipe.runner)
    dropped: dict[str, list[Dropped]] = {f"quality: {name}": [] for name in rules_for(preset)}
    for problem, rule in zip(funnel.problems, broken_rules, strict=True):
        if rule is not None:
            step, match = f"quality: {rule.name}", rule.match
            drop = Dropped(id=problem.id, step=step, reason=match.reason, evidence=match.span)
            dropped[step].append(drop)
    for step, dropped_by_rule in dropped.items():
        funnel.drop(step, dropped_by_rule)
