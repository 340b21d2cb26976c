"""Pack the examples of a micro-batch into a single row, without padding.

All that the host must know of a row (the lengths of its examples, the positions with loss) is
counted here, where the ids are still on the host: no layer and no loss asks the device for it.
Shapes: T tokens in the row, E examples, N tokens with loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from slowthink.stages.train.examples import TrainingExample

IGNORE_INDEX = -100
"""Label of a token without loss."""


def pack(micro_batches: Sequence[Sequence[TrainingExample]]) -> dict[str, Any]:
    """The model's inputs for one micro-batch. A data collator: the list contains exactly one.

    `input_ids`, `labels` and `position_ids` are (1, T), `cu_seq_lens_q` and `_k` (E + 1,), and
    `loss_positions` (N,): the tokens that predict one with a label. `lengths` are Python ints.
    An empty micro-batch (the last step of an epoch, with more devices than examples) becomes two
    tokens without loss, since every device needs a batch in every step.
    """
    import torch

    (examples,) = micro_batches
    rows = [_ids_and_labels(example) for example in examples] or [([0, 0], [IGNORE_INDEX] * 2)]
    labels = [label for _, labels in rows for label in labels]
    lengths = tuple(len(ids) for ids, _ in rows)
    bounds = torch.tensor(list(accumulate(lengths, initial=0)), dtype=torch.int32)
    return {
        "input_ids": torch.tensor([[token_id for ids, _ in rows for token_id in ids]]),
        "labels": torch.tensor([labels]),
        "loss_positions": torch.tensor(
            [i - 1 for i, label in enumerate(labels) if label != IGNORE_INDEX], dtype=torch.long
        ),
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        "lengths": lengths,
    }


def _ids_and_labels(example: TrainingExample) -> tuple[list[int], list[int]]:
    """Token ids, and labels for the completion. EOS has a label even if it is the padding token."""
    ids = [*example.prompt_ids, *example.completion_ids]
    return ids, [IGNORE_INDEX] * len(example.prompt_ids) + list(example.completion_ids)
