"""Trains a tiny model in one or several processes; started by torchrun, or forked from a process
that has made these imports.

The first process writes what the tests compare into the work folder: `seen.json`, `weights.pt`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from slowthink.engines.models import load_tokenizer
from slowthink.recipe import TrainConfig
from slowthink.stages.train import loop
from slowthink.stages.train.masters import MasterAdamW
from slowthink.stages.train.precision import Precision
from slowthink.stages.train.processes import process_group, rank, world_size
from tests.train.conftest import make_examples


class Killed(Exception):
    """Raised to end training early."""


def seen_in(trainer) -> dict:
    """How the model and the optimiser were held when training ended."""
    weights = list(trainer.model.parameters())
    optimizer = trainer.optimizer.optimizer
    return {
        "wrapped": type(trainer.model_wrapped).__name__,
        "shares": all(isinstance(weight, DTensor) for weight in weights),
        "share_of_weights": sum(w.to_local().numel() for w in weights if isinstance(w, DTensor))
        / sum(weight.numel() for weight in weights),
        "masters": isinstance(optimizer, MasterAdamW)
        and all(master.dtype is torch.float32 for master in optimizer.masters),
        "weights": str(weights[0].dtype),
    }


def save_weights(model, folder: Path) -> None:
    """What the stage does after an epoch with `checkpoint: dev`: the model is cast in place."""
    folder.mkdir(parents=True)
    torch.save(model.state_dict(), folder / "weights.pt")
    model.to(torch.bfloat16)


def main(settings: dict) -> None:
    config, work = TrainConfig(**settings["config"]), Path(settings["work"])
    seen, make_trainer = {}, loop.make_trainer

    def progress(done: int, total: int) -> None:
        if done == settings.get("killed_at"):
            raise Killed
        if done == total:
            seen.update(seen_in(trainers[0]))

    trainers = []

    def remember(*args, **kwargs):
        trainers.append(make_trainer(*args, **kwargs))
        return trainers[0]

    loop.make_trainer = remember
    precision = Precision(weights=torch.float32, masters=True)
    if settings.get("bf16"):
        sharded = config.parallel == "fsdp2" and world_size() > 1
        dtype = torch.float32 if sharded else torch.bfloat16
        gathered = torch.bfloat16 if sharded else None
        precision = Precision(weights=dtype, masters=True, gathered=gathered)
    with process_group(config):
        source = Path(settings["source"])
        tuned = loop.fine_tune(
            source, load_tokenizer(str(source)), make_examples(), config,
            work=work, seed=3, progress=progress, precision=precision, save=save_weights,
        )  # fmt: skip
    if rank() == 0:
        log = [entry for entry in tuned.log if "loss" in entry]
        seen |= {"log": log, "resumed_at_step": tuned.resumed_at_step}
        (work / "seen.json").write_text(json.dumps(seen))
        torch.save(tuned.model.state_dict(), work / "weights.pt")


def start(settings: dict) -> None:
    """Train; the exit status is 9 if training was to be killed."""
    torch.set_num_threads(1)
    try:
        main(settings)
    except Killed:
        sys.exit(9)


if __name__ == "__main__":
    start(json.loads(sys.argv[1]))
