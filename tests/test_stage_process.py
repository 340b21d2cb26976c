"""The processes of stages: what they share, how they end, and that none outlives its run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slowthink.errors import DataError, EngineError
from slowthink.pipeline.run_folder import locked, write_recipe
from slowthink.pipeline.stage_process import StageServer, shared_imports
from slowthink.recipe.loading import load_recipe, parse_recipe
from tests.needs import needs

STAGE = '''
"""Takes the place of the report in the server; the recipe's name says what it does."""
import os, signal, sys, time
from pathlib import Path
from slowthink.errors import DataError

STAGE_VERSION = 1
SERVER = os.getpid()

def run(context):
    name = context.recipe.name
    with open(context.root / "seen.txt", "a") as seen:
        print(name, os.getpid(), SERVER, repr(sys.stdin.read()), file=seen)
    print("noise on stdout")
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "refused":
        raise DataError("report: " + "no rows " * 20_000)
    if name == "stopped":
        time.sleep(60)
    raise ValueError(name)

sys.modules["slowthink.stages.report"] = sys.modules[__name__]
'''


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "stage_for_tests.py").write_text(STAGE)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    return tmp_path / "run"


@pytest.fixture
def server(root: Path) -> Iterator[StageServer]:
    with (
        locked(root) as lock_fd,
        StageServer(root, imports=["stage_for_tests"], lock_fd=lock_fd) as server,
    ):
        yield server


def run_named(server: StageServer, root: Path, name: str) -> None:
    write_recipe(parse_recipe({"name": name, "report": {}}), root)
    server.run("report")


def seen_by_stages(root: Path) -> list[list[str]]:
    return [line.split() for line in (root / "seen.txt").read_text().splitlines()]


def test_one_server_forks_every_stage_and_reports_how_each_ended(server, root, capfd) -> None:
    with pytest.raises(DataError, match="^report: no rows no rows"):
        run_named(server, root, "refused")
    with pytest.raises(EngineError, match=r"report: its process was killed by signal 9; .*memory"):
        run_named(server, root, "killed")
    with pytest.raises(EngineError, match="report: its process ended with exit code 1"):
        run_named(server, root, "broken")
    names, pids, servers, inputs = zip(*seen_by_stages(root), strict=True)
    assert names == ("refused", "killed", "broken")
    assert (len(set(pids)), len(set(servers))) == (3, 1)
    assert set(inputs) == {"''"}, "a stage read the server's commands"
    printed = capfd.readouterr()
    assert "noise" not in printed.out
    assert "ValueError: broken" in printed.err


RUN = """
import sys
from pathlib import Path
from slowthink.pipeline.run_folder import locked, write_recipe
from slowthink.pipeline.stage_process import StageServer
from slowthink.recipe.loading import parse_recipe
root = Path(sys.argv[1])
with locked(root) as fd, StageServer(root, imports=["stage_for_tests"], lock_fd=fd) as server:
    write_recipe(parse_recipe({"name": "stopped", "report": {}}), root)
    server.run("report")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_server_and_stage_end_with_the_run_and_free_its_lock(root: Path, number) -> None:
    run = subprocess.Popen([sys.executable, "-c", RUN, str(root)], stderr=subprocess.DEVNULL)
    wait_until(lambda: (root / "seen.txt").exists() and seen_by_stages(root))
    ((_, stage, server, _),) = seen_by_stages(root)
    assert is_alive(stage) and is_alive(server)
    run.send_signal(number)  # to the run alone: a terminal signals all of them
    run.wait()
    wait_until(lambda: not is_alive(stage) and not is_alive(server))
    with locked(root):
        pass


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: str) -> bool:
    """Whether a process runs; a zombie does not."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def test_only_what_the_stages_use_is_imported() -> None:
    recipe = load_recipe("quickstart", overrides=["engine.kind=transformers"])
    assert "transformers.modeling_utils" in shared_imports(recipe, ["filter"])
    servers = load_recipe("quickstart", overrides=["engine.kind=openai"])
    assert "transformers.modeling_utils" not in shared_imports(servers, ["filter", "trace"])
    assert "transformers.modeling_utils" in shared_imports(servers, ["train"])
    scripts = load_recipe("quickstart", overrides=["engine.kind=replay"])
    assert shared_imports(scripts, ["evaluate"]) == ("slowthink.stages.evaluate",)


FORK = """
import os, sys, torch
from slowthink.pipeline import stage_process
pid = os.fork()
if pid == 0:
    assert stage_process._fork_is_usable()
    assert sum(torch.ones(300, 300).matmul(torch.ones(300, 300))[0, :2].tolist()) == 600
    sys.exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="stages are forked on Linux alone")
def test_shared_imports_start_no_threads_that_a_fork_would_lose() -> None:
    modules = shared_imports(load_recipe("quickstart"), ["filter", "trace", "train", "evaluate"])
    code = "".join(f"import {module}\n" for module in modules) + FORK
    environ = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # numpy's threads survive a fork
    code = code.replace(
        "pid =", "assert len(os.listdir('/proc/self/task')) == 1, 'threads'\npid =", 1
    )
    subprocess.run([sys.executable, "-c", code], env=environ, check=True)


ON_A_GPU = """
import os, torch
from slowthink.environment import CudaDevice
from slowthink.pipeline import stage_process
from slowthink.recipe.loading import load_recipe

def start(*_):
    raise SystemExit("an import started CUDA")

os.environ[stage_process._NVML_CHECK] = "1"
torch.version.cuda, torch.cuda.is_available = "13.0", lambda: True
for name in ("_lazy_init", "current_device", "get_device_properties", "get_device_capability"):
    setattr(torch.cuda, name, start)
stage_process.cuda_devices = lambda: (CudaDevice("H100", (9, 0), 80.0),)
stages = ["filter", "trace", "train", "evaluate"]
for module in stage_process.shared_imports(load_recipe("quickstart"), stages):
    __import__(module)
"""


@pytest.mark.slow
@needs("torchao")
def test_shared_imports_do_not_start_cuda() -> None:
    """With torchao (QLoRA, 8-bit AdamW) those of models do: no stage could be forked then, and the
    server would hold memory of the GPU for as long as the run takes."""
    ended = subprocess.run([sys.executable, "-c", ON_A_GPU], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]


def test_a_process_ends_without_the_end_of_the_interpreter() -> None:
    """Output is flushed and exit handlers run; what is deleted only with the interpreter is not."""
    script = """if True:
        import atexit
        from slowthink.environment import end_process
        class Leak:
            def __del__(self):
                print("leaked")
        leak = Leak()
        atexit.register(print, "handled")
        print("printed", end=" ")
        end_process(3)
    """
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "printed handled\n", "")
