"""export: a run's training set or samples in the forms of other programs.

export_run("runs/quickstart", "out", form="trl")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from slowthink.errors import ConfigError, DataError, did_you_mean
from slowthink.export.axolotl import axolotl_files
from slowthink.export.folder import TrainerFiles, check_absent, write_folder
from slowthink.export.inspect_log import export_inspect
from slowthink.export.llama_factory import llama_factory_files
from slowthink.export.lm_eval import export_lm_eval
from slowthink.export.ms_swift import ms_swift_files
from slowthink.export.plain_forms import openai_chat_files, parquet_files, sharegpt_files
from slowthink.export.settings import settings_notes
from slowthink.export.training import ExportSource, load_source
from slowthink.export.trl import trl_files
from slowthink.recipe.loading import Overrides
from slowthink.recipe.saved import load_saved
from slowthink.serialise import is_file

TRAINING_FORMS: dict[str, Callable[[ExportSource], TrainerFiles]] = {
    "trl": trl_files,
    "llama-factory": llama_factory_files,
    "ms-swift": ms_swift_files,
    "axolotl": axolotl_files,
    "sharegpt": sharegpt_files,
    "openai-chat": openai_chat_files,
    "parquet": parquet_files,
}
"""Forms of the training set, from stage `select` on."""
SAMPLE_FORMS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "lm-eval": export_lm_eval,
    "inspect": export_inspect,
}
"""Forms of the samples, from stage `evaluate` on."""
FORMS = (*TRAINING_FORMS, *SAMPLE_FORMS)


def export_run(
    run: str | Path, out: str | Path, *, form: str = "lm-eval", settings: Overrides = ()
) -> dict[str, Any]:
    """Write a run's training set (after `select`) or samples (after `evaluate`) to the folder.

    `settings` change the recipe for this call, e.g. {"chat.format": "think-tags"}. Returns `form`,
    `out`, `files` and, of a training set, `num_rows`, `num_problems`, `command`, `notes`; of
    samples, `num_samples`. Raises ConfigError for an unknown form, or one that cannot hold the
    rows; DataError if the stage is not finished, or a file exists already.
    """
    root, target = Path(run), Path(out)
    if form in SAMPLE_FORMS:
        return {"form": form, **SAMPLE_FORMS[form](root, target)}
    if form not in TRAINING_FORMS:
        raise ConfigError(
            f"--form: `{form:.40}` is unknown{did_you_mean(form, FORMS)}; expected one of "
            f"{', '.join(FORMS)}. Name one of these."
        )
    if not is_file(root / "recipe.yaml"):
        raise DataError(
            f"{root}: no recipe.yaml; expected the folder of a run. Name one, such as "
            "runs/quickstart, or start a run: slowthink run RECIPE"
        )
    check_absent(target)
    training = load_source(root, load_saved(root / "recipe.yaml", overrides=settings))
    written = TRAINING_FORMS[form](training)
    notes = (*written.notes, *(settings_notes(training) if written.command else ()))
    written = replace(written, notes=(*notes, *training.notes))
    write_folder(target, form, training, written)
    return {
        "out": str(target),
        "form": form,
        "num_rows": len(training.rows),
        "num_problems": len({row.trace.problem.id for row in training.rows}),
        "files": sorted(path.name for path in target.iterdir()),
        "command": written.command,
        "notes": list(written.notes),
    }
