"""Labelled chains for a scorer: a finished run's tuned model tries training problems again.

Each start of a chain (up to a step end) and each whole transcript is labelled by whether that
chain's answer is right: the outcome label of Math-Shepherd (Wang et al. 2023, arXiv 2312.08935)
with one roll-out a step. One real record:
`LabelledText(problem=…, text="54 - 3 = 52.", final=False, label=False)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink.data.tables import read_records
from slowthink.engines import open_session
from slowthink.errors import ConfigError
from slowthink.grading import Grader
from slowthink.recipe import ArmConfig, ChatConfig, Recipe
from slowthink.recipe.loading import load_recipe
from slowthink.records import Completion, Cost, Problem, Sampling, Split, Trace, Verdict, item_seed
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.parallel.context import ParallelContext
from slowthink.sampling.parallel.expansion import prefixes
from slowthink.serialise import plain

DEFAULT_STEP_ENDS = ("\n", ".")
"""Where the recipe has no tree search."""


@dataclass(frozen=True, kw_only=True)
class ScorerRequest:
    """What is to be made, and of what."""

    run: Path
    out: Path
    num_problems: int = 150
    num_samples: int = 4
    temperature: float = 0.8
    step_ends: tuple[str, ...] = ()
    """Empty: the recipe's tree search's."""
    commit: str | None = None
    """Of slowthink, for the card."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledText:
    """One text and whether its chain came to the right answer."""

    problem: Problem
    text: str
    final: bool
    """A whole transcript; else the start of one, up to a step end."""
    label: bool


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """What is used of a finished run."""

    request: ScorerRequest
    recipe: Recipe
    arm: ArmConfig
    folder: Path
    """The tuned model's."""
    step_ends: tuple[str, ...]

    @property
    def chat(self) -> ChatConfig:
        """How the arm puts problems."""
        return self.arm.chat or self.recipe.chat


def open_run(request: ScorerRequest) -> FinishedRun:
    """What is needed of the run. Raises ConfigError where it is not there, or `out` is."""
    if request.out.exists():
        raise ConfigError(
            f"{request.out}: exists already; expected a new folder. Name another --out, or move it."
        )
    recipe = load_recipe(str(request.run / "recipe.yaml"))
    folder = request.run / "train" / "model"
    arms = recipe.evaluate.arms if recipe.evaluate else ()
    arm = next((one for one in arms if one.model == "tuned" and one.samples is None), None)
    if arm is None or not (folder / "config.json").is_file():
        seen = "no arm of the tuned model" if arm is None else f"no model in {folder}"
        raise ConfigError(
            f"{request.run}: {seen}; expected a finished run with a tuned model and an "
            "`evaluate` section that says how it thinks. Run it first: slowthink run RECIPE"
        )
    assert recipe.evaluate is not None
    parallel = recipe.evaluate.parallel
    searched = parallel.rebase.step_ends if parallel and parallel.rebase else DEFAULT_STEP_ENDS
    return FinishedRun(
        request=request, recipe=recipe, arm=arm, folder=folder,
        step_ends=request.step_ends or searched,
    )  # fmt: skip


def _problems(run: FinishedRun) -> list[Problem]:
    """Training problems with a key, drawn by seed; never held-out ones."""
    root = run.request.run
    if (root / "pool" / "data.parquet").exists():
        found = read_records(root / "pool", Problem)
    else:
        found = [trace.problem for trace in read_records(root / "select", Trace)]
    usable = [one for one in found if one.split is Split.TRAIN and one.answer]
    usable.sort(key=lambda one: item_seed(run.recipe.seed, "scorer", one.id))
    return usable[: run.request.num_problems]


def draw_examples(
    run: FinishedRun,
    *,
    notify: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[LabelledText], dict[str, Any]]:
    """Chains for the problems, graded, as examples; and what that took."""
    recipe, request, problems = run.recipe, run.request, _problems(run)
    ledger_path = Path(recipe.ledger) if recipe.ledger else request.run / "ledger.sqlite"
    session = open_session(str(run.folder), recipe.engine, notify=notify)
    with session, Ledger(ledger_path) as ledger, Grader() as grader:
        asking = ParallelContext(
            session=session, ledger=ledger, grader=grader, recipe=recipe,
            chat=run.chat, forcing=run.arm.forcing,
            max_thinking_tokens=max(run.arm.caps), tag="scorer", progress=progress,
            sampling=Sampling(temperature=request.temperature),
        )  # fmt: skip
        tasks = [t for one in problems for t in asking.tasks(one, num_samples=request.num_samples)]
        notify(f"scorer: drawing {len(tasks)} chains for {len(problems)} training problems")
        found = asking.sampler().complete(tasks)
        decode = session.tokenizer.decode
        verdicts = [asking.grade(t.problem, c) for t, (c,) in zip(tasks, found, strict=True)]
        examples = [
            example
            for task, (completion,), grade in zip(tasks, found, verdicts, strict=True)
            if grade.verdict.counts
            for example in _examples(run, task.problem, completion, decode, grade.verdict)
        ]
        cost: Cost = ledger.spent("scorer")[0]
    right = sum(grade.verdict is Verdict.CORRECT for grade in verdicts)
    facts = {"num_problems": len(problems), "num_chains": len(tasks), "num_right": right}
    return examples, facts | {"sampling_tokens": plain(cost)}


def _examples(
    run: FinishedRun,
    problem: Problem,
    completion: Completion,
    decode: Callable[[Sequence[int]], str],
    verdict: Verdict,
) -> Iterable[LabelledText]:
    """The starts of one chain and its whole transcript."""
    ids = completion.thinking_ids
    texts = [(start, False) for start in prefixes(decode(ids), run.step_ends)]
    texts.append((decode(ids), False))
    texts.append((decode((*ids, *completion.closing_ids, *completion.answer_ids)), True))
    for text, final in texts:
        right = verdict is Verdict.CORRECT
        yield LabelledText(problem=problem, text=text, final=final, label=right)
