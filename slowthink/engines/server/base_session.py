"""What all sessions over HTTP share: the servers, the thread that runs jobs, and the total cost."""

from __future__ import annotations

import abc
import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Self, TypeVar

from slowthink.engines.server.endpoints import EndpointPool
from slowthink.engines.server.job_runner import JobRunner
from slowthink.engines.server.probe import Prober, ServerFeatures, common_features
from slowthink.engines.session import Capabilities, Compiler, Job, JobInProgress, JobResult
from slowthink.errors import ConfigError, EngineError
from slowthink.recipe import EngineConfig
from slowthink.records import Cost
from slowthink.serialise import digest

T = TypeVar("T")
CHECKPOINT_SECONDS = 2.0
"""Interval between partial results of one job."""


class ServerSession(abc.ABC):
    """A session on servers of one model. Subclasses find the model in `_connect` and run a job in
    `_generate`."""

    fingerprint: str
    numerics: str
    capabilities: Capabilities
    count_source: str
    tokenizer: Any
    eos_ids: frozenset[int]
    compiler: Compiler

    def __init__(self, name: str, config: EngineConfig, notify: Callable[[str], None]) -> None:
        if config.endpoints is None:
            raise ConfigError(
                "engine.endpoints: missing; engine.kind `openai` needs the servers' addresses. "
                "Give them: --set engine.endpoints.urls=[http://localhost:8000/v1]"
            )
        self.cost = Cost()
        self._notify = notify
        self._endpoints = config.endpoints
        self._pool = EndpointPool(config.endpoints)
        max_running = config.endpoints.max_concurrency * len(config.endpoints.urls)
        self._runner = JobRunner(self._run, max_running=max_running, pool=self._pool)
        try:
            self._connect(name, config)
        except BaseException:
            self._runner.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.close()

    @property
    def anomalies(self) -> Counter[str]:
        """Failed attempts that were retried, by reason."""
        return self._pool.failure_counts

    def completed(self, timeout: float | None = None) -> list[JobResult]:
        """Return results since the last call, also partial ones. Blocks until there is one, at most
        `timeout` seconds. A failed job's result includes what was generated before the failure."""
        results = self._runner.completed(timeout)
        for result in results:
            self.cost += result.cost
        return results

    def cancel(self, keys: Iterable[str]) -> None:
        """Drop queued jobs and stop running ones."""
        self._runner.cancel(keys)

    @abc.abstractmethod
    def _connect(self, name: str, config: EngineConfig) -> None: ...

    @abc.abstractmethod
    async def _generate(self, state: JobInProgress) -> None: ...

    async def _run(self, job: Job) -> JobResult:
        state = JobInProgress.start(job, self.compiler, self._runner.report)
        state.checkpoint_seconds = CHECKPOINT_SECONDS
        try:
            await self._generate(state)
        except EngineError as error:
            return state.result(str(error))
        return state.result()

    def _numerics(self, *names: str) -> str:
        """What these names identify, with the settings' further fields of a request: a completion
        with other fields is another one."""
        fields = self._endpoints.request_fields
        return "/".join([*names, digest(fields)[:12]] if fields else names)

    def _probe_each_server(self, probe: Callable[[Prober], Coroutine[Any, Any, T]]) -> list[T]:
        """Run a probe on every server and return its results, in the order of the URLs."""

        async def probe_all() -> list[T]:
            endpoints = self._pool.endpoints
            probers = [Prober(self._pool, endpoint, self.tokenizer) for endpoint in endpoints]
            return list(await asyncio.gather(*map(probe, probers)))

        return self._runner.run_in_loop(probe_all())

    def _probe_common_features(
        self, probe: Callable[[Prober], Coroutine[Any, Any, ServerFeatures]]
    ) -> ServerFeatures:
        """Run a probe on every server; return the features. Raises ConfigError if they differ."""
        return common_features(self._endpoints.urls, self._probe_each_server(probe))
