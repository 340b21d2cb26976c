"""Find the test problems that leak into texts under a preset, on this machine or on Ray.

find_leaks(["Compute 17 + 25 …"], items, ContaminationConfig(preset="s1"))  # [(Leak(…),)]
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from slowthink.curation.overlap.contamination import Leak, StrictIndex
from slowthink.curation.overlap.evaluation_sets import EvaluationItem
from slowthink.curation.overlap.ngrams import NgramIndex, SharedNgram, shared_ngrams_by_group
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
        return map_rows(StrictIndex.from_items(items, config).find_leaks, texts, runner=runner)
    index = NgramIndex.from_texts([item.text for item in items], width=config.run_words)
    ngrams = map_rows(index.first_shared, texts, runner=runner)
    return [_to_leaks(shared, items) for shared in ngrams]


def find_leaks_by_source(
    sources: Mapping[str, Sequence[EvaluationItem]],
    items: Sequence[EvaluationItem],
    config: ContaminationConfig,
) -> list[Leaks]:
    """s1's leaks of all texts, in the order of `sources` and of their texts. The texts kept of one
    source are test problems for the sources after it."""
    groups = [[item.text for item in source] for source in sources.values()]
    all_items = [*items, *(item for source in sources.values() for item in source)]
    ngrams = shared_ngrams_by_group(groups, [item.text for item in items], width=config.run_words)
    return [_to_leaks(shared, all_items) for group in ngrams for shared in group]


def find_leaks_in_chains(
    chains: Sequence[str],
    items: Sequence[EvaluationItem],
    config: ContaminationConfig,
    *,
    runner: str = "local",
) -> list[Leaks]:
    """The test problems that each chain of thought contains, always under preset strict."""
    find = functools.partial(StrictIndex.from_items(items, config).find_leaks, both_ways=False)
    return map_rows(find, chains, runner=runner)


def _to_leaks(shared: SharedNgram | None, items: Sequence[EvaluationItem]) -> Leaks:
    """A leak of the test problem with the first n-gram, and one of each other set's first problem
    that shares an n-gram."""
    if shared is None:
        return ()
    item_indices = {items[shared.text_index].benchmark: shared.text_index}
    for index in shared.text_indices:
        item_indices.setdefault(items[index].benchmark, index)
    return tuple(
        Leak(
            "run", items[index], 1.0, 0.0, 0.0, len(shared.ngram.split()),
            shared.ngram if index == shared.text_index else "",
        )
        for index in item_indices.values()
    )  # fmt: skip
