"""Rows and problems that a run is expected to have, estimated before anything runs."""

from __future__ import annotations

from slowthink.data.registry import expected_problems
from slowthink.data.rows import estimate_rows
from slowthink.recipe import CatalogueSource, FileSource, FileTraces, HubSource, PoolSource, Recipe
from slowthink.recipe.sources import SampledSource


def planned_rows(recipe: Recipe) -> dict[str, int]:
    """Expected rows of each pool source, by its key in the recipe; no source is loaded."""
    sources = recipe.pool.sources if recipe.pool else ()
    rows = {}
    for index, source in enumerate(sources):
        setting = f"pool.sources.{index}"
        rows[setting] = _expected_rows(source, setting)
    return rows


def planned_problems(recipe: Recipe) -> int:
    """Expected training problems of the pool, or of the filter's own input, at most."""
    if recipe.pool is None:
        path = recipe.filter.input if recipe.filter else None
        return estimate_rows(path, setting="filter.input") if path else 0
    return sum(max(0, num_rows - num_heldout) for num_rows, num_heldout in _pool_counts(recipe))


def planned_heldout(recipe: Recipe) -> int:
    """Expected held-out problems of the pool, or of the evaluation's own input, at most."""
    path = recipe.evaluate.input if recipe.evaluate else None
    if path:
        return estimate_rows(path, setting="evaluate.input")
    return sum(num_heldout for _, num_heldout in _pool_counts(recipe))


def planned_traces(recipe: Recipe) -> int:
    """Expected traces that the selection reads, at most; 0 if unknown."""
    if recipe.select and recipe.select.input:
        return estimate_rows(recipe.select.input, setting="select.input")
    return planned_problems(recipe) or sum(
        _file_rows(source.path, f"trace.sources.{index}", source.max_traces)
        for index, source in enumerate(recipe.trace.sources if recipe.trace else ())
        if isinstance(source, FileTraces)
    )


def _pool_counts(recipe: Recipe) -> list[tuple[int, int]]:
    """Number of rows of each pool source, and how many of them are held out."""
    sources = recipe.pool.sources if recipe.pool else ()
    counts = []
    for source, num_rows in zip(sources, planned_rows(recipe).values(), strict=True):
        all_held_out = isinstance(source, SampledSource) and source.split == "heldout"
        counts.append((num_rows, num_rows if all_held_out else source.num_heldout))
    return counts


def _expected_rows(source: PoolSource, setting: str) -> int:
    """Expected rows of one source; 0 for a Hub dataset without a limit, whose size is unknown."""
    if isinstance(source, FileSource):
        return _file_rows(source.path, setting, source.max_problems)
    if isinstance(source, HubSource):
        return source.max_problems or 0
    if isinstance(source, CatalogueSource):
        return expected_problems(source.name, source.max_problems)
    return source.num_problems + source.num_heldout


def _file_rows(path: str, setting: str, limit: int | None) -> int:
    num_rows = estimate_rows(path, setting=f"{setting}.path")
    return min(num_rows, limit or num_rows)
