"""Budget forcing in rounds over a local server with a toy model, compared with a literal loop."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import pytest

aiohttp = pytest.importorskip("aiohttp")

from slowthink.engines.replay import ByteTokenizer
from slowthink.engines.server.session import OpenAISession
from slowthink.engines.session import Job, Point, cut_at, generate
from slowthink.errors import ConfigError
from slowthink.forcing.cuts import check_budget
from slowthink.forcing.formats import FORMATS, compile_format
from slowthink.forcing.machine import ActionKind, ForcingMachine, make_rules
from slowthink.recipe import EngineConfig
from slowthink.recipe.base import EndpointConfig
from slowthink.records import Budget, EventKind, LoopRule, Request, Sampling, ThinkingFormat
from tests.servers.completions import Behaviour, serve
from tests.servers.toy import EOS, TOKENIZER, Toy, exact_distribution, greedy_answer, literal_loop

WAIT = tuple(TOKENIZER.encode("W"))
POINTS = (Point(0), Point(5), Point(20), Point(20, 1), Point(20, 2))
LONG = ThinkingFormat(name="long", start="", end="fa", end_triggers=("fa",))
"""A delimiter of two ordinary tokens."""


def open_toy(server, *, tokenizer=TOKENIZER, **endpoints) -> OpenAISession:
    config = EngineConfig(kind="openai", endpoints={"urls": (server.url,)} | endpoints)
    return OpenAISession("toy", config, tokenizer=tokenizer)


def make_job(
    session, name: str, *, points=POINTS, format=FORMATS["s1"], sampling=None, sample=0, **budget
) -> Job:
    budget = {"wait_strings": ("W",), "answer_tokens": 5} | budget
    request = Request(
        model=session.fingerprint,
        numerics=session.numerics,
        prompt_ids=tuple(TOKENIZER.encode(name)),
        format=format,
        sampling=sampling or Sampling(),
        budget=Budget(**budget),
        seed=7,
        sample=sample,
    )
    return Job(request=request, points=points)


def compiled(job: Job):
    token_format = compile_format(job.request.format, TOKENIZER, eos_ids=frozenset({EOS}))
    return token_format, make_rules(job.request.budget, token_format)


@pytest.fixture(scope="module")
def server() -> Iterator:
    with serve() as server:
        yield server


@pytest.fixture(scope="module")
def session(server) -> Iterator[OpenAISession]:
    with open_toy(server) as session:
        yield session


def test_the_probe_finds_the_features_of_the_server(session) -> None:
    features = session._features
    assert (
        features.takes_ids
        and features.returns_ids
        and features.stops_at_ids
        and features.logit_bias
    )
    assert features.logprobs and features.logprobs_of_ids
    assert session.numerics == "openai/toy/vllm-toy-1"
    assert session.capabilities.max_context == 4096


@pytest.mark.parametrize(
    ("budget", "more"),
    [
        ({}, {}),
        ({"wait_strings": ()}, {"wait": ()}),
        ({"min_thinking_tokens": 4}, {"minimum": 4}),
        ({"end_rule": "argmax"}, {}),
    ],
    ids=["waits", "no string", "minimum", "argmax"],
)
def test_a_sweep_in_rounds_equals_separate_literal_runs(server, session, budget, more) -> None:
    points = tuple(p for p in POINTS if p.cap >= more.get("minimum", 0))
    jobs = [make_job(session, f"q{n}", points=points, **budget) for n in range(12)]
    results = {result.key: result for result in generate(session, jobs)}
    ends = Counter()
    for job in jobs:
        result = results[job.key]
        token_format, rules = compiled(job)
        answers = {(a.num_thinking_tokens, a.closing): a.ids for a in result.answers}
        for point in points:
            cut = cut_at(result.chain, rules, point)
            expected = literal_loop(
                server.toy, job.request.prompt_ids, cap=point.cap, waits=point.waits,
                **({"wait": WAIT, "temperature": 0.0} | more),
            )  # fmt: skip
            assert cut.ids == expected
            natural = cut.end_reason.value == "natural"
            ends[cut.end_reason] += 1
            assert check_budget(cut, rules, cap=point.cap, waits=point.waits) == ()
            cue = job.request.budget.final_answer_cue
            closing = token_format.closing_ids(cut.ids, natural=natural, cue=cue)
            start = [*job.request.prompt_ids, *cut.ids, *closing]
            assert answers[len(cut.ids), closing] == greedy_answer(server.toy, start, limit=5)
    assert len(ends) == 2  # both ends of thinking occurred


def reference(toy: Toy, job: Job, *, cap: int, waits: int) -> ForcingMachine:
    """The machine driven token by token, with all probabilities known."""
    machine = ForcingMachine(compiled(job)[1], cap=cap, waits=waits)
    while (action := machine.next_action()).kind is not ActionKind.STOP:
        if action.kind is not ActionKind.SAMPLE:
            continue
        p = toy.distribution([*job.request.prompt_ids, *machine.ids])
        argmax = max(p, key=lambda t: p[t])
        end = sum(p[t] for t in machine.rules.trigger_ids if t in p)
        banned = action.banned
        while True:
            token = max((t for t in p if t not in banned), key=lambda t: p[t])
            action = machine.observe(token, trigger_probability=end, argmax=argmax)
            if action.kind is not ActionKind.RESAMPLE:
                break
            banned = action.banned
    return machine


@pytest.mark.parametrize(
    "budget",
    [
        {"end_rule": "probability", "end_probability": 0.25},
        {"end_rule": "probability", "end_probability": 0.2, "min_thinking_tokens": 6},
        {"end_rule": "probability", "end_probability": 0.3, "wait_strings": ()},
        {"loop": LoopRule(max_period=2, repeats=2, min_tokens=4)},
        {"format": LONG},
        {"format": LONG, "wait_strings": ()},
        {"wait_strings": ("W", "XY")},
    ],
    ids=["tau", "tau, minimum", "tau, no string", "loop", "long", "long, no string", "rotation"],
)
def test_rounds_equal_the_machine_with_all_probabilities_known(server, session, budget) -> None:
    jobs = [make_job(session, f"q{n}", points=(Point(30, 2),), **budget) for n in range(12)]
    results = {result.key: result for result in generate(session, jobs)}
    for job in jobs:
        chain = results[job.key].chain
        expected = reference(server.toy, job, cap=30, waits=2).chain(job.key)
        assert (chain.ids, chain.state) == (expected.ids, expected.state)
        assert [(e.position, e.kind, e.forced) for e in chain.events] == [
            (e.position, e.kind, e.forced) for e in expected.events
        ]


def test_a_cached_chain_is_continued_and_cached_answers_are_not_generated_again(
    server, session
) -> None:
    whole = make_job(session, "resumed")
    all_at_once = next(generate(session, [whole]))
    first = next(generate(session, [make_job(session, "resumed", points=POINTS[:3])]))
    known = frozenset(answer.key for answer in first.answers)
    again = Job(request=whole.request, points=POINTS, chain=first.chain, answer_keys=known)
    second = next(generate(session, [again]))
    assert second.chain == all_at_once.chain
    assert {a.key for a in (*first.answers, *second.answers)} == {
        a.key for a in all_at_once.answers
    }
    assert known & {a.key for a in second.answers} == set()


def test_no_token_is_generated_twice(server) -> None:
    with open_toy(server) as session:
        job = make_job(session, "cost", points=(Point(20, 2), Point(10), Point(5)))
        result = next(generate(session, [job]))
    machine_tokens = len(result.chain.ids) - sum(e.forced for e in result.chain.events)
    ends = len(result.chain.events)
    answers = sum(len(a.ids) + (a.end_reason.value == "stop") for a in result.answers)
    assert result.cost.decoded == machine_tokens + ends + answers
    waits = sum(e.kind is EventKind.WAIT for e in result.chain.events)
    assert result.cost.forced == waits + sum(len(a.closing) for a in result.answers)


# --- other kinds of servers -----------------------------------------------------------------------


class SpecialTokenizer(ByteTokenizer):
    """Knows which tokens are special."""

    def decode(self, ids, skip_special_tokens=False) -> str:
        return super().decode([i for i in ids if not (skip_special_tokens and i >= 256)])


SERVER_KINDS = {
    "text only": Behaviour(takes_ids=False, returns_ids=False, logprobs=False),
    "text, no stop reason": Behaviour(
        takes_ids=False, returns_ids=False, returns_stop_reason=False
    ),
    "llama.cpp": Behaviour(returns_ids=False, content_ids=True, stops_at_ids=False),
    "ignores stops": Behaviour(stops_at_ids=False, stops_at_texts=False),
    "strict": Behaviour(
        rejected_settings=frozenset({"top_k", "min_p", "repetition_penalty", "seed"})
    ),
    "strictest": Behaviour(
        rejected_settings=frozenset({"top_k", "return_token_ids", "stop_token_ids", "logit_bias"})
    ),
    "wrong usage": Behaviour(correct_usage=False),
}


@pytest.mark.parametrize("behaviour", SERVER_KINDS.values(), ids=list(SERVER_KINDS))
@pytest.mark.parametrize("format", [FORMATS["s1"], LONG], ids=["s1", "long"])
def test_every_kind_of_server_gives_the_same_thinking(session, server, behaviour, format) -> None:
    names = [f"d{n}" for n in range(6)]
    jobs = [make_job(session, name, format=format) for name in names]
    expected = [o.chain.ids for o in sorted(generate(session, jobs), key=lambda o: o.key)]
    with serve(server.toy, behaviour) as other_server, open_toy(other_server) as other:
        results = list(generate(other, [make_job(other, n, format=format) for n in names]))
        assert all(result.error is None for result in results)
        assert {result.chain.ids for result in results} == set(expected)
        ids = behaviour.returns_ids or behaviour.content_ids
        assert other.count_source == ("ids" if ids else "retokenised")
        num_wrong = other.anomalies["usage does not agree with the tokens"]
        assert (num_wrong > 0) is (not behaviour.correct_usage)


def test_one_session_serves_several_addresses(server) -> None:
    with serve(server.toy) as second:
        endpoints = EndpointConfig(urls=(server.url, second.url), max_concurrency=4)
        config = EngineConfig(kind="openai", endpoints=endpoints)
        with OpenAISession("toy", config, tokenizer=TOKENIZER) as both:
            before = len(server.bodies), len(second.bodies)
            jobs = [make_job(both, f"two{n}") for n in range(24)]
            results = list(generate(both, jobs))
            assert len({result.key for result in results}) == 24
            shares = len(server.bodies) - before[0], len(second.bodies) - before[1]
            assert min(shares) > 0.25 * sum(shares)
            assert server.max_active <= 64 and second.max_active <= 4


# --- in flight ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "budget",
    [{}, {"wait_strings": ()}, {"min_thinking_tokens": 4}, {"wait_strings": ("a", "b")}],
    ids=["waits", "no string", "minimum", "strings that the model also samples"],
)
def test_in_flight_gives_the_same_chains_and_answers_in_one_request(
    server, session, budget
) -> None:
    points = POINTS[2:]
    with (
        serve(server.toy, Behaviour(processor=True)) as ours,
        open_toy(ours, in_flight=True) as other,
    ):
        assert other.capabilities.in_flight
        for number in range(8):
            rounds = next(
                generate(session, [make_job(session, f"f{number}", points=points, **budget)])
            )
            before = len(ours.bodies)
            in_flight = next(
                generate(other, [make_job(other, f"f{number}", points=points, **budget)])
            )
            assert in_flight.error is None
            assert (in_flight.chain.ids, in_flight.chain.state) == (
                rounds.chain.ids,
                rounds.chain.state,
            )
            kinds = [(e.position, e.kind, e.forced) for e in rounds.chain.events]
            assert [(e.position, e.kind, e.forced) for e in in_flight.chain.events] == kinds
            answers = sorted(
                (a.num_thinking_tokens, a.closing, a.ids, a.end_reason.value)
                for a in rounds.answers
            )
            assert (
                sorted(
                    (a.num_thinking_tokens, a.closing, a.ids, a.end_reason.value)
                    for a in in_flight.answers
                )
                == answers
            )
            assert len(ours.bodies) - before == len(rounds.answers)


def test_in_flight_waits_under_sampling_are_refused(server) -> None:
    sampling = Sampling(temperature=1.0)
    with (
        serve(server.toy, Behaviour(processor=True)) as ours,
        open_toy(ours, in_flight=True) as other,
        pytest.raises(ConfigError, match="cannot be told from one that the model sampled"),
    ):
        other.submit(make_job(other, "q", sampling=sampling))


# --- sampling -------------------------------------------------------------------------------------


def chi_square(observed: Counter, expected: dict, total: int) -> tuple[float, int]:
    """The statistic and its degrees of freedom; rare cells are merged."""
    cells, rare_observed, rare_expected = [], 0, 0.0
    for result, share in expected.items():
        if share * total >= 5:
            cells.append((observed[result], share * total))
        else:
            rare_observed, rare_expected = (
                rare_observed + observed[result],
                rare_expected + share * total,
            )
    if rare_expected:
        cells.append((rare_observed, rare_expected))
    return sum((f - e) ** 2 / e for f, e in cells), len(cells) - 1


def critical(degrees: int) -> float:
    """Chi-square's 99.9 % point, by Wilson and Hilferty (1931)."""
    part = 2 / (9 * degrees)
    return degrees * (1 - part + 3.09 * math.sqrt(part)) ** 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampling", "waits", "budget", "more"),
    [
        (Sampling(temperature=0.8, top_p=0.9), 1, {}, {}),
        (Sampling(temperature=1.3, top_k=3), 2, {}, {}),
        (Sampling(temperature=1.0), 1, {"wait_strings": ()}, {"wait": ()}),
        (Sampling(temperature=0.7), 1, {"min_thinking_tokens": 2}, {"minimum": 2}),
    ],
    ids=["top-p", "top-k", "no string", "minimum"],
)
def test_sampled_rounds_have_the_distribution_of_the_literal_loop(
    sampling, waits, budget, more
) -> None:
    """Chi-square test at the 0.1 % level, with fixed seeds."""
    toy, total = Toy(letters="ab", trigger_weight=0.9, memory=2), 600
    settings = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
    }
    with serve(toy) as server, open_toy(server) as session:
        prompt = TOKENIZER.encode("q")
        expected = exact_distribution(
            toy, prompt, cap=4, waits=waits, **({"wait": WAIT} | settings | more)
        )
        assert sum(expected.values()) == pytest.approx(1)
        jobs = [
            make_job(
                session, "q", points=(Point(4, waits),), sampling=sampling, sample=n,
                final_answer_cue=None, answer_tokens=1, **budget,
            )
            for n in range(total)
        ]  # fmt: skip
        observed = Counter(result.chain.ids for result in generate(session, jobs))
    assert set(observed) <= set(expected)
    statistic, degrees = chi_square(observed, expected, total)
    assert degrees >= 4 and statistic < critical(degrees), (statistic, degrees)


def test_no_two_rounds_have_the_same_seed(server) -> None:
    with open_toy(server) as session:
        start = len(server.bodies)
        jobs = [
            make_job(session, "seeds", sampling=Sampling(temperature=1.0), sample=n)
            for n in range(8)
        ]
        list(generate(session, jobs))
    seeds = [body["seed"] for body in server.bodies[start:]]
    assert len(seeds) > 30 and len(set(seeds)) > len(seeds) - 12  # those of the probes are 0
