"""The HTTP engine under faults of networks and servers: each job completes once, or has an error."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

pytest.importorskip("aiohttp")

from benchmarks.fault_run import run
from slowthink.engines.server.endpoints import Endpoint, EndpointPool
from slowthink.engines.server.statuses import RequestRejected, retry_after_seconds
from slowthink.engines.session import Point, generate
from slowthink.errors import EngineError
from slowthink.recipe.base import EndpointConfig
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.sampler import Sampler, Task
from tests.engines.test_openai import make_job, open_toy
from tests.servers.completions import Behaviour, Faults, serve


@pytest.mark.slow
def test_200_of_200_requests_complete_once_despite_faults_and_a_restart() -> None:
    figures = run(200, timeout_seconds=1.0, restart_after=0.7, quick=True)
    assert (figures["done"], figures["right"], figures["given_back_twice"]) == (200, 200, 0), (
        figures
    )
    assert all(count > 0 for count in figures["faults"].values()), figures
    assert any("connection" in reason for reason in figures["tried_again"]), figures


# --- limits of a server -------------------------------------------------------------------


def test_a_limit_is_halved_once_for_simultaneous_requests_and_grows_slowly() -> None:
    endpoint = Endpoint("http://h/v1", 64)
    for _ in range(10):  # ten rejections of requests that started together
        endpoint.reduce_limit(started=1.0, now=2.0)
    assert endpoint.limit == 32
    endpoint.reduce_limit(started=3.0, now=4.0)
    assert endpoint.limit == 16
    for _ in range(16):
        endpoint.increase_limit()
    assert 16.9 < endpoint.limit <= 17
    for _ in range(10_000):
        endpoint.increase_limit()
    assert endpoint.limit == 64
    for second in range(20):
        endpoint.reduce_limit(started=10.0 + second, now=10.5 + second)
    assert endpoint.limit == 1


def test_no_more_requests_are_active_than_allowed() -> None:
    with serve(faults=Faults(delay_seconds=0.02)) as server:
        with open_toy(server, max_concurrency=3) as session:
            list(generate(session, [make_job(session, f"m{n}") for n in range(8)]))
        assert server.max_active == 3


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("7", 7, 7),
        ("1.5", 1.5, 1.5),
        ("-3", 0, 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
    ],
    ids=["seconds", "fraction", "negative", "past date"],
)
def test_retry_after_is_read_as_seconds_and_as_a_date(value, low, high) -> None:
    assert low <= retry_after_seconds(value) <= high


def test_retry_after_is_read_as_a_future_date() -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 50 < retry_after_seconds(when) <= 60


@pytest.mark.parametrize("value", [None, "soon", ""])
def test_a_retry_after_that_cannot_be_read_is_none(value) -> None:
    assert retry_after_seconds(value) is None


def test_retry_after_is_obeyed_and_not_counted_as_a_retry() -> None:
    """There are more rejections than allowed retries; each only postpones the request."""
    faults = Faults(busy=0.9, retry_after_seconds=0.1, seed=2)
    with serve(faults=Faults()) as server, open_toy(server, max_retries=0) as session:
        server.faults = faults
        started = time.monotonic()
        result = next(generate(session, [make_job(session, "busy", points=(Point(5),))]))
        assert result.error is None
        assert session.anomalies["status 429"] > 2
        assert time.monotonic() - started > 0.1
        assert session._pool.endpoints[0].limit < 64


def test_a_cancelled_request_frees_its_slot() -> None:
    """Cancelled while it waits for a slot or while it is active: the next request gets the slot."""

    async def go(url: str) -> None:
        config = EndpointConfig(urls=(url,), max_concurrency=1)
        async with EndpointPool(config) as pool:
            body = {"model": "toy", "prompt": "a", "max_tokens": 1, "temperature": 0}
            tasks = [asyncio.create_task(pool.post("/completions", body)) for _ in range(4)]
            await asyncio.sleep(0.05)
            for task in tasks[:3]:
                task.cancel()
            assert (await tasks[3])["choices"]
            assert pool.endpoints[0].active == 0

    with serve(faults=Faults(delay_seconds=0.2)) as server:
        asyncio.run(go(server.url))


# --- cancelling, failing --------------------------------------------------------------------------


def test_cancelled_jobs_stop_and_return_no_result() -> None:
    with serve() as server, open_toy(server, max_concurrency=4) as session:
        server.faults = Faults(delay_seconds=0.1)
        jobs = [make_job(session, f"c{n}", points=(Point(5),)) for n in range(30)]
        for job in jobs:
            session.submit(job)
        time.sleep(0.15)
        session.cancel([job.key for job in jobs[3:]])
        open_keys = {job.key for job in jobs[:3]}
        while open_keys:
            open_keys -= {result.key for result in session.completed()}
        assert session.completed() == []
        assert len(server.bodies) < 40


def test_completed_returns_after_its_timeout() -> None:
    with serve() as server, open_toy(server) as session:
        server.faults = Faults(delay_seconds=1.0)
        session.submit(make_job(session, "late"))
        started = time.monotonic()
        assert session.completed(timeout=0.05) == []
        assert time.monotonic() - started < 0.9


def test_an_error_after_all_retries_fails_the_run_and_is_stored_as_no_answer(
    tmp_path, make_problem
) -> None:
    with (
        serve() as server,
        open_toy(server, max_retries=1) as session,
        Ledger(tmp_path / "l") as ledger,
    ):
        jobs = [make_job(session, f"e{n}", points=(Point(5),)) for n in range(3)]
        tasks = [
            Task(problem=make_problem(), request=job.request, points=job.points) for job in jobs
        ]
        server.faults = Faults(broken=1.0)
        sampler = Sampler(session, ledger, tag="t")
        with pytest.raises(EngineError, match=r"3 of 3 requests failed.*status 500, 2 times"):
            sampler.complete(tasks)
        keys = [job.key for job in jobs]
        assert ledger.answers(keys) == {}
        server.faults = Faults()
        completed = sampler.complete(tasks)
        assert [len(completions) for completions in completed] == [1, 1, 1]
        assert completed[0][0].count_source == "ids"


def test_the_partial_result_of_a_failed_job_is_kept() -> None:
    with serve() as server, open_toy(server, max_retries=0) as session:
        job = make_job(session, "kept", points=(Point(20, 2),))
        whole = next(generate(session, [job])).chain
        server.faults = Faults(broken=1.0, num_spared=len(server.bodies) + 1)
        result = next(generate(session, [job]))
        assert result.error is not None and result.answers == ()
        assert 0 < len(result.chain.ids) < len(whole.ids)
        assert whole.ids[: len(result.chain.ids)] == result.chain.ids
        server.faults = Faults()
        again = next(generate(session, [replace(job, chain=result.chain)]))
        assert again.chain == whole


def test_long_jobs_return_partial_results(monkeypatch) -> None:
    monkeypatch.setattr("slowthink.engines.server.base_session.CHECKPOINT_SECONDS", 0.0)
    with serve() as server, open_toy(server) as session:
        job = make_job(session, "long", points=(Point(20, 2), Point(5)))
        session.submit(job)
        results = []
        while not results or results[-1].partial:
            results += session.completed()
        last = results[-1]
        assert len(results) >= 3
        lengths = [len(result.chain.ids) for result in results]
        assert lengths == sorted(lengths) and len(last.answers) == 2
        num_decoded = sum(result.cost.decoded for result in results)
        assert num_decoded == session.cost.decoded > 0


def test_a_rejected_request_is_not_retried() -> None:
    async def go(url: str) -> None:
        async with EndpointPool(EndpointConfig(urls=(url,))) as pool:
            await pool.post("/completions", {"model": "nobody", "prompt": "a", "max_tokens": 1})

    with serve() as server:
        with pytest.raises(RequestRejected, match="status 404"):
            asyncio.run(go(server.url))
        assert len(server.bodies) == 1


def test_an_error_does_not_contain_the_key(monkeypatch) -> None:
    monkeypatch.setenv("TOY_KEY", "sk-wrong-secret")
    with serve(behaviour=Behaviour(key="sk-right")) as server:
        with pytest.raises(Exception, match="status 401") as caught:
            open_toy(server, api_key_env="TOY_KEY")
        assert "sk-wrong-secret" not in str(caught.value)
        monkeypatch.setenv("TOY_KEY", "sk-right")
        with open_toy(server, api_key_env="TOY_KEY") as session:
            assert "sk-right" not in f"{session.fingerprint} {session.numerics} {session._features}"
            assert "sk-right" not in repr(session._pool)


def test_requests_wait_for_a_restarting_server_even_without_retries() -> None:
    with serve() as server, open_toy(server, max_retries=0) as session:
        jobs = [make_job(session, f"restart{n}", points=(Point(5),)) for n in range(4)]
        server._call(server._shut_down())
        for job in jobs:
            session.submit(job)
        assert session.completed(timeout=0.7) == []
        server._call(server._listen())
        assert all(result.error is None for result in generate(session, jobs))
        assert session.anomalies["no connection (ConnectionRefusedError)"] >= 4
