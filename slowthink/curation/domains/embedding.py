"""Label texts with the class of the nearest description, by all-MiniLM-L6-v2; English only.

    label_texts(load_taxonomy(), ["How many primes are below 20?"])  # [Label(code="11")]

Runs offline. Needs the extra `embed`. Texts that the model cannot read get no label.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slowthink.curation.domains.taxonomy import DomainClass, Label, Taxonomy
from slowthink.curation.overlap.semantic import embed_texts, is_readable

NUM_DESCRIPTION_WORDS = 12
"""Maximum number of a class's words appended to its description."""


def label_texts(taxonomy: Taxonomy, texts: Sequence[str]) -> list[Label]:
    """The class with the largest cosine for each text; ties go to the lower code.

    Equal texts are embedded once, in sorted order, and cosines are computed on integers, so the
    result depends neither on the order of rows nor on the machine's rounding. Raises ConfigError if
    the package is missing.
    """
    unreadable = Label(None, "not in a script that the model reads")
    readable = sorted({text for text in texts if is_readable(text)})
    if not readable:
        return [unreadable for _ in texts]
    descriptions = [_describe(domain) for domain in taxonomy.classes]
    texts_TD, classes_CD = (
        np.rint(embed_texts(batch) * 1e4).astype(np.int64) for batch in (readable, descriptions)
    )
    nearest_T = (texts_TD @ classes_CD.T).argmax(axis=1)
    labels = {
        text: Label(taxonomy.classes[class_index].code)
        for text, class_index in zip(readable, nearest_T.tolist(), strict=True)
    }
    return [labels.get(text, unreadable) for text in texts]


def _describe(domain: DomainClass) -> str:
    words = [word for word in domain.words if not word.startswith("\\")]
    return f"{domain.name}. {domain.about} {', '.join(words[:NUM_DESCRIPTION_WORDS])}".replace(
        "*", ""
    )
