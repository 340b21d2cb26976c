"""Killable processes for what the rules cannot decide: math-verify on sympy, warm and bounded.

A worker is `python -m slowthink.grading.workers`, spoken to over pipes in length-prefixed JSON; so
it never imports the caller's main module, torch or transformers, and needs no signal handler. One
exchange: {"gold": "x^2", "pred": "x*x", "defaults": false} -> {"equal": true}.
"""

from __future__ import annotations

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
"""Share of its time after which a task looks stuck and its worker's successor is started."""
STARVED = 0.7
"""A task that has had a smaller share of its time on the processor waits for a busy machine."""
PATIENCE = 1.15
"""How much longer such a task may take, in all."""
START_SECONDS = 60.0
"""A worker must be ready within this time; importing sympy takes about a second."""
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True)
class WorkerResult:
    """What a worker found: equal, not equal, or (None) no answer and why."""

    equal: bool | None
    error: str = ""
    seconds: float = 0.0


class _Worker:
    """One child process with at most one task in hand."""

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
        self._used = 0.0
        self._buffer = b""

    @property
    def fd(self) -> int:
        """The file descriptor that answers come from."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def send(self, task: int, message: dict[str, Any], *, seconds: float) -> None:
        """Give the worker its task; the clock starts here."""
        assert self.process.stdin is not None
        self.task = task
        self.sent = time.monotonic()
        self.deadline = self.sent + seconds
        self._used = _processor_seconds(self.process.pid)
        _write(self.process.stdin, message)

    def extend(self, seconds: float) -> bool:
        """Give a task on a busy machine its longer time, once; False where it has had enough."""
        used = _processor_seconds(self.process.pid) - self._used
        longer = self.sent + seconds * PATIENCE
        if not used < seconds * STARVED or self.deadline >= longer:
            return False
        self.deadline = longer
        return True

    def receive(self) -> list[dict[str, Any]] | None:
        """Whole messages that have come; None where the process has ended."""
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
        """End the process now; safe to call twice."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue


class WorkerPool:
    """A few workers, started when first needed, replaced when killed. Safe among threads.

    With `defaults` they answer as math-verify does when nothing is configured, to compare with.
    """

    def __init__(
        self, *, num_workers: int = 1, seconds: float = 3.0, defaults: bool = False
    ) -> None:
        self.num_workers = max(1, num_workers)
        self.seconds = seconds
        self.defaults = defaults
        self.num_killed = 0
        self._workers: list[_Worker] = []
        self._spare: _Worker | None = None
        self._lock = threading.Lock()

    def compare_many(self, pairs: Sequence[tuple[str, str]]) -> list[WorkerResult]:
        """One answer a (gold, answer) pair, in order; each within `seconds` of its turn."""
        if not pairs:
            return []
        with self._lock:
            return _Round(self, pairs).run()

    def close(self) -> None:
        """End all workers."""
        with self._lock:
            for worker in (*self._workers, *filter(None, [self._spare])):
                worker.kill()
            self._workers.clear()
            self._spare = None

    def pids(self) -> list[int]:
        """Process ids of the living workers."""
        return [worker.process.pid for worker in self._workers]

    def fill(self, wanted: int) -> list[_Worker]:
        """Start workers up to `wanted` (at most `num_workers`) without waiting for them."""
        while len(self._workers) < min(wanted, self.num_workers):
            self._workers.append(_Worker())
        return self._workers

    def drop(self, worker: _Worker) -> None:
        """Kill a worker; its successor takes its place."""
        self.num_killed += 1
        worker.kill()
        self._workers.remove(worker)
        self._workers.append(self._spare or _Worker())
        self._spare = None

    def prepare_spare(self) -> None:
        """Start a successor ahead of a kill, so that nobody waits for it to import sympy."""
        if self._spare is None:
            self._spare = _Worker()


class _Round:
    """One pass over a list of pairs; holds what is still to do and the answers so far."""

    def __init__(self, pool: WorkerPool, pairs: Sequence[tuple[str, str]]) -> None:
        self.pool, self.pairs = pool, pairs
        self.answers: list[WorkerResult | None] = [None] * len(pairs)
        self.waiting = list(range(len(pairs)))[::-1]
        self.num_failed_starts = 0

    def run(self) -> list[WorkerResult]:
        """Serve until every pair has its answer."""
        self.pool.fill(len(self.pairs))
        while any(answer is None for answer in self.answers):
            for worker in self.pool._workers:
                self._feed(worker)
            self._listen()
        return [answer for answer in self.answers if answer is not None]

    def _feed(self, worker: _Worker) -> None:
        if not (worker.ready and worker.task is None and self.waiting):
            return
        task = self.waiting.pop()
        gold, pred = self.pairs[task]
        try:
            message = {"gold": gold, "pred": pred, "defaults": self.pool.defaults}
            worker.send(task, message, seconds=self.pool.seconds)
        except OSError:
            self._lost(worker, "died")

    def _listen(self) -> None:
        """Wait for one report or one deadline."""
        busy = [w for w in self.pool._workers if w.task is not None or not w.ready]
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                selector.register(worker.fd, selectors.EVENT_READ, worker)
            events = selector.select(max(0.0, self._next_look(busy) - time.monotonic()))
        for key, _ in events:
            self._take(key.data)
        now = time.monotonic()
        if any(self._suspect_from(worker) <= now for worker in busy if worker.task is not None):
            self.pool.prepare_spare()
        for worker in busy:
            if worker in self.pool._workers and worker.deadline <= now:
                self._late(worker)

    def _next_look(self, busy: Sequence[_Worker]) -> float:
        """When to look again without a report: a deadline, or a task that begins to look stuck."""
        times = [worker.deadline for worker in busy]
        if self.pool._spare is None:
            times += [self._suspect_from(worker) for worker in busy if worker.task is not None]
        return min(times)

    def _suspect_from(self, worker: _Worker) -> float:
        return worker.sent + self.pool.seconds * SPARE_AFTER

    def _take(self, worker: _Worker) -> None:
        messages = worker.receive()
        if messages is None:
            self._lost(worker, "died: out of memory or CPU time")
            return
        for message in messages:
            if not worker.ready:
                worker.ready, worker.deadline = True, float("inf")
            elif worker.task is not None:
                seconds = time.monotonic() - worker.sent
                self.answers[worker.task] = WorkerResult(
                    message["equal"], message.get("error", ""), seconds
                )
                worker.task, worker.deadline = None, float("inf")

    def _late(self, worker: _Worker) -> None:
        if worker.task is not None and worker.extend(self.pool.seconds):
            return
        if worker.task is not None or not worker.ready:
            self._lost(worker, f"killed after {self.pool.seconds:g} s")

    def _lost(self, worker: _Worker, why: str) -> None:
        if worker.task is not None:
            self.answers[worker.task] = WorkerResult(
                None, f"worker {why}", time.monotonic() - worker.sent
            )
        if not worker.ready:
            self.num_failed_starts += 1
        if self.num_failed_starts >= 3:
            raise GraderError(
                "grading worker: three starts of `python -m slowthink.grading.workers` failed; "
                "expected a ready message. Run that command by hand to see its error, and check "
                "`pip show math-verify sympy antlr4-python3-runtime`."
            )
        self.pool.drop(worker)


# --- the child ------------------------------------------------------------------------------------


def _processor_seconds(pid: int) -> float:
    """Processor time that a process has used; infinite where the system does not say."""
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
    """Let the kernel end this process if one item uses more: the parent may be gone by then."""
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
    """math-verify's verdict; an exception is "not decided" and says which."""
    from math_verify import parse, verify

    try:
        sides = [parse(f"${side}$", parsing_timeout=None) for side in (gold, pred)]
        if not all(sides):
            return {"equal": None, "error": "cannot parse"}
        return {"equal": bool(verify(*sides, timeout_seconds=None, allow_set_relation_comp=True))}
    except Exception as error:
        return {"equal": None, "error": f"{type(error).__name__}: {error}"[:300]}


def _compare_by_defaults(gold: str, pred: str) -> dict[str, Any]:
    """What math-verify says by itself: a text that it cannot parse is not equal."""
    from math_verify import parse, verify

    return {"equal": bool(verify(parse(gold), parse(pred)))}


def main() -> None:
    """Serve until standard input ends."""
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
