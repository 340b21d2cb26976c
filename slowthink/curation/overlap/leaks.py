"""Leaks of test problems into many texts under a preset, on this machine or on Ray.

find_leaks(["Compute 17 + 25 …"], items, ContaminationConfig(preset="s1"))  # [(Leak(…),)]
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from slowthink.curation.overlap.contamination import Leak, StrictIndex
from slowthink.curation.overlap.evaluation_sets import EvaluationItem
from slowthink.curation.overlap.ngrams import NgramIndex, SharedNgram, survivors_in_order
from slowthink.pipeline.runner import map_rows
from slowthink.recipe import ContaminationConfig

Leaks = tuple[Leak, ...]


def find_leaks(
    texts: Sequence[str],
    items: Sequence[EvaluationItem],
    config: ContaminationConfig,
    *,
    runner: str = "local",
) -> list[Leaks]:
    """The leaks of each text, nearest first."""
    if config.preset == "strict":
        return map_rows(StrictIndex.of(items, config).leaks, texts, runner=runner)
    index = NgramIndex.of([item.text for item in items], width=config.run_words)
    ngrams = map_rows(index.first_shared, texts, runner=runner)
    return [_leaks_of(shared, items) for shared in ngrams]


def find_leaks_in_order(
    sources: Mapping[str, Sequence[EvaluationItem]],
    items: Sequence[EvaluationItem],
    config: ContaminationConfig,
) -> list[Leaks]:
    """s1's leaks, source by source: the texts kept of a source count as test problems for the
    sources after it. In the order given."""
    groups = [[item.text for item in source] for source in sources.values()]
    all_items = [*items, *(item for source in sources.values() for item in source)]
    ngrams = survivors_in_order(groups, [item.text for item in items], width=config.run_words)
    return [_leaks_of(shared, all_items) for group in ngrams for shared in group]


def find_in_chains(
    chains: Sequence[str],
    items: Sequence[EvaluationItem],
    config: ContaminationConfig,
    *,
    runner: str = "local",
) -> list[Leaks]:
    """The test problems contained in each chain of thought (strict form, one direction)."""
    find = functools.partial(StrictIndex.of(items, config).leaks, contained=False)
    return map_rows(find, chains, runner=runner)


def _leaks_of(shared: SharedNgram | None, items: Sequence[EvaluationItem]) -> Leaks:
    """The test problem of the first n-gram, then the first problem of each other set."""
    if shared is None:
        return ()
    first = {items[shared.text].benchmark: shared.text}
    for number in shared.texts:
        first.setdefault(items[number].benchmark, number)
    return tuple(
        Leak(
            "run", items[number], 1.0, 0.0, 0.0, len(shared.ngram.split()),
            shared.ngram if number == shared.text else "",
        )
        for number in first.values()
    )  # fmt: skip
