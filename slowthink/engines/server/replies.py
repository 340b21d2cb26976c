"""Replies of `/v1/completions` and `/v1/chat/completions`, in every form that servers use.

vLLM returns the sampled ids (`return_token_ids`), llama.cpp writes them into `logprobs.content`,
others return only text, which is tokenised again:

    ServerReply(ids=(1, 2), text=" 42", finish_reason="stop", stop_reason=2, …)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slowthink.errors import EngineError

_ID_PREFIX = "token_id:"
"""How vLLM writes an id as a token (`return_tokens_as_token_ids`)."""
_STOP_REASONS = frozenset({"stop", "eos", "eos_token", "stop_sequence"})
_REASONING_FIELDS = ("reasoning_content", "reasoning")
"""Names of a chat model's thinking, by server: vLLM, SGLang, DeepSeek; OpenRouter, Ollama."""
Logprobs = Mapping[int | str, float]
"""Natural logarithms of the likeliest tokens' probabilities, by id, or by text without ids."""


@dataclass(frozen=True, kw_only=True)
class ServerReply:
    """A completion, or a chat message."""

    ids: tuple[int, ...] | None
    """Sampled ids as the server returns them; None: it returns only text."""
    text: str
    reasoning: str = ""
    """The thinking of a chat message."""
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    """The id or text at which the server reports to have stopped."""
    num_prompt_tokens: int | None = None
    num_cached_tokens: int = 0
    """Prompt tokens that were not prefilled."""
    num_completion_tokens: int | None = None
    logprobs: tuple[Logprobs, ...] = ()
    """One entry for each token."""

    @property
    def stopped(self) -> bool:
        """Whether it ended at an end-of-sequence token or a stop, not at max_tokens."""
        return self.finish_reason in _STOP_REASONS

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


def read_reply(data: Mapping[str, Any], *, chat: bool = False) -> ServerReply:
    """Read the JSON of a completion. Raises EngineError if it is something else."""
    try:
        choice = data["choices"][0]
        message = choice["message"] if chat else choice
        usage = data.get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        logprobs = choice.get("logprobs") or {}
        return ServerReply(
            ids=_sampled_ids(choice, logprobs),
            text=str(message.get("content" if chat else "text") or ""),
            reasoning=next((str(message[k]) for k in _REASONING_FIELDS if message.get(k)), ""),
            finish_reason=choice.get("finish_reason"),
            stop_reason=choice.get("stop_reason", choice.get("matched_stop")),
            num_prompt_tokens=usage.get("prompt_tokens"),
            num_cached_tokens=details.get("cached_tokens") or 0,
            num_completion_tokens=usage.get("completion_tokens"),
            logprobs=_logprobs_per_token(logprobs),
        )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        path = "/chat/completions" if chat else "/completions"
        raise EngineError(
            f"{path}: {str(data)[:200]!r} ({type(error).__name__}); expected an object with "
            "`choices`. Is this an OpenAI-compatible server?"
        ) from None


def echoed_prompt_ids(data: Mapping[str, Any]) -> list[int] | None:
    """The prompt's ids, if the reply contains them."""
    choices = data.get("choices") or [{}]
    ids: list[int] | None = choices[0].get("prompt_token_ids")
    return ids


def _sampled_ids(choice: Mapping[str, Any], logprobs: Mapping[str, Any]) -> tuple[int, ...] | None:
    ids = choice.get("token_ids")
    if ids is not None:
        return tuple(ids)
    content = logprobs.get("content")
    if content and all("id" in token for token in content):
        return tuple(int(token["id"]) for token in content)
    tokens = logprobs.get("tokens")
    if tokens and all(str(token).startswith(_ID_PREFIX) for token in tokens):
        return tuple(int(token.removeprefix(_ID_PREFIX)) for token in tokens)
    return None


def _logprobs_per_token(logprobs: Mapping[str, Any]) -> tuple[Logprobs, ...]:
    if logprobs.get("content"):
        return tuple(
            {
                entry.get("id", entry.get("token")): float(entry["logprob"])
                for entry in (token, *(token.get("top_logprobs") or ()))
            }
            for token in logprobs["content"]
        )
    return tuple(
        {_id_or_text(token): float(value) for token, value in (values or {}).items()}
        for values in logprobs.get("top_logprobs") or ()
    )


def _id_or_text(token: str) -> int | str:
    return int(token.removeprefix(_ID_PREFIX)) if token.startswith(_ID_PREFIX) else token


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
