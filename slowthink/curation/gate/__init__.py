"""The gate: rules about a chain's texts, in English and Chinese alike.

    find_fault(GatedText(question=…, thinking=…, response="I'm sorry, but …"))
    # Fault("the response is a refusal", "response, character 0: I'm sorry, but …")

A new rule is one function from `GatedText` to `Fault | None`, and one line in `RULES`. A result
depends on one chain only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from slowthink.curation.gate.endings import find_cut
from slowthink.curation.gate.languages import find_language_fault
from slowthink.curation.gate.leaks import find_leaked_key
from slowthink.curation.gate.loops import find_loop
from slowthink.curation.gate.markup import find_delimiter_inside, find_no_thinking, find_template
from slowthink.curation.gate.refusals import find_refusal
from slowthink.curation.gate.text import Fault, GatedText

Rule = Callable[[GatedText], Fault | None]

RULES: dict[str, Rule] = {
    "no-thinking": find_no_thinking,
    "delimiter": find_delimiter_inside,
    "template": find_template,
    "loop": find_loop,
    "refusal": find_refusal,
    "truncated": find_cut,
    "language": find_language_fault,
    "leaked-key": find_leaked_key,
}
"""By the names that `trace.gate.skip` takes, in the order in which they are asked."""


def find_fault(text: GatedText, *, skip: Collection[str] = ()) -> Fault | None:
    """What the first rule that objects holds against the chain; None if none does."""
    for name, rule in RULES.items():
        if name not in skip and (fault := rule(text)) is not None:
            return fault
    return None
