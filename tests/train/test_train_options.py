"""8-bit Adam, compiled layers and trackers, each against the plain run."""

from __future__ import annotations

import sqlite3

import pytest

torch = pytest.importorskip("torch")

from slowthink.errors import ConfigError
from slowthink.recipe import TrainConfig
from tests.needs import needs

pytestmark = [pytest.mark.slow, needs("trl")]


@pytest.fixture
def train(tiny_model, smollm_tokenizer, examples, tmp_path):
    from slowthink.stages.train.loop import fine_tune

    def run(**settings):
        work = tmp_path / "run" / "work" / "train"
        work.mkdir(parents=True, exist_ok=True)
        config = TrainConfig(
            **{"epochs": 2, "batch_size": 4, "learning_rate": 1e-2, "save_every_steps": None}
            | settings
        )
        return fine_tune(
            tiny_model, smollm_tokenizer, examples, config, work=work, seed=3, run_name="made"
        )

    return run


def losses(tuned):
    return [entry["loss"] for entry in tuned.log if "loss" in entry]


@needs("torchao")
@pytest.mark.filterwarnings("ignore")
def test_eight_bit_adam_has_small_states_and_falls_alike(train):
    from slowthink.stages.train.masters import MasterAdamW
    from slowthink.stages.train.optimizers import base_optimizer

    config = TrainConfig(optimizer="adamw-8bit")
    weight = torch.nn.Parameter(torch.ones(64, 64))
    optimizer = MasterAdamW(
        [{"params": [weight]}], lr=0.1, base=base_optimizer(config, sharded=True)
    )
    weight.grad = torch.ones(64, 64)
    optimizer.step()
    assert type(optimizer.state[weight]["exp_avg"]).__name__ == "OptimState8bit"
    assert weight.mean().item() == pytest.approx(0.9, abs=0.01)
    assert losses(train(optimizer="adamw-8bit")) == pytest.approx(losses(train()), abs=0.05)


@pytest.mark.filterwarnings("ignore")
def test_compiled_layers_have_the_same_losses(train):
    from torch._dynamo.utils import counters

    counters.clear()
    compiled = train(compile=True)
    assert counters["stats"]["unique_graphs"] > 0
    assert losses(compiled) == pytest.approx(losses(train()), abs=0.02)


@needs("tensorboard")
def test_tensorboard_receives_each_step(train, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    tuned = train(report_to=("tensorboard",))
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR")
    read = EventAccumulator(str(tmp_path / "run" / "work" / "tensorboard")).Reload()
    events = read.Scalars("train/loss")
    assert [event.step for event in events] == list(range(1, 9))
    assert [event.value for event in events] == pytest.approx(losses(tuned))
    assert {"train/token_accuracy", "train/tokens_per_second", "train/memory_mb"} <= set(
        read.Tags()["scalars"]
    )


@needs("trackio")
@pytest.mark.filterwarnings("ignore")
def test_trackio_keeps_each_step_on_this_machine(train, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    train(report_to=("trackio",))
    (path,) = (tmp_path / "trackio").glob("slowthink*.db")
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT metrics FROM metrics WHERE run_name = 'made'").fetchall()
    assert len(rows) >= 8


def test_a_tracker_that_is_not_installed_is_refused(train, monkeypatch):
    from slowthink.stages.train import packages

    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=r"report_to: wandb.*pip install wandb"):
        train(report_to=("wandb",))
