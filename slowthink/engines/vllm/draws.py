"""One step's tokens as tensors: the id sampled, whether it declares an end, and what replaces it.

The same semantics as `engines.token_sampling` and `forcing.machine`, batched and without device
syncs: the host decides beforehand what replaces a declared end, and reads afterwards what was
sampled. The chosen id gets a logit that no other can reach, so any sampler takes it.

Legend: B batch rows, R rows of this call, V vocabulary, T trigger ids (padded by repeats), N these
and one more.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch

from slowthink.engines.vllm.distributions import SamplingTensors, sample_ids, weights
from slowthink.engines.vllm.request_flow import NO_END

FORCED_LOGIT = 1e9
"""Logit of a chosen id; finite, so that no temperature makes it NaN."""
_NEVER = float("-inf")
END_RULES = {"drawn": 0, "argmax": 1, "probability": 2}


class LogitEdit(enum.IntEnum):
    """What a step does to a row's logits."""

    NONE = 0
    """Nothing: the engine takes the likeliest id."""
    REPLACE_END = 1
    """`edit_logits`: it takes the likeliest id, or the one that replaces an end."""
    FORCE = 2
    """`edit_logits`: it takes this id."""
    SELECT_GREEDY = 3
    """`select_tokens`: the id is chosen here, without randomness."""
    SELECT_SAMPLED = 4


NO_EDIT, REPLACE_END, FORCE, SELECT_GREEDY, SELECT_SAMPLED = LogitEdit
"""Its members: Python 3.11 calls a function for each `LogitEdit.NAME`."""


@dataclass(frozen=True)
class EditTensors:
    """The edits of all rows of a batch but those whose tokens are chosen here."""

    ids_BN: torch.Tensor
    """REPLACE_END: the id that replaces an end, then the triggers. FORCE: the id, repeated."""
    floor_B1: torch.Tensor | None = None
    """The least logit of the first id; None: -inf."""


@dataclass(frozen=True, kw_only=True)
class DecisionTensors:
    """Rows whose tokens are chosen here, all greedy or all sampled; on the logits' device."""

    rows_R: torch.Tensor
    on_end_R: torch.Tensor
    """The id that replaces a declared end, or RUNNER_UP, or NO_END."""
    banned_R: torch.Tensor
    triggers_RT: torch.Tensor
    distinct_RT: torch.Tensor
    """False for a trigger id that repeats another."""
    rule_R: torch.Tensor
    end_probability_R: torch.Tensor
    sampling: SamplingTensors | None = None
    """None: greedy."""
    needs_probability: bool = False
    """Whether some row ends thinking by probability."""
    needs_redraw: bool = True
    """Whether some row may have to take an id other than a trigger."""


def force(logits_BV: torch.Tensor, rows_R: torch.Tensor, ids_R: torch.Tensor) -> None:
    """Make these ids certain, in place."""
    logits_BV.index_put_((rows_R, ids_R), logits_BV.new_full((), FORCED_LOGIT))


def edit_logits(logits_BV: torch.Tensor, edits: EditTensors) -> torch.Tensor:
    """Give each row's first id the highest of its ids' logits, and the others -inf, in place.

    So of these ids a greedy engine takes the first, if it takes any: it replaces an end. Where all
    are the same nothing changes, unless a higher floor makes the id certain. Only these columns are
    read and written. Where an end is exactly as likely as another id, either is taken. Returns the
    ids' logits (B, N) before.
    """
    logits_BN = logits_BV.gather(1, edits.ids_BN)
    highest_B1 = logits_BN.amax(-1, keepdim=True)
    if edits.floor_B1 is not None:
        highest_B1 = torch.maximum(highest_B1, edits.floor_B1)
    logits_BV.scatter_(1, edits.ids_BN, _NEVER)
    logits_BV.scatter_(1, edits.ids_BN[:, :1], highest_B1)
    return logits_BN


def select_tokens(
    logits_BV: torch.Tensor, rows: DecisionTensors, uniforms_R2: torch.Tensor | None = None
) -> torch.Tensor:
    """Choose a token for each of these rows and make it certain.

    `uniforms_R2`: for sampled rows the numbers in [0, 1) that decide the token, and the token after
    a refused end.
    Returns decisions (R, 4): id sampled, P(any trigger), likeliest id, whether an end was declared.
    """
    logits_RV = logits_BV.index_select(0, rows.rows_R).float()
    argmax_R = logits_RV.argmax(-1)
    sampled_R, redrawn_R, p_end_R = _candidates(logits_RV, argmax_R, rows, uniforms_R2)
    declared_R = _declares_end(rows, sampled_R, argmax_R, p_end_R)
    replacement_R = torch.where(rows.on_end_R >= 0, rows.on_end_R, redrawn_R)
    force(logits_BV, rows.rows_R, torch.where(declared_R, replacement_R, sampled_R))
    columns = (sampled_R, p_end_R, argmax_R, declared_R)
    return torch.stack([column.double() for column in columns], -1)


def _candidates(
    logits_RV: torch.Tensor,
    argmax_R: torch.Tensor,
    rows: DecisionTensors,
    uniforms_R2: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The id sampled, the id sampled instead of a refused end, and P(any trigger)."""
    best_other_R = argmax_R
    if rows.needs_redraw:
        best_other_R = logits_RV.scatter(1, rows.triggers_RT, _NEVER).argmax(-1)
    if rows.sampling is not None and uniforms_R2 is not None:
        return _sampled_candidates(
            weights(logits_RV, rows.sampling), best_other_R, rows, uniforms_R2
        )
    sampled_R = torch.where(rows.banned_R, best_other_R, argmax_R)
    if not rows.needs_probability:
        return sampled_R, best_other_R, torch.zeros_like(sampled_R, dtype=torch.float64)
    p_RV = torch.softmax(logits_RV.double(), -1)
    return sampled_R, best_other_R, _trigger_sum(p_RV, rows)


def _sampled_candidates(
    weights_RV: torch.Tensor,
    best_other_R: torch.Tensor,
    rows: DecisionTensors,
    uniforms_R2: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    sampled_R = sample_ids(weights_RV, uniforms_R2[:, 0])
    p_end_R = _trigger_sum(weights_RV, rows) / weights_RV.sum(-1)
    if not rows.needs_redraw:
        return sampled_R, best_other_R, p_end_R
    weights_RV.scatter_(1, rows.triggers_RT, 0.0)
    is_empty_R = ~weights_RV.any(-1)  # truncation left only triggers
    other_R, redrawn_R = (
        torch.where(is_empty_R, best_other_R, sample_ids(weights_RV, uniforms_R2[:, column]))
        for column in (0, 1)
    )
    return torch.where(rows.banned_R, other_R, sampled_R), redrawn_R, p_end_R


def _trigger_sum(weights_RV: torch.Tensor, rows: DecisionTensors) -> torch.Tensor:
    return (weights_RV.gather(1, rows.triggers_RT) * rows.distinct_RT).sum(-1)


def _declares_end(
    rows: DecisionTensors, sampled_R: torch.Tensor, argmax_R: torch.Tensor, p_end_R: torch.Tensor
) -> torch.Tensor:
    """Whether an end is declared: a trigger was sampled, or the row's end rule declares it."""
    trigger_R = (rows.triggers_RT == sampled_R[:, None]).any(-1)
    argmax_is_trigger_R = (rows.triggers_RT == argmax_R[:, None]).any(-1)
    by_argmax_R = argmax_is_trigger_R & (rows.rule_R == END_RULES["argmax"])
    by_p_R = (p_end_R >= rows.end_probability_R) & (rows.rule_R == END_RULES["probability"])
    can_end_R = (rows.on_end_R != NO_END) & ~rows.banned_R
    return (trigger_R | by_argmax_R | by_p_R) & can_end_R


# --- between host and device ----------------------------------------------------------------------


def to_device(values: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """Copy an array to the device; to a GPU asynchronously, from pinned memory, which PyTorch keeps
    for the next copies. On a CPU memory is shared."""
    tensor = torch.from_numpy(values)
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


class HostCopy:
    """An asynchronous copy of a small tensor to the host."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._event: Any = None
        self._host = tensor
        self._values: npt.NDArray[Any] | None = None
        if tensor.device.type != "cpu":
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._event = torch.Event(tensor.device.type)
            self._event.record()

    def values(self) -> npt.NDArray[Any]:
        """The values. Called a step later, so the copy is complete by then."""
        if self._values is None:
            if self._event is not None:
                self._event.synchronize()
            self._values = self._host.numpy()
        return self._values
