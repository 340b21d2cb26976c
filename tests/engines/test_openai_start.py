"""What a session detects and refuses at its start, with a remedy in each message; chat APIs."""

from __future__ import annotations

import socket

import pytest

pytest.importorskip("aiohttp")

from pydantic import ValidationError

from slowthink.engines import open_session
from slowthink.engines.server.chat_session import ChatSession, PieceTokenizer
from slowthink.engines.server.replies import end_probability, read_reply
from slowthink.engines.server.session import OpenAISession
from slowthink.engines.session import Job, Point, cut_at, generate
from slowthink.errors import ConfigError, EngineError
from slowthink.forcing.formats import FORMATS, compile_format
from slowthink.forcing.machine import make_rules
from slowthink.forcing.prompts import prompt_ids
from slowthink.recipe import ChatConfig, EngineConfig
from slowthink.recipe.base import EndpointConfig
from slowthink.recipe.loading import load_recipe
from slowthink.records import AnswerEnd, Budget, Request, Sampling, ThinkingEnd
from tests.engines.test_openai import LONG, SpecialTokenizer, make_job, open_toy
from tests.servers.completions import Behaviour, serve
from tests.servers.toy import TOKENIZER


@pytest.mark.parametrize(
    ("behaviour", "endpoints", "message"),
    [
        (Behaviour(keeps_max_tokens=False), {}, r"ignores max_tokens.*Use a server that does"),
        (Behaviour(), {"model": "tyo"}, r"does not have `tyo` \(did you mean `toy`\?\)"),
        (Behaviour(models=("toy", "boy")), {}, r"lists 2 models \(toy, boy\).*endpoints\.model=NAME"),
        (Behaviour(context=None), {}, r"does not report its context length.*engine\.max_context=8192"),
        (
            Behaviour(takes_ids=False, template="<|im_start|>user\n"),
            {},
            r"chat template of its own.*TEMPLATE \{\{ \.Prompt \}\}",
        ),
        (Behaviour(), {"in_flight": True}, r"does not force budgets.*slowthink serve"),
        (Behaviour(key="k"), {}, r"status 401.*api_key_env"),
        (Behaviour(), {"api_key_env": "NOT_SET_ANYWHERE"}, r"`NOT_SET_ANYWHERE` is not set.*export"),
    ],
    ids=[
        "ignores max_tokens", "unknown model", "which model", "no context", "template", "not ours",
        "no key", "key not set",
    ],
)  # fmt: skip
def test_an_unusable_server_is_reported_at_the_start(behaviour, endpoints, message) -> None:
    with serve(behaviour=behaviour) as server, pytest.raises(ConfigError, match=f"(?s){message}"):
        open_toy(server, **endpoints)


def test_a_port_where_nothing_listens_is_reported_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = EngineConfig(
        kind="openai", endpoints=EndpointConfig(urls=(f"http://127.0.0.1:{port}/v1",))
    )
    with pytest.raises(ConfigError, match=r"no connection.*Start it, or correct the address"):
        OpenAISession("toy", config, tokenizer=TOKENIZER)


def test_a_missing_address_is_reported() -> None:
    with pytest.raises(ConfigError, match=r"engine\.endpoints: missing"):
        open_session("toy", EngineConfig(kind="openai"))


def test_servers_that_differ_are_refused() -> None:
    with serve() as first, serve(behaviour=Behaviour(biases=False)) as second:
        config = EngineConfig(kind="openai", endpoints=EndpointConfig(urls=(first.url, second.url)))
        with pytest.raises(ConfigError, match="differ in logit_bias"):
            OpenAISession("toy", config, tokenizer=TOKENIZER)


@pytest.mark.parametrize(
    "url",
    ["http://me:hunter2@host:8000/v1", "https://hunter2@host/v1", "http://host/v1?key=hunter2"],
)
def test_an_address_that_contains_a_secret_is_refused_and_not_repeated(url) -> None:
    with pytest.raises(ValidationError) as caught:
        EndpointConfig(urls=(url,))
    assert "hunter2" not in str(caught.value)
    settings = [f"engine.endpoints.urls=['{url}']", "engine.kind=openai"]
    with pytest.raises(ConfigError, match="api_key_env") as caught:
        load_recipe("quickstart", overrides=settings)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("secret", ["hunter2", "hunter2" * 9])
def test_a_secret_in_a_value_of_the_wrong_type_is_not_repeated(secret: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe("quickstart", overrides=[f"engine.endpoints.urls=http://me:{secret}@host/v1"])
    assert "hunter2" not in str(caught.value)


# --- unsupported jobs ----------------------------------------------------------------------

NUCLEUS = Sampling(temperature=0.6, top_p=0.95)


@pytest.mark.parametrize(
    ("behaviour", "budget", "message"),
    [
        (Behaviour(biases=False), {"wait_strings": ()}, "waits without a string needs"),
        (Behaviour(biases=False), {"min_thinking_tokens": 2}, "logit_bias has no effect"),
        (Behaviour(), {"min_thinking_tokens": 2, "sampling": NUCLEUS}, "Set top_p: 1"),
        (Behaviour(logprobs=False), {"end_rule": "probability"}, "Set end_rule: drawn"),
        (Behaviour(), {"end_rule": "probability", "sampling": NUCLEUS}, "Set temperature: 1 or 0"),
        (
            Behaviour(ignored_settings=frozenset({"top_k"})),
            {"sampling": Sampling(temperature=1.0, top_k=5)},
            "top_k has no effect on it",
        ),
        (Behaviour(), {"points": (Point(5000),)}, "context is 4096"),
    ],
    ids=["no string", "minimum", "truncated", "tau", "tau sampled", "top-k", "context"],
)
def test_jobs_that_cannot_be_exact_are_refused_with_an_alternative(
    behaviour, budget, message
) -> None:
    with serve(behaviour=behaviour) as server, open_toy(server) as session:
        with pytest.raises(ConfigError, match=message):
            session.submit(make_job(session, "q", **budget))
        session.submit(make_job(session, "plain waits"))
        assert session.completed()[0].error is None


def test_an_invisible_trigger_is_refused() -> None:
    behaviour = Behaviour(returns_ids=False, logprobs=False, shows_special=False)
    with (
        serve(behaviour=behaviour) as server,
        open_toy(server, tokenizer=SpecialTokenizer()) as session,
    ):
        with pytest.raises(ConfigError, match=r"neither token ids nor special tokens"):
            session.submit(make_job(session, "q"))
        session.submit(make_job(session, "q", format=LONG))


def test_a_server_that_ignores_the_budget_later_is_an_error_of_the_request() -> None:
    with serve() as server, open_toy(server) as session:
        server.behaviour = Behaviour(overshoots_after=0, stops_at_ids=False)
        result = next(generate(session, [make_job(session, "q", points=(Point(6),))]))
        assert result.answers == ()
        assert "the server ignores the budget" in str(result.error)


def test_a_server_that_truncates_the_prompt_is_an_error_of_the_request() -> None:
    with serve() as server, open_toy(server) as session:
        server.behaviour = Behaviour(max_prompt_tokens=8)
        result = next(generate(session, [make_job(session, "a long prompt indeed")]))
        assert "it truncated the prompt" in str(result.error)


def test_a_server_that_ignores_in_flight_budgets_later_is_an_error_of_the_request() -> None:
    with (
        serve(behaviour=Behaviour(processor=True)) as server,
        open_toy(server, in_flight=True) as ours,
    ):
        server.behaviour = Behaviour()
        result = next(generate(ours, [make_job(ours, "q3", points=(Point(9, 2),))]))
        assert "did not force the budget" in str(result.error)


def test_too_few_logprobs_are_an_error() -> None:
    listed = {1: -1.0, 2: -1.1}  # 0.37 and 0.33; a trigger that is not listed has 0.30 at most
    assert end_probability(listed, {9: "x"}, threshold=0.5) == 0
    with pytest.raises(EngineError, match="too few logprobs"):
        end_probability(listed, {9: "x"}, threshold=0.2)


@pytest.mark.parametrize("data", [{}, {"choices": []}, {"choices": [3]}, {"error": "x"}])
def test_a_reply_that_is_not_a_completion_is_an_error(data) -> None:
    with pytest.raises(EngineError, match="expected an object with"):
        read_reply(data)


# --- tokenizers -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_model_without_a_local_tokenizer_uses_the_servers_own(make_problem) -> None:
    with serve() as server:
        config = EngineConfig(kind="openai", endpoints=EndpointConfig(urls=(server.url,)))
        messages: list[str] = []
        with OpenAISession("nobody/served", config, notify=messages.append) as session:
            assert "the server's own is used" in messages[0]
            prompt = prompt_ids(session.tokenizer, make_problem("2 + 2?"), ChatConfig())
            assert prompt == prompt_ids(TOKENIZER, make_problem("2 + 2?"), ChatConfig())
            job = make_job(session, "q1")
            with open_toy(server) as local:
                expected = next(generate(local, [make_job(local, "q1")])).chain.ids
            assert next(generate(session, [job])).chain.ids == expected
            with pytest.raises(ConfigError, match="no local tokenizer"):
                session.submit(make_job(session, "q", format=LONG))


@pytest.mark.slow
def test_a_model_without_any_tokenizer_is_refused() -> None:
    with serve(behaviour=Behaviour(tokenizes=False)) as server:
        config = EngineConfig(kind="openai", endpoints=EndpointConfig(urls=(server.url,)))
        with pytest.raises(
            ConfigError, match=r"(?s)has no /tokenize.*Set `model` to the model.s folder"
        ):
            OpenAISession("nobody/served", config)


# --- chat -----------------------------------------------------------------------------------------


def chat_job(
    session, make_problem, *, format="think-tags", points, question="2 + 2?", chat=None
) -> Job:
    chat = chat or ChatConfig(format=format)
    request = Request(
        model=session.fingerprint,
        numerics=session.numerics,
        prompt_ids=prompt_ids(session.tokenizer, make_problem(question), chat),
        format=FORMATS[format],
        sampling=Sampling(),
        budget=Budget(answer_tokens=64),
        seed=0,
    )
    return Job(request=request, points=points)


@pytest.fixture
def chat_session():
    with serve() as server:
        endpoints = EndpointConfig(urls=(server.url,), api="chat", model="toy")
        with open_session("toy", EngineConfig(kind="openai", endpoints=endpoints)) as session:
            assert isinstance(session, ChatSession)
            yield session, server


def test_a_chat_apis_reasoning_is_kept_as_the_thinking(chat_session, make_problem) -> None:
    session, server = chat_session
    point = Point(1000, forced=False)
    job = chat_job(session, make_problem, points=(point,))
    result = next(generate(session, [job]))
    assert server.bodies[-1]["messages"] == [{"role": "user", "content": "2 + 2?"}]
    token_format = compile_format(job.request.format, session.tokenizer, eos_ids=session.eos_ids)
    cut = cut_at(result.chain, make_rules(job.request.budget, token_format), point)
    assert cut.end_reason is ThinkingEnd.NATURAL
    assert session.tokenizer.decode(cut.ids) == "Counting '2 + 2?'."
    assert session.tokenizer.decode(result.answers[0].ids) == "It is 6."
    assert result.answers[0].end_reason is AnswerEnd.STOP
    assert (result.cost.prefilled, result.cost.decoded) == (9, 12)


@pytest.mark.parametrize(
    ("format", "point", "what"),
    [
        ("think-tags", Point(100), "a cap of 100"),
        ("think-tags", Point(9000, 1), "waits"),
        ("think-tags", Point(9000, steps=3), "steps"),
        ("plain", Point(9000), "a format without delimiters"),
    ],
    ids=["cap", "waits", "steps", "plain"],
)
def test_forcing_is_refused_for_a_chat_api(chat_session, make_problem, format, point, what) -> None:
    session, _ = chat_session
    job = chat_job(session, make_problem, format=format, points=(point,))
    with pytest.raises(ConfigError, match=rf"cannot force here: {what}.*api: completions"):
        session.submit(job)


def test_a_cap_of_at_least_the_models_own_limit_is_no_cap(chat_session, make_problem) -> None:
    session, server = chat_session
    job = chat_job(session, make_problem, points=(Point(4096),))
    assert next(generate(session, [job])).error is None
    assert "max_tokens" not in server.bodies[-1]


def test_truncated_thinking_of_a_chat_api_has_no_answer(chat_session, make_problem) -> None:
    session, server = chat_session
    job = chat_job(session, make_problem, format="plain", points=(Point(40, forced=False),))
    server.chat_finish = "length"
    result = next(generate(session, [job]))
    assert result.answers == () and len(result.chain.ids) == 40
    assert session.tokenizer.decode(result.chain.ids) == "It is 6."
    assert server.bodies[-1]["max_tokens"] == 40 + 64


@pytest.mark.parametrize("text", ["", "a", "abcd", "Größe 等等 ∑", "x" * 99])
def test_pieces_of_four_bytes_decode_to_the_text(text) -> None:
    tokenizer = PieceTokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) == -(-len(text.encode()) // 4)
