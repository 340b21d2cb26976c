"""Refuses jobs that a server cannot run exactly, with an alternative in the message.

Taking the runner-up token needs `logit_bias`, a rule on P(end) needs logprobs, a trigger that is a
special token needs ids; the probe shows whether a server has these.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from slowthink.engines.server.client_forcing import needs_logprobs
from slowthink.engines.server.probe import ServerFeatures
from slowthink.engines.server.tokenizer import ServedTokenizer
from slowthink.engines.session import Job
from slowthink.errors import ConfigError
from slowthink.forcing.formats import TokenFormat
from slowthink.records import Request, Sampling

_NO_TRUNCATION = "top_p: 1, top_k: 0, min_p: 0"
_OTHER_ENGINE = "or use the transformers or vllm engine"


def check_supported(
    job: Job, token_format: TokenFormat, *, features: ServerFeatures, tokenizer: Any
) -> None:
    """Raise ConfigError if this server cannot keep the job's budget exactly."""
    problems = (
        *_truncation_problems(job.request.sampling, features),
        *_trigger_problems(token_format, features, tokenizer),
        *_runner_up_problems(job, features),
        *_end_rule_problems(job.request, features),
        *_text_search_problems(job, token_format, tokenizer),
    )
    if problems:
        reason, hint = problems[0]
        raise ConfigError(
            f"engine `openai`, server model `{features.model}`: cannot run this job: {reason}. "
            f"{hint}."
        )


Problems = Iterator[tuple[str, str]]
"""Reasons why a job cannot run, each with an alternative."""


def _truncation_problems(sampling: Sampling, features: ServerFeatures) -> Problems:
    for name, neutral in (("top_p", 1), ("top_k", 0), ("min_p", 0)):
        if getattr(sampling, name) != neutral and name not in features.truncations:
            yield f"{name} has no effect on it", f"Set {name}: {neutral}, {_OTHER_ENGINE}"


def _trigger_problems(
    token_format: TokenFormat, features: ServerFeatures, tokenizer: Any
) -> Problems:
    for token in sorted(token_format.trigger_ids - token_format.eos_ids):
        if not features.returns_ids and not tokenizer.decode([token], skip_special_tokens=True):
            yield (
                "it returns neither token ids nor special tokens, so a generated "
                f"{tokenizer.decode([token])!r} could not be detected",
                "Use a server that returns ids (vLLM; llama.cpp with logprobs), a format with "
                f"delimiters of ordinary text, {_OTHER_ENGINE}",
            )


def _runner_up_problems(job: Job, features: ServerFeatures) -> Problems:
    budget, sampling = job.request.budget, job.request.sampling
    if budget.min_thinking_tokens:
        setting = "forcing.min_thinking_tokens"
    elif job.largest_point.waits and not budget.wait_strings:
        setting = "waits without a string"
    else:
        return
    if not features.logit_bias:
        yield (
            f"{setting} needs tokens excluded from sampling, and its logit_bias has no effect",
            f"Use wait strings and no minimum, {_OTHER_ENGINE}",
        )
    if sampling.temperature and _is_truncated(sampling):
        yield (
            f"{setting} samples again from the truncated distribution, and logit_bias changes "
            "which tokens top_p, top_k and min_p keep",
            f"Set {_NO_TRUNCATION}, or use wait strings and no minimum, {_OTHER_ENGINE}",
        )


def _end_rule_problems(request: Request, features: ServerFeatures) -> Problems:
    rule, sampling = request.budget.end_rule, request.sampling
    if needs_logprobs(request) and not (features.logprobs and features.returns_ids):
        yield (
            f"end_rule {rule} needs logprobs with token ids, and it does not return them",
            f"Set end_rule: drawn, {_OTHER_ENGINE}",
        )
    unprocessed = sampling.temperature in (0, 1) and not _is_truncated(sampling)
    if rule == "probability" and sampling.temperature and not unprocessed:
        yield (
            "end_rule probability uses the distribution after temperature and truncation, and its "
            "logprobs are those before",
            f"Set temperature: 1 or 0, {_NO_TRUNCATION}, {_OTHER_ENGINE}",
        )


def _text_search_problems(job: Job, token_format: TokenFormat, tokenizer: Any) -> Problems:
    has_step_limit = any(point.steps is not None for point in job.points)
    if isinstance(tokenizer, ServedTokenizer) and (token_format.long_triggers or has_step_limit):
        yield (
            "triggers of several tokens, and steps, are searched for in the text after each token, "
            "and there is no local tokenizer to decode it",
            "Name the model's folder or hub id: --set model=…",
        )


def _is_truncated(sampling: Sampling) -> bool:
    return sampling.top_p < 1 or sampling.top_k > 0 or sampling.min_p > 0
