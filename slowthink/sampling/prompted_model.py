r"""Questions to a language model, through any engine, each asked once and kept.

Greedy, in the model's own chat template, out of the ledger where it is there. A reply that cannot
be read is asked again in the same talk, so that a greedy model can say something else:

    asker.ask(problems, talks, read=lambda text: parse_code(text, codes), again="One line: …")
    # [Reply(text="It is about primes.\nCODE: 11", value="11")]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from slowthink.engines import open_session
from slowthink.engines.session import Point, Session
from slowthink.forcing.formats import get_format
from slowthink.forcing.prompts import messages_ids
from slowthink.recipe import AskedModel, JudgeConfig, Recipe
from slowthink.records import Budget, Problem, Request, Sampling
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.sampler import Sampler, Task

THOUGHT_ENDS = ("</think>", "<|im_start|>answer")
"""What a thinking model closes its thoughts with: the reply comes after."""
TEMPLATE_TOKENS = 64
"""Room left in the model's context beside prompt and reply."""

T = TypeVar("T")
Talk = list[dict[str, str]]
"""Chat messages, a user's last."""


@dataclass(frozen=True, slots=True)
class ModelReply(Generic[T]):
    """The last thing that the model said to a question."""

    text: str | None
    """None: the question does not fit the model's context."""
    value: T | None
    """What was read of it; None: it was not what was asked for."""


class PromptedModel:
    """A model that is asked; a context manager."""

    def __init__(
        self,
        session: Session,
        sampler: Sampler,
        *,
        max_tokens: int,
        num_asks: int = 1,
        seed: int = 0,
    ) -> None:
        self.session = session
        self.num_asked_again = 0
        """Replies that could not be read and were asked again."""
        self._sampler = sampler
        self._max_tokens = max_tokens
        self._num_asks = num_asks
        self._seed = seed

    def __enter__(self) -> PromptedModel:
        return self

    def __exit__(self, *error: object) -> None:
        self.session.__exit__(*error)

    def ask(
        self,
        problems: Sequence[Problem],
        talks: Sequence[Talk],
        *,
        read: Callable[[str], T | None],
        again: str = "",
    ) -> list[ModelReply[T]]:
        """A reply a talk, in order; `problems` says of what each is. Equal talks are asked once.

        `again` is said where `read` gives None, while there are asks left.
        """
        found: dict[int, ModelReply[T]] = {}
        left = dict(enumerate(talks))
        for number in range(self._num_asks):
            self.num_asked_again += len(left) if number else 0
            for place, text in self._replies(problems, left).items():
                found[place] = ModelReply(text, None if text is None else read(text))
            left = {
                place: _again(reporter, text, again)
                for place, reporter in left.items()
                if found[place].value is None and (text := found[place].text) is not None
            }
        return [found[place] for place in range(len(talks))]

    def _replies(
        self, problems: Sequence[Problem], talks: Mapping[int, Talk]
    ) -> dict[int, str | None]:
        tasks = {place: self._task(problems[place], reporter) for place, reporter in talks.items()}
        fitting = {place: task for place, task in tasks.items() if self._fits(task.request)}
        completions = self._sampler.complete(list(fitting.values()))
        texts = {place: one[0].thinking for place, one in zip(fitting, completions, strict=True)}
        return {place: texts.get(place) for place in talks}

    def _task(self, problem: Problem, reporter: Talk) -> Task:
        request = Request(
            model=self.session.fingerprint,
            numerics=self.session.numerics,
            prompt_ids=messages_ids(self.session.tokenizer, reporter),
            format=get_format("plain"),
            sampling=Sampling(),
            budget=Budget(max_thinking_tokens=self._max_tokens, answer_tokens=1),
            seed=self._seed,
        )
        point = Point(self._max_tokens, 0, forced=False)
        return Task(problem=problem, request=request, points=(point,))

    def _fits(self, request: Request) -> bool:
        needed = len(request.prompt_ids) + self._max_tokens + TEMPLATE_TOKENS
        return needed <= self.session.capabilities.max_context


def open_asker(
    config: AskedModel | JudgeConfig,
    recipe: Recipe,
    *,
    ledger: Ledger,
    tag: str,
    seed: int = 0,
    notify: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PromptedModel:
    """The configured model, ready; the ledger counts its tokens under `tag`.

    Raises ConfigError where the model is not to be had.
    """
    is_base = config.model == "base"
    name = recipe.model if is_base else config.model
    revision = recipe.revision if is_base else config.revision
    session = open_session(name, config.engine or recipe.engine, revision=revision, notify=notify)
    session.__enter__()
    sampler = Sampler(session, ledger, tag=tag, progress=progress)
    num_asks = config.num_asks if isinstance(config, AskedModel) else 1
    return PromptedModel(
        session, sampler, max_tokens=config.max_tokens, num_asks=num_asks, seed=seed
    )


def after_thoughts(text: str) -> str:
    """What a thinking model says once its thoughts are over; the whole text of another."""
    for end in THOUGHT_ENDS:
        text = text.rsplit(end, 1)[-1]
    return text


def plain_lines(text: str) -> list[str]:
    """Lines of a reply that say something, thoughts and Markdown's marks left out."""
    lines = [re.sub(r"[*_`#$>]+", "", line).strip() for line in after_thoughts(text).splitlines()]
    return [line for line in lines if line]


def fenced(text: str, *, max_chars: int) -> str:
    """The beginning of a text, between fences that it cannot close."""
    shown = text[:max_chars].replace("<<<", "‹‹‹").replace(">>>", "›››")
    return f"<<<\n{shown}\n>>>"


def _again(reporter: Talk, reply: str, again: str) -> Talk:
    return [
        *reporter,
        {"role": "assistant", "content": reply.strip()},
        {"role": "user", "content": again},
    ]
