"""What is checked before any weight is loaded: one bad training set for each finding."""

from __future__ import annotations

import copy
import importlib.util
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from slowthink.data.tables import write_records
from slowthink.engines.auto import Machine
from slowthink.engines.models import tokenizer_fingerprint
from slowthink.environment import CudaDevice
from slowthink.errors import ConfigError, DataError
from slowthink.pipeline.progress import ProgressReporter
from slowthink.pipeline.run import run_recipe
from slowthink.pipeline.run_folder import make_context
from slowthink.recipe import Recipe
from slowthink.records import Grade, Problem, Split, Trace, Verdict
from slowthink.stages import train
from slowthink.stages.train import forecast, preflight, training_set
from slowthink.stages.train.examples import TrainingExample, in_order, tokenize_traces
from slowthink.stages.train.training_set import TrainingSet

CONFIG = {"vocab_size": 49152, "eos_token_id": 2, "hidden_size": 8, "num_attention_heads": 2,
          "intermediate_size": 16, "num_hidden_layers": 1, "tie_word_embeddings": True}  # fmt: skip

fingerprint_once = cache(tokenizer_fingerprint)


def _trace(problem: Problem, tokenizer, **texts: str) -> Trace:
    texts = {"thinking": "17 + 25 = 42. So 42.", "response": "Final Answer: 42"} | texts
    return Trace(
        problem=problem, teacher="made", grade=Grade(verdict=Verdict.CORRECT),
        num_thinking_tokens=12, num_response_tokens=5,
        tokenizer=fingerprint_once(tokenizer), **texts,
    )  # fmt: skip


class Bench:
    """Makes training sets of two problems, with one thing changed."""

    def __init__(self, folder: Path, tokenizer, make_problem) -> None:
        self.folder, self.tokenizer = folder, tokenizer
        self.problems = [make_problem(f"What is {n} + 1?") for n in (1, 2)]
        self.config = dict(CONFIG)
        self.settings: dict[str, object] = {"name": "t", "train": {"batch_size": 2}}
        self.traces = [_trace(problem, tokenizer) for problem in self.problems]

    def data(self) -> TrainingSet:
        (self.folder / "config.json").write_text(json.dumps(self.config))
        traces = in_order(self.traces)
        examples = tokenize_traces(traces, self.tokenizer, self.recipe())
        return TrainingSet(
            source=self.folder, tokenizer=self.tokenizer, traces=traces, examples=examples,
            dropped=(), cut=(), num_read=len(traces), seed=0,
        )  # fmt: skip

    def recipe(self) -> Recipe:
        return Recipe.model_validate(self.settings)

    def inspect(self, data: TrainingSet | None = None) -> dict[str, tuple[str, str]]:
        """Level and text by name of the finding."""
        findings = preflight.inspect(data or self.data(), self.recipe(), self.folder)
        return {finding.name: (finding.level, finding.text) for finding in findings}


@pytest.fixture
def bench(tmp_path, smollm_tokenizer, make_problem) -> Bench:
    return Bench(tmp_path, smollm_tokenizer, make_problem)


class Changed:
    """A tokenizer with other special tokens."""

    def __init__(self, tokenizer, **changes) -> None:
        self._tokenizer = tokenizer
        vars(self).update(changes)

    def __getattr__(self, name: str):
        return getattr(self._tokenizer, name)

    def __len__(self) -> int:
        return len(self._tokenizer)


def test_a_sound_training_set_has_no_findings(bench):
    assert bench.inspect() == {}


@pytest.mark.parametrize(
    ("context", "kind", "arm", "refused"),
    [
        (400, "transformers", "tuned", True),
        (400, "transformers", "base", True),
        (401, "transformers", "tuned", False),
        (400, "openai", "tuned", False),
        (400, "transformers", "another", False),
    ],
)
def test_a_cap_that_the_context_cannot_hold_is_refused_before_the_training(
    bench, context, kind, arm, refused
):
    """112 + 256 + 32 tokens, and a question of one at least; a larger `max_context` adds nothing."""
    endpoints = {"endpoints": {"urls": ["http://localhost:1/v1"]}} if kind == "openai" else {}
    bench.config["max_position_embeddings"] = context
    bench.settings["engine"] = {"kind": kind, "max_context": 4000, **endpoints}
    arm = {"name": "a", "model": arm, "caps": [8, 112], "forcing": {"answer_tokens": 256}}
    pool = bench.folder / "pool.parquet"
    held_out = replace(bench.problems[0], id="o", duplicate_key="o", question="o?")
    write_records(pool, [replace(held_out, split=Split.HELDOUT)], Problem)
    bench.settings["evaluate"] = {"arms": [arm], "input": str(pool)}
    found = bench.inspect()
    assert ("budgets" in found) == refused
    if refused:
        level, text = found["budgets"]
        assert level == "refuse" and text.startswith("evaluate.arms.0.caps: a cap of 112, 256 tok")


def test_rows_that_share_a_problem_with_the_held_out_ones_are_refused(bench):
    held_out = replace(bench.problems[0], id="other", split=Split.HELDOUT)
    write_records(bench.folder / "pool.parquet", [bench.problems[1], held_out], Problem)
    arms = [{"name": "tuned", "caps": [8]}]
    bench.settings["evaluate"] = {"arms": arms, "input": str(bench.folder / "pool.parquet")}
    level, text = bench.inspect()["evaluation rows"]
    assert level == "refuse"
    assert text.startswith("train: 1 problems of the training set are also in the held-out")
    assert bench.problems[0].id in text and bench.problems[1].id not in text
    with pytest.raises(DataError, match="expected none. Remove these rows"):
        preflight.refuse(preflight.inspect(bench.data(), bench.recipe(), bench.folder))


def _benchmark(bench: Bench, name: str, question: str, path: Path) -> None:
    path.write_text(json.dumps({"question": question, "answer": "42"}) + "\n")
    arms = [{"name": "tuned", "caps": [8]}]
    benchmarks = [{"name": name, "path": str(path)}]
    bench.settings["evaluate"] = {"arms": arms, "benchmarks": benchmarks}


def test_rows_of_a_benchmark_are_refused_whatever_their_spacing_and_case(bench, tmp_path):
    question = bench.problems[0].question.upper().replace(" ", "  ")
    _benchmark(bench, "exam", question, tmp_path / "exam.jsonl")
    level, text = bench.inspect()["evaluation rows"]
    assert (level, "also in exam" in text) == ("refuse", True)


def test_a_benchmark_that_cannot_be_read_is_noted(bench, tmp_path):
    _benchmark(bench, "exam", "Q", tmp_path / "exam.jsonl")
    (tmp_path / "exam.jsonl").unlink()
    level, text = bench.inspect()["evaluation rows"]
    assert (level, "problems of exam are in the training set is unknown" in text) == ("note", True)


def test_ids_without_an_embedding_are_refused(bench):
    bench.config["vocab_size"] = 20_000
    level, text = bench.inspect()["vocabulary"]
    assert level == "refuse"
    assert "has 20000 embeddings (its tokenizer has 49152 tokens)" in text


def test_a_larger_vocabulary_whose_ids_are_not_used_is_a_warning(bench):
    bench.config["vocab_size"] = 49_151
    level, text = bench.inspect()["vocabulary"]
    assert (level, "49152 tokens, the model 49151 embeddings" in text) == ("warn", True)


def test_a_tokenizer_without_an_end_of_sequence_is_refused(bench):
    data = replace(bench.data(), tokenizer=Changed(bench.tokenizer, eos_token_id=None))
    assert bench.inspect(data)["end of sequence"][0] == "refuse"


def test_a_row_that_does_not_end_with_the_end_of_sequence_is_refused(bench):
    data = bench.data()
    first = data.examples[0]
    masked = replace(first, completion_ids=first.completion_ids[:-1])
    level, text = bench.inspect(replace(data, examples=[masked, *data.examples[1:]]))[
        "end of sequence"
    ]
    assert (level, f"1 row(s) ({first.id})" in text) == ("refuse", True)


def test_a_model_that_stops_at_another_id_is_a_warning(bench):
    bench.config["eos_token_id"] = 0
    (bench.folder / "generation_config.json").write_text('{"eos_token_id": 0}')
    level, text = bench.inspect()["end of sequence"]
    assert (level, "tokenizer's 2 ('<|im_end|>')" in text) == ("warn", True)
    (bench.folder / "generation_config.json").write_text('{"eos_token_id": [0, 2]}')
    assert "end of sequence" not in bench.inspect()


@pytest.mark.parametrize("setting", ["keep", "mask", "none"])
def test_a_row_with_nothing_to_learn_is_refused(setting, bench):
    bench.settings["chat"] = {"empty_thinking": setting}
    bench.traces[0] = replace(bench.traces[0], thinking="", response="")
    level, text = bench.inspect()["learnt tokens"]
    assert (level, f"1 row(s) ({bench.problems[0].id})" in text) == ("refuse", True)


def test_a_delimiter_that_merges_with_the_text_is_a_warning(bench):
    bench.settings |= {"formats": {"mine": {"end": "\n\n"}}, "chat": {"format": "mine"}}
    level, text = bench.inspect()["delimiters"]
    assert (level, "in 2 of 2 rows" in text) == ("warn", True)


def test_a_delimiter_that_the_tokenizer_cannot_write_is_refused(bench):
    data = replace(bench.data(), tokenizer=Changed(bench.tokenizer, unk_token_id=1))
    level, text = bench.inspect(data)["delimiters"]
    assert (level, "contains the unknown token" in text) == ("refuse", True)


def test_a_template_that_drops_the_system_prompt_is_refused(bench):
    bench.tokenizer = copy.copy(bench.tokenizer)
    bench.tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}{% endif %}{% endfor %}"
    )
    bench.settings["chat"] = {"system_prompt": "Think."}
    with pytest.raises(ConfigError, match=r"leaves it out; expected it in the prompt"):
        bench.data()


def test_lengths_counted_by_another_tokenizer_are_a_warning(bench):
    bench.traces[0] = replace(bench.traces[0], tokenizer="of another model")
    assert bench.inspect()["tokenizer"][0] == "warn"


def test_batches_that_do_not_divide_and_sets_of_one_row(bench):
    bench.settings["train"] = {"batch_size": 16}
    level, text = bench.inspect()["batches"]
    assert (level, "2 example(s) make one step an epoch" in text) == ("note", True)
    bench.traces.pop()
    assert bench.inspect()["batches"][0] == "warn"
    bench.settings["train"] = {"batch_size": 2}
    data = bench.data()
    three = [TrainingExample(id=f"{n}", prompt_ids=(5,), completion_ids=(7, 2)) for n in range(3)]
    level, text = bench.inspect(replace(data, examples=three))["batches"]
    assert (level, "the last step of each epoch has 1 examples" in text) == ("note", True)


def test_what_a_run_has_written_is_room_for_it(bench, monkeypatch):
    monkeypatch.setattr(training_set, "free_bytes", lambda folder: 1000)
    bench.settings["train"] = {"batch_size": 2, "save_every_steps": 1}
    level, text = bench.inspect()["disk"]
    assert level == "refuse" and "0.00 GB are free, with what it has written" in text
    half = bytes(16 * 49152 * 8 * 2)
    for name in ("work/train/checkpoint-2", "work/train/checkpoint-4/nested"):
        (bench.folder / name).mkdir(parents=True)
        (bench.folder / name / "optimizer.pt").write_bytes(half)
    assert "disk" not in bench.inspect()


def test_a_model_that_moves_aside_and_checkpoints_of_other_settings_are_no_room(bench, monkeypatch):
    """Neither is deleted when the new model is complete."""
    monkeypatch.setattr(training_set, "free_bytes", lambda folder: 1000)
    monkeypatch.setattr(train, "read_training_set", lambda context: bench.data())
    bench.settings["train"] = {"batch_size": 2, "input": "rows.jsonl"}
    context = make_context(bench.recipe(), bench.folder, "train", notify=lambda _: None)
    large = bytes(16 * 49152 * 8 * 3)
    (bench.folder / "train" / "model").mkdir(parents=True)
    (bench.folder / "train" / "model" / "model.safetensors").write_bytes(large)
    checkpoint = context.work_folder / "checkpoint-2"
    checkpoint.mkdir()
    (checkpoint / "optimizer.pt").write_bytes(large)
    assert "disk" not in bench.inspect(), "an unfinished run's own checkpoint is"
    (context.work_folder / "settings.json").write_text('{"train": {"epochs": 9}}')
    with pytest.raises(DataError, match="expected room for all of them"):
        train.run(context)
    (kept,) = bench.folder.glob("superseded/*/checkpoint-2/optimizer.pt")
    assert kept.stat().st_size == len(large)


def test_packages_of_training_are_looked_for_before_the_first_stage(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    recipe = Recipe.model_validate({
        "name": "t", "pool": {"sources": [{"kind": "sandbox"}]}, "filter": {}, "trace": {},
        "select": {}, "train": {},
    })  # fmt: skip
    with pytest.raises(ConfigError, match=r"slowthink\[train\]"):
        run_recipe(recipe, tmp_path / "run", reporter=ProgressReporter(quiet=True))
    assert not (tmp_path / "run" / "pool").exists()


def test_a_finished_training_needs_no_disk(bench, monkeypatch):
    monkeypatch.setattr(training_set, "free_bytes", lambda folder: 1000)
    monkeypatch.setattr(preflight, "training_table", lambda *_: bench.folder)
    monkeypatch.setattr(preflight, "read_training_set", lambda context: bench.data())
    bench.settings["model"] = str(bench.folder)
    bench.data()
    assert [each.name for each in preflight.inspect_written(bench.recipe(), bench.folder)] == [
        "disk"
    ]
    (bench.folder / "train").mkdir()
    (bench.folder / "train" / "manifest.json").write_text("{}")
    assert preflight.inspect_written(bench.recipe(), bench.folder) == []


@pytest.mark.parametrize(
    ("processes", "started", "number"), [(1, "1", 1), (2, "1", 2), (1, "8", 8)]
)
def test_devices_are_those_that_train_not_all_of_the_machine(
    monkeypatch, processes, started, number
):
    machine = Machine(gpus=(CudaDevice("H100", (9, 0), 80.0),) * 4)
    monkeypatch.setattr(forecast, "this_machine", lambda: machine)
    monkeypatch.setenv("WORLD_SIZE", started)
    recipe = Recipe.model_validate({"name": "t", "train": {}, "processes": processes})
    setup = forecast.setup_here(recipe, recipe.train)
    assert (setup.num_devices, setup.is_sharded) == (number, number > 1)
