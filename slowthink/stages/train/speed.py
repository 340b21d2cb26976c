"""Speed of training on this machine, measured by a few steps, and the steps that fit into a time.

choose_max_steps(TrainConfig(max_steps="auto", target_seconds=240), recipe)
Choice(61, "measured 112 tokens/s: all 135 steps would take about 530 s; the target is 240 s")
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

from slowthink.engines.auto import Choice
from slowthink.pipeline.stage_process import die_with_parent
from slowthink.recipe import Recipe, TrainConfig
from slowthink.stages.train.examples import TrainingExample
from slowthink.stages.train.launch import num_cores, threads_per_process
from slowthink.stages.train.schedule import num_steps

EXAMPLE_TOKENS = 110
"""Assumed length of an example before there is any; a third of it is the prompt."""
_TIMED_STEPS = 2
"""Steps that are timed, after one that is not."""
_MAX_EXAMPLES, _MAX_EXAMPLES_ON_GPU = 2, 16
"""Examples of such a step in each process. A GPU takes as long for a few as for many short ones."""
_TIMEOUT_SECONDS = 600
_SPEED, _PROBLEM = "tokens per second: ", "problem: "
"""Begin the line of a process that measured, or that could not; libraries print others."""
_PLACE = ("WORLD_SIZE", "RANK", "LOCAL_RANK")
"""Variables of a process among several, which the one that measures is not."""


def choose_max_steps(config: TrainConfig, recipe: Recipe, *, num_examples: int) -> Choice:
    """The steps that this machine trains in `target_seconds`; None if all fit.

    `num_examples` is the expected size of the training set, 0 if unknown. The speed is measured in
    the recipe's `processes`. Where torchrun or Slurm started several, perhaps on other machines, it
    is measured in one, and the others are taken to be as fast.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    number = recipe.processes if started == 1 else 1
    measured = _measure(config.model_dump_json(), recipe.model, recipe.revision, number)
    if isinstance(measured, str):
        return Choice(None, f"the speed could not be measured ({measured})")
    return fitting_steps(
        config, num_examples, tokens_per_second=measured * started,
        num_processes=number * started,
    )  # fmt: skip


def fitting_steps(
    config: TrainConfig, num_examples: int, *, tokens_per_second: float, num_processes: int = 1
) -> Choice:
    """The steps that fit into `target_seconds` at this speed of all processes; None if all do."""
    step_seconds = config.batch_size * EXAMPLE_TOKENS / tokens_per_second
    fitting = max(1, int(config.target_seconds / step_seconds))
    planned = num_steps(num_examples, config.model_copy(update={"max_steps": None}))
    reason = f"measured {tokens_per_second:.0f} tokens/s"
    reason += f" in {num_processes} processes" if num_processes > 1 else ""
    if planned:
        reason += f": all {planned} steps would take about {planned * step_seconds:.0f} s"
    reason += f"; the target is {config.target_seconds:.0f} s"
    return Choice(None if 0 < planned <= fitting else fitting, reason)


@cache
def _measure(settings: str, model: str, revision: str | None, num_processes: int) -> float | str:
    """Tokens per second of all processes together; what went wrong if they failed.

    They are not this one. Measured once here, so that a plan and its run agree.
    """
    script = f"from {__name__} import print_speed; print_speed()"
    command = [sys.executable, "-P", "-c", script, json.dumps([settings, model, revision])]
    environment = {key: value for key, value in os.environ.items() if key not in _PLACE}
    if num_processes > 1:
        command = [*_together(num_processes), *command]
        environment.setdefault("OMP_NUM_THREADS", str(threads_per_process(num_processes)))
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False,
            env=environment,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no step within {_TIMEOUT_SECONDS} s"
    lines = done.stdout.splitlines()
    problems, speeds = (
        [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
        for prefix in (_PROBLEM, _SPEED)
    )
    if done.returncode or not speeds:
        return (problems or done.stderr.strip().splitlines()[-1:] or ["no message"])[0]
    return float(speeds[0])


def _together(number: int) -> list[str]:
    """The command before another one by which torchrun, which ends with this process, starts that
    in so many processes."""
    module = die_with_parent.__module__
    script = f"from {module} import die_with_parent; die_with_parent(); "
    script += "from torch.distributed.run import main; main()"
    options = ["--standalone", "--local-addr=localhost", f"--nproc-per-node={number}"]
    return [sys.executable, "-P", "-c", script, *options, "--no-python"]


def measure(config: TrainConfig, model: str, revision: str | None = None) -> float:
    """Tokens per second of training steps on made-up examples, of all processes that train
    together: they share the examples of each step.

    On a CPU it is measured by the processor time of one thread, times the number of threads that
    have a core, so that other work on the machine at this moment does not count.
    """
    import torch

    from slowthink.engines.models import load_tokenizer, resolve_model
    from slowthink.stages.train.loop import fine_tune
    from slowthink.stages.train.processes import process_group, world_size

    on_gpu, num_threads = torch.accelerator.is_available(), 1.0
    if not on_gpu:
        num_threads = min(torch.get_num_threads(), num_cores() / world_size())
        torch.set_num_threads(1)
    largest = world_size() * (_MAX_EXAMPLES_ON_GPU if on_gpu else _MAX_EXAMPLES)
    size = min(config.batch_size, largest)
    steps = {"max_steps": 1 + _TIMED_STEPS, "epochs": 1 + _TIMED_STEPS, "batch_size": size}
    times: list[float] = []
    with tempfile.TemporaryDirectory(prefix="slowthink-speed-") as folder, process_group(config):
        fine_tune(
            resolve_model(model, revision), load_tokenizer(model, revision),
            [_example(index) for index in range(size)],
            config.model_copy(update={**steps, "save_every_steps": None}), work=Path(folder),
            seed=0, progress=lambda done, total: times.append(_now()),
        )  # fmt: skip
    seconds = times[-1] - times[-1 - _TIMED_STEPS]
    return num_threads * _TIMED_STEPS * size * EXAMPLE_TOKENS / seconds


def _now() -> float:
    """The time when all steps so far are done: processor time, unless the model is elsewhere."""
    import torch

    if not torch.accelerator.is_available():
        return time.process_time()
    torch.accelerator.synchronize()
    return time.monotonic()


def _example(index: int) -> TrainingExample:
    num_prompt = EXAMPLE_TOKENS // 3
    ids = tuple((index + position) % 100 for position in range(EXAMPLE_TOKENS))
    return TrainingExample(
        id=str(index), prompt_ids=ids[:num_prompt], completion_ids=ids[num_prompt:]
    )


def print_speed() -> None:
    """Measure what the first argument describes; the first process prints it. One that fails says
    why."""
    from slowthink.stages.train.processes import rank

    die_with_parent()
    settings, model, revision = json.loads(sys.argv[1])
    try:
        speed = measure(TrainConfig.model_validate_json(settings), model, revision)
    except Exception as error:  # which torchrun would report in a page
        print(f"{_PROBLEM}{type(error).__name__}: {error}".splitlines()[0], flush=True)
        raise
    if rank() == 0:
        print(f"{_SPEED}{speed}")
