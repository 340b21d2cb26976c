"""Rules of quality, each with a name: a rule answers None (keep) or a finding (the problem goes).

    {"id": "p-…", "step": "quality: multi_part", "reason": "holds a part number such as p1.",
     "evidence": "…p1. Find x. p2. Find y."}

The `s1` preset is exactly s1's (simplescaling/s1@77272c6: data/filter.ipynb), side effects and all:
its `p7.` also finds "top7.", its bold rule needs a digit further on in the line. Preset `strict`
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
from slowthink.recipe.quality import QualityConfig
from slowthink.records import Dropped, Problem
from slowthink.stages.filter import quality_strict
from slowthink.stages.filter.funnel import Funnel
from slowthink.stages.filter.quality_strict import RuleMatch, around

Rule = Callable[[Problem], RuleMatch | None]

PART_NUMBER = re.compile(r"p[1-9]\d{0,2}\.")
BOLD_THEN_DIGIT = re.compile(r"\*\*(?=.*\d)[^\s\]]*\*\*")


def no_reference(problem: Problem) -> RuleMatch | None:
    """s1 drops rows without a reference solution, since their attempts cannot be graded."""
    if problem.answer or problem.solution:
        return None
    return RuleMatch("has neither an answer nor a solution", as_evidence(problem.question))


def drawing(problem: Problem) -> RuleMatch | None:
    """Asymptote code, kept in AIME problems as s1 does."""
    start = problem.question.find("[asy]")
    if start < 0 or "aime" in problem.source.casefold():
        return None
    return RuleMatch("holds a drawing in [asy] code", around(problem.question, start, start + 5))


def image(problem: Problem) -> RuleMatch | None:
    """A reference to an image that is not there."""
    start = problem.question.find("![Image]")
    if start < 0:
        return None
    return RuleMatch("refers to an image", around(problem.question, start, start + 8))


def multi_part(problem: Problem) -> RuleMatch | None:
    """Any of the strings p1. to p999."""
    found = PART_NUMBER.search(problem.question)
    if found is None:
        return None
    return RuleMatch("holds a part number such as p1.", around(problem.question, *found.span()))


def bold_number(problem: Problem) -> RuleMatch | None:
    """A bold run without white space or `]`, with a digit in it or further on in the line."""
    found = BOLD_THEN_DIGIT.search(problem.question)
    if found is None:
        return None
    return RuleMatch("holds a bold run before a digit", around(problem.question, *found.span()))


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
"""Rules by preset, in the order in which they are asked."""


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a problem goes."""

    rule: str
    finding: RuleMatch


def rules_of(quality: str | QualityConfig) -> Mapping[str, Rule]:
    """The rules of a preset, or of a preset with its settings."""
    if isinstance(quality, QualityConfig):
        return quality_strict.rules_of(quality)
    return QUALITY_RULES[quality]


def first_objections(
    quality: str | QualityConfig, problems: Sequence[Problem]
) -> list[Objection | None]:
    """For each problem the first rule of the preset that it breaks; None where it breaks none."""
    rules = rules_of(quality)
    return [_first_objection(rules, problem) for problem in problems]


def _first_objection(rules: Mapping[str, Rule], problem: Problem) -> Objection | None:
    for name, rule in rules.items():
        if (finding := rule(problem)) is not None:
            return Objection(name, finding)
    return None


def quality(funnel: Funnel, context: StageContext) -> None:
    """The step of the filter: one entry of the funnel for each rule."""
    config: FilterConfig = context.config
    if config.quality is None:
        return
    judge = functools.partial(first_objections, config.quality)
    objections = map_rows(judge, funnel.problems, runner=context.recipe.runner)
    found = [(p, one) for p, one in zip(funnel.problems, objections, strict=True) if one]
    for name in rules_of(config.quality):
        step = f"quality: {name}"
        funnel.drop(
            step,
            [
                Dropped(id=p.id, step=step, reason=one.finding.reason, evidence=one.finding.span)
                for p, one in found
                if one.rule == name
            ],
        )
