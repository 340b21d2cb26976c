"""Requests of a tree search: one more step of thinking, or the answer after a path.

An expansion samples after the prompt and the path's thinking, up to the next step end, the end of
thinking or a cap. Each has its own key in the ledger, so an interrupted search resumes without
sampling anything again. One real record: `PartialChain(ids=(35, 1232, 39, …), state=OPEN)`.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from slowthink.engines.session import Point
from slowthink.errors import ConfigError
from slowthink.forcing.formats import resolve_format
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
    """Whether a node can be expanded."""

    OPEN = "open"
    """Another step may follow."""
    NATURAL = "natural"
    """Thinking ended by itself."""
    CUT = "cut"
    """Thinking reached the cap, or the node the maximum depth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartialChain:
    """The thinking along the path to a node."""

    ids: tuple[int, ...]
    state: NodeState

    def cut(self) -> PartialChain:
        """The same thinking, with state CUT if it was open."""
        return replace(self, state=NodeState.CUT) if self.state is NodeState.OPEN else self


class NodeExpander:
    """Makes the requests of one search, and nodes of their completions."""

    def __init__(
        self, context: ParallelContext, *, step_ends: Sequence[str], max_step_tokens: int
    ) -> None:
        if context.forcing.min_thinking_tokens:
            raise ConfigError(
                "evaluate.parallel.rebase: the arm has forcing.min_thinking_tokens "
                f"{context.forcing.min_thinking_tokens}; expected 0, since each step is a request "
                "of its own. Name an arm without a minimum."
            )
        self.context = context
        self._max_step_tokens = max_step_tokens
        self._prompts: dict[str, tuple[int, ...]] = {}
        session = context.session
        format = resolve_format(context.chat.format, session.tokenizer, context.recipe.formats)
        self.token_format = session.compiler.token_format(format)
        self._step_format = ThinkingFormat(
            name=f"{format.name}/steps",
            start=format.start,
            end="",
            end_triggers=(*format.end_triggers, *step_triggers(session.tokenizer, step_ends)),
            newline_before_forced_end=False,
        )
        answer_format = replace(format, newline_before_forced_end=False)
        self._answer_format = session.compiler.token_format(answer_format)

    def prompt(self, problem: Problem) -> tuple[int, ...]:
        """Token ids of the prompt, before any thinking."""
        if problem.id not in self._prompts:
            context = self.context
            self._prompts[problem.id] = prompt_ids(
                context.session.tokenizer, problem, context.chat, context.recipe.formats
            )
        return self._prompts[problem.id]

    def expansion_task(
        self, problem: Problem, thinking: tuple[int, ...], path: tuple[int, ...]
    ) -> Task:
        """The request for one more step. Its seed depends on `path`, the child's position in the
        tree: the index of each node among its siblings."""
        cap = min(self._max_step_tokens, self.context.max_thinking_tokens - len(thinking))
        budget = Budget(
            max_thinking_tokens=cap, wait_strings=(), final_answer_cue=None, answer_tokens=1
        )
        request = self._request(
            (*self.prompt(problem), *thinking),
            format=self._step_format,
            budget=budget,
            seed=item_seed(self.context.recipe.seed, "rebase", problem.id, path),
        )
        return Task(problem=problem, request=request, points=(Point(cap, forced=False),))

    def extend(self, thinking: tuple[int, ...], completion: Completion) -> PartialChain:
        """Append the step of this completion to the thinking."""
        ids = (*thinking, *completion.thinking_ids)
        if completion.thinking_end is ThinkingEnd.NATURAL:
            trigger = completion.events[-1].drawn  # a step end or the end of thinking
            if self._ends_thinking(trigger):
                return PartialChain(ids=ids, state=NodeState.NATURAL)
            ids += trigger
        at_cap = len(ids) >= self.context.max_thinking_tokens
        return PartialChain(ids=ids, state=NodeState.CUT if at_cap else NodeState.OPEN)

    def _ends_thinking(self, trigger: Sequence[int]) -> bool:
        if any(token in self.token_format.trigger_ids for token in trigger):
            return True
        text = self.token_format.decode(trigger)
        return any(trigger in text for trigger in self.token_format.long_triggers)

    def answer_task(self, problem: Problem, chain: PartialChain, path: tuple[int, ...]) -> Task:
        """The request for the answer to a complete chain.

        It forces the same ids as a single run with this thinking: the delimiter after a natural
        end, otherwise a new line (as part of the prompt), the delimiter and the cue.
        """
        natural = chain.state is NodeState.NATURAL
        forcing = self.context.forcing.budget(0, 0, language=problem.language)
        cue = forcing.final_answer_cue
        closing = self.token_format.closing_ids(chain.ids, natural=natural, cue=cue)
        format = self.token_format.format
        if closing is None:
            raise ConfigError(
                f"evaluate.parallel.rebase: in the format `{format.name}` nothing separates "
                "thinking and answer; expected a delimiter or a cue. "
                "Set forcing.final_answer_cue."
            )
        if natural and self.token_format.end_ids and not format.cue_after_natural_end:
            cue = None
        forced = self._answer_format.closing_ids((), natural=False, cue=cue) or ()
        newline = closing[: len(closing) - len(forced)]
        assert (*newline, *forced) == closing, "prompt and forced ids together are not the closing"
        request = self._request(
            (*self.prompt(problem), *chain.ids, *newline),
            format=self._answer_format.format,
            budget=replace(forcing, final_answer_cue=cue),
            seed=item_seed(self.context.recipe.seed, "rebase answer", problem.id, path),
        )
        return Task(problem=problem, request=request, points=(Point(0),))

    def _request(
        self, prompt: tuple[int, ...], *, format: ThinkingFormat, budget: Budget, seed: int
    ) -> Request:
        session = self.context.session
        return Request(
            model=session.fingerprint,
            numerics=session.numerics,
            prompt_ids=prompt,
            format=format,
            sampling=self.context.sampling,
            budget=budget,
            seed=seed,
        )


def step_triggers(tokenizer: Any, step_ends: Sequence[str]) -> tuple[str, ...]:
    """The step ends, and all tokens whose text ends with one: if the vocabulary has a token
    `.\\n\\n`, it is sampled instead of `.` and `\\n\\n`."""
    vocab_size = len(tokenizer) if hasattr(tokenizer, "__len__") else 0
    texts = (tokenizer.decode([token], skip_special_tokens=False) for token in range(vocab_size))
    longer_texts = [
        text
        for token, text in enumerate(texts)
        if text.endswith(tuple(step_ends))
        and text not in step_ends
        and list(tokenizer.encode(text, add_special_tokens=False)) == [token]
    ]
    return (*step_ends, *longer_texts)


def step_prefixes(text: str, step_ends: Sequence[str]) -> list[str]:
    """The prefixes of a text that end with a step end, without the whole text."""
    lengths = {
        start + len(end)
        for end in step_ends
        for start in range(len(text))
        if text.startswith(end, start)
    }
    return [text[:length] for length in sorted(lengths) if length < len(text)]
