"""`python -m benchmarks.gpu`: parts that fail alone, the table, s1's loop; slow: every part here."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.gpu import runner
from benchmarks.gpu.machine import source_facts
from benchmarks.gpu.part import PARTS, PartReport
from benchmarks.gpu.runner import Settings, run_part, table
from benchmarks.plain_vllm import PlainOutput, S1Ids, S1Rounds
from slowthink.recipe import VllmConfig
from tests.needs import needs

ROOT = Path(__file__).resolve().parents[1]


# --- processes ------------------------------------------------------------------------------------


def wait(code: str, tmp_path: Path, seconds: float = 30) -> str:
    with (tmp_path / "log").open("wb") as log:
        return runner._wait([sys.executable, "-c", code], str(tmp_path), log, seconds=seconds)


def test_a_process_is_done_or_failed(tmp_path: Path) -> None:
    assert wait("pass", tmp_path) == "done"
    assert wait("raise SystemExit(3)", tmp_path) == "failed"


def test_what_runs_over_ends_with_its_children(tmp_path: Path) -> None:
    child = "import os, time; open('child', 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    started = time.monotonic()
    assert wait(code, tmp_path, seconds=0.6) == "over time"
    assert time.monotonic() - started < 20
    number = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{number}").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{number}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{number}").exists()


def test_figures_are_written_as_they_come(tmp_path: Path) -> None:
    report = PartReport(tmp_path / "part.json", seconds=100, short=True)
    report.headline("ratio", 0.123456)
    assert json.loads((tmp_path / "part.json").read_text())["headline"] == {"ratio": 0.1235}
    report.figures("seconds", [1.5])
    report.note("skipped")
    saved = json.loads((tmp_path / "part.json").read_text())
    assert (saved["figures"], saved["notes"]) == ({"seconds": [1.5]}, ["skipped"])
    assert 90 < report.seconds_left <= 100


@needs("torch")
def test_the_time_of_the_imports_counts(tmp_path: Path, monkeypatch) -> None:
    """On a machine where they take ten seconds the process would be ended in its last step."""
    from benchmarks.gpu import machine, part, quickstart

    now = iter(range(0, 1000, 10))
    monkeypatch.setattr(part.time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(machine, "machine_facts", dict)
    left = []
    monkeypatch.setattr(quickstart, "measure", lambda report: left.append(report._end))
    part.run("quickstart", tmp_path / "part.json", 100, short=True)
    assert left == [20 + 90]  # at 20 the report begins, and 10 of the 100 seconds have gone


def test_the_package_is_imported_from_the_checkout_and_the_benchmarks_from_here(
    tmp_path: Path,
) -> None:
    other = tmp_path / "other"
    (other / "slowthink").mkdir(parents=True)
    (other / "slowthink" / "__init__.py").write_text("WHERE = 'other'\n")
    (other / "COMMIT").write_text("abc123\n")
    code = "import slowthink, benchmarks; print(slowthink.WHERE, benchmarks.__path__)"
    with runner._import_folder(other) as folder, (tmp_path / "log").open("wb") as log:
        assert runner._wait([sys.executable, "-c", code], folder, log, seconds=30) == "done"
    where = (tmp_path / "log").read_text()
    assert where.startswith("other ") and folder in where
    assert source_facts(other)["commit"] == "abc123"


def test_a_checkout_is_known_by_commit_and_by_its_files(tmp_path: Path) -> None:
    facts = source_facts(ROOT)
    head = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    git = subprocess.run(head, capture_output=True, text=True, check=False).stdout.strip()
    assert facts["commit"] == (git or None)
    assert len(facts["source"]) == 12 != source_facts(tmp_path)["source"]


# --- the table ------------------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_figure_and_the_ratio_of_two_checkouts() -> None:
    figures = {
        "checkouts": {"this": {"commit": "a" * 40, "changed": True}, "other": {"commit": None, "changed": None}},
        "machine": {"nvidia_smi": ["H100"], "versions": {"torch": "2.13"}, "cuda": "13", "cpu": "x", "cores": 2},
        "seconds": 9.5,
        "parts": {
            "forcing": {
                "this": {"status": "done", "seconds": 4, "headline": {"ratio": 0.9, "only here": 1}},
                "other": {"status": "failed", "seconds": 5, "headline": {"ratio": 0.6}},
            }
        },
    }  # fmt: skip
    text = table(figures)
    assert "| forcing | status | done, 4 s | failed, 5 s |  |" in text
    assert "| forcing | ratio | 0.9 | 0.6 | 1.50 |" in text
    assert "| forcing | only here | 1 |  |  |" in text
    assert text.startswith("H100; CUDA 13; torch 2.13; x, 2 cores; this aaaaaaaaaaaa (changed)")


def test_an_unknown_part_and_a_folder_that_is_no_checkout_are_refused(tmp_path: Path) -> None:
    from benchmarks.gpu.__main__ import _checkout, _parts

    assert _parts("forcing,training") == ["forcing", "training"]
    with pytest.raises(Exception, match="speed: expected conformance, "):
        _parts("speed")
    with pytest.raises(Exception, match="no folder `slowthink`"):
        _checkout(str(tmp_path))


# --- s1's loop ------------------------------------------------------------------------------------


class Scripted:
    """A plain engine that answers with scripted ids, and keeps what it was asked."""

    def __init__(self, *batches: list[list[int]]) -> None:
        self.batches, self.asked = list(batches), []

    def generate(self, prompts, max_tokens, **settings) -> PlainOutput:
        self.asked.append((prompts, max_tokens))
        return PlainOutput(self.batches.pop(0), 0.5)


IDS = S1Ids(triggers=frozenset({9}), eos_ids=frozenset({9}), wait=[7], newline=[3], closing=[4, 5])


def test_s1s_loop_appends_wait_while_the_budget_lasts() -> None:
    plain = Scripted([[1, 2, 9], [1] * 8], [[1, 9]], [[6, 9], [6, 6]])
    rounds = S1Rounds([[10], [11]], IDS, cap=8, waits=1, answer_tokens=2)
    num_tokens, seconds = rounds.run(plain)
    assert plain.asked == [
        ([[10], [11]], [8, 8]),
        ([[10, 1, 2, 7]], [5]),
        ([[10, 1, 2, 7, 1, 3, 4, 5], [11, *[1] * 8, 3, 4, 5]], [2, 2]),
    ]
    assert (num_tokens, seconds) == (4 + 8 + 2 * 3 + 1 + 2, 1.5)


# --- conformance ----------------------------------------------------------------------------------


@pytest.fixture
def compared(tmp_path: Path, monkeypatch):
    """Runs the part with engines that say how they were opened, on a device of this name and with
    so many seconds; returns its report and the vLLM settings that were compared."""
    from benchmarks import conformance as settings
    from benchmarks.gpu import conformance as part

    def run(device: str, *, seconds: float = 100, broken: bool = False) -> tuple[dict, list]:
        opened = []

        def open_session(model, config):
            if config.kind == "vllm":
                opened.append(config.vllm)
            if broken and not config.vllm.enforce_eager and config.kind == "vllm":
                raise RuntimeError("no graphs")
            return contextlib.nullcontext(SimpleNamespace(eos_ids=frozenset(), config=config))

        monkeypatch.setattr(settings, "device_name", lambda: device)
        monkeypatch.setattr(settings, "open_session", open_session)
        monkeypatch.setattr(part, "use_vllm", lambda report: {})
        monkeypatch.setattr(part, "precision_facts", dict)
        monkeypatch.setattr(part, "session_facts", lambda vllm: vllm.config.vllm.model_dump())
        monkeypatch.setattr(part, "LiteralLoop", lambda *_: None)
        error = settings.LogitError(vllm=1e-5, batch=0.0, positions=3)
        monkeypatch.setattr(part, "logit_error", lambda *_, **__: error)
        result = {"transformers": settings.Comparison(requests=8, equal=8)}
        monkeypatch.setattr(part, "compare", lambda *_, **__: result)
        report = PartReport(tmp_path / "part.json", seconds=seconds, short=False)
        with pytest.raises(RuntimeError, match="no graphs") if broken else contextlib.nullcontext():
            part.measure(report)
        return json.loads((tmp_path / "part.json").read_text()), opened

    return run


@needs("torch")
def test_on_a_gpu_vllm_is_compared_as_it_runs_by_default_and_then_in_chunks(compared) -> None:
    report, (default, eager) = compared("cuda")
    assert default == VllmConfig()
    assert (eager.enforce_eager, eager.max_num_batched_tokens) == (True, 64)
    rows = report["headline"]
    assert rows["equal, waits (default)"] == rows["equal, waits (eager)"] == "8 of 8"
    assert next(iter(rows)) == "error of the logits, vLLM (default)"
    assert report["figures"]["default"]["engine"]["enforce_eager"] is False


@needs("torch")
def test_without_time_for_both_the_default_is_compared(compared) -> None:
    report, opened = compared("cuda", seconds=15)
    assert [config.enforce_eager for config in opened] == [False]
    assert "equal, waits (default)" in report["headline"]
    assert report["notes"][0].startswith("vLLM, eager: skipped, 1")


@needs("torch")
def test_on_a_cpu_vllm_is_compared_in_chunks_alone(compared) -> None:
    _, opened = compared("cpu")
    assert [config.enforce_eager for config in opened] == [True]


@needs("torch")
def test_a_default_that_does_not_start_is_a_row_and_the_part_fails_in_the_end(compared) -> None:
    report, opened = compared("cuda", broken=True)
    assert report["headline"]["vLLM (default)"] == "RuntimeError: no graphs"
    assert report["headline"]["equal, waits (eager)"] == "8 of 8"
    assert len(opened) == 2


# --- every part, shortened ------------------------------------------------------------------------


@pytest.mark.slow
@needs("torch")
def test_a_part_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "slowthink").mkdir()
    (tmp_path / "slowthink" / "__init__.py").write_text("raise RuntimeError('broken checkout')")
    settings = Settings(parts=["forcing"], out=tmp_path / "out")
    settings.out.mkdir()
    report = run_part("forcing", tmp_path, settings, label="forcing")
    assert report["status"] == "failed"
    assert "broken checkout" in report["stderr"][-1]
    assert report["machine"]["cores"] >= 1


ONE_PROCESS = """
import sys
from pathlib import Path
from benchmarks.gpu.part import run
for part in sys.argv[2:]:
    run(part, Path(sys.argv[1]) / f"{part}.json", 300, short=True, vllm={})
"""
"""Parts in one process, which imports torch and vLLM once."""
IN_ONE_PROCESS = [part for part in PARTS if part != "adapters"]


@pytest.mark.slow
@needs("torch", "transformers", "trl", "vllm")
def test_every_part_runs_here(smollm, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", ONE_PROCESS, str(tmp_path), *IN_ONE_PROCESS]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    reports = {part: json.loads((tmp_path / f"{part}.json").read_text()) for part in IN_ONE_PROCESS}
    headlines = {part: report["headline"] for part, report in reports.items()}
    assert headlines["conformance"]["equal, waits (eager)"] == "3 of 3"
    assert 0 < reports["conformance"]["figures"]["eager"]["logit_error"]["vllm"] < 1e-3
    assert headlines["forcing"]["in flight over s1_cached, 4 greedy"] > 0
    assert headlines["forcing"]["in flight over plain, 4 sampled"] > 0
    assert headlines["training"]["ours over trl_best, short rows"] > 0
    assert headlines["real_problems"]["chains on heldout, cap 4"].startswith("0 of 4, ")
    assert headlines["chain_ablations"]["fit-worst → fit-best"].endswith("one seed")
    assert headlines["decoding"]["tokens/s vllm, 4"] > 0
    assert headlines["quickstart"]["finished"] == "yes"


@pytest.mark.slow
@needs("torch", "transformers", "trl")
def test_the_command_runs_a_part_in_a_process(smollm, tmp_path: Path) -> None:
    options = ["--json", "--short", "--parts", "adapters", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "benchmarks.gpu", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)["parts"]["adapters"]["this"]
    assert report["status"] == "done"
    assert report["headline"]["tokens/s lora, short rows"] > 0
    assert (
        f"| adapters | status | done, {report['seconds']} s |" in (tmp_path / "gpu.md").read_text()
    )
