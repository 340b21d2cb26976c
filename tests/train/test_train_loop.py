"""Training: resuming, adapters, saved files. The models are tiny except in the last test."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from slowthink.recipe import TrainConfig
from tests.needs import needs

pytestmark = [pytest.mark.slow, needs("trl")]


CONFIG = TrainConfig(epochs=2, batch_size=4, learning_rate=1e-2, save_every_steps=2)


class Killed(Exception):
    """Raised to end training early."""


def _train(source, tokenizer, examples, work, config=CONFIG, *, killed_at=None):
    from slowthink.stages.train.loop import fine_tune

    def progress(done, total):
        if done == killed_at:
            raise Killed

    work.mkdir(parents=True, exist_ok=True)
    return fine_tune(source, tokenizer, examples, config, work=work, seed=3, progress=progress)


def _weights(tuned):
    return [weight.detach() for weight in tuned.model.parameters()]


def _equal_weights(tuned, other):
    pairs = zip(_weights(tuned), _weights(other), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def uninterrupted(tiny_model, smollm_tokenizer, examples, tmp_path_factory):
    """An uninterrupted run."""
    return _train(tiny_model, smollm_tokenizer, examples, tmp_path_factory.mktemp("uninterrupted"))


@pytest.mark.parametrize("killed_at", [1, 3, 4, 7])
def test_a_killed_run_ends_with_the_same_weights_bit_for_bit(
    killed_at, uninterrupted, tiny_model, smollm_tokenizer, examples, tmp_path
):
    with pytest.raises(Killed):
        _train(tiny_model, smollm_tokenizer, examples, tmp_path, killed_at=killed_at)
    resumed = _train(tiny_model, smollm_tokenizer, examples, tmp_path)
    assert resumed.resumed_at_step == (killed_at - 1) // 2 * 2
    assert _equal_weights(uninterrupted, resumed)
    losses = [
        [entry["loss"] for entry in run.log if "loss" in entry] for run in (uninterrupted, resumed)
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 8


def test_training_lowers_the_loss(uninterrupted):
    losses = [entry["loss"] for entry in uninterrupted.log if "loss" in entry]
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("size", [2, "80 tokens"])
def test_a_step_in_several_micro_batches_is_the_same_step(
    size, uninterrupted, tiny_model, smollm_tokenizer, examples, tmp_path
):
    config = CONFIG.model_copy(update={"micro_batch_size": size})
    split = _train(tiny_model, smollm_tokenizer, examples, tmp_path, config)
    for step in range(8):
        assert split.log[step]["loss"] == pytest.approx(uninterrupted.log[step]["loss"], abs=0.02)


def test_full_memory_is_an_error_with_what_to_set(
    tiny_model, smollm_tokenizer, examples, tmp_path, monkeypatch
):
    from slowthink.errors import EngineError
    from slowthink.stages.train import trainer

    def fail(*args, **settings):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer, "completion_loss", fail)
    with pytest.raises(EngineError, match=r'micro_batch_size="\d+ tokens".*gradient_checkpointing'):
        _train(tiny_model, smollm_tokenizer, examples, tmp_path)


def test_a_model_that_does_not_fit_is_an_error_with_what_to_set(
    tiny_model, smollm_tokenizer, examples, tmp_path, monkeypatch
):
    """The model is moved to the GPU before the first step."""
    from slowthink.errors import EngineError
    from slowthink.stages.train.trainer import CompletionTrainer

    def fail(*args, **settings):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(CompletionTrainer, "_move_model_to_device", fail)
    with pytest.raises(EngineError, match="a GPU with more memory"):
        _train(tiny_model, smollm_tokenizer, examples, tmp_path)


def test_of_several_gpus_a_process_uses_one(tmp_path, monkeypatch):
    """Else a micro-batch would be several of the schedule, and DataParallel would split it."""
    from slowthink.stages.train.trainer import training_arguments

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    arguments = training_arguments(
        CONFIG, work=tmp_path, num_steps=3, num_micro_batches=6, seed=0, autocast=False
    )
    assert (arguments.n_gpu, arguments.train_batch_size) == (1, 1)
    assert str(arguments.device) == "cuda:0"


def test_another_seed_gives_other_weights(
    uninterrupted, tiny_model, smollm_tokenizer, examples, tmp_path
):
    from slowthink.stages.train.loop import fine_tune

    other = fine_tune(tiny_model, smollm_tokenizer, examples, CONFIG, work=tmp_path, seed=4)
    assert not _equal_weights(uninterrupted, other)


def test_the_saved_model_loads_in_the_dtype_of_the_base_model(
    uninterrupted, tiny_model, smollm_tokenizer, tmp_path
):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from slowthink.stages.train.model import save_for_serving

    save_for_serving(uninterrupted.model, smollm_tokenizer, tmp_path / "model", source=tiny_model)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert loaded.dtype is torch.bfloat16
    assert loaded.generation_config.eos_token_id == 2
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.chat_template == smollm_tokenizer.chat_template
    assert not list((tmp_path / "model").glob("checkpoint-*"))


def test_the_embedded_model_resumes_bit_for_bit(smollm, smollm_tokenizer, examples, tmp_path):
    from slowthink.engines.models import resolve_model

    source = Path(resolve_model(smollm))
    config = CONFIG.model_copy(update={"epochs": 1, "learning_rate": 1e-4, "save_every_steps": 1})
    few = examples[:5]  # two steps, of four examples and one
    uninterrupted = _train(source, smollm_tokenizer, few, tmp_path / "uninterrupted", config)
    with pytest.raises(Killed):
        _train(source, smollm_tokenizer, few, tmp_path / "work", config, killed_at=2)
    resumed = _train(source, smollm_tokenizer, few, tmp_path / "work", config)
    assert resumed.resumed_at_step == 1
    assert _equal_weights(uninterrupted, resumed)
