"""A run folder with a trace stage of made chains, for the review."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slowthink.data.reviews import Judgement
from slowthink.data.tables import write_records
from slowthink.records import Grade, Problem, Trace, Verdict, chain_id, problem_id
from slowthink.review.chains import ReviewSet, load_chains
from slowthink.serialise import plain

HOSTILE = [
    f"{number}{payload}"
    for number, payload in enumerate(
        (
            "<script>window.hacked=1</script>", "</script><script>window.hacked=1</script>",
            "<img src=x onerror=window.hacked=1>", "<svg onload=window.hacked=1>",
            "<svg><script>window.hacked=1</script></svg>", "<iframe src=javascript:parent.hacked=1>",
            "<body onload=window.hacked=1>", "<input autofocus onfocus=window.hacked=1>",
            "<details open ontoggle=window.hacked=1>", "<video><source onerror=window.hacked=1>",
            "<a href=javascript:window.hacked=1>x</a>", "<math><mtext></mtext><script>window.hacked=1</script>",
            "<math href=javascript:window.hacked=1>x</math>", "<link rel=stylesheet href=//evil.example/x.css>",
            "<style>@import '//evil.example/x.css'</style>", "<meta http-equiv=refresh content='0;//evil.example'>",
            "<base href=//evil.example/>", "<form action=//evil.example><button id=judge>",
            "<object data=//evil.example>", "<embed src=//evil.example>", "<template><img src=x></template>",
            "</textarea><script>window.hacked=1</script>", "</title><script>window.hacked=1</script>",
            "</style><script>window.hacked=1</script>", "</details></article></main><script>window.hacked=1</script>",
            "\" onmouseover=\"window.hacked=1", "' onmouseover='window.hacked=1", "\"><script>window.hacked=1</script>",
            "'><script>window.hacked=1</script>", "`${window.hacked=1}`", "{{ 7 * 7 }}", "{% raw %}{{ config }}", "{# x #}",
            "{{ ''.__class__.__mro__ }}", "&lt;script&gt;window.hacked=1&lt;/script&gt;", "&#60;script&#62;",
            "&amp;lt;img src=x&amp;gt;", "<!-- <script> -->", "<![CDATA[<script>window.hacked=1</script>]]>",
            "<?xml version='1.0'?>", "<scr<script>ipt>window.hacked=1</scr</script>ipt>", "<IMG SRC=x ONERROR=window.hacked=1>",
            "<img/src=x/onerror=window.hacked=1>", "<img src='x' onerror='window.hacked=1'", "<noscript><p title='</noscript><img src=x onerror=window.hacked=1>'>",
            "%3Cscript%3Ewindow.hacked=1%3C/script%3E", "javascript:window.hacked=1//", "data:text/html,<script>window.hacked=1</script>",
            "../../../etc/passwd", "'; DROP TABLE judgements; --", "\u202eevil\u202c", "a\u2028b\u2029c", "x\u0301\u0302\u0303" * 9,
            "<a id=judge name=form>x</a>", "<p class=revealed>x</p>", "W" * 400, "<embed code=//evil.example/x>",
        )
    )
]  # fmt: skip
"""Texts that would run, request or break something, were they taken for markup."""
MATHS_ATTACKS = (
    r"$\text{<script>window.hacked=1</script>}$", r"$\href{javascript:window.hacked=1}{click}$",
    r"$\mathrm{<img src=x onerror=window.hacked=1>}$", r"$\style{background:url(//evil.example)}{x}$",
    r"$\text{</math></mtext><img src=x onerror=window.hacked=1>}$", r"\(\class{revealed}{x}\)",
    r"$$\color{red' onclick='window.hacked=1}{x}$$", r"\[\text{&lt;script&gt;window.hacked=1&lt;/script&gt;}\]",
)  # fmt: skip


def make_trace(question: str, thinking: str, *, response: str = "42", **more: Any) -> Trace:
    id = problem_id(question)
    values: dict[str, Any] = {
        "chain_id": chain_id(id, thinking, response), "thinking": thinking, "response": response,
        "problem": Problem(id=id, duplicate_key=id, question=question, answer="42", source="made", source_row="1"),
        "teacher": "secret-teacher", "grade": Grade(verdict=Verdict.CORRECT), "tokenizer": "made",
        "num_thinking_tokens": len(thinking), "num_response_tokens": 1,
        "scores": json.dumps({"limo-v2": 0.125}), "level": 3,
    }  # fmt: skip
    return Trace(**values | more)


def make_run(root: Path, traces: Sequence[Trace]) -> Path:
    (root / "trace").mkdir(parents=True)
    write_records(root / "trace" / "data.parquet", traces, Trace)
    return root


def two_problems() -> list[Trace]:
    """Three chains of two problems."""
    return [
        make_trace("What is 17 + 25?", "17 + 20 is 37.\n\nThen $37 + 5 = 42$."),
        make_trace("What is 17 + 25?", "Guess: 42."),
        make_trace("What is 6 * 7?", "Seven sixes: 42."),
    ]


def judgement(reviewed: ReviewSet, item: str, reviewer: str, **more: Any) -> Judgement:
    known = reviewed.item(item)
    assert known is not None
    values = {"kind": known.kind, "item": item, "problem_id": known.chains[0].problem_id,
              "reviewer": reviewer, "at": "2026-01-01T00:00:00Z"}  # fmt: skip
    return Judgement(**values | more)


def write_lines(path: Path, judgements: Sequence[Judgement]) -> Path:
    path.write_text("".join(json.dumps(plain(each)) + "\n" for each in judgements))
    return path


def loaded(root: Path) -> ReviewSet:
    return load_chains(make_run(root, two_problems()))
