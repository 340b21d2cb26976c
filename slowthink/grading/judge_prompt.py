r"""Prompts for a model that judges undecided answers, and parsing of its verdict.

Pure functions; `sampling.judge` runs the model. Two modes: `answer` compares an extracted answer
with the reference answer; `solution` compares a whole attempt with a reference solution (as s1
does, for proofs and problems without a short answer).
Example: `parse_verdict("Same value.\nVERDICT: CORRECT")` is Verdict.CORRECT.
"""

from __future__ import annotations

import re

from slowthink.errors import ConfigError
from slowthink.grading.replies import fenced, final_value
from slowthink.grading.sentences import is_prose
from slowthink.records import Grade, Problem, Verdict

MODES = ("answer", "solution")
MAX_CHARS = 24_000
"""Longest attempt or solution in a prompt; a longer one is shortened in the middle."""
PROMPT_SEED = 1
"""Part of the ledger's key of a verdict: change it with the prompts."""

_SYSTEM_PROMPT = (
    "You check answers to problems. You do not solve the problem yourself and you do not credit "
    "effort. You end with one line that is exactly `VERDICT: CORRECT` or `VERDICT: INCORRECT`."
)
_ANSWER_PROMPT = """Problem:
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
_SOLUTION_PROMPT = """Problem:
{question}

Reference solution:
{gold}

Attempt:
{answer}

Is the attempt right? Where the problem asks for a value, only the attempt's final result counts, \
and it must be the reference's. Where it asks for a proof, each step that the conclusion needs \
must be there and hold; another way than the reference's is fine. An attempt that breaks off is \
not right. Say in at most five sentences what decides, then give the verdict line."""
_PROMPTS = {"answer": _ANSWER_PROMPT, "solution": _SOLUTION_PROMPT}
_VERDICT_LINE = re.compile(r"verdict\s*:\s*(correct|incorrect)\s*\.?", re.IGNORECASE)


def judge_mode(problem: Problem, grade: Grade) -> str | None:
    """Return the mode in which a judge decides this answer; None if the rules' grade is final.

    `answer` with a reference answer, `solution` with a reference solution only. A missing or
    truncated answer is not judged.
    """
    if not is_undecided(grade):
        return None
    if problem.answer and grade.extracted:
        return "answer"
    return "solution" if problem.solution and not problem.answer else None


def is_undecided(grade: Grade) -> bool:
    """Whether a grade is undecided, also WRONG for an unparsable answer or a differing sentence."""
    if grade.verdict is Verdict.WRONG and grade.gold and grade.extracted:
        are_sentences = is_prose(grade.gold) and is_prose(grade.extracted)
        return are_sentences or grade.method.startswith("math-verify: ")
    return grade.verdict in (Verdict.UNGRADABLE, Verdict.GRADER_ERROR)


def build_messages(mode: str, *, question: str, gold: str, answer: str) -> list[dict[str, str]]:
    """Return the chat messages that ask for one judgement.

    `gold` is the reference answer in mode `answer` and the reference solution in mode `solution`;
    `answer` is the extracted answer or the attempt without its thinking. Raises ConfigError for an
    unknown mode.
    """
    if mode not in MODES:
        raise ConfigError(
            f"judge mode: got {mode!r}; expected one of {', '.join(MODES)}. Use one of these."
        )
    prompt = _PROMPTS[mode].format(
        question=_fence(question), gold=_fence(gold), answer=_fence(answer)
    )
    return [{"role": "system", "content": _SYSTEM_PROMPT}, {"role": "user", "content": prompt}]


def parse_verdict(text: str) -> Verdict | None:
    """Return CORRECT or WRONG by the last line; None if it has no verdict, or if lines disagree.

    A verdict must be a line of its own: one that is only mentioned does not count.
    """
    value = final_value(text, _VERDICT_LINE)
    return {"correct": Verdict.CORRECT, "incorrect": Verdict.WRONG}.get(value or "")


def _fence(text: str) -> str:
    """Return the text between fences that it cannot close, shortened to `MAX_CHARS`."""
    if len(text) > MAX_CHARS:
        half = MAX_CHARS // 2
        text = f"{text[:half]}\n[… {len(text) - MAX_CHARS} characters left out …]\n{text[-half:]}"
    return fenced(text.strip())
