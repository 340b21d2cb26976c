r"""Reference answers as data sets write them: the one reader for pools, benchmarks and the grader.

Example: `split_key("48/2=24\n#### 24")` is ("24", "48/2=24").
"""

from __future__ import annotations

import re

from slowthink.grading.boxes import last_box

_MARKED_KEY = re.compile(r"(?:^|(?<=\s))####(?!#)[ \t]*(\S[^\n]*)\s*\Z")
"""GSM8K's mark: the answer is the rest of the last line."""
_NO_KEY = re.compile(
    r"not ?found|(?:see|refer to) (?:the )?(?:solution|explanation|proof|answer)(?: above| below)?"
    r"|(?:proof|answer|solution)?\s?omitted|proof|n/a|null"
    r"|(?:no|unknown) answer|(?:answer )?not (?:available|provided|given)"
    r"|(?:答案|证明|解答|过程|证明过程)?略|(?:详?见|参见|参考)(?:解析|解答|答案|证明|详解)",
    re.IGNORECASE,
)
"""What data sets write where they have no reference answer."""


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
    return None if not key or _NO_KEY.fullmatch(key.strip(" .。()（）[]")) else key
