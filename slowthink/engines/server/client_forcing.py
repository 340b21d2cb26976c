"""Budget forcing in rounds, by the client: works over any server that completes a prompt.

Each round requests the remaining budget and stops at the triggers. The reply's tokens are passed to
`forcing.machine` one by one. If the machine stops, refuses or replaces, later tokens of the round
are dropped, forced tokens are appended, and the next round begins:

    round 1   prompt                      → "17 + 25 = 32" <|im_start|>      refused
    round 2   prompt, 17 + 25 = 32, Wait  → ", no: 42" <|im_start|>          accepted

Jobs run independently; none waits for another's round.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slowthink.engines.server.probe import ServerFeatures, greedy_settings
from slowthink.engines.server.replies import (
    Logprobs,
    ReplyReader,
    ServerReply,
    end_probability,
    top_token,
    truncated_prompt,
)
from slowthink.engines.session import Branch, Compiler, JobInProgress, draw_uniform
from slowthink.engines.token_sampling import SampledToken
from slowthink.errors import EngineError
from slowthink.forcing.machine import (
    Action,
    ActionKind,
    AnswerMachine,
    ForcingMachine,
    ForcingRules,
)
from slowthink.records import Cost, Request

ReadCompletion = Callable[[dict[str, Any]], ServerReply]
AskCompletion = Callable[[dict[str, Any], ReadCompletion], Awaitable[ServerReply]]
"""Sends the body of a completion request and returns the reply, read and checked."""

_MAX_ROUND_TOKENS = 128
"""Applies to rounds that the machine may end earlier than the server: later tokens are wasted."""
_MAX_EMPTY_ROUNDS = 3
"""A job fails after this many rounds in a row without a token."""
_BAN_BIAS = -100
"""The lowest bias OpenAI allows: it leaves e^-100 of the token's probability."""


@dataclass(frozen=True, kw_only=True)
class CompletionRequest:
    """The request of one round."""

    request: Request
    ids: tuple[int, ...]
    """The prompt and all tokens so far."""
    max_tokens: int
    seed_key: tuple[object, ...]
    """Unique per round; the sampling seed is derived from it."""
    stop_ids: frozenset[int]
    stop_texts: tuple[str, ...] = ()
    banned: frozenset[int] = frozenset()
    rules: ForcingRules | None = None
    """Set if the end rule needs logprobs."""


@dataclass
class ClientForcing:
    """Generates thinking and answers by completion requests to servers with the same features."""

    ask: AskCompletion
    features: ServerFeatures
    compiler: Compiler
    reader: ReplyReader
    anomalies: Counter[str] = field(default_factory=Counter)
    """Harmless deviations of the server from what was requested, by kind."""

    async def think(self, state: JobInProgress) -> None:
        """Generate the job's thinking: run rounds until its machine stops."""
        request, machine = state.job.request, state.machine
        rules, with_logprobs = machine.rules, needs_logprobs(request)
        may_end_early = with_logprobs or rules.loop is not None or machine.steps is not None

        def next_request(action: Action) -> CompletionRequest:
            max_tokens = machine.cap - len(machine.ids)
            if may_end_early:
                max_tokens = min(max_tokens, _MAX_ROUND_TOKENS)
            return CompletionRequest(
                request=request,
                ids=(*request.prompt_ids, *machine.ids),
                max_tokens=1 if action.banned else max_tokens,
                seed_key=machine.draw_key,
                stop_ids=rules.trigger_ids,
                stop_texts=rules.long_triggers,
                banned=action.banned,
                rules=rules if with_logprobs else None,
            )

        await self._run_rounds(machine, next_request, state, num_processed=len(machine.ids))

    async def answer(self, branch: Branch, state: JobInProgress) -> None:
        """Generate one answer and add it to the job."""
        request, eos_ids = state.job.request, self.compiler.eos_ids
        machine = AnswerMachine(max_tokens=request.budget.answer_tokens, eos_ids=eos_ids)
        thinking = (*request.prompt_ids, *branch.cut.ids)

        def next_request(action: Action) -> CompletionRequest:
            return CompletionRequest(
                request=request,
                ids=(*thinking, *branch.closing, *machine.ids),
                max_tokens=machine.max_tokens - len(machine.ids),
                seed_key=("answer", len(branch.cut.ids), *branch.closing, *machine.draw_key),
                stop_ids=eos_ids,
            )

        state.add_cost(Cost(forced=len(branch.closing)))
        await self._run_rounds(machine, next_request, state, num_processed=len(thinking))
        state.add_answer(branch, machine.ids, machine.end_reason)

    async def _run_rounds(
        self,
        machine: ForcingMachine | AnswerMachine,
        next_request: Callable[[Action], CompletionRequest],
        state: JobInProgress,
        *,
        num_processed: int,
    ) -> None:
        """Run rounds until the machine stops. `num_processed`: tokens of the first prompt that a
        server has processed before."""
        num_empty = 0
        while True:
            action = machine.next_action()
            while action.kind is ActionKind.FORCE:
                state.add_cost(Cost(forced=1))
                action = machine.next_action()
            if action.kind is not ActionKind.SAMPLE:
                return
            completion = next_request(action)
            reply = await self.ask(self.request_body(completion), self._read_for(completion))
            cost = _cost(reply, num_sent=len(completion.ids), num_processed=num_processed)
            state.add_cost(cost)
            tokens = self.sampled_tokens(completion, reply)
            num_empty = num_empty + 1 if not tokens else 0
            if num_empty == _MAX_EMPTY_ROUNDS:
                raise self._error(
                    f"{_MAX_EMPTY_ROUNDS} rounds returned neither a token nor an end; expected "
                    "either. The context may be full: lower the caps, or set engine.max_context to "
                    "the server's context length."
                )
            num_before = len(machine.ids)
            _observe(machine, tokens)
            num_processed = len(completion.ids) + max(0, len(machine.ids) - num_before)
            state.checkpoint_if_due()

    # -- request bodies --

    def request_body(self, completion: CompletionRequest) -> dict[str, Any]:
        """The JSON of a completion request."""
        features, request, ids = self.features, completion.request, list(completion.ids)
        sampling = request.sampling
        seed = draw_uniform(request.seed, request.sample, "round", *completion.seed_key)
        optional = {
            "seed": int(seed * 2**31),
            "top_k": sampling.top_k or -1,
            "min_p": sampling.min_p,
        }
        body = greedy_settings(features) | {
            "prompt": ids if features.takes_ids else self._decode(ids),
            "max_tokens": completion.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            **{name: value for name, value in optional.items() if name in features.settings},
        }
        stops = list(completion.stop_texts)
        if features.stops_at_ids:
            body["stop_token_ids"] = sorted(completion.stop_ids)
        elif not features.returns_ids:
            stops += [self._decode([token]) for token in sorted(completion.stop_ids)]
        if stops:
            body["stop"] = stops[:4]  # the most that OpenAI allows
        if completion.banned:
            body["logit_bias"] = {str(token): _BAN_BIAS for token in sorted(completion.banned)}
        rules = completion.rules
        if rules is not None and rules.end_rule == "probability" and features.logprobs_of_ids:
            body |= {"logprobs": 1, "logprob_token_ids": sorted(rules.trigger_ids)}
        elif rules is not None:
            body["logprobs"] = features.logprobs
        elif features.ids_need_logprobs:
            body["logprobs"] = 1
        return body

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.compiler.tokenizer.decode(ids))

    # -- replies --

    def _read_for(self, completion: CompletionRequest) -> ReadCompletion:
        """Reads the reply to this request."""
        sent_ids = completion.ids if self.features.takes_ids else None
        return functools.partial(self.reader.read, sent_ids=sent_ids)

    def sampled_tokens(
        self, completion: CompletionRequest, reply: ServerReply
    ) -> list[SampledToken]:
        """The tokens of a reply, including the one that ended it. Raises EngineError if the
        server did not do what was requested."""
        self._check_prompt_length(completion, reply)
        ids = reply.token_ids(self.compiler.tokenizer)
        self._check_length(completion, reply, len(ids))
        tokens = ids + self._unlisted_end_ids(completion, reply, ids)
        self._check_tokens(completion, reply, ids)
        if completion.rules is None:
            return [SampledToken(token, -1, 0.0) for token in tokens]
        return self._add_logprobs(completion.rules, reply, tokens)

    def _unlisted_end_ids(
        self, completion: CompletionRequest, reply: ServerReply, ids: Sequence[int]
    ) -> list[int]:
        """The tokens that ended the round, if they are not among the ids."""
        if (ids and ids[-1] in completion.stop_ids) or not self._ended(completion, reply):
            return []
        tail = self._decode(ids[-16:]) if completion.stop_texts and ids else ""
        if any(text in tail for text in completion.stop_texts):
            return []
        if isinstance(reply.stop_reason, str) and reply.stop_reason:
            stop_ids = list(self.compiler.tokenizer.encode(reply.stop_reason))
            return stop_ids if reply.stop_reason in completion.stop_texts else stop_ids[:1]
        if isinstance(reply.stop_reason, int):
            return [reply.stop_reason]
        return [min(self.compiler.eos_ids or completion.stop_ids)]

    def _ended(self, completion: CompletionRequest, reply: ServerReply) -> bool:
        """Whether the model ended the text. If the reply gives no reason, or an unknown one, it did
        if it is shorter than requested; a server that names a limit would have named it."""
        if reply.finish is not None:
            return reply.stopped
        if reply.num_sampled is None:
            return self.features.names_limit
        return reply.num_sampled < completion.max_tokens

    def _check_prompt_length(self, completion: CompletionRequest, reply: ServerReply) -> None:
        num_sent = len(completion.ids)
        # A text may be fewer tokens for the server than were sampled.
        min_tokens = num_sent if self.features.takes_ids else num_sent * 0.8 - 8
        if reply.num_prompt_tokens is not None and reply.num_prompt_tokens < min_tokens:
            raise truncated_prompt(num_sent, reply.num_prompt_tokens)

    def _check_length(
        self, completion: CompletionRequest, reply: ServerReply, num_ids: int
    ) -> None:
        count = num_ids
        if reply.ids is None:  # encoded again, perhaps into half more tokens than were sampled
            count = max(int((num_ids - 8) / 1.5), reply.num_completion_tokens or 0)
        if count > completion.max_tokens + 1:  # some servers do not count the end
            raise self._error(
                f"{max(num_ids, count)} tokens returned for max_tokens {completion.max_tokens}: "
                "the server ignores the budget; expected it to stop there. Use another server, or "
                "the transformers or vllm engine."
            )

    def _check_tokens(
        self, completion: CompletionRequest, reply: ServerReply, ids: Sequence[int]
    ) -> None:
        if reply.num_completion_tokens is not None:
            tolerance = 1 if reply.ids is not None else 2 + len(ids) // 5
            if abs(reply.num_completion_tokens - len(ids)) > tolerance:
                self.anomalies["usage does not agree with the tokens"] += 1
        if any(token in completion.stop_ids for token in ids[:-1]):
            self.anomalies["went on after a stop"] += 1
        if any(token in completion.banned for token in ids):
            raise self._error(
                "it returned a token that logit_bias excludes; expected another. Give wait strings "
                "and no minimum, or use another engine."
            )

    def _error(self, message: str) -> EngineError:
        return EngineError(f"`{self.features.model}`: {message}")

    def _add_logprobs(
        self, rules: ForcingRules, reply: ServerReply, tokens: Sequence[int]
    ) -> list[SampledToken]:
        num_ids = len(reply.ids or ())
        if len(reply.logprobs) < num_ids:
            raise self._error(
                f"{len(reply.logprobs)} logprobs for {num_ids} tokens; expected one for each. "
                "Use end_rule drawn."
            )
        trigger_texts = {token: self._decode([token]) for token in rules.trigger_ids}
        logprobs = [*reply.logprobs, *({} for _ in tokens)]  # the unlisted end has none
        pairs = zip(tokens, logprobs, strict=False)
        return [_sampled_token(*pair, rules, trigger_texts) for pair in pairs]


def _sampled_token(
    token: int, logprobs: Logprobs, rules: ForcingRules, trigger_texts: Mapping[int, str]
) -> SampledToken:
    """The token with the figures that its end rule needs."""
    if not logprobs:  # an end that the server does not list
        return SampledToken(token, token, 1.0)
    if rules.end_rule == "argmax":
        argmax = top_token(logprobs, token)
        if isinstance(argmax, str):
            argmax = next((i for i, text in trigger_texts.items() if text == argmax), -1)
        return SampledToken(token, argmax, 0.0)
    threshold = rules.end_probability
    return SampledToken(token, -1, end_probability(logprobs, trigger_texts, threshold=threshold))


def needs_logprobs(request: Request) -> bool:
    """Whether the end rule needs logprobs. A greedily sampled token is itself the argmax."""
    rule = request.budget.end_rule
    return rule == "probability" or (rule == "argmax" and request.sampling.temperature > 0)


def _cost(reply: ServerReply, *, num_sent: int, num_processed: int) -> Cost:
    prefilled = reply.num_prefilled(num_sent)
    return Cost(
        prefilled=prefilled,
        decoded=reply.num_sampled or 0,
        re_prefilled=max(0, min(prefilled, num_processed - reply.num_cached_tokens)),
    )


def _observe(machine: ForcingMachine | AnswerMachine, tokens: Sequence[SampledToken]) -> None:
    """Pass sampled tokens to the machine until it requires anything but the next one.

    If a refused token is not a trigger itself (the end was declared by its probability), it is also
    a sample from the distribution without the triggers, and is passed again.
    """
    for sampled in tokens:
        action = machine.observe(
            sampled.token, trigger_probability=sampled.trigger_probability, argmax=sampled.argmax
        )
        if action.kind is ActionKind.RESAMPLE and sampled.token not in action.banned:
            action = machine.observe(sampled.token)
        if (
            action.kind is not ActionKind.KEEP
            or machine.next_action().kind is not ActionKind.SAMPLE
        ):
            return
