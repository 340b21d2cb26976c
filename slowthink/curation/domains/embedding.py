"""A text's class by the nearest description, offline, through all-MiniLM-L6-v2; English only.

    label_texts(load_taxonomy(), ["How many primes are below 20?"])  # [Label(code="11")]

Needs the extra `embed`. Texts in other scripts get no label: the model cannot read them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slowthink.curation.domains.taxonomy import DomainClass, Label, Taxonomy
from slowthink.curation.overlap.semantic import embedded, is_readable

NUM_WORDS = 12
"""Of a class's words, put behind its description."""


def label_texts(taxonomy: Taxonomy, texts: Sequence[str]) -> list[Label]:
    """The class of each text with the largest cosine; ties go to the lower code.

    Equal texts are embedded once and in order, and cosines are of whole numbers, so neither the
    order of rows nor the machine's sums decide. Raises ConfigError where the package is missing.
    """
    readable = sorted({text for text in texts if is_readable(text)})
    if not readable:
        return [Label(None, "not in a script that the model reads") for _ in texts]
    classes = embedded([_described(one) for one in taxonomy.classes])
    vectors = embedded(readable)
    whole_TD, whole_CD = (np.rint(v * 1e4).astype(np.int64) for v in (vectors, classes))
    nearest = (whole_TD @ whole_CD.T).argmax(axis=1)
    codes = {
        text: taxonomy.classes[place].code
        for text, place in zip(readable, nearest.tolist(), strict=True)
    }
    return [
        Label(codes[text]) if text in codes else Label(None, "not in a script that the model reads")
        for text in texts
    ]


def _described(one: DomainClass) -> str:
    words = [word for word in one.words if not word.startswith("\\")]
    return f"{one.name}. {one.about} {', '.join(words[:NUM_WORDS])}".replace("*", "")
