"""A small real scorer out of a finished run: a linear head on the tuned model's hidden states.

A logistic head on the last token's state learns to tell right chains from wrong ones (`labelled`
draws them). What is saved is a sequence-classification folder that transformers loads, and beside
it a card, `scorer.json`: {"layers": 15, "num_chains": 600, "auc": {"final": {"auc": 0.84, …}}, …}.
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
"""Depths of the backbone that are tried; the upper layers are left off."""
MAX_LOSS = 0.01
"""Of AUC, for a shallower backbone: half the layers score in half the time."""
PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""L2 penalties that are tried."""
HELD_OUT_SHARE = 0.2
"""Of the problems, for the figures."""
CHOICE_SHARE = 0.25
"""Of the other problems, to choose depth and penalty on; then all of them are fitted."""


def make_scorer(
    request: ScorerRequest,
    *,
    notify: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Make the scorer's folder and return its card.

    Raises ConfigError where the run has no tuned model or `out` exists, DataError where all chains
    are right or all are wrong.
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
    """Fit on the examples, save, measure what was saved, and put the folder in place, whole."""
    out = run.request.out
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        card = _card(run) | dict(facts) | _fit(run, examples, partial, notify=notify)
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


# --- fitting --------------------------------------------------------------------------------------


def split(problems: Iterable[str], *, share: float, seed: int, name: str) -> frozenset[str]:
    """The problems, by id, of a seeded share; a problem's place does not depend on the others'."""
    found = sorted(set(problems), key=lambda one: item_seed(seed, name, one))
    return frozenset(found[: round(share * len(found))])


def held_out(examples: Sequence[LabelledText], *, seed: int) -> frozenset[str]:
    """Problems, by id, that the scorer is measured on."""
    ids = [one.problem.id for one in examples]
    return split(ids, share=HELD_OUT_SHARE, seed=seed, name="scorer held out")


def _fit(
    run: FinishedRun, examples: Sequence[LabelledText], out: Path, *, notify: Callable[[str], None]
) -> dict[str, Any]:
    """Choose depth and penalty on part of the fitting problems, fit on all of them, and save."""
    from slowthink.engines.transformers import reward_model as reward

    seed, engine = run.recipe.seed, run.recipe.engine
    outside = held_out(examples, seed=seed)
    fitting = [one for one in examples if one.problem.id not in outside]
    ids = [one.problem.id for one in fitting]
    choosing = split(ids, share=CHOICE_SHARE, seed=seed, name="scorer choice")
    _check_labels(fitting)
    rendering = reward.Rendering(chat=run.chat, formats=run.recipe.formats)
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
        here = max(one["auc"] for one in tried if one["layers"] == num_layers)
        notify(f"scorer: {num_layers} layers, AUC {here:.3f}")
    best = choose_best(tried)
    model = reward.build(run.folder, engine, num_layers=best["layers"])
    bias = reward.head_of(model, run.folder).bias is not None
    labels = [one.label for one in fitting]
    head = reward.fit_head(states[best["layers"]], labels, l2=best["l2"], bias=bias)
    reward.save(model, tokenizer, head, out)
    return {"layers": best["layers"], "l2": best["l2"], "tried": tried, "num_texts": len(examples)}


def choose_best(tried: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The best of the shallowest backbone that comes within `MAX_LOSS` of the best of all."""
    best = max(one["auc"] for one in tried)
    near = [one for one in tried if one["auc"] >= best - MAX_LOSS]
    return min(near, key=lambda one: (one["layers"], -one["auc"]))


def _try(
    states_ND: Any,
    examples: Sequence[LabelledText],
    choosing: frozenset[str],
    *,
    l2: float,
    bias: bool,
) -> float:
    """AUC on the problems for choosing, of a head fitted on the others; 0.5 where they hold no
    pair of a right and a wrong one."""
    from slowthink.engines.transformers import reward_model as reward

    chosen = np.array([one.problem.id in choosing for one in examples])
    labels = np.array([one.label for one in examples])
    weight_D, _ = reward.fit_head(states_ND[~chosen], labels[~chosen].tolist(), l2=l2, bias=bias)
    found = auc((states_ND[chosen] @ weight_D).tolist(), labels[chosen])
    return 0.5 if math.isnan(found) else round(found, 4)


def _check_labels(examples: Sequence[LabelledText]) -> None:
    right = sum(one.label for one in examples)
    if not 0 < right < len(examples):
        raise DataError(
            f"scorer: {right} of {len(examples)} texts come of right chains; expected some of each "
            "kind. Take other problems, or more: --problems 300"
        )


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
        "chat": run.chat.model_dump(mode="json"),
        "formats": {name: one.model_dump(mode="json") for name, one in run.recipe.formats.items()},
    }


# --- measuring ------------------------------------------------------------------------------------


def measure(run: FinishedRun, folder: Path, examples: Sequence[LabelledText]) -> dict[str, Any]:
    """AUC of the saved folder on the held-out problems: of whole transcripts and of starts, over
    all pairs and over pairs of one problem (those that a search compares)."""
    from slowthink.engines.transformers.reward_model import RewardModel

    outside = held_out(examples, seed=run.recipe.seed)
    model = RewardModel(folder, run.recipe.engine)
    found: dict[str, Any] = {}
    for name, final in (("final", True), ("steps", False)):
        members = [e for e in examples if e.problem.id in outside and e.final is final]
        scores = model.score([model.render(one.problem, one.text) for one in members])
        labelled = [
            LabelledScore(one.problem.id, score, one.label)
            for one, score in zip(members, scores, strict=True)
        ]
        found[name] = auc_report(labelled, seed=run.recipe.seed)
    return {"num_held_out": len(outside), "auc": found}
