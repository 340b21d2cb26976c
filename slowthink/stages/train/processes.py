"""The processes that train together: their number, which one this is, and what each holds.

`launch` starts them on one machine; on several, torchrun or Slurm does. Either sets RANK,
WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, as PyTorch reads them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch._C._distributed_c10d import HashStore

from slowthink.errors import ConfigError
from slowthink.recipe import TrainConfig
from slowthink.stages.train.memory import Setup

TIMEOUT = timedelta(hours=2)
"""How long a process waits for another: also while the first writes the model."""


def world_size() -> int:
    """Number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number of this process, from 0, which alone writes tables and the model."""
    return int(os.environ.get("RANK", "0"))


def is_sharded(config: TrainConfig) -> bool:
    """True if each process holds a share of the weights (FSDP2)."""
    return this_setup(config).is_sharded


def this_setup(config: TrainConfig) -> Setup:
    """How the processes train: their number, and whether on GPUs."""
    return Setup(config=config, num_devices=world_size(), on_gpu=torch.cuda.is_available())


@contextmanager
def process_group(config: TrainConfig) -> Iterator[None]:
    """Join the others, by NCCL on GPUs and gloo on CPUs; nothing for one process alone.

    Raises ConfigError if the settings or this machine do not suit the number of processes.
    """
    _check_devices(config)
    if world_size() == 1 and not is_sharded(config):
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    store = HashStore() if world_size() == 1 else None
    torch.distributed.init_process_group(
        timeout=TIMEOUT, store=store, world_size=world_size(), rank=rank()
    )
    yield
    wait_for_others()  # not after an error, when the others may not answer
    torch.distributed.destroy_process_group()


def wait_for_others() -> None:
    """Wait until all processes are here."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def has_shares(model: Any) -> bool:
    """True if the model's weights are shares."""
    return any(hasattr(weight, "to_local") for weight in model.parameters())


def local(tensor: Any) -> Any:
    """This process's share of a tensor, in the same memory; a whole tensor itself."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _check_devices(config: TrainConfig) -> None:
    local, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if gpus and local > gpus:
        raise ConfigError(
            f"train: {local} processes, but this machine has {gpus} GPUs; expected a GPU for each. "
            f"Set --processes {gpus}"
        )
    if config.offload and not gpus:
        raise ConfigError(
            "train.offload: this machine has no GPU; expected one, whose memory it saves. "
            "Set train.offload=false"
        )
    if world_size() > 1 and config.optimizer == "adamw-8bit" and not is_sharded(config):
        raise ConfigError(
            f"train.optimizer: adamw-8bit in {world_size()} processes that each hold the whole "
            "model; expected one process, or fsdp2. Set train.parallel=fsdp2"
        )
