"""A language model's second opinions, through any engine, each asked once.

Greedy, in the model's own chat template, kept in the ledger like every completion. An opinion never
overrules what the rules decided; an audit says how often it would have.
One real record: `Judgement(verdict=Verdict.CORRECT, text="Both are 1/2.\\nVERDICT: CORRECT")`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slowthink.analysis.statistics import wilson
from slowthink.forcing.prompts import question_text
from slowthink.grading.files import GradedRows, PairFile, PairRow
from slowthink.grading.judge_prompt import VERSION, build_messages, judge_mode, parse_verdict
from slowthink.recipe import ChatConfig, JudgeConfig, Recipe
from slowthink.records import (
    Grade,
    Problem,
    Verdict,
    duplicate_key,
    item_seed,
    problem_id,
)
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.prompted_model import (
    Messages,
    PromptedModel,
    open_prompted_model,
    strip_thinking,
)

TAG = "judge"
"""Under what the ledger counts a judge's tokens."""
MAX_SHOWN = 20
"""Disagreements listed, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeItem:
    """One question to the judge; see `grading.judge.build_messages`."""

    mode: str
    problem: Problem
    answer: str
    """The extracted answer (mode `answer`) or the whole attempt (mode `solution`)."""

    @property
    def gold(self) -> str:
        """What the answer is held against."""
        gold = self.problem.answer if self.mode == "answer" else self.problem.solution
        return gold or ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the judge says; `verdict` None is no opinion."""

    verdict: Verdict | None
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GradedAnswer:
    """One graded answer that a judge may be asked about."""

    id: str
    problem: Problem
    answer: str
    """The whole answer part."""
    grade: Grade


class Judge:
    """A model that gives opinions; a context manager."""

    def __init__(self, config: JudgeConfig, asker: PromptedModel) -> None:
        self.config = config
        self._asker = asker

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *error: object) -> None:
        self._asker.__exit__(*error)

    def judge(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        """An opinion an item, in order; equal questions are asked once.

        A question that does not fit the model's context has no opinion.
        """
        replies = self._asker.generate(
            [item.problem for item in items], [_talk(item) for item in items], parse=_verdict
        )
        return [
            Judgement(None, "the question does not fit the judge's context")
            if reply.text is None
            else Judgement(reply.value, reply.text)
            for reply in replies
        ]


def open_judge(
    config: JudgeConfig,
    recipe: Recipe,
    *,
    ledger: Ledger,
    notify: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Judge:
    """The configured judge, ready. Raises ConfigError where its model is not to be had."""
    asker = open_prompted_model(
        config, recipe, ledger=ledger, tag=TAG, seed=VERSION, notify=notify, progress=progress
    )
    return Judge(config, asker)


def judge_undecided(
    judge: Judge, rows: Sequence[GradedAnswer], *, seed: int
) -> tuple[dict[str, Grade], dict[str, Any]]:
    """New grades by row id where the judge decided what the rules had left open, and the report.

    The audit asks about rows that the rules did decide, half of them right ones, and changes none.
    """
    modes = {row.id: judge_mode(row.problem, row.grade) for row in rows}
    asked = [row for row in rows if modes[row.id] in judge.config.modes]
    audited = _audited(rows, judge.config.num_audited, seed=seed)
    items = [_item(row, modes[row.id] or "answer") for row in asked + audited]
    opinions = judge.judge(items)
    decided = {
        row.id: _decided(row.grade, opinion.verdict, modes[row.id])
        for row, opinion in zip(asked, opinions, strict=False)
        if opinion.verdict is not None
    }
    report = {
        "model": judge.config.model,
        "num_asked": len(asked),
        "num_no_opinion": len(asked) - len(decided),
        "num_decided": len(decided),
    }
    return decided, report | _audit(audited, opinions[len(asked) :])


def judge_rows(
    judge: Judge, rows: PairFile, graded: GradedRows
) -> tuple[GradedRows, dict[str, Any]]:
    """The grades of a file's rows with the judge's second opinions, and the judge's report."""
    asked = [
        GradedAnswer(
            id=str(row.line),
            problem=_problem(row),
            answer=row.response or row.pred or "",
            grade=grade,
        )
        for row, grade in zip(rows.rows, graded.grades, strict=True)
    ]
    decided, report = judge_undecided(judge, asked, seed=0)
    return replace(graded, grades=[decided.get(row.id, row.grade) for row in asked]), report


def _problem(row: PairRow) -> Problem:
    return Problem(
        id=problem_id(row.question, row.choices),
        duplicate_key=duplicate_key(row.question),
        question=row.question,
        choices=row.choices,
        answer=row.gold.strip() or None,
        solution=row.solution,
        source="file",
        source_row=str(row.line),
    )


def _talk(item: JudgeItem) -> Messages:
    question = question_text(item.problem, ChatConfig())
    return build_messages(item.mode, question=question, gold=item.gold, answer=item.answer)


def _verdict(text: str) -> Verdict | None:
    return parse_verdict(strip_thinking(text))


def _item(row: GradedAnswer, mode: str) -> JudgeItem:
    answer = (row.grade.extracted or "") if mode == "answer" else row.answer
    return JudgeItem(mode=mode, problem=row.problem, answer=answer)


def _decided(grade: Grade, verdict: Verdict, mode: str | None) -> Grade:
    return replace(grade, verdict=verdict, method=f"judge {mode}")


def _audited(rows: Sequence[GradedAnswer], number: int, *, seed: int) -> list[GradedAnswer]:
    """Rows that the rules decided, drawn by seed, half right and half wrong as far as there are."""
    drawn: list[GradedAnswer] = []
    right = _ranked(rows, Verdict.CORRECT, seed=seed)
    wrong = _ranked(rows, Verdict.WRONG, seed=seed)
    num_right = max(min(len(right), number // 2), min(len(right), number - len(wrong)))
    drawn += right[:num_right] + wrong[: number - num_right]
    return drawn


def _ranked(rows: Sequence[GradedAnswer], verdict: Verdict, *, seed: int) -> list[GradedAnswer]:
    found = [
        row
        for row in rows
        if row.grade.verdict is verdict and judge_mode(row.problem, row.grade) is None
    ]
    return sorted(found, key=lambda row: item_seed(seed, "judge audit", row.id))


def _audit(rows: Sequence[GradedAnswer], opinions: Sequence[Judgement]) -> dict[str, Any]:
    """How far the judge agrees with the rules; rows without an opinion are counted apart."""
    said = [(r, o) for r, o in zip(rows, opinions, strict=True) if o.verdict is not None]
    other = [(r, o) for r, o in said if o.verdict is not r.grade.verdict]
    interval = wilson(len(said) - len(other), len(said))
    return {
        "audited": len(rows),
        "audited_no_opinion": len(rows) - len(said),
        "agreement": 1 - len(other) / len(said) if said else None,
        "agreement_ci95": [interval.low, interval.high],
        "disagreements": [
            {
                "id": row.id,
                "gold": row.grade.gold,
                "extracted": row.grade.extracted,
                "rules": row.grade.verdict.value,
                "judge": opinion.verdict.value,
            }
            for row, opinion in other[:MAX_SHOWN]
            if opinion.verdict is not None
        ],
    }
