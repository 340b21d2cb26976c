"""Jobs over HTTP, at work in one thread's event loop; the rest of the program sees no asyncio.

workers = Workers(run, at_once=64, pool=pool)
workers.submit(job)
workers.completed(timeout=None)     [Outcome(key="…", …)], as soon as one is done
"""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from slowthink.engines.server.pool import EndpointPool
from slowthink.engines.session import Job, JobResult

T = TypeVar("T")


class Workers:
    """Runs each job once, at most `at_once` together; opens the pool, and closes it."""

    def __init__(
        self,
        run: Callable[[Job], Coroutine[Any, Any, JobResult]],
        *,
        at_once: int,
        pool: EndpointPool,
    ) -> None:
        self._run = run
        self._pool = pool
        self._at_once = at_once
        self._queued: dict[str, Job] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._done: queue.Queue[JobResult | BaseException] = queue.Queue()
        self._open: set[str] = set()
        """Keys submitted and neither given back nor cancelled; of the caller's thread."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self.wait(pool.__aenter__())
        except BaseException:
            self._end_thread()
            raise

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run this in the loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._open.add(job.key)
        self._loop.call_soon_threadsafe(self._add, job)

    def completed(self, timeout: float | None) -> list[JobResult]:
        """What is done; waits for one. Raises what a job raised that was no EngineError."""
        if not self._open:
            return []
        found: list[JobResult] = []
        try:
            found += self._taken(self._done.get(timeout=timeout))
            while not self._done.empty() or (not found and timeout is None and self._open):
                found += self._taken(self._done.get())
        except queue.Empty:
            pass
        return found

    def cancel(self, keys: Iterable[str]) -> None:
        """Stop these; nothing comes of them."""
        for key in keys:
            if key in self._open:
                self._open.remove(key)
                self._loop.call_soon_threadsafe(self._drop, key)

    def keep(self, outcome: JobResult) -> None:
        """Give back what a running job has come to; in the loop's thread."""
        self._done.put(outcome)

    def close(self) -> None:
        """Stop everything, and end the thread."""
        if self._loop.is_closed():
            return
        self._open.clear()
        try:
            self.wait(self._stop())
        finally:
            self._end_thread()

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _taken(self, one: JobResult | BaseException) -> list[JobResult]:
        if isinstance(one, BaseException):
            raise one
        if one.key not in self._open:
            return []  # cancelled when it was done already
        if not one.partial:
            self._open.remove(one.key)
        return [one]

    # -- in the loop's thread --

    def _add(self, job: Job) -> None:
        self._queued[job.key] = job
        self._start()

    def _drop(self, key: str) -> None:
        self._queued.pop(key, None)
        if key in self._tasks:
            self._tasks[key].cancel()

    def _start(self) -> None:
        while self._queued and len(self._tasks) < self._at_once:
            key = next(iter(self._queued))
            job = self._queued.pop(key)
            self._tasks[key] = task = self._loop.create_task(self._work(job))
            task.add_done_callback(functools.partial(self._ended, key))

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        """Its place is free, also where it was cancelled before it began."""
        if self._tasks.get(key) is task:
            del self._tasks[key]
        self._start()

    async def _work(self, job: Job) -> None:
        try:
            self._done.put(await self._run(job))
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # handed to whoever waits
            self._done.put(error)

    async def _stop(self) -> None:
        self._queued.clear()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._pool.__aexit__()
