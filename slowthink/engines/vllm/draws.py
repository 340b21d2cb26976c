"""One step's tokens as tensors: the id sampled, whether it declares an end, and what replaces it.

The same semantics as `engines.token_sampling` and `forcing.machine`, batched and without device
syncs: the host decides beforehand what replaces a declared end, and reads afterwards what was
sampled. The chosen id gets a logit that no other can reach, so any sampler takes it.

Legend: B batch rows, R rows of this call, V vocabulary, T trigger ids (padded by repeats).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from slowthink.engines.vllm.request_flow import NO_END

FORCED_LOGIT = 1e9
"""Logit of a chosen id; finite, so that no temperature makes it NaN."""
_NEVER = float("-inf")
_NUM_TOP_IDS = 1024
"""Number of likeliest ids searched for the nucleus before the whole vocabulary is sorted."""
END_RULES = {"drawn": 0, "argmax": 1, "probability": 2}


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


@dataclass(frozen=True, kw_only=True)
class SamplingTensors:
    """Sampling settings of the rows, and the numbers in [0, 1) that decide their tokens."""

    temperature_R: torch.Tensor
    top_p_R: torch.Tensor
    top_k_R: torch.Tensor
    min_p_R: torch.Tensor
    uniform_R: torch.Tensor
    redraw_uniform_R: torch.Tensor
    """Decides the token after a refused end."""
    max_top_k: int
    """0: no row has a top-k."""
    has_top_p: bool
    has_min_p: bool


def force(logits_BV: torch.Tensor, rows_R: torch.Tensor, ids_R: torch.Tensor) -> None:
    """Make these ids certain, in place."""
    logits_BV.index_put_((rows_R, ids_R), logits_BV.new_tensor(FORCED_LOGIT))


def replace_greedy_ends(
    logits_BV: torch.Tensor,
    rows_R: torch.Tensor,
    on_end_R: torch.Tensor,
    triggers_RT: torch.Tensor,
) -> torch.Tensor:
    """For greedy rows: give the best trigger's logit to the id that replaces it, if it is higher.

    Edits T + 1 columns of each row only. Returns decisions (R, 4): best trigger, 0, -1, and whether
    the id, if it is output, replaces an end.
    """
    rows_R1 = rows_R[:, None]
    trigger_logits_RT = logits_BV[rows_R1, triggers_RT]
    max_R, index_R = trigger_logits_RT.max(-1)
    on_end_logit_R = logits_BV[rows_R, on_end_R]
    trigger_R = triggers_RT.gather(1, index_R[:, None])[:, 0]
    replaces_R = (max_R > on_end_logit_R) | (triggers_RT == on_end_R[:, None]).any(-1)
    logits_BV.index_put_((rows_R1, triggers_RT), logits_BV.new_tensor(_NEVER))
    logits_BV.index_put_((rows_R, on_end_R), torch.maximum(max_R, on_end_logit_R))
    zero_R = torch.zeros_like(trigger_R)
    return torch.stack([trigger_R, zero_R, zero_R - 1, replaces_R.long()], -1).double()


def select_tokens(logits_BV: torch.Tensor, rows: DecisionTensors) -> torch.Tensor:
    """Choose a token for each of these rows and make it certain.

    Returns decisions (R, 4): id sampled, P(any trigger), likeliest id, whether an end was declared.
    """
    logits_RV = logits_BV.index_select(0, rows.rows_R).float()
    argmax_R = logits_RV.argmax(-1)
    sampled_R, redrawn_R, p_end_R = _candidates(logits_RV, argmax_R, rows)
    declared_R = _declares_end(rows, sampled_R, argmax_R, p_end_R)
    replacement_R = torch.where(rows.on_end_R >= 0, rows.on_end_R, redrawn_R)
    force(logits_BV, rows.rows_R, torch.where(declared_R, replacement_R, sampled_R))
    columns = (sampled_R, p_end_R, argmax_R, declared_R)
    return torch.stack([column.double() for column in columns], -1)


def _candidates(
    logits_RV: torch.Tensor, argmax_R: torch.Tensor, rows: DecisionTensors
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The id sampled, the id sampled instead of a refused end, and P(any trigger)."""
    best_other_R, redrawn_R, p_RV = argmax_R, argmax_R, None
    if rows.needs_redraw:
        redrawn_R = best_other_R = logits_RV.scatter(1, rows.triggers_RT, _NEVER).argmax(-1)
    if rows.sampling is None:
        sampled_R = torch.where(rows.banned_R, best_other_R, argmax_R)
        p_RV = torch.softmax(logits_RV.double(), -1) if rows.needs_probability else None
    else:
        p_RV = distributions(logits_RV, rows.sampling)
        sampled_R = sample_ids(p_RV, rows.sampling.uniform_R)
        if rows.needs_redraw:
            other_R, redrawn_R = _without_triggers(p_RV, best_other_R, rows, rows.sampling)
            sampled_R = torch.where(rows.banned_R, other_R, sampled_R)
    if p_RV is None:
        return sampled_R, redrawn_R, torch.zeros_like(sampled_R, dtype=torch.float64)
    trigger_p_RT = p_RV.gather(1, rows.triggers_RT) * rows.distinct_RT
    return sampled_R, redrawn_R, trigger_p_RT.sum(-1)


def _without_triggers(
    p_RV: torch.Tensor, best_other_R: torch.Tensor, rows: DecisionTensors, sampling: SamplingTensors
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids sampled from P without the triggers, by `uniform_R` and by `redraw_uniform_R`."""
    p_RV = p_RV.scatter(1, rows.triggers_RT, 0.0)
    empty_R = p_RV.sum(-1) == 0  # truncation left only triggers
    sampled_R = torch.where(empty_R, best_other_R, sample_ids(p_RV, sampling.uniform_R))
    redrawn_R = sample_ids(p_RV, sampling.redraw_uniform_R)
    return sampled_R, torch.where(empty_R, best_other_R, redrawn_R)


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


def distributions(logits_RV: torch.Tensor, sampling: SamplingTensors) -> torch.Tensor:
    """P of each row in float64: `token_sampling.distribution`, batched."""
    p_RV = torch.softmax(logits_RV.double() / sampling.temperature_R[:, None], -1)
    if sampling.has_min_p:
        min_R1 = sampling.min_p_R[:, None] * p_RV.amax(-1, keepdim=True)
        p_RV = p_RV.masked_fill(p_RV < min_R1, 0)
    if sampling.max_top_k:
        p_RV = _keep_top_k(p_RV, sampling)
    if sampling.has_top_p:
        p_RV = _keep_nucleus(p_RV, sampling.top_p_R)
    return p_RV / p_RV.sum(-1, keepdim=True)


def _keep_top_k(p_RV: torch.Tensor, sampling: SamplingTensors) -> torch.Tensor:
    V = p_RV.shape[-1]
    top_RK = torch.topk(p_RV, min(sampling.max_top_k, V)).values
    last_R = (sampling.top_k_R - 1).clamp(0, top_RK.shape[-1] - 1)
    min_R = top_RK.gather(1, last_R[:, None])[:, 0]
    off_R = (sampling.top_k_R <= 0) | (sampling.top_k_R >= V)
    return p_RV.masked_fill((p_RV < min_R[:, None]) & ~off_R[:, None], 0)


def _keep_nucleus(p_RV: torch.Tensor, top_p_R: torch.Tensor) -> torch.Tensor:
    """Zero all but each row's smallest set of likeliest ids with top-p of the remaining mass.

    On a CPU, reading a value needs no sync; so only rows that need it sort the whole vocabulary.
    """
    V = p_RV.shape[-1]
    if p_RV.device.type != "cpu" or V <= _NUM_TOP_IDS:
        return _sorted_nucleus(p_RV, top_p_R)
    top_RK, ids_RK = torch.topk(p_RV, _NUM_TOP_IDS)
    outside_RK = _outside(top_RK, p_RV.sum(-1, keepdim=True), top_p_R)
    kept_RV = torch.zeros_like(p_RV).scatter_(1, ids_RK, top_RK.masked_fill(outside_RK, 0))
    needs_sort_R = ~outside_RK[:, -1]
    if bool(needs_sort_R.any()):
        kept_RV[needs_sort_R] = _sorted_nucleus(p_RV[needs_sort_R], top_p_R[needs_sort_R])
    return kept_RV


def _sorted_nucleus(p_RV: torch.Tensor, top_p_R: torch.Tensor) -> torch.Tensor:
    sorted_RV, order_RV = p_RV.sort(dim=-1, descending=True, stable=True)
    outside_RV = _outside(sorted_RV, sorted_RV.sum(-1, keepdim=True), top_p_R)
    return p_RV.masked_fill(torch.zeros_like(outside_RV).scatter(1, order_RV, outside_RV), 0)


def _outside(
    sorted_RK: torch.Tensor, total_R1: torch.Tensor, top_p_R: torch.Tensor
) -> torch.Tensor:
    """True if the likelier ids have top-p together; never in a row without top-p."""
    before_RK = sorted_RK.cumsum(-1) / total_R1 - sorted_RK / total_R1
    return (before_RK >= top_p_R[:, None]) & (top_p_R < 1)[:, None]


def sample_ids(p_RV: torch.Tensor, uniform_R: torch.Tensor) -> torch.Tensor:
    """The id at which each row's cumulative sum, in order of id, exceeds `uniform` of the total."""
    sums_RV = p_RV.cumsum(-1)
    target_R1 = (uniform_R * sums_RV[:, -1])[:, None]
    index_R = torch.searchsorted(sums_RV, target_R1, right=True)[:, 0]
    V = p_RV.shape[-1]
    ids_V = torch.arange(V, device=p_RV.device)
    last_R = torch.where(p_RV > 0, ids_V, -1).amax(-1)  # if rounding led past the end
    id_R = index_R.clamp(max=V - 1)
    valid_R = (index_R < V) & (p_RV.gather(1, id_R[:, None])[:, 0] > 0)
    return torch.where(valid_R, id_R, last_R)


# --- between host and device ----------------------------------------------------------------------


def to_device(values: Any, *, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Copy a list or array to the device; to a GPU asynchronously, from pinned memory."""
    tensor = torch.as_tensor(values, dtype=dtype)
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


class HostCopy:
    """An asynchronous copy of a small tensor to the host."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._event: Any = None
        self._host = tensor
        if tensor.device.type != "cpu":
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._event = torch.Event(tensor.device.type)
            self._event.record()

    def values(self) -> Any:
        """The values as nested lists. Called a step later, so the copy is complete by then."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.tolist()
