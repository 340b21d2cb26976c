"""The vLLM engine on the real model: preempted, prefilled in chunks, with shared prefixes, and yet
the ids of the transformers engine and of the literal loop. fp32, greedy and sampled."""

from __future__ import annotations

import importlib.util
import json
import warnings
from dataclasses import replace

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

pytest.importorskip("torch")
if importlib.util.find_spec("vllm") is None:
    pytest.skip("vllm is not installed", allow_module_level=True)

from benchmarks.conformance import (
    LiteralLoop,
    compare,
    logit_error,
    make_requests,
    open_embedded,
    open_vllm,
    settings_for,
)
from slowthink.engines.session import Job, JobResult, Point, generate
from slowthink.engines.vllm import client
from slowthink.errors import ConfigError, EngineError
from slowthink.forcing.formats import FORMATS
from slowthink.records import Sampling

CAP, PROMPTS, CONTEXT = 32, 4, 256
GREEDY = Sampling()


@pytest.fixture(scope="module")
def engines(smollm):
    """vLLM with so small a cache that requests preempt each other, and the transformers engine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = client._CPU_CACHE_BYTES
        client._CPU_CACHE_BYTES = 40 << 20
        try:
            vllm = open_vllm(smollm, "eager", context=CONTEXT)
            embedded = open_embedded(smollm, context=CONTEXT)
        finally:
            client._CPU_CACHE_BYTES = kept
    with vllm, embedded:
        yield vllm, embedded


@pytest.fixture(scope="module")
def literal(smollm, engines):
    return LiteralLoop(smollm, engines[0].eos_ids)


@pytest.fixture(scope="module")
def near_tie(engines, literal) -> float:
    """The gap that the measured error of the logits explains: some 1e-4 in fp32 on a CPU."""
    error = logit_error(engines[0], literal, num=4, num_tokens=CAP)
    print(error)
    assert error.positions > 3 * CAP
    assert 0 < error.vllm < 5e-4
    return error.near_tie


@pytest.mark.parametrize("name", list(settings_for(CAP))[:8])
def test_the_ids_are_those_of_the_transformers_engine(engines, literal, near_tie, name) -> None:
    vllm, embedded = engines
    setting = settings_for(CAP)[name]
    comparisons = compare(
        vllm, setting, literal, num=PROMPTS, other=embedded, by_loop=False, near_tie=near_tie
    )
    comparison = comparisons["transformers"]
    print(json.dumps({name: vars(comparison)}))
    assert comparison.different == []
    assert len(comparison.near_ties) <= 0.02 * comparison.requests + 1


@pytest.mark.parametrize("name", ["waits", "minimum", "tau 0.1"])
def test_the_ids_are_those_of_the_literal_loop(engines, literal, near_tie, name) -> None:
    setting = settings_for(CAP)[name]
    comparison = compare(engines[0], setting, literal, num=2, near_tie=near_tie)["literal"]
    assert comparison.different == []
    assert comparison.requests == 2


def jobs_of(session, number: int, *points: Point, sampling=GREEDY, **budget) -> list[Job]:
    setting = {"points": points, **budget}
    requests = [replace(r, sampling=sampling) for r in make_requests(session, number, setting)]
    return [Job(request=request, points=points) for request in requests]


def test_sampled_ids_are_those_of_the_transformers_engine(engines) -> None:
    """The same numbers decide the same draws, an end refused and drawn again among them."""
    sampling = Sampling(temperature=0.8, top_p=0.95, top_k=40)
    points = (Point(12), Point(CAP, 1))
    vllm, embedded = (
        {
            result.key: result
            for result in generate(
                session, jobs_of(session, 6, *points, sampling=sampling, min_thinking_tokens=4)
            )
        }
        for session in engines
    )
    assert {key: result.chain for key, result in vllm.items()} == {
        key: result.chain for key, result in embedded.items()
    }
    for key, result in vllm.items():
        assert sorted(a.ids for a in result.answers) == sorted(a.ids for a in embedded[key].answers)


def test_preempted_requests_resume(engines) -> None:
    """The cache holds fewer tokens than the requests together, so vLLM preempts some."""
    session = engines[0]
    jobs = jobs_of(session, 14, Point(48, 1))
    alone = next(generate(session, jobs[-1:]))
    scheduler = session._engine._engine.engine_core.engine_core.scheduler
    for job in jobs:
        session.submit(job)
    results, preempted = {}, 0
    while len(results) < len(jobs):
        results |= {result.key: result for result in session.completed(timeout=0.001)}
        preempted += sum(r.num_preemptions > 0 for r in scheduler.requests.values())
    assert preempted > 0
    assert results[jobs[-1].key].chain == alone.chain


def test_a_cached_chain_is_continued_and_nothing_is_decoded_twice(engines) -> None:
    session = engines[0]
    (short,) = jobs_of(session, 1, Point(10))
    first = next(generate(session, [short]))
    longer = replace(short, points=(Point(10), Point(24, 1)), chain=first.chain)
    resumed = next(generate(session, [longer]))
    whole = next(generate(session, [replace(longer, chain=None)]))
    assert resumed.chain == whole.chain
    assert {a.key: a.ids for a in resumed.answers} == {a.key: a.ids for a in whole.answers}
    answered = sum(len(a.ids) + (a.end_reason.value == "stop") for a in resumed.answers)
    forced = sum(event.forced for event in resumed.chain.events)
    drawn = len(resumed.chain.ids) - len(first.chain.ids) - forced + len(resumed.chain.events)
    assert resumed.cost.decoded == drawn + answered
    assert whole.cost.decoded == drawn + len(first.chain.ids) + answered


def test_long_jobs_return_partial_results(engines) -> None:
    """So a process that is killed loses little; costs add up, nothing counts twice."""
    session = engines[0]
    jobs = jobs_of(session, 3, Point(48, 1), min_thinking_tokens=30)
    kept, session.checkpoint_seconds = session.checkpoint_seconds, 0.2
    try:
        for job in jobs:
            session.submit(job)
        results: list[JobResult] = []
        while sum(not result.partial for result in results) < len(jobs):
            results += session.completed()
    finally:
        session.checkpoint_seconds = kept
    job = jobs[0]
    parts = [result for result in results if result.key == job.key]
    lengths = [len(part.chain.ids) for part in parts]
    assert parts[0].partial and lengths == sorted(lengths)
    resumed = next(generate(session, [replace(job, chain=parts[0].chain)]))
    whole = next(generate(session, [job]))
    assert resumed.chain == parts[-1].chain == whole.chain
    assert sum(part.cost.decoded for part in parts) == whole.cost.decoded


def test_a_request_without_a_budget_is_unchanged(engines, literal) -> None:
    from vllm import SamplingParams

    session = engines[0]
    (job,) = jobs_of(session, 1, Point(8))
    prompt = list(job.request.prompt_ids)
    params = SamplingParams(temperature=0.0, max_tokens=6, ignore_eos=True)
    session._engine.add("plain", prompt, params)
    finished = []
    while not finished:
        finished = session._engine.step(None)
    ids: list[int] = []
    while len(ids) < 6:
        ids.append(int(literal.logits([*prompt, *ids]).argmax()))
    assert list(finished[0].token_ids) == ids


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"slowthink_format": "s2"}, "`s2` is unknown"),
        ({"slowthink_cap": -1}, "expected a number greater than or equal to 0"),
        ({"slowthink_cap": 5000}, "the context holds 256"),
        ({"slowthink_cap": 205, "slowthink_answer_tokens": 8}, "a prompt of"),
        ({"slowthink_wait_strings": [""]}, "has no tokens"),
        ({"slowthink_format": "think-tags"}, "3 tokens of this model's tokenizer"),
    ],
)
def test_vllm_refuses_invalid_arguments_at_admission(engines, extra, message) -> None:
    """An error of the request, which its server answers with 400; the engine keeps running."""
    from vllm import SamplingParams
    from vllm.exceptions import VLLMValidationError

    arguments = {"slowthink_format": "s1", "slowthink_cap": 4, "slowthink_answer_tokens": 4}
    params = SamplingParams(temperature=0.0, max_tokens=None, extra_args=arguments | extra)
    with pytest.raises(VLLMValidationError, match=message):
        engines[0]._engine.add("bad", list(range(3, 43)), params)


def test_the_session_refuses_impossible_jobs(engines) -> None:
    session = engines[0]
    (job,) = jobs_of(session, 1, Point(4))
    with pytest.raises(ConfigError, match="the model's context is 256"):
        session.submit(replace(job, points=(Point(9000),)))
    tags = replace(job.request, format=FORMATS["think-tags"])
    with pytest.raises(ConfigError, match="cannot roll back sampled tokens"):
        session.submit(replace(job, request=tags))


def test_logits_edited_by_something_else_are_detected(engines) -> None:
    """A request without its forced tokens gives no completion."""
    session = engines[0]
    (job,) = jobs_of(session, 1, Point(4), min_thinking_tokens=4)
    session.submit(job)
    add = session._engine.add
    session._engine.add = lambda key, ids, params: add(key, ids, _unforced(params))
    try:
        with pytest.raises(EngineError, match="not those that were forced"):
            while True:  # on a slow machine a partial result is returned first
                session.completed()
    finally:
        session._engine.add = add
        session.cancel([job.key])


def _unforced(params):
    params.extra_args = params.extra_args | {"slowthink_cue": "Answer, then:"}
    return params
