"""A hosted chat API as a plain teacher: `/v1/chat/completions`, without budget forcing.

A chat API takes messages instead of a prompt, and cannot continue a text that the model has begun.
So thinking cannot be capped below the model's own limit, and no end can be refused. The message's
reasoning is stored as the thinking, and its content as the answer. Reasoning that the API hides is
stored as hidden, with the API's counts of tokens (`Chain.reported`).

There is no tokenizer. An id encodes four bytes of text, about one token, so counts of tokens are
estimates (`count_source` is `estimated`). The cost is the API's usage.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slowthink.engines.server.base_session import ServerSession
from slowthink.engines.server.replies import BadReply, ServerReply, read_reply
from slowthink.engines.session import Capabilities, Compiler, Job, JobInProgress, Point
from slowthink.errors import ConfigError, EngineError
from slowthink.forcing.machine import ForcingMachine
from slowthink.grading.thinking import TextParts
from slowthink.recipe import EngineConfig
from slowthink.records import AnswerEnd, Chain, ChainState, Cost, Event, EventKind
from slowthink.serialise import digest

_PADDING = bytes([0xFF])
"""Pads a piece to four bytes; never part of UTF-8 text."""
_END_PIECE, _MISSING_PIECE = 0xFFFFFFFF, 0xFFFFFFFE
"""Ids without text: the end of a turn; a piece that truncated thinking lacks."""


class PieceTokenizer:
    """Encodes text in pieces of four UTF-8 bytes, and messages as JSON."""

    eos_token_id = _END_PIECE
    chat_template = "messages, and thinking as between <think> and </think>"
    """By which the format `auto` is think-tags: an API returns thinking apart."""
    name_or_path = "pieces of four bytes"

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """One integer for every four bytes."""
        data = text.encode()
        pieces = [data[start : start + 4] for start in range(0, len(data), 4)]
        return [int.from_bytes(piece.ljust(4, _PADDING), "big") for piece in pieces]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of these pieces."""
        pieces = [i.to_bytes(4, "big") for i in ids if i < _MISSING_PIECE]
        return b"".join(piece.rstrip(_PADDING) for piece in pieces).decode(errors="replace")

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, str]],
        tokenize: bool,
        add_generation_prompt: bool,
        **variables: Any,
    ) -> str:
        """The messages as JSON; with variables of the template, as fields of a request."""
        content: Any = list(messages)
        if variables:
            content = {"messages": content, "chat_template_kwargs": variables}
        return json.dumps(content, ensure_ascii=False)


class ChatSession(ServerSession):
    """A chat model behind an API."""

    def __init__(
        self, name: str, config: EngineConfig, *, notify: Callable[[str], None] = lambda _: None
    ) -> None:
        self.tokenizer = PieceTokenizer()
        self.eos_ids = frozenset({_END_PIECE})
        self.count_source = "estimated"
        self.compiler = Compiler(self.tokenizer, eos_ids=self.eos_ids)
        self._reply_model: str | None = None
        super().__init__(name, config, notify)

    def submit(self, job: Job) -> None:
        """Queue a job. Raises ConfigError if its budget would have to be forced."""
        for point in job.points:
            self._check_supported(job, point)
        self._runner.submit(job)

    def _connect(self, name: str, config: EngineConfig) -> None:
        model_name = self._endpoints.model or name
        needs_list = self._endpoints.model is None
        server = self._probe_common_features(
            lambda prober: prober.find_model(model_name, needs_list=needs_list)
        )
        self._model = server.model
        self._model_limit = config.max_context or server.max_context
        self.fingerprint = digest(["chat", server.model, server.facts])
        self.numerics = self._numerics("openai-chat", server.model, server.version)
        self.capabilities = Capabilities(
            takes_ids=False,
            returns_ids=False,
            logprobs=False,
            in_flight=False,
            rollback=False,
            reproducible=False,
            max_context=self._model_limit or 2**31,
        )
        self._notify(
            f"{self._model}: a chat API: budgets are not forced, and lengths are estimates "
            "(four bytes per token)."
        )

    def _check_supported(self, job: Job, point: Point) -> None:
        budget, sampling, limit = job.request.budget, job.request.sampling, self._model_limit
        is_capped = point.forced and (limit is None or point.cap < limit)
        unsupported = {
            "waits": point.waits > 0,
            "a minimum": budget.min_thinking_tokens > 0,
            "steps": point.steps is not None,
            f"end_rule {budget.end_rule}": budget.end_rule != "drawn",
            "a loop rule": budget.loop is not None,
            f"a cap of {point.cap}": is_capped,
            "a format without delimiters": not job.request.format.end and point.forced,
            "min_p": sampling.min_p > 0,
            "top_k": sampling.top_k > 0,
        }
        requested = [name for name, is_requested in unsupported.items() if is_requested]
        if requested:
            limit_text = f"the model's own limit ({limit})" if limit else "the model's own limit"
            raise ConfigError(
                f"engine.endpoints.api `chat`, model `{self._model}`: cannot force here: "
                f"{requested[0]} was requested, and a chat API cannot continue a given text. Use "
                f"no waits, and free: true or a cap of at least {limit_text} (set by "
                "engine.max_context); or use api: completions."
            )

    async def _generate(self, state: JobInProgress) -> None:
        body = self._request_body(state.job)
        reply = await self._pool.ask("/chat/completions", body, self._read)
        format = state.job.request.format
        self._store(state, reply, reply.message_parts(own=(format.start, format.end)))

    def _read(self, data: Mapping[str, Any]) -> ServerReply:
        """Read a reply. Raises BadReply if it names another model than the first reply did; that
        one may name the model by another name than we do."""
        reply = read_reply(data, chat=True)
        reply.message_parts()
        if self._reply_model is None and reply.model not in (None, self._model):
            self._pool.failure_counts["the reply names the model otherwise"] += 1
        self._reply_model = self._reply_model or reply.model
        if reply.model not in (None, self._reply_model):
            raise BadReply(
                f"the reply names the model {str(reply.model)[:80]!r}; expected "
                f"{self._reply_model!r}"
            )
        return reply

    def _request_body(self, job: Job) -> dict[str, Any]:
        text = self.tokenizer.decode(job.request.prompt_ids)
        messages, _ = json.JSONDecoder().raw_decode(text)  # the format's start text follows
        fields = messages if isinstance(messages, dict) else {"messages": messages}
        body: dict[str, Any] = {"model": self._model, **fields}
        sampling, cap = job.request.sampling, job.largest_point.cap
        body |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
        if self._model_limit is None or cap < self._model_limit:
            body["max_tokens"] = cap + job.request.budget.answer_tokens
        return body

    def _store(self, state: JobInProgress, reply: ServerReply, parts: TextParts) -> None:
        """Add the reply's thinking and answer to the job."""
        has_thinking = state.token_format.has_delimiter
        complete = self._is_complete(reply, self._request_body(state.job).get("max_tokens"))
        answer = parts.response.strip() if has_thinking else reply.text
        thinking = (parts.thinking or "").strip() if has_thinking else reply.text
        thinking_ended = complete or (has_thinking and bool(answer))
        chain = self._chain(state.job, thinking, ended=thinking_ended)
        state.machine = ForcingMachine(state.rules, cap=0, waits=0, chain=chain)
        cost = Cost(
            prefilled=reply.num_prompt_tokens or 0, decoded=reply.num_completion_tokens or 0
        )
        state.add_cost(cost)
        state.reported = reply.reported(parts)
        if thinking_ended:
            ids = self.tokenizer.encode(answer)
            for branch in state.end_thinking():
                end = AnswerEnd.STOP if complete else AnswerEnd.LENGTH
                state.add_answer(branch, ids, end)

    @staticmethod
    def _is_complete(reply: ServerReply, max_tokens: int | None) -> bool:
        """Whether the model ended the reply. Without a known reason it did, unless the reply has as
        many tokens as were requested."""
        if reply.finish is not None:
            return reply.stopped
        if max_tokens is None or reply.num_sampled is None:
            return True
        return reply.num_sampled < max_tokens

    def _chain(self, job: Job, thinking: str, *, ended: bool) -> Chain:
        """The thinking, padded to the cap if it was truncated. Longer than the cap, it stays whole
        for a larger one."""
        ids, cap = tuple(self.tokenizer.encode(thinking)), job.largest_point.cap
        is_forced = any(point.forced for point in job.points)
        if not ended and is_forced:
            raise EngineError(
                f"`{self._model}`: truncated at the model's own limit before it answered; expected "
                "an answer. Use free: true: such a reply then counts as TRUNCATED."
            )
        if ended and is_forced and len(ids) >= cap:
            raise EngineError(
                f"`{self._model}`: about {len(ids)} tokens of thinking, and the cap is {cap}; "
                "expected fewer. Set a larger cap."
            )
        if not ended:
            return Chain(key=job.key, ids=ids[:cap] + (_MISSING_PIECE,) * (cap - len(ids)))
        end = Event(position=len(ids), kind=EventKind.END, drawn=(_END_PIECE,))
        return Chain(key=job.key, ids=ids, events=(end,), state=ChainState.ENDED)
