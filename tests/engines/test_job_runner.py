"""Jobs in the event loop's thread: slots are released, and the thread always ends."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

from slowthink.engines.server.job_runner import JobRunner


class PoolWithoutServers:
    """A pool without servers."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.closed = False

    async def __aenter__(self):
        if self.error:
            raise self.error

    async def __aexit__(self) -> None:
        self.closed = True


def make_job(name: str) -> SimpleNamespace:
    return SimpleNamespace(key=name)


async def finish(job) -> SimpleNamespace:
    return SimpleNamespace(key=job.key, partial=False)


async def never_finish(job) -> SimpleNamespace:
    await asyncio.Event().wait()
    raise AssertionError


def test_job_cancelled_before_it_started_frees_its_slot() -> None:
    runner = JobRunner(finish, max_running=1, pool=PoolWithoutServers())
    gate = threading.Event()
    for number in range(5):
        gate.clear()
        runner._loop.call_soon_threadsafe(gate.wait)  # both calls run in one iteration of the loop
        runner.submit(make_job(f"early {number}"))
        runner.cancel([f"early {number}"])
        gate.set()
    runner.submit(make_job("late"))
    assert [result.key for result in runner.completed(timeout=10)] == ["late"]
    runner.close()


def test_cancelled_job_frees_its_slot_for_the_next() -> None:
    run = {"stuck": never_finish}
    runner = JobRunner(
        lambda job: run.get(job.key, finish)(job), max_running=1, pool=PoolWithoutServers()
    )
    runner.submit(make_job("stuck"))
    runner.submit(make_job("next"))
    runner.cancel(["stuck"])
    assert [result.key for result in runner.completed(timeout=10)] == ["next"]
    runner.close()


def test_close_ends_jobs_pool_and_thread() -> None:
    pool = PoolWithoutServers()
    runner = JobRunner(never_finish, max_running=2, pool=pool)
    for name in "abc":
        runner.submit(make_job(name))
    runner.close()
    runner.close()
    assert pool.closed
    assert runner._loop.is_closed()
    assert not runner._thread.is_alive()


def test_no_thread_is_left_if_the_pool_does_not_open() -> None:
    before = threading.active_count()
    with pytest.raises(OSError, match="no server"):
        JobRunner(finish, max_running=1, pool=PoolWithoutServers(OSError("no server")))
    assert threading.active_count() == before


def test_an_exception_of_a_job_is_raised_in_the_callers_thread() -> None:
    async def broken(job):
        raise ValueError(job.key)

    runner = JobRunner(broken, max_running=1, pool=PoolWithoutServers())
    runner.submit(make_job("a"))
    with pytest.raises(ValueError, match="a"):
        runner.completed(timeout=10)
    runner.close()
