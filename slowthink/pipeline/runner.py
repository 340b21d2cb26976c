"""Process rows in batches, in this process or on Ray Data, with the same results.

    map_rows(grade_batch, rows, runner="ray")

A function receives a batch of rows and returns one result per row. Results may depend on nothing
else, so batch size, machine and order of execution cannot change them.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from slowthink.errors import EngineError, missing_extra

T = TypeVar("T")
R = TypeVar("R")
B = TypeVar("B")

BATCH_ROWS = 2_000
"""Maximum rows of a batch."""


def map_rows(
    function: Callable[[Sequence[T]], Sequence[R]],
    rows: Sequence[T],
    *,
    runner: str = "local",
    batch_rows: int | None = None,
) -> list[R]:
    """One result per row, in order.

    With `ray` the function and the rows must be picklable. Raises EngineError if the function
    returns another number of results than rows, or Ray fails.
    """
    batches = batched(rows, batch_rows or BATCH_ROWS)
    results = map_batches(function, batches, runner=runner)
    for batch, batch_results in zip(batches, results, strict=True):
        if len(batch) != len(batch_results):
            raise EngineError(
                f"runner: {len(batch_results)} results for a batch of {len(batch)} rows; expected "
                "one per row. This is a bug in slowthink; please report it."
            )
    return [result for batch_results in results for result in batch_results]


def batched(rows: Sequence[T], size: int) -> list[Sequence[T]]:
    """The rows in batches of this size; the last may be smaller."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def map_batches(
    function: Callable[[Sequence[T]], B], batches: Sequence[Sequence[T]], *, runner: str = "local"
) -> list[B]:
    """One result per batch, in order, e.g. for functions that return arrays."""
    return RUNNERS[runner](function, batches) if batches else []


def _run_locally(function: Callable[[Sequence[T]], B], batches: Sequence[Sequence[T]]) -> list[B]:
    return [function(batch) for batch in batches]


def _run_on_ray(function: Callable[[Sequence[T]], B], batches: Sequence[Sequence[T]]) -> list[B]:
    """One block per batch through `ray.data`; results are returned in the order of the batches."""
    dataset = _import_ray_data().from_items(
        [{"index": index, "rows": _pickled(batch)} for index, batch in enumerate(batches)],
        override_num_blocks=len(batches),
    )

    def process(row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"index": row["index"], "results": _pickled(function(pickle.loads(row["rows"])))}
        except Exception as error:  # Ray's own message hides the cause
            return {"index": row["index"], "error": f"{type(error).__name__}: {error}"}

    try:
        rows = dataset.map(process).take_all()
    except Exception as error:
        raise _batch_error(f"{type(error).__name__}: {error}"[:200], batches) from error
    for row in rows:
        if row.get("error"):
            raise _batch_error(row["error"], batches)
    return [pickle.loads(row["results"]) for row in sorted(rows, key=lambda row: row["index"])]


def _batch_error(cause: str, batches: Sequence[Sequence[T]]) -> EngineError:
    return EngineError(
        f"ray: a batch failed ({cause}); expected results for all {len(batches)} batches. No "
        "result was kept. Fix the cause and run the same command again, or leave out --runner ray."
    )


def _import_ray_data() -> Any:
    """`ray.data`, connected to the cluster at RAY_ADDRESS, or to one started on this machine."""
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


def _pickled(value: object) -> bytes:
    return pickle.dumps(value, protocol=5)


RUNNERS: dict[str, Callable[..., list[Any]]] = {"local": _run_locally, "ray": _run_on_ray}
"""Implementations of the recipe's `runner` setting."""
