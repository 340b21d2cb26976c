"""Worker processes that compare what the rules cannot: math-verify on sympy, killed when too slow.

A worker is `python -m slowthink.grading.workers` and exchanges length-prefixed JSON over pipes: it
never imports the caller's main module, torch or transformers, and needs no signal handler. Example:
{"gold": "x^2", "pred": "x*x", "use_defaults": false} is answered by {"equal": true}.
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
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from slowthink.environment import python_command, python_environment
from slowthink.errors import GraderError

MEMORY_MB = 1024
"""Limit of one worker's address space."""
SPARE_AFTER_SHARE = 0.3
"""Share of the time limit after which a comparison looks stuck and a spare worker is started."""
MIN_CPU_SHARE = 0.7
"""A smaller share of CPU time in the time limit means that the machine is busy."""
EXTENSION_FACTOR = 1.15
"""Time limit of such a comparison, relative to the usual one."""
START_TIMEOUT_SECONDS = 60.0
"""Time limit for starting a worker; importing sympy takes about a second."""
_LENGTH_PREFIX = struct.Struct(">I")


@dataclass(frozen=True)
class WorkerResult:
    """Whether two answers are equal; None with the error that prevented a comparison."""

    equal: bool | None
    error: str = ""
    seconds: float = 0.0


class _Worker:
    """One worker process. It compares one pair at a time, the one at `pair_index` of the batch.

    A worker that looks stuck does not count among the busy ones, so that another may take over.
    """

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            python_command("slowthink.grading.workers"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=python_environment() | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        self.ready = False
        self.looks_stuck = False
        self.pair_index: int | None = None
        self.send_time = 0.0
        self.deadline = time.monotonic() + START_TIMEOUT_SECONDS
        self._cpu_seconds_before = 0.0
        self._buffer = b""

    @property
    def fd(self) -> int:
        """File descriptor of the worker's output."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def send(self, pair_index: int, message: dict[str, Any], *, timeout_seconds: float) -> None:
        """Send a pair to compare; its time limit starts now."""
        assert self.process.stdin is not None
        self.pair_index = pair_index
        self.send_time = time.monotonic()
        self.deadline = self.send_time + timeout_seconds
        self._cpu_seconds_before = _cpu_seconds(self.process.pid)
        _write_message(self.process.stdin, message)

    def extend_deadline(self, timeout_seconds: float) -> bool:
        """Extend the deadline once if the machine is busy. Returns whether it was extended."""
        cpu_seconds = _cpu_seconds(self.process.pid) - self._cpu_seconds_before
        is_machine_busy = cpu_seconds < timeout_seconds * MIN_CPU_SHARE
        extended = self.send_time + timeout_seconds * EXTENSION_FACTOR
        if not is_machine_busy or self.deadline >= extended:
            return False
        self.deadline = extended
        return True

    def receive(self) -> list[dict[str, Any]] | None:
        """Return the complete messages that have arrived; None if the process has ended."""
        data = os.read(self.fd, 65536)
        if not data:
            return None
        self._buffer += data
        messages = []
        while len(self._buffer) >= _LENGTH_PREFIX.size:
            end = _LENGTH_PREFIX.size + _LENGTH_PREFIX.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                break
            messages.append(json.loads(self._buffer[_LENGTH_PREFIX.size : end]))
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

    Each batch borrows a worker for one pair at a time, so that batches in other threads take turns;
    a pair that waits for a worker longer than `timeout_seconds` has an error as its result. With
    `use_defaults` they call math-verify with its default settings, to compare graders.
    """

    def __init__(
        self, *, num_workers: int = 1, timeout_seconds: float = 3.0, use_defaults: bool = False
    ) -> None:
        self.num_workers = max(1, num_workers)
        self.timeout_seconds = timeout_seconds
        self.use_defaults = use_defaults
        self._idle: list[_Worker] = []
        self._lent: list[_Worker] = []
        self._queue: deque[object] = deque()
        self.has_started = False
        self._changed = threading.Condition()

    @property
    def pids(self) -> list[int]:
        """Process ids of all workers."""
        with self._changed:
            return [worker.process.pid for worker in (*self._lent, *self._idle)]

    def compare_many(self, pairs: Sequence[tuple[str, str]]) -> list[WorkerResult]:
        """Return one result per (reference answer, prediction), in order."""
        return _PairBatch(self, pairs).compare() if pairs else []

    def close(self) -> None:
        """Kill all workers; a batch in another thread has errors as its results."""
        with self._changed:
            for worker in (*self._lent, *self._idle):
                worker.process.kill()
            for worker in self._idle:
                worker.kill()
            self._idle.clear()

    def borrow(self, *, wait: bool) -> _Worker | None:
        """Return an idle or new worker; None if none is free, with `wait` after the time limit.

        Those who wait are served in turn. While the first worker starts, the time limit does not
        run.
        """
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                deadline = time.monotonic() + self.timeout_seconds
                while not (self._queue[0] is ticket and self._has_free()):
                    if not self.has_started:
                        deadline = time.monotonic() + self.timeout_seconds
                    if not wait or time.monotonic() >= deadline:
                        return None
                    self._changed.wait(min(0.5, max(0.0, deadline - time.monotonic())))
                worker = self._idle.pop() if self._idle else _Worker()
                self._lent.append(worker)
                return worker
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def _has_free(self) -> bool:
        num_running = sum(not worker.looks_stuck for worker in self._lent)
        return num_running < self.num_workers and len(self._lent) < 2 * self.num_workers

    def give_back(self, worker: _Worker) -> None:
        """Take back a worker that is alive and has no pair."""
        with self._changed:
            self._lent.remove(worker)
            self.has_started |= worker.ready
            worker.looks_stuck = False
            if worker.process.poll() is not None or len(self._idle) > self.num_workers:
                worker.kill()
            else:
                self._idle.append(worker)
            self._changed.notify_all()

    def remove(self, worker: _Worker) -> None:
        """Kill a worker that is stuck or has died."""
        worker.kill()
        with self._changed:
            self._lent.remove(worker)
            self._changed.notify_all()

    def on_stuck(self, worker: _Worker) -> None:
        """Let another worker take the place of a stuck one, and start it before that is killed, so
        that its import of sympy costs no time."""
        with self._changed:
            worker.looks_stuck = True
            if not self._idle:
                self._idle.append(_Worker())
            self._changed.notify_all()


class _PairBatch:
    """The comparison of one batch: indices of the pairs not yet sent, and results so far."""

    def __init__(self, pool: WorkerPool, pairs: Sequence[tuple[str, str]]) -> None:
        self.pool, self.pairs = pool, pairs
        self.results: list[WorkerResult | None] = [None] * len(pairs)
        self.pending = deque(range(len(pairs)))
        self.workers: list[_Worker] = []
        self.num_failed_starts = 0

    def compare(self) -> list[WorkerResult]:
        """Return one result per pair, in order."""
        try:
            while any(result is None for result in self.results):
                self._borrow_workers()
                if self.workers:
                    self._wait_for_events()
        finally:
            for worker in list(self.workers):
                self._return(worker)
        return [result for result in self.results if result is not None]

    def _borrow_workers(self) -> None:
        """Borrow a worker per pending pair. Without any worker at all, wait for one."""
        while self.pending and sum(w.pair_index is None for w in self.workers) < len(self.pending):
            worker = self.pool.borrow(wait=not self.workers)
            if worker is None:
                break
            self.workers.append(worker)
        if not self.workers:
            seconds = self.pool.timeout_seconds
            error = f"worker: none was free for {seconds:g} s"
            self.results[self.pending.popleft()] = WorkerResult(None, error, seconds)
        for worker in list(self.workers):
            if worker.ready and worker.pair_index is None and self.pending:
                self._send_pair(self.pending.popleft(), worker)

    def _return(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        if worker.pair_index is None:
            self.pool.give_back(worker)
        else:
            self.pool.remove(worker)

    def _send_pair(self, pair_index: int, worker: _Worker) -> None:
        gold, pred = self.pairs[pair_index]
        try:
            message = {"gold": gold, "pred": pred, "use_defaults": self.pool.use_defaults}
            worker.send(pair_index, message, timeout_seconds=self.pool.timeout_seconds)
        except OSError:
            self._fail(worker, "died")

    def _wait_for_events(self) -> None:
        """Wait until a message arrives or a deadline passes, and handle it."""
        workers = list(self.workers)
        with selectors.DefaultSelector() as selector:
            for worker in workers:
                selector.register(worker.fd, selectors.EVENT_READ, worker)
            next_check = min(map(self._next_check_time, workers))
            events = selector.select(max(0.0, next_check - time.monotonic()))
        for key, _ in events:
            self._receive(key.data)
        now = time.monotonic()
        for worker in workers:
            if worker not in self.workers:
                continue
            if worker.deadline <= now:
                self._on_timeout(worker)
            elif not worker.looks_stuck and self._next_check_time(worker) <= now:
                self.pool.on_stuck(worker)

    def _next_check_time(self, worker: _Worker) -> float:
        """Return when to stop waiting: at the deadline, or when the comparison looks stuck."""
        if worker.pair_index is None or worker.looks_stuck:
            return worker.deadline
        return worker.send_time + self.pool.timeout_seconds * SPARE_AFTER_SHARE

    def _receive(self, worker: _Worker) -> None:
        messages = worker.receive()
        if messages is None:
            self._fail(worker, "died: out of memory or CPU time")
            return
        for message in messages:
            if not worker.ready:
                worker.ready, worker.deadline = True, float("inf")
                self.pool.has_started = True
            elif worker.pair_index is not None:
                self._record(worker, message["equal"], message.get("error", ""))
                worker.pair_index, worker.deadline = None, float("inf")
                self._return(worker)  # the next pair may be of another batch

    def _record(self, worker: _Worker, equal: bool | None, error: str) -> None:
        assert worker.pair_index is not None
        seconds = time.monotonic() - worker.send_time
        self.results[worker.pair_index] = WorkerResult(equal, error, seconds)

    def _on_timeout(self, worker: _Worker) -> None:
        timeout_seconds = self.pool.timeout_seconds
        if worker.pair_index is None or not worker.extend_deadline(timeout_seconds):
            self._fail(worker, f"killed after {timeout_seconds:g} s")

    def _fail(self, worker: _Worker, error: str) -> None:
        """Record the error as the result of the worker's pair, and replace the worker."""
        if worker.pair_index is not None:
            self._record(worker, None, f"worker {error}")
        if not worker.ready:
            self.num_failed_starts += 1
        self.workers.remove(worker)
        self.pool.remove(worker)
        if self.num_failed_starts >= 3:
            raise GraderError(
                "grading worker: three starts of `python -m slowthink.grading.workers` failed; "
                "expected a ready message. Run that command to see its error, and check "
                "`pip show math-verify sympy antlr4-python3-runtime`."
            )


# --- the worker process ---------------------------------------------------------------------------


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process; infinite if the system does not report it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return float("inf")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime


def _write_message(stream: BinaryIO | Any, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode()
    stream.write(_LENGTH_PREFIX.pack(len(data)) + data)
    stream.flush()


def _read_message(stream: BinaryIO) -> dict[str, Any] | None:
    prefix = stream.read(_LENGTH_PREFIX.size)
    if len(prefix) < _LENGTH_PREFIX.size:
        return None
    message: dict[str, Any] = json.loads(stream.read(_LENGTH_PREFIX.unpack(prefix)[0]))
    return message


def _limit_cpu(seconds: int) -> None:
    """Let the kernel kill this process if one comparison uses more: the parent may have ended."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


def _limit_memory() -> None:
    import resource

    limit = MEMORY_MB * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _compare(gold: str, pred: str) -> dict[str, Any]:
    """Return math-verify's result; None with the error if it raises or cannot parse a side."""
    from math_verify import parse, verify

    try:
        sides = [parse(f"${side}$", parsing_timeout=None) for side in (gold, pred)]
        if not all(sides):
            return {"equal": None, "error": "cannot parse"}
        return {"equal": bool(verify(*sides, timeout_seconds=None, allow_set_relation_comp=True))}
    except Exception as error:
        return {"equal": None, "error": f"{type(error).__name__}: {error}"[:300]}


def _compare_with_defaults(gold: str, pred: str) -> dict[str, Any]:
    """Return math-verify's result with its defaults: a text that it cannot parse is not equal."""
    from math_verify import parse, verify

    return {"equal": bool(verify(parse(gold), parse(pred)))}


def main() -> None:
    """Compare the pairs on standard input until it ends."""
    import logging

    logging.disable(logging.CRITICAL)
    _limit_memory()
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what math-verify prints must not reach the pipe
    _compare("x+1", "1+x")  # imports sympy before any time limit starts
    _write_message(replies, {"ready": True})
    while (message := _read_message(requests)) is not None:
        _limit_cpu(60)
        compare = _compare_with_defaults if message["use_defaults"] else _compare
        _write_message(replies, compare(message["gold"], message["pred"]))


if __name__ == "__main__":
    main()
