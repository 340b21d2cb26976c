"""Scorers: how good a chain looks, a model's, a judge's or a function's opinion.

A score is of a problem and a text: thinking so far, or a whole transcript. Models and judges give
the chance that the chain is right, in [0, 1]; a function may give any finite number. What was
scored once in a run is not scored again. One real record: `Scored(score=0.83, num_tokens=97)`.
"""

from __future__ import annotations

import importlib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from slowthink.engines import open_session
from slowthink.engines.session import Point, Session
from slowthink.errors import ConfigError, DataError
from slowthink.recipe import (
    ChatConfig,
    FunctionScorer,
    JudgeScorer,
    ModelScorer,
    Recipe,
    ScorerConfig,
)
from slowthink.records import Budget, Completion, Cost, Problem, Sampling, duplicate_key, problem_id
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.sampler import Sampler, make_tasks


class ScoreItem(NamedTuple):
    """What is to be scored."""

    problem: Problem
    text: str
    """Thinking so far, or thinking, closing and answer."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A score and what it took."""

    score: float
    num_tokens: int
    """Tokens that the scorer read and wrote for this text alone."""


ScoreNew = Callable[[Sequence[ScoreItem]], list[Scored]]


class Scorer:
    """Scores texts, each once; use as a context manager."""

    def __init__(
        self,
        score_new: ScoreNew,
        *,
        facts: dict[str, Any],
        cost: Callable[[], Cost] = Cost,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.facts = facts
        """Kind and settings, and what was counted: judges' marks that could not be read."""
        self._score_new = score_new
        self._cost = cost
        self._close = close
        self._known: dict[tuple[str, str], Scored] = {}

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    @property
    def cost(self) -> Cost:
        """Tokens that the scorer's model has spent."""
        return self._cost()

    def score(self, items: Sequence[ScoreItem]) -> list[float]:
        """A score an item, in order."""
        return [one.score for one in self.scored(items)]

    def scored(self, items: Sequence[ScoreItem]) -> list[Scored]:
        """Scores with the tokens that each takes by itself, whether it was had before or not.

        Raises DataError for a score that is not finite.
        """
        keys = [(item.problem.id, item.text) for item in items]
        missing = {k: item for k, item in zip(keys, items, strict=True) if k not in self._known}
        if missing:
            found = self._score_new(list(missing.values()))
            _check(found, list(missing.values()))
            self._known.update(zip(missing, found, strict=True))
        return [self._known[key] for key in keys]


def open_scorer(
    config: ScorerConfig,
    recipe: Recipe,
    *,
    ledger: Ledger,
    tag: str = "scorer",
    notify: Callable[[str], None] = lambda _: None,
) -> Scorer:
    """The configured scorer, ready. Raises ConfigError where its model or function is not to be
    had. A judge's marks go into the ledger, under `tag`."""
    facts = config.model_dump(mode="json")
    if isinstance(config, ModelScorer):
        return _model_scorer(config, recipe, facts, notify)
    if isinstance(config, JudgeScorer):
        name, revision = _judge_of(config, recipe)
        session = open_session(name, recipe.engine, revision=revision, notify=notify)
        judge = _Judge(session=session, ledger=ledger, recipe=recipe, tag=tag, config=config)
        judge.counts = facts
        return Scorer(
            judge.score_new,
            facts=facts,
            cost=lambda: session.cost,
            close=lambda: session.__exit__(None, None, None),
        )
    function = load_function(config)
    return Scorer(lambda items: [Scored(float(function(*item)), 0) for item in items], facts=facts)


def transcript_text(segments: str) -> str:
    """The text of a whole transcript, out of an evaluation row's `segments`: what is scored of a
    stored sample."""
    return "".join(text for _, text in json.loads(segments))


def _check(found: Sequence[Scored], items: Sequence[ScoreItem]) -> None:
    for one, item in zip(found, items, strict=True):
        if not math.isfinite(one.score):
            raise DataError(
                f"scorer: {one.score} for {item.text[-60:]!r} (problem {item.problem.id}); "
                "expected a finite number. Mend the scorer, or take the problem out."
            )


# --- a function -----------------------------------------------------------------------------------


def load_function(config: FunctionScorer) -> Callable[[Problem, str], float]:
    """The user's function. Raises ConfigError where there is none of that name."""
    module, _, name = config.function.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"evaluate.parallel.scorer.function: `{config.function}` cannot be had "
            f"({type(error).__name__}: {error}); expected `module:function` that Python can import "
            "from here. Mend the name, or set PYTHONPATH."
        ) from None
    if not callable(function):
        raise ConfigError(
            f"evaluate.parallel.scorer.function: `{config.function}` is a "
            f"{type(function).__name__}; expected a function of (problem, text)."
        )
    found: Callable[[Problem, str], float] = function
    return found


# --- a model --------------------------------------------------------------------------------------


def _model_scorer(
    config: ModelScorer, recipe: Recipe, facts: dict[str, Any], notify: Callable[[str], None]
) -> Scorer:
    from slowthink.engines.models import resolve_model
    from slowthink.engines.transformers.reward_model import RewardModel

    folder = resolve_model(config.model, config.revision, notify=notify)
    model = RewardModel(folder, recipe.engine, batch_size=config.batch_size)

    def score_new(items: Sequence[ScoreItem]) -> list[Scored]:
        sequences = [model.render(item.problem, item.text) for item in items]
        scores = model.score(sequences)
        return [Scored(s, len(ids)) for s, ids in zip(scores, sequences, strict=True)]

    return Scorer(score_new, facts=facts | model.facts, cost=lambda: model.cost)


# --- a judge --------------------------------------------------------------------------------------

MEAN_MARK = 5
"""Of a judge whose mark cannot be read."""
_SYSTEM = (
    "You mark attempts at problems. You do not solve the problem yourself and you do not credit "
    "effort. You end with one line that is exactly `MARK: ` and a whole number from 0 to 10."
)
_PROMPT = """Problem:
<<<
{question}
>>>

Attempt, which may be unfinished:
<<<
{text}
>>>

How likely is it that this attempt leads to the right final answer? 10: certain, every step so far \
holds; 0: it cannot, a step is wrong. Say in one sentence what decides, then give the mark line."""
_MARK = re.compile(r"mark\s*:\s*(10|\d)(?:\s*/\s*10)?\s*\.?", re.IGNORECASE)


def parse_mark(text: str) -> int | None:
    """The mark, 0 to 10, of the last line; None where it says none, or another line another."""
    lines = [re.sub(r"[*_`#$>]+", "", line).strip() for line in text.strip().splitlines()]
    lines = [line for line in lines if line]
    last = _MARK.fullmatch(lines[-1]) if lines else None
    said = {found.group(1) for found in map(_MARK.fullmatch, lines) if found}
    return int(last.group(1)) if last and len(said) == 1 else None


def _judge_of(config: JudgeScorer, recipe: Recipe) -> tuple[str, str | None]:
    if config.model == "base":
        return recipe.model, recipe.revision
    return config.model, config.revision


@dataclass(kw_only=True)
class _Judge:
    """Asks a language model for marks, greedily, through the ledger."""

    session: Session
    ledger: Ledger
    recipe: Recipe
    tag: str
    config: JudgeScorer
    counts: dict[str, Any] = field(default_factory=dict)

    def score_new(self, items: Sequence[ScoreItem]) -> list[Scored]:
        cap = self.config.max_tokens
        questions = [_question(item) for item in items]
        tasks = make_tasks(
            self.session,
            questions,
            recipe=self.recipe,
            chat=ChatConfig(format="plain", system_prompt=_SYSTEM),
            budget=Budget(max_thinking_tokens=cap, final_answer_cue=None, answer_tokens=1),
            sampling=Sampling(),
            points=[Point(cap, forced=False)],
        )
        found = Sampler(self.session, self.ledger, tag=self.tag).complete(tasks)
        return [self._scored(completion) for (completion,) in found]

    def _scored(self, completion: Completion) -> Scored:
        mark = parse_mark(completion.thinking)
        self.counts["num_marks"] = self.counts.get("num_marks", 0) + 1
        unread = self.counts.get("num_unreadable", 0)
        self.counts["num_unreadable"] = unread + (mark is None)
        tokens = completion.num_prompt_tokens + completion.num_thinking_tokens
        return Scored((MEAN_MARK if mark is None else mark) / 10, tokens)


def _question(item: ScoreItem) -> Problem:
    """What the judge is asked, as a problem."""
    text = _PROMPT.format(question=_unfenced(item.problem.question), text=_unfenced(item.text))
    return Problem(
        id=problem_id(text),
        duplicate_key=duplicate_key(text),
        question=text,
        source="judge",
        source_row=item.problem.id,
    )


def _unfenced(text: str) -> str:
    """The text without what would close its fence."""
    return text.replace("<<<", "‹‹‹").replace(">>>", "›››").strip()
