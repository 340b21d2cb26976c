"""Where the rows of a training set come from, and whether they may be published.

RowSource(name="numinamath", origin="AI-MO/NuminaMath-CoT/train", revision="9d8d…",
          licence="Apache-2.0", num_rows=412, entry=PublishedDataset(…))
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.data.registry import PublishedDataset, published_datasets
from slowthink.records import Problem, Split, Trace

LICENCE_OPTION = "Name the licence that you publish under, if the rows may have it: --license NAME"


@dataclass(frozen=True, kw_only=True)
class RowSource:
    """The rows that come from one dataset, or from one part of it."""

    name: str
    origin: str
    """Id of the dataset on the hub, with configuration and split if known; else the name."""
    revision: str | None
    licence: str | None
    """As the rows state it, else the registry. None: unknown."""
    num_rows: int
    entry: PublishedDataset | None
    """The dataset in the registry."""


@dataclass(frozen=True, kw_only=True)
class Permission:
    """Whether rows may be published."""

    licence: str | None
    """The licence to publish under, as the hub writes it. None: it must be named."""
    refusals: tuple[str, ...] = ()
    """Why they may not."""
    warnings: tuple[str, ...] = ()


def row_sources(traces: Iterable[Trace], settings: Mapping[str, Any]) -> list[RowSource]:
    """The sources of the chains' problems, those with most rows first."""
    counts = Counter(map(_source_key, (trace.problem for trace in traces)))
    listed = _listed_datasets(settings)
    sources = []
    for (name, origin, revision, licence), num_rows in counts.most_common():
        entry = listed.get(name) or _dataset_of_hub(origin)
        licence = licence or (entry.licence if entry else None)
        sources.append(
            RowSource(
                name=name, origin=origin, revision=revision, licence=licence, num_rows=num_rows,
                entry=entry,
            )
        )  # fmt: skip
    return sources


def _source_key(problem: Problem) -> tuple[str, str, str | None, str | None]:
    lineage = json.loads(problem.meta).get("lineage") or {}
    origin = str(lineage.get("origin") or problem.source)
    return problem.source, origin, lineage.get("revision"), problem.licence


def _listed_datasets(settings: Mapping[str, Any]) -> dict[str, PublishedDataset]:
    """The pool's catalogue sources in the registry, by their names."""
    known = _pools()
    names = {s["name"] for s in _pool_sources(settings) if s.get("kind") == "catalogue"}
    return {name: known[name] for name in names & known.keys()}


def _pool_sources(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list((settings.get("pool") or {}).get("sources") or [])


def _dataset_of_hub(origin: str) -> PublishedDataset | None:
    """The first dataset of the registry with this id on the hub."""
    return next((d for d in published_datasets().values() if d.hub_id == origin), None)


def check_sources(
    sources: Sequence[RowSource], settings: Mapping[str, Any], *, licence: str | None
) -> Permission:
    """Whether rows of these sources may be published, and under which licence.

    `licence`: the one that the user names. Licences are compared where they are Creative Commons;
    other terms, and those of a teacher's provider, are the user's to read.
    """
    chosen = licence.lower() if licence else _common_licence(sources)
    refusals, warnings = list(sources_of_tests(settings)), []
    for source in sources:
        if source.entry is not None and not source.entry.may_be_passed_on:
            refusals.append(
                f"{source.name}: {source.num_rows} rows of {source.entry.title}, whose publisher "
                "asks not to publish them again. Leave the source out, or select none of its rows."
            )
        if source.entry is not None and source.entry.caution:
            warnings.append(f"{source.name}: {source.entry.caution}")
        if source.entry is not None and source.entry.name in _benchmarks() & _pools().keys():
            warnings.append(f"{source.name}: {source.entry.title} is a benchmark, too.")
        if source.licence is None:
            unknown = f"{source.name}: the licence of {source.num_rows} rows is unknown"
            way_on = f"; published as {chosen}." if chosen else f". {LICENCE_OPTION}"
            warnings.append(unknown + way_on)
        elif chosen and (conflict := licence_conflict(source.licence, chosen)):
            refusals.append(f"{source.name}: {source.licence} {conflict}; published as {chosen}.")
    if chosen is None and all(source.licence for source in sources):
        warnings.append(f"The sources have several licences. {LICENCE_OPTION}")
    return Permission(licence=chosen, refusals=tuple(refusals), warnings=tuple(warnings))


def _common_licence(sources: Sequence[RowSource]) -> str | None:
    licences = {source.licence and source.licence.lower() for source in sources}
    return licences.pop() if len(licences) == 1 else None


def licence_conflict(licence: str, chosen: str) -> str | None:
    """Why rows under a Creative Commons licence cannot be published under another; None if not.

    >>> licence_conflict("CC-BY-NC-4.0", "mit")
    'forbids commercial use'
    >>> licence_conflict("CC-BY-4.0", "mit") is None
    True
    """
    terms, chosen_terms = licence.lower().split("-"), chosen.lower().split("-")
    if terms[0] != "cc":
        return None
    if "nd" in terms:
        return "forbids changed copies, and rows are changed here"
    if "nc" in terms and "nc" not in chosen_terms:
        return "forbids commercial use"
    if "sa" in terms and terms[:-1] != chosen_terms[:-1]:
        return "asks for the same licence"
    return None


# --- test sets ------------------------------------------------------------------------------------


def sources_of_tests(settings: Mapping[str, Any]) -> Iterator[str]:
    """A message for each source of the pool that is a benchmark's test set, and no paper's pool."""
    tests = [d for name, d in published_datasets("benchmark").items() if name not in _pools()]
    for index, source in enumerate(_pool_sources(settings)):
        if source.get("kind") != "hub" or source.get("split") == Split.HELDOUT.value:
            continue
        for dataset in tests:
            if _is_part_of(source, dataset):
                yield (
                    f"pool.sources.{index}: {dataset.hub_id} is the test set {dataset.title}; "
                    "expected problems to train on. Leave it out, or set `split: heldout`."
                )


def _benchmarks() -> frozenset[str]:
    return frozenset(published_datasets("benchmark"))


def _pools() -> Mapping[str, PublishedDataset]:
    return published_datasets("pool")


def _is_part_of(source: Mapping[str, Any], dataset: PublishedDataset) -> bool:
    config, split = source.get("hub_config"), source.get("hub_split") or "train"
    return source.get("hub_id") == dataset.hub_id and any(
        part.split == split and (config is None or part.config in (None, config))
        for part in dataset.parts
    )


def shared_with_tests(traces: Iterable[Trace], test_ids: frozenset[str]) -> list[str]:
    """A message if problems of the training set are held out, or were evaluated on."""
    shared = {
        trace.problem.id
        for trace in traces
        if trace.problem.split is Split.HELDOUT or trace.problem.id in test_ids
    }
    if not shared:
        return []
    return [
        f"{len(shared)} problems of the training set are test problems, e.g. {min(shared)}; "
        "expected none. Drop them (filter.contamination), and run again."
    ]
