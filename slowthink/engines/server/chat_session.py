"""A hosted chat API as a plain teacher: `/v1/chat/completions`, asked and believed, never forced.

Such an API takes messages, not a prompt, and what it has begun cannot be gone on with: so nothing
can be capped below the model's own limit, and no end refused. What it returns as reasoning is kept
as the thinking, the rest as the answer.

There is no tokenizer to count with. Ids are of pieces of four bytes of text, about as many as there
would be tokens, and the session says so (`count_source`: estimated); its cost is the API's usage.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from slowthink.engines.server.pool import EndpointPool
from slowthink.engines.server.probe import Prober, same_everywhere
from slowthink.engines.server.workers import Workers
from slowthink.engines.session import Capabilities, Compiler, Job, JobInProgress, JobResult, Point
from slowthink.errors import ConfigError, EngineError
from slowthink.forcing.machine import ForcingMachine
from slowthink.recipe import EngineConfig
from slowthink.records import (
    AnswerEnd,
    Chain,
    ChainState,
    Cost,
    Event,
    EventKind,
    Sampling,
)
from slowthink.serialise import digest

_FILL = 0xFF
"""Fills a piece up to four bytes: it is in no UTF-8 text."""
_END, _CUT = 0xFFFFFFFF, 0xFFFFFFFE
"""Pieces of no text: the end of a turn; what is missing of thinking that was cut."""
_REASONING = ("reasoning_content", "reasoning")
"""Where servers put a model's thinking: vLLM, SGLang, DeepSeek; OpenRouter, Ollama."""


class PieceTokenizer:
    """Text in pieces of four UTF-8 bytes; messages as JSON."""

    eos_token_id = _END
    chat_template = "messages"
    name_or_path = "pieces of four bytes"

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """A number for every four bytes."""
        data = text.encode()
        pieces = [data[at : at + 4] for at in range(0, len(data), 4)]
        return [int.from_bytes(one.ljust(4, bytes([_FILL])), "big") for one in pieces]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of pieces."""
        texts = [one.to_bytes(4, "big") for one in ids if one < _CUT]
        data = b"".join(text.rstrip(bytes([_FILL])) for text in texts)
        return data.decode(errors="replace")

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, str]], tokenize: bool, add_generation_prompt: bool
    ) -> str:
        """The messages themselves."""
        return json.dumps(list(messages), ensure_ascii=False)


class ChatSession:
    """A chat model behind an API, ready to be asked."""

    def __init__(
        self, name: str, config: EngineConfig, *, notify: Callable[[str], None] = lambda _: None
    ) -> None:
        assert config.endpoints is not None
        self.tokenizer = PieceTokenizer()
        self.eos_ids = frozenset({_END})
        self.compiler = Compiler(self.tokenizer, eos_ids=self.eos_ids)
        self.count_source = "estimated"
        self.cost = Cost()
        self._own_limit = config.max_context
        self._pool = EndpointPool(config.endpoints)
        urls = config.endpoints.urls
        self._workers = Workers(
            self._do, at_once=config.endpoints.max_concurrency * len(urls), pool=self._pool
        )
        try:
            self._open(name, config)
        except BaseException:
            self._workers.close()
            raise
        notify(
            f"{self._model}: a chat API: nothing is forced there, and lengths are estimates "
            "(four bytes a token)."
        )

    def __enter__(self) -> ChatSession:
        return self

    def __exit__(self, *error: object) -> None:
        self._workers.close()

    @property
    def anomalies(self) -> Counter[str]:
        """What was tried again, by reason."""
        return self._pool.counts

    def submit(self, job: Job) -> None:
        """Queue a job. Raises ConfigError where its budget would have to be forced."""
        for point in job.points:
            self._refuse(job, point)
        self._workers.submit(job)

    def completed(self, timeout: float | None = None) -> list[JobResult]:
        """Jobs finished since the last call; waits for one."""
        found = self._workers.completed(timeout)
        for outcome in found:
            self.cost += outcome.cost
        return found

    def cancel(self, keys: Iterable[str]) -> None:
        """Drop queued jobs, and break off running ones."""
        self._workers.cancel(keys)

    def _open(self, name: str, config: EngineConfig) -> None:
        assert config.endpoints is not None
        wanted = config.endpoints.model or name
        probers = [Prober(self._pool, one, self.tokenizer) for one in self._pool.endpoints]
        found = [self._workers.wait(prober.find_model(wanted)) for prober in probers]
        dialect = same_everywhere(config.endpoints.urls, found)
        self._model = dialect.model
        self._own_limit = config.max_context or dialect.max_context
        self.fingerprint = digest(["chat", dialect.model, dialect.facts])
        self.numerics = f"openai-chat/{dialect.model}/{dialect.version}"
        self.capabilities = Capabilities(
            takes_ids=False,
            returns_ids=False,
            logprobs=False,
            in_flight=False,
            rollback=False,
            reproducible=False,
            max_context=self._own_limit or 2**31,
        )

    # -- what it cannot do --

    def _refuse(self, job: Job, point: Point) -> None:
        budget, sampling = job.request.budget, job.request.sampling
        own = self._own_limit
        held = not point.forced or (own is not None and point.cap >= own)
        what = next(
            (
                name
                for name, is_asked in (
                    ("waits", point.waits > 0),
                    ("a minimum", budget.min_thinking_tokens > 0),
                    ("steps", point.steps is not None),
                    (f"end_rule {budget.end_rule}", budget.end_rule != "drawn"),
                    ("a loop rule", budget.loop is not None),
                    (f"a cap of {point.cap}", not held),
                    ("a format without delimiters", not job.request.format.end and point.forced),
                    ("min_p", sampling.min_p > 0),
                    ("top_k", sampling.top_k > 0),
                )
                if is_asked
            ),
            None,
        )
        if what is not None:
            limit = f"the model's own limit ({own})" if own else "the model's own limit"
            raise ConfigError(
                f"engine.endpoints.api `chat`, model `{self._model}`: cannot force here: {what} "
                "was asked for, and a chat API cannot be made to go on from a given text. Let it "
                f"think as it does: no waits, and free: true or a cap from {limit} on (tell it as "
                "engine.max_context); or use api: completions."
            )

    # -- one job --

    async def _do(self, job: Job) -> JobResult:
        running = JobInProgress.start(job, self.compiler)
        try:
            data = await self._pool.post("/chat/completions", self._body(job))
            self._read(running, data)
        except EngineError as error:
            return running.result(str(error))
        return running.result()

    def _body(self, job: Job) -> dict[str, Any]:
        text = self.tokenizer.decode(job.request.prompt_ids)
        messages, _ = json.JSONDecoder().raw_decode(text)  # the format's start follows it
        body: dict[str, Any] = {"model": self._model, "messages": messages}
        sampling = job.request.sampling
        if sampling != Sampling():
            body |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
        cap = max(point.cap for point in job.points)
        if self._own_limit is None or cap < self._own_limit:
            body["max_tokens"] = cap + job.request.budget.answer_tokens
        return body

    def _read(self, running: JobInProgress, data: Mapping[str, Any]) -> None:
        """Store the reply's thinking and answers in the job."""
        message, finish, usage = _parts(data)
        has_thinking = running.token_format.has_thinking
        content = str(message.get("content") or "")
        reasoning = next((str(message[n]) for n in _REASONING if message.get(n)), "")
        whole = finish != "length"
        ended = whole or (has_thinking and bool(content))
        thought = reasoning if has_thinking else content
        chain = self._chain(running.job, thought, ended=ended)
        running.machine = ForcingMachine(running.rules, cap=0, waits=0, chain=chain)
        running.spend(
            Cost(
                prefilled=usage.get("prompt_tokens") or 0,
                decoded=usage.get("completion_tokens") or 0,
            )
        )
        if ended:
            ids, end = self.tokenizer.encode(content), AnswerEnd.STOP if whole else AnswerEnd.LENGTH
            for branch in running.end_thinking():
                running.add_answer(branch, ids, end)

    def _chain(self, job: Job, thought: str, *, ended: bool) -> Chain:
        """The thinking; where it did not end it is filled up to the cap, which cut it."""
        ids = tuple(self.tokenizer.encode(thought))
        cap = max(point.cap for point in job.points)
        if not ended and any(point.forced for point in job.points):
            raise EngineError(
                f"`{self._model}`: it was cut off at its own limit before it answered; expected an "
                "end. Ask with free: true, where such a one counts as TRUNCATED."
            )
        if ended and len(ids) >= cap:
            raise EngineError(
                f"`{self._model}`: about {len(ids)} tokens of thinking came, and the cap is {cap}; "
                "expected less. Give a larger cap."
            )
        if not ended:
            return Chain(key=job.key, ids=ids[:cap] + (_CUT,) * (cap - len(ids)))
        end = Event(position=len(ids), kind=EventKind.END, drawn=(_END,))
        return Chain(key=job.key, ids=ids, events=(end,), state=ChainState.ENDED)


def _parts(data: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None, Mapping[str, Any]]:
    """Message, reason of the end, and usage."""
    try:
        choice = data["choices"][0]
        return choice["message"], choice.get("finish_reason"), data.get("usage") or {}
    except (KeyError, IndexError, TypeError):
        raise EngineError(
            f"/chat/completions: {str(data)[:200]!r}; expected an object with `choices`. "
            "Is this an OpenAI-compatible server?"
        ) from None
