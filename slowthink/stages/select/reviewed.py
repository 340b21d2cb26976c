"""What people said of the chains (`slowthink review RUN`): their levels, and chains they reject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from slowthink.data.reviews import (
    BAD,
    Judgement,
    by_chain,
    is_rejected,
    median_level,
    read_reviews,
    review_file,
)
from slowthink.errors import DataError
from slowthink.pipeline.contract import count_values
from slowthink.records import Dropped, Trace, row_ids

STEP = "review"
Review = Mapping[str, Sequence[Judgement]]
"""The last judgement of each reviewer, by chain."""


def read_review(setting: str | None, root: Path) -> Review:
    """The judgements that `select.review` names; {} if there are none. Raises DataError."""
    path = review_file(setting, root)
    return by_chain(read_reviews(path)) if path else {}


def apply_review(traces: Sequence[Trace], review: Review) -> tuple[list[Trace], list[Dropped]]:
    """The traces with people's levels; and those that people reject, as dropped.

    Raises DataError if there are judgements and none is of these traces, or all are rejected.
    """
    if review and not any(trace.key in review for trace in traces):
        raise DataError(
            f"select.review: {len(review)} judged chains, none of them among {len(traces)} traces; "
            "expected judgements of this run. Name another file, or none: --set select.review=null"
        )
    kept, dropped = [], []
    for row_id, trace in zip(row_ids(traces), traces, strict=True):
        judgements = review.get(trace.key, ())
        if judgements and is_rejected(judgements):
            evidence = "; ".join(_said(each) for each in judgements if each.is_bad)
            dropped.append(
                Dropped(id=row_id, step=STEP, reason="bad, say reviewers", evidence=evidence)
            )
            continue
        level = median_level(judgements)
        kept.append(trace if level is None else replace(trace, level=level))
    if not kept:
        raise DataError(
            f"select: reviewers call all {len(dropped)} traces bad; expected one at least that is "
            "not. Review again, or leave the reviews out: --set select.review=null"
        )
    return kept, dropped


def _said(judgement: Judgement) -> str:
    """`Ann (error): the second case is missing`."""
    flags = ", ".join(flag for flag in judgement.flags if flag != BAD)
    note = " ".join(judgement.note.split())
    return (
        judgement.reviewer + (f" ({flags})" if flags else "") + (f": {note:.200}" if note else "")
    )


def review_facts(
    traces: Sequence[Trace], dropped: Sequence[Dropped], review: Review
) -> dict[str, Any]:
    """Number of chains whose level is people's, of chains they reject, and of each one's chains."""
    levelled = [trace for trace in traces if median_level(review.get(trace.key, ())) is not None]
    names = (judgement.reviewer for same in review.values() for judgement in same)
    return {
        "num_levels": len(levelled), "num_rejected": len(dropped), "reviewers": count_values(names)
    }  # fmt: skip
