r"""Prompted models: language models whose replies are parsed.

Greedy, in the model's own chat template, on any engine. Replies are stored in the ledger, so cached
ones are reused. If a reply cannot be parsed, the model is prompted again in the same conversation,
since a greedy model would repeat its reply:

    model.generate(problems, conversations, parse=parse_code, retry_prompt="One line: …")
    # [ModelReply(text="It is about primes.\nCODE: 11", value="11", num_tokens=143)]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from slowthink.engines import open_session
from slowthink.engines.session import Point, Session
from slowthink.forcing.formats import get_format
from slowthink.forcing.prompts import encode_messages
from slowthink.recipe import JudgeConfig, JudgeScorer, PromptedModelConfig, Recipe
from slowthink.records import Budget, Problem, Request, Sampling
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.sampler import Sampler, Task

RESERVED_TOKENS = 64
"""Tokens of the context that prompt and reply must leave free."""

T = TypeVar("T")
Messages = list[dict[str, str]]
"""A conversation (role, content); the last message is the user's."""


@dataclass(frozen=True, slots=True)
class ModelReply(Generic[T]):
    """The model's last reply in a conversation."""

    text: str | None
    """None: the conversation exceeds the model's context."""
    value: T | None
    """The parsed reply. None: it could not be parsed."""
    num_tokens: int = 0
    """Tokens of the prompt and the reply."""


class PromptedModel:
    """A language model that replies to conversations; a context manager."""

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
        self.num_retried = 0
        """Number of replies that could not be parsed, so that the model was prompted again."""
        self._sampler = sampler
        self._max_tokens = max_tokens
        self._num_asks = num_asks
        self._seed = seed

    def __enter__(self) -> PromptedModel:
        return self

    def __exit__(self, *error: object) -> None:
        self.session.__exit__(*error)

    def generate(
        self,
        problems: Sequence[Problem],
        conversations: Sequence[Messages],
        *,
        parse: Callable[[str], T | None],
        retry_prompt: str = "",
    ) -> list[ModelReply[T]]:
        """Return one reply per conversation, in order; equal conversations are sampled once.

        `problems` contains the problem of each conversation. If `parse` returns None,
        `retry_prompt` is sent as the next message, until there are `num_asks` replies.
        """
        replies: dict[int, ModelReply[T]] = {}
        pending = dict(enumerate(conversations))
        for attempt in range(self._num_asks):
            self.num_retried += len(pending) if attempt else 0
            replies |= self._replies(problems, pending, parse)
            pending = {
                index: _add_retry_prompt(messages, text, retry_prompt)
                for index, messages in pending.items()
                if replies[index].value is None and (text := replies[index].text) is not None
            }
        return [replies[index] for index in range(len(conversations))]

    def _replies(
        self,
        problems: Sequence[Problem],
        conversations: Mapping[int, Messages],
        parse: Callable[[str], T | None],
    ) -> dict[int, ModelReply[T]]:
        tasks = {i: self._task(problems[i], messages) for i, messages in conversations.items()}
        fitting = {index: task for index, task in tasks.items() if self._fits(task.request)}
        replies: dict[int, ModelReply[T]] = {index: ModelReply(None, None) for index in tasks}
        completions = self._sampler.complete(list(fitting.values()))
        for index, (completion,) in zip(fitting, completions, strict=True):
            text = completion.thinking
            num_tokens = completion.num_prompt_tokens + completion.num_thinking_tokens
            replies[index] = ModelReply(text, parse(text), num_tokens)
        return replies

    def _task(self, problem: Problem, messages: Messages) -> Task:
        request = Request(
            model=self.session.fingerprint,
            numerics=self.session.numerics,
            prompt_ids=encode_messages(self.session.tokenizer, messages),
            format=get_format("plain"),
            sampling=Sampling(),
            budget=Budget(max_thinking_tokens=self._max_tokens, answer_tokens=1),
            seed=self._seed,
        )
        point = Point(self._max_tokens, 0, forced=False)
        return Task(problem=problem, request=request, points=(point,))

    def _fits(self, request: Request) -> bool:
        needed = len(request.prompt_ids) + self._max_tokens + RESERVED_TOKENS
        return needed <= self.session.capabilities.max_context


def open_prompted_model(
    config: PromptedModelConfig | JudgeConfig | JudgeScorer,
    recipe: Recipe,
    *,
    ledger: Ledger,
    tag: str,
    seed: int = 0,
    notify: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PromptedModel:
    """Load the configured model; the ledger counts its tokens under `tag`.

    Raises ConfigError if the model is unavailable.
    """
    name, revision = recipe.named_model(config.model, config.revision)
    engine = None if isinstance(config, JudgeScorer) else config.engine
    session = open_session(name, engine or recipe.engine, revision=revision, notify=notify)
    session.__enter__()
    sampler = Sampler(session, ledger, tag=tag, progress=progress)
    num_asks = config.num_asks if isinstance(config, PromptedModelConfig) else 1
    return PromptedModel(
        session, sampler, max_tokens=config.max_tokens, num_asks=num_asks, seed=seed
    )


def _add_retry_prompt(messages: Messages, reply: str, retry_prompt: str) -> Messages:
    return [
        *messages,
        {"role": "assistant", "content": reply.strip()},
        {"role": "user", "content": retry_prompt},
    ]
