"""`max_steps: auto`: the steps that fit into a time, at a speed that is measured."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from slowthink.engines import models
from slowthink.errors import SlowthinkError
from slowthink.pipeline.resolve import resolve, resolve_run
from slowthink.pipeline.run import run_recipe
from slowthink.recipe import TrainConfig
from slowthink.recipe.loading import load_recipe, parse_recipe
from slowthink.stages.train.schedule import num_steps
from slowthink.stages.train.speed import EXAMPLE_TOKENS, choose_max_steps, fitting_steps, measure

TRAIN = {"max_steps": "auto", "target_seconds": 100, "batch_size": 4, "epochs": 1}


@pytest.mark.parametrize(
    ("tokens_per_second", "num_examples", "expected"),
    [
        (44.0, 400, 10),  # a step of 440 tokens takes 10 s
        (440.0, 400, None),  # 100 steps take just the target
        (439.0, 400, 99),
        (1e6, 400, None),
        (0.1, 400, 1),
        (44.0, 0, 10),  # an unknown number of examples
    ],
)
def test_as_many_steps_as_fit(tokens_per_second, num_examples, expected) -> None:
    config = TrainConfig.model_validate(TRAIN)
    choice = fitting_steps(config, num_examples, tokens_per_second=tokens_per_second)
    assert choice.value == expected
    assert f"measured {tokens_per_second:.0f} tokens/s" in choice.reason


def test_the_chosen_steps_take_at_most_the_target() -> None:
    config = TrainConfig.model_validate({**TRAIN, "epochs": 3, "batch_size": 7})
    for speed in (10.0, 55.5, 200.0):
        chosen = fitting_steps(config, 300, tokens_per_second=speed).value
        seconds = [n * 7 * EXAMPLE_TOKENS / speed for n in (chosen, chosen + 1)]
        assert seconds[0] <= 100 < seconds[1]


def test_a_plan_measures_nothing(tmp_path) -> None:
    recipe = parse_recipe({"name": "x", "model": "no-such-model", "train": TRAIN})
    plan = resolve_run(recipe, tmp_path, measure=False)
    assert plan.recipe.train.max_steps == "auto"
    assert "train.max_steps" not in plan.choices
    assert num_steps(40, plan.recipe.train) == 10


def test_settings_that_cannot_run_are_refused_before_anything_is_measured(tmp_path, capsys) -> None:
    recipe = parse_recipe(
        {
            "name": "x", "model": "smollm2-135m", "train": TRAIN,
            "pool": {"sources": [{"kind": "file", "path": str(tmp_path / "absent.jsonl")}]},
        }
    )  # fmt: skip
    with pytest.raises(SlowthinkError, match=r"absent\.jsonl"):
        run_recipe(recipe, tmp_path / "run")
    assert "measuring" not in capsys.readouterr().err


def test_a_saved_number_of_steps_is_kept_and_nothing_is_measured() -> None:
    recipe = parse_recipe({"name": "x", "model": "no-such-model", "train": TRAIN})
    for steps in (7, None):
        saved = parse_recipe({"name": "x", "train": {**TRAIN, "max_steps": steps}})
        result = resolve(recipe, workload=lambda _: None, saved=saved)
        assert result.recipe.train.max_steps == steps
        assert "train.max_steps" not in result.choices


def test_the_quickstart_fits_its_machine() -> None:
    assert load_recipe("quickstart").train.max_steps == "auto"


@pytest.mark.parametrize(("on_gpu", "expected"), [(False, 2), (True, 16)])
def test_a_gpu_is_measured_with_as_many_examples_as_a_step_has(
    on_gpu, expected, monkeypatch
) -> None:
    """Launching its kernels takes as long for two short examples as for sixteen."""
    torch = pytest.importorskip("torch")
    sizes = []

    def fine_tune(source, tokenizer, examples, config, *, progress, **_):
        sizes.append((len(examples), config.batch_size))
        assert torch.distributed.is_initialized() is config.offload
        for step in range(4):
            progress(step, 3)
            sum(range(10_000))

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: on_gpu)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    loop = SimpleNamespace(fine_tune=fine_tune)
    monkeypatch.setitem(sys.modules, "slowthink.stages.train.loop", loop)
    monkeypatch.setattr(models, "resolve_model", lambda *_: None)
    monkeypatch.setattr(models, "load_tokenizer", lambda *_: None)
    assert measure(TrainConfig(batch_size=16), "model") > 0
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # for shares that are offloaded
    assert measure(TrainConfig(batch_size=16, parallel="fsdp2", offload=True), "model") > 0
    assert sizes == [(expected, expected)] * 2


def test_what_measures_is_none_of_several_processes(monkeypatch) -> None:
    """With a rank and no number of processes, accelerate would wait for the others on a GPU."""
    seen = {}

    def run(command, *, env, **_):
        seen.update(env)
        return SimpleNamespace(
            returncode=0, stdout="a library says: 1 GPU\ntokens per second: 12.5\n[rank0] bye"
        )

    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setattr(subprocess, "run", run)
    recipe = parse_recipe({"name": "x", "model": "not measured", "train": TRAIN})
    reason = choose_max_steps(recipe.train, recipe, num_examples=40).reason
    assert "25 tokens/s in 2 processes" in reason
    assert not {"RANK", "LOCAL_RANK", "WORLD_SIZE"} & seen.keys()


@pytest.mark.parametrize(
    ("processes", "started", "measured_in", "steps"),
    [(1, 1, 1, 10), (2, 1, 2, 10), (1, 4, 1, 40), (2, 4, 1, 40)],
)
def test_the_speed_is_that_of_all_processes(
    processes, started, measured_in, steps, monkeypatch
) -> None:
    """Those that torchrun started elsewhere are taken to be as fast as the one that measures."""
    commands = []

    def run(command, **_):
        commands.append(command)
        return SimpleNamespace(
            returncode=0, stdout="tokens per second: 44.0\n"
        )  # a step of 440 tokens in 10 s

    monkeypatch.setenv("WORLD_SIZE", str(started))
    monkeypatch.setattr(subprocess, "run", run)
    recipe = parse_recipe(
        {"name": "x", "model": f"{processes}/{started}", "train": TRAIN, "processes": processes}
    )
    choice = choose_max_steps(recipe.train, recipe, num_examples=400)
    assert choice.value == steps
    together = [argument for argument in commands[0] if "--nproc-per-node" in argument]
    assert together == ([f"--nproc-per-node={measured_in}"] if measured_in > 1 else [])
    number = max(measured_in, started)
    assert (f" in {number} processes" in choice.reason) is (number > 1)


def test_processes_share_the_cores_and_the_examples_of_a_step(monkeypatch) -> None:
    """Four processes with a thread each on two cores are as fast as two."""
    torch = pytest.importorskip("torch")
    from slowthink.stages.train import processes, speed

    sizes, speeds = [], {}
    clock = iter(range(100))
    monkeypatch.setattr(speed, "_now", lambda: float(next(clock)))
    monkeypatch.setattr(speed, "num_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(processes, "process_group", lambda config: contextlib.nullcontext())
    monkeypatch.setattr(models, "resolve_model", lambda *_: None)
    monkeypatch.setattr(models, "load_tokenizer", lambda *_: None)

    def fine_tune(source, tokenizer, examples, config, *, progress, **_):
        sizes.append(len(examples))
        for step in range(4):
            progress(step, 3)

    monkeypatch.setitem(
        sys.modules, "slowthink.stages.train.loop", SimpleNamespace(fine_tune=fine_tune)
    )
    for number in (1, 2, 4):
        monkeypatch.setenv("WORLD_SIZE", str(number))
        speeds[number] = measure(TrainConfig(batch_size=16), "model")
    assert sizes == [2, 4, 8]
    assert speeds == {1: 2 * EXAMPLE_TOKENS, 2: 4 * EXAMPLE_TOKENS, 4: 4 * EXAMPLE_TOKENS}


@pytest.mark.slow
def test_two_processes_train_together_while_their_speed_is_measured(tiny_model) -> None:
    config = {**TRAIN, "target_seconds": 1e9, "batch_size": 4}
    recipe = parse_recipe({"name": "x", "model": str(tiny_model), "train": config, "processes": 2})
    choice = choose_max_steps(recipe.train, recipe, num_examples=40)
    assert choice.value is None
    assert re.search(r"measured \d+ tokens/s in 2 processes: all 10 steps", choice.reason)
    absent = recipe.model_copy(update={"model": "/no/such/model"})
    reason = choose_max_steps(recipe.train, absent, num_examples=40).reason
    assert reason.startswith("the speed could not be measured (") and "/no/such/model" in reason


WAITING = """
import subprocess, sys
from slowthink.stages.train.speed import _together
child = "from slowthink.pipeline.stage_process import die_with_parent as d; d(); print('up', flush=True); import time; time.sleep(60)"
subprocess.run([*_together(2), sys.executable, "-c", child])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a Linux call")
def test_processes_that_measure_end_with_the_one_that_waits_for_them() -> None:
    """A pipe is at its end once all that hold it are gone: torchrun, and those that it started."""
    process = subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == [b"up\n"] * 2
    process.kill()
    killed = time.monotonic()
    assert process.stdout.read() == b""
    assert time.monotonic() - killed < 30
    process.wait()
    process.stdout.close()


@pytest.mark.slow
def test_a_speed_is_measured_by_training(smollm: str) -> None:
    config = TrainConfig.model_validate({**TRAIN, "batch_size": 1, "target_seconds": 1e9})
    assert 1 < measure(config, smollm) < 1e5


@pytest.mark.slow
def test_a_speed_that_cannot_be_measured_is_reported() -> None:
    recipe = parse_recipe({"name": "x", "model": "/no/such/model", "train": TRAIN})
    choice = choose_max_steps(recipe.train, recipe, num_examples=40)
    assert choice.value is None
    assert "could not be measured" in choice.reason and "/no/such/model" in choice.reason
