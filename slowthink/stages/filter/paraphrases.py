r"""Paraphrases of test problems: candidates by sentence embeddings, and a judge's verdict on each.

Shared word n-grams do not detect them. A candidate without a verdict is a leak of kind `similar`
and kept by default; one that the judge calls the same is of kind `paraphrase` and dropped:

    parse_verdict("Both ask for the number of primes below 20.\nVERDICT: SAME")  # True

The judge is given every pair of texts once, the test problem first; the ledger keeps its replies.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.curation.overlap.certificate import must_drop
from slowthink.curation.overlap.contamination import Leak
from slowthink.curation.overlap.embedding_index import EmbeddingIndex
from slowthink.curation.overlap.evaluation_sets import EvaluationItem, compared_text
from slowthink.curation.overlap.leaks import Leaks
from slowthink.curation.overlap.semantic import is_readable
from slowthink.grading.replies import fenced, final_value
from slowthink.grading.thinking import response_of
from slowthink.pipeline.contract import StageContext
from slowthink.recipe import ContaminationConfig, ParaphraseConfig
from slowthink.records import Problem
from slowthink.sampling.prompted_model import Messages, ModelReply, open_prompted_model

TAG = "contamination"
"""The ledger counts these tokens under this tag."""
MAX_CHARS = 8_000
"""Maximum length of each of the two texts; a longer one is truncated."""
_VERDICT_LINE = re.compile(r"verdict\s*[:\uff1a]\s*(same|different)\s*\.?", re.IGNORECASE)

_SYSTEM_PROMPT = (
    "You compare two problems. You do not solve them. You end with one line that is exactly "
    "`VERDICT: SAME` or `VERDICT: DIFFERENT`."
)
_PROMPT = """Problem A:
{tested}

Problem B:
{other}

Are A and B the same problem in other words? They are if both give the same quantities and ask for \
the same thing, so that whoever knows the answer to one knows the answer to the other without any \
work. Other wording, names, objects, units written out, another order, language or form of the \
answer (m + n in place of m/n) do not matter. They are different if a number, a condition or what \
is asked for differs, even where one method solves both, or one is a part of the other. Say in at \
most two sentences what is given and asked in each and whether anything differs, then give the \
verdict line."""
_RETRY_PROMPT = (
    "That does not end with a verdict. Reply with one line and nothing else: `VERDICT: SAME` or "
    "`VERDICT: DIFFERENT`."
)


@dataclass(frozen=True, slots=True)
class ParaphrasePair:
    """A problem and a test problem's text that may be paraphrases."""

    row: int
    """Index of the problem."""
    test_text: str
    similarity: float


def build_messages(test_text: str, text: str) -> Messages:
    """The chat messages about one pair of texts."""
    prompt = _PROMPT.format(
        tested=fenced(test_text, max_chars=MAX_CHARS), other=fenced(text, max_chars=MAX_CHARS)
    )
    return [{"role": "system", "content": _SYSTEM_PROMPT}, {"role": "user", "content": prompt}]


def parse_verdict(text: str) -> bool | None:
    """Whether the reply's last line calls the two the same; None if the line is not a verdict or
    another line contradicts it."""
    value = final_value(response_of(text), _VERDICT_LINE)
    return None if value is None else value == "same"


def add_paraphrases(
    problems: Sequence[Problem],
    overlaps: Sequence[Leaks],
    items: Sequence[EvaluationItem],
    context: StageContext,
) -> tuple[list[Leaks], dict[str, Any]]:
    """Each problem's leaks in `overlaps` followed by its paraphrases and similar problems; and
    figures for the certificate.

    Compares only the problems that no leak in `overlaps` drops. Raises ConfigError if the embedding
    package or the judge is unavailable.
    """
    config: ContaminationConfig = context.config.contamination
    settings = config.paraphrase
    if settings is None:
        return list(overlaps), {}
    items_by_text: dict[str, list[EvaluationItem]] = {}
    for item in items:
        items_by_text.setdefault(item.text, []).append(item)
    texts = {
        row: compared_text(problems[row], config)
        for row, leaks in enumerate(overlaps)
        if not any(must_drop(leak, config) for leak in leaks)
    }
    pairs = _candidate_pairs(texts, overlaps, list(items_by_text), settings)
    replies, judge_facts = _judge_pairs(pairs, problems, texts, context)
    extended = [list(leaks) for leaks in overlaps]
    for pair, reply in zip(pairs, replies, strict=True):
        if reply.value is not False:
            same_text = items_by_text[pair.test_text]
            extended[pair.row] += [_to_leak(pair, reply, item) for item in same_text]
    facts = {
        "num_looked_at": len(texts),
        "num_unread": sum(not is_readable(text) for text in texts.values()),
        "num_tested_unread": sum(not is_readable(item.text) for item in items),
        "num_candidates": len(pairs),
        "num_with_candidates": len({pair.row for pair in pairs}),
    }
    context.notify(f"filter: {len(pairs):,} candidate paraphrases of test problems")
    return [tuple(leaks) for leaks in extended], facts | {"judge": judge_facts}


def _candidate_pairs(
    texts: dict[int, str], overlaps: Sequence[Leaks], test_texts: Sequence[str],
    config: ParaphraseConfig,
) -> list[ParaphrasePair]:  # fmt: skip
    """Candidates for each text, by row, except test problems that already leak into the row."""
    item_indices = {text: index for index, text in enumerate(test_texts)}
    excluded = [{item_indices[leak.item.text] for leak in overlaps[row]} for row in texts]
    embeddings = EmbeddingIndex.from_texts(test_texts, config)
    nearest = embeddings.nearest(list(texts.values()), excluded=excluded)
    return [
        ParaphrasePair(row, test_texts[candidate.item_index], candidate.similarity)
        for row, candidates in zip(texts, nearest, strict=True)
        for candidate in candidates
    ]


def _judge_pairs(
    pairs: Sequence[ParaphrasePair],
    problems: Sequence[Problem],
    texts: dict[int, str],
    context: StageContext,
) -> tuple[list[ModelReply[bool]], dict[str, Any] | None]:
    """The judge's reply on each pair, and counts of the verdicts; empty replies without a judge."""
    config = context.config.contamination.paraphrase.judge
    if config is None or not pairs:
        return [ModelReply(None, None)] * len(pairs), None
    with (
        context.open_ledger() as ledger,
        open_prompted_model(
            config, context.recipe,
            ledger=ledger, tag=TAG, notify=context.notify, progress=context.progress,
        ) as judge,
    ):  # fmt: skip
        replies = judge.generate(
            [problems[pair.row] for pair in pairs],
            [build_messages(pair.test_text, texts[pair.row]) for pair in pairs],
            parse=parse_verdict,
            retry_prompt=_RETRY_PROMPT,
        )
    verdicts = Counter(reply.value for reply in replies)
    return replies, {
        "model": context.recipe.named_model(config.model)[0],
        "num_same": verdicts[True],
        "num_different": verdicts[False],
        "num_no_verdict": verdicts[None],
        "num_asked_again": judge.num_retried,
    }


def _to_leak(pair: ParaphrasePair, reply: ModelReply[bool], item: EvaluationItem) -> Leak:
    """The leak of a pair; with the judge's reason if it calls the two the same."""
    if not reply.value or reply.text is None:
        return Leak("similar", item, pair.similarity, 0.0, 0.0, 0, "")
    lines = response_of(reply.text).strip().splitlines()
    judge_reason = " ".join(lines[:-1]).strip()
    return Leak("paraphrase", item, pair.similarity, 0.0, 0.0, 0, "", judge_reason)
