"""Rows of an evaluation for tests, made without a model."""

from __future__ import annotations

from slowthink.data.load import ProblemSet
from slowthink.recipe import ArmConfig, ChatConfig, EvaluateConfig
from slowthink.records import AnswerEnd, Problem, ThinkingEnd, Verdict, duplicate_key, problem_id
from slowthink.stage_rows import EvaluationRow
from slowthink.stages.evaluate.summary import Evaluation, summarise

RIGHT, WRONG, UNGRADABLE = Verdict.CORRECT, Verdict.WRONG, Verdict.UNGRADABLE


def make_row(arm="tuned", problem="a", verdict=RIGHT, cap=8, waits=0, forced=True, **more):
    """One row; `answer` names what was answered (the reference answer is `1`)."""
    answer = more.pop("extracted", "1" if verdict is RIGHT else "0")
    fields = {
        "arm": arm, "model": arm, "benchmark": "heldout", "protocol": "greedy", "temperature": 0.0,
        "problem_id": problem, "question": "q", "domain": "d", "source": "s", "sample": 0,
        "max_thinking_tokens": cap, "waits": waits, "forced": forced, "num_prompt_tokens": 5,
        "num_thinking_tokens": cap, "num_closing_tokens": 1, "num_answer_tokens": 2,
        "num_forced_tokens": 1,
        "count_source": "ids", "thinking_end": ThinkingEnd.NATURAL, "answer_end": AnswerEnd.STOP,
        "num_waits_used": 0, "answer": f"Final Answer: {answer}", "last_number": False,
        "score": None, "verdict": verdict, "extracted": answer, "gold": "1", "method": "m",
        "violations": (), "segments": "[]",
    }  # fmt: skip
    fields |= more
    names = ("arm", "protocol", "benchmark", "problem_id", "temperature", "sample")
    place = [str(fields[name]) for name in names]
    return EvaluationRow(id="|".join([*place, str(cap), str(waits), str(forced)]), **fields)


def make_problem(question, answer="1", **more):
    """A held-out problem."""
    return Problem(
        id=problem_id(question), duplicate_key=duplicate_key(question), question=question,
        answer=answer, source="s", source_row="1", **more,
    )  # fmt: skip


def make_set(rows, name="heldout", domain=None):
    """The set that these rows are of."""
    names = sorted({row.problem_id for row in rows if row.benchmark == name})
    problems = tuple(make_problem(problem) for problem in names)
    return ProblemSet(name=name, problems=problems, domain=domain)


def figures(rows, arms, *, sets=None, num_resamples=200, **config):
    """The summary of these rows."""
    settings = EvaluateConfig(
        arms=tuple(ArmConfig.model_validate(arm) for arm in arms),
        num_resamples=num_resamples,
        **config,
    )
    return summarise(
        Evaluation(
            config=settings, sets=sets or [make_set(rows)], rows=rows, groups={}, seed=0,
            chat=ChatConfig(),
        )
    )  # fmt: skip
