"""One reply of a `/v1/completions` server, read whatever the server's dialect.

vLLM gives the drawn ids (`return_token_ids`), llama.cpp puts them into `logprobs.content`, others
give the text alone, which is then tokenised again:

    Reply(ids=(1, 2), text=" 42", stopped=True, stop=2, num_completion=2, …)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.errors import EngineError

_ID = "token_id:"
"""How vLLM writes an id as a token (`return_tokens_as_token_ids`)."""
_STOPPED = frozenset({"stop", "eos", "eos_token", "stop_sequence"})


@dataclass(frozen=True, kw_only=True)
class ServerReply:
    """What one round came to."""

    ids: tuple[int, ...] | None
    """Drawn ids, as the server tells them; None: it tells only the text."""
    text: str
    stopped: bool
    """It ended by itself or at a stop, not at max_tokens."""
    stop: int | str | None = None
    """The id or text it says it stopped at."""
    num_prompt: int | None = None
    num_cached: int = 0
    """Prompt tokens that it did not prefill."""
    num_completion: int | None = None
    logprobs: tuple[Mapping[int | str, float], ...] = ()
    """Per token: natural logarithms of probabilities, by id, or by text where ids are not told."""


def read_reply(data: Mapping[str, Any]) -> ServerReply:
    """Raises EngineError where this is no completion."""
    try:
        choice = data["choices"][0]
        text = choice.get("text") or ""
        usage = data.get("usage") or {}
        reason = choice.get("finish_reason")
        details = usage.get("prompt_tokens_details") or {}
        logprobs = choice.get("logprobs") or {}
        stop = choice.get("stop_reason", choice.get("matched_stop"))
        return ServerReply(
            ids=_ids(choice, logprobs),
            text=text,
            stopped=reason in _STOPPED,
            stop=stop,
            num_prompt=usage.get("prompt_tokens"),
            num_cached=details.get("cached_tokens") or 0,
            num_completion=usage.get("completion_tokens"),
            logprobs=_logprobs(logprobs),
        )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise EngineError(
            f"/completions: {str(data)[:200]!r} ({type(error).__name__}); expected an object with "
            "`choices`. Is this an OpenAI-compatible server?"
        ) from None


def prompt_ids_of(data: Mapping[str, Any]) -> list[int] | None:
    """The prompt's ids as the server has them, where it tells them."""
    choices = data.get("choices") or [{}]
    found: list[int] | None = choices[0].get("prompt_token_ids")
    return found


def _ids(choice: Mapping[str, Any], logprobs: Mapping[str, Any]) -> tuple[int, ...] | None:
    found = choice.get("token_ids")
    if found is not None:
        return tuple(found)
    content = logprobs.get("content")
    if content and all("id" in one for one in content):
        return tuple(int(one["id"]) for one in content)
    tokens = logprobs.get("tokens")
    if tokens and all(str(one).startswith(_ID) for one in tokens):
        return tuple(int(one.removeprefix(_ID)) for one in tokens)
    return None


def _logprobs(logprobs: Mapping[str, Any]) -> tuple[Mapping[int | str, float], ...]:
    if logprobs.get("content"):
        return tuple(_of_content(one) for one in logprobs["content"])
    return tuple(
        {_name(token): float(value) for token, value in (one or {}).items()}
        for one in logprobs.get("top_logprobs") or ()
    )


def _of_content(one: Mapping[str, Any]) -> dict[int | str, float]:
    found = [one, *(one.get("top_logprobs") or ())]
    return {each.get("id", each.get("token")): float(each["logprob"]) for each in found}


def _name(token: str) -> int | str:
    return int(token.removeprefix(_ID)) if token.startswith(_ID) else token


def end_probability(
    logprobs: Mapping[int | str, float], triggers: Mapping[int, str], *, threshold: float
) -> float:
    """P(any trigger) of one draw; `triggers` are ids and their texts. Raises EngineError where it
    stays open on which side of the threshold it lies."""
    least, most = end_bounds(logprobs, triggers)
    if least < threshold <= most:
        raise EngineError(
            f"end_rule probability: the server lists too few logprobs to tell whether P(end) is "
            f"{threshold:g}: between {least:.3g} and {most:.3g}. Use the transformers or vllm "
            "engine, or a higher end_probability."
        )
    return least


def end_bounds(
    logprobs: Mapping[int | str, float], triggers: Mapping[int, str]
) -> tuple[float, float]:
    """Between what P(any trigger) lies: one that is not listed is less likely than all that are."""
    values = [logprobs.get(i, logprobs.get(text)) for i, text in triggers.items()]
    known = sum(math.exp(value) for value in values if value is not None)
    missing = sum(value is None for value in values)
    least = math.exp(min(logprobs.values(), default=0.0))
    rest = max(0.0, 1 - sum(math.exp(value) for value in logprobs.values()))
    return known, known + min(missing * least, rest)


def likeliest(logprobs: Mapping[int | str, float], names: Sequence[int | str]) -> int | str:
    """The likeliest token listed; the first of `names` where none is."""
    return max(logprobs, key=lambda name: logprobs[name], default=names[0])
