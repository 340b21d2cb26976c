"""Worker processes that compare what the rules cannot: math-verify on sympy, killed when too slow.

A worker is `python -m slowthink.grading.workers` and talks length-prefixed JSON over pipes, so that
it never imports the caller's main module, torch or transformers and needs no signal handler.
Example: {"gold": "x^2", "pred": "x*x", "defaults": false} is answered by {"equal": true}.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from slowthink.errors import GraderError

MEMORY_MB = 1024
"""Address space of one worker."""
SPARE_AFTER = 0.3
"""Share of its time limit after which a task looks stuck and a spare worker is started."""
MIN_CPU_SHARE = 0.7
"""A task with a smaller share of CPU time in its time limit is slow because the machine is busy."""
EXTENDED_LIMIT = 1.15
"""Time limit of such a task, relative to the usual one."""
START_SECONDS = 60.0
"""Time limit for starting a worker; importing sympy takes about a second."""
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True)
class WorkerResult:
    """Equal, not equal, or None with the error that prevented a comparison."""

    equal: bool | None
    error: str = ""
    seconds: float = 0.0


class _Worker:
    """One worker process, with at most one task at a time."""

    def __init__(self) -> None:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "slowthink.grading.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        self.ready = False
        self.task: int | None = None
        self.sent = 0.0
        self.deadline = time.monotonic() + START_SECONDS
        self._cpu_seconds_before = 0.0
        self._buffer = b""

    @property
    def fd(self) -> int:
        """File descriptor of the worker's output."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def send(self, task: int, message: dict[str, Any], *, seconds: float) -> None:
        """Send a task; its time limit starts now."""
        assert self.process.stdin is not None
        self.task = task
        self.sent = time.monotonic()
        self.deadline = self.sent + seconds
        self._cpu_seconds_before = _cpu_seconds(self.process.pid)
        _write(self.process.stdin, message)

    def extend(self, seconds: float) -> bool:
        """Extend the deadline of a task on a busy machine, once. False if it is not extended."""
        cpu_seconds = _cpu_seconds(self.process.pid) - self._cpu_seconds_before
        deadline = self.sent + seconds * EXTENDED_LIMIT
        if not cpu_seconds < seconds * MIN_CPU_SHARE or self.deadline >= deadline:
            return False
        self.deadline = deadline
        return True

    def receive(self) -> list[dict[str, Any]] | None:
        """Return the complete messages that have arrived; None if the process has ended."""
        data = os.read(self.fd, 65536)
        if not data:
            return None
        self._buffer += data
        messages = []
        while len(self._buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                break
            messages.append(json.loads(self._buffer[_LENGTH.size : end]))
            self._buffer = self._buffer[end:]
        return messages

    def kill(self) -> None:
        """Kill the process. May be called twice."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()


class WorkerPool:
    """Workers that are started when first needed and replaced when killed. Thread-safe.

    With `defaults` they call math-verify with its defaults, to compare it with the grader.
    """

    def __init__(
        self, *, num_workers: int = 1, seconds: float = 3.0, defaults: bool = False
    ) -> None:
        self.num_workers = max(1, num_workers)
        self.seconds = seconds
        self.defaults = defaults
        self._workers: list[_Worker] = []
        self._spare: _Worker | None = None
        self._lock = threading.Lock()

    def compare_many(self, pairs: Sequence[tuple[str, str]]) -> list[WorkerResult]:
        """Return one result per (reference, prediction) pair, in order; `seconds` is for each."""
        if not pairs:
            return []
        with self._lock:
            return _BatchRun(self, pairs).run()

    def close(self) -> None:
        """Kill all workers."""
        with self._lock:
            for worker in (*self._workers, *filter(None, [self._spare])):
                worker.kill()
            self._workers.clear()
            self._spare = None

    def pids(self) -> list[int]:
        """Return the process ids of the workers."""
        return [worker.process.pid for worker in self._workers]

    def start(self, number: int) -> None:
        """Start workers up to `number` (at most `num_workers`) without waiting for them."""
        while len(self._workers) < min(number, self.num_workers):
            self._workers.append(_Worker())

    def replace(self, worker: _Worker) -> None:
        """Kill a worker and put the spare, or a new one, in its place."""
        worker.kill()
        self._workers.remove(worker)
        self._workers.append(self._spare or _Worker())
        self._spare = None

    def start_spare(self) -> None:
        """Start a spare worker before one is killed, so that its import of sympy costs no time."""
        if self._spare is None:
            self._spare = _Worker()


class _BatchRun:
    """One pass over a batch of pairs: pending tasks and results so far."""

    def __init__(self, pool: WorkerPool, pairs: Sequence[tuple[str, str]]) -> None:
        self.pool, self.pairs = pool, pairs
        self.results: list[WorkerResult | None] = [None] * len(pairs)
        self.pending = list(range(len(pairs)))[::-1]
        self.num_failed_starts = 0

    def run(self) -> list[WorkerResult]:
        """Return the results when every pair has one."""
        self.pool.start(len(self.pairs))
        while any(result is None for result in self.results):
            for worker in self.pool._workers:
                if worker.ready and worker.task is None and self.pending:
                    self._send(self.pending.pop(), worker)
            self._wait()
        return [result for result in self.results if result is not None]

    def _send(self, task: int, worker: _Worker) -> None:
        gold, pred = self.pairs[task]
        try:
            message = {"gold": gold, "pred": pred, "defaults": self.pool.defaults}
            worker.send(task, message, seconds=self.pool.seconds)
        except OSError:
            self._fail(worker, "died")

    def _wait(self) -> None:
        """Wait for messages or a deadline, and handle both."""
        busy = [w for w in self.pool._workers if w.task is not None or not w.ready]
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                selector.register(worker.fd, selectors.EVENT_READ, worker)
            events = selector.select(max(0.0, self._next_check(busy) - time.monotonic()))
        for key, _ in events:
            self._receive(key.data)
        now = time.monotonic()
        if any(self._suspect_from(worker) <= now for worker in busy if worker.task is not None):
            self.pool.start_spare()
        for worker in busy:
            if worker in self.pool._workers and worker.deadline <= now:
                self._time_out(worker)

    def _next_check(self, busy: Sequence[_Worker]) -> float:
        """Return when to check without a message: at a deadline, or when a task looks stuck."""
        times = [worker.deadline for worker in busy]
        if self.pool._spare is None:
            times += [self._suspect_from(worker) for worker in busy if worker.task is not None]
        return min(times)

    def _suspect_from(self, worker: _Worker) -> float:
        return worker.sent + self.pool.seconds * SPARE_AFTER

    def _receive(self, worker: _Worker) -> None:
        messages = worker.receive()
        if messages is None:
            self._fail(worker, "died: out of memory or CPU time")
            return
        for message in messages:
            if not worker.ready:
                worker.ready, worker.deadline = True, float("inf")
            elif worker.task is not None:
                self._finish(worker, message["equal"], message.get("error", ""))
                worker.task, worker.deadline = None, float("inf")

    def _finish(self, worker: _Worker, equal: bool | None, error: str) -> None:
        assert worker.task is not None
        seconds = time.monotonic() - worker.sent
        self.results[worker.task] = WorkerResult(equal, error, seconds)

    def _time_out(self, worker: _Worker) -> None:
        if worker.task is not None and worker.extend(self.pool.seconds):
            return
        if worker.task is not None or not worker.ready:
            self._fail(worker, f"killed after {self.pool.seconds:g} s")

    def _fail(self, worker: _Worker, error: str) -> None:
        """Record the error as the result of the worker's task, and replace the worker."""
        if worker.task is not None:
            self._finish(worker, None, f"worker {error}")
        if not worker.ready:
            self.num_failed_starts += 1
        if self.num_failed_starts >= 3:
            raise GraderError(
                "grading worker: three starts of `python -m slowthink.grading.workers` failed; "
                "expected a ready message. Run that command to see its error, and check "
                "`pip show math-verify sympy antlr4-python3-runtime`."
            )
        self.pool.replace(worker)


# --- the worker process ---------------------------------------------------------------------------


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process; infinite where the system does not report it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return float("inf")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _write(stream: BinaryIO | Any, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode()
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _read(stream: BinaryIO) -> dict[str, Any] | None:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    message: dict[str, Any] = json.loads(stream.read(_LENGTH.unpack(head)[0]))
    return message


def _limit_cpu(seconds: int) -> None:
    """Let the kernel kill this process if one task uses more: the parent may have ended."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _limit_memory() -> None:
    import resource

    limit = MEMORY_MB * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _compare(gold: str, pred: str) -> dict[str, Any]:
    """Return math-verify's result; None with the error where it raises or cannot parse."""
    from math_verify import parse, verify

    try:
        sides = [parse(f"${side}$", parsing_timeout=None) for side in (gold, pred)]
        if not all(sides):
            return {"equal": None, "error": "cannot parse"}
        return {"equal": bool(verify(*sides, timeout_seconds=None, allow_set_relation_comp=True))}
    except Exception as error:
        return {"equal": None, "error": f"{type(error).__name__}: {error}"[:300]}


def _compare_by_defaults(gold: str, pred: str) -> dict[str, Any]:
    """Return math-verify's result with its defaults: a text that it cannot parse is not equal."""
    from math_verify import parse, verify

    return {"equal": bool(verify(parse(gold), parse(pred)))}


def main() -> None:
    """Compare the pairs on standard input until it ends."""
    import logging

    logging.disable(logging.CRITICAL)
    _limit_memory()
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _compare("x+1", "1+x")
    _write(sink, {"ready": True})
    while (message := _read(source)) is not None:
        _limit_cpu(60)
        compare = _compare_by_defaults if message.get("defaults") else _compare
        _write(sink, compare(message["gold"], message["pred"]))


if __name__ == "__main__":
    main()
