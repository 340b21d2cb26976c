"""Jobs that a server cannot do exactly, refused before any work with an alternative in the message.

Drawing the runner-up needs `logit_bias`, a rule on P(end) needs logprobs, a trigger that is a
special token needs ids; each only where the probe showed that the server has it.
"""

from __future__ import annotations

from typing import Any

from slowthink.engines.server.client_forcing import needs_logprobs
from slowthink.engines.server.probe import ServerFeatures
from slowthink.engines.server.tokenizer import ServedTokenizer
from slowthink.engines.session import Job
from slowthink.errors import ConfigError
from slowthink.forcing.formats import TokenFormat
from slowthink.records import Request, Sampling

_OTHER_ENGINE = "or use the transformers or vllm engine"


def check_supported(
    job: Job, token_format: TokenFormat, *, features: ServerFeatures, tokenizer: Any
) -> None:
    """Raise ConfigError where this server cannot keep the job's budget exactly."""
    request = job.request
    _check_truncation(request.sampling, features)
    _check_triggers_visible(token_format, features, tokenizer)
    _check_runner_up(job, features)
    _check_end_rule(request, features)
    has_step_limit = any(point.steps is not None for point in job.points)
    if isinstance(tokenizer, ServedTokenizer) and (token_format.long_triggers or has_step_limit):
        raise _unsupported(
            features,
            "triggers of several tokens, and steps, are searched for in the text after each token, "
            "and there is no local tokenizer to decode it",
            "Name the model's folder or hub id: --set model=…",
        )


def _check_truncation(sampling: Sampling, features: ServerFeatures) -> None:
    for name, off in (("top_p", 1), ("top_k", 0), ("min_p", 0)):
        if getattr(sampling, name) != off and name not in features.truncations:
            raise _unsupported(
                features, f"{name} has no effect there", f"Set {name}: {off}, {_OTHER_ENGINE}"
            )


def _check_triggers_visible(
    token_format: TokenFormat, features: ServerFeatures, tokenizer: Any
) -> None:
    if features.returns_ids:
        return
    for token in sorted(token_format.trigger_ids - token_format.eos_ids):
        if not tokenizer.decode([token], skip_special_tokens=True):
            raise _unsupported(
                features,
                f"it returns neither token ids nor special tokens, so a drawn "
                f"{tokenizer.decode([token])!r} would not be seen",
                "Use a server that returns ids (vLLM; llama.cpp with logprobs), a format with "
                f"delimiters of ordinary text, {_OTHER_ENGINE}",
            )


def _check_runner_up(job: Job, features: ServerFeatures) -> None:
    budget, sampling = job.request.budget, job.request.sampling
    if not budget.min_thinking_tokens and (budget.wait_strings or not job.farthest.waits):
        return
    setting = (
        "forcing.min_thinking_tokens" if budget.min_thinking_tokens else "waits without a string"
    )
    if not features.biases:
        raise _unsupported(
            features,
            f"{setting} needs a token excluded from the draw, and its logit_bias has no effect",
            f"Use wait strings and no minimum, {_OTHER_ENGINE}",
        )
    if sampling.temperature and _is_truncated(sampling):
        raise _unsupported(
            features,
            f"{setting} draws again from the truncated distribution, and logit_bias changes what "
            "top_p, top_k and min_p keep of it",
            f"Set top_p: 1, top_k: 0, min_p: 0, or use wait strings and no minimum, "
            f"{_OTHER_ENGINE}",
        )


def _check_end_rule(request: Request, features: ServerFeatures) -> None:
    rule, sampling = request.budget.end_rule, request.sampling
    if not needs_logprobs(request):
        return
    if not (features.logprobs and features.returns_ids):
        raise _unsupported(
            features,
            f"end_rule {rule} needs logprobs with token ids, and it returns none",
            f"Set end_rule: drawn, {_OTHER_ENGINE}",
        )
    plain = sampling.temperature in (0, 1) and not _is_truncated(sampling)
    if rule == "probability" and sampling.temperature and not plain:
        raise _unsupported(
            features,
            "end_rule probability is about the distribution after temperature and truncation, and "
            "its logprobs are of the one before",
            f"Set temperature: 1 or 0, top_p: 1, top_k: 0, min_p: 0, {_OTHER_ENGINE}",
        )


def _is_truncated(sampling: Sampling) -> bool:
    return sampling.top_p < 1 or sampling.top_k > 0 or sampling.min_p > 0


def _unsupported(features: ServerFeatures, reason: str, hint: str) -> ConfigError:
    return ConfigError(
        f"engine `openai`, server model `{features.model}`: cannot do this here: {reason}. {hint}."
    )
