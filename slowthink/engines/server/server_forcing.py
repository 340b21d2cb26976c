"""Budget forcing in flight, by the server: requests to `slowthink serve`.

One request generates thinking, closing and answer; nothing is prefilled again. Its events are
inferred from the ids in the reply, and under greedy decoding also from their logprobs, which are of
the model's own distribution, before anything was forced (vLLM's default, `raw_logprobs`):

    ids  … 32 | 39 (Wait) …      likeliest at 39: <|im_start|>, a trigger: an end was refused there
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from slowthink.engines.server.client_forcing import ClientForcing
from slowthink.engines.server.probe import ServerFeatures
from slowthink.engines.server.replies import (
    Logprobs,
    ServerReply,
    end_probability,
    end_probability_bounds,
    top_token,
)
from slowthink.engines.session import Job, JobInProgress
from slowthink.engines.vllm.request_flow import CompiledArgs, DeclaredEnd, Flow, compile_job
from slowthink.errors import ConfigError, EngineError
from slowthink.forcing.machine import ActionKind
from slowthink.records import Cost


class ServerForcing:
    """Generates a chain, and the answer after it, in one request."""

    def __init__(self, client: ClientForcing, features: ServerFeatures, *, stop_id: int) -> None:
        self._client = client
        self._features = features
        self._compiler = client.compiler
        self._stop_id = stop_id

    def check_supported(self, job: Job) -> None:
        """Raise ConfigError if the events could not be inferred from the ids, or the server cannot
        force the format."""
        compile_job(job, self._compiler, stop_id=self._stop_id)
        if job.request.sampling.temperature and job.largest_point.waits:
            raise ConfigError(
                "engine.endpoints.in_flight: waits under sampling: from a server's ids alone, a "
                "forced wait string cannot be told from one that the model sampled itself. "
                "Set in_flight: false (rounds), or temperature: 0, or use the vllm engine."
            )

    async def think(self, state: JobInProgress) -> None:
        """Generate the job's thinking and the answer after it. Raises EngineError if the server
        did not force the budget."""
        if state.machine.next_action().kind is ActionKind.STOP:
            return
        job = state.job
        cached_ids = job.chain.ids if job.chain else ()
        arguments = compile_job(job, self._compiler, stop_id=self._stop_id)
        compiled = arguments.compiled
        ids = [*job.request.prompt_ids, *cached_ids]
        body: dict[str, Any] = {
            "model": self._features.model,
            "temperature": 0.0,
            "return_token_ids": True,
            "vllm_xargs": arguments,
            "prompt": ids,
            "max_tokens": job.largest_point.cap - len(cached_ids) + compiled.reserve,
        }
        if not job.request.sampling.temperature:
            body |= {"logprobs": self._features.logprobs, "return_tokens_as_token_ids": True}
        read = functools.partial(self._client.reader.read, sent_ids=ids)
        reply = await self._client.ask(body, read)
        flow = _replay(compiled, reply, job)
        prefilled = reply.num_prefilled(len(ids))
        state.add_cost(
            Cost(
                prefilled=prefilled,
                decoded=flow.num_sampled,
                forced=flow.num_forced,
                re_prefilled=min(len(cached_ids), prefilled),
            )
        )
        flow.store(state)


def _replay(compiled: CompiledArgs, reply: ServerReply, job: Job) -> Flow:
    """The server's flow, inferred from the reply. Raises EngineError if it does not fit the budget.

    Under sampling, logprobs do not show which token was sampled: only the ids are used."""
    ids, cap = reply.ids or (), job.largest_point.cap
    flow = Flow(compiled, cap=cap, cached_ids=job.chain.ids if job.chain else ())
    if job.request.sampling.temperature:
        flow.replay(ids, {}, infer=True)
    else:
        if len(reply.logprobs) != len(ids):
            raise _not_forced(f"{len(reply.logprobs)} logprobs for {len(ids)} tokens")
        trigger_texts = {
            token: compiled.token_format.decode([token]) for token in compiled.rules.trigger_ids
        }
        for token, logprobs in zip(ids, reply.logprobs, strict=True):
            flow.observe([token], _declared_end(flow, token, logprobs, trigger_texts))
    if num_unexpected := flow.num_unexpected(ids):
        raise _not_forced(f"{num_unexpected} of {len(ids)} tokens differ from the forced ones")
    if flow.thinking.next_action().kind is not ActionKind.STOP:
        raise _not_forced(f"thinking did not end within {len(flow.thinking.ids)} tokens of {cap}")
    return flow


def _declared_end(
    flow: Flow, token: int, logprobs: Logprobs, trigger_texts: Mapping[int, str]
) -> DeclaredEnd | None:
    """The end that the end rule declared at this token, if any."""
    instruction, rules = flow.instruction(), flow.compiled.rules
    if instruction.forced or instruction.banned:
        return None
    argmax = int(top_token(logprobs, -1))
    if argmax in rules.trigger_ids:
        return DeclaredEnd(argmax, 1.0, argmax)
    if rules.end_rule != "probability":
        return None
    threshold = rules.end_probability
    lower, upper = end_probability_bounds(logprobs, trigger_texts)
    if lower < threshold <= upper and instruction.end_replacement >= 0:
        # Too few logprobs to tell; but at a declared end the server returns another token.
        declared = token == instruction.end_replacement and token != argmax
    else:
        declared = end_probability(logprobs, trigger_texts, threshold=threshold) >= threshold
    return DeclaredEnd(argmax, threshold, argmax) if declared else None


def _not_forced(reason: str) -> EngineError:
    return EngineError(
        f"engine.endpoints.in_flight: {reason}: the server did not force the budget; expected it "
        "to. Start it by `slowthink serve`, or set in_flight: false."
    )
