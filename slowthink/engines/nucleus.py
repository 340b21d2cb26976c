"""Top-p: the smallest set of likeliest ids that has a share of the weight; and searches in weights.

Legend: R rows, V vocabulary, K likeliest ids, B bins or the weights of a block, N weights.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_NUM_LIKELIEST = 1024
"""Number of ids that are sorted first on a CPU; few nuclei of text are larger."""
_BLOCK = 512
"""Weights that are summed at a time where an index is searched."""
_SMALL_VOCABULARY = 2**14
"""Up to it, bins for 16 bits would take longer than passes over the ids."""


def keep_nucleus(weights_RV: torch.Tensor, logits_RV: torch.Tensor, top_p_R: torch.Tensor) -> None:
    """Zero all but each row's smallest set of likeliest ids with top-p of the weight, in place; of
    equal logits at its edge, the lowest ids are in it.

    The weights are float64, the logits float32. On a GPU no value is read from the device.
    """
    top_p_R1 = top_p_R[:, None]
    if weights_RV.device.type != "cpu" or not _keep_among_likeliest(weights_RV, top_p_R1):
        _keep_by_radix(weights_RV, logits_RV, top_p_R1)


def _keep_among_likeliest(weights_RV: torch.Tensor, top_p_R1: torch.Tensor) -> bool:
    """`keep_nucleus` by sorting the likeliest ids; False, with nothing changed, if some nucleus may
    have more."""
    import torch

    V, is_off_R1 = weights_RV.shape[-1], top_p_R1 >= 1
    target_R1 = top_p_R1 * weights_RV.sum(-1, keepdim=True)
    target_R1 = target_R1.clamp_(min=torch.finfo(torch.float64).tiny).masked_fill_(is_off_R1, inf)
    sorted_RK = weights_RV.topk(min(_NUM_LIKELIEST, V)).values
    is_inside_RK = sorted_RK.cumsum(-1) - sorted_RK < target_R1
    if sorted_RK.shape[-1] < V and bool((is_inside_RK[:, -1:] & ~is_off_R1).any()):
        return False
    num_kept_R1 = is_inside_RK.sum(-1, keepdim=True)
    last_R1 = sorted_RK.gather(1, (num_kept_R1 - 1).clamp(min=0)).masked_fill_(is_off_R1, -1)
    num_equal_R1 = num_kept_R1 - (sorted_RK > last_R1).sum(-1, keepdim=True)
    is_equal_RV = weights_RV == last_R1
    is_left_out_RV = is_equal_RV & (is_equal_RV.cumsum(-1, dtype=torch.int32) > num_equal_R1)
    weights_RV.masked_fill_(is_left_out_RV.logical_or_(weights_RV < last_R1), 0)
    return True


def _keep_by_radix(
    weights_RV: torch.Tensor, logits_RV: torch.Tensor, top_p_R1: torch.Tensor
) -> None:
    """`keep_nucleus` by a radix select by weight: a group of bits after the other, from the
    highest, the logit is found at which the weight of all higher ones exceeds the target."""
    import torch

    shares_RV = _integer_shares(weights_RV)
    rest_R1 = (top_p_R1 * shares_RV.sum(-1, keepdim=True)).clamp_(min=0.5)
    keys_RV = _descending_keys(logits_RV)
    num_bits = 16 if logits_RV.shape[-1] > _SMALL_VOCABULARY else 8
    edge_R1 = torch.zeros_like(keys_RV[:, :1])
    for shift in range(32 - num_bits, -1, -num_bits):
        bins_RV = (keys_RV >> shift).bitwise_and_((1 << num_bits) - 1)
        share_RB = _sum_by_bin(shares_RV, bins_RV, num_bins=1 << num_bits)
        bin_R1, rest_R1 = locate(share_RB, rest_R1)
        share_R1 = share_RB.gather(1, bin_R1)
        edge_R1 = edge_R1 | (bin_R1 << shift)
        if shift:
            shares_RV.masked_fill_(bins_RV != bin_R1, 0)
        del bins_RV, share_RB  # each as large as the weights
    del shares_RV
    is_edge_RV = keys_RV == edge_R1
    num_kept_R1 = (rest_R1 / share_R1 * is_edge_RV.sum(-1, keepdim=True)).ceil_()
    last_R1, _ = locate(is_edge_RV.double(), num_kept_R1 - 0.5)
    ids_V = torch.arange(keys_RV.shape[-1], device=keys_RV.device)
    is_left_out_RV = is_edge_RV.logical_and_((ids_V > last_R1) | (num_kept_R1 < 1))
    is_left_out_RV.logical_or_(keys_RV > edge_R1).logical_and_(top_p_R1 < 1)
    weights_RV.masked_fill_(is_left_out_RV, 0)


def _integer_shares(weights_RV: torch.Tensor) -> torch.Tensor:
    """The weights times a power of two, rounded to integers of together about 2**52 a row: so their
    sums are exact, whatever the order, in which a GPU's additions to a bin are by chance."""
    import torch

    exponent_R1 = torch.frexp(weights_RV.sum(-1, keepdim=True)).exponent
    return torch.ldexp(weights_RV, 52 - exponent_R1).round_()


def _sum_by_bin(shares_RV: torch.Tensor, bins_RV: torch.Tensor, *, num_bins: int) -> torch.Tensor:
    """Total share (R, B) of the ids in each bin."""
    return shares_RV.new_zeros(len(shares_RV), num_bins).scatter_add_(1, bins_RV, shares_RV)


def _descending_keys(logits_RV: torch.Tensor) -> torch.Tensor:
    """For each float32 an integer from 0 to 2**32 - 1, of its bits; lower for higher logits."""
    import torch

    bits_RV = (logits_RV + 0.0).view(torch.int32)  # -0.0 becomes 0.0
    ascending_RV = bits_RV.bitwise_xor_((bits_RV >> 31).bitwise_and_(0x7FFFFFFF))
    return ascending_RV.long().neg_().add_(0x7FFFFFFF)


def locate(weights_RN: torch.Tensor, target_R1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first index (R, 1) at which each row's cumulative weight exceeds the target, or else the
    last that has a weight; and the target less the weight before the index."""
    import torch

    R, N = weights_RN.shape
    if N <= 2 * _BLOCK:
        sums_RN = weights_RN.cumsum(-1)
        last_R1 = (sums_RN < sums_RN[:, -1:]).sum(-1, keepdim=True)
        index_R1 = torch.minimum((sums_RN <= target_R1).sum(-1, keepdim=True), last_R1)
        before_R1 = torch.nn.functional.pad(sums_RN, (1, 0)).gather(1, index_R1)
        return index_R1, target_R1 - before_R1
    if N % _BLOCK:
        weights_RN = torch.nn.functional.pad(weights_RN, (0, -N % _BLOCK))
    blocks_RNB = weights_RN.view(R, -1, _BLOCK)
    block_R1, rest_R1 = locate(blocks_RNB.sum(-1), target_R1)
    block_RB = blocks_RNB.gather(1, block_R1[:, :, None].expand(R, 1, _BLOCK))[:, 0]
    index_R1, rest_R1 = locate(block_RB, rest_R1)
    return block_R1 * _BLOCK + index_R1, rest_R1
