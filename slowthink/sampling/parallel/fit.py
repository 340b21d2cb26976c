"""Train a small verifier from a finished run: a linear head on the tuned model's hidden states.

A logistic regression on the last token's hidden state separates right chains from wrong ones
(`rollouts` samples and labels them). It is saved as a sequence-classification model of
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

from slowthink.engines.models import load_tokenizer
from slowthink.engines.transformers.reward_model import CARD_FILE
from slowthink.environment import __version__
from slowthink.errors import DataError
from slowthink.grading import check_dependencies
from slowthink.records import item_seed
from slowthink.sampling.parallel.auc import LabelledScore, auc, auc_report
from slowthink.sampling.parallel.rollouts import (
    FinishedRun,
    LabelledText,
    ScorerRequest,
    open_run,
    sample_examples,
)
from slowthink.serialise import move_folder

__all__ = ["ScorerRequest", "choose_best", "make_scorer", "write_scorer"]

LAYER_SHARES = (0.5, 1.0)
"""Depths of the backbone to try, as shares of its layers; upper layers are removed."""
MAX_AUC_LOSS = 0.01
"""Maximum loss of AUC for a shallower backbone: half the layers need half the time."""
PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""L2 penalties to try."""
HELD_OUT_SHARE = 0.2
"""Share of the problems that the final scorer is tested on."""
VALIDATION_SHARE = 0.25
"""Share of the other problems for choosing depth and penalty; the final fit includes them."""


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
    start_time = time.monotonic()
    run = open_run(request)
    check_dependencies()
    examples, facts = sample_examples(run, notify=notify, progress=progress)
    notify(f"scorer: {len(examples)} texts of {facts['num_chains']} chains")
    return write_scorer(run, examples, facts, notify=notify, start_time=start_time)


def write_scorer(
    run: FinishedRun,
    examples: Sequence[LabelledText],
    facts: Mapping[str, Any],
    *,
    notify: Callable[[str], None] = lambda _: None,
    start_time: float | None = None,
) -> dict[str, Any]:
    """Fit a scorer on the examples, test it on held-out ones, and save folder and card."""
    out = run.request.out
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        card = _card(run) | dict(facts) | _fit(run, examples, partial, notify=notify)
        _write_card(partial, card)  # `measure` reads from the card how texts are rendered
        card |= measure(run, partial, examples)
        seconds = None if start_time is None else round(time.monotonic() - start_time, 1)
        card["seconds"] = seconds
        _write_card(partial, card)
        move_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return card


def _write_card(folder: Path, card: Mapping[str, Any]) -> None:
    text = json.dumps(card, indent=1, ensure_ascii=False)
    (folder / CARD_FILE).write_text(text, encoding="utf-8")


# --- fitting --------------------------------------------------------------------------------------


def sample_ids(ids: Iterable[str], *, share: float, seed: int, name: str) -> frozenset[str]:
    """A seeded share of the ids; the rank of an id does not depend on the others."""
    ranked = sorted(set(ids), key=lambda id: item_seed(seed, name, id))
    return frozenset(ranked[: round(share * len(ranked))])


def held_out_ids(examples: Sequence[LabelledText], *, seed: int) -> frozenset[str]:
    """Ids of the problems that the scorer is tested on."""
    ids = [example.problem.id for example in examples]
    return sample_ids(ids, share=HELD_OUT_SHARE, seed=seed, name="scorer held out")


def _fit(
    run: FinishedRun, examples: Sequence[LabelledText], out: Path, *, notify: Callable[[str], None]
) -> dict[str, Any]:
    """Choose depth and penalty on validation problems, fit on all but held-out ones, and save."""
    from slowthink.engines.transformers import reward_model

    seed, engine = run.recipe.seed, run.recipe.engine
    held_out = held_out_ids(examples, seed=seed)
    training = [example for example in examples if example.problem.id not in held_out]
    ids = [example.problem.id for example in training]
    validation = sample_ids(ids, share=VALIDATION_SHARE, seed=seed, name="scorer choice")
    _check_labels(training)
    rendering = reward_model.Rendering(chat=run.chat, formats=run.recipe.formats)
    total_layers = reward_model.read_num_layers(run.folder)
    tokenizer = load_tokenizer(str(run.folder))
    sequences = [rendering.ids(tokenizer, item.problem, item.text) for item in training]
    trials: list[dict[str, Any]] = []
    states: dict[int, Any] = {}
    for num_layers in sorted({max(1, round(share * total_layers)) for share in LAYER_SHARES}):
        model = reward_model.build_untrained(run.folder, engine, num_layers=num_layers)
        hidden_states = reward_model.last_token_states(model, sequences, batch_size=16)
        states[num_layers] = hidden_states.states_ND
        bias = reward_model.find_head(model, run.folder).bias is not None
        for l2 in PENALTIES:
            validation_auc = _validate(states[num_layers], training, validation, l2=l2, bias=bias)
            trials.append({"layers": num_layers, "l2": l2, "auc": validation_auc})
        best_auc = max(trial["auc"] for trial in trials if trial["layers"] == num_layers)
        notify(f"scorer: {num_layers} layers, AUC {best_auc:.3f}")
    best = choose_best(trials)
    model = reward_model.build_untrained(run.folder, engine, num_layers=best["layers"])
    bias = reward_model.find_head(model, run.folder).bias is not None
    labels = [example.label for example in training]
    head = reward_model.fit_head(states[best["layers"]], labels, l2=best["l2"], bias=bias)
    reward_model.save(model, tokenizer, head, out)
    return {"layers": best["layers"], "l2": best["l2"], "tried": trials, "num_texts": len(examples)}


def choose_best(trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The best trial of the shallowest backbone that loses at most `MAX_AUC_LOSS` to the best."""
    best_auc = max(trial["auc"] for trial in trials)
    acceptable = [trial for trial in trials if trial["auc"] >= best_auc - MAX_AUC_LOSS]
    return min(acceptable, key=lambda trial: (trial["layers"], -trial["auc"]))


def _validate(
    states_ND: Any,
    examples: Sequence[LabelledText],
    validation: frozenset[str],
    *,
    l2: float,
    bias: bool,
) -> float:
    """AUC on the validation problems of a head fitted on the others; 0.5 if all have one label."""
    from slowthink.engines.transformers import reward_model

    is_held = np.array([example.problem.id in validation for example in examples])
    labels = np.array([example.label for example in examples])
    weight_D, _ = reward_model.fit_head(
        states_ND[~is_held], labels[~is_held].tolist(), l2=l2, bias=bias
    )
    validation_auc = auc((states_ND[is_held] @ weight_D).tolist(), labels[is_held])
    return 0.5 if math.isnan(validation_auc) else round(validation_auc, 4)


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
        "formats": {name: f.model_dump(mode="json") for name, f in run.recipe.formats.items()},
    }


# --- testing ------------------------------------------------------------------------------------


def measure(run: FinishedRun, folder: Path, examples: Sequence[LabelledText]) -> dict[str, Any]:
    """AUC of the saved scorer on held-out problems, for whole transcripts and for prefixes."""
    from slowthink.engines.transformers.reward_model import RewardModel

    held_out = held_out_ids(examples, seed=run.recipe.seed)
    model = RewardModel(folder, run.recipe.engine)
    reports: dict[str, Any] = {}
    for name, final in (("final", True), ("steps", False)):
        items = [e for e in examples if e.problem.id in held_out and e.final is final]
        scores = model.score([model.render(item.problem, item.text) for item in items])
        labelled = [
            LabelledScore(item.problem.id, score, item.label)
            for item, score in zip(items, scores, strict=True)
        ]
        reports[name] = auc_report(labelled, seed=run.recipe.seed)
    return {"num_held_out": len(held_out), "auc": reports}
