"""Batches on a small model: sweeps at the price of their longest run, and stops at any step."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

torch = pytest.importorskip("torch")

from benchmarks import sweep
from slowthink.engines.session import Job, Point, generate
from slowthink.engines.transformers.session import TransformersSession
from slowthink.recipe import EngineConfig
from slowthink.records import AnswerEnd, Cost, EventKind
from tests.tiny import END_PROBABILITY

LOAD = sweep.Workload(
    caps=(4, 8, 16, 32, 64, 160), waits=(1, 2, 3, 4), num_questions=4, minimum=40,
    end_probability=END_PROBABILITY, answer_tokens=6,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Two layers gain nothing from a second thread, which waits on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def open_tiny(tiny_model, **more) -> TransformersSession:
    config = EngineConfig(**{"dtype": "float32", "batch_size": 4} | more)
    session = TransformersSession(tiny_model, config)
    session.checkpoint_seconds = float("inf")
    return session


@pytest.fixture(scope="module")
def session(tiny_model):
    with open_tiny(tiny_model) as session:
        yield session


def drawn_tokens(chains, answers) -> int:
    """Tokens of these chains and answers that were drawn; an end that was refused by the next best
    token was drawn twice."""
    thought = sum(
        len(chain.ids) - sum(event.forced for event in chain.events) + len(chain.events)
        for chain in chains
    )
    return thought + sum(
        len(answer.ids) + (answer.end_reason is AnswerEnd.STOP) for answer in answers
    )


def test_no_thinking_token_of_a_sweep_is_made_or_prefilled_twice(session) -> None:
    jobs = sweep.make_jobs(session, LOAD)
    before = session.cost
    results = list(generate(session, jobs))
    spent = session.cost - before
    waits = [e for o in results for e in o.chain.events if e.kind is EventKind.WAIT]
    assert len(waits) == 4 * len(jobs), "all waits occur"
    assert spent.prefilled == sum(len(job.request.prompt_ids) for job in jobs)
    assert spent.re_prefilled == 0
    answers = [answer for result in results for answer in result.answers]
    assert spent.decoded == drawn_tokens([o.chain for o in results], answers)
    assert spent.forced == sum(e.forced for e in waits) + sum(len(a.closing) for a in answers)


def test_the_bench_finds_what_a_sweep_saves_and_the_same_tokens(session) -> None:
    data = sweep.measure(session, LOAD, num_rounds=1)
    assert data["waits_made_to_occur"] == 1.0
    assert data["same_thinking_as_separate_runs"] == 1.0
    assert data["separate_over_sweep_prefilled"] == len(LOAD.points)
    tokens = data["tokens"]
    ratio = tokens["separate"]["decoded"] / tokens["sweep"]["decoded"]
    assert data["separate_over_sweep"] == round(ratio, 3) > 2
    assert 1 < data["sweep_over_longest"] < 2


def test_jobs_that_join_as_others_leave_give_the_same_tokens(session, tiny_model) -> None:
    """fp32: three at a time with free rows refilled, against fixed batches."""
    caps = [3, 90, 12, 40, 7, 60, 0, 25]
    base = sweep.make_jobs(session, LOAD) * 2
    jobs = [
        replace(
            job, points=(Point(cap), Point(cap, 2)), request=replace(job.request, sample=number)
        )
        for number, (job, cap) in enumerate(zip(base, caps, strict=True))
    ]
    fixed = {result.key: result for result in generate(session, jobs)}
    with open_tiny(tiny_model, batch_size=3, reproducible=False) as flowing:
        assert not flowing.capabilities.reproducible
        results = list(generate(flowing, jobs))
        spent = flowing.cost
    assert {result.key for result in results} == set(fixed)
    for result in results:
        assert result.chain == fixed[result.key].chain
        assert set(result.answers) == set(fixed[result.key].answers)
    answers = [answer for result in results for answer in result.answers]
    assert spent.decoded == drawn_tokens([result.chain for result in results], answers)
    assert sum((result.cost for result in results), Cost()) == spent
    assert spent.re_prefilled == 0


@pytest.mark.parametrize("reproducible", [True, False])
def test_long_prompts_make_small_batches(tiny_model, monkeypatch, reproducible) -> None:
    limit = 700
    with open_tiny(tiny_model, batch_tokens=limit, reproducible=reproducible) as session:
        (first,) = sweep.make_jobs(session, replace(LOAD, num_questions=1))
        jobs = [
            replace(
                first, points=(Point(20),),
                request=replace(first.request, prompt_ids=first.request.prompt_ids * times),
            )
            for times in (1, 2, 3, 6, 7, 8, 40)
        ]  # fmt: skip
        fed = []
        feed = session._decoder.feed

        def watched(first_slot, blocks, starts):
            rows = first_slot + len(blocks)
            ends = [start + len(block) for start, block in zip(starts, blocks, strict=True)]
            fed.append((rows, rows * max(ends)))
            return feed(first_slot, blocks, starts)

        monkeypatch.setattr(session._decoder, "feed", watched)
        keys = {result.key for result in generate(session, jobs)}
    assert keys == {job.key for job in jobs}
    assert max(rows for rows, _ in fed) > 1
    assert max(tokens for rows, tokens in fed if rows > 1) <= limit
    assert max(tokens for rows, tokens in fed if rows == 1) > limit, "the longest runs alone"


def test_a_short_job_that_joined_late_is_done_before_a_long_one(tiny_model) -> None:
    with open_tiny(tiny_model, batch_size=2, reproducible=False) as flowing:
        (job,) = sweep.make_jobs(flowing, replace(LOAD, num_questions=1))
        requests = [replace(job.request, sample=number) for number in range(4)]
        by_key = {request.chain_key(): request for request in requests}
        first, *others = sorted(by_key)
        for key in (first, *others):
            cap = 120 if key == first else 6
            flowing.submit(Job(request=by_key[key], points=(Point(cap),)))
        order = []
        while len(order) < 4:
            order += [result.key for result in flowing.completed() if not result.partial]
    assert order[-1] == first
    assert sorted(order) == sorted(by_key)


@pytest.mark.parametrize("num_steps", [1, 30, 75, 120, 135, 170, 190])
def test_a_batch_stopped_at_any_step_resumes_to_the_same_tokens(session, num_steps) -> None:
    """Partial results are reused, and their cost is that of the tokens they contain."""
    jobs = sweep.make_jobs(session, LOAD)
    whole = {result.key: result for result in generate(session, jobs)}
    chains, answers, cost = {}, {}, 0
    session.checkpoint_seconds = 0
    for job in jobs:
        session.submit(job)
    for _ in range(num_steps):
        for result in session.completed():
            chains[result.key] = result.chain
            answers |= {answer.key: answer for answer in result.answers}
            cost += result.cost.decoded
    session._queue.clear()
    session._batch, session._steps = None, iter(())
    session.checkpoint_seconds = float("inf")
    assert cost == drawn_tokens(chains.values(), answers.values())
    cached = frozenset(answers)
    remaining = [
        Job(request=job.request, points=job.points, chain=chains[job.key], answer_keys=cached)
        for job in jobs
    ]
    for result in generate(session, remaining):
        assert result.chain == whole[result.key].chain
        assert not cached & {answer.key for answer in result.answers}, (
            "cached answers are not made again"
        )
        answers |= {answer.key: answer for answer in result.answers}
    expected = {a.key: a.ids for result in whole.values() for a in result.answers}
    assert {key: answer.ids for key, answer in answers.items()} == expected


def test_the_costs_of_partial_results_add_up(session) -> None:
    jobs = sweep.make_jobs(session, LOAD)
    total = sum(result.cost.decoded for result in generate(session, jobs))
    session.checkpoint_seconds = 0.02
    in_parts = sum(result.cost.decoded for result in generate(session, jobs))
    session.checkpoint_seconds = float("inf")
    assert in_parts == total


def test_an_idle_session_has_nothing(session) -> None:
    assert session.completed() == []
    session.submit(Job(request=sweep.make_jobs(session, LOAD)[0].request, points=(Point(3),)))
    session.cancel([sweep.make_jobs(session, LOAD)[0].key])
    assert session.completed() == []
