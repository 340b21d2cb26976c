"""Budget forcing in rounds, by the client: works over any server that completes a prompt.

Each round requests the remaining budget and stops at the triggers. The reply's tokens are fed to
`forcing.machine` one by one. Where the machine stops, refuses or replaces, later tokens of the
round are dropped, forced tokens are appended, and the next round begins:

    round 1   prompt                      → "17 + 25 = 32" <|im_start|>      refused
    round 2   prompt, 17 + 25 = 32, Wait  → ", no: 42" <|im_start|>          accepted

Requests run independently; none waits for another's round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slowthink.engines.drawing import Drawn
from slowthink.engines.server.probe import ServerFeatures, greedy_settings
from slowthink.engines.server.replies import ServerReply, end_probability, likeliest, read_reply
from slowthink.engines.session import Branch, Compiler, JobInProgress, draw_uniform
from slowthink.errors import EngineError
from slowthink.forcing.machine import (
    Action,
    ActionKind,
    AnswerMachine,
    ForcingMachine,
    ForcingRules,
)
from slowthink.records import Cost, Request

Post = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Body of a completion → its reply."""

_SHORT_ROUND = 128
"""Tokens of a round that the machine may end earlier than the server; later tokens are wasted."""
_MAX_EMPTY = 3
"""Rounds in a row that return no token."""
_BAN = -100
"""The lowest bias OpenAI allows: it leaves e^-100 of the token's probability."""


@dataclass(frozen=True, kw_only=True)
class CompletionRequest:
    """What one round requests of the server."""

    request: Request
    ids: tuple[int, ...]
    """The prompt and all tokens so far."""
    max_tokens: int
    index: tuple[object, ...]
    """Identifies the draws, for their seed."""
    stop_ids: frozenset[int]
    stop_texts: tuple[str, ...] = ()
    banned: frozenset[int] = frozenset()
    rules: ForcingRules | None = None
    """Set where the end rule needs logprobs."""


@dataclass
class ClientForcing:
    """Generates thinking and answers by completion requests to one kind of server."""

    post: Post
    features: ServerFeatures
    compiler: Compiler
    anomalies: Counter[str] = field(default_factory=Counter)
    """Harmless deviations of the server from what was requested, by kind."""

    async def think(self, running: JobInProgress) -> None:
        """Run the job's machine to its end."""
        request, machine = running.job.request, running.machine
        rules, watched = machine.rules, needs_logprobs(request)
        may_end_early = watched or rules.loop is not None or machine.steps is not None

        def plan(action: Action) -> CompletionRequest:
            max_tokens = machine.cap - len(machine.ids)
            if may_end_early:
                max_tokens = min(max_tokens, _SHORT_ROUND)
            return CompletionRequest(
                request=request,
                ids=(*request.prompt_ids, *machine.ids),
                max_tokens=1 if action.banned else max_tokens,
                index=machine.draw_index,
                stop_ids=rules.trigger_ids,
                stop_texts=rules.long_triggers,
                banned=action.banned,
                rules=rules if watched else None,
            )

        await self._run_rounds(machine, plan, running, num_known=len(machine.ids))

    async def answer(self, branch: Branch, running: JobInProgress) -> None:
        """Generate one answer and add it to the job."""
        request, eos_ids = running.job.request, self.compiler.eos_ids
        machine = AnswerMachine(limit=request.budget.answer_tokens, eos_ids=eos_ids)
        thinking = (*request.prompt_ids, *branch.cut.ids)

        def plan(action: Action) -> CompletionRequest:
            return CompletionRequest(
                request=request,
                ids=(*thinking, *branch.closing, *machine.ids),
                max_tokens=machine.limit - len(machine.ids),
                index=("answer", len(branch.cut.ids), *branch.closing, *machine.draw_index),
                stop_ids=eos_ids,
            )

        running.spend(Cost(forced=len(branch.closing)))
        await self._run_rounds(machine, plan, running, num_known=len(thinking))
        running.add_answer(branch, machine.ids, machine.end)

    async def _run_rounds(
        self,
        machine: ForcingMachine | AnswerMachine,
        plan: Callable[[Action], CompletionRequest],
        running: JobInProgress,
        *,
        num_known: int,
    ) -> None:
        """Run rounds until the machine stops. `num_known`: tokens of the first prompt that were
        sent or drawn before."""
        num_empty = 0
        while True:
            action = machine.next_action()
            while action.kind is ActionKind.FORCE:
                running.spend(Cost(forced=1))
                action = machine.next_action()
            if action.kind is not ActionKind.DRAW:
                return
            completion = plan(action)
            reply = read_reply(await self.post(self.body(completion)))
            running.spend(_cost(reply, num_sent=len(completion.ids), num_known=num_known))
            drawn = self.drawn_tokens(completion, reply)
            num_empty = num_empty + 1 if not drawn else 0
            if num_empty == _MAX_EMPTY:
                raise self._error(
                    f"{_MAX_EMPTY} rounds returned no token and no end; expected one or the other. "
                    "Its context may be full: lower the caps, or set engine.max_context to the "
                    "server's context length."
                )
            num_before = len(machine.ids)
            _feed(machine, drawn)
            num_known = len(completion.ids) + max(0, len(machine.ids) - num_before)
            running.checkpoint_if_due()

    # -- request bodies --

    def body(self, completion: CompletionRequest) -> dict[str, Any]:
        """The JSON of one round."""
        features, sampling, ids = self.features, completion.request.sampling, list(completion.ids)
        optional = {
            "seed": int(draw_uniform(completion.request, "round", *completion.index) * 2**31),
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
            body["logit_bias"] = {str(token): _BAN for token in sorted(completion.banned)}
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

    def drawn_tokens(self, completion: CompletionRequest, reply: ServerReply) -> list[Drawn]:
        """The tokens of a reply, including the one that ended it. Raises EngineError where the
        server did not do what was requested."""
        self._check_prompt_length(completion, reply)
        ids = reply.token_ids(self.compiler.tokenizer)
        self._check_length(completion, reply, len(ids))
        tokens = ids + self._unlisted_end(completion, reply, ids)
        self._check_tokens(completion, reply, ids)
        if completion.rules is None:
            return [Drawn(token, -1, 0.0) for token in tokens]
        return self._with_logprobs(completion.rules, reply, tokens)

    def _unlisted_end(
        self, completion: CompletionRequest, reply: ServerReply, ids: Sequence[int]
    ) -> list[int]:
        """The tokens that ended the round, where they are not among the ids."""
        if not reply.stopped or (ids and ids[-1] in completion.stop_ids):
            return []
        tail = self._decode(ids[-16:]) if completion.stop_texts and ids else ""
        if any(text in tail for text in completion.stop_texts):
            return []
        if isinstance(reply.stop, str) and reply.stop:
            stop_ids = list(self.compiler.tokenizer.encode(reply.stop))
            return stop_ids if reply.stop in completion.stop_texts else stop_ids[:1]
        if isinstance(reply.stop, int):
            return [reply.stop]
        return [min(self.compiler.eos_ids or completion.stop_ids)]

    def _check_prompt_length(self, completion: CompletionRequest, reply: ServerReply) -> None:
        num_sent = len(completion.ids)
        least = num_sent if self.features.takes_ids else num_sent * 0.8 - 8
        if reply.num_prompt is not None and reply.num_prompt < least:
            raise self._error(
                f"a prompt of {num_sent} tokens was sent, and the server reports "
                f"{reply.num_prompt}: it truncated the prompt. Give the server a larger context, "
                "or set engine.max_context to its context length."
            )

    def _check_length(
        self, completion: CompletionRequest, reply: ServerReply, num_ids: int
    ) -> None:
        count = num_ids
        if reply.ids is None:  # tokenised again: the server may have drawn fewer
            count = max(int((num_ids - 8) / 1.5), reply.num_completion or 0)
        if count > completion.max_tokens + 1:  # some servers do not count the end
            raise self._error(
                f"{max(num_ids, count)} tokens returned for max_tokens {completion.max_tokens}: "
                "the server ignores the budget; expected it to stop there. Use another server, or "
                "the transformers or vllm engine."
            )

    def _check_tokens(
        self, completion: CompletionRequest, reply: ServerReply, ids: Sequence[int]
    ) -> None:
        if reply.num_completion is not None:
            tolerance = 1 if reply.ids is not None else 2 + len(ids) // 5
            if abs(reply.num_completion - len(ids)) > tolerance:
                self.anomalies["usage does not agree with the tokens"] += 1
        if any(token in completion.stop_ids for token in ids[:-1]):
            self.anomalies["went on after a stop"] += 1
        if any(token in completion.banned for token in ids):
            raise self._error(
                "a token was drawn that logit_bias excludes; expected another. Give wait strings "
                "and no minimum, or use another engine."
            )

    def _error(self, message: str) -> EngineError:
        return EngineError(f"`{self.features.model}`: {message}")

    def _with_logprobs(
        self, rules: ForcingRules, reply: ServerReply, tokens: Sequence[int]
    ) -> list[Drawn]:
        num_ids = len(reply.ids or ())
        if len(reply.logprobs) < num_ids:
            raise self._error(
                f"{len(reply.logprobs)} logprobs for {num_ids} tokens; expected one for each. "
                "Use end_rule drawn."
            )
        texts = {token: self._decode([token]) for token in rules.trigger_ids}
        logprobs = [*reply.logprobs, *({} for _ in tokens)]
        return [_drawn(*pair, rules, texts) for pair in zip(tokens, logprobs, strict=False)]


def _drawn(
    token: int, logprobs: Mapping[int | str, float], rules: ForcingRules, texts: Mapping[int, str]
) -> Drawn:
    """The token with what its end rule needs; `texts` are those of the triggers."""
    if not logprobs:  # an end that the server does not list
        return Drawn(token, token, 1.0)
    if rules.end_rule == "argmax":
        best = likeliest(logprobs, token)
        ids = {text: i for i, text in texts.items()}
        return Drawn(token, best if isinstance(best, int) else ids.get(best, -1), 0.0)
    threshold = rules.end_probability
    return Drawn(token, -1, end_probability(logprobs, texts, threshold=threshold))


def needs_logprobs(request: Request) -> bool:
    """Whether the end rule needs logprobs. Under greedy decoding the drawn token is the argmax."""
    rule = request.budget.end_rule
    return rule == "probability" or (rule == "argmax" and request.sampling.temperature > 0)


def _cost(reply: ServerReply, *, num_sent: int, num_known: int) -> Cost:
    prefilled = reply.num_prefilled(num_sent)
    return Cost(
        prefilled=prefilled,
        decoded=len(reply.ids) if reply.ids is not None else reply.num_completion or 0,
        re_prefilled=max(0, min(prefilled, num_known - reply.num_cached)),
    )


def _feed(machine: ForcingMachine | AnswerMachine, drawn: Sequence[Drawn]) -> None:
    """Feed drawn tokens to the machine until it needs anything but the next one.

    A refused token that is no trigger itself (the end was declared by its probability) is also the
    draw from the distribution without the triggers, and is fed again.
    """
    for draw in drawn:
        action = machine.observe(
            draw.token, end_probability=draw.end_probability, argmax=draw.argmax
        )
        if action.kind is ActionKind.REFUSE and draw.token not in action.banned:
            action = machine.observe(draw.token)
        if action.kind is not ActionKind.KEEP or machine.next_action().kind is not ActionKind.DRAW:
            return
