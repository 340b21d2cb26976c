"""Jobs in the event loop's thread: places that come free, and a thread that always ends."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

from slowthink.engines.server.job_runner import JobRunner


class Quiet:
    """A pool without servers."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.closed = False

    async def __aenter__(self):
        if self.error:
            raise self.error

    async def __aexit__(self) -> None:
        self.closed = True


def job(name: str) -> SimpleNamespace:
    return SimpleNamespace(key=name)


async def at_once(one) -> SimpleNamespace:
    return SimpleNamespace(key=one.key, partial=False)


async def never(one) -> SimpleNamespace:
    await asyncio.Event().wait()
    raise AssertionError


def test_job_cancelled_before_it_began_frees_its_place() -> None:
    workers = JobRunner(at_once, max_running=1, pool=Quiet())
    gate = threading.Event()
    for number in range(5):
        gate.clear()
        workers._loop.call_soon_threadsafe(gate.wait)  # both calls come in one round of the loop
        workers.submit(job(f"early {number}"))
        workers.cancel([f"early {number}"])
        gate.set()
    workers.submit(job("late"))
    assert [one.key for one in workers.completed(timeout=10)] == ["late"]
    workers.close()


def test_cancelled_job_makes_room_for_the_next() -> None:
    run = {"stuck": never}
    workers = JobRunner(lambda one: run.get(one.key, at_once)(one), max_running=1, pool=Quiet())
    workers.submit(job("stuck"))
    workers.submit(job("next"))
    workers.cancel(["stuck"])
    assert [one.key for one in workers.completed(timeout=10)] == ["next"]
    workers.close()


def test_close_ends_jobs_pool_and_thread() -> None:
    pool = Quiet()
    workers = JobRunner(never, max_running=2, pool=pool)
    for name in "abc":
        workers.submit(job(name))
    workers.close()
    workers.close()
    assert pool.closed
    assert workers._loop.is_closed()
    assert not workers._thread.is_alive()


def test_pool_that_does_not_open_leaves_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(OSError, match="no server"):
        JobRunner(at_once, max_running=1, pool=Quiet(OSError("no server")))
    assert threading.active_count() == before


def test_what_a_job_raises_comes_to_the_caller() -> None:
    async def broken(one):
        raise ValueError(one.key)

    workers = JobRunner(broken, max_running=1, pool=Quiet())
    workers.submit(job("a"))
    with pytest.raises(ValueError, match="a"):
        workers.completed(timeout=10)
    workers.close()
