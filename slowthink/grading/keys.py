r"""Reference answers as data sets write them: the one reader for pools, benchmarks and the grader.

Example: `split_key("48/2=24\n#### 24")` is ("24", "48/2=24").
"""

from __future__ import annotations

import re

from slowthink.grading.boxes import last_box
from slowthink.grading.sentinels import says_nothing

_MARKED_KEY = re.compile(r"(?:^|(?<=\s))####(?!#)[ \t]*(\S[^\n]*)\s*\Z")
"""GSM8K's mark: the answer is the rest of the last line."""


def split_key(text: str) -> tuple[str, str | None]:
    """Return the answer in a reference answer, and the solution before it; None if it has none."""
    mark = _MARKED_KEY.search(text)
    if mark is None:
        return text, None
    return mark.group(1).strip(), text[: mark.start()].strip() or None


def read_key(text: str) -> str | None:
    r"""Return the answer in a reference answer: what follows "####", else the last `\boxed`.

    None if there is none: an empty text, or a note in its place ("notfound", "see solution", "略").
    """
    key, _ = split_key(text.strip())
    key = last_box(key) or key
    return None if says_nothing(key) else key
