"""A real HTTP server with `/v1/completions` over the toy model, with configurable behaviour.

    with serve(Toy()) as server:            # behaves like vLLM
        httpx.post(server.url + "/completions", json={"prompt": "abc", "max_tokens": 3, …})

`Behaviour` describes how real servers differ; `Faults`, failures of networks and overload.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from slowthink.engines.session import Compiler
from slowthink.engines.vllm.request_args import read_args
from slowthink.engines.vllm.request_flow import (
    NO_END,
    RUNNER_UP,
    DeclaredEnd,
    Flow,
    compile_args,
)
from slowthink.forcing.machine import ActionKind
from tests.servers.streams import cut_reply, events
from tests.servers.toy import EOS, TOKENIZER, Toy, draw, process_distribution


@dataclass(frozen=True)
class Behaviour:
    """How the server behaves; the defaults are those of vLLM."""

    takes_ids: bool = True
    returns_ids: bool = True
    content_ids: bool = False
    """Ids are only in logprobs.content (llama.cpp)."""
    shows_special: bool = True
    stops_at_ids: bool = True
    stops_at_texts: bool = True
    keeps_max_tokens: bool = True
    overshoots_after: int | None = None
    """Ignores max_tokens from this request on."""
    correct_usage: bool = True
    biases: bool = True
    logprobs: bool = True
    rejected_settings: frozenset[str] = frozenset()
    """Settings that it rejects with status 400."""
    ignored_settings: frozenset[str] = frozenset()
    """Settings that it accepts and ignores."""
    template: str = ""
    """Text added before the prompt, as Ollama does."""
    max_prompt_tokens: int | None = None
    """Longer prompts are truncated to their last tokens."""
    tokenizes: bool = True
    models: tuple[str, ...] = ("toy",)
    context: int | None = 4096
    key: str | None = None
    returns_stop_reason: bool = True
    """Replies have stop_reason."""
    processor: bool = False
    returns_reasoning: bool = True
    """Chat replies have reasoning_content."""


@dataclass(frozen=True)
class Faults:
    """Shares of requests that fail, chosen by a generator with a fixed seed."""

    broken: float = 0.0
    """500."""
    never: float = 0.0
    torn: float = 0.0
    busy: float = 0.0
    """429 with Retry-After, alternately in seconds and as a date."""
    retry_after_seconds: float = 1.0
    seed: int = 0
    delay_seconds: float = 0.0
    num_spared: int = 0
    """Number of first requests without faults."""


@dataclass
class Server:
    """A server on a free port."""

    toy: Toy
    behaviour: Behaviour = Behaviour()
    faults: Faults = Faults()
    counts: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    max_active: int = 0
    chat_finish: Any = "stop"
    chat_message: dict[str, Any] | None = None
    """Replaces the message of a chat reply."""
    tamper: Callable[[dict[str, Any]], Any] | None = None
    """Changes a reply: returns another object, or the bytes of a body, or a web.Response."""
    endless: bytes | None = None
    """Sent again and again as the body, until the client closes the connection."""
    slow: tuple[list[bytes], float] | None = None
    """Pieces of a body, and the seconds before each."""
    models_reply: Any = None
    """Replaces the list of models."""
    port: int = 0

    def __post_init__(self) -> None:
        self._rng = random.Random(self.faults.seed)
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._active = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    # -- start and stop --

    def start(self) -> None:
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._listen())

    def restart(self, *, down_seconds: float) -> None:
        """Close all connections, stay down, and start again on the same port."""
        self._call(self._shut_down())
        time.sleep(down_seconds)
        self._call(self._listen())

    def stop(self) -> None:
        self._call(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    async def _listen(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_post("/v1/chat/completions", self._chat)
        if self.behaviour.tokenizes:
            app.router.add_post("/tokenize", self._tokenize)
            app.router.add_post("/detokenize", self._detokenize)
        app.router.add_get("/version", self._version)
        self._runner = web.AppRunner(app, shutdown_timeout=0.0, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

    async def _shut_down(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _models(self, request: web.Request) -> web.Response:
        if (
            self.behaviour.key
            and request.headers.get("Authorization") != f"Bearer {self.behaviour.key}"
        ):
            return web.json_response({"error": f"bad key {self.behaviour.key}"}, status=401)
        if self.models_reply is not None:
            return web.json_response(self.models_reply)
        entry = {"created": int(time.time()), "root": "/toy"}
        if self.behaviour.context:
            entry["max_model_len"] = self.behaviour.context
        return web.json_response(
            {"data": [{"id": name, **entry} for name in self.behaviour.models]}
        )

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "toy-1"})

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        text = body.get("prompt")
        if text is None:
            text = TOKENIZER.apply_chat_template(body["messages"], False, True)
        return web.json_response({"tokens": TOKENIZER.encode(text)})

    async def _detokenize(self, request: web.Request) -> web.Response:
        return web.json_response({"prompt": TOKENIZER.decode((await request.json())["tokens"])})

    # -- completions --

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        self._active += 1
        self.max_active = max(self.max_active, self._active)
        try:
            body = await request.json()
            self.bodies.append(body)
            if self.faults.delay_seconds:
                await asyncio.sleep(self.faults.delay_seconds)
            rejection = self._rejection(body)
            if rejection is not None:
                return rejection
            return await self._faulty(request, lambda: self._complete(body))
        finally:
            self._active -= 1

    async def _faulty(self, request: web.Request, make: Any) -> web.StreamResponse:
        faults, dice = self.faults, self._rng.random()
        if len(self.bodies) <= faults.num_spared:
            dice = 1.0
        for name, share in (
            ("broken", faults.broken), ("never", faults.never), ("torn", faults.torn),
            ("busy", faults.busy),
        ):  # fmt: skip
            if dice < share:
                self.counts[name] += 1
                return await getattr(self, f"_{name}")(request, make)
            dice -= share
        self.counts["good"] += 1
        if self.endless is not None:
            return await self._stream(request, self.endless)
        if self.slow is not None:
            return await self._send_slowly(request, *self.slow)
        data = make()
        if self.tamper is not None:
            data = self.tamper(data)
        if isinstance(data, dict) and self.bodies[-1].get("stream"):
            data = web.Response(body=events(cut_reply(data)), content_type="text/event-stream")
        if isinstance(data, bytes):
            return web.Response(body=data, content_type="application/json")
        return data if isinstance(data, web.Response) else web.json_response(data)

    async def _stream(self, request: web.Request, piece: bytes) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(piece)
            self.counts["bytes"] += len(piece)

    async def _send_slowly(
        self, request: web.Request, pieces: list[bytes], seconds: float
    ) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await asyncio.sleep(seconds)
            await response.write(piece)
        return response

    async def _broken(self, request: web.Request, make: Any) -> web.StreamResponse:
        return web.Response(status=500, text="something broke")

    async def _never(self, request: web.Request, make: Any) -> web.StreamResponse:
        await asyncio.sleep(3600)
        return web.Response()

    async def _torn(self, request: web.Request, make: Any) -> web.StreamResponse:
        data = json.dumps(make()).encode()
        if self.counts["torn"] % 2:
            return web.Response(body=data[: len(data) // 2], content_type="application/json")
        response = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await response.prepare(request)
        await response.write(data[: len(data) // 2])
        request.transport.abort()  # type: ignore[union-attr]
        return response

    async def _busy(self, request: web.Request, make: Any) -> web.StreamResponse:
        seconds = self.faults.retry_after_seconds
        when = datetime.now(UTC) + timedelta(seconds=seconds)
        as_date = format_datetime(when, usegmt=True)
        value = as_date if self.counts["busy"] % 2 else f"{seconds:g}"
        return web.Response(status=429, headers={"Retry-After": value})

    def _rejection(self, body: dict[str, Any]) -> web.Response | None:
        behaviour = self.behaviour
        rejected = sorted(behaviour.rejected_settings & set(body))
        if rejected:
            return web.json_response({"error": f"unknown field {rejected[0]}"}, status=400)
        if behaviour.processor and "slowthink_is_there" in (body.get("vllm_xargs") or {}):
            return web.json_response({"error": "slowthink_is_there: unknown"}, status=400)
        if body.get("model") not in behaviour.models:
            return web.json_response({"error": "no such model"}, status=404)
        if isinstance(body["prompt"], list) and not behaviour.takes_ids:
            return web.json_response({"error": "prompt: expected a string"}, status=400)
        return None

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        behaviour = self.behaviour
        body = {
            name: value for name, value in body.items() if name not in behaviour.ignored_settings
        }
        prompt = body["prompt"]
        ids = (
            list(prompt)
            if isinstance(prompt, list)
            else TOKENIZER.encode(behaviour.template + prompt)
        )
        if behaviour.max_prompt_tokens is not None:
            ids = ids[-behaviour.max_prompt_tokens :]
        if behaviour.processor and body.get("vllm_xargs"):
            out, distributions, finish, stop = forced(self.toy, ids, body)
        else:
            out, distributions, finish, stop = self._generate(ids, body)
        text = self._text(out, body, finish, stop)
        choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": finish}
        if behaviour.returns_stop_reason:
            choice["stop_reason"] = stop
        if behaviour.returns_ids and body.get("return_token_ids"):
            choice |= {"token_ids": out, "prompt_token_ids": ids}
        if behaviour.logprobs and body.get("logprobs"):
            choice["logprobs"] = self._logprobs(out, distributions, body)
        count = len(out) if behaviour.correct_usage else len(out) * 3 + 7
        usage = {"prompt_tokens": len(ids), "completion_tokens": count}
        return {"id": "x", "model": "toy", "choices": [choice], "usage": usage}

    def _generate(
        self, ids: list[int], body: dict[str, Any]
    ) -> tuple[list[int], list[dict[int, float]], str, Any]:
        behaviour = self.behaviour
        rng = random.Random(body.get("seed"))
        settings = {
            "temperature": body.get("temperature", 1.0), "top_p": body.get("top_p", 1.0),
            "top_k": max(0, body.get("top_k", 0)), "min_p": body.get("min_p", 0.0),
        }  # fmt: skip
        bias = {int(t): float(v) for t, v in (body.get("logit_bias") or {}).items()}
        stops = set(body.get("stop_token_ids") or ()) if behaviour.stops_at_ids else set()
        late = (
            behaviour.overshoots_after is not None and len(self.bodies) > behaviour.overshoots_after
        )
        limit = body["max_tokens"] * (4 if late or not behaviour.keeps_max_tokens else 1)
        out: list[int] = []
        distributions: list[dict[int, float]] = []
        while len(out) < limit:
            raw = self.toy.distribution([*ids, *out])
            distributions.append(raw)
            token = draw(
                process_distribution(raw, bias=bias if behaviour.biases else None, **settings),
                rng.random(),
            )
            out.append(token)
            if token in stops or token == EOS:
                return out, distributions, "stop", token if token in stops else None
            text = TOKENIZER.decode(out)
            for stop in body.get("stop") or () if behaviour.stops_at_texts else ():
                if stop in text:
                    return out, distributions, "stop", stop
        return out, distributions, "length", None

    def _text(self, out: list[int], body: dict[str, Any], finish: str, stop: Any) -> str:
        kept = out[:-1] if finish == "stop" and (stop is None or isinstance(stop, int)) else out
        if not self.behaviour.shows_special:
            kept = [token for token in kept if token < 256]
        text = TOKENIZER.decode(kept)
        return text.split(stop)[0] if isinstance(stop, str) else text

    def _logprobs(
        self, out: list[int], distributions: list[dict[int, float]], body: dict[str, Any]
    ) -> dict[str, Any]:
        num_logprobs, token_ids = body["logprobs"], body.get("logprob_token_ids")
        rows = []
        for token, raw in zip(out, distributions, strict=True):
            ranked = sorted(raw, key=lambda t, raw=raw: -raw[t])
            rows.append(
                {
                    t: math.log(raw.get(t, 1e-30))
                    for t in (token, *(token_ids or ranked[:num_logprobs]))
                }
            )
        if self.behaviour.content_ids:
            content = [
                {"id": token, "token": "?", "logprob": row[token],
                 "top_logprobs": [{"id": t, "logprob": x} for t, x in row.items()]}
                for token, row in zip(out, rows, strict=True)
            ]  # fmt: skip
            return {"content": content}
        name = (
            "token_id:{}".format if self.behaviour.returns_ids else lambda t: TOKENIZER.decode([t])
        )
        return {
            "tokens": [name(token) for token in out],
            "top_logprobs": [{name(t): x for t, x in row.items()} for row in rows],
        }

    # -- chat --

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        await asyncio.sleep(self.faults.delay_seconds)
        question = body["messages"][-1]["content"]
        message: dict[str, Any] = {"role": "assistant", "content": f"It is {len(question)}."}
        if self.behaviour.returns_reasoning:
            message["reasoning_content"] = f"Counting {question!r}."
        message = self.chat_message or message
        usage = {"prompt_tokens": 9, "completion_tokens": 12}
        return await self._faulty(
            request,
            lambda: {
                "choices": [{"message": message, "finish_reason": self.chat_finish}],
                "usage": usage,
            },
        )


def forced(
    toy: Toy, ids: list[int], body: dict[str, Any]
) -> tuple[list[int], list[dict[int, float]], str, Any]:
    """Tokens, distributions and end of one greedy request to a server by `slowthink serve`."""
    args = read_args(body["vllm_xargs"])
    assert args is not None and args.budget.max_thinking_tokens is not None
    compiled = compile_args(args, Compiler(TOKENIZER, eos_ids=frozenset({EOS})), stop_id=EOS)
    known = ids[len(ids) - args.num_cached :] if args.num_cached else []
    flow = Flow(compiled, cap=args.budget.max_thinking_tokens, cached_ids=known)
    out: list[int] = []
    distributions: list[dict[int, float]] = []
    while len(out) < body["max_tokens"]:
        raw, instruction = toy.distribution([*ids, *out]), flow.instruction()
        ranked = sorted(raw, key=lambda t, raw=raw: -raw[t])
        triggers = compiled.rules.trigger_ids
        best = next(t for t in ranked if not (instruction.banned and t in triggers))
        token, end = best, None
        if instruction.forced:
            token = instruction.forced[0]
        elif instruction.end_replacement != NO_END and best in triggers:
            runner_up = next(t for t in ranked if t not in triggers)
            token = (
                runner_up
                if instruction.end_replacement == RUNNER_UP
                else instruction.end_replacement
            )
            end = DeclaredEnd(best, 1.0, best)
        flow.observe([token], end)
        out.append(token)
        distributions.append(raw)
        if token == EOS and flow.thinking.next_action().kind is ActionKind.STOP:
            return out, distributions, "stop", None
    return out, distributions, "length", None


@contextlib.contextmanager
def serve(
    toy: Toy | None = None, behaviour: Behaviour | None = None, faults: Faults | None = None
) -> Iterator[Server]:
    """A server that runs until the block ends."""
    server = Server(toy or Toy(), behaviour or Behaviour(), faults or Faults())
    server.start()
    try:
        yield server
    finally:
        server.stop()
