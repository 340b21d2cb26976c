"""Whose checkpoints are in the stage's work folder: only this run's are resumed.

work/train/settings.json    settings and inputs with which the checkpoints were written
"""

from __future__ import annotations

import json
from typing import Any

from slowthink.pipeline.contract import StageContext, stage_settings
from slowthink.pipeline.run_folder import changed_settings, input_digests, renew_work_folder
from slowthink.serialise import write_atomic
from slowthink.stages.train.checkpoint import candidates, checkpoints

SETTINGS_FILE = "settings.json"
_FREE = (
    "micro_batch_size", "gradient_checkpointing", "compile", "save_every_steps", "report_to",
    "target_seconds",
)  # fmt: skip
"""Settings of `train` that may change in a run: they decide neither the loss nor the schedule."""


def set_aside_other_checkpoints(context: StageContext) -> None:
    """Move checkpoints and saved models of other settings, or of another training set, to
    `superseded/`, and say so."""
    path = context.work_folder / SETTINGS_FILE
    current = _deciding(context)
    if path.is_file():
        changed = changed_settings(json.loads(path.read_text("utf-8")), current)
        work = context.work_folder
        if changed and (checkpoints(work) or candidates(work)):
            context.notify(
                f"train: the unfinished run had other settings ({'; '.join(changed)}); its "
                "checkpoints are moved to superseded/, and training starts anew"
            )
            renew_work_folder(context)
    write_atomic(path, json.dumps(current))


def _deciding(context: StageContext) -> dict[str, Any]:
    settings = stage_settings(context.recipe, "train")
    train = {name: value for name, value in settings["train"].items() if name not in _FREE}
    inputs = input_digests(context.recipe, context.root, "train")
    plain: dict[str, Any] = json.loads(json.dumps(settings | {"train": train, "inputs": inputs}))
    return plain
