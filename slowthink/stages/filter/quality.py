"""Quality rules by name: a rule returns None (keep) or a match (the problem is dropped).

    {"id": "p-…", "step": "quality: multi_part", "reason": "holds a part number such as p1.",
     "evidence": "…p1. Find x. p2. Find y."}

Preset `s1` is exactly s1's (simplescaling/s1@77272c6: data/filter.ipynb), including side effects:
its `p7.` also matches "top7.", its bold rule needs a digit later in the line. Preset `strict`
(quality_strict.py) is ours.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from slowthink.data.rows import as_evidence
from slowthink.pipeline.contract import StageContext
from slowthink.pipeline.runner import map_rows
from slowthink.recipe import FilterConfig
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


def no_reference(problem: Problem) -> RuleMatch | None:
    """No reference solution: s1 drops these rows, since their attempts cannot be graded."""
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
        "no_reference": no_reference,
        "drawing": drawing,
        "image": image,
        "multi_part": multi_part,
        "bold_number": bold_number,
    },
    "strict": dict(quality_strict.rules_of(QualityConfig())),
}
"""Rules by preset, in the order in which they are applied."""


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """The rule that drops a problem."""

    name: str
    match: RuleMatch


def rules_of(quality: str | QualityConfig) -> Mapping[str, Rule]:
    """The rules of a preset, by its name or its settings."""
    if isinstance(quality, QualityConfig):
        return quality_strict.rules_of(quality)
    return QUALITY_RULES[quality]


def first_broken_rules(
    quality: str | QualityConfig, problems: Sequence[Problem]
) -> list[BrokenRule | None]:
    """The first rule of the preset that each problem breaks; None if it breaks none."""
    rules = rules_of(quality)
    return [_first_broken_rule(rules, problem) for problem in problems]


def _first_broken_rule(rules: Mapping[str, Rule], problem: Problem) -> BrokenRule | None:
    for name, rule in rules.items():
        if (match := rule(problem)) is not None:
            return BrokenRule(name, match)
    return None


def quality(funnel: Funnel, context: StageContext) -> None:
    """Drop the problems that break a rule, with one step of the funnel for each rule."""
    config: FilterConfig = context.config
    if config.quality is None:
        return
    check = functools.partial(first_broken_rules, config.quality)
    broken_rules = map_rows(check, funnel.problems, runner=context.recipe.runner)
    dropped: dict[str, list[Dropped]] = {name: [] for name in rules_of(config.quality)}
    for problem, rule in zip(funnel.problems, broken_rules, strict=True):
        if rule is not None:
            step, match = f"quality: {rule.name}", rule.match
            drop = Dropped(id=problem.id, step=step, reason=match.reason, evidence=match.span)
            dropped[rule.name].append(drop)
    for name, drops in dropped.items():
        funnel.drop(f"quality: {name}", drops)
