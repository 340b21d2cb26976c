"""Requests to servers that force budgets themselves: `slowthink serve`.

One request thinks, closes and answers; nothing is prefilled again. What happened in it is told from
the ids that come back, and under greedy decoding from their logprobs too, which are of the model's
own distribution, before anything was forced (vLLM's default, `raw_logprobs`):

    ids  … 32 | 39 (Wait) …      likeliest at 39: <|im_start|>, a trigger: an end was refused there
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slowthink.engines.server.replies import (
    ServerReply,
    end_bounds,
    end_probability,
    likeliest,
    read_reply,
)
from slowthink.engines.server.rounds import Rounds
from slowthink.engines.session import Compiler, Job, JobInProgress
from slowthink.engines.vllm.request_args import read_args, write_args
from slowthink.engines.vllm.request_flow import CompiledArgs, DeclaredEnd, Flow, compile_args
from slowthink.errors import ConfigError, EngineError
from slowthink.forcing.machine import ActionKind
from slowthink.records import Cost, Request


class InFlight:
    """Thinks in one request."""

    def __init__(self, rounds: Rounds, compiler: Compiler, *, stop_id: int) -> None:
        self._rounds = rounds
        self._compiler = compiler
        self._stop_id = stop_id

    def refuse(self, job: Job) -> None:
        """Raise ConfigError where the ids would not tell what happened, or the format does not
        serve."""
        self._compile(_arguments(job))
        waits = max(point.waits for point in job.points)
        if job.request.sampling.temperature and waits:
            raise ConfigError(
                "engine.endpoints.in_flight: waits under sampling: from a server's ids alone, a "
                "forced wait string cannot be told from one that the model drew itself. "
                "Set in_flight: false (rounds), or temperature: 0, or use the vllm engine."
            )

    async def think(self, running: JobInProgress) -> None:
        """Make the job's thinking, and the answer that comes with it. Raises EngineError where the
        server did not force as requested."""
        if running.machine.next_action().kind is ActionKind.STOP:
            return
        job, cap = running.job, running.job.farthest.cap
        known_ids = job.chain.ids if job.chain else ()
        arguments = _arguments(job)
        compiled = self._compile(arguments)
        ids = [*job.request.prompt_ids, *known_ids]
        body = self._body(job, arguments) | {
            "prompt": ids,
            "max_tokens": cap - len(known_ids) + compiled.reserve,
        }
        reply = read_reply(await self._rounds.post(body))
        flow = _replayed(compiled, reply, cap=cap, known=known_ids, request=job.request)
        num_prompt = reply.num_prompt if reply.num_prompt is not None else len(ids)
        prefilled = max(0, num_prompt - reply.num_cached)
        running.spend(
            Cost(
                prefilled=prefilled,
                decoded=flow.num_drawn,
                forced=flow.num_forced,
                re_prefilled=min(len(known_ids), prefilled),
            )
        )
        flow.store(running)

    def _body(self, job: Job, arguments: dict[str, Any]) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._rounds.dialect.model,
            "temperature": 0.0,
            "return_token_ids": True,
            "vllm_xargs": arguments,
        }
        if not job.request.sampling.temperature:
            body |= {"logprobs": self._rounds.dialect.logprobs, "return_tokens_as_token_ids": True}
        return body

    def _compile(self, arguments: dict[str, Any]) -> CompiledArgs:
        args = read_args(arguments)
        assert args is not None
        return compile_args(args, self._compiler, stop_id=self._stop_id)


def _arguments(job: Job) -> dict[str, Any]:
    point = job.farthest
    return write_args(job.request, point, chain=job.chain, answer=point in job.points)


def _replayed(
    compiled: CompiledArgs, reply: ServerReply, *, cap: int, known: Sequence[int], request: Request
) -> Flow:
    flow = Flow(compiled, cap=cap, known_ids=known)
    ids = reply.ids or ()
    if request.sampling.temperature:
        flow.replay(ids, {}, infer=True)
    else:
        if len(reply.logprobs) != len(ids):
            raise _ignored(f"{len(reply.logprobs)} logprobs came with {len(ids)} tokens")
        texts = {i: compiled.token_format.decode([i]) for i in compiled.rules.trigger_ids}
        for token, logprobs in zip(ids, reply.logprobs, strict=True):
            flow.observe([token], _mark(flow, token, logprobs, texts))
    if flow.num_unexpected:
        raise _ignored(
            f"{flow.num_unexpected} of {len(ids)} tokens are not those that are forced there"
        )
    if flow.thinking.next_action().kind is not ActionKind.STOP:
        raise _ignored(f"thinking stopped open after {len(flow.thinking.ids)} tokens of {cap}")
    return flow


def _mark(
    flow: Flow, token: int, logprobs: Mapping[int | str, float], texts: Mapping[int, str]
) -> DeclaredEnd | None:
    """The end that was declared where this token came out, if one was."""
    instruction, rules = flow.instruction(), flow.compiled.rules
    if instruction.force >= 0 or instruction.banned:
        return None
    best = int(likeliest(logprobs, [-1]))
    if best in rules.trigger_ids:
        return DeclaredEnd(best, 1.0, best)
    if rules.end_rule != "probability":
        return None
    threshold = rules.end_probability
    least, most = end_bounds(logprobs, texts)
    if least < threshold <= most and instruction.on_end >= 0:
        # Too few logprobs to tell, but the server knew: at a declared end another token came.
        declared = token == instruction.on_end and token != best
    else:
        declared = end_probability(logprobs, texts, threshold=threshold) >= threshold
    return DeclaredEnd(best, threshold, best) if declared else None


def _ignored(what: str) -> EngineError:
    return EngineError(
        f"engine.endpoints.in_flight: {what}: the server did not force the budget; expected all. "
        "Start it by `slowthink serve`, or set in_flight: false."
    )
