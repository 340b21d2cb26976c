"""Starts `tests.train.rank_script` in processes forked from one that has made its imports."""

from __future__ import annotations

import os
import socket
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any

IMPORTS = (
    "tests.train.rank_script", "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
)  # fmt: skip
TIMEOUT_SECONDS = 400


def start(settings: dict[str, Any], variables: dict[str, str], log: Path) -> None:
    """Train in this process with these variables set; stderr is written to the log."""
    from tests.train import rank_script

    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.environ.update(variables)
    rank_script.start(settings)


def run_forked(settings: dict[str, Any], number: int, log: Path) -> bool:
    """Train in so many processes; if one fails, the others are ended. True if all succeeded."""
    log.touch()
    server = get_context("forkserver")
    server.set_forkserver_preload(list(IMPORTS))
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    group |= {"WORLD_SIZE": str(number), "LOCAL_WORLD_SIZE": str(number)}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(number)]
    processes = [server.Process(target=start, args=(settings, group | r, log)) for r in ranks]
    for process in processes:
        process.start()
    while running := [process for process in processes if process.is_alive()]:
        ended = connection.wait([process.sentinel for process in running], TIMEOUT_SECONDS)
        if not ended or any(process.exitcode for process in processes):
            for process in running:
                process.terminate()
    return not any(process.exitcode for process in processes)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
