r"""Label texts with a class by a language model, on any engine; completions are kept in the ledger.

As in s1 (arXiv 2501.19393, section 2.2), a model is given all classes and replies with one code.
The prompt is our own, and the reply is checked: its last line must be a code of the taxonomy.

    parse_code("It is about primes.\nCODE: 11", {"05", "11"})  # "11"

An invalid reply is retried (`prompted_model`); a text without a valid reply gets no label and is
counted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from slowthink.curation.domains.taxonomy import Label, Taxonomy
from slowthink.grading.replies import fenced, plain_lines
from slowthink.grading.thinking import response_of
from slowthink.records import Problem
from slowthink.sampling.prompted_model import Messages, PromptedModel

TAG = "domains"
"""The ledger counts these tokens under this tag."""
MAX_CHARS = 8_000
"""Maximum length of a question; a longer one is truncated."""
_CODE_LINE = re.compile(r"code\s*[:\uff1a]\s*(\S+?)\.?", re.IGNORECASE)

_SYSTEM_PROMPT = (
    "You sort problems into fields. You do not solve them. You end with one line that is exactly "
    "`CODE: ` and the code of one field from the list."
)
_PROMPT = """Fields:
{fields}

Problem:
{question}

Which field would somebody have to know best to solve the problem? Where several fit, take the one \
of the main idea, not of the wording. Say in at most two sentences why, then give the line, e.g. \
`CODE: {example}`."""
_RETRY_PROMPT = (
    "That does not end with a code of the list. Reply with one line and nothing else: `CODE: ` and "
    "one of {codes}."
)


def parse_code(text: str, codes: Collection[str]) -> str | None:
    """The code in the last line of a reply, if it is one of `codes`; else None."""
    lines = plain_lines(response_of(text))
    match = _CODE_LINE.fullmatch(lines[-1]) if lines else None
    return match[1] if match and match[1] in codes else None


def build_messages(taxonomy: Taxonomy, question: str) -> Messages:
    """The chat messages about one question."""
    fields = "\n".join(
        f"{domain.code} {domain.name}: {domain.about}" for domain in taxonomy.classes
    )
    prompt = _PROMPT.format(
        fields=fields,
        question=fenced(question, max_chars=MAX_CHARS),
        example=taxonomy.classes[0].code,
    )
    return [{"role": "system", "content": _SYSTEM_PROMPT}, {"role": "user", "content": prompt}]


def label_texts(
    taxonomy: Taxonomy, model: PromptedModel, problems: Sequence[Problem], texts: Sequence[str]
) -> list[Label]:
    """The class of each problem; `texts` are the problems' texts in the same order."""
    codes = {domain.code for domain in taxonomy.classes}
    replies = model.generate(
        problems,
        [build_messages(taxonomy, text) for text in texts],
        parse=lambda text: parse_code(text, codes),
        retry_prompt=_RETRY_PROMPT.format(codes=", ".join(sorted(codes))),
    )
    return [_to_label(reply.text, reply.value) for reply in replies]


def _to_label(text: str | None, code: str | None) -> Label:
    if text is None:
        return Label(None, "does not fit the model's context")
    return Label(code, "" if code else "no valid code")
