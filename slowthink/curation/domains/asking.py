r"""A text's class as a language model says, through any engine, each asked once and kept.

s1's way (arXiv 2501.19393, section 2.2: a model is given all classes and names one code), with our
own prompt and a reply that is checked: its last line must be a code of the taxonomy.

    parse_code("It is about primes.\nCODE: 11", {"05", "11"})  # "11"

An invalid reply is asked again (`asking`); then the text has no label, and is counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from slowthink.curation.domains.taxonomy import Label, Taxonomy
from slowthink.recipe import AskedModel, Recipe
from slowthink.records import Problem
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.prompted_model import (
    Messages,
    PromptedModel,
    fenced,
    open_prompted_model,
    plain_lines,
    strip_thinking,
)

TAG = "domains"
"""Under what the ledger counts these tokens."""
MAX_CHARS = 8_000
"""Of a question; a longer one keeps its beginning."""
_CODE = re.compile(r"code\s*[:\uff1a]\s*(\S+?)\.?", re.IGNORECASE)

_SYSTEM = (
    "You sort problems into fields. You do not solve them. You end with one line that is exactly "
    "`CODE: ` and the code of one field from the list."
)
_ASK = """Fields:
{fields}

Problem:
{question}

Which field would somebody have to know best to solve the problem? Where several fit, take the one \
of the main idea, not of the wording. Say in at most two sentences why, then give the line, e.g. \
`CODE: {example}`."""
_AGAIN = (
    "That does not end with a code of the list. Reply with one line and nothing else: `CODE: ` and "
    "one of {codes}."
)


def parse_code(text: str, codes: Collection[str]) -> str | None:
    """The code in the last line, if it is one of these; None else. Thoughts before are skipped."""
    lines = plain_lines(strip_thinking(text))
    said = _CODE.fullmatch(lines[-1]) if lines else None
    return said.group(1) if said and said.group(1) in codes else None


def build_messages(taxonomy: Taxonomy, question: str) -> Messages:
    """The chat messages of one question."""
    fields = "\n".join(f"{one.code} {one.name}: {one.about}" for one in taxonomy.classes)
    shown = fenced(question, max_chars=MAX_CHARS)
    asked = _ASK.format(fields=fields, question=shown, example=taxonomy.classes[0].code)
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": asked}]


class Labeller:
    """A model that names classes; a context manager."""

    def __init__(self, taxonomy: Taxonomy, asker: PromptedModel) -> None:
        self._taxonomy = taxonomy
        self._asker = asker

    def __enter__(self) -> Labeller:
        return self

    def __exit__(self, *error: object) -> None:
        self._asker.__exit__(*error)

    @property
    def num_retried(self) -> int:
        """Replies that were no code and were asked again."""
        return self._asker.num_retried

    def labels(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[Label]:
        """The class of each problem, whose text is at the same place."""
        codes = {one.code for one in self._taxonomy.classes}
        replies = self._asker.generate(
            problems,
            [build_messages(self._taxonomy, text) for text in texts],
            parse=lambda text: parse_code(text, codes),
            retry_prompt=_AGAIN.format(codes=", ".join(sorted(codes))),
        )
        return [_label(reply.text, reply.value) for reply in replies]


def _label(text: str | None, code: str | None) -> Label:
    if text is None:
        return Label(None, "does not fit the model's context")
    return Label(code, "" if code else "no valid code")


def open_labeller(
    config: AskedModel,
    recipe: Recipe,
    taxonomy: Taxonomy,
    *,
    ledger: Ledger,
    notify: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Labeller:
    """The configured model, ready. Raises ConfigError where it is not to be had."""
    asker = open_prompted_model(
        config, recipe, ledger=ledger, tag=TAG, notify=notify, progress=progress
    )
    return Labeller(taxonomy, asker)
