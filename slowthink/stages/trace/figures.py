"""Figures of scores and levels for the manifest: correlations, and LIMO v1's table of behaviour.

{"score_correlations": [{"a": "length", "b": "limo-v2", "spearman": 0.61, "n": 2500}],
 "behaviour": [{"level": 5, "num_chains": 31, "thinking_tokens": 812.4, "lines": 40.1,
   "verification": 1.2, "exploration": 6.3, "granularity": 4.0, "words": {"since": 61, …}}]}
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from slowthink.analysis.statistics import none_if_nan, spearman
from slowthink.curation.scores.lexicons import KINDS, load_lexicon, read_lexicons
from slowthink.curation.scores.student_fit import teacher_fits
from slowthink.records import group_by
from slowthink.stages.trace.chains import ScoredChain

NUM_WORDS = 10
"""Most frequent words per level, as in LIMO v1's table 4."""
_WORD = re.compile(r"(?<![a-z\\])[a-z]{3,}")


def score_facts(
    scored: Sequence[ScoredChain], kept: Sequence[ScoredChain], *, seed: int
) -> dict[str, Any]:
    """Correlations and each teacher's `student-fit` over all chains, and the behaviour of the kept
    ones; {} without scores."""
    if not any(chain.scores for chain in scored):
        return {}
    fits = teacher_fits([(s.chain.teacher, s.chain.chain_id, s.scores) for s in scored], seed=seed)
    return {"score_correlations": correlations(scored), "behaviour": behaviour(kept)} | (
        {"teacher_fits": fits} if fits else {}
    )


def correlations(chains: Sequence[ScoredChain]) -> list[dict[str, Any]]:
    """Spearman's rank correlation of each two scores, over the chains that have both; the length
    in tokens is always one of them, since a score may be no more than it."""
    values = [{"length": float(chain.num_thinking_tokens)} | dict(chain.scores) for chain in chains]
    names = sorted({name for scores in values for name in scores if "." not in name})
    rows = []
    for a, b in itertools.combinations(names, 2):
        both = [(scores[a], scores[b]) for scores in values if a in scores and b in scores]
        coefficient = spearman([x for x, _ in both], [y for _, y in both])
        rows.append(
            {"a": a, "b": b, "spearman": none_if_nan(round(coefficient, 4)), "n": len(both)}
        )
    return rows


def behaviour(chains: Sequence[ScoredChain]) -> list[dict[str, Any]]:
    """By level (null: none), lowest first: mean tokens and lines of thinking, the lexicon's words
    per 1,000 tokens, and the most frequent words (arXiv 2502.03387v1, table 4)."""
    levels = group_by(chains, lambda chain: chain.level or 0)
    return [{"level": level or None, **_behaviour(levels[level])} for level in sorted(levels)]


def _behaviour(chains: Sequence[ScoredChain]) -> dict[str, Any]:
    texts = [chain.chain.thinking for chain in chains]
    num_tokens = sum(chain.num_thinking_tokens for chain in chains)
    words, totals = _count_words(texts), Counter[str]()
    for text in texts:
        totals.update(load_lexicon("standard").count(text))
    rates = {kind: round(1000 * totals[kind] / max(1, num_tokens), 2) for kind in KINDS}
    most_common = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:NUM_WORDS]
    return {
        "num_chains": len(chains),
        "thinking_tokens": round(num_tokens / len(chains), 1),
        "lines": round(sum(len(text.splitlines()) for text in texts) / len(chains), 1),
        **rates,
        "words": dict(most_common),
    }


def _count_words(texts: Sequence[str]) -> Counter[str]:
    """English words but function words and LaTeX commands, and Chinese words of the lexicon, since
    Chinese text does not mark where a word ends."""
    left_out = frozenset(read_lexicons()["function_words"].split())
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word in _WORD.findall(text.lower()) if word not in left_out)
        if not text.isascii():
            of_lexicon = (word for _, word in load_lexicon("standard").find(text))
            words.update(word for word in of_lexicon if not word.isascii())
    return words
