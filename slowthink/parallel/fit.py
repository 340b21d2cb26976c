"""A small real scorer out of a finished run: a linear head on the tuned model's hidden states.

The tuned model draws chains for training problems; each start of a chain (up to a step end) and
each whole transcript is labelled by whether that chain's answer is right, the outcome label of
Math-Shepherd (Wang et al. 2023, arXiv 2312.08935) with one roll-out a step. A logistic head on the
last token's hidden state learns it. One real record: `Example(problem_id="p-01…", text="54 - 3 =
52.", final=False, label=False)`.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slowthink import __version__
from slowthink.engines import open_session
from slowthink.engines.models import load_tokenizer
from slowthink.engines.reward import CARD
from slowthink.errors import ConfigError, DataError
from slowthink.grading import Grader, check_dependencies
from slowthink.ledger import Ledger
from slowthink.loading import load_recipe
from slowthink.parallel.asking import Asking
from slowthink.parallel.auc import Labelled, auc, figures
from slowthink.parallel.steps import prefixes
from slowthink.plain import plain
from slowthink.recipe import ArmConfig, Recipe
from slowthink.records import Completion, Cost, Problem, Sampling, Split, Trace, Verdict, item_seed
from slowthink.runs import read_records

LAYER_SHARES = (0.5, 0.75, 1.0)
"""Depths of the backbone that are tried; the upper layers are left off."""
PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""L2 penalties that are tried."""
HELD_OUT_SHARE = 0.2
"""Of the problems, for the figures."""
CHOICE_SHARE = 0.25
"""Of the other problems, to choose depth and penalty on; then all of them are fitted."""
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
class Example:
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


def make_scorer(
    request: ScorerRequest,
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Make the scorer's folder and return its card.

    Raises ConfigError where the run has no tuned model or `out` exists, DataError where all chains
    are right or all are wrong.
    """
    started = time.monotonic()
    run = open_run(request)
    check_dependencies()
    examples, facts = draw_examples(run, say=say, progress=progress)
    say(f"scorer: {len(examples)} texts of {facts['num_chains']} chains")
    return write_scorer(run, examples, facts, say=say, started=started)


def write_scorer(
    run: FinishedRun,
    examples: Sequence[Example],
    facts: Mapping[str, Any],
    *,
    say: Callable[[str], None] = lambda _: None,
    started: float | None = None,
) -> dict[str, Any]:
    """Fit on the examples, save, measure what was saved, and put the folder in place, whole."""
    out = run.request.out
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        card = _card(run) | dict(facts) | _fit(run, examples, partial, say=say)
        _write_card(partial, card)  # it says how texts are rendered, to the measuring too
        card |= measure(run, partial, examples)
        card["seconds"] = round(time.monotonic() - started, 1) if started is not None else None
        _write_card(partial, card)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return card


def _write_card(folder: Path, card: Mapping[str, Any]) -> None:
    text = json.dumps(card, indent=1, ensure_ascii=False)
    (folder / CARD).write_text(text, encoding="utf-8")


# --- the run --------------------------------------------------------------------------------------


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
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Example], dict[str, Any]]:
    """Chains for the problems, graded, as examples; and what that took."""
    recipe, request, problems = run.recipe, run.request, _problems(run)
    ledger_path = Path(recipe.ledger) if recipe.ledger else request.run / "ledger.sqlite"
    session = open_session(str(run.folder), recipe.engine, say=say)
    with session, Ledger(ledger_path) as ledger, Grader() as grader:
        asking = Asking(
            session=session, ledger=ledger, grader=grader, recipe=recipe,
            chat=run.arm.chat or recipe.chat, forcing=run.arm.forcing,
            max_thinking_tokens=max(run.arm.caps), tag="scorer", progress=progress,
            sampling=Sampling(temperature=request.temperature),
        )  # fmt: skip
        tasks = [t for one in problems for t in asking.tasks(one, num_samples=request.num_samples)]
        say(f"scorer: drawing {len(tasks)} chains for {len(problems)} training problems")
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
) -> Iterable[Example]:
    """The starts of one chain and its whole transcript."""
    ids = completion.thinking_ids
    texts = [(start, False) for start in prefixes(decode(ids), run.step_ends)]
    texts.append((decode(ids), False))
    texts.append((decode((*ids, *completion.closing_ids, *completion.answer_ids)), True))
    for text, final in texts:
        right = verdict is Verdict.CORRECT
        yield Example(problem=problem, text=text, final=final, label=right)


# --- fitting --------------------------------------------------------------------------------------


def split(problems: Iterable[str], *, share: float, seed: int, name: str) -> frozenset[str]:
    """The problems, by id, of a seeded share; a problem's place does not depend on the others'."""
    found = sorted(set(problems), key=lambda one: item_seed(seed, name, one))
    return frozenset(found[: round(share * len(found))])


def held_out(examples: Sequence[Example], *, seed: int) -> frozenset[str]:
    """Problems, by id, that the scorer is measured on."""
    ids = [one.problem.id for one in examples]
    return split(ids, share=HELD_OUT_SHARE, seed=seed, name="scorer held out")


def _fit(
    run: FinishedRun, examples: Sequence[Example], out: Path, *, say: Callable[[str], None]
) -> dict[str, Any]:
    """Choose depth and penalty on part of the fitting problems, fit on all of them, and save."""
    from slowthink.engines import reward

    seed, engine = run.recipe.seed, run.recipe.engine
    outside = held_out(examples, seed=seed)
    fitting = [one for one in examples if one.problem.id not in outside]
    ids = [one.problem.id for one in fitting]
    choosing = split(ids, share=CHOICE_SHARE, seed=seed, name="scorer choice")
    _check_labels(fitting)
    rendering = reward.Rendering(chat=_chat(run), formats=run.recipe.formats)
    total, tokenizer = reward.layers_of(run.folder), load_tokenizer(str(run.folder))
    sequences = [rendering.ids(tokenizer, one.problem, one.text) for one in fitting]
    tried: list[dict[str, Any]] = []
    states: dict[int, Any] = {}
    for num_layers in sorted({max(1, round(share * total)) for share in LAYER_SHARES}):
        model = reward.build(run.folder, engine, num_layers=num_layers)
        states[num_layers] = reward.last_states(model, sequences, batch_size=16).states_ND
        bias = reward.head_of(model, run.folder).bias is not None
        for l2 in PENALTIES:
            found = _try(states[num_layers], fitting, choosing, l2=l2, bias=bias)
            tried.append({"layers": num_layers, "l2": l2, "auc": found})
        best = max(tried, key=lambda one: one["auc"])
        say(f"scorer: {num_layers} layers; best so far AUC {best['auc']:.3f}")
    best = max(tried, key=lambda one: (one["auc"], -one["layers"]))
    model = reward.build(run.folder, engine, num_layers=best["layers"])
    bias = reward.head_of(model, run.folder).bias is not None
    labels = [one.label for one in fitting]
    head = reward.fit_head(states[best["layers"]], labels, l2=best["l2"], bias=bias)
    reward.save(model, tokenizer, head, out)
    return {"layers": best["layers"], "l2": best["l2"], "tried": tried, "num_texts": len(examples)}


def _try(
    states_ND: Any, examples: Sequence[Example], choosing: frozenset[str], *, l2: float, bias: bool
) -> float:
    """AUC on the problems for choosing, of a head fitted on the others."""
    from slowthink.engines import reward

    chosen = np.array([one.problem.id in choosing for one in examples])
    labels = np.array([one.label for one in examples])
    weight_D, _ = reward.fit_head(states_ND[~chosen], labels[~chosen].tolist(), l2=l2, bias=bias)
    return auc((states_ND[chosen] @ weight_D).tolist(), labels[chosen])


def _check_labels(examples: Sequence[Example]) -> None:
    right = sum(one.label for one in examples)
    if not 0 < right < len(examples):
        raise DataError(
            f"scorer: {right} of {len(examples)} texts come of right chains; expected some of each "
            "kind. Take other problems, or more: --problems 300"
        )


def _chat(run: FinishedRun) -> Any:
    return run.arm.chat or run.recipe.chat


def _card(run: FinishedRun) -> dict[str, Any]:
    """How the scorer was made, and how its texts are rendered."""
    request = run.request
    return {
        "kind": "linear head on the tuned model's last-token hidden state, outcome labels",
        "run": str(request.run),
        "recipe": run.recipe.name,
        "seed": run.recipe.seed,
        "commit": request.commit,
        "slowthink": __version__,
        "num_samples": request.num_samples,
        "temperature": request.temperature,
        "max_thinking_tokens": max(run.arm.caps),
        "step_ends": list(run.step_ends),
        "chat": _chat(run).model_dump(mode="json"),
        "formats": {name: one.model_dump(mode="json") for name, one in run.recipe.formats.items()},
    }


# --- measuring ------------------------------------------------------------------------------------


def measure(run: FinishedRun, folder: Path, examples: Sequence[Example]) -> dict[str, Any]:
    """AUC of the saved folder on the held-out problems: of whole transcripts and of starts, over
    all pairs and over pairs of one problem (those that a search compares)."""
    from slowthink.engines.reward import RewardModel

    outside = held_out(examples, seed=run.recipe.seed)
    model = RewardModel(folder, run.recipe.engine)
    found: dict[str, Any] = {}
    for name, final in (("final", True), ("steps", False)):
        members = [e for e in examples if e.problem.id in outside and e.final is final]
        scores = model.score([model.render(one.problem, one.text) for one in members])
        labelled = [
            Labelled(one.problem.id, score, one.label)
            for one, score in zip(members, scores, strict=True)
        ]
        found[name] = figures(labelled, seed=run.recipe.seed)
    return {"num_held_out": len(outside), "auc": found}
