"""Stages that load a model, each in a process of its own, forked from a server that runs nothing.

    slowthink run ── names of stages ──> server ── fork ──> stage: filter, then trace, then train …
                  <── how each ended ──        (one at a time)

The server imports torch and transformers once, which takes seconds, while `run` works on an earlier
stage. It executes no operation of theirs, so that at each fork there are no threads of OpenMP and
no CUDA context. A stage's memory, a GPU's too, is free when its process ends.

All of them end with `run`, also if it is killed: the server by its closed pipe, or by Linux; the
stage by the server, or by Linux. Each holds the run folder's lock as long as it lives.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from slowthink import errors
from slowthink.environment import (
    cuda_devices,
    end_process,
    hide_import_warnings,
    python_command,
    python_environment,
)
from slowthink.errors import EngineError, SlowthinkError
from slowthink.pipeline.contract import stage_module
from slowthink.pipeline.progress import ProgressReporter
from slowthink.pipeline.run_folder import execute, make_context
from slowthink.recipe import Recipe
from slowthink.recipe.loading import load_recipe

INTERRUPTED = 130
"""Exit code after Ctrl-C."""
GRACE_SECONDS = 0.5
"""How long an interrupted stage may take to end, before it is killed."""
POLL_SECONDS = 0.02
_NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
"""With this variable set to 1, `torch.cuda.is_available` does not initialise CUDA."""


def run_stage(recipe: Recipe, root: Path, stage: str, reporter: ProgressReporter) -> dict[str, Any]:
    """Run one stage in this process, even if it is done; returns its manifest."""
    module = stage_module(stage)
    context = make_context(
        recipe, root, stage, notify=reporter.notify, progress=reporter.progress,
        quiet=reporter.quiet,
    )  # fmt: skip
    return execute(context, module.run, version=module.STAGE_VERSION)


def shared_imports(recipe: Recipe, stages: Sequence[str]) -> tuple[str, ...]:
    """Modules that these stages need, to be imported once. Without `replay`, they need a tokenizer;
    training and the transformers engine also need the model's classes."""
    modules = [f"slowthink.stages.{stage}" for stage in stages]
    if recipe.engine.kind != "replay" or "train" in stages:
        modules += ["torch", "transformers.models.auto.tokenization_auto"]
    has_models = recipe.engine.kind == "transformers" or "train" in stages
    if has_models and not _models_start_cuda():
        modules += ["transformers.modeling_utils", "transformers.models.auto.modeling_auto"]
    return tuple(modules)


def _models_start_cuda() -> bool:
    """Whether importing transformers' models starts CUDA, with which nothing can be forked: it
    imports torchao, if that is installed, and torchao asks for the GPU's compute capability."""
    return importlib.util.find_spec("torchao") is not None and bool(cuda_devices())


# --- the side of `slowthink run` ------------------------------------------------------------------


class StageServer:
    """Starts the server when first needed, and asks it to run stages. A context manager."""

    def __init__(
        self, root: Path, *, imports: Sequence[str], lock_fd: int, quiet: bool = False
    ) -> None:
        self._root = root
        self._settings = {"root": str(root), "imports": imports, "quiet": quiet}
        self._lock_fd = lock_fd
        self._process: subprocess.Popen[str] | None = None
        self._is_running_stage = False

    def __enter__(self) -> StageServer:
        return self

    def __exit__(self, *error: object) -> None:
        """End the server; a stage that still runs is interrupted, and killed if it goes on."""
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            if not self._is_running_stage:
                self._process.terminate()  # it may still import
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._process.wait()
            self._process.stdout.close()

    def start(self) -> subprocess.Popen[str]:
        """Start the server, unless it runs: it imports while this process goes on."""
        if self._process is None:
            self._process = subprocess.Popen(
                python_command(__name__, "serve", json.dumps(self._settings)),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=(self._lock_fd,),
                env=python_environment(),
            )  # fmt: skip
        return self._process

    def run(self, stage: str) -> None:
        """Run a stage in a process of its own; its messages are printed on stderr.

        Raises the SlowthinkError that it reports, KeyboardInterrupt if it was interrupted, and
        EngineError if it ended in another way.
        """
        code, report = self._ask(stage)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            raise _stage_error(self._root, stage, report, code)

    def _ask(self, stage: str) -> tuple[int, str]:
        """The stage's exit code and report; those of the server if it ended instead."""
        process = self.start()
        assert process.stdin is not None and process.stdout is not None
        reply, self._is_running_stage = "", True
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(f"{stage}\n")
            process.stdin.flush()
            reply = process.stdout.readline()
        self._is_running_stage = False
        if not reply:
            return process.wait() or 1, ""
        result = json.loads(reply)
        return int(result["code"]), str(result["report"])


def _stage_error(root: Path, stage: str, report: str, code: int) -> SlowthinkError:
    """The error that the stage reported, or an EngineError if it ended without a report."""
    try:
        fields = json.loads(report)
        error: SlowthinkError = getattr(errors, fields["kind"])(fields["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        end = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return EngineError(
            f"{stage}: its process {end}; expected it to finish. Everything recorded in "
            f"{root / 'ledger.sqlite'} is kept: run the same command again. Signal 9 often means "
            "that memory ran out; then lower engine.batch_size or train.micro_batch_size."
        )
    return error


# --- the server, and the stages that it forks -----------------------------------------------------


def die_with_parent(parent: int | None = None) -> None:
    """Make Linux kill this process as soon as its parent ends; at once if `parent` has ended."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            set_parent_death_signal = 1
            ctypes.CDLL("libc.so.6").prctl(set_parent_death_signal, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _serve(settings: Mapping[str, Any]) -> int:
    """Fork a stage for each line on stdin, and print how it ended; returns the exit code, of this
    process or of the stage that this process has become."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # stages and `run` handle Ctrl-C
    replies = _take_stdout()
    if sys.platform == "linux":
        os.environ.setdefault(_NVML_CHECK, "1")
        for name in settings["imports"]:
            with contextlib.suppress(ImportError):  # the stage reports what is missing
                importlib.import_module(name)
    gc.freeze()  # so that collections in a stage do not copy the pages that it shares
    server = os.getpid()
    for stage in iter(sys.stdin.readline, ""):
        with tempfile.TemporaryFile("w+", encoding="utf-8") as report:
            pid = _fork()
            if pid == 0:
                die_with_parent(server)
                replies.close()
                return _become_stage(settings, stage.strip(), report)
            code = _wait(pid)
            report.seek(0)
            print(json.dumps({"code": code, "report": report.read()}), file=replies, flush=True)
    return 0


def _take_stdout() -> IO[str]:
    """The pipe on stdout, for replies alone; what libraries print there is discarded."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 1)
    return replies


def _fork() -> int:
    with warnings.catch_warnings():  # of threads: numpy's library has some, and handles forks
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _wait(pid: int) -> int:
    """The stage's exit code, negative for a signal. If `run` has ended, so does the stage."""
    deadline = float("inf")
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if deadline < float("inf"):
            time.sleep(POLL_SECONDS)
        elif select.select([sys.stdin], [], [], POLL_SECONDS)[0]:  # `run` has closed the pipe
            os.kill(pid, signal.SIGINT)
            deadline = time.monotonic() + GRACE_SECONDS
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)


def _become_stage(settings: Mapping[str, Any], stage: str, report: IO[str]) -> int:
    """Run the stage in this forked process, or in a new interpreter where a fork cannot be used."""
    with open(os.devnull) as null:
        os.dup2(null.fileno(), 0)
    os.environ.pop(_NVML_CHECK, None)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if _fork_is_usable():
        return _run_reporting(settings, stage, report)
    os.set_inheritable(report.fileno(), True)
    arguments = ["stage", json.dumps(settings), stage, str(report.fileno())]
    os.execve(sys.executable, python_command(__spec__.name, *arguments), python_environment())


def _fork_is_usable() -> bool:
    """Whether this forked process can go on: system libraries of macOS cannot, and CUDA cannot if
    an import has initialised it."""
    torch = sys.modules.get("torch")
    return sys.platform == "linux" and not (torch and torch.cuda._is_in_bad_fork())


def _run_reporting(settings: Mapping[str, Any], stage: str, report: IO[str]) -> int:
    """Run the stage; an error is written into `report` as JSON."""
    root = Path(settings["root"])
    try:
        with ProgressReporter(quiet=settings["quiet"]) as reporter:
            run_stage(load_recipe(str(root / "recipe.yaml")), root, stage, reporter)
    except SlowthinkError as error:
        json.dump({"kind": type(error).__name__, "message": str(error)}, report)
        report.flush()
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def main(arguments: Sequence[str]) -> int:
    """`serve SETTINGS` or `stage SETTINGS STAGE REPORT_FD`."""
    hide_import_warnings()
    settings = json.loads(arguments[1])
    if arguments[0] == "serve":
        return _serve(settings)
    with os.fdopen(int(arguments[3]), "w", encoding="utf-8") as report:
        return _run_reporting(settings, arguments[2], report)


if __name__ == "__main__":
    end_process(main(sys.argv[1:]))
