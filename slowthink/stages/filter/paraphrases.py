r"""Tested problems in other words: candidates by meaning, and what a judge says of each.

Runs of words do not see them. A candidate that nobody judged is `similar` and stays unless told
otherwise; one that the judge calls the same is a `paraphrase` and goes:

    parse_verdict("Both ask for the number of primes below 20.\nVERDICT: SAME")  # True

Every pair of texts is put to the judge once, the tested problem first, and kept in the ledger.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.curation.overlap.certificate import drops
from slowthink.curation.overlap.contamination import EvaluationItem, Leak
from slowthink.curation.overlap.embedding_index import EmbeddingIndex
from slowthink.curation.overlap.evaluation_sets import text_of
from slowthink.curation.overlap.leaks import Leaks
from slowthink.curation.overlap.semantic import is_readable
from slowthink.pipeline.contract import StageContext
from slowthink.recipe import ContaminationConfig, ParaphraseConfig
from slowthink.records import Problem
from slowthink.sampling.prompted_model import (
    Messages,
    ModelReply,
    fenced,
    open_prompted_model,
    plain_lines,
    strip_thinking,
)

TAG = "contamination"
"""Under what the ledger counts these tokens."""
MAX_CHARS = 8_000
"""Of each of the two texts; a longer one keeps its beginning."""
_VERDICT = re.compile(r"verdict\s*[:\uff1a]\s*(same|different)\s*\.?", re.IGNORECASE)

_SYSTEM = (
    "You compare two problems. You do not solve them. You end with one line that is exactly "
    "`VERDICT: SAME` or `VERDICT: DIFFERENT`."
)
_ASK = """Problem A:
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
_AGAIN = (
    "That does not end with a verdict. Reply with one line and nothing else: `VERDICT: SAME` or "
    "`VERDICT: DIFFERENT`."
)


@dataclass(frozen=True, slots=True)
class ParaphrasePair:
    """A problem and a tested text that may be the same in other words."""

    place: int
    """Of the problem."""
    tested: str
    similarity: float


def build_messages(tested: str, other: str) -> Messages:
    """The chat messages about one pair of texts."""
    asked = _ASK.format(
        tested=fenced(tested, max_chars=MAX_CHARS), other=fenced(other, max_chars=MAX_CHARS)
    )
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": asked}]


def parse_verdict(text: str) -> bool | None:
    """Whether the two are the same, as the last line says; None where it says neither, or another
    line the opposite."""
    lines = plain_lines(strip_thinking(text))
    said = {found[1].lower() for found in map(_VERDICT.fullmatch, lines) if found}
    if len(said) != 1 or not _VERDICT.fullmatch(lines[-1]):
        return None
    return said == {"same"}


def add_paraphrases(
    problems: Sequence[Problem],
    found: Sequence[Leaks],
    items: Sequence[EvaluationItem],
    context: StageContext,
) -> tuple[list[Leaks], dict[str, Any]]:
    """The leaks of each problem with those by meaning behind them, and the certificate's figures.

    Looked at are problems that no leak in `found` drops. Raises ConfigError where the embedding's
    package or the judge is missing.
    """
    config: ContaminationConfig = context.config.contamination
    settings = config.paraphrase
    if settings is None:
        return list(found), {}
    tested: dict[str, list[EvaluationItem]] = {}
    for item in items:
        tested.setdefault(item.text, []).append(item)
    looked_at = [
        place for place, leaks in enumerate(found) if not any(drops(one, config) for one in leaks)
    ]
    texts = {place: text_of(problems[place], config) for place in looked_at}
    pairs = _pairs(texts, found, list(tested), settings)
    replies, asked = _asked(pairs, problems, texts, context)
    leaks = [list(one) for one in found]
    for pair, reply in zip(pairs, replies, strict=True):
        if reply.value is not False:
            leaks[pair.place] += [_leak(pair, reply, item) for item in tested[pair.tested]]
    facts = {
        "num_looked_at": len(looked_at),
        "num_unread": sum(not is_readable(text) for text in texts.values()),
        "num_tested_unread": sum(len(tested[text]) for text in tested if not is_readable(text)),
        "num_candidates": len(pairs),
        "num_with_candidates": len({pair.place for pair in pairs}),
    }
    context.notify(f"filter: {len(pairs)} candidates by meaning")
    return [tuple(one) for one in leaks], facts | {"judge": asked}


def _pairs(
    texts: dict[int, str], found: Sequence[Leaks], tested: Sequence[str], config: ParaphraseConfig
) -> list[ParaphrasePair]:
    """Candidates of the problems at these places; what runs of words already tell of is none."""
    places = {text: place for place, text in enumerate(tested)}
    known = [frozenset(places[leak.item.text] for leak in found[place]) for place in texts]
    nearest = EmbeddingIndex.of(tested, config).nearest(list(texts.values()), known=known)
    return [
        ParaphrasePair(place, tested[one.item], one.similarity)
        for place, near in zip(texts, nearest, strict=True)
        for one in near
    ]


def _asked(
    pairs: Sequence[ParaphrasePair],
    problems: Sequence[Problem],
    texts: dict[int, str],
    context: StageContext,
) -> tuple[list[ModelReply[bool]], dict[str, Any] | None]:
    """What the judge says of each pair, and how often what; nothing without one."""
    config = context.config.contamination.paraphrase.judge
    if config is None or not pairs:
        return [ModelReply(None, None)] * len(pairs), None
    with (
        context.open_ledger() as ledger,
        open_prompted_model(
            config, context.recipe,
            ledger=ledger, tag=TAG, notify=context.notify, progress=context.progress,
        ) as asker,
    ):  # fmt: skip
        replies = asker.generate(
            [problems[pair.place] for pair in pairs],
            [build_messages(pair.tested, texts[pair.place]) for pair in pairs],
            parse=parse_verdict,
            retry_prompt=_AGAIN,
        )
    said = Counter(reply.value for reply in replies)
    return replies, {
        "model": context.recipe.model if config.model == "base" else config.model,
        "num_same": said[True],
        "num_different": said[False],
        "num_no_verdict": said[None],
        "num_asked_again": asker.num_retried,
    }


def _leak(pair: ParaphrasePair, reply: ModelReply[bool], item: EvaluationItem) -> Leak:
    """A hit on this tested problem; where the judge says so, with its reason."""
    if not reply.value or reply.text is None:
        return Leak("similar", item, pair.similarity, 0.0, 0.0, 0, "")
    lines = strip_thinking(reply.text).strip().splitlines()
    said = " ".join(lines[:-1]).strip()
    return Leak("paraphrase", item, pair.similarity, 0.0, 0.0, 0, "", said)
