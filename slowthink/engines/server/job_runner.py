"""Runs jobs concurrently in the event loop of one thread; callers need no asyncio.

runner = JobRunner(run, max_running=64, pool=pool)
runner.submit(job)
runner.completed(timeout=None)     [JobResult(key="…", …)], as soon as one finishes
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

from slowthink.engines.server.endpoints import EndpointPool
from slowthink.engines.session import Job, JobResult

T = TypeVar("T")


class JobRunner:
    """Runs each job once, at most `max_running` at a time. Opens the pool and closes it."""

    def __init__(
        self,
        run: Callable[[Job], Coroutine[Any, Any, JobResult]],
        *,
        max_running: int,
        pool: EndpointPool,
    ) -> None:
        self._run = run
        self._pool = pool
        self._slots = asyncio.Semaphore(max_running)
        self._futures: dict[str, Future[None]] = {}
        """Futures of jobs neither returned nor cancelled, by key; only for the caller's thread."""
        self._results: queue.Queue[JobResult | BaseException] = queue.Queue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self.run_in_loop(pool.__aenter__())
        except BaseException:
            self._end_thread()
            raise

    def run_in_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the event loop; block until it returns, and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._futures[job.key] = asyncio.run_coroutine_threadsafe(self._run_job(job), self._loop)

    def completed(self, timeout: float | None) -> list[JobResult]:
        """Return the results since the last call. Blocks until there is one, at most `timeout`
        seconds. Re-raises exceptions of `run`."""
        if not self._futures:
            return []
        deadline = None if timeout is None else time.monotonic() + timeout
        results: list[JobResult] = []
        while not results or not self._results.empty():
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                results += self._accepted(self._results.get(timeout=left))
            except queue.Empty:
                break
        return results

    def cancel(self, keys: Iterable[str]) -> None:
        """Drop these jobs, queued or running; they return no result."""
        for key in keys:
            if key in self._futures:
                self._futures.pop(key).cancel()

    def report(self, partial: JobResult) -> None:
        """Let `completed` return this partial result; called in the loop's thread."""
        self._results.put(partial)

    def close(self) -> None:
        """Cancel all jobs, close the pool and end the thread."""
        if self._loop.is_closed():
            return
        self._futures.clear()
        try:
            self.run_in_loop(self._cancel_all_jobs_and_close_pool())
        finally:
            self._end_thread()

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _accepted(self, result: JobResult | BaseException) -> list[JobResult]:
        """The result in a list, empty if its job was cancelled. Raises an exception of `run`."""
        if isinstance(result, BaseException):
            raise result
        if result.key not in self._futures:
            return []
        if not result.partial:
            del self._futures[result.key]
        return [result]

    async def _run_job(self, job: Job) -> None:
        try:
            async with self._slots:
                self._results.put(await self._run(job))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # `completed` raises it in the caller's thread
            self._results.put(error)

    async def _cancel_all_jobs_and_close_pool(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._pool.__aexit__()
