"""One step's draws as tensors: the drawn id, whether it declares an end, and what replaces it.

The same semantics as `engines.token_sampling` and `forcing.machine`, batched and without device
syncs: the host decides beforehand what replaces a declared end, and reads afterwards what was
drawn. A chosen id gets a logit that no other can reach, so any sampler takes it.

Legend: B batch rows, R rows of this call, V vocabulary, T trigger ids (padded by repeats).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from slowthink.engines.vllm.request_flow import NO_WATCH

CERTAIN = 1e9
"""The logit of a chosen id; finite, so that no temperature makes it NaN."""
_NEVER = float("-inf")
_FEW = 1024
"""Number of likeliest ids tried before the whole vocabulary is sorted."""
RULES = {"drawn": 0, "argmax": 1, "probability": 2}


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Rows to draw, all greedy or all sampled; tensors on the logits' device."""

    rows_R: torch.Tensor
    on_end_R: torch.Tensor
    """The id that replaces a declared end, or RUNNER_UP, or NO_WATCH."""
    banned_R: torch.Tensor
    triggers_RT: torch.Tensor
    distinct_RT: torch.Tensor
    """False where a trigger id repeats another."""
    rule_R: torch.Tensor
    end_probability_R: torch.Tensor
    sampling: Sampled | None = None
    """None: greedy."""
    needs_probability: bool = False
    """Some row ends by probability."""
    needs_redraw: bool = True
    """Some row may have to take an id other than the triggers."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Sampling of the rows, and the numbers in [0, 1) that decide their draws."""

    temperature_R: torch.Tensor
    top_p_R: torch.Tensor
    top_k_R: torch.Tensor
    min_p_R: torch.Tensor
    uniform_R: torch.Tensor
    again_R: torch.Tensor
    """Decides the draw after a refused end."""
    max_top_k: int
    """0: no row has a top-k."""
    has_top_p: bool
    has_min_p: bool


def force(logits_BV: torch.Tensor, rows_R: torch.Tensor, ids_R: torch.Tensor) -> None:
    """Make these ids certain, in place."""
    logits_BV.index_put_((rows_R, ids_R), logits_BV.new_tensor(CERTAIN))


def watch(
    logits_BV: torch.Tensor,
    rows_R: torch.Tensor,
    on_end_R: torch.Tensor,
    triggers_RT: torch.Tensor,
) -> torch.Tensor:
    """For greedy rows: give an id the triggers' place, so that it is output where an end would be.

    Edits T + 1 columns of each row only. Returns marks (R, 4): best trigger, 0, -1, and whether the
    id, if it is output, replaces an end.
    """
    rows_R1 = rows_R[:, None]
    ends_RT = logits_BV[rows_R1, triggers_RT]
    best_R, at_R = ends_RT.max(-1)
    own_R = logits_BV[rows_R, on_end_R]
    trigger_R = triggers_RT.gather(1, at_R[:, None])[:, 0]
    replaces_R = (best_R > own_R) | (triggers_RT == on_end_R[:, None]).any(-1)
    logits_BV.index_put_((rows_R1, triggers_RT), logits_BV.new_tensor(_NEVER))
    logits_BV.index_put_((rows_R, on_end_R), torch.maximum(best_R, own_R))
    zero_R = torch.zeros_like(trigger_R)
    return torch.stack([trigger_R, zero_R, zero_R - 1, replaces_R.long()], -1).double()


def decide(logits_BV: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Draw for these rows and make the resulting ids certain.

    Returns marks (R, 4): id drawn, P(any trigger), likeliest id, whether an end was declared.
    """
    logits_RV = logits_BV.index_select(0, draws.rows_R).float()
    argmax_R = logits_RV.argmax(-1)
    first_R, second_R, end_R = _candidates(logits_RV, argmax_R, draws)
    declared_R = _declared(draws, first_R, argmax_R, end_R)
    replacement_R = torch.where(draws.on_end_R >= 0, draws.on_end_R, second_R)
    force(logits_BV, draws.rows_R, torch.where(declared_R, replacement_R, first_R))
    columns = (first_R, end_R, argmax_R, declared_R)
    return torch.stack([column.double() for column in columns], -1)


def _candidates(
    logits_RV: torch.Tensor, argmax_R: torch.Tensor, draws: Draws
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The id drawn, the id drawn instead of a refused end, and P(any trigger)."""
    best_R, second_R, p_RV = argmax_R, argmax_R, None
    if draws.needs_redraw:
        second_R = best_R = logits_RV.scatter(1, draws.triggers_RT, _NEVER).argmax(-1)
    if draws.sampling is None:
        first_R = torch.where(draws.banned_R, best_R, argmax_R)
        p_RV = torch.softmax(logits_RV.double(), -1) if draws.needs_probability else None
    else:
        p_RV = distributions(logits_RV, draws.sampling)
        first_R = pick(p_RV, draws.sampling.uniform_R)
        if draws.needs_redraw:
            redrawn_R, second_R = _redraw(p_RV, best_R, draws, draws.sampling)
            first_R = torch.where(draws.banned_R, redrawn_R, first_R)
    if p_RV is None:
        return first_R, second_R, torch.zeros_like(first_R, dtype=torch.float64)
    ends_RT = p_RV.gather(1, draws.triggers_RT) * draws.distinct_RT
    return first_R, second_R, ends_RT.sum(-1)


def _redraw(
    p_RV: torch.Tensor, best_R: torch.Tensor, draws: Draws, sampling: Sampled
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws from P without the triggers: the first, and the one after a refusal."""
    kept_RV = p_RV.scatter(1, draws.triggers_RT, 0.0)
    none_R = kept_RV.sum(-1) == 0  # truncation left only ends
    first_R = torch.where(none_R, best_R, pick(kept_RV, sampling.uniform_R))
    return first_R, torch.where(none_R, best_R, pick(kept_RV, sampling.again_R))


def _declared(
    draws: Draws, first_R: torch.Tensor, argmax_R: torch.Tensor, end_R: torch.Tensor
) -> torch.Tensor:
    """Whether an end is declared: a trigger drawn, or by the row's rule."""
    drawn_R = (draws.triggers_RT == first_R[:, None]).any(-1)
    likely_R = (draws.triggers_RT == argmax_R[:, None]).any(-1) & (draws.rule_R == RULES["argmax"])
    probable_R = (end_R >= draws.end_probability_R) & (draws.rule_R == RULES["probability"])
    watched_R = (draws.on_end_R != NO_WATCH) & ~draws.banned_R
    return (drawn_R | likely_R | probable_R) & watched_R


def distributions(logits_RV: torch.Tensor, sampling: Sampled) -> torch.Tensor:
    """P of each row in float64: `drawing.distribution`, batched."""
    p_RV = torch.softmax(logits_RV.double() / sampling.temperature_R[:, None], -1)
    if sampling.has_min_p:
        least_R1 = sampling.min_p_R[:, None] * p_RV.amax(-1, keepdim=True)
        p_RV = p_RV.masked_fill(p_RV < least_R1, 0)
    if sampling.max_top_k:
        p_RV = _keep_top_k(p_RV, sampling)
    if sampling.has_top_p:
        p_RV = _keep_nucleus(p_RV, sampling.top_p_R)
    return p_RV / p_RV.sum(-1, keepdim=True)


def _keep_top_k(p_RV: torch.Tensor, sampling: Sampled) -> torch.Tensor:
    V = p_RV.shape[-1]
    top_RK = torch.topk(p_RV, min(sampling.max_top_k, V)).values
    place_R = (sampling.top_k_R - 1).clamp(0, top_RK.shape[-1] - 1)
    least_R = top_RK.gather(1, place_R[:, None])[:, 0]
    off_R = (sampling.top_k_R <= 0) | (sampling.top_k_R >= V)
    return p_RV.masked_fill((p_RV < least_R[:, None]) & ~off_R[:, None], 0)


def _keep_nucleus(p_RV: torch.Tensor, top_p_R: torch.Tensor) -> torch.Tensor:
    """Zero all but each row's smallest set of likeliest ids with top-p of the remaining mass.

    On a CPU, where reading a value needs no sync, most rows need no sort of the whole vocabulary.
    """
    V = p_RV.shape[-1]
    if p_RV.device.type != "cpu" or V <= _FEW:
        return _sorted_nucleus(p_RV, top_p_R)
    top_RK, ids_RK = torch.topk(p_RV, _FEW)
    outside_RK = _outside(top_RK, p_RV.sum(-1, keepdim=True), top_p_R)
    kept_RV = torch.zeros_like(p_RV).scatter_(1, ids_RK, top_RK.masked_fill(outside_RK, 0))
    wider_R = ~outside_RK[:, -1]
    if bool(wider_R.any()):
        kept_RV[wider_R] = _sorted_nucleus(p_RV[wider_R], top_p_R[wider_R])
    return kept_RV


def _sorted_nucleus(p_RV: torch.Tensor, top_p_R: torch.Tensor) -> torch.Tensor:
    sorted_RV, order_RV = p_RV.sort(dim=-1, descending=True, stable=True)
    outside_RV = _outside(sorted_RV, sorted_RV.sum(-1, keepdim=True), top_p_R)
    return p_RV.masked_fill(torch.zeros_like(outside_RV).scatter(1, order_RV, outside_RV), 0)


def _outside(
    sorted_RK: torch.Tensor, whole_R1: torch.Tensor, top_p_R: torch.Tensor
) -> torch.Tensor:
    """True where the likelier ids have top-p together; nowhere in a row without top-p."""
    before_RK = sorted_RK.cumsum(-1) / whole_R1 - sorted_RK / whole_R1
    return (before_RK >= top_p_R[:, None]) & (top_p_R < 1)[:, None]


def pick(p_RV: torch.Tensor, uniform_R: torch.Tensor) -> torch.Tensor:
    """The id at which each row's running sum, in order of id, passes its share of the whole."""
    sums_RV = p_RV.cumsum(-1)
    target_R1 = (uniform_R * sums_RV[:, -1])[:, None]
    index_R = torch.searchsorted(sums_RV, target_R1, right=True)[:, 0]
    V = p_RV.shape[-1]
    ids_V = torch.arange(V, device=p_RV.device)
    last_R = torch.where(p_RV > 0, ids_V, -1).amax(-1)  # if rounding led past the end
    inside_R = index_R.clamp(max=V - 1)
    ok_R = (index_R < V) & (p_RV.gather(1, inside_R[:, None])[:, 0] > 0)
    return torch.where(ok_R, inside_R, last_R)


# --- between host and device ----------------------------------------------------------------------


def send(values: Any, *, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Copy a list or array to the device; to a GPU from pinned memory, without waiting."""
    tensor = torch.as_tensor(values, dtype=dtype)
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


class HostCopy:
    """A small tensor being copied to the host."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._event: Any = None
        self._host = tensor
        if tensor.device.type != "cpu":
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._event = torch.Event(tensor.device.type)
            self._event.record()

    def values(self) -> Any:
        """The values as nested lists. Called a step later, when the copy is long complete."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.tolist()
