"""Row-wise work, here or on Ray Data: the same functions, so the same decisions.

    map_rows(grade_batch, rows, runner="ray")

A function takes a batch of rows and gives one result a row, and depends on nothing else; so how
rows are cut into batches, where they run and in which order they finish cannot change a result.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from slowthink.errors import EngineError, missing_extra

T = TypeVar("T")
R = TypeVar("R")
B = TypeVar("B")

BATCH_ROWS = 2_000
"""Rows handed over at a time."""


def map_rows(
    function: Callable[[Sequence[T]], Sequence[R]],
    rows: Sequence[T],
    *,
    runner: str = "local",
    batch_rows: int | None = None,
) -> list[R]:
    """One result a row, in order.

    With `ray` the function and the rows must be picklable. Raises EngineError where the function
    gives another number of results than it was given rows, or Ray fails.
    """
    batches = batched(rows, batch_rows or BATCH_ROWS)
    done = map_batches(function, batches, runner=runner)
    for batch, results in zip(batches, done, strict=True):
        if len(batch) != len(results):
            raise EngineError(
                f"runner: {len(results)} results for a batch of {len(batch)} rows; expected one a "
                "row. This is a fault of slowthink; please report it."
            )
    return [result for results in done for result in results]


def batched(rows: Sequence[T], size: int) -> list[Sequence[T]]:
    """The rows in batches of so many."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def map_batches(
    function: Callable[[Sequence[T]], B], batches: Sequence[Sequence[T]], *, runner: str = "local"
) -> list[B]:
    """One result a batch, in order: for functions that give arrays. As `map_rows` otherwise."""
    return RUNNERS[runner](function, batches) if batches else []


def _here(function: Callable[[Sequence[T]], B], batches: Sequence[Sequence[T]]) -> list[B]:
    return [function(batch) for batch in batches]


def _on_ray(function: Callable[[Sequence[T]], B], batches: Sequence[Sequence[T]]) -> list[B]:
    """A block of one batch each, through `ray.data`, put in order again."""
    data = _ray_data()
    dataset = data.from_items(
        [{"place": place, "rows": _packed(batch)} for place, batch in enumerate(batches)],
        override_num_blocks=len(batches),
    )

    def call(row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"place": row["place"], "results": _packed(function(_unpacked(row["rows"])))}
        except Exception as error:  # ray's own account of it hides what it was
            return {"place": row["place"], "error": f"{type(error).__name__}: {error}"}

    try:
        found = dataset.map(call).take_all()
    except Exception as error:
        raise _failed(f"{type(error).__name__}: {error}"[:200], batches) from error
    for row in found:
        if row.get("error"):
            raise _failed(row["error"], batches)
    return [_unpacked(row["results"]) for row in sorted(found, key=lambda row: row["place"])]


def _failed(what: str, batches: Sequence[Sequence[T]]) -> EngineError:
    return EngineError(
        f"ray: a batch failed ({what}); expected results for all {len(batches)} batches. Nothing "
        "was recorded: mend it and give the same command again, or leave out --runner ray."
    )


def _ray_data() -> Any:
    """Ray Data, connected to the cluster that RAY_ADDRESS names, or to one of this machine."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise missing_extra("ray", extra="ray") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray.data


def _packed(rows: object) -> bytes:
    import pickle

    return pickle.dumps(rows, protocol=5)


def _unpacked(data: bytes) -> Any:
    import pickle

    return pickle.loads(data)


RUNNERS: dict[str, Callable[..., list[Any]]] = {"local": _here, "ray": _on_ray}
"""Where row-wise work runs, by the recipe's `runner`."""
