"""Problems and graded `evaluate` rows of stored samples; no model is run.

One real row's id: `o1journey|greedy|aime24|p-0c1e…|0|3|000000|0|free`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from slowthink.data.rows import as_evidence
from slowthink.data.stored.samples import StoredSample, StoredSamples
from slowthink.grading import GradeItem, Grader
from slowthink.records import (
    AnswerEnd,
    Dropped,
    Grade,
    Problem,
    Split,
    ThinkingEnd,
    Verdict,
    duplicate_key,
)
from slowthink.stage_rows import EvaluationRow

CountTokens = Callable[[str], int]


def stored_problems(stored: StoredSamples, *, benchmark: str) -> list[Problem]:
    """The file's own questions as held-out problems, in its order.

    If samples of a question have different reference answers (a file of several models may have
    garbled ones), the most frequent is used.
    """
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    first_samples: dict[str, StoredSample] = {}
    for sample in stored.samples:
        first_samples.setdefault(sample.problem_id, sample)
        if sample.answer is not None:
            answers[sample.problem_id][sample.answer] += 1
    return [
        Problem(
            id=name, duplicate_key=duplicate_key(sample.question, sample.choices),
            question=sample.question, choices=sample.choices,
            answer=answers[name].most_common(1)[0][0] if answers[name] else None,
            source=benchmark, source_row=sample.problem_row, split=Split.HELDOUT,
        )
        for name, sample in first_samples.items()
    ]  # fmt: skip


def match_problems(stored: StoredSamples, problems: Sequence[Problem]) -> dict[str, Problem]:
    """The matching problem of each sample, by `problem_id`; samples without a match are left out.

    Matches by the exact question and options, or our own id if the file has it, then by their
    normal form.
    """
    by_id = {problem.id: problem for problem in problems}
    by_duplicate_key = {problem.duplicate_key: problem for problem in reversed(problems)}
    matches: dict[str, Problem] = {}
    for sample in stored.samples:
        if sample.problem_id in matches:
            continue
        problem = by_id.get(sample.problem_id) or by_id.get(sample.problem_row)
        problem = problem or by_duplicate_key.get(duplicate_key(sample.question, sample.choices))
        if problem is not None:
            matches[sample.problem_id] = problem
    return matches


def grade_stored(
    stored: StoredSamples,
    problems: Sequence[Problem],
    *,
    arm: str,
    benchmark: str,
    protocol: str,
    grader: Grader,
    count_tokens: CountTokens,
    last_number: bool,
) -> tuple[list[EvaluationRow], list[Dropped], dict[str, int]]:
    """The samples' graded rows in file order, the dropped samples without a problem, and how often
    the file's own labels disagree: {"num_labelled": 30, "num_disagree": 2}.

    Grades against the problem's reference answer, not the file's. Samples of a problem that share a
    number are renumbered in file order. `count_tokens` is used unless the file states the number of
    tokens (`usage`).
    """
    matches = match_problems(stored, problems)
    matched = [sample for sample in stored.samples if sample.problem_id in matches]
    dropped = [
        Dropped(
            id=sample.location,
            step="match",
            reason="no such problem",
            evidence=as_evidence(sample.question),
        )
        for sample in stored.samples
        if sample.problem_id not in matches
    ]
    pairs = [(sample, matches[sample.problem_id]) for sample in _renumber(matched, matches)]
    items = [
        GradeItem(
            problem=reorder_options(problem, sample.choices), answer_text=sample.response,
            truncated=bool(sample.truncated), last_number=last_number,
        )
        for sample, problem in pairs
    ]  # fmt: skip
    grades = grader.grade_many(items)
    num_prompt_tokens = {problem.id: count_tokens(problem.question) for _, problem in pairs}
    rows = [
        _make_row(
            sample, problem, grade, arm=arm, benchmark=benchmark, protocol=protocol,
            num_prompt_tokens=num_prompt_tokens[problem.id], count_tokens=count_tokens,
            last_number=last_number,
        )
        for (sample, problem), grade in zip(pairs, grades, strict=True)
    ]  # fmt: skip
    return rows, dropped, _count_labels([sample for sample, _ in pairs], grades)


def _count_labels(samples: Sequence[StoredSample], grades: Sequence[Grade]) -> dict[str, int]:
    compared = [
        sample.labelled_correct == (grade.verdict is Verdict.CORRECT)
        for sample, grade in zip(samples, grades, strict=True)
        if sample.labelled_correct is not None and grade.verdict.is_counted
    ]
    return {"num_labelled": len(compared), "num_disagree": compared.count(False)}


def reorder_options(problem: Problem, choices: tuple[str, ...]) -> Problem:
    """The problem with its options in the order of the sample's prompt."""
    if not choices or choices == problem.choices or not problem.choices:
        return problem
    letter = (problem.answer or "").strip(" ().")
    index = ord(letter) - ord("A") if len(letter) == 1 else -1
    if not 0 <= index < len(problem.choices):
        return replace(problem, choices=choices)
    keys = [duplicate_key(text) for text in choices]
    right_key = duplicate_key(problem.choices[index])
    if right_key not in keys:
        return problem
    return replace(problem, choices=choices, answer=chr(ord("A") + keys.index(right_key)))


def _renumber(
    samples: Sequence[StoredSample], matches: Mapping[str, Problem]
) -> list[StoredSample]:
    """The samples; those of a problem are renumbered if two have the same number."""
    groups: dict[tuple[str, float], list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        groups[matches[sample.problem_id].id, sample.temperature or 0.0].append(index)
    numbers = [sample.sample for sample in samples]
    for indices in groups.values():
        if len({numbers[index] for index in indices}) < len(indices):
            for number, index in enumerate(indices):
                numbers[index] = number
    return [replace(s, sample=number) for s, number in zip(samples, numbers, strict=True)]


def _make_row(
    sample: StoredSample,
    problem: Problem,
    grade: Grade,
    *,
    arm: str,
    benchmark: str,
    protocol: str,
    num_prompt_tokens: int,
    count_tokens: CountTokens,
    last_number: bool,
) -> EvaluationRow:
    temperature = sample.temperature or 0.0
    num_thinking, num_answer = _count_parts(sample, count_tokens)
    prefix = f"{arm}|{protocol}|{benchmark}|{problem.id}|{temperature:g}|{sample.sample}"
    return EvaluationRow(
        id=f"{prefix}|{0:06d}|0|free", arm=arm, model=sample.model or "unknown",
        benchmark=benchmark, protocol=protocol, temperature=temperature,
        problem_id=problem.id, question=problem.question, domain=problem.domain,
        source=problem.source, sample=sample.sample,
        max_thinking_tokens=0, waits=0, forced=False,
        num_prompt_tokens=num_prompt_tokens, num_thinking_tokens=num_thinking,
        num_closing_tokens=0,
        num_answer_tokens=num_answer, num_forced_tokens=0,
        count_source="retokenised" if sample.num_tokens is None else "usage",
        thinking_end=ThinkingEnd.NATURAL if sample.closing else ThinkingEnd.NONE,
        answer_end=AnswerEnd.LENGTH if sample.truncated else AnswerEnd.STOP,
        num_waits_used=0, answer=sample.response, last_number=last_number, score=sample.score,
        verdict=grade.verdict, extracted=grade.extracted, gold=grade.gold, method=grade.method,
        violations=(), segments=_segments(sample),
    )  # fmt: skip


def _count_parts(sample: StoredSample, count_tokens: CountTokens) -> tuple[int, int]:
    """Numbers of thinking and answer tokens; their sum is the file's count if it states one."""
    num_answer = count_tokens(sample.response)
    if sample.num_tokens is None:
        return count_tokens(sample.thinking or ""), num_answer
    if not sample.thinking:
        return 0, sample.num_tokens
    num_answer = min(num_answer, sample.num_tokens)
    return sample.num_tokens - num_answer, num_answer


def _segments(sample: StoredSample) -> str:
    """The transcript as JSON; the delimiter is part of the thinking, as the model sampled it."""
    parts = [("thinking", (sample.thinking or "") + sample.closing), ("answer", sample.response)]
    return json.dumps([[kind, text] for kind, text in parts if text], ensure_ascii=False)
