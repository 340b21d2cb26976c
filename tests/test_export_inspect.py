"""A run's samples as logs of Inspect: equal to a log that inspect_ai 0.3.285 read and wrote back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from slowthink.errors import DataError
from slowthink.export import export_run
from tests.test_export import rows, write_run

GOLDEN = Path(__file__).parent / "fixtures" / "inspect_log.json"


def exported_log(folder: Path) -> tuple[Path, dict[str, Any]]:
    root = write_run(folder, rows())
    os.utime(root / "evaluate" / "data.parquet", (1_795_867_200, 1_795_867_200))
    (file,) = export_run(root, folder / "out", form="inspect")["files"]
    return Path(file["path"]), json.loads(Path(file["path"]).read_text("utf-8"))


def test_the_log_is_the_one_that_inspect_read(tmp_path: Path) -> None:
    path, log = exported_log(tmp_path)
    assert log["eval"].pop("packages").keys() == {"slowthink"}
    assert log == json.loads(GOLDEN.read_text("utf-8"))
    assert path.parent.name == "tuned"
    assert path.name.startswith("2026-11-28T12-00-00+00-00_set-limo-v2-t0.6-cap000008-waits0_")


def test_scores_count_what_accuracies_count(tmp_path: Path) -> None:
    _, log = exported_log(tmp_path)
    (score,) = log["results"]["scores"]
    assert (score["scored_samples"], score["unscored_samples"]) == (4, 1)
    assert score["metrics"]["accuracy"]["value"] == pytest.approx((1 / 3 + 1) / 2)
    values = [sample["scores"].get("slowthink", {}).get("value") for sample in log["samples"]]
    assert values == ["C", "I", "N", "C", None]
    reasons = [sample["output"]["choices"][0]["stop_reason"] for sample in log["samples"]]
    assert reasons == ["max_tokens", "max_tokens", "stop", "max_tokens", "max_tokens"]


def test_a_log_is_never_overwritten(tmp_path: Path) -> None:
    exported_log(tmp_path)
    with pytest.raises(DataError, match="the file exists already"):
        export_run(tmp_path / "run", tmp_path / "out", form="inspect")


def test_inspect_reads_the_log(tmp_path: Path) -> None:
    log = pytest.importorskip("inspect_ai.log")
    path, written = exported_log(tmp_path)
    read = log.read_eval_log(str(path))
    assert [sample.id for sample in read.samples] == [s["id"] for s in written["samples"]]
    assert len(log.list_eval_logs(str(tmp_path / "out"))) == 1
