"""The openai engine: budget forcing over any server with `/v1/completions`.

Thinking is forced by the client, in rounds (`rounds`), always: a server's own cap is not used,
since whether it holds is not to be seen before it fails. With `in_flight` the servers are our own
(`slowthink serve`) and force inside one request. Jobs run side by side in one thread's event loop;
`completed` gives each as soon as it is done.

    engine: {kind: openai, endpoints: {urls: [http://a:8000/v1, http://b:8000/v1]}}

The model's fingerprint is of the server's name of the model, of what `/v1/models` says of it, of
the tokenizer, and of the files where the recipe's `model` is a folder here. A server shows nobody
its weights: without that folder, others under the same name and path are not told apart; give them
another name (`vllm serve --served-model-name`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from slowthink.engines.models import tokenizer_fingerprint
from slowthink.engines.server.in_flight import InFlight
from slowthink.engines.server.pool import EndpointPool
from slowthink.engines.server.probe import Dialect, Prober, same_everywhere
from slowthink.engines.server.refusals import refuse_impossible
from slowthink.engines.server.rounds import Rounds
from slowthink.engines.server.tokenizer import (
    ServedTokenizer,
    asks,
    local_eos_ids,
    local_fingerprint,
    local_tokenizer,
    served_tokenizer,
)
from slowthink.engines.server.workers import Workers
from slowthink.engines.session import (
    Capabilities,
    Compiler,
    Job,
    JobInProgress,
    JobResult,
    check_context,
)
from slowthink.errors import ConfigError, EngineError
from slowthink.recipe import EndpointConfig, EngineConfig
from slowthink.records import Cost
from slowthink.serialise import digest

T = TypeVar("T")
_CHECKPOINT_SECONDS = 2.0
"""Interval of a job's partial results."""


class OpenAISession:
    """Servers that hold one model, ready to think and answer."""

    def __init__(
        self,
        name: str,
        config: EngineConfig,
        *,
        revision: str | None = None,
        notify: Callable[[str], None] = lambda _: None,
        tokenizer: Any = None,
    ) -> None:
        self._endpoints = _endpoints(config)
        self._say = notify
        self._pool = EndpointPool(self._endpoints)
        at_once = self._endpoints.max_concurrency * len(self._endpoints.urls)
        self._workers = Workers(self._do, at_once=at_once, pool=self._pool)
        self.cost = Cost()
        try:
            self._open(name, config, revision, tokenizer)
        except BaseException:
            self._workers.close()
            raise

    def __enter__(self) -> OpenAISession:
        return self

    def __exit__(self, *error: object) -> None:
        self._workers.close()

    @property
    def anomalies(self) -> Counter[str]:
        """What servers did that they were not asked to, and did no harm; what was tried again."""
        return Counter(dict(self._rounds.anomalies)) + Counter(dict(self._pool.counts))

    def submit(self, job: Job) -> None:
        """Queue a job. Raises ConfigError where these servers cannot keep its budget exactly."""
        check_context(job, max_context=self.capabilities.max_context)
        token_format = self.compiler.token_format(job.request.format)
        refuse_impossible(job, token_format, dialect=self._dialect, tokenizer=self.tokenizer)
        if self._in_flight is not None:
            self._in_flight.refuse(job)
        self._workers.submit(job)

    def completed(self, timeout: float | None = None) -> list[JobResult]:
        """Jobs finished since the last call; waits for one. An outcome with an error holds what was
        had before it."""
        found = self._workers.completed(timeout)
        for outcome in found:
            self.cost += outcome.cost
        return found

    def cancel(self, keys: Iterable[str]) -> None:
        """Drop queued jobs, and break off running ones."""
        self._workers.cancel(keys)

    # -- start and end --

    def _open(self, name: str, config: EngineConfig, revision: str | None, tokenizer: Any) -> None:
        found = self._workers.wait(self._each(lambda prober: self._model(prober)))
        model = same_everywhere(self._endpoints.urls, found)
        if tokenizer is None:
            self.tokenizer, self.eos_ids = self._tokens(name, revision, model)
        else:
            self.tokenizer, self.eos_ids = tokenizer, frozenset({tokenizer.eos_token_id})
        self.compiler = Compiler(self.tokenizer, eos_ids=self.eos_ids)
        probed = self._workers.wait(self._each(lambda prober: prober.probe(model)))
        self._dialect = same_everywhere(self._endpoints.urls, probed)
        self._rounds = Rounds(
            lambda body: self._pool.post("/completions", body),
            self._dialect,
            self.tokenizer,
            self.eos_ids,
        )
        self._in_flight = self._our_own(model.model) if self._endpoints.in_flight else None
        self._describe(name, config)

    def _our_own(self, model: str) -> InFlight:
        """Raises ConfigError where a server was not started by `slowthink serve`."""
        ours = self._workers.wait(self._each(lambda prober: prober.takes_processor(model)))
        for url, is_ours in zip(self._endpoints.urls, ours, strict=True):
            if not is_ours or not self._dialect.returns_ids or not self._dialect.takes_ids:
                raise ConfigError(
                    f"engine.endpoints.in_flight: {url} takes no budget: it answered a request "
                    "with a setting of ours that does not exist as if it were not there; expected "
                    "a server started by `slowthink serve`. Start it so, or set in_flight: false."
                )
        return InFlight(self._rounds, self.compiler, stop_id=self.tokenizer.eos_token_id)

    def _describe(self, name: str, config: EngineConfig) -> None:
        """What the session is, from what the servers told."""
        dialect = self._dialect
        max_context = config.max_context or dialect.max_context
        if max_context is None:
            raise ConfigError(
                f"engine.max_context: the server of `{dialect.model}` does not tell how many "
                "tokens its context holds; expected a number, since nothing may be cut. "
                "Give it: --set engine.max_context=8192"
            )
        parts = [
            dialect.model,
            dialect.facts,
            tokenizer_fingerprint(self.tokenizer),
            local_fingerprint(name),
        ]
        self.fingerprint = digest(["served", *parts])
        self.numerics = f"openai/{dialect.model}/{dialect.version}"
        self.count_source = "ids" if dialect.returns_ids else "retokenised"
        self.capabilities = Capabilities(
            takes_ids=dialect.takes_ids,
            returns_ids=dialect.returns_ids,
            logprobs=bool(dialect.logprobs),
            in_flight=self._in_flight is not None,
            rollback=not isinstance(self.tokenizer, ServedTokenizer),
            reproducible=False,
            max_context=max_context,
        )
        if not dialect.returns_ids:
            self._say(
                f"{dialect.model}: the server returns no token ids; its text is tokenised again, "
                "and counts are of that (count_source: retokenised)."
            )

    async def _each(self, ask: Callable[[Prober], Coroutine[Any, Any, T]]) -> list[T]:
        """What every address says."""
        tokenizer = getattr(self, "tokenizer", None)
        probers = [Prober(self._pool, endpoint, tokenizer) for endpoint in self._pool.endpoints]
        return list(await asyncio.gather(*(ask(prober) for prober in probers)))

    async def _model(self, prober: Prober) -> Dialect:
        return await prober.find_model(self._endpoints.model)

    def _tokens(
        self, name: str, revision: str | None, model: Dialect
    ) -> tuple[Any, frozenset[int]]:
        """The tokenizer, and the ids that end a turn."""
        local = local_tokenizer(name, revision)
        if local is not None:
            return local, local_eos_ids(name, revision, local)
        self._say(f"{name}: no tokenizer of that name here; the server's own is asked.")
        served = served_tokenizer(asks(self._endpoints.urls[0], self._pool.key), model.model)
        return served, served.eos_ids

    # -- one job --

    async def _do(self, job: Job) -> JobResult:
        running = JobInProgress.start(job, self.compiler, self._workers.keep)
        running.checkpoint_seconds = _CHECKPOINT_SECONDS
        try:
            if self._in_flight is not None:
                await self._in_flight.think(running)
            else:
                await self._rounds.think(job.request, running.machine, running)
            running.end_thinking()
            await self._answer(running)
        except EngineError as error:
            return running.result(str(error))
        return running.result()

    async def _answer(self, running: JobInProgress) -> None:
        """Make all missing answers concurrently."""
        errors = await asyncio.gather(
            *(self._rounds.answer(branch, running) for branch in running.missing),
            return_exceptions=True,
        )
        for error in errors:
            if error is not None:
                raise error


def _endpoints(config: EngineConfig) -> EndpointConfig:
    if config.endpoints is None:
        raise ConfigError(
            "engine.endpoints: needed for engine.kind `openai`: where the servers are. "
            "Give them: --set engine.endpoints.urls=[http://localhost:8000/v1]"
        )
    return config.endpoints
