"""The labelled chains of gate_cases_unseen.txt, split by hash: one half widened the rules, the other
was opened once, afterwards (LOG.md has its figures).

    python tests/trace/gate_cases_unseen.py seen      # or unseen, probes: figures, and wrong ones
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gate_cases import EN, ZH, cut

FILES = {name: Path(__file__).with_name(f"gate_cases_{name}.txt") for name in ("unseen", "probes")}
REPEATED = re.compile(r"\{(.*?)\*(\d+)\}", re.DOTALL)


class UnseenCase(NamedTuple):
    rule: str
    found: bool
    fields: dict[str, Any]
    half: str
    line: str


def _numbered(text: str) -> str:
    """Lines or paragraphs that differ by number: "#4 Case {n}: …" becomes twelve of them."""
    if re.match(r"#\d ", text) is None:
        return REPEATED.sub(lambda repeated: repeated[1] * int(repeated[2]), text)
    return "\n\n".join(
        text[3:].format(
            n=n, t=n + 20, r=(n + 20) % 7, p=n * 20, f=n * n - 4 * n + 3, q=2**n + 1, k=n - 1,
            m=", as before" * n,
        )
        for n in range(1, 13)
    )  # fmt: skip


def read_cases(half: str | None = None, name: str = "unseen") -> Iterator[UnseenCase]:
    """Cases of a half ("seen", "unseen"; None: both)."""
    rule = ""
    for line in FILES[name].read_text(encoding="utf-8").splitlines():
        if line.startswith("@"):
            rule = line[1:]
        elif line.startswith(("+", "-")):
            sign, base, field, text = (line + " ").split(" ", 3)
            text = _numbered(text.strip().replace("⏎", "\n"))
            fields = EN if base == "en" else ZH
            changed = {"thinking": cut(fields, text)} if field == "tail" else {field: text}
            digest = hashlib.sha256(f"{rule} {line}".encode()).hexdigest()
            of_half = "unseen" if int(digest[0], 16) % 2 else "seen"
            if half in (None, of_half):
                yield UnseenCase(rule, sign == "+", fields | changed, of_half, line)


def main(half: str, shown: bool) -> None:
    from slowthink.curation.gate import RULES, find_fault
    from slowthink.curation.gate.text import GatedText

    counts: Counter[tuple[str, str]] = Counter()
    for case in read_cases(name="probes") if half == "probes" else read_cases(half):
        text = GatedText(**case.fields)
        fault = RULES[case.rule](text) if case.found else find_fault(text)
        outcome = (
            ("found" if fault else "missed") if case.found else ("false" if fault else "passed")
        )
        counts[case.rule, outcome] += 1
        if shown and outcome in ("missed", "false"):
            print(case.rule, outcome, case.line, f"[{fault.reason}]" if fault else "")
    for rule in [*RULES, "all"]:
        row = {key: sum(n for (name, outcome), n in counts.items() if outcome == key and rule in (name, "all"))
               for key in ("found", "missed", "passed", "false")}  # fmt: skip
        print(rule, row)


if __name__ == "__main__":
    main(sys.argv[1], shown="--quiet" not in sys.argv)
