"""Requests to servers that force budgets themselves: `slowthink serve`.

One request thinks, closes and answers; nothing is prefilled again. What happened in it is told from
the ids that come back, and under greedy decoding from their logprobs too, which are of the model's
own distribution, before anything was forced (vLLM's default, `raw_logprobs`):

    ids  … 32 | 39 (Wait) …      likeliest at 39: <|im_start|>, a trigger: an end was refused there
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slowthink.engines.server.replies import (
    ServerReply,
    end_bounds,
    end_probability,
    likeliest,
    read_reply,
)
from slowthink.engines.server.rounds import Meter, Rounds
from slowthink.engines.session import Job, Point
from slowthink.engines.vllm.request_args import read_args, write_args
from slowthink.engines.vllm.request_flow import Compiler, DeclaredEnd, Flow, Spec
from slowthink.errors import ConfigError, EngineError
from slowthink.forcing.machine import ActionKind
from slowthink.records import Answer, Chain, Cost, Request


@dataclass(frozen=True, kw_only=True)
class Done:
    """What one request came to."""

    chain: Chain
    answers: tuple[Answer, ...] = ()


class InFlight:
    """Thinks in one request."""

    def __init__(self, rounds: Rounds, tokenizer: Any, eos_ids: frozenset[int]) -> None:
        self._rounds = rounds
        self._compiler = Compiler(tokenizer, eos_ids=eos_ids, stop_id=tokenizer.eos_token_id)

    def refuse(self, job: Job) -> None:
        """Raise ConfigError where the ids would not tell what happened, or the format does not
        serve."""
        self._spec(job, farthest(job))
        waits = max(point.waits for point in job.points)
        if job.request.sampling.temperature and waits:
            raise ConfigError(
                "engine.endpoints.in_flight: waits under sampling: from a server's ids alone, a "
                "forced wait string cannot be told from one that the model drew itself. "
                "Set in_flight: false (rounds), or temperature: 0, or use the vllm engine."
            )

    async def think(self, job: Job, meter: Meter) -> Done:
        """The job's longest thinking, and the answer that comes with it. Raises EngineError where
        the server did not force what it was asked to."""
        point = farthest(job)
        spec = self._spec(job, point)
        chain = job.chain or Chain(key=job.key)
        if job.machine(spec.rules).next_action().kind is ActionKind.STOP:
            return Done(chain=chain)
        known = len(chain.ids)
        ids = [*job.request.prompt_ids, *chain.ids]
        body = self._body(job, point) | {
            "prompt": ids,
            "max_tokens": point.cap - known + spec.reserve,
        }
        reply = read_reply(await self._rounds.post(body))
        flow = _replayed(spec, reply, cap=point.cap, known=chain.ids, request=job.request)
        told = reply.num_prompt if reply.num_prompt is not None else len(ids)
        prefilled = max(0, told - reply.num_cached)
        meter.spend(
            Cost(
                prefilled=prefilled,
                decoded=flow.num_drawn,
                forced=flow.num_forced,
                re_prefilled=min(known, prefilled),
            )
        )
        return Done(chain=flow.thinking.chain(job.key), answers=_answers(job, flow))

    def _body(self, job: Job, point: Point) -> dict[str, Any]:
        arguments = write_args(job.request, point, chain=job.chain, answer=point in job.points)
        body: dict[str, Any] = {
            "model": self._rounds.dialect.model,
            "temperature": 0.0,
            "return_token_ids": True,
            "vllm_xargs": arguments,
        }
        if not job.request.sampling.temperature:
            body |= {"logprobs": self._rounds.dialect.logprobs, "return_tokens_as_token_ids": True}
        return body

    def _spec(self, job: Job, point: Point) -> Spec:
        ask = read_args(write_args(job.request, point, chain=job.chain, answer=point in job.points))
        assert ask is not None
        return self._compiler.spec(ask)


def farthest(job: Job) -> Point:
    """The point that reaches all others; forced if any so far is."""
    steps = [point.steps for point in job.points]
    limits = [number for number in steps if number is not None]
    far = Point(
        cap=max(point.cap for point in job.points),
        waits=max(point.waits for point in job.points),
        steps=max(limits) if len(limits) == len(steps) else None,
    )
    unforced = replace(far, forced=False)
    return unforced if unforced in job.points and far not in job.points else far


def _replayed(
    spec: Spec, reply: ServerReply, *, cap: int, known: Sequence[int], request: Request
) -> Flow:
    flow = Flow(spec, cap=cap, known_ids=known)
    ids = reply.ids or ()
    if request.sampling.temperature:
        flow.replay(ids, {}, guess=True)
    else:
        if len(reply.logprobs) != len(ids):
            raise _ignored(f"{len(reply.logprobs)} logprobs came with {len(ids)} tokens")
        texts = {i: spec.token_format.decode([i]) for i in spec.rules.trigger_ids}
        for token, logprobs in zip(ids, reply.logprobs, strict=True):
            flow.told([token], _mark(flow, token, logprobs, texts))
    if flow.strays:
        raise _ignored(f"{flow.strays} of {len(ids)} tokens are not those that are forced there")
    if flow.thinking.next_action().kind is not ActionKind.STOP:
        raise _ignored(f"thinking stopped open after {len(flow.thinking.ids)} tokens of {cap}")
    return flow


def _mark(
    flow: Flow, token: int, logprobs: Mapping[int | str, float], texts: Mapping[int, str]
) -> DeclaredEnd | None:
    """The end that was declared where this token came out, if one was."""
    order, rules = flow.order(), flow.spec.rules
    if order.force >= 0 or order.banned:
        return None
    best = int(likeliest(logprobs, [-1]))
    if best in rules.trigger_ids:
        return DeclaredEnd(best, 1.0, best)
    if rules.end_rule != "probability":
        return None
    threshold = rules.end_probability
    least, most = end_bounds(logprobs, texts)
    if least < threshold <= most and order.on_end >= 0:
        # Too few logprobs to tell, but the server knew: at a declared end another token came.
        declared = token == order.on_end and token != best
    else:
        declared = end_probability(logprobs, texts, threshold=threshold) >= threshold
    return DeclaredEnd(best, threshold, best) if declared else None


def _answers(job: Job, flow: Flow) -> tuple[Answer, ...]:
    """The answer that came with the thinking, if its point is one that was asked for."""
    if flow.answering is None or flow.closing is None:
        return ()
    cut = tuple(flow.thinking.ids)
    return (
        Answer(
            key=job.request.answer_key(cut, flow.closing),
            chain_key=job.key,
            cut=len(cut),
            closing=flow.closing,
            ids=tuple(flow.answering.ids),
            end=flow.answering.end,
        ),
    )


def _ignored(what: str) -> EngineError:
    return EngineError(
        f"engine.endpoints.in_flight: {what}: the server did not force the budget; expected all. "
        "Start it by `slowthink serve`, or set in_flight: false."
    )
