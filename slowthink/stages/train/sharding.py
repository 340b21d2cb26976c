"""FSDP2: each process holds a share of every weight, its gradient and its optimiser state.

A layer's weights are gathered when it is computed, and dropped after it. The shares are in fp32 and
so are their own masters; they are gathered in bf16 where the machine has it. accelerate shards on
GPUs only, so PyTorch's `fully_shard` is called here, on every device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard

from slowthink.stages.train.layers import decoder_layers
from slowthink.stages.train.precision import Precision
from slowthink.stages.train.processes import rank, world_size


def load_sharded(
    load: Callable[[], Any], outline: Callable[[], Any], precision: Precision, *, offload: bool
) -> Any:
    """The model in shares. The first process loads it into its machine's memory, and sends it.

    `outline` makes the same model without weights (on the meta device).
    """
    whole = load() if rank() == 0 else None
    with torch.device("meta"):
        model = outline()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _shard(model, device, precision, offload=offload)
    model.to_empty(device="cpu" if offload else device)
    model.tie_weights()
    for name, buffer in list(model.named_buffers()):
        _set_buffer(model, name, _receive(whole and whole.get_buffer(name), buffer, device))
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(model, whole.state_dict() if whole else {}, options=options)
    model._is_accelerate_prepared = True  # accelerate would wrap it for plain data parallelism
    return model


def gather_weights(model: Any) -> dict[str, Any]:
    """All weights, whole, in fp32 in the first process's memory; empty in the others."""
    weights = {}
    for name, share in model.state_dict().items():
        whole = share.full_tensor() if hasattr(share, "full_tensor") else share
        if rank() == 0:
            weights[name] = whole.cpu()
    return weights


def _shard(model: Any, device: torch.device, precision: Precision, *, offload: bool) -> None:
    settings: dict[str, Any] = {"mesh": init_device_mesh(device.type, (world_size(),))}
    if precision.gathered is not None:
        settings["mp_policy"] = MixedPrecisionPolicy(
            param_dtype=precision.gathered, reduce_dtype=torch.float32
        )
    if offload:
        settings["offload_policy"] = CPUOffloadPolicy()
    for layer in decoder_layers(model):
        fully_shard(layer, **settings)
    fully_shard(model, **settings)


def _receive(whole: Any, empty: Any, device: torch.device) -> Any:
    """A tensor of the first process, in all."""
    tensor = torch.empty_like(empty, device=device) if whole is None else whole.to(device)
    dist.broadcast(tensor, src=0)
    return tensor


def _set_buffer(model: Any, name: str, tensor: Any) -> None:
    parent, _, leaf = name.rpartition(".")
    model.get_submodule(parent)._buffers[leaf] = tensor
