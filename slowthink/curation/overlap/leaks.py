"""The leaks of many texts under a preset, here or on Ray: s1's runs of words, or the strict form.

find_leaks(["Compute 17 + 25 …"], items, ContaminationConfig(preset="s1"))  # [(Leak(…),)]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slowthink.curation.overlap.contamination import EvaluationItem, Leak, StrictIndex
from slowthink.curation.overlap.ngrams import RunIndex, SharedRun, survivors_in_order
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
    """For each text what it shares with the tested problems, nearest first; () for nothing."""
    if config.preset == "strict":
        return map_rows(StrictIndex.of(items, config).leaks, texts, runner=runner)
    index = RunIndex.of([item.text for item in items], width=config.run_words)
    found = map_rows(index.first_shared, texts, runner=runner)
    return [_of_run(shared, items) for shared in found]


def find_leaks_in_order(
    sources: Mapping[str, Sequence[EvaluationItem]],
    items: Sequence[EvaluationItem],
    config: ContaminationConfig,
) -> list[Leaks]:
    """s1's, source by source: what one keeps is tested on for the next; in the given order."""
    groups = [[one.text for one in source] for source in sources.values()]
    known = [*items, *(one for source in sources.values() for one in source)]
    found = survivors_in_order(groups, [item.text for item in items], width=config.run_words)
    return [_of_run(shared, known) for group in found for shared in group]


def find_in_chains(
    texts: Sequence[str],
    items: Sequence[EvaluationItem],
    config: ContaminationConfig,
    *,
    runner: str = "local",
) -> list[Leaks]:
    """For each chain of thought the tested problems that it holds (strict form, one direction)."""
    return map_rows(StrictIndex.of(items, config).held_by, texts, runner=runner)


def _of_run(shared: SharedRun | None, items: Sequence[EvaluationItem]) -> Leaks:
    """The first run's problem, then the first problem of each other set."""
    if shared is None:
        return ()
    first = {items[shared.text].benchmark: shared.text}
    for place in shared.places:
        first.setdefault(items[place].benchmark, place)
    return tuple(
        Leak(
            "run", items[place], 1.0, 0.0, 0.0, len(shared.run.split()),
            shared.run if place == shared.text else "",
        )
        for place in first.values()
    )  # fmt: skip
