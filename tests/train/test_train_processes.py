"""Several processes (gloo on this CPU) train as one does: plain data parallel, and FSDP2.

Differences are those of the order in which numbers are added: fp32 within 1e-4, bf16 within 1e-2.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import pytest

torch = pytest.importorskip("torch")

from tests.needs import needs
from tests.train.forked import run_forked

pytestmark = [pytest.mark.slow, needs("trl")]

CONFIG = {"epochs": 5, "batch_size": 4, "learning_rate": 1e-2, "save_every_steps": 7}
"""20 steps of four examples, or one."""


def run_by_torchrun(arguments, number, log):
    """True if all processes succeeded."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               f"--nproc-per-node={number}", "-m", "tests.train.rank_script"]  # fmt: skip
    with log.open("w") as stderr:
        done = subprocess.run(
            [*command, json.dumps(arguments)], stdout=subprocess.DEVNULL, stderr=stderr,
            timeout=400, check=False,
        )  # fmt: skip
    return done.returncode == 0


@pytest.fixture(scope="module")
def train(tiny_model, tmp_path_factory):
    """Trains in so many processes; returns what the first saw, its weights and its work folder."""

    @cache
    def run(
        number, *, work=None, fails=False, bf16=False, killed_at=None, torchrun=False, **settings
    ):
        work = work or tmp_path_factory.mktemp("work")
        arguments = {
            "source": str(tiny_model), "work": str(work), "config": CONFIG | {name: value_of(value) for name, value in settings.items()},
            "bf16": bf16, "killed_at": killed_at,
        }  # fmt: skip
        log = tmp_path_factory.mktemp("log") / "stderr"
        succeeded = (run_by_torchrun if torchrun else run_forked)(arguments, number, log)
        errors = log.read_text()
        assert succeeded is not fails, errors[:4000] + errors[-1000:]
        if fails:
            return errors
        weights = torch.load(work / "weights.pt", weights_only=True)
        return json.loads((work / "seen.json").read_text()), weights, work

    return run


@pytest.fixture(scope="module")
def alone(train):
    """One process, in fp32."""
    return train(1)


def value_of(value):
    """A setting; one that cannot be hashed comes as JSON."""
    return json.loads(value) if isinstance(value, str) and value[:1] in '{"t' else value


def losses(seen):
    return [entry["loss"] for entry in seen["log"]]


def largest_difference(weights, others):
    return max((weights[name] - others[name]).abs().max().item() for name in weights)


@pytest.mark.parametrize(
    ("parallel", "wrapped", "share"),
    [("data", "DistributedDataParallel", 0.0), ("fsdp2", "FSDPLlamaForCausalLM", 0.5)],
)
def test_two_processes_take_the_steps_of_one(parallel, wrapped, share, train, alone):
    seen, weights, _ = train(2, parallel=parallel, torchrun=parallel == "data")
    assert seen["wrapped"] == wrapped
    assert seen["shares"] is (parallel == "fsdp2")
    assert seen["share_of_weights"] == share
    assert seen["masters"]
    assert losses(seen) == pytest.approx(losses(alone[0]), abs=1e-3)
    assert len(losses(seen)) == 20
    for name in ("grad_norm", "token_accuracy"):
        values = [[entry[name] for entry in run["log"]] for run in (seen, alone[0])]
        assert values[0] == pytest.approx(values[1], abs=1e-3)
    assert largest_difference(weights, alone[1]) < 1e-4


@pytest.mark.parametrize("parallel", ["data", "fsdp2"])
def test_bf16_with_fp32_masters_trains_alike(parallel, train):
    alone, _, _ = train(1, bf16=True, learning_rate=1e-3)
    seen, weights, _ = train(2, bf16=True, parallel=parallel, learning_rate=1e-3)
    assert alone["masters"] and seen["masters"]
    assert losses(seen) == pytest.approx(losses(alone), abs=1e-2)
    assert all(weight.dtype is torch.float32 for weight in weights.values())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("lora", {"rank": 4, "alpha": 8}),
        ("gradient_checkpointing", True),
        ("compile", True),
        pytest.param("optimizer", "adamw-8bit", marks=needs("torchao")),
    ],
)
def test_shares_train_with_other_settings_too(option, value, train):
    settings = {option: json.dumps(value)}
    seen, weights, _ = train(2, parallel="fsdp2", **settings)
    assert seen["shares"] and seen["masters"]
    alone, others, _ = train(1, **settings)
    assert losses(seen) == pytest.approx(losses(alone), abs=1e-3)
    assert weights.keys() == others.keys()


@pytest.mark.parametrize("parallel", ["data", "fsdp2"])
def test_models_saved_after_epochs_are_whole_and_change_nothing(parallel, train):
    whole, weights, _ = train(2, parallel=parallel)
    seen, others, work = train(2, parallel=parallel, checkpoint="dev")
    assert losses(seen) == losses(whole) and largest_difference(weights, others) == 0
    saved = sorted(path.name for path in (work / "candidates").iterdir())
    assert saved == ["step-12", "step-16", "step-4", "step-8"]
    loaded = torch.load(work / "candidates" / "step-16" / "model" / "weights.pt", weights_only=True)
    assert loaded.keys() == weights.keys()
    assert 0 < largest_difference(loaded, weights) < 0.1


@pytest.mark.parametrize("parallel", ["data", "fsdp2"])
def test_two_killed_processes_resume_bit_for_bit(parallel, train, tmp_path):
    whole, weights, _ = train(2, parallel=parallel)
    train(2, parallel=parallel, work=tmp_path, killed_at=11, fails=True)
    refused = train(1, work=tmp_path, fails=True)
    assert "was written by 2 process(es)" in refused and "--processes 2" in refused
    resumed, again, _ = train(2, parallel=parallel, work=tmp_path)
    assert resumed["resumed_at_step"] == 7
    assert losses(resumed) == losses(whole)
    assert largest_difference(weights, again) == 0
