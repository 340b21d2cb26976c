"""Nodes of a tree search as requests: one more step of thinking, and the answer that closes a path.

An expansion samples from a prompt that ends in the path's thinking, up to the next step end, the
end of thinking or a cap. Each has its own key in the ledger, so an interrupted search resumes
without sampling anything again. One real record: `PartialChain(ids=(35, 1232, 39, …), end=OPEN)`.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from slowthink.engines.session import Point
from slowthink.errors import ConfigError
from slowthink.forcing.formats import compile_format, format_of
from slowthink.forcing.prompts import prompt_ids
from slowthink.records import (
    Budget,
    Completion,
    Problem,
    Request,
    ThinkingEnd,
    ThinkingFormat,
    item_seed,
)
from slowthink.sampling.parallel.context import ParallelContext
from slowthink.sampling.sampler import Task


class NodeState(enum.Enum):
    """How a chain stands."""

    OPEN = "open"
    """Another step may follow."""
    NATURAL = "natural"
    """Its thinking ended by itself."""
    CUT = "cut"
    """It reached the cap or the greatest depth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartialChain:
    """Thinking after one more step."""

    ids: tuple[int, ...]
    end: NodeState

    def cut(self) -> PartialChain:
        """Ended where it stands, if it was open."""
        return replace(self, end=NodeState.CUT) if self.end is NodeState.OPEN else self


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerTask:
    """The request for an answer."""

    task: Task
    num_before: int
    """Forced ids of the closing that stand in the prompt: the new line."""


class NodeExpander:
    """Makes the requests of one search, and reads what came of them."""

    def __init__(
        self, asking: ParallelContext, *, step_ends: Sequence[str], max_step_tokens: int
    ) -> None:
        forcing = asking.forcing
        if forcing.min_thinking_tokens:
            raise ConfigError(
                "evaluate.parallel.rebase: the arm has forcing.min_thinking_tokens "
                f"{forcing.min_thinking_tokens}; expected 0, since each step is a request of its "
                "own. Name an arm without a minimum."
            )
        self.asking = asking
        self._max_step_tokens = max_step_tokens
        self._prompts: dict[str, tuple[int, ...]] = {}
        session = asking.session
        format = format_of(asking.chat.format, session.tokenizer, asking.recipe.formats)
        self.real = compile_format(format, session.tokenizer, eos_ids=session.eos_ids)
        self._step_format = ThinkingFormat(
            name=f"{format.name}/steps",
            start=format.start,
            end="",
            end_triggers=(*format.end_triggers, *step_triggers(session.tokenizer, step_ends)),
            newline_before_forced_end=False,
        )
        bare = replace(format, newline_before_forced_end=False)
        self._answer_format = compile_format(bare, session.tokenizer, eos_ids=session.eos_ids)

    def prompt(self, problem: Problem) -> tuple[int, ...]:
        """The prompt, before any thinking."""
        if problem.id not in self._prompts:
            asking = self.asking
            tokenizer, formats = asking.session.tokenizer, asking.recipe.formats
            self._prompts[problem.id] = prompt_ids(tokenizer, problem, asking.chat, formats)
        return self._prompts[problem.id]

    def expansion(self, problem: Problem, thinking: tuple[int, ...], path: tuple[int, ...]) -> Task:
        """The request for one more step; `path` (the child's place) makes its seed."""
        cap = min(self._max_step_tokens, self.asking.max_thinking_tokens - len(thinking))
        budget = Budget(
            max_thinking_tokens=cap, wait_strings=(), final_answer_cue=None, answer_tokens=1
        )
        request = self._request(
            (*self.prompt(problem), *thinking),
            format=self._step_format,
            budget=budget,
            seed=item_seed(self.asking.seed, "rebase", problem.id, path),
        )
        return Task(problem=problem, request=request, points=(Point(cap, forced=False),))

    def grown(self, thinking: tuple[int, ...], completion: Completion) -> PartialChain:
        """The thinking with the step that this completion is."""
        ids = (*thinking, *completion.thinking_ids)
        if completion.thinking_end is ThinkingEnd.NATURAL:
            drawn = completion.events[-1].drawn
            if self._ends_thinking(drawn):
                return PartialChain(ids=ids, end=NodeState.NATURAL)
            ids += drawn
        full = len(ids) >= self.asking.max_thinking_tokens
        return PartialChain(ids=ids, end=NodeState.CUT if full else NodeState.OPEN)

    def _ends_thinking(self, drawn: Sequence[int]) -> bool:
        if any(token in self.real.trigger_ids for token in drawn):
            return True
        text = self.real.decode(drawn)
        return any(trigger in text for trigger in self.real.long_triggers)

    def closing(self, problem: Problem, chain: PartialChain, path: tuple[int, ...]) -> AnswerTask:
        """The request for the answer to a whole chain.

        The same ids are forced as where one run had thought all of it: a chain that ended by itself
        gets the delimiter alone, another one a new line, the delimiter and the cue.
        """
        natural = chain.end is NodeState.NATURAL
        forcing = self.asking.forcing.budget(0, 0, language=problem.language)
        cue = forcing.final_answer_cue
        whole = self.real.closing_ids(chain.ids, natural=natural, cue=cue)
        if whole is None:
            raise ConfigError(
                f"evaluate.parallel.rebase: nothing parts thinking and answer in the format "
                f"`{self.real.format.name}` without a cue. Set forcing.final_answer_cue."
            )
        if natural and self.real.end_ids and not self.real.format.cue_after_natural_end:
            cue = None
        rest = self._answer_format.closing_ids((), natural=False, cue=cue) or ()
        newline = whole[: len(whole) - len(rest)]
        assert (*newline, *rest) == whole, "a closing in two parts is another closing"
        budget = replace(forcing, final_answer_cue=cue)
        request = self._request(
            (*self.prompt(problem), *chain.ids, *newline),
            format=self._answer_format.format,
            budget=budget,
            seed=item_seed(self.asking.seed, "rebase answer", problem.id, path),
        )
        task = Task(problem=problem, request=request, points=(Point(0),))
        return AnswerTask(task=task, num_before=len(newline))

    def _request(
        self, prompt: tuple[int, ...], *, format: ThinkingFormat, budget: Budget, seed: int
    ) -> Request:
        session = self.asking.session
        return Request(
            model=session.fingerprint,
            numerics=session.numerics,
            prompt_ids=prompt,
            format=format,
            sampling=self.asking.sampling,
            budget=budget,
            seed=seed,
        )


def step_triggers(tokenizer: Any, ends: Sequence[str]) -> tuple[str, ...]:
    """The step ends, and all tokens of the vocabulary whose text ends with one: a tokenizer that
    has `.\\n\\n` as one token draws no `\\n\\n` there."""
    size = len(tokenizer) if hasattr(tokenizer, "__len__") else 0
    texts = (tokenizer.decode([token], skip_special_tokens=False) for token in range(size))
    found = [
        text
        for token, text in enumerate(texts)
        if text.endswith(tuple(ends))
        and text not in ends
        and list(tokenizer.encode(text, add_special_tokens=False)) == [token]
    ]
    return (*ends, *found)


def prefixes(text: str, ends: Sequence[str]) -> list[str]:
    """The text up to each of its step ends, the whole left out."""
    places = {
        place + len(end)
        for end in ends
        for place in range(len(text))
        if text.startswith(end, place)
    }
    return [text[:place] for place in sorted(places) if place < len(text)]
