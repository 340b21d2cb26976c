"""Ranks and surprisals of the tokens of given texts under a language model, in one forward pass.

    model = RankModel(folder, EngineConfig(dtype="float32"))
    for sums in model.measure([(prompt_ids, completion_ids)]):
        ...  # {0: TokenSums(num_tokens=812, rank=4113, surprisal=1079.2)}

A token's rank is 1 plus the number of tokens with a higher logit, so ties share the best rank, as
in the code of arXiv 2601.14249 (UmeanNever/RankSurprisalRatio@2675c01:rsr_cal.py). Logits are
float32, whatever the type of the weights: in bfloat16, half of the neighbours in rank would tie.

The whole logits (B, T, V) of long texts would fill the memory many times over. So a block of tokens
is fed at once, as many as `_LOGIT_BYTES` has room for the logits of: texts of similar length side
by side, or the next piece of a longer one, with the keys and values of those before it.

Legend: B texts, T tokens, K tokens whose logits are needed, R rows of a tile, V vocabulary, D
hidden size.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slowthink.engines.models import from_folder
from slowthink.engines.transformers.packed_linear import pack
from slowthink.engines.transformers.session import (
    import_transformers,
    keep_freed_memory,
    pick_device,
)
from slowthink.recipe import EngineConfig
from slowthink.records import Cost

MAX_RANK = 100
"""Higher ranks count as this one (the paper's r)."""
_LOGIT_BYTES, _GPU_LOGIT_BYTES = 64 << 20, 2 << 30
"""Memory for the logits of a block, on a CPU and elsewhere."""
_TILE_BYTES, _GPU_TILE_BYTES = 8 << 20, 256 << 20
"""Memory for the logits that are reduced at once; a CPU's cache has room for them."""

Text = tuple[Sequence[int], Sequence[int]]
"""Token ids of a prompt, and of the completion whose tokens are measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenSums:
    """Sums over the tokens of a completion."""

    num_tokens: int = 0
    rank: int = 0
    """Of min(rank, MAX_RANK), from 1."""
    surprisal: float = 0.0
    """Of -log p, in nats."""

    def __add__(self, other: TokenSums) -> TokenSums:
        return TokenSums(
            num_tokens=self.num_tokens + other.num_tokens,
            rank=self.rank + other.rank,
            surprisal=self.surprisal + other.surprisal,
        )


class RankModel:
    """A loaded causal model."""

    def __init__(
        self, folder: Path, config: EngineConfig, *, block_tokens: int | None = None
    ) -> None:
        library = import_transformers()
        keep_freed_memory()
        model = from_folder(
            library.AutoModelForCausalLM, folder, trust_remote_code=config.trust_remote_code,
            dtype=getattr(torch, config.dtype),
        )  # fmt: skip
        self._model = model.to(pick_device(config.device)).eval()
        _use_float32_head(self._model)
        pack(self._model)
        self._block_tokens = block_tokens or _block_tokens(self._model)
        self.cost = Cost()

    def measure(
        self, texts: Sequence[Text], *, done: Container[int] = ()
    ) -> Iterator[dict[int, TokenSums]]:
        """The sums of each text by its index, as blocks are done: short texts first.

        Texts whose index is in `done` are not read. Blocks are made of all texts, so that those
        which are left after a kill have the same neighbours, and the same rounding.
        """
        for whole_block in self._blocks(texts):
            block = [index for index in whole_block if index not in done]
            if not block:
                continue
            self.cost += Cost(prefilled=sum(map(_num_fed, (texts[index] for index in block))))
            with torch.inference_mode():
                if len(block) == 1:
                    sums = [self._measure_pieces(*texts[block[0]])]
                else:
                    sums = self._measure_batch([texts[index] for index in block])
            yield dict(zip(block, sums, strict=True))

    def _blocks(self, texts: Sequence[Text]) -> Iterator[list[int]]:
        """Indices of texts that together, padded to the longest, fit in a block; or of one."""
        block: list[int] = []
        for index in sorted(range(len(texts)), key=lambda i: (_num_fed(texts[i]), texts[i])):
            if block and _num_fed(texts[index]) * (len(block) + 1) > self._block_tokens:
                yield block
                block = []
            block.append(index)
        if block:
            yield block

    def _measure_batch(self, batch: Sequence[Text]) -> list[TokenSums]:
        """Sums of a batch of texts, in one block."""
        T = max(map(_num_fed, batch))
        first = min(len(prompt) for prompt, _ in batch) - 1
        ids_BT, targets_BT = [], []
        for prompt, completion in batch:
            ids = [*prompt, *completion]
            num_padded = T - len(ids) + 1  # on the right, where no token of the text attends to it
            ids_BT.append(ids[:-1] + ids[-1:] * num_padded)
            targets_BT.append([-1] * (len(prompt) - 1) + list(completion) + [-1] * num_padded)
        logits_BKV = self._model(
            input_ids=self._tensor(ids_BT), use_cache=False, logits_to_keep=T - first
        ).logits
        return _reduce(logits_BKV, self._tensor(targets_BT)[:, first:])

    def _measure_pieces(self, prompt: Sequence[int], completion: Sequence[int]) -> TokenSums:
        """Sums of one text, block by block."""
        ids, cache, total = [*prompt, *completion], None, TokenSums()
        for start in range(0, len(ids) - 1, self._block_tokens):
            end = min(start + self._block_tokens, len(ids) - 1)
            first = max(start, min(len(prompt) - 1, end))
            out = self._model(
                input_ids=self._tensor([ids[start:end]]), past_key_values=cache, use_cache=True,
                logits_to_keep=max(1, end - first),
            )  # fmt: skip
            cache = out.past_key_values
            if first < end:
                total += _reduce(out.logits, self._tensor([ids[first + 1 : end + 1]]))[0]
        return total

    def _tensor(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        return torch.tensor(rows, device=self._model.device)


def _num_fed(text: Text) -> int:
    """Number of tokens that the model reads: all but the last one, which predicts nothing."""
    return len(text[0]) + len(text[1]) - 1


def _reduce(logits_BKV: torch.Tensor, targets_BK: torch.Tensor) -> list[TokenSums]:
    """The sums of each row over its targets; a target of -1 is none."""
    B, K, V = logits_BKV.shape
    logits = logits_BKV.reshape(B * K, V)
    ranks = torch.zeros(B * K, dtype=torch.long, device=logits.device)
    surprisals = torch.zeros(B * K, device=logits.device)
    targets = targets_BK.reshape(B * K)
    needed = (targets >= 0).nonzero()[:, 0]
    tile_bytes = _TILE_BYTES if logits.device.type == "cpu" else _GPU_TILE_BYTES
    for rows_R in torch.split(needed, max(1, tile_bytes // (4 * V))):
        tile_RV = logits[rows_R].float()
        target_R1 = tile_RV.gather(1, targets[rows_R, None])
        higher_R = (tile_RV > target_R1).sum(1)
        ranks[rows_R] = (higher_R + 1).clamp(max=MAX_RANK)
        surprisals[rows_R] = tile_RV.logsumexp(1) - target_R1[:, 0]
    sums = zip(
        (targets_BK >= 0).sum(1).tolist(), ranks.view(B, K).sum(1).tolist(),
        surprisals.view(B, K).cpu().double().sum(1).tolist(), strict=True,
    )  # fmt: skip
    return [TokenSums(num_tokens=n, rank=rank, surprisal=total) for n, rank, total in sums]


# --- the model ------------------------------------------------------------------------------------


class _Float32Head(torch.nn.Module):
    """The projection to the vocabulary, in float32."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(head.weight.detach().float(), requires_grad=False)
        bias = getattr(head, "bias", None)
        self.bias = None if bias is None else torch.nn.Parameter(bias.detach().float(), False)

    def forward(self, hidden_BKD: torch.Tensor) -> torch.Tensor:
        """(B, K, D) → (B, K, V)."""
        return torch.nn.functional.linear(hidden_BKD.float(), self.weight, self.bias)


def _use_float32_head(model: Any) -> None:
    """What the model's own code does to the logits after it (a soft cap, a scale) is then in
    float32 too."""
    head = model.get_output_embeddings()
    if head is not None and head.weight.dtype in (torch.bfloat16, torch.float16):
        model.set_output_embeddings(_Float32Head(head))


def _block_tokens(model: Any) -> int:
    limit = _LOGIT_BYTES if model.device.type == "cpu" else _GPU_LOGIT_BYTES
    return max(1, limit // (4 * int(model.config.get_text_config().vocab_size)))
