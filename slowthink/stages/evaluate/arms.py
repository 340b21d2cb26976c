"""Measure one arm: open its model once, sample every set under every protocol, grade the answers.

Stored samples are graded without running a model.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from slowthink.data.stored.grading import grade_stored
from slowthink.data.stored.read import read_stored
from slowthink.data.stored.samples import select_model
from slowthink.data.tables import missing_stage
from slowthink.engines import open_session
from slowthink.engines.models import load_tokenizer, resolve_model
from slowthink.errors import ConfigError
from slowthink.pipeline.contract import StageContext
from slowthink.recipe import ArmConfig
from slowthink.records import Dropped
from slowthink.sampling.sampler import session_facts
from slowthink.serialise import plain
from slowthink.stage_rows import EvaluationRow
from slowthink.stages.evaluate.batches import (
    ArmResult,
    EvaluationContext,
    ledger_tag,
    sample_batches,
    sample_rows,
)
from slowthink.stages.evaluate.parallel import parallel_curves
from slowthink.stages.evaluate.summary import STORED_PROTOCOL


def measure_arm(context: EvaluationContext, arm: ArmConfig) -> ArmResult:
    """All rows of an arm, and its curves of parallel scaling if the recipe asks for them."""
    if arm.samples is not None:
        return _stored_arm(context, arm)
    stage = context.stage
    name, revision = arm_model(stage, arm)
    with open_session(name, stage.recipe.engine, revision=revision, notify=stage.notify) as session:
        batches = sample_batches(context, arm, session)
        rows = [row for batch in batches for row in sample_rows(context, batch)]
        cost, seconds = context.ledger.spent(ledger_tag(arm))
        facts = {"tokens": plain(cost), "sampling_seconds": round(seconds, 1)}
        facts |= {"model": name, "fingerprint": session.fingerprint, **session_facts(session)}
        curves: list[dict[str, Any]] = []
        if context.config.parallel and context.config.parallel.arm == arm.name:
            curves, rows = parallel_curves(context, session, rows)
    return ArmResult(rows=rows, facts=facts, parallel=curves)


def check_models(stage: StageContext) -> None:
    """Find or download the models of all arms, before the first is asked. Raises ConfigError for a
    name that no model has."""
    engine = stage.recipe.engine
    if engine.kind in ("transformers", "vllm"):
        arms = [arm for arm in stage.config.arms if arm.samples is None]
        for name, revision in dict.fromkeys(arm_model(stage, arm) for arm in arms):
            resolve_model(
                name, revision, trust_remote_code=engine.trust_remote_code, notify=stage.notify
            )


def arm_model(stage: StageContext, arm: ArmConfig) -> tuple[str, str | None]:
    """Name and revision of an arm's model. Raises DataError if it is not trained yet."""
    if arm.model != "tuned":
        return stage.recipe.named_model(arm.model)
    if "train" not in stage.inputs:
        raise ConfigError(
            f"evaluate.arms: `{arm.name}` uses the tuned model, but the recipe has no train "
            "stage. Name a model folder or hub id in its `model`, or `base`."
        )
    model = stage.inputs["train"] / "model"
    if not model.is_dir():
        raise missing_stage(stage.root, "train")
    return str(model), None


def _stored_arm(context: EvaluationContext, arm: ArmConfig) -> ArmResult:
    assert arm.samples is not None
    stage = context.stage
    names = [protocol.name for protocol in context.protocols]
    if arm.protocol is not None and arm.protocol not in names:
        raise ConfigError(
            f"evaluate.arms: `{arm.name}` names the protocol `{arm.protocol}`; expected one of "
            f"evaluate.protocols ({', '.join(names)}). Add it there, or leave it null."
        )
    stored = read_stored(arm.samples, setting=f"evaluate.arms: {arm.name}")
    if arm.samples_model is not None:
        stored = select_model(stored, model=arm.samples_model)
    recipe = stage.recipe
    tokenizer = load_tokenizer(
        recipe.model, recipe.revision, trust_remote_code=recipe.engine.trust_remote_code
    )
    rows: list[EvaluationRow] = []
    unmatched: Counter[Dropped] = Counter()
    labels: Counter[str] = Counter(num_labelled=0, num_disagree=0)
    for problem_set in context.sets:
        set_rows, not_in_set, set_labels = grade_stored(
            stored,
            problem_set.problems,
            arm=arm.name,
            benchmark=problem_set.name,
            protocol=arm.protocol or STORED_PROTOCOL,
            grader=context.grader,
            count_tokens=lambda text: len(tokenizer.encode(text, add_special_tokens=False)),
            last_number=arm.last_number,
        )
        rows += set_rows
        unmatched.update(not_in_set)
        labels.update(set_labels)
    stage.notify(f"evaluate: {arm.name}, {len(rows)} stored samples of {arm.samples}")
    in_no_set = [drop for drop, count in unmatched.items() if count == len(context.sets)]
    return ArmResult(
        rows=rows, facts={"samples": arm.samples, "labels": dict(labels)},
        dropped=[*stored.dropped, *in_no_set],
    )  # fmt: skip
