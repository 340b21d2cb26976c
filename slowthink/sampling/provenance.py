"""What a completion is as a chain to learn from: its texts, its tokens, and where it comes from.

{"model": "Qwen/QwQ-32B", "revision": null, "engine": "vllm/0.32/bfloat16", "fingerprint": "9c…",
 "sampling": {"temperature": 0.6, "top_p": 0.95, "top_k": 0, "min_p": 0.0}, "sample": 2,
 "prompt_digest": "41…", "prompt_tokens": 96, "tokens": 5120, "count_source": "ids",
 "language": "en", "hidden": null}

The stage trace adds `date`, when the chain was completed, and the `thinking_language` asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slowthink.data.language import detect_language
from slowthink.engines.session import Session
from slowthink.records import AnswerEnd, Completion, ThinkingEnd
from slowthink.sampling.sampler import Task, is_truncated
from slowthink.serialise import digest, plain


@dataclass(frozen=True, slots=True)
class SampledText:
    """The texts of a completion."""

    thinking: str
    response: str
    """The answer that follows the thinking; empty if the text has no such part."""
    truncated: bool
    """It reached a limit before it was complete."""


@dataclass(frozen=True, slots=True)
class TokenUse:
    """Tokens of one completion: those that its API states, else those that were counted."""

    num_prompt_tokens: int = 0
    num_tokens: int = 0
    """Tokens generated: thinking, hidden or not, and answer."""

    def __add__(self, other: TokenUse) -> TokenUse:
        return TokenUse(
            self.num_prompt_tokens + other.num_prompt_tokens, self.num_tokens + other.num_tokens
        )


def sampled_text(task: Task, completion: Completion, *, may_force: bool = False) -> SampledText:
    """The texts of a completion. `may_force`: an answer that was forced at the limit of thinking
    is complete."""
    has_response = bool(completion.closing_ids or completion.answer_ids)
    is_natural = completion.thinking_end is ThinkingEnd.NATURAL
    if has_response:
        # Without a delimiter, what closes the thinking is a forced cue.
        has_cue = not is_natural or not task.request.format.end
        cut_off = is_truncated(completion.answer, completion.answer_end, forced=has_cue)
    else:
        cut_off = completion.answer_end is AnswerEnd.LENGTH
    is_ended = is_natural or (may_force and has_response)
    return SampledText(
        thinking=completion.thinking.strip(),
        response=completion.answer.strip() if has_response else "",
        truncated=cut_off or not is_ended,
    )


def token_use(completion: Completion) -> TokenUse:
    """The tokens of a completion."""
    reported = completion.reported
    counted = len(completion.thinking_ids) + len(completion.answer_ids)
    num_prompt = reported.num_prompt_tokens if reported else None
    num_tokens = reported.num_completion_tokens if reported else None
    return TokenUse(
        completion.num_prompt_tokens if num_prompt is None else num_prompt,
        counted if num_tokens is None else num_tokens,
    )


def provenance(
    task: Task, completion: Completion, session: Session,
    *, model: str, revision: str | None,
) -> dict[str, Any]:  # fmt: skip
    """Where a completion comes from, as JSON; the keys are in the module's docstring. Its date is
    in the ledger (`Ledger.dates`)."""
    use, request = token_use(completion), task.request
    return {
        "model": model,
        "revision": revision,
        "engine": session.numerics,
        "fingerprint": session.fingerprint,
        "sampling": plain(request.sampling),
        "sample": request.sample,
        "prompt_digest": digest(request.prompt_ids),
        "prompt_tokens": use.num_prompt_tokens,
        "tokens": use.num_tokens,
        "count_source": completion.count_source,
        "language": detect_language(completion.thinking or completion.answer),
        "hidden": completion.reported.hidden if completion.reported else None,
    }
