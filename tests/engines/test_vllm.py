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

from benchmarks.conformance import Literal, compare, open_engines, requests_of, settings_of
from slowthink.engines.session import Job, JobResult, Point, generate
from slowthink.engines.vllm import client as vllm_engine
from slowthink.errors import ConfigError, EngineError
from slowthink.forcing.formats import FORMATS
from slowthink.records import Sampling

CAP, PROMPTS, CONTEXT = 32, 8, 256
GREEDY = Sampling()


@pytest.fixture(scope="module")
def engines(smollm):
    """vLLM with so small a cache that requests push each other out, and the transformers engine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = vllm_engine._CPU_CACHE_BYTES
        vllm_engine._CPU_CACHE_BYTES = 40 << 20
        try:
            vllm, embedded = open_engines(smollm, CONTEXT)
        finally:
            vllm_engine._CPU_CACHE_BYTES = kept
    with vllm, embedded:
        yield vllm, embedded


@pytest.fixture(scope="module")
def literal(smollm, engines):
    return Literal(smollm, engines[0].eos_ids)


@pytest.mark.parametrize("name", list(settings_of(CAP))[:8])
def test_the_ids_are_those_of_the_transformers_engine(engines, literal, name) -> None:
    vllm, embedded = engines
    setting = settings_of(CAP)[name]
    found = compare(vllm, setting, literal, number=PROMPTS, other=embedded, by_loop=False)
    one = found["transformers"]
    print(json.dumps({name: vars(one)}))
    assert one.different == []
    assert len(one.near_ties) <= 0.02 * one.requests + 1


@pytest.mark.parametrize("name", ["waits", "minimum", "tau 0.1"])
def test_the_ids_are_those_of_the_literal_loop(engines, literal, name) -> None:
    found = compare(engines[0], settings_of(CAP)[name], literal, number=2)["literal"]
    assert found.different == []
    assert found.requests == 2


def jobs_of(session, number: int, *points: Point, sampling=GREEDY, **budget) -> list[Job]:
    setting = {"points": points, **budget}
    requests = [replace(r, sampling=sampling) for r in requests_of(session, number, setting)]
    return [Job(request=request, points=points) for request in requests]


def test_sampled_ids_are_those_of_the_transformers_engine(engines) -> None:
    """The same numbers decide the same draws, an end refused and drawn again among them."""
    sampling = Sampling(temperature=0.8, top_p=0.95, top_k=40)
    points = (Point(12), Point(CAP, 1))
    vllm, embedded = (
        {
            one.key: one
            for one in generate(
                session, jobs_of(session, 6, *points, sampling=sampling, min_thinking_tokens=4)
            )
        }
        for session in engines
    )
    assert {key: one.chain for key, one in vllm.items()} == {
        key: one.chain for key, one in embedded.items()
    }
    for key, one in vllm.items():
        assert sorted(a.ids for a in one.answers) == sorted(a.ids for a in embedded[key].answers)


def test_requests_are_pushed_out_and_come_back(engines) -> None:
    """The cache holds fewer tokens than the requests together, so vLLM preempts some."""
    session = engines[0]
    jobs = jobs_of(session, 14, Point(48, 1))
    alone = next(generate(session, jobs[-1:]))
    scheduler = session._engine._engine.engine_core.engine_core.scheduler
    for job in jobs:
        session.submit(job)
    outcomes, preempted = {}, 0
    while len(outcomes) < len(jobs):
        outcomes |= {one.key: one for one in session.completed(timeout=0.001)}
        preempted += sum(one.num_preemptions > 0 for one in scheduler.requests.values())
    assert preempted > 0
    assert outcomes[jobs[-1].key].chain == alone.chain


def test_a_known_chain_goes_on_and_nothing_is_decoded_twice(engines) -> None:
    session = engines[0]
    (short,) = jobs_of(session, 1, Point(10))
    first = next(generate(session, [short]))
    longer = replace(short, points=(Point(10), Point(24, 1)), chain=first.chain)
    rest = next(generate(session, [longer]))
    whole = next(generate(session, [replace(longer, chain=None)]))
    assert rest.chain == whole.chain
    assert {a.key: a.ids for a in rest.answers} == {a.key: a.ids for a in whole.answers}
    answered = sum(len(a.ids) + (a.end.value == "stop") for a in rest.answers)
    forced = sum(event.forced for event in rest.chain.events)
    drawn = len(rest.chain.ids) - len(first.chain.ids) - forced + len(rest.chain.events)
    assert rest.cost.decoded == drawn + answered
    assert whole.cost.decoded == drawn + len(first.chain.ids) + answered


def test_long_jobs_are_given_back_as_far_as_they_have_come(engines) -> None:
    """So that a process that is killed has lost little; costs add up, nothing counts twice."""
    session = engines[0]
    jobs = jobs_of(session, 3, Point(48, 1), min_thinking_tokens=30)
    kept, session.checkpoint_seconds = session.checkpoint_seconds, 0.2
    try:
        for job in jobs:
            session.submit(job)
        found: list[JobResult] = []
        while sum(not one.partial for one in found) < len(jobs):
            found += session.completed()
    finally:
        session.checkpoint_seconds = kept
    job = jobs[0]
    parts = [one for one in found if one.key == job.key]
    lengths = [len(one.chain.ids) for one in parts]
    assert parts[0].partial and lengths == sorted(lengths)
    rest = next(generate(session, [replace(job, chain=parts[0].chain)]))
    whole = next(generate(session, [job]))
    assert rest.chain == parts[-1].chain == whole.chain
    assert sum(one.cost.decoded for one in parts) == whole.cost.decoded


def test_a_request_without_a_budget_is_served_as_ever(engines, literal) -> None:
    from vllm import SamplingParams

    session = engines[0]
    (job,) = jobs_of(session, 1, Point(8))
    prompt = list(job.request.prompt_ids)
    params = SamplingParams(temperature=0.0, max_tokens=6, ignore_eos=True)
    session._engine.add("plain", prompt, params)
    found = []
    while not found:
        found = session._engine.step(None)
    ids: list[int] = []
    while len(ids) < 6:
        ids.append(int(literal.logits([*prompt, *ids]).argmax()))
    assert list(found[0].ids) == ids


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
def test_vllm_refuses_at_admission_what_cannot_be_done(engines, extra, message) -> None:
    """An error of the request, which its server answers with 400; the engine lives on."""
    from vllm import SamplingParams
    from vllm.exceptions import VLLMValidationError

    arguments = {"slowthink_format": "s1", "slowthink_cap": 4, "slowthink_answer_tokens": 4}
    params = SamplingParams(temperature=0.0, max_tokens=None, extra_args=arguments | extra)
    with pytest.raises(VLLMValidationError, match=message):
        engines[0]._engine.add("bad", list(range(3, 43)), params)


def test_the_session_refuses_what_it_cannot_do(engines) -> None:
    session = engines[0]
    (job,) = jobs_of(session, 1, Point(4))
    with pytest.raises(ConfigError, match="the model's context holds 256"):
        session.submit(replace(job, points=(Point(9000),)))
    tags = replace(job.request, format=FORMATS["think-tags"])
    with pytest.raises(ConfigError, match="cannot roll back sampled tokens"):
        session.submit(replace(job, request=tags))


def test_logits_that_something_else_edits_are_found_out(engines) -> None:
    """A forced token that did not come out is no completion."""
    session = engines[0]
    (job,) = jobs_of(session, 1, Point(4), min_thinking_tokens=4)
    session.submit(job)
    add = session._engine.add
    session._engine.add = lambda key, ids, params: add(key, ids, _unforced(params))
    try:
        with pytest.raises(EngineError, match="not those that were forced"):
            while True:  # on a slow machine what it has come to is given back first
                session.completed()
    finally:
        session._engine.add = add
        session.cancel([job.key])


def _unforced(params):
    params.extra_args = params.extra_args | {"slowthink_cue": "Answer, then:"}
    return params
