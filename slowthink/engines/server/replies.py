"""Replies of `/v1/completions` and `/v1/chat/completions`, in every form that servers use.

vLLM returns the drawn ids (`return_token_ids`), llama.cpp writes them into `logprobs.content`,
others return only text, which is tokenised again:

    ServerReply(ids=(1, 2), text=" 42", finish_reason="stop", stop=2, num_completion=2, …)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slowthink.errors import EngineError

_ID = "token_id:"
"""How vLLM writes an id as a token (`return_tokens_as_token_ids`)."""
_STOPPED = frozenset({"stop", "eos", "eos_token", "stop_sequence"})
_REASONING = ("reasoning_content", "reasoning")
"""Names of a chat model's thinking: vLLM, SGLang, DeepSeek; OpenRouter, Ollama."""


@dataclass(frozen=True, kw_only=True)
class ServerReply:
    """A completion, or a chat message."""

    ids: tuple[int, ...] | None
    """Drawn ids as the server returns them; None: it returns only text."""
    text: str
    reasoning: str = ""
    """The thinking of a chat message."""
    finish_reason: str | None = None
    stop: int | str | None = None
    """The id or text at which the server reports to have stopped."""
    num_prompt: int | None = None
    num_cached: int = 0
    """Prompt tokens that were not prefilled."""
    num_completion: int | None = None
    logprobs: tuple[Mapping[int | str, float], ...] = ()
    """Per token: natural logarithms of probabilities, by id, or by text if there are no ids."""

    @property
    def stopped(self) -> bool:
        """Whether the end was drawn or a stop reached, not max_tokens."""
        return self.finish_reason in _STOPPED

    def token_ids(self, tokenizer: Any) -> list[int]:
        """The server's ids, or else those of the text."""
        if self.ids is not None:
            return list(self.ids)
        return list(tokenizer.encode(self.text, add_special_tokens=False))

    def num_prefilled(self, num_sent: int) -> int:
        """Prompt tokens computed, where `num_sent` is the prompt's length by our own count."""
        num_prompt = num_sent if self.num_prompt is None else self.num_prompt
        return max(0, num_prompt - self.num_cached)


def read_reply(data: Mapping[str, Any], *, chat: bool = False) -> ServerReply:
    """Read the JSON of a completion. Raises EngineError where it is something else."""
    try:
        choice = data["choices"][0]
        message = choice["message"] if chat else choice
        usage = data.get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        logprobs = choice.get("logprobs") or {}
        return ServerReply(
            ids=_ids(choice, logprobs),
            text=str(message.get("content" if chat else "text") or ""),
            reasoning=next((str(message[name]) for name in _REASONING if message.get(name)), ""),
            finish_reason=choice.get("finish_reason"),
            stop=choice.get("stop_reason", choice.get("matched_stop")),
            num_prompt=usage.get("prompt_tokens"),
            num_cached=details.get("cached_tokens") or 0,
            num_completion=usage.get("completion_tokens"),
            logprobs=_logprobs(logprobs),
        )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        path = "/chat/completions" if chat else "/completions"
        raise EngineError(
            f"{path}: {str(data)[:200]!r} ({type(error).__name__}); expected an object with "
            "`choices`. Is this an OpenAI-compatible server?"
        ) from None


def prompt_ids_of(data: Mapping[str, Any]) -> list[int] | None:
    """The prompt's ids, if the reply contains them."""
    choices = data.get("choices") or [{}]
    ids: list[int] | None = choices[0].get("prompt_token_ids")
    return ids


def _ids(choice: Mapping[str, Any], logprobs: Mapping[str, Any]) -> tuple[int, ...] | None:
    ids = choice.get("token_ids")
    if ids is not None:
        return tuple(ids)
    content = logprobs.get("content")
    if content and all("id" in token for token in content):
        return tuple(int(token["id"]) for token in content)
    tokens = logprobs.get("tokens")
    if tokens and all(str(token).startswith(_ID) for token in tokens):
        return tuple(int(token.removeprefix(_ID)) for token in tokens)
    return None


def _logprobs(logprobs: Mapping[str, Any]) -> tuple[Mapping[int | str, float], ...]:
    if logprobs.get("content"):
        return tuple(
            {
                entry.get("id", entry.get("token")): float(entry["logprob"])
                for entry in (token, *(token.get("top_logprobs") or ()))
            }
            for token in logprobs["content"]
        )
    return tuple(
        {_id_or_text(token): float(value) for token, value in (row or {}).items()}
        for row in logprobs.get("top_logprobs") or ()
    )


def _id_or_text(token: str) -> int | str:
    return int(token.removeprefix(_ID)) if token.startswith(_ID) else token


def end_probability(
    logprobs: Mapping[int | str, float], triggers: Mapping[int, str], *, threshold: float
) -> float:
    """P(any trigger) of one draw; `triggers` are ids and their texts. Raises EngineError where the
    logprobs do not show on which side of the threshold it is."""
    lower, upper = end_bounds(logprobs, triggers)
    if lower < threshold <= upper:
        raise EngineError(
            f"end_rule probability: the server lists too few logprobs to tell whether P(end) is "
            f"{threshold:g}: between {lower:.3g} and {upper:.3g}. Use the transformers or vllm "
            "engine, or a higher end_probability."
        )
    return lower


def end_bounds(
    logprobs: Mapping[int | str, float], triggers: Mapping[int, str]
) -> tuple[float, float]:
    """Lower and upper bound of P(any trigger): an unlisted token is less likely than any listed."""
    values = [logprobs.get(i, logprobs.get(text)) for i, text in triggers.items()]
    listed = sum(math.exp(value) for value in values if value is not None)
    num_unlisted = sum(value is None for value in values)
    least = math.exp(min(logprobs.values(), default=0.0))
    unlisted = max(0.0, 1 - sum(math.exp(value) for value in logprobs.values()))
    return listed, listed + min(num_unlisted * least, unlisted)


def likeliest(logprobs: Mapping[int | str, float], default: int | str) -> int | str:
    """The likeliest token listed."""
    return max(logprobs, key=lambda token: logprobs[token], default=default)
