"""Chains that models write: sampled from a teacher, or drawn before by the difficulty step.

SourceChain(location="p-0c1e…|QwQ-32B|2", thinking="Okay, so …", response="**Final Answer** …",
            teacher="QwQ-32B", completion_key="9f…", provenance={"model": "Qwen/QwQ-32B", …}, …)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from slowthink.data.rows import UnusableValue
from slowthink.data.tables import ATTEMPTS_TABLE, read_records
from slowthink.engines import open_session
from slowthink.engines.session import Session
from slowthink.errors import DataError
from slowthink.grading import Grader
from slowthink.pipeline.contract import StageContext
from slowthink.recipe import AttemptTraces
from slowthink.records import Completion, Grade, Problem, Verdict
from slowthink.sampling.attempts import AttemptTracker, ModelSource, Tally, run_attempts
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.provenance import TokenUse, provenance, sampled_text, token_use
from slowthink.sampling.sampler import Sampler, Task, session_facts
from slowthink.stage_rows import Attempt
from slowthink.stages.trace.chains import SourceChain, SourceChains
from slowthink.stages.trace.formats import ChainTexts, split_thinking
from slowthink.stages.trace.spending import NOTHING, Limits, Spent, fitting_prefix
from slowthink.stages.trace.teachers import Teacher, make_teacher_tasks, order_problems

MANY = 0.5
"""Above this share of a teacher's chains, what is wrong with them is a warning."""


@dataclass(frozen=True)
class ChainsRule:
    """Makes all tries, or stops at the first right one. A problem that cannot be graded has no
    right one, so it gets one try."""

    num_attempts: int
    until_right: bool

    def decide(self, tally: Tally, grades: Sequence[Grade]) -> bool | None:
        """True once there are enough chains."""
        enough = (Verdict.CORRECT, Verdict.UNGRADABLE)
        is_right = self.until_right and grades[-1].verdict in enough
        return True if is_right or tally.num_seen == self.num_attempts else None

    def min_further(self, tally: Tally) -> int:
        """Number of further tries needed in any case."""
        return 1 if self.until_right else self.num_attempts - tally.num_seen


@dataclass(frozen=True, kw_only=True)
class SampledChain:
    """A chain of a teacher, with what decides on it."""

    chain: SourceChain
    chain_key: str
    use: TokenUse
    prompt: str
    """The text that the teacher received."""


@dataclass
class TeacherChains:
    """What a teacher wrote: by problem, in their order."""

    problems: list[Problem]
    """Problems that were to be asked."""
    too_long: list[Problem]
    """Problems without room for a chain in the model's context."""
    chains: dict[str, list[SampledChain]]
    """Of the problems that fit the limits, by id, in order."""
    grades: dict[str, list[Grade]]
    spent: Spent
    """With these chains, and with those of earlier teachers."""
    facts: dict[str, Any] = field(default_factory=dict)


def sample_teacher(
    teacher: Teacher, problems: Sequence[Problem], context: StageContext, *, before: Spent = NOTHING
) -> TeacherChains:  # fmt: skip
    """The chains of a teacher for these problems, as far as the stage's limits reach.

    Completions in the ledger are reused. `before`: what earlier teachers spent.
    """
    order = order_problems(problems, seed=context.recipe.seed, limit=teacher.config.max_problems)
    context.notify(
        f"trace: {teacher.name} on {len(order):,} problems, at most {teacher.config.num_attempts} "
        "chains each"
    )
    with (
        context.open_ledger() as ledger,
        Grader() as grader,
        open_session(
            teacher.model, teacher.engine, revision=teacher.revision, notify=context.notify
        ) as session,
    ):
        run = _TeacherRun(teacher, session, ledger, grader, context)
        return run.sample(order, before=before)


class _TeacherRun:
    """One teacher's chains while they are sampled."""

    def __init__(
        self, teacher: Teacher, session: Session, ledger: Ledger, grader: Grader,
        context: StageContext,
    ) -> None:  # fmt: skip
        self._teacher, self._session, self._ledger = teacher, session, ledger
        self._grader, self._context = grader, context
        self._limits = Limits.from_config(context.config)
        self._sampled: dict[tuple[str, int], SampledChain] = {}
        self._trackers: dict[str, AttemptTracker[bool]] = {}
        self._spent = Spent()

    def sample(self, problems: list[Problem], *, before: Spent) -> TeacherChains:
        """Sample the chains, and keep those of the longest prefix of the problems that fits."""
        teacher, recipe = self._teacher, self._context.recipe
        tasks = make_teacher_tasks(teacher, self._session, problems, recipe)
        order = [task.problem.id for task in tasks]
        rule = ChainsRule(teacher.config.num_attempts, teacher.config.until_right)
        self._trackers = {id: AttemptTracker(rule) for id in order}
        self._spent = before
        source = ModelSource(
            Sampler(self._session, self._ledger, tag=teacher.tag), tasks, self._grade
        )
        run_attempts(
            source, self._trackers, progress=self._context.progress,
            max_running=partial(self._num_to_run, before) if self._limits.are_set else None,
        )  # fmt: skip
        ids, spent = fitting_prefix(order, self._decided(), self._limits, before=before)
        dates = self._ledger.dates([sampled.chain_key for sampled in self._sampled.values()])
        result = TeacherChains(
            problems=problems,
            too_long=[problem for problem in problems if problem.id not in self._trackers],
            chains={
                id: [
                    replace(sampled, chain=_dated(sampled.chain, dates.get(sampled.chain_key)))
                    for sampled in self._chains(id)
                ]
                for id in ids
            },
            grades={id: self._trackers[id].grades for id in ids},
            spent=spent,
        )
        cost, seconds = self._ledger.spent(teacher.tag)
        speed = round(cost.decoded / seconds, 1) if seconds and cost.decoded else None
        result.facts = teacher_facts(teacher, result, before=before) | {
            "num_not_asked": len(order) - len(self._decided()),
            "waste": self._waste(result),
            "decoded_tokens": cost.decoded,
            "seconds": round(seconds, 1),
            "tokens_per_second": speed,
            **session_facts(self._session),
        }
        return result

    def _grade(self, task: Task, completion: Completion) -> Grade:
        """Keep the completion as a chain, and grade its response."""
        teacher, problem, sample = self._teacher, task.problem, task.request.sample
        text = sampled_text(task, completion, may_force=teacher.config.budget.force_end)
        texts = _split(text.thinking, text.response, truncated=text.truncated)
        origin = provenance(
            task, completion, self._session, model=teacher.model, revision=teacher.revision
        )  # fmt: skip
        chain = SourceChain(
            location=f"{problem.id}|{teacher.name}|{sample}", problem=problem,
            thinking=texts.thinking, response=texts.response, unsplit=texts.unsplit,
            defect=texts.defect, teacher=teacher.name, imported=False, truncated=text.truncated,
            completion_key=completion.key,
            provenance=origin | {"thinking_language": teacher.config.thinking_language},
        )  # fmt: skip
        use = token_use(completion)
        self._sampled[problem.id, sample] = SampledChain(
            chain=chain, chain_key=completion.chain_key, use=use,
            prompt=self._session.tokenizer.decode(list(task.request.prompt_ids)),
        )  # fmt: skip
        self._spent += Spent.of(use, teacher.config.price)
        return self._grader.grade(problem, texts.response, truncated=text.truncated)

    def _num_to_run(self, before: Spent, num_decided: int) -> int:
        return self._limits.num_to_run(self._spent, before=before, num_decided=num_decided)

    def _chains(self, id: str) -> list[SampledChain]:
        return [self._sampled[id, index] for index in range(len(self._trackers[id].grades))]

    def _decided(self) -> dict[str, Spent]:
        """What was spent on each problem that has all its chains."""
        price = self._teacher.config.price
        return {
            id: sum((Spent.of(chain.use, price) for chain in self._chains(id)), Spent())
            for id, tracker in self._trackers.items()
            if tracker.decision is not None
        }

    def _waste(self, result: TeacherChains) -> dict[str, Any]:
        """What was completed beyond the limits."""
        price = self._teacher.config.price
        wasted = [s for (id, _), s in self._sampled.items() if id not in result.chains]
        spent = sum((Spent.of(sampled.use, price) for sampled in wasted), Spent())
        return {"num_chains": len(wasted), "tokens": spent.num_tokens, "cost": spent.cost}


def _dated(chain: SourceChain, date: str | None) -> SourceChain:
    return replace(chain, provenance={**chain.provenance, "date": date})


def _split(thinking: str, response: str, *, truncated: bool) -> ChainTexts:
    """Thinking and response; a text without an answer part is split, if it states an answer."""
    given = ChainTexts(thinking=thinking, response=response)
    if response or truncated:
        return given
    try:
        return split_thinking(thinking)
    except UnusableValue:
        return given


def teacher_facts(teacher: Teacher, result: TeacherChains, *, before: Spent) -> dict[str, Any]:
    """Figures of the chains that a teacher passes on."""
    sampled = [chain for chains in result.chains.values() for chain in chains]
    verdicts = Counter(g.verdict for grades in result.grades.values() for g in grades)
    origins = [chain.chain.provenance for chain in sampled]
    hidden = [bool(origin["hidden"]) for origin in origins]
    empty = [not chain.chain.thinking for chain in sampled]
    use = sum((chain.use for chain in sampled), TokenUse())
    return {
        "teacher": teacher.name,
        "model": teacher.model,
        "num_problems": len(result.chains),
        "num_too_long": len(result.too_long),
        "num_requests": len(sampled),
        "num_right": verdicts[Verdict.CORRECT],
        "num_problems_right": sum(
            any(grade.verdict is Verdict.CORRECT for grade in grades)
            for grades in result.grades.values()
        ),
        "num_truncated": sum(chain.chain.truncated for chain in sampled),
        "num_no_thinking": sum(e and not h for e, h in zip(empty, hidden, strict=True)),
        "num_hidden_thinking": sum(hidden),
        "num_other_language": sum(map(_is_other_language, sampled)),
        "prompt_tokens": use.num_prompt_tokens,
        "tokens": use.num_tokens,
        "tokens_per_chain": round(use.num_tokens / len(sampled)) if sampled else None,
        "cost": result.spent.cost - before.cost if teacher.config.price else None,
    }


def _is_other_language(sampled: SampledChain) -> bool:
    """Whether a chain is in another language than that of the question, or the one asked for."""
    chain = sampled.chain
    wanted = chain.provenance["thinking_language"] or chain.problem.language.split("-")[0].lower()
    return chain.provenance["language"] not in (wanted, "other")


def teacher_warnings(facts: Mapping[str, Any]) -> list[str]:
    """What is wrong with most of a teacher's chains, each with what to do."""
    remedies = {
        "num_no_thinking": (
            "have no thinking; expected a model that thinks. Name another, or take its whole text "
            "as the chain: chat: {format: plain}"
        ),
        "num_hidden_thinking": (
            "have thinking that the provider hides; expected it in the reply. Name a provider that "
            "returns it"
        ),
        "num_other_language": (
            "are in another language than asked for. Ask for it in chat.instruction, or drop them"
        ),
        "num_truncated": (
            "are cut off at their limit. Raise budget.max_thinking_tokens or engine.max_context"
        ),
    }
    num_chains = facts["num_requests"]
    return [
        f"{facts['teacher']}: {facts[name]:,} of {num_chains:,} chains {remedy}"
        for name, remedy in remedies.items()
        if facts[name] > MANY * num_chains
    ]


# --- attempts of the difficulty step --------------------------------------------------------------


def read_attempts(
    source: AttemptTraces, problems: Sequence[Problem], context: StageContext, setting: str
) -> SourceChains:
    """The attempts of the filter at these problems. Raises DataError if there are none."""
    folder = context.inputs["filter"]
    if not (folder / ATTEMPTS_TABLE).exists():
        raise DataError(
            f"{setting}: {folder} has no {ATTEMPTS_TABLE}; expected the attempts of the difficulty "
            "step, which an older version did not keep. Move the folder away and run `slowthink "
            f"filter {context.root}`: cached completions are reused."
        )
    attempts = read_records(folder / ATTEMPTS_TABLE, Attempt)
    chosen = [
        attempt
        for attempt in attempts
        if source.step in (None, attempt.step, attempt.step.removeprefix("difficulty: "))
        and source.model in (None, attempt.model)
    ]
    if not chosen:
        names = sorted({f"{attempt.step} by {attempt.model}" for attempt in attempts})
        raise DataError(
            f"{setting}: none of {len(attempts)} attempts in {folder} is of step {source.step} and "
            f"model {source.model}; expected some. The filter drew: {', '.join(names) or 'none'}."
        )
    by_id = {problem.id: problem for problem in problems}
    kept = [attempt for attempt in chosen if attempt.problem_id in by_id]
    with context.open_ledger() as ledger:
        dates = ledger.dates([attempt.chain_key for attempt in kept])
    chains = [_dated(_to_chain(a, by_id[a.problem_id]), dates.get(a.chain_key)) for a in kept]
    return SourceChains(chains=chains, num_rows=len(chains))


def _to_chain(attempt: Attempt, problem: Problem) -> SourceChain:
    texts = _split(attempt.thinking, attempt.response, truncated=attempt.truncated)
    return SourceChain(
        location=attempt.id, problem=problem, thinking=texts.thinking, response=texts.response,
        unsplit=texts.unsplit, defect=texts.defect, teacher=attempt.model, imported=False,
        truncated=attempt.truncated,
        completion_key=attempt.completion_key, provenance=json.loads(attempt.provenance),
    )  # fmt: skip
