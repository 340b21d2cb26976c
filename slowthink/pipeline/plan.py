"""What the curation stages tell of themselves: steps of the funnel, counts and quantiles.

{"min": 26, "p25": 35, "p50": 59, "p75": 91, "max": 220, "mean": 68.1}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from slowthink.data.catalogue import expected_problems
from slowthink.data.rows import estimated_rows
from slowthink.pipeline.run_folder import Step
from slowthink.recipe import CatalogueSource, FileSource, FileTraces, HubSource, PoolSource, Recipe
from slowthink.recipe.sources import DrawnSource
from slowthink.records import Dropped


def step_of(name: str, num_in: int, dropped: Iterable[Dropped]) -> Step:
    """The funnel's step, from the rows that this step (by name) dropped."""
    reasons = counts(drop.reason for drop in dropped if drop.step == name)
    return Step(name=name, num_in=num_in, num_out=num_in - sum(reasons.values()), reasons=reasons)


def planned_rows(recipe: Recipe) -> dict[str, int]:
    """Rows that each source of the pool is expected to give, by its recipe key; nothing is read."""
    rows: dict[str, int] = {}
    for number, source in enumerate(recipe.pool.sources if recipe.pool else ()):
        setting = f"pool.sources.{number}"
        rows[setting] = _planned(source, setting)
    return rows


def _planned(source: PoolSource, setting: str) -> int:
    """Of a hub's set without a limit nothing is known: 0."""
    if isinstance(source, FileSource):
        found = estimated_rows(source.path, setting=f"{setting}.path")
        return min(found, source.max_problems or found)
    if isinstance(source, HubSource):
        return source.max_problems or 0
    if isinstance(source, CatalogueSource):
        return expected_problems(source.name, source.max_problems)
    return source.num_problems + source.num_heldout


def planned_problems(recipe: Recipe) -> int:
    """Training problems that the pool, or the filter's own input, is expected to give at most."""
    if recipe.pool is None:
        path = recipe.filter.input if recipe.filter else None
        return estimated_rows(path, setting="filter.input") if path else 0
    rows = planned_rows(recipe)
    for number, source in enumerate(recipe.pool.sources):
        held_out = isinstance(source, DrawnSource) and source.split == "heldout"
        key = f"pool.sources.{number}"
        rows[key] = 0 if held_out else max(0, rows[key] - source.num_heldout)
    return sum(rows.values())


def planned_traces(recipe: Recipe) -> int:
    """Traces that the selection is expected to be given at most; 0 where nothing tells."""
    if recipe.select and recipe.select.input:
        return estimated_rows(recipe.select.input, setting="select.input")
    if found := planned_problems(recipe):
        return found
    rows = 0
    for number, source in enumerate(recipe.trace.sources if recipe.trace else ()):
        if isinstance(source, FileTraces):
            found = estimated_rows(source.path, setting=f"trace.sources.{number}.path")
            rows += min(found, source.max_traces or found)
    return rows


def planned_heldout(recipe: Recipe) -> int:
    """Held-out problems that the pool, or the section's own input, is expected to give at most."""
    path = recipe.evaluate.input if recipe.evaluate else None
    if path:
        return estimated_rows(path, setting="evaluate.input")
    rows = planned_rows(recipe)
    total = 0
    for number, source in enumerate(recipe.pool.sources if recipe.pool else ()):
        whole = isinstance(source, DrawnSource) and source.split == "heldout"
        total += rows[f"pool.sources.{number}"] if whole else source.num_heldout
    return total


def counts(values: Iterable[str | None]) -> dict[str, int]:
    """How often each value occurs, most frequent first, ties by name; None counts as `unknown`."""
    found = Counter("unknown" if value is None else value for value in values)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Minimum, quartiles, maximum and mean; empty for no values."""
    if not values:
        return {}
    names = ("min", "p25", "p50", "p75", "max")
    points = np.percentile(np.asarray(values, dtype=float), [0, 25, 50, 75, 100])
    found = {name: round(float(point), 2) for name, point in zip(names, points, strict=True)}
    return found | {"mean": round(float(np.mean(values)), 2)}
