"""Scorers: how likely a chain is right, by a reward model, a judge or a function.

A scorer reads a problem and a text: thinking so far, or a whole transcript. Reward models and
judges return the probability that the chain is right, in [0, 1]; a function may return any finite
number. Scores are cached within a run. One real record: `ScoredText(score=0.83, num_tokens=97)`.
"""

from __future__ import annotations

import importlib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from slowthink.errors import ConfigError, DataError
from slowthink.grading.replies import fenced, final_value
from slowthink.recipe import FunctionScorer, JudgeScorer, ModelScorer, Recipe, ScorerConfig
from slowthink.records import Cost, Problem
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.prompted_model import Messages, ModelReply, open_prompted_model


class ScoreItem(NamedTuple):
    """A text to score."""

    problem: Problem
    text: str
    """Thinking so far, or thinking, closing and answer."""


@dataclass(frozen=True, slots=True)
class ScoredText:
    """A text's score and cost."""

    score: float
    num_tokens: int
    """Tokens that the scorer reads and generates for this text; the same if it is cached."""


ScoreTexts = Callable[[Sequence[ScoreItem]], list[ScoredText]]


class Scorer:
    """Scores texts, each once; a context manager."""

    def __init__(
        self,
        compute_scores: ScoreTexts,
        *,
        facts: dict[str, Any],
        cost: Callable[[], Cost] = Cost,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.facts = facts
        """Kind, settings and counts (such as the number of a judge's unreadable marks)."""
        self._compute_scores = compute_scores
        self._cost = cost
        self._close = close
        self._cache: dict[tuple[str, str], ScoredText] = {}

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    @property
    def cost(self) -> Cost:
        """Tokens that the scorer's model has processed."""
        return self._cost()

    def score(self, items: Sequence[ScoreItem]) -> list[float]:
        """Return one score per item, in order."""
        return [scored.score for scored in self.score_texts(items)]

    def score_texts(self, items: Sequence[ScoreItem]) -> list[ScoredText]:
        """Return one score with its cost per item, in order.

        Raises DataError for a score that is not finite.
        """
        keys = [(item.problem.id, item.text) for item in items]
        new = {key: item for key, item in zip(keys, items, strict=True) if key not in self._cache}
        if new:
            scores = self._compute_scores(list(new.values()))
            _check_finite(scores, list(new.values()))
            self._cache.update(zip(new, scores, strict=True))
        return [self._cache[key] for key in keys]


def open_scorer(
    config: ScorerConfig,
    recipe: Recipe,
    *,
    ledger: Ledger,
    tag: str = "scorer",
    notify: Callable[[str], None] = lambda _: None,
) -> Scorer:
    """Load the configured scorer; a judge's tokens are counted in the ledger under `tag`.

    Raises ConfigError if its model or function is unavailable.
    """
    facts = config.model_dump(mode="json")
    if isinstance(config, ModelScorer):
        return _model_scorer(config, recipe, facts, notify)
    if isinstance(config, JudgeScorer):
        return _judge_scorer(config, recipe, facts, ledger=ledger, tag=tag, notify=notify)
    function = load_function(config)
    return Scorer(
        lambda items: [ScoredText(float(function(*item)), 0) for item in items], facts=facts
    )


def transcript_text(segments: str) -> str:
    """The whole transcript as text, from the `segments` of an evaluation row."""
    return "".join(text for _, text in json.loads(segments))


def _check_finite(scores: Sequence[ScoredText], items: Sequence[ScoreItem]) -> None:
    for scored, item in zip(scores, items, strict=True):
        if not math.isfinite(scored.score):
            raise DataError(
                f"scorer: {scored.score} for {item.text[-60:]!r} (problem {item.problem.id}); "
                "expected a finite number. Fix the scorer, or remove the problem."
            )


# --- functions ------------------------------------------------------------------------------------


def load_function(config: FunctionScorer) -> Callable[[Problem, str], float]:
    """Import the user's function. Raises ConfigError if it cannot be imported or called."""
    module, _, name = config.function.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"evaluate.parallel.scorer.function: `{config.function}` cannot be imported "
            f"({type(error).__name__}: {error}); expected `module:function` on Python's path. "
            "Fix the name, or set PYTHONPATH to its folder, absolute: the working folder is "
            "not searched."
        ) from None
    if not callable(function):
        raise ConfigError(
            f"evaluate.parallel.scorer.function: `{config.function}` is a "
            f"{type(function).__name__}; expected a function of (problem, text). Name one."
        )
    score: Callable[[Problem, str], float] = function
    return score


# --- reward models --------------------------------------------------------------------------------


def _model_scorer(
    config: ModelScorer, recipe: Recipe, facts: dict[str, Any], notify: Callable[[str], None]
) -> Scorer:
    from slowthink.engines.models import resolve_model
    from slowthink.engines.transformers.reward_model import RewardModel

    trust = recipe.engine.trust_remote_code
    folder = resolve_model(config.model, config.revision, trust_remote_code=trust, notify=notify)
    model = RewardModel(folder, recipe.engine, batch_size=config.batch_size)

    def compute_scores(items: Sequence[ScoreItem]) -> list[ScoredText]:
        sequences = [model.render(item.problem, item.text) for item in items]
        scores = model.score(sequences)
        return [ScoredText(score, len(ids)) for score, ids in zip(scores, sequences, strict=True)]

    return Scorer(compute_scores, facts=facts | model.facts, cost=lambda: model.cost)


# --- judges ---------------------------------------------------------------------------------------

DEFAULT_MARK = 5
"""Mark for replies without a readable one."""
_SYSTEM = (
    "You mark attempts at problems. You do not solve the problem yourself and you do not credit "
    "effort. You end with one line that is exactly `MARK: ` and a whole number from 0 to 10."
)
_PROMPT = """Problem:
{question}

Attempt, which may be unfinished:
{text}

How likely is it that this attempt leads to the right final answer? 10: certain, every step so far \
holds; 0: it cannot, a step is wrong. Say in one sentence what decides, then give the mark line."""
_MARK = re.compile(r"mark\s*:\s*(10|\d)(?:\s*/\s*10)?\s*\.?", re.IGNORECASE)


def parse_mark(text: str) -> int | None:
    """Return the mark, 0 to 10, in the last line; None if it is missing or another line differs."""
    mark = final_value(text, _MARK)
    return None if mark is None else int(mark)


def _judge_scorer(
    config: JudgeScorer,
    recipe: Recipe,
    facts: dict[str, Any],
    *,
    ledger: Ledger,
    tag: str,
    notify: Callable[[str], None],
) -> Scorer:
    model = open_prompted_model(config, recipe, ledger=ledger, tag=tag, notify=notify)

    def compute_scores(items: Sequence[ScoreItem]) -> list[ScoredText]:
        replies = model.generate(
            [item.problem for item in items], [_messages(item) for item in items], parse=parse_mark
        )
        num_unreadable = sum(reply.value is None for reply in replies)
        facts["num_marks"] = facts.get("num_marks", 0) + len(replies)
        facts["num_unreadable"] = facts.get("num_unreadable", 0) + num_unreadable
        return [_scored_text(item, reply) for item, reply in zip(items, replies, strict=True)]

    return Scorer(
        compute_scores,
        facts=facts,
        cost=lambda: model.session.cost,
        close=lambda: model.__exit__(None, None, None),
    )


def _messages(item: ScoreItem) -> Messages:
    prompt = _PROMPT.format(
        question=fenced(item.problem.question.strip()), text=fenced(item.text.strip())
    )
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": prompt}]


def _scored_text(item: ScoreItem, reply: ModelReply[int]) -> ScoredText:
    if reply.text is None:
        raise ConfigError(
            f"evaluate.parallel.scorer: an attempt of {len(item.text)} characters (problem "
            f"{item.problem.id}) exceeds the judge's context; expected room for problem, "
            "attempt and mark. Lower the arm's caps, or name a judge with a longer context."
        )
    mark = DEFAULT_MARK if reply.value is None else reply.value
    return ScoredText(mark / 10, reply.num_tokens)
