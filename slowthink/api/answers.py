r"""Extract and grade single answers, by the rules of `slowthink grade`.

grade(r"\frac12", "So it is 0.5.").verdict  # Verdict.CORRECT
"""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from slowthink.errors import require_list, require_text
from slowthink.records import Grade

if TYPE_CHECKING:
    from slowthink.grading import Grader


def extract_answer(
    text: str, *, choices: Sequence[str] = (), last_number: bool = False
) -> str | None:
    r"""The answer that a text states, unchanged; None if it states none. Thinking is ignored.

    The last `\boxed`, else the text after "Answer:", "答案" or "####"; with `choices` (the options
    of the question) an option's letter; with `last_number` the last number of the text. Raises
    ConfigError for what is not a text.
    """
    from slowthink.grading.extract import extract

    options = _require_choices(choices)
    return extract(require_text(text, "text"), choices=options, last_number=last_number)


def grade(
    gold: str, text: str, *, question: str = "", choices: Sequence[str] = (), mode: str = "strict"
) -> Grade:
    r"""The verdict on a text, and what was compared: `.verdict`, `.extracted`, `.gold`, `.method`.

    `gold`: the reference answer, or a solution that ends with it. `text`: on one line an answer, or
    a sentence with it; on several a response, which must mark its answer (`extract_answer`).
    Question and options decide some cases (an order, a letter). `mode`: strict (our rules),
    limo-compat, s1-compat or math-verify. A text that cannot be graded is a verdict, not an error.
    Raises ConfigError for an unknown mode, and for a gold or text that is not a text.
    """
    from slowthink.grading.files import PairRow, pair_from_row

    gold, text = require_text(gold, "gold"), require_text(text, "text")
    is_response = "\n" in text.strip()
    row = PairRow(
        line_number=1, gold=gold, question=question,
        choices=_require_choices(choices),
        pred=None if is_response else text, response=text if is_response else None,
    )  # fmt: skip
    pair = pair_from_row(row, mode=mode)
    return shared_grader(mode).grade_pairs([pair])[0].grade


def _require_choices(choices: Sequence[str]) -> tuple[str, ...]:
    options = require_list(choices, "choices")
    return tuple(require_text(text, f"choices[{row}]") for row, text in enumerate(options))


@cache
def shared_grader(mode: str = "strict") -> Grader:
    """A grader for the rest of this process: its workers start once, when first needed."""
    from slowthink.grading import Grader

    grader = Grader(mode)
    atexit.register(grader.close)
    return grader
