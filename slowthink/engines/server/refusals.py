"""What cannot be done exactly over one server, refused before any work, with the way out.

A runner-up needs `logit_bias`, a rule on P(end) needs logprobs, a trigger that is a special token
needs ids; each only where the server was seen to give it (`http_dialect`).
"""

from __future__ import annotations

from typing import Any

from slowthink.engines.server.probe import Dialect
from slowthink.engines.server.rounds import is_watched
from slowthink.engines.server.tokenizer import ServedTokenizer
from slowthink.engines.session import Job
from slowthink.errors import ConfigError
from slowthink.forcing.formats import TokenFormat
from slowthink.records import Request, Sampling

_ELSEWHERE = "or use the transformers or vllm engine"


def refuse_impossible(
    job: Job, token_format: TokenFormat, *, dialect: Dialect, tokenizer: Any
) -> None:
    """Raise ConfigError where this server cannot keep the job's budget exactly."""
    request = job.request
    _refuse_settings(request.sampling, dialect)
    _refuse_unseen(token_format, dialect, tokenizer)
    _refuse_runner_up(job, dialect)
    _refuse_rule(request, dialect)
    stepped = any(point.steps is not None for point in job.points)
    if isinstance(tokenizer, ServedTokenizer) and (token_format.long_triggers or stepped):
        raise _cannot(
            dialect,
            "a trigger of several tokens, and steps, are looked for in the text after each token, "
            "and there is no local tokenizer to read it with",
            "Name the model's folder or hub id: --set model=…",
        )


def _refuse_settings(sampling: Sampling, dialect: Dialect) -> None:
    for name, off in (("top_p", 1), ("top_k", 0), ("min_p", 0)):
        if getattr(sampling, name) != off and name not in dialect.truncations:
            raise _cannot(
                dialect, f"{name} has no effect there", f"Set {name}: {off}, {_ELSEWHERE}"
            )


def _refuse_unseen(token_format: TokenFormat, dialect: Dialect, tokenizer: Any) -> None:
    if dialect.returns_ids:
        return
    for token in sorted(token_format.trigger_ids - token_format.eos_ids):
        if not tokenizer.decode([token], skip_special_tokens=True):
            raise _cannot(
                dialect,
                f"it returns neither token ids nor special tokens, so a drawn "
                f"{tokenizer.decode([token])!r} would not be seen",
                "Use a server that returns ids (vLLM; llama.cpp with logprobs), a format with "
                f"delimiters of ordinary text, {_ELSEWHERE}",
            )


def _refuse_runner_up(job: Job, dialect: Dialect) -> None:
    budget, sampling = job.request.budget, job.request.sampling
    waits = max(point.waits for point in job.points)
    if not budget.min_thinking_tokens and (budget.wait_strings or not waits):
        return
    what = "forcing.min_thinking_tokens" if budget.min_thinking_tokens else "waits without a string"
    if not dialect.biases:
        raise _cannot(
            dialect,
            f"{what} needs a token kept from being drawn, and its logit_bias has no effect",
            f"Use wait strings and no minimum, {_ELSEWHERE}",
        )
    if sampling.temperature and _is_truncated(sampling):
        raise _cannot(
            dialect,
            f"{what} draws again from the truncated distribution, and logit_bias changes what "
            "top_p, top_k and min_p leave of it",
            f"Set top_p: 1, top_k: 0, min_p: 0, or use wait strings and no minimum, {_ELSEWHERE}",
        )


def _refuse_rule(request: Request, dialect: Dialect) -> None:
    rule, sampling = request.budget.end_rule, request.sampling
    if not is_watched(request):
        return
    if not (dialect.logprobs and dialect.returns_ids):
        raise _cannot(
            dialect, f"end_rule {rule} needs logprobs with token ids, and it gives none",
            f"Set end_rule: drawn, {_ELSEWHERE}",
        )  # fmt: skip
    plain = sampling.temperature in (0, 1) and not _is_truncated(sampling)
    if rule == "probability" and sampling.temperature and not plain:
        raise _cannot(
            dialect,
            "end_rule probability is about the distribution after temperature and truncation, and "
            "its logprobs are of the one before",
            f"Set temperature: 1 or 0, top_p: 1, top_k: 0, min_p: 0, {_ELSEWHERE}",
        )


def _is_truncated(sampling: Sampling) -> bool:
    return sampling.top_p < 1 or sampling.top_k > 0 or sampling.min_p > 0


def _cannot(dialect: Dialect, why: str, way_out: str) -> ConfigError:
    return ConfigError(
        f"engine `openai`, server model `{dialect.model}`: cannot do this here: {why}. {way_out}."
    )
