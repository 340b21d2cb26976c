"""Replies of `/v1/completions` and `/v1/chat/completions`, in every form that servers use.

vLLM returns the sampled ids (`return_token_ids`), llama.cpp writes them into `logprobs.content`,
others return only text, which is tokenised again:

    ServerReply(ids=(1, 2), text=" 42", finish=Finish.STOP, stop_reason=2, …)

A server may send anything. `read_reply` reads one validated form; what does not fit it is a
`BadReply`: the request is sent again, and if that does not help, it fails alone.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from slowthink.data.finish import Finish, read_finish
from slowthink.data.messages import hidden_thinking, message_text, read_message
from slowthink.data.rows import UnusableValue, as_evidence, json_evidence
from slowthink.engines.server.bodies import MAX_ERROR_BYTES
from slowthink.engines.server.statuses import names_no_credit
from slowthink.errors import EngineError
from slowthink.grading.thinking import TextParts
from slowthink.records import Reported

_ID_PREFIX = "token_id:"
"""How vLLM writes an id as a token (`return_tokens_as_token_ids`)."""
MAX_ID = 2**24
"""No vocabulary is larger."""
_MAX_COUNT = 2**31
_MARK_TOKENS = 8
"""Delimiters and white space, which an API may count as thinking."""
_MAX_LOGPROB = 0.01
"""A logarithm of a probability is at most 0; some servers round up."""
Logprobs = Mapping[int | str, float]
"""Natural logarithms of the likeliest tokens' probabilities, by id, or by text without ids."""


class BadReply(EngineError):
    """A reply that is no completion, or contradicts the request; another attempt may succeed."""


# --- the validated form ---------------------------------------------------------------------------


def _id_of_text(value: object) -> object:
    """vLLM's `token_id:17` and llama.cpp's 17 are ids; anything else is judged as it is."""
    if isinstance(value, str) and value.startswith(_ID_PREFIX):
        digits = value.removeprefix(_ID_PREFIX)
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 12 else value
    return value


class _Form(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


_Id = Annotated[int, Field(strict=True, ge=0, le=MAX_ID)]
_Count = Annotated[int, Field(ge=0, le=_MAX_COUNT)]
_Text = Annotated[str, Field(max_length=2**31)]
"""With a limit, pydantic also refuses lone surrogates, which no tokenizer takes."""
_Logprob = Annotated[float, Field(le=_MAX_LOGPROB)]
_Token = Annotated[_Id | _Text, BeforeValidator(_id_of_text)]


class _TopLogprob(_Form):
    id: _Id | None = None
    token: _Text | None = None
    logprob: _Logprob

    @property
    def name(self) -> int | str:
        return self.id if self.id is not None else (self.token or "")


class _TokenLogprob(_TopLogprob):
    top_logprobs: tuple[_TopLogprob, ...] | None = None


class _Logprobs(_Form):
    content: tuple[_TokenLogprob, ...] | None = None
    tokens: tuple[_Token, ...] | None = None
    top_logprobs: tuple[dict[_Token, _Logprob] | None, ...] | None = None


class _PromptDetails(_Form):
    cached_tokens: _Count | None = None


class _CompletionDetails(_Form):
    reasoning_tokens: _Count | None = None


class _Usage(_Form):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    total_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None

    @property
    def num_thinking_tokens(self) -> int | None:
        """Also of APIs that name it without details."""
        details = self.completion_tokens_details or _CompletionDetails()
        if details.reasoning_tokens is None:
            return self.reasoning_tokens
        return details.reasoning_tokens

    @property
    def num_completion_tokens(self) -> int | None:
        """Thinking included: in some APIs it is only part of the total."""
        if None in (self.prompt_tokens, self.completion_tokens, self.total_tokens):
            return self.completion_tokens
        return max(
            self.completion_tokens or 0, (self.total_tokens or 0) - (self.prompt_tokens or 0)
        )


class _Choice(_Form):
    text: _Text | None = None
    message: dict[str, Any] | None = None
    token_ids: tuple[_Id, ...] | None = None
    prompt_token_ids: tuple[_Id, ...] | None = None
    finish_reason: Any = None
    stop_reason: _Id | _Text | None = None
    matched_stop: _Id | _Text | None = None
    logprobs: _Logprobs | None = None
    error: Any = None


class _Body(_Form):
    model: _Text | None = None
    choices: tuple[_Choice, ...] = Field(min_length=1)
    usage: _Usage | None = None


# --- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ServerReply:
    """A completion, or a chat message."""

    ids: tuple[int, ...] | None
    """Sampled ids as the server returns them; None: it returns only text."""
    text: str
    message: Mapping[str, Any] | None = None
    """The chat message, whose thinking and response `message_parts` reads."""
    finish: Finish | None = None
    """None: the reason is absent or unknown."""
    stop_reason: int | str | None = None
    """The id or text at which the server reports to have stopped."""
    model: str | None = None
    """The model that the reply names."""
    prompt_ids: tuple[int, ...] | None = None
    """The prompt's ids, if the reply contains them."""
    num_prompt_tokens: int | None = None
    num_cached_tokens: int = 0
    """Prompt tokens that were not prefilled."""
    num_completion_tokens: int | None = None
    num_thinking_tokens: int | None = None
    logprobs: tuple[Logprobs, ...] = ()
    """One entry for each token."""

    @property
    def stopped(self) -> bool:
        """Whether it is known to have ended at an end-of-sequence token or a stop."""
        return self.finish is Finish.STOP

    @property
    def num_sampled(self) -> int | None:
        """Number of tokens sampled; None: unknown."""
        return len(self.ids) if self.ids is not None else self.num_completion_tokens

    def token_ids(self, tokenizer: Any) -> list[int]:
        """The server's ids, or else those of the text."""
        if self.ids is not None:
            return list(self.ids)
        return list(tokenizer.encode(self.text, add_special_tokens=False))

    def num_prefilled(self, num_sent: int) -> int:
        """Prompt tokens computed; `num_sent` is used if the reply has no count of prompt tokens."""
        num_prompt = num_sent if self.num_prompt_tokens is None else self.num_prompt_tokens
        return max(0, num_prompt - self.num_cached_tokens)

    def message_parts(self, *, own: tuple[str, str] | None = None) -> TextParts:
        """The thinking and the response of a chat message. Raises BadReply if it has a part that is
        neither. `own`: delimiters of the requested format."""
        try:
            return read_message(self.message or {}, own=own)
        except UnusableValue as error:
            raise BadReply(f"/chat/completions: {error}; expected a text") from None

    def reported(self, parts: TextParts) -> Reported:
        """What the API states about this reply, `parts` being its `message_parts`.

        Thinking is hidden if the message says so, or if it has fewer bytes than the API counts
        tokens, of which none is shorter than a byte.
        """
        num_tokens = self.num_thinking_tokens or 0
        hidden = hidden_thinking(self.message or {})
        if hidden is None and len((parts.thinking or "").encode()) + _MARK_TOKENS < num_tokens:
            hidden = "summary" if parts.thinking else "counted only"
        return Reported(
            num_prompt_tokens=self.num_prompt_tokens,
            num_completion_tokens=self.num_completion_tokens,
            num_thinking_tokens=self.num_thinking_tokens,
            hidden=hidden,
        )


@dataclass(frozen=True)
class ReplyReader:
    """Reads completions, each checked against what its server replied at the start."""

    model: str | None
    """The model that the server's replies name; None: none."""
    vocabulary_size: int
    """Ids are below it."""

    def read(
        self, data: Mapping[str, Any], *, sent_ids: Sequence[int] | None = None
    ) -> ServerReply:
        """Read the JSON of a completion. Raises BadReply if it is none, or of another request.

        `sent_ids`: the prompt, if it was sent as ids."""
        reply = read_reply(data)
        if None not in (reply.model, self.model) and reply.model != self.model:
            raise BadReply(
                f"the reply names the model {str(reply.model)[:80]!r}; expected {self.model!r}"
            )
        if sent_ids is not None and reply.prompt_ids is not None:
            _check_prompt(tuple(sent_ids), reply.prompt_ids)
        unknown = [token for token in reply.ids or () if token >= self.vocabulary_size]
        if unknown:
            raise BadReply(
                f"the reply has the id {unknown[0]}; expected ids below {self.vocabulary_size}"
            )
        return reply


def _check_prompt(sent: tuple[int, ...], echoed: tuple[int, ...]) -> None:
    if len(echoed) < len(sent):
        raise truncated_prompt(len(sent), len(echoed))
    if echoed != sent:
        raise BadReply("the reply has the ids of another prompt; expected those sent")


def truncated_prompt(num_sent: int, num_reported: int) -> EngineError:
    """The error of a prompt that reached the model in part."""
    return EngineError(
        f"a prompt of {num_sent} tokens was sent, and the server reports {num_reported}: it "
        "truncated the prompt. Give the server a larger context, or set engine.max_context to its "
        "context length."
    )


def vocabulary_size(tokenizer: Any) -> int:
    """Upper bound of a tokenizer's ids; a server's own tokenizer does not state it."""
    if hasattr(tokenizer, "get_vocab"):
        return max(tokenizer.get_vocab().values(), default=0) + 1
    return len(tokenizer) if hasattr(tokenizer, "__len__") else MAX_ID


def read_reply(data: Mapping[str, Any], *, chat: bool = False) -> ServerReply:
    """Read the JSON of a completion. Raises BadReply if it is something else, or an error."""
    path = "/chat/completions" if chat else "/completions"
    try:
        body = _Body.model_validate(data)
    except (ValidationError, RecursionError) as error:
        raise BadReply(
            f"{path}: {json_evidence(data)} ({_first_problem(error)}); expected an object with "
            "`choices`. Is this an OpenAI-compatible server?"
        ) from None
    choice, usage = body.choices[0], body.usage or _Usage()
    finish = read_finish(choice.finish_reason)
    if choice.error or finish is Finish.ERROR:
        evidence = json_evidence(choice.error or choice.finish_reason)
        raise BadReply(f"{path}: the server ended the reply with {evidence}; expected an end")
    if chat and choice.message is None:
        raise BadReply(f"{path}: {json_evidence(data)}; expected a choice with a `message`")
    if not chat and choice.text is None and choice.token_ids is None:
        raise BadReply(f"{path}: {json_evidence(data)}; expected a choice with a `text`")
    details = usage.prompt_tokens_details or _PromptDetails()
    return ServerReply(
        ids=None if chat else _sampled_ids(choice),
        text=_message_text(choice.message or {}) if chat else (choice.text or ""),
        message=choice.message,
        finish=finish,
        stop_reason=choice.matched_stop if choice.stop_reason is None else choice.stop_reason,
        model=body.model,
        prompt_ids=choice.prompt_token_ids,
        num_prompt_tokens=usage.prompt_tokens,
        num_cached_tokens=details.cached_tokens or 0,
        num_completion_tokens=usage.num_completion_tokens if chat else usage.completion_tokens,
        num_thinking_tokens=usage.num_thinking_tokens,
        logprobs=_logprobs_per_token(choice.logprobs or _Logprobs()),
    )


@dataclass(frozen=True)
class BodyError:
    """An error in a body that came with status 200."""

    status: int | None
    """The status that the error names or implies; None: none."""
    text: str
    """The error as JSON, cut at `MAX_ERROR_BYTES` characters."""


def body_error(data: Mapping[str, Any]) -> BodyError | None:
    """The error in a body; None if it is none."""
    error = data.get("error")
    if not error or data.get("choices"):
        return None
    names = ("code", "status", "status_code", "http_code")
    codes = [error.get(name) for name in names] if isinstance(error, Mapping) else []
    statuses = [int(code) for code in map(str, codes) if re.fullmatch("[45][0-9][0-9]", code)]
    text = _error_text(error)
    implied = 429 if names_no_credit(text) else None  # OpenAI's status of `insufficient_quota`
    return BodyError(statuses[0] if statuses else implied, text)


def _error_text(error: Any) -> str:
    try:
        return json.dumps(error, ensure_ascii=False)[:MAX_ERROR_BYTES]
    except RecursionError:
        return json_evidence(error)


def _first_problem(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep"
    details = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in details["loc"])
    return as_evidence(f"{where}: {details['msg']}")


def _message_text(message: Mapping[str, Any]) -> str:
    """The text of a chat message, with any delimiters in it."""
    try:
        return message_text(message)[0]
    except UnusableValue as error:
        raise BadReply(f"/chat/completions: {error}; expected a text") from None


def _sampled_ids(choice: _Choice) -> tuple[int, ...] | None:
    if choice.token_ids is not None:
        return choice.token_ids
    logprobs = choice.logprobs or _Logprobs()
    content = [token.id for token in logprobs.content or ()]
    ids = tuple(id for id in content if id is not None)
    if ids and len(ids) == len(content):
        return ids
    tokens = tuple(token for token in logprobs.tokens or () if isinstance(token, int))
    return tokens if tokens and len(tokens) == len(logprobs.tokens or ()) else None


def _logprobs_per_token(logprobs: _Logprobs) -> tuple[Logprobs, ...]:
    if logprobs.content:
        return tuple(
            {entry.name: entry.logprob for entry in (token, *(token.top_logprobs or ()))}
            for token in logprobs.content
        )
    return tuple(dict(values or {}) for values in logprobs.top_logprobs or ())


def end_probability(logprobs: Logprobs, triggers: Mapping[int, str], *, threshold: float) -> float:
    """P(any trigger) for one token; `triggers` maps their ids to texts. Raises EngineError if the
    logprobs do not show whether it reaches the threshold."""
    lower, upper = end_probability_bounds(logprobs, triggers)
    if lower < threshold <= upper:
        raise EngineError(
            f"end_rule probability: the server lists too few logprobs to tell whether P(end) is "
            f"{threshold:g}: between {lower:.3g} and {upper:.3g}. Use the transformers or vllm "
            "engine, or a higher end_probability."
        )
    return lower


def end_probability_bounds(logprobs: Logprobs, triggers: Mapping[int, str]) -> tuple[float, float]:
    """Lower and upper bound of P(any trigger): a token without a logprob is less likely than any
    with one."""
    values = [logprobs.get(i, logprobs.get(text)) for i, text in triggers.items()]
    listed = sum(math.exp(value) for value in values if value is not None)
    num_unlisted = sum(value is None for value in values)
    min_listed = math.exp(min(logprobs.values(), default=0.0))
    unlisted = max(0.0, 1 - sum(math.exp(value) for value in logprobs.values()))
    return listed, listed + min(num_unlisted * min_listed, unlisted)


def top_token(logprobs: Logprobs, default: int | str) -> int | str:
    """The token with the highest logprob; `default` if there are none."""
    return max(logprobs, key=lambda token: logprobs[token], default=default)
