"""Starts the processes that train together on this machine, by torchrun's launcher, and waits.

    stage ── torchrun's agent ──> rank 0: trains, writes checkpoints, the model and the result
                              └─> rank 1 …: train

As soon as one ends with an error or is killed, the agent ends the others. Each also ends with the
stage (Linux).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slowthink import errors
from slowthink.environment import python_command
from slowthink.errors import EngineError, SlowthinkError
from slowthink.pipeline.contract import StageContext
from slowthink.stages.train.checkpoint import checkpoint_step, checkpoints

RESULT_FILE = "result.json"
"""What the first process hands over: the fields of `FineTuned` that are JSON."""
_KILLED = (-9, -11, -7, -6, -4)
"""Exit codes of processes that a signal ended which the agent does not send itself."""
_TOGETHER_SECONDS = 1


def launch(context: StageContext, num_processes: int) -> dict[str, Any]:
    """Run the stage's training in so many processes; what the first one hands over.

    Raises the SlowthinkError that one of them reports, EngineError if one was killed.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads_per_process(num_processes)))
    python, *arguments = python_command(
        "slowthink.stages.train.rank", str(context.root), json.dumps({"quiet": context.quiet})
    )
    with tempfile.TemporaryDirectory(prefix="slowthink-ranks-") as logs:
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=num_processes, max_restarts=0,
            rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="localhost",
            run_id=context.recipe.name, monitor_interval=0.1, shutdown_timeout=5,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )  # fmt: skip
        try:
            elastic_launch(config, python)(*arguments)
        except ChildFailedError as error:
            raise _rank_error(error.failures, num_processes, context) from None
        except SignalException:
            raise KeyboardInterrupt from None
    result: dict[str, Any] = json.loads((context.work_folder / RESULT_FILE).read_text("utf-8"))
    return result


def threads_per_process(num_processes: int) -> int:
    """Threads of each process, so that all have a core if possible."""
    return max(num_cores() // num_processes, 1)


def num_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _rank_error(
    failures: Mapping[int, Any], num_processes: int, context: StageContext
) -> SlowthinkError:
    """The error of the process that failed first. The others then miss it, and fail in turn."""
    rank = _first_failure(failures)
    data = failures[rank].error_file_data
    if _is_reported(failures[rank]):
        error: SlowthinkError = getattr(errors, data["kind"])(data["message"])
        return error
    if _is_killed(failures[rank]):
        signal = -failures[rank].exitcode
        return _killed_error(rank, signal, num_processes, context.work_folder)
    text = str(data.get("message") if isinstance(data, dict) else data)
    print(text, file=sys.stderr)
    return EngineError(
        f"train: process {rank} of {num_processes} failed: {text.strip().splitlines()[-1]:.300}; "
        f"expected it to finish. {_kept(context.work_folder)}"
    )


def _first_failure(failures: Mapping[int, Any]) -> int:
    """The process that failed first. Times are in whole seconds, and a killed process has that at
    which the agent saw it: among those that failed together, one that says what it met comes first,
    then a killed one, since losing another process seldom does either."""
    start = min(failure.timestamp for failure in failures.values())

    def order(rank: int) -> tuple[bool, bool, bool, int]:
        failure = failures[rank]
        is_later = failure.timestamp > start + _TOGETHER_SECONDS
        return is_later, not _is_reported(failure), not _is_killed(failure), failure.timestamp

    return min(failures, key=order)


def _is_reported(failure: Any) -> bool:
    """Whether the process wrote a SlowthinkError."""
    return isinstance(failure.error_file_data, dict) and bool(failure.error_file_data.get("kind"))


def _is_killed(failure: Any) -> bool:
    return failure.exitcode in _KILLED


def _killed_error(rank: int, signal: int, num_processes: int, work: Path) -> EngineError:
    return EngineError(
        f"train: process {rank} of {num_processes} was killed by signal {signal}, and the others "
        f"were ended; expected all to finish. {_kept(work)} Signal 9 often means that memory ran "
        "out; then lower train.micro_batch_size or --processes."
    )


def _kept(work: Path) -> str:
    complete = checkpoints(work)
    where = f"after step {checkpoint_step(complete[-1])}" if complete else "at its start"
    return f"Nothing finished is lost: the same command goes on {where}."
