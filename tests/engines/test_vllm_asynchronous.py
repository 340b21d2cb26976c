"""Asynchronous scheduling, both model runners, one or two data-parallel copies: the ids are those of
the transformers engine, though ids are late and results are read between steps.
See `tests.engines.asynchronous`."""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from slowthink.engines import open_session
from slowthink.engines.session import generate
from slowthink.engines.vllm.forced_row import ForcedRow, RowSettings
from slowthink.engines.vllm.request_args import ForcingArgs
from slowthink.engines.vllm.rows import Stepper
from slowthink.engines.vllm.self_check import check_forcing
from slowthink.errors import ConfigError, EngineError
from slowthink.recipe import EngineConfig
from slowthink.records import Budget, Sampling, ThinkingFormat
from tests.engines.asynchronous import CONTEXT, jobs_for
from tests.engines.toy_engine import compiled, logits

with_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vllm is not installed"
)


@pytest.fixture(scope="module")
def expected(smollm) -> dict[str, Any]:
    """The transformers engine's results by key."""
    config = EngineConfig(kind="transformers", dtype="float32", max_context=CONTEXT)
    with open_session(smollm, config) as session:
        return {result.key: result for result in generate(session, jobs_for(session, 2))}


def run_asynchronous(model: str, folder: Path, *arguments: str) -> dict[str, Any]:
    file = folder / "outcome.pickle"
    command = [sys.executable, "-m", "tests.engines.asynchronous"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, arguments[0], model, str(file), *arguments[1:]],
        env=environment, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    outcome: dict[str, Any] = pickle.loads(file.read_bytes())
    return outcome


def check_results(outcome: dict[str, Any], expected: dict[str, Any]) -> None:
    results = outcome["results"]
    assert {key: r.chain for key, r in results.items()} == {
        key: expected[key].chain for key in results
    }
    for key, result in results.items():
        assert sorted(a.ids for a in result.answers) == sorted(a.ids for a in expected[key].answers)
    for key, parts in outcome["partial"].items():
        lengths = [len(part.chain.ids) for part in parts]
        assert lengths == sorted(lengths)
        assert all(
            part.chain.ids == expected[key].chain.ids[: len(part.chain.ids)] for part in parts
        )


@with_vllm
@pytest.mark.slow
@pytest.mark.parametrize("num_copies", [1, 2])
@pytest.mark.parametrize(
    ("runner", "module"),
    [("V1", "vllm.v1.worker.gpu_model_runner"), ("V2", "vllm.v1.worker.gpu.model_runner")],
)
def test_preempted_and_chunked_rows_keep_their_ids(
    runner, module, num_copies, smollm, expected, tmp_path
) -> None:
    outcome = run_asynchronous(smollm, tmp_path, runner, str(num_copies))
    check_results(outcome, expected)
    assert len(outcome["results"]) == 5 * num_copies
    assert sum(map(len, outcome["partial"].values())) > 25 * num_copies
    assert len(outcome["copies"]) == num_copies
    for copy in outcome["copies"]:
        assert copy["runner"] == module
        assert copy["ahead"] > 20
        assert copy["preempted"] > 0
        assert copy["chunked"] > 0
        assert copy["waits"] == 0


@with_vllm
@pytest.mark.slow
def test_collecting_between_steps_is_refused_at_start(smollm, tmp_path) -> None:
    error = run_asynchronous(smollm, tmp_path, "V1", "2", "early")["error"]
    assert "V1 model runner, asynchronous scheduling" in error
    assert "not those that were forced" in error
    assert "Set engine.vllm.async_scheduling=false" in error


def test_an_end_is_recorded_only_once_its_token_was_returned_and_no_row_is_changed() -> None:
    always = Budget(max_thinking_tokens=4, end_rule="probability", end_probability=0.0)
    format = ThinkingFormat(name="tags", start="ab", end="Eh", end_triggers=("E",))
    args = ForcingArgs(format=format, budget=always, sampling=Sampling(), log="job")
    row = ForcedRow(compiled(args), RowSettings(cap=4, sampling=Sampling()), outputs=[])
    stepper = Stepper(torch.device("cpu"))
    stepper.edit_logits(logits(0, [0, 1])[None], {0: row})
    row.outputs.append(-1)  # its id is not known yet
    stepper.record_last_ends({"job": 0, "other": 9})
    assert row.history.ends == {}
    stepper.record_last_ends({"job": 1})
    assert list(row.history.ends) == [0]
    assert row.num_observed == 0


# --- the check at start ---------------------------------------------------------------------------


class Broken:
    """A session whose engine raises, e.g. since it outputs garbage ids."""

    tokenizer = SimpleNamespace(encode=lambda text, add_special_tokens: [1, 2])

    def __init__(self, error: BaseException | None = None) -> None:
        self.jobs: dict[str, Any] = {}
        self.error = error or OverflowError("can't convert negative int to unsigned")

    def submit(self, job: Any) -> None:
        self.jobs[job.key] = job

    def completed(self, timeout: float | None = None) -> list[Any]:
        raise self.error


@pytest.mark.parametrize(
    ("uses_v2", "is_asynchronous", "switch"),
    [
        (True, True, "VLLM_USE_V2_MODEL_RUNNER=0 in the environment or engine.vllm.async_"),
        (True, False, r"VLLM_USE_V2_MODEL_RUNNER=0 in the environment\.$"),
        (False, True, r"Set engine.vllm.async_scheduling=false\.$"),
    ],
)
def test_the_error_of_the_check_names_the_switch(uses_v2, is_asynchronous, switch) -> None:
    session = Broken()
    with pytest.raises(EngineError, match=switch):
        check_forcing(session, _config(uses_v2, is_asynchronous))
    assert len(session.jobs) >= 4


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("operands could not be broadcast"), "failed: operands could not be broadcast"),
        (TypeError("unexpected keyword"), "failed: unexpected keyword"),
        (AssertionError(), r"failed: AssertionError\(\)"),
        (EngineError("2 tokens are not those forced"), "failed: 2 tokens are not those forced"),
    ],
)
def test_whatever_the_check_raises_the_switch_is_named(error, text) -> None:
    with pytest.raises(EngineError, match=rf"(?s){text}.*async_scheduling=false") as raised:
        check_forcing(Broken(error), _config(True, True))
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ConfigError("the context is too small")])
def test_errors_that_are_not_the_forcings_are_not_blamed_on_it(error) -> None:
    with pytest.raises(type(error)) as raised:
        check_forcing(Broken(error), _config(True, True))
    assert raised.value is error


def test_each_copy_is_checked() -> None:
    session = Broken()
    with pytest.raises(EngineError):
        check_forcing(session, _config(True, True, num_copies=8))
    budgets = [job.request.budget for job in session.jobs.values()]
    for copy in range(8):  # vLLM's client gives it every eighth job
        assert budgets[copy::8] == budgets[::8]
    assert len(set(budgets[::8])) == 4


def test_synchronous_scheduling_on_the_v1_runner_is_not_checked() -> None:
    session = Broken()
    check_forcing(session, _config(False, False))
    assert session.jobs == {}


def _config(uses_v2: bool, is_asynchronous: bool, num_copies: int = 1) -> Any:
    return SimpleNamespace(
        use_v2_model_runner=uses_v2,
        scheduler_config=SimpleNamespace(async_scheduling=is_asynchronous),
        parallel_config=SimpleNamespace(data_parallel_size=num_copies),
    )
