"""Train a small verifier from a finished run: a linear head on the tuned model's hidden states.

A logistic regression on the last token's hidden state separates right chains from wrong ones
(`rollouts` samples and labels them). It is saved as a sequence-classification folder for
transformers, with a card, `scorer.json`: {"layers": 15, "auc": {"final": {"auc": 0.84, …}}, …}.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slowthink import __version__
from slowthink.engines.models import load_tokenizer
from slowthink.engines.transformers.reward_model import CARD
from slowthink.errors import DataError
from slowthink.grading import check_dependencies
from slowthink.records import item_seed
from slowthink.sampling.parallel.auc import LabelledScore, auc, auc_report
from slowthink.sampling.parallel.rollouts import (
    FinishedRun,
    LabelledText,
    ScorerRequest,
    draw_examples,
    open_run,
)

__all__ = ["ScorerRequest", "choose_best", "make_scorer", "write_scorer"]

LAYER_SHARES = (0.5, 1.0)
"""Depths of the backbone to try, as shares of its layers; the upper layers are removed."""
MAX_AUC_LOSS = 0.01
"""AUC to give up for a shallower backbone: half the layers score in half the time."""
PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""L2 penalties to try."""
HELD_OUT_SHARE = 0.2
"""Share of the problems to measure the final scorer on."""
VALIDATION_SHARE = 0.25
"""Share of the other problems to choose depth and penalty on; the final fit uses them too."""


def make_scorer(
    request: ScorerRequest,
    *,
    notify: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Train a scorer, save its folder and return its card.

    Raises ConfigError if the run has no tuned model or `out` exists, DataError if all chains are
    right or all are wrong.
    """
    started = time.monotonic()
    run = open_run(request)
    check_dependencies()
    examples, facts = draw_examples(run, notify=notify, progress=progress)
    notify(f"scorer: {len(examples)} texts of {facts['num_chains']} chains")
    return write_scorer(run, examples, facts, notify=notify, started=started)


def write_scorer(
    run: FinishedRun,
    examples: Sequence[LabelledText],
    facts: Mapping[str, Any],
    *,
    notify: Callable[[str], None] = lambda _: None,
    started: float | None = None,
) -> dict[str, Any]:
    """Fit a scorer on the examples, measure it on held-out ones, and save folder and card."""
    out = run.request.out
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        card = _card(run) | dict(facts) | _fit(run, examples, partial, notify=notify)
        _write_card(partial, card)  # `measure` renders texts as the card says
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


# --- fitting --------------------------------------------------------------------------------------


def split(problems: Iterable[str], *, share: float, seed: int, name: str) -> frozenset[str]:
    """Draw a seeded share of problem ids; a problem's rank does not depend on the others."""
    ranked = sorted(set(problems), key=lambda problem_id: item_seed(seed, name, problem_id))
    return frozenset(ranked[: round(share * len(ranked))])


def held_out(examples: Sequence[LabelledText], *, seed: int) -> frozenset[str]:
    """Ids of the problems that the scorer is measured on."""
    ids = [example.problem.id for example in examples]
    return split(ids, share=HELD_OUT_SHARE, seed=seed, name="scorer held out")


def _fit(
    run: FinishedRun, examples: Sequence[LabelledText], out: Path, *, notify: Callable[[str], None]
) -> dict[str, Any]:
    """Choose depth and penalty on validation problems, fit on all but the held-out, and save."""
    from slowthink.engines.transformers import reward_model as reward

    seed, engine = run.recipe.seed, run.recipe.engine
    excluded = held_out(examples, seed=seed)
    training = [example for example in examples if example.problem.id not in excluded]
    ids = [example.problem.id for example in training]
    validation = split(ids, share=VALIDATION_SHARE, seed=seed, name="scorer choice")
    _check_labels(training)
    rendering = reward.Rendering(chat=run.chat, formats=run.recipe.formats)
    total, tokenizer = reward.layers_of(run.folder), load_tokenizer(str(run.folder))
    sequences = [rendering.ids(tokenizer, item.problem, item.text) for item in training]
    tried: list[dict[str, Any]] = []
    states: dict[int, Any] = {}
    for num_layers in sorted({max(1, round(share * total)) for share in LAYER_SHARES}):
        model = reward.build(run.folder, engine, num_layers=num_layers)
        states[num_layers] = reward.last_states(model, sequences, batch_size=16).states_ND
        bias = reward.head_of(model, run.folder).bias is not None
        for l2 in PENALTIES:
            score = _validate(states[num_layers], training, validation, l2=l2, bias=bias)
            tried.append({"layers": num_layers, "l2": l2, "auc": score})
        best_auc = max(trial["auc"] for trial in tried if trial["layers"] == num_layers)
        notify(f"scorer: {num_layers} layers, AUC {best_auc:.3f}")
    best = choose_best(tried)
    model = reward.build(run.folder, engine, num_layers=best["layers"])
    bias = reward.head_of(model, run.folder).bias is not None
    labels = [example.label for example in training]
    head = reward.fit_head(states[best["layers"]], labels, l2=best["l2"], bias=bias)
    reward.save(model, tokenizer, head, out)
    return {"layers": best["layers"], "l2": best["l2"], "tried": tried, "num_texts": len(examples)}


def choose_best(tried: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The best trial of the shallowest backbone within `MAX_AUC_LOSS` of the best of all."""
    best = max(trial["auc"] for trial in tried)
    near = [trial for trial in tried if trial["auc"] >= best - MAX_AUC_LOSS]
    return min(near, key=lambda trial: (trial["layers"], -trial["auc"]))


def _validate(
    states_ND: Any,
    examples: Sequence[LabelledText],
    validation: frozenset[str],
    *,
    l2: float,
    bias: bool,
) -> float:
    """AUC on the validation problems of a head fitted on the others; 0.5 if all have one label."""
    from slowthink.engines.transformers import reward_model as reward

    held = np.array([example.problem.id in validation for example in examples])
    labels = np.array([example.label for example in examples])
    weight_D, _ = reward.fit_head(states_ND[~held], labels[~held].tolist(), l2=l2, bias=bias)
    score = auc((states_ND[held] @ weight_D).tolist(), labels[held])
    return 0.5 if math.isnan(score) else round(score, 4)


def _check_labels(examples: Sequence[LabelledText]) -> None:
    num_right = sum(example.label for example in examples)
    if not 0 < num_right < len(examples):
        raise DataError(
            f"scorer: {num_right} of {len(examples)} texts are of right chains; expected some of "
            "each kind. Use other problems, or more: --problems 300"
        )


def _card(run: FinishedRun) -> dict[str, Any]:
    """How the scorer was trained, and how its texts are rendered."""
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
        "chat": run.chat.model_dump(mode="json"),
        "formats": {name: own.model_dump(mode="json") for name, own in run.recipe.formats.items()},
    }


# --- measuring ------------------------------------------------------------------------------------


def measure(run: FinishedRun, folder: Path, examples: Sequence[LabelledText]) -> dict[str, Any]:
    """AUC of the saved scorer on the held-out problems, for whole transcripts and for prefixes."""
    from slowthink.engines.transformers.reward_model import RewardModel

    problems = held_out(examples, seed=run.recipe.seed)
    model = RewardModel(folder, run.recipe.engine)
    reports: dict[str, Any] = {}
    for name, final in (("final", True), ("steps", False)):
        items = [e for e in examples if e.problem.id in problems and e.final is final]
        scores = model.score([model.render(item.problem, item.text) for item in items])
        labelled = [
            LabelledScore(item.problem.id, score, item.label)
            for item, score in zip(items, scores, strict=True)
        ]
        reports[name] = auc_report(labelled, seed=run.recipe.seed)
    return {"num_held_out": len(problems), "auc": reports}
