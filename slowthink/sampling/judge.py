"""A language model as judge of answers that the rules left undecided (LLM as a judge).

Greedy, in the model's own chat template; verdicts are cached in the ledger. A judge never overrules
the rules; an audit reports how often it agrees with them. `grading.judge_prompt` has its prompts.
One real record: `ModelReply(text="Both are 1/2.\\nVERDICT: CORRECT", value=Verdict.CORRECT)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slowthink.analysis.statistics import wilson
from slowthink.forcing.prompts import user_message
from slowthink.grading.files import GradedRows, PairFile, PairRow
from slowthink.grading.judge_prompt import PROMPT_SEED, build_messages, judge_mode, parse_verdict
from slowthink.grading.thinking import response_of
from slowthink.recipe import ChatConfig, JudgeConfig, Recipe
from slowthink.records import Grade, Problem, Verdict, duplicate_key, item_seed, problem_id
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.prompted_model import (
    Messages,
    ModelReply,
    PromptedModel,
    open_prompted_model,
)

TAG = "judge"
"""Tag of a judge's tokens in the ledger."""
MAX_DISAGREEMENTS = 20
"""Maximum number of disagreements in a report."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeItem:
    """One answer to judge."""

    mode: str
    """A mode of `grading.judge_prompt`."""
    problem: Problem
    answer: str
    """The extracted answer (mode `answer`) or the whole attempt (mode `solution`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GradedAnswer:
    """One answer with its grade by the rules."""

    id: str
    problem: Problem
    answer: str
    """The whole answer, as text."""
    grade: Grade


class Judge:
    """A model that judges answers; a context manager."""

    def __init__(self, config: JudgeConfig, model: PromptedModel) -> None:
        self.config = config
        self.model = model

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *error: object) -> None:
        self.model.__exit__(*error)

    def judge(self, items: Sequence[JudgeItem]) -> list[ModelReply[Verdict]]:
        """Return one reply per item, in order; equal items are judged once.

        Its value is None if it has no verdict or the item exceeds the judge's context.
        """
        return self.model.generate(
            [item.problem for item in items],
            [_messages(item) for item in items],
            parse=lambda text: parse_verdict(response_of(text)),
        )


def open_judge(
    config: JudgeConfig,
    recipe: Recipe,
    *,
    ledger: Ledger,
    notify: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Judge:
    """Load the configured judge. Raises ConfigError if its model is unavailable."""
    model = open_prompted_model(
        config, recipe, ledger=ledger, tag=TAG, seed=PROMPT_SEED, notify=notify, progress=progress
    )
    return Judge(config, model)


def judge_undecided(
    judge: Judge, answers: Sequence[GradedAnswer], *, seed: int
) -> tuple[dict[str, Grade], dict[str, Any]]:
    """Return the judge's grades of answers that the rules left undecided, by id, and a report.

    The report includes an audit: the judge's verdicts on answers that the rules decided, half of
    them right. It changes no grade.
    """
    modes = {answer.id: judge_mode(answer.problem, answer.grade) for answer in answers}
    undecided = [answer for answer in answers if modes[answer.id] in judge.config.modes]
    audited = _audit_sample(answers, judge.config.num_audited, seed=seed)
    replies = judge.judge(
        [_judge_item(answer, modes[answer.id] or "answer") for answer in undecided + audited]
    )
    verdicts = [reply.value for reply in replies]
    decided = {
        answer.id: replace(answer.grade, verdict=verdict, method=f"judge {modes[answer.id]}")
        for answer, verdict in zip(undecided, verdicts, strict=False)
        if verdict is not None
    }
    report = {
        "model": judge.config.model,
        "num_asked": len(undecided),
        "num_no_opinion": len(undecided) - len(decided),
        "num_decided": len(decided),
    }
    return decided, report | _audit_report(audited, verdicts[len(undecided) :])


def judge_rows(
    judge: Judge, rows: PairFile, graded: GradedRows
) -> tuple[GradedRows, dict[str, Any]]:
    """Let the judge decide the undecided rows of a file; returns all grades, and its report."""
    answers = [
        GradedAnswer(
            id=str(row.line_number),
            problem=_problem_from_row(row),
            answer=row.response or row.pred or "",
            grade=grade,
        )
        for row, grade in zip(rows.rows, graded.grades, strict=True)
    ]
    decided, report = judge_undecided(judge, answers, seed=0)
    grades = [decided.get(answer.id, answer.grade) for answer in answers]
    return replace(graded, grades=grades), report


def _problem_from_row(row: PairRow) -> Problem:
    return Problem(
        id=problem_id(row.question, row.choices),
        duplicate_key=duplicate_key(row.question),
        question=row.question,
        choices=row.choices,
        answer=row.gold.strip() or None,
        solution=row.solution,
        source="file",
        source_row=str(row.line_number),
    )


def _judge_item(answer: GradedAnswer, mode: str) -> JudgeItem:
    text = (answer.grade.extracted or "") if mode == "answer" else answer.answer
    return JudgeItem(mode=mode, problem=answer.problem, answer=text)


def _messages(item: JudgeItem) -> Messages:
    question = user_message(item.problem, ChatConfig())
    gold = item.problem.answer if item.mode == "answer" else item.problem.solution
    return build_messages(item.mode, question=question, gold=gold or "", answer=item.answer)


# --- the audit ------------------------------------------------------------------------------------


def _audit_sample(
    answers: Sequence[GradedAnswer], num_audited: int, *, seed: int
) -> list[GradedAnswer]:
    """A seeded sample of answers that the rules decided, half right and half wrong if available."""
    right = _shuffled(answers, Verdict.CORRECT, seed=seed)
    wrong = _shuffled(answers, Verdict.WRONG, seed=seed)
    num_right = min(len(right), max(num_audited // 2, num_audited - len(wrong)))
    return right[:num_right] + wrong[: num_audited - num_right]


def _shuffled(
    answers: Sequence[GradedAnswer], verdict: Verdict, *, seed: int
) -> list[GradedAnswer]:
    decided = [
        answer
        for answer in answers
        if answer.grade.verdict is verdict and judge_mode(answer.problem, answer.grade) is None
    ]
    return sorted(decided, key=lambda answer: item_seed(seed, "judge audit", answer.id))


def _audit_report(
    answers: Sequence[GradedAnswer], verdicts: Sequence[Verdict | None]
) -> dict[str, Any]:
    """How often judge and rules agree on the answers that the judge decided."""
    compared = [
        (answer, verdict)
        for answer, verdict in zip(answers, verdicts, strict=True)
        if verdict is not None
    ]
    disagreements = [pair for pair in compared if pair[1] is not pair[0].grade.verdict]
    interval = wilson(len(compared) - len(disagreements), len(compared))
    return {
        "audited": len(answers),
        "audited_no_opinion": len(answers) - len(compared),
        "agreement": 1 - len(disagreements) / len(compared) if compared else None,
        "agreement_ci95": [interval.low, interval.high],
        "disagreements": [
            {
                "id": answer.id,
                "gold": answer.grade.gold,
                "extracted": answer.grade.extracted,
                "rules": answer.grade.verdict.value,
                "judge": verdict.value,
            }
            for answer, verdict in disagreements[:MAX_DISAGREEMENTS]
        ],
    }
