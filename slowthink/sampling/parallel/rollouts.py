"""Labelled texts to train a scorer on: chains of a run's tuned model for training problems.

Each prefix of a chain (up to a step end) and each whole transcript is labelled with whether the
chain's answer is right: the outcome labels of Math-Shepherd (Wang et al. 2023, arXiv 2312.08935),
with one rollout per step. One real record:
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
from slowthink.sampling.parallel.expansion import step_prefixes
from slowthink.serialise import plain

DEFAULT_STEP_ENDS = ("\n", ".")
"""For recipes without a tree search."""


@dataclass(frozen=True, kw_only=True)
class ScorerRequest:
    """Settings of a scorer to train, and the folder to save it to."""

    run: Path
    out: Path
    num_problems: int = 150
    num_samples: int = 4
    temperature: float = 0.8
    step_ends: tuple[str, ...] = ()
    """Empty: as in the recipe's tree search."""
    commit: str | None = None
    """Commit of slowthink, for the card."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledText:
    """A text, and whether its chain has the right answer."""

    problem: Problem
    text: str
    final: bool
    """True: a whole transcript. False: a prefix of one, up to a step end."""
    label: bool


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A finished run that a scorer is trained from."""

    request: ScorerRequest
    recipe: Recipe
    arm: ArmConfig
    folder: Path
    """Folder of the tuned model."""
    step_ends: tuple[str, ...]

    @property
    def chat(self) -> ChatConfig:
        """Prompt settings of the arm."""
        return self.arm.chat or self.recipe.chat


def open_run(request: ScorerRequest) -> FinishedRun:
    """Open a finished run. Raises ConfigError if it has no tuned model, or if `out` exists."""
    if request.out.exists():
        raise ConfigError(
            f"{request.out}: exists already; expected a new folder. Name another --out, or move it."
        )
    recipe = load_recipe(str(request.run / "recipe.yaml"))
    folder = request.run / "train" / "model"
    arms = recipe.evaluate.arms if recipe.evaluate else ()
    arm = next((arm for arm in arms if arm.model == "tuned" and arm.samples is None), None)
    if arm is None or not (folder / "config.json").is_file():
        problem = "no arm of the tuned model" if arm is None else f"no model in {folder}"
        raise ConfigError(
            f"{request.run}: {problem}; expected a finished run with a tuned model and an "
            "`evaluate` section with an arm for it. Run it first: slowthink run RECIPE"
        )
    assert recipe.evaluate is not None
    parallel = recipe.evaluate.parallel
    step_ends = parallel.rebase.step_ends if parallel and parallel.rebase else DEFAULT_STEP_ENDS
    return FinishedRun(
        request=request, recipe=recipe, arm=arm, folder=folder,
        step_ends=request.step_ends or step_ends,
    )  # fmt: skip


def _training_problems(run: FinishedRun) -> list[Problem]:
    """A seeded sample of the training problems that have a reference answer."""
    root = run.request.run
    if (root / "pool" / "data.parquet").exists():
        problems = read_records(root / "pool", Problem)
    else:
        traces = read_records(root / "select", Trace)
        problems = list({trace.problem.id: trace.problem for trace in traces}.values())
    usable = [problem for problem in problems if problem.split is Split.TRAIN and problem.answer]
    usable.sort(key=lambda problem: item_seed(run.recipe.seed, "scorer", problem.id))
    return usable[: run.request.num_problems]


def sample_examples(
    run: FinishedRun,
    *,
    notify: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[LabelledText], dict[str, Any]]:
    """Sample and grade chains. Returns labelled texts of them, and facts for the card."""
    recipe, request, problems = run.recipe, run.request, _training_problems(run)
    ledger_path = Path(recipe.ledger) if recipe.ledger else request.run / "ledger.sqlite"
    session = open_session(str(run.folder), recipe.engine, notify=notify)
    with session, Ledger(ledger_path) as ledger, Grader() as grader:
        context = ParallelContext(
            session=session, ledger=ledger, grader=grader, recipe=recipe,
            chat=run.chat, forcing=run.arm.forcing,
            max_thinking_tokens=max(run.arm.caps), tag="scorer", progress=progress,
            sampling=Sampling(temperature=request.temperature),
        )  # fmt: skip
        tasks = [
            task
            for problem in problems
            for task in context.tasks(problem, num_samples=request.num_samples)
        ]
        notify(f"scorer: sampling {len(tasks)} chains for {len(problems)} training problems")
        completions = [completion for (completion,) in context.sampler().complete(tasks)]
        decode = session.tokenizer.decode
        verdicts = [
            context.grade(task.problem, completion).verdict
            for task, completion in zip(tasks, completions, strict=True)
        ]
        examples = [
            example
            for task, completion, verdict in zip(tasks, completions, verdicts, strict=True)
            if verdict.is_counted
            for example in _label_texts(run, task.problem, completion, decode, verdict)
        ]
        cost: Cost = ledger.spent("scorer")[0]
    return examples, {
        "num_problems": len(problems),
        "num_chains": len(tasks),
        "num_right": sum(verdict is Verdict.CORRECT for verdict in verdicts),
        "sampling_tokens": plain(cost),
    }


def _label_texts(
    run: FinishedRun,
    problem: Problem,
    completion: Completion,
    decode: Callable[[Sequence[int]], str],
    verdict: Verdict,
) -> Iterable[LabelledText]:
    """The prefixes of a chain and its whole transcript, labelled."""
    ids = completion.thinking_ids
    transcript = decode((*ids, *completion.closing_ids, *completion.answer_ids))
    prefixes = [*step_prefixes(decode(ids), run.step_ends), decode(ids)]
    for text, final in [*((prefix, False) for prefix in prefixes), (transcript, True)]:
        yield LabelledText(
            problem=problem, text=text, final=final, label=verdict is Verdict.CORRECT
        )
