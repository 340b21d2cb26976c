"""A text's class by the nearest class description, with all-MiniLM-L6-v2; offline, English only.

    label_texts(load_taxonomy(), ["How many primes are below 20?"])  # [Label(code="11")]

Needs the extra `embed`. Texts in other scripts get no label, since the model cannot read them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slowthink.curation.domains.taxonomy import DomainClass, Label, Taxonomy
from slowthink.curation.overlap.semantic import embed, is_readable

NUM_WORDS = 12
"""Number of a class's words appended to its description."""


def label_texts(taxonomy: Taxonomy, texts: Sequence[str]) -> list[Label]:
    """The class with the largest cosine for each text; ties go to the lower code.

    Equal texts are embed once, in sorted order, and cosines are computed on integers, so the
    result depends neither on the order of rows nor on the machine's rounding. Raises ConfigError if
    the package is missing.
    """
    readable = sorted({text for text in texts if is_readable(text)})
    if not readable:
        return [Label(None, "not in a script that the model reads") for _ in texts]
    classes = embed([_description(domain) for domain in taxonomy.classes])
    vectors = embed(readable)
    whole_TD, whole_CD = (np.rint(v * 1e4).astype(np.int64) for v in (vectors, classes))
    nearest = (whole_TD @ whole_CD.T).argmax(axis=1)
    codes = {
        text: taxonomy.classes[index].code
        for text, index in zip(readable, nearest.tolist(), strict=True)
    }
    return [
        Label(codes[text]) if text in codes else Label(None, "not in a script that the model reads")
        for text in texts
    ]


def _description(domain: DomainClass) -> str:
    words = [word for word in domain.words if not word.startswith("\\")]
    return f"{domain.name}. {domain.about} {', '.join(words[:NUM_WORDS])}".replace("*", "")
