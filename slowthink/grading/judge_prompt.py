r"""A language model as second opinion: its prompts, and a strict reading of its verdict.

Pure functions; `judging` asks an engine. Two modes: `answer` compares an extracted answer
with the key where the rules cannot decide; `solution` compares a whole attempt with a reference
solution (s1's way, for proofs and rows without a short answer).
One real record: `parse_verdict("Same value.\nVERDICT: CORRECT")` is Verdict.CORRECT.
"""

from __future__ import annotations

import re

from slowthink.errors import ConfigError
from slowthink.grading.extract import is_prose
from slowthink.records import Grade, Problem, Verdict

MODES = ("answer", "solution")
MAX_CHARS = 24_000
"""Of an attempt or a solution; a longer one keeps its beginning and its end."""
VERSION = 1
"""Part of the ledger's key of a verdict: another prompt is another opinion."""

_SYSTEM = (
    "You check answers to problems. You do not solve the problem yourself and you do not credit "
    "effort. You end with one line that is exactly `VERDICT: CORRECT` or `VERDICT: INCORRECT`."
)
_ANSWER = """Problem:
{question}

Reference answer:
{gold}

Student's final answer:
{answer}

Do the two answers say the same? Different forms of one value are the same: 1/2 and 0.5, 2x+2 and \
2(x+1), an interval and the inequality that describes it, roots in another order. Another value is \
not: other interval ends or brackets, a part that is missing or one too many, another unit, a \
rounded number where the reference is exact. For several parts all must be right. Say in at most \
three sentences what you compared, then give the verdict line."""
_SOLUTION = """Problem:
{question}

Reference solution:
{gold}

Attempt:
{answer}

Is the attempt right? Where the problem asks for a value, only the attempt's final result counts, \
and it must be the reference's. Where it asks for a proof, each step that the conclusion needs \
must be there and hold; another way than the reference's is fine. An attempt that breaks off is \
not right. Say in at most five sentences what decides, then give the verdict line."""
_PROMPTS = {"answer": _ANSWER, "solution": _SOLUTION}
_VERDICT = re.compile(r"verdict\s*:\s*(correct|incorrect)\s*\.?", re.IGNORECASE)


def judge_mode(problem: Problem, grade: Grade) -> str | None:
    """How a judge is asked about this answer; None where the rules' verdict stands.

    `answer` where there is a key and the rules left it open, `solution` where there is no usable
    key but a solution. An answer that is missing or cut off needs no opinion.
    """
    if not is_undecided(grade):
        return None
    if problem.answer and grade.extracted:
        return "answer"
    return "solution" if problem.solution and not problem.answer else None


def is_undecided(grade: Grade) -> bool:
    """Whether the rules have not decided: no key, an error, a text that no parser reads, or two
    sentences that are not the same word for word."""
    if grade.verdict is Verdict.WRONG and grade.gold and grade.extracted:
        prose = is_prose(grade.gold) and is_prose(grade.extracted)
        return prose or grade.method.startswith("math-verify: ")
    return grade.verdict in (Verdict.UNGRADABLE, Verdict.GRADER_ERROR)


def build_messages(mode: str, *, question: str, gold: str, answer: str) -> list[dict[str, str]]:
    """The chat messages for one opinion.

    `gold` is the key in mode `answer` and the reference solution in mode `solution`; `answer` is
    the extracted answer or the attempt, never the thinking. Raises ConfigError for another mode.
    """
    if mode not in MODES:
        raise ConfigError(
            f"judge mode: got {mode!r}; expected one of {', '.join(MODES)}. Use one of these."
        )
    prompt = _PROMPTS[mode].format(
        question=_fenced(question), gold=_fenced(gold), answer=_fenced(answer)
    )
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": prompt}]


def parse_verdict(text: str) -> Verdict | None:
    """CORRECT or WRONG as the last line says; None where it says neither or another line disagrees.

    None is no opinion: the caller asks again or leaves the row to the rules. "INCORRECT" is never
    read as correct, nor is a verdict that is only mentioned.
    """
    lines = [re.sub(r"[*_`#$>]+", "", line).strip() for line in text.strip().splitlines()]
    lines = [line for line in lines if line]
    last = _VERDICT.fullmatch(lines[-1]) if lines else None
    if last is None:
        return None
    said = {m.group(1).lower() for m in map(_VERDICT.fullmatch, lines) if m}
    if len(said) > 1:
        return None
    return Verdict.CORRECT if last.group(1).lower() == "correct" else Verdict.WRONG


def _fenced(text: str) -> str:
    """The text between fences that it cannot close, shortened in the middle."""
    if len(text) > MAX_CHARS:
        half = MAX_CHARS // 2
        text = f"{text[:half]}\n[… {len(text) - MAX_CHARS} characters left out …]\n{text[-half:]}"
    return "<<<\n" + text.replace("<<<", "‹‹‹").replace(">>>", "›››").strip() + "\n>>>"
