"""Budget forcing in rounds: any server that completes a prompt, one request at a time.

A round asks for what is left of the budget and stops at the triggers; what came is told to the
machine of `thinking.forcing` token by token. Where the machine stops, refuses or replaces, the rest
of the round is dropped, what is forced is put on, and the next round begins:

    round 1   prompt                      → "17 + 25 = 32" <|im_start|>      refused
    round 2   prompt, 17 + 25 = 32, Wait  → ", no: 42" <|im_start|>          accepted

Each request has rounds of its own, and waits for no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slowthink.engines.drawing import Drawn
from slowthink.engines.server.probe import Dialect, neutral
from slowthink.engines.server.replies import ServerReply, end_probability, likeliest, read_reply
from slowthink.engines.session import Branch, JobInProgress, draw_uniform
from slowthink.errors import EngineError
from slowthink.forcing.machine import (
    Action,
    ActionKind,
    AnswerMachine,
    ForcingMachine,
    ForcingRules,
)
from slowthink.records import Cost, Request, Sampling

Post = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Body of a completion → its reply."""


_WATCHED_ROUND = 128
"""Tokens of a round that the machine may end where the server would not: the rest is wasted."""
_MAX_EMPTY = 3
"""Rounds in a row that bring nothing."""
_BAN = -100
"""The least bias of OpenAI's interface: e^-100 of the token's probability is left."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One request to the server."""

    request: Request
    ids: tuple[int, ...]
    """All tokens so far."""
    max_tokens: int
    index: tuple[object, ...]
    """Names its draws."""
    stop_ids: frozenset[int]
    stop_texts: tuple[str, ...] = ()
    banned: frozenset[int] = frozenset()
    rules: ForcingRules | None = None
    """Of thinking whose end rule wants probabilities."""


@dataclass
class Rounds:
    """Thinks and answers over one server's dialect."""

    post: Post
    dialect: Dialect
    tokenizer: Any
    eos_ids: frozenset[int]
    anomalies: Counter[str] = field(default_factory=Counter)
    """What the server did that it was not asked to, and that did no harm."""

    async def think(
        self, request: Request, machine: ForcingMachine, running: JobInProgress
    ) -> None:
        """Run the machine to its end."""
        rules = machine.rules
        watched = is_watched(request)
        early = watched or rules.loop is not None or machine.steps is not None

        def plan(action: Action) -> Round:
            left = machine.cap - len(machine.ids)
            return Round(
                request=request,
                ids=(*request.prompt_ids, *machine.ids),
                max_tokens=1 if action.banned else min(left, _WATCHED_ROUND) if early else left,
                index=machine.draw_index,
                stop_ids=rules.trigger_ids,
                stop_texts=rules.long_triggers,
                banned=action.banned,
                rules=rules if watched else None,
            )

        await self._run(machine, plan, running, known=len(machine.ids))

    async def answer(self, branch: Branch, running: JobInProgress) -> None:
        """Add the answer after one closing to the job."""
        request = running.job.request
        machine = AnswerMachine(limit=request.budget.answer_tokens, eos_ids=self.eos_ids)
        start = (*request.prompt_ids, *branch.cut.ids, *branch.closing)

        def plan(action: Action) -> Round:
            return Round(
                request=request,
                ids=(*start, *machine.ids),
                max_tokens=machine.limit - len(machine.ids),
                index=("answer", len(branch.cut.ids), *branch.closing, *machine.draw_index),
                stop_ids=self.eos_ids,
            )

        running.spend(Cost(forced=len(branch.closing)))
        await self._run(machine, plan, running, known=len(start) - len(branch.closing))
        running.add_answer(branch, machine.ids, machine.end)

    async def _run(
        self,
        machine: ForcingMachine | AnswerMachine,
        plan: Callable[[Action], Round],
        running: JobInProgress,
        *,
        known: int,
    ) -> None:
        """Rounds until the machine stops. `known`: tokens of the first prompt that have been sent
        or drawn before."""
        empty = 0
        while True:
            action, forced = settle(machine)
            running.spend(Cost(forced=forced))
            if action.kind is not ActionKind.DRAW:
                return
            round = plan(action)
            reply = read_reply(await self.post(self.body(round)))
            running.spend(_cost(round, reply, known=known))
            drawn = self.read(round, reply)
            empty = empty + 1 if not drawn else 0
            if empty == _MAX_EMPTY:
                raise EngineError(
                    f"`{self.dialect.model}`: {_MAX_EMPTY} rounds brought no token and no end; "
                    "expected one of both. Its context may be full: lower the caps, or set "
                    "engine.max_context to what the server holds."
                )
            before = len(machine.ids)
            absorb(machine, drawn)
            known = len(round.ids) + max(0, len(machine.ids) - before)
            running.checkpoint_if_due()

    # -- what is sent --

    def body(self, round: Round) -> dict[str, Any]:
        """The JSON of one round."""
        dialect, sampling = self.dialect, round.request.sampling
        ids = list(round.ids)
        body = neutral(dialect) | {
            "prompt": ids if dialect.takes_ids else self.tokenizer.decode(ids),
            "max_tokens": round.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            **self._stops(round),
            **self._optional(sampling, round),
        }
        if round.banned:
            body["logit_bias"] = {str(token): _BAN for token in sorted(round.banned)}
        if round.rules is not None:
            body |= self._watching(round.rules)
        elif dialect.ids_need_logprobs:
            body["logprobs"] = 1
        return body

    def _stops(self, round: Round) -> dict[str, Any]:
        stops: dict[str, Any] = {}
        texts = list(round.stop_texts)
        if self.dialect.stops_at_ids:
            stops["stop_token_ids"] = sorted(round.stop_ids)
        elif not self.dialect.returns_ids:
            texts += [self.tokenizer.decode([token]) for token in sorted(round.stop_ids)]
        if texts:
            stops["stop"] = texts[:4]  # OpenAI's own interface takes no more
        return stops

    def _optional(self, sampling: Sampling, round: Round) -> dict[str, Any]:
        values = {
            "seed": int(draw_uniform(round.request, "round", *round.index) * 2**31),
            "top_k": sampling.top_k or -1,
            "min_p": sampling.min_p,
        }
        return {name: value for name, value in values.items() if name in self.dialect.settings}

    def _watching(self, rules: ForcingRules) -> dict[str, Any]:
        if rules.end_rule == "probability" and self.dialect.logprobs_of_ids:
            return {"logprobs": 1, "logprob_token_ids": sorted(rules.trigger_ids)}
        return {"logprobs": self.dialect.logprobs}

    # -- what came --

    def read(self, round: Round, reply: ServerReply) -> list[Drawn]:
        """The tokens of a reply, the one that ended it included. Raises EngineError where the
        server did not keep to what it was asked."""
        self._check_prompt(round, reply)
        ids = self._ids(reply)
        self._check_length(round, reply, ids)
        tokens = ids + self._end(round, reply, ids)
        self._check_counts(round, reply, ids)
        if round.rules is None:
            return [Drawn(token, -1, 0.0) for token in tokens]
        return self._watched(round, reply, tokens)

    def _ids(self, reply: ServerReply) -> list[int]:
        if reply.ids is not None:
            return list(reply.ids)
        return list(self.tokenizer.encode(reply.text, add_special_tokens=False))

    def _end(self, round: Round, reply: ServerReply, ids: Sequence[int]) -> list[int]:
        """What ended the round, where it is not among the ids."""
        if not reply.stopped or (ids and ids[-1] in round.stop_ids):
            return []
        tail = self.tokenizer.decode(ids[-16:]) if round.stop_texts and ids else ""
        if any(text in tail for text in round.stop_texts):
            return []
        if isinstance(reply.stop, str) and reply.stop in round.stop_texts:
            return list(self.tokenizer.encode(reply.stop))
        if isinstance(reply.stop, str) and reply.stop:
            return list(self.tokenizer.encode(reply.stop))[:1]
        if isinstance(reply.stop, int):
            return [reply.stop]
        return [min(self.eos_ids or round.stop_ids)]

    def _check_prompt(self, round: Round, reply: ServerReply) -> None:
        sent, told = len(round.ids), reply.num_prompt
        if told is None:
            return
        least = sent if self.dialect.takes_ids else sent * 0.8 - 8
        if told < least:
            raise EngineError(
                f"`{self.dialect.model}`: a prompt of {sent} tokens was sent, and the server says "
                f"it read {told}: it cut the rest off. Give the server a larger context, or set "
                "engine.max_context to what it holds."
            )

    def _check_length(self, round: Round, reply: ServerReply, ids: Sequence[int]) -> None:
        most = round.max_tokens + 1  # some do not count the end
        count = len(ids)
        if reply.ids is None:
            count = max(int((len(ids) - 8) / 1.5), reply.num_completion or 0)
        if count > most:
            raise EngineError(
                f"`{self.dialect.model}`: {max(len(ids), count)} tokens came for max_tokens "
                f"{round.max_tokens}: the server ignores the budget; expected it to stop there. "
                "Use another server, or the transformers or vllm engine."
            )

    def _check_counts(self, round: Round, reply: ServerReply, ids: Sequence[int]) -> None:
        told, count = reply.num_completion, len(ids)
        if told is not None:
            slack = 1 if reply.ids is not None else 2 + count // 5
            if abs(told - count) > slack:
                self.anomalies["usage does not agree with the tokens"] += 1
        if any(token in round.stop_ids for token in ids[:-1]):
            self.anomalies["went on after a stop"] += 1
        if round.banned and any(token in round.banned for token in ids):
            raise EngineError(
                f"`{self.dialect.model}`: a token was drawn that logit_bias keeps out; expected "
                "another. Give wait strings and no minimum, or use another engine."
            )

    def _watched(self, round: Round, reply: ServerReply, tokens: Sequence[int]) -> list[Drawn]:
        """With what the end rule wants to know of each draw."""
        rules = round.rules
        assert rules is not None
        if len(reply.logprobs) < len(reply.ids or ()):
            raise EngineError(
                f"`{self.dialect.model}`: {len(reply.logprobs)} logprobs came with "
                f"{len(reply.ids or ())} tokens; expected one for each. Use end_rule drawn."
            )
        texts = {i: self.tokenizer.decode([i]) for i in rules.trigger_ids}
        told = [*reply.logprobs, *({} for _ in tokens)]
        return [_seen(token, one, rules, texts) for token, one in zip(tokens, told, strict=False)]


def _seen(
    token: int, logprobs: Mapping[int | str, float], rules: ForcingRules, texts: Mapping[int, str]
) -> Drawn:
    if not logprobs:  # an end that the server does not list
        return Drawn(token, token, 1.0)
    if rules.end_rule == "argmax":
        best = likeliest(logprobs, [token])
        ids = {text: i for i, text in texts.items()}
        return Drawn(token, best if isinstance(best, int) else ids.get(best, -1), 0.0)
    threshold = rules.end_probability
    return Drawn(token, -1, end_probability(logprobs, texts, threshold=threshold))


def is_watched(request: Request) -> bool:
    """Whether the end rule needs probabilities; the likeliest token is what greedy draws."""
    rule = request.budget.end_rule
    return rule == "probability" or (rule == "argmax" and request.sampling.temperature > 0)


def _cost(round: Round, reply: ServerReply, *, known: int) -> Cost:
    sent = reply.num_prompt if reply.num_prompt is not None else len(round.ids)
    prefilled = max(0, sent - reply.num_cached)
    decoded = len(reply.ids) if reply.ids is not None else reply.num_completion or 0
    again = max(0, min(prefilled, known - reply.num_cached))
    return Cost(prefilled=prefilled, decoded=decoded, re_prefilled=again)


# --- the machine ----------------------------------------------------------------------------------


def settle(machine: ForcingMachine | AnswerMachine) -> tuple[Action, int]:
    """Take what is forced, up to the next draw or the end; and how many tokens that were."""
    forced = 0
    while (action := machine.next_action()).kind is ActionKind.FORCE:
        forced += 1
    return action, forced


def absorb(machine: ForcingMachine | AnswerMachine, drawn: Sequence[Drawn]) -> int:
    """Tell the machine a round's tokens until it wants something else; how many it was told.

    A refused token that is no trigger itself (the end was declared by its probability) is what the
    rest of the distribution gives as well, and is told again.
    """
    for number, one in enumerate(drawn, 1):
        told = machine.observe(one.token, end_probability=one.end_probability, argmax=one.argmax)
        if told.kind is ActionKind.REFUSE and one.token not in told.banned:
            told = machine.observe(one.token)
        if told.kind is not ActionKind.KEEP or machine.next_action().kind is not ActionKind.DRAW:
            return number
    return len(drawn)
