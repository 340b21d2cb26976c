"""The figures of training: read from the table and the file of costs, and drawn."""

from __future__ import annotations

import json
from pathlib import Path

from slowthink.data.tables import write_records
from slowthink.stage_rows import TrainingStep
from slowthink.stages.report.data import FinishedStages, _training
from slowthink.stages.report.page import _step_charts


def steps_of(folder: Path, *, costs: bool, **more) -> list[dict]:
    rows = [
        TrainingStep(
            step=number, epoch=number / 3, loss=2.0 - number / 10, learning_rate=1e-5, grad_norm=1.0,
            num_tokens=100, num_loss_tokens=60, **more,
        )
        for number in range(1, 4)
    ]  # fmt: skip
    write_records(folder / "data.parquet", rows, TrainingStep)
    if costs:
        lines = [{"step": n, "tokens_per_second": 50.0 * n, "memory_mb": 900} for n in range(1, 4)]
        (folder / "step_costs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = FinishedStages(root=folder, settings={}, folders={"train": folder}, manifests={})
    return (_training(run) or {})["steps"]


def test_speed_memory_and_accuracy_stand_beside_the_loss(tmp_path):
    steps = steps_of(tmp_path, costs=True, token_accuracy=0.5)
    assert steps[1]["tokens_per_second"] == 100.0 and steps[1]["memory_mb"] == 900
    titles = [str(chart["wide"]) for chart in _step_charts(steps)]
    assert len(titles) == 5
    assert "Token accuracy" in titles[1] and "Peak memory" in titles[4]


def test_a_run_of_an_older_version_has_loss_and_rate(tmp_path):
    steps = steps_of(tmp_path, costs=False)
    assert "memory_mb" not in steps[0]
    assert len(_step_charts(steps)) == 2
