"""The stage on bad input, and when something fails: clear errors before any weight is loaded, and
nothing is lost."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slowthink.data.tables import write_records
from slowthink.errors import ConfigError, DataError, EngineError
from slowthink.pipeline.progress import ProgressReporter
from slowthink.pipeline.stage_process import run_stage
from slowthink.recipe import Recipe
from slowthink.records import Grade, Trace, Verdict
from tests.needs import needs
from tests.test_cli import call

pytestmark = [pytest.mark.slow, needs("trl")]

NO_WEIGHTS = {
    "vocab_size": 49152, "eos_token_id": 2, "hidden_size": 8, "num_attention_heads": 2,
    "intermediate_size": 16, "num_hidden_layers": 1, "tie_word_embeddings": True,
    "max_position_embeddings": 512, "model_type": "llama",
}  # fmt: skip


class Reporter(ProgressReporter):
    """Keeps the messages."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.messages: list[str] = []

    def notify(self, message: str) -> None:
        self.messages.append(message)


@pytest.fixture(scope="module")
def empty_model(tmp_path_factory, smollm_tokenizer) -> Path:
    """A model's folder without weights: whatever needs them fails."""
    folder = tmp_path_factory.mktemp("empty")
    smollm_tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(NO_WEIGHTS))
    return folder


@pytest.fixture
def traces(make_problem) -> list[Trace]:
    return [
        Trace(
            problem=make_problem(f"What is {n} + 1?"), thinking=f"{n} + 1 = {n + 1}. So {n + 1}.",
            response=f"Final Answer: {n + 1}", teacher="made", num_thinking_tokens=12,
            grade=Grade(verdict=Verdict.CORRECT), num_response_tokens=5, tokenizer="",
        )
        for n in range(8)
    ]  # fmt: skip


def _recipe(model: Path, rows: Any, **settings: Any) -> Recipe:
    train = {"epochs": 1, "batch_size": 2, "save_every_steps": 1}
    evaluate = settings.pop("evaluate", None)
    return Recipe.model_validate({
        "name": "t", "model": str(model), "train": train | {"input": str(rows)} | settings,
        **({"evaluate": evaluate} if evaluate else {}),
    })  # fmt: skip


def _rows(path: Path, traces: list[Trace]) -> Path:
    write_records(path / "rows.parquet", traces, Trace)
    return path / "rows.parquet"


def _train(recipe: Recipe, root: Path, reporter: ProgressReporter | None = None) -> dict[str, Any]:
    return run_stage(recipe, root, "train", reporter or Reporter())


def test_an_empty_set_and_missing_columns_are_refused(empty_model, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("")
    with pytest.raises(DataError, match="the training set has no rows; expected at least one"):
        _train(_recipe(empty_model, rows), tmp_path / "run")
    rows.write_text('{"question": "Q", "answer": "A"}\n')
    with pytest.raises(DataError, match=r"rows.jsonl: cannot be read as Trace rows .*'problem'"):
        _train(_recipe(empty_model, rows), tmp_path / "run")


def test_rows_that_are_all_too_long_are_refused(empty_model, traces, tmp_path):
    rows = _rows(tmp_path, traces)
    with pytest.raises(DataError, match="8 of 8 examples are longer than 9 tokens"):
        _train(_recipe(empty_model, rows, max_length=9), tmp_path / "run")
    for too_long in ("drop", "cut_thinking"):
        recipe = _recipe(empty_model, rows, max_length=9, too_long=too_long)
        with pytest.raises(DataError, match="none is within the limit of 9 tokens"):
            _train(recipe, tmp_path / "run")


def test_a_wrong_model_path_and_another_models_tokenizer_are_refused(
    empty_model, traces, smollm_tokenizer, tmp_path
):
    rows = _rows(tmp_path, traces)
    with pytest.raises(ConfigError, match="no config.json; expected a folder"):
        _train(_recipe(tmp_path / "nowhere", rows), tmp_path / "run")
    other = tmp_path / "other"
    smollm_tokenizer.save_pretrained(other)
    (other / "config.json").write_text(json.dumps(NO_WEIGHTS | {"vocab_size": 100}))
    with pytest.raises(DataError, match="has 100 embeddings .* another model's"):
        _train(_recipe(other, rows), tmp_path / "run")


def test_rows_that_are_evaluated_on_are_refused_by_train_and_by_check(
    empty_model, traces, tmp_path, capsys, monkeypatch
):
    exam = tmp_path / "exam.jsonl"
    exam.write_text(json.dumps({"question": traces[3].problem.question, "answer": "4"}) + "\n")
    evaluate = {
        "arms": [{"name": "tuned", "caps": [8]}],
        "benchmarks": [{"name": "exam", "path": str(exam)}],
    }
    recipe = _recipe(empty_model, _rows(tmp_path, traces), evaluate=evaluate)
    with pytest.raises(DataError, match="1 problems of the training set are also in exam"):
        _train(recipe, tmp_path / "run")
    (tmp_path / "t.yaml").write_text(json.dumps(recipe.model_dump(mode="json")))
    monkeypatch.chdir(tmp_path)
    assert call("check", "t.yaml") == 1
    text = capsys.readouterr().out
    assert "training: refuse: train: 1 problems of the training set are also in exam" in text


def test_check_says_what_training_would_say(empty_model, traces, tmp_path, capsys, monkeypatch):
    recipe = _recipe(empty_model, _rows(tmp_path, traces), batch_size=3)
    (tmp_path / "t.yaml").write_text(json.dumps(recipe.model_dump(mode="json")))
    monkeypatch.chdir(tmp_path)
    assert call("check", "t.yaml") == 0
    assert "training: note: train: the last step of each epoch has 2" in capsys.readouterr().out
    assert call("check", "t.yaml", "--set", "train.max_length=9") == 1
    assert "8 of 8 examples are longer than 9 tokens" in capsys.readouterr().out


def test_a_full_disk_is_refused_before_training(empty_model, traces, tmp_path, monkeypatch):
    from slowthink.stages.train import training_set

    monkeypatch.setattr(training_set, "free_bytes", lambda folder: 1000)
    with pytest.raises(DataError, match="expected room for all of them in .*0.00 GB are free"):
        _train(_recipe(empty_model, _rows(tmp_path, traces)), tmp_path / "run")


def test_a_disk_that_fills_while_saving_loses_nothing(tiny_model, traces, tmp_path, monkeypatch):
    from slowthink.stages.train import trainer

    recipe, move = _recipe(tiny_model, _rows(tmp_path, traces)), trainer.move_into_place

    def fill(work: Path) -> None:
        if (work / "checkpoint-2").exists():
            raise OSError(errno.ENOSPC, "No space left on device", str(work))
        move(work)

    monkeypatch.setattr(trainer, "move_into_place", fill)
    with pytest.raises(EngineError, match="No space left on device"):
        _train(recipe, tmp_path / "run")
    monkeypatch.setattr(trainer, "move_into_place", move)
    reporter = Reporter()
    manifest = _train(recipe, tmp_path / "run", reporter)
    assert manifest["facts"]["resumed_at_step"] == 2
    assert (manifest["facts"]["num_steps"], manifest["facts"]["warnings"]) == (4, [])


def test_a_diverged_run_keeps_the_earlier_model_and_the_next_rate_starts_anew(
    tiny_model, traces, tmp_path
):
    rows, root = _rows(tmp_path, traces * 4), tmp_path / "run"
    manifest = _train(_recipe(tiny_model, rows), root)
    before = (root / "train" / "model" / "model.safetensors").read_bytes()
    recipe = _recipe(tiny_model, rows, learning_rate=1e30, warmup_ratio=0.0, epochs=2)
    with pytest.raises(EngineError, match="expected .* --update"):
        _train(recipe, root)
    assert (root / "train" / "model" / "model.safetensors").read_bytes() == before
    reporter = Reporter()
    recipe = _recipe(tiny_model, rows, learning_rate=1e-5, warmup_ratio=0.0, epochs=2)
    manifest = _train(recipe, root, reporter)
    assert manifest["facts"]["resumed_at_step"] == 0


def test_checkpoints_of_other_settings_are_not_resumed(tiny_model, traces, tmp_path):
    rows, root = _rows(tmp_path, traces), tmp_path / "run"

    class Killed(Exception):
        pass

    class Killer(Reporter):
        def progress(self, done: int, total: int) -> None:
            if done == 3:
                raise Killed

    def kill(**settings: Any) -> None:
        with pytest.raises(Killed):
            _train(_recipe(tiny_model, rows, **settings), root, Killer())

    kill()
    kill(micro_batch_size=1, gradient_checkpointing=True)  # these may change
    assert not (root / "superseded").exists()
    reporter = Reporter()
    recipe = _recipe(tiny_model, rows, learning_rate=2e-5)
    assert _train(recipe, root, reporter)["facts"]["resumed_at_step"] == 0
    (message,) = [text for text in reporter.messages if "other settings" in text]
    assert "train.learning_rate: 1e-05 -> 2e-05" in message
    (old,) = (root / "superseded").iterdir()
    assert (old / "checkpoint-2").is_dir()


def test_one_row_is_trained_with_a_warning(tiny_model, traces, tmp_path):
    manifest = _train(_recipe(tiny_model, _rows(tmp_path, traces[:1])), tmp_path / "run")
    (warning,) = manifest["facts"]["warnings"]
    assert "1 example(s) make one step an epoch" in warning


def test_cut_thinking_is_recorded(tiny_model, traces, tmp_path):
    long = replace(traces[0], thinking=" ".join(f"Step {n} is done." for n in range(200)))
    recipe = _recipe(
        tiny_model, _rows(tmp_path, [long, *traces[1:]]), max_length=200, too_long="cut_thinking"
    )
    manifest = _train(recipe, tmp_path / "run")
    assert (manifest["facts"]["num_cut"], manifest["facts"]["num_examples"]) == (1, 8)
    (cut,) = (tmp_path / "run" / "train" / "cut.jsonl").read_text().splitlines()
    assert json.loads(cut)["num_tokens"] <= 200 < json.loads(cut)["num_before"]
