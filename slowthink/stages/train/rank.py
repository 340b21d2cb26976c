"""Training in one process: alone, or as one of several that train together.

As one of several: `python -m slowthink.stages.train.rank RUN_FOLDER`. Each reads the run's settings
and training set itself; the first writes the model and, into the stage's work folder, the result.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from slowthink.environment import hide_import_warnings
from slowthink.errors import SlowthinkError
from slowthink.pipeline.contract import StageContext, stage_inputs
from slowthink.pipeline.progress import ProgressReporter
from slowthink.pipeline.stage_process import die_with_parent
from slowthink.recipe import Recipe
from slowthink.recipe.loading import load_recipe
from slowthink.serialise import write_atomic
from slowthink.stages.train.launch import RESULT_FILE
from slowthink.stages.train.loop import FineTuned, fine_tune
from slowthink.stages.train.model import save_for_serving
from slowthink.stages.train.processes import process_group, rank
from slowthink.stages.train.training_set import TrainingSet, read_training_set

ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
"""Variable with the path of the file that torchrun's agent reads when this process fails."""


def train_here(context: StageContext, data: TrainingSet) -> FineTuned:
    """Train in this process, from the last checkpoint if there is one, and save the model."""
    with process_group(context.config):
        return _train_and_save(context, data)


def follow(recipe: Recipe, root: Path, *, quiet: bool = False) -> None:
    """Train as one of several processes, once the first has prepared the run folder."""
    assert recipe.train is not None
    with process_group(recipe.train), ProgressReporter(quiet=quiet or rank() > 0) as reporter:
        context = _rank_context(load_recipe(str(root / "recipe.yaml")), root, reporter)
        tuned = _train_and_save(context, read_training_set(context))
        if rank() == 0:
            write_atomic(context.work_folder / RESULT_FILE, json.dumps(tuned.to_json()))


def _train_and_save(context: StageContext, data: TrainingSet) -> FineTuned:
    recipe = context.recipe
    trust = recipe.engine.trust_remote_code

    def save(model: Any, folder: Path) -> None:
        save_for_serving(
            model, data.tokenizer, folder, source=data.source, lora=context.config.lora,
            base_name=(recipe.model, recipe.revision), trust_remote_code=trust,
        )  # fmt: skip

    tuned = fine_tune(
        data.source, data.tokenizer, data.examples, context.config, work=context.work_folder,
        seed=data.seed, notify=context.notify, progress=context.progress, trust_remote_code=trust,
        run_name=context.root.resolve().name, save=save,
    )  # fmt: skip
    if tuned.model is not None:
        save(tuned.model, context.folder / "model")
    return replace(tuned, model=None)


def _rank_context(recipe: Recipe, root: Path, reporter: ProgressReporter) -> StageContext:
    """The context of the train stage, whose folders the stage has made."""
    return StageContext(
        stage="train", recipe=recipe, root=root, folder=root / "train.partial",
        work_folder=root / "work" / "train", inputs=stage_inputs(recipe, root, "train"),
        notify=reporter.notify, progress=reporter.progress,
    )  # fmt: skip


def main(arguments: list[str]) -> int:
    """RUN_FOLDER and settings as JSON. An error is written for torchrun's agent, as it expects."""
    hide_import_warnings()
    die_with_parent(os.getppid())
    try:
        root = Path(arguments[0])
        follow(load_recipe(str(root / "recipe.yaml")), root, **json.loads(arguments[1]))
    except Exception as error:
        is_own = isinstance(error, SlowthinkError)
        report = {
            "message": str(error) if is_own else traceback.format_exc(),
            "kind": type(error).__name__ if is_own else None,
            "timestamp": int(time.time()),
        }
        path = os.environ.get(ERROR_FILE)
        if path:
            Path(path).write_text(json.dumps(report), "utf-8")
        else:
            print(report["message"], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
