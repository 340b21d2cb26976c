"""A run's training set in the forms of trainers: rows, settings, what a form cannot hold."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from slowthink.cli.app import main
from slowthink.data.tables import write_records
from slowthink.errors import ConfigError, DataError
from slowthink.export import FORMS, export_run
from slowthink.export.rendering import render
from slowthink.export.training import ExportSource, load_source
from slowthink.forcing.prompts import training_ids
from slowthink.recipe.saved import load_saved
from slowthink.records import Grade, Trace, Verdict
from slowthink.stages.train.dev import split_dev
from tests.tiny import make_tiny_model

ABSENT = "no/such-model"
"""A base model that is not on this machine."""
DROPS_THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('answer\n')[-1] }}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
RAISES = "{% if messages[-1].role == 'assistant' %}{{ raise_exception('no') }}{% endif %}x"
SETTINGS = {
    "name": "small", "seed": 7, "chat": {"system_prompt": "Be brief.", "instruction": "Think."},
    "train": {"epochs": 2, "batch_size": 2, "warmup_ratio": 0.5, "learning_rate": 3e-5},
}  # fmt: skip


def make_traces(make_problem) -> list[Trace]:
    """Two chains of one problem, and one of a problem with options and columns of its own."""
    first = make_problem(source_row="mine/7", meta='{"chapter": "3", "page": null}')
    options = replace(make_problem("Which is\u2028even?"), choices=("1", "2"))
    common = {
        "grade": Grade(verdict=Verdict.CORRECT), "num_thinking_tokens": 9,
        "num_response_tokens": 5, "tokenizer": "t", "teacher": "me",
    }  # fmt: skip
    return [
        Trace(problem=first, thinking=" 17 + 25 = 42.\n", response="42 ", level=3, **common),
        Trace(problem=first, thinking="25 + 17 = 42.", response="So 42", **common),
        Trace(problem=options, thinking="2 is.", response="(B)", **common),
    ]


@pytest.fixture
def traces(make_problem) -> list[Trace]:
    return make_traces(make_problem)


def write_run(root: Path, traces: list[Trace], *, model: str = ABSENT, **settings: Any) -> Path:
    (root / "select").mkdir(parents=True)
    write_records(root / "select" / "data.parquet", traces, Trace)
    recipe = {**SETTINGS, "model": model, "select": {"method": "full"}, **settings}
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return root


def exported(root: Path, form: str, **settings: Any) -> tuple[Path, dict[str, Any]]:
    out = root.parent / form
    return out, export_run(root, out, form=form, settings=settings)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def training_set(root: Path) -> ExportSource:
    return load_source(root, load_saved(root / "recipe.yaml"))


REPLY = "<|im_start|>think\n17 + 25 = 42.\n<|im_start|>answer\n42"


@pytest.mark.parametrize("form", ["trl", "llama-factory", "ms-swift", "axolotl", "sharegpt"])
def test_rows_hold_the_messages_and_where_they_are_from(tmp_path, traces, form) -> None:
    out, summary = exported(write_run(tmp_path / "run", traces), form)
    rows = {row["chain_id"]: row for row in lines(out / "train.jsonl")}
    assert (summary["num_rows"], summary["num_problems"], len(rows)) == (3, 2, 3)
    row, options = rows[traces[0].key], rows[traces[2].key]
    messages = {
        "trl": lambda row: row["prompt"] + row["completion"],
        "llama-factory": lambda row: (
            [{"role": "system", "content": row["system"]}] + row["messages"]
        ),
        "sharegpt": lambda row: [
            {"role": turn["from"], "content": turn["value"]} for turn in row["conversations"]
        ],
    }.get(form, lambda row: row["messages"])
    assert [message["content"] for message in messages(row)] == [
        "Be brief.", "What is 17 + 25?\nThink.", REPLY
    ]  # fmt: skip
    names = ("human", "gpt") if form == "sharegpt" else ("user", "assistant")
    assert [message["role"] for message in messages(row)] == ["system", *names]
    assert messages(options)[1]["content"] == "Which is\u2028even?\n(A) 1\n(B) 2\nThink."
    assert (row["id"], options["id"]) == (traces[0].key, traces[2].problem.id)
    assert (row["source_row"], json.loads(row["meta"])["chapter"]) == ("mine/7", "3")
    assert (row["level"], options["level"], row["teacher"]) == ("3", "", "me")
    types = {type(row[name]) for row in rows.values() for name in ("id", "licence", "level")}
    assert types == {str}


def test_the_settings_are_those_of_the_recipe(tmp_path, traces) -> None:
    lora = {"rank": 4, "alpha": 8}
    root = write_run(tmp_path / "run", traces, train={**SETTINGS["train"], "lora": lora})
    out, _ = exported(root, "trl")
    trl = yaml.safe_load((out / "sft.yaml").read_text())
    out, _ = exported(root, "llama-factory")
    factory = yaml.safe_load((out / "sft.yaml").read_text())
    (dataset,) = json.loads((out / "dataset_info.json").read_text()).values()
    out, _ = exported(root, "axolotl")
    axolotl = yaml.safe_load((out / "sft.yaml").read_text())
    out, _ = exported(root, "ms-swift")
    swift = (out / "sft.sh").read_text()
    for settings in (trl["arguments"], factory):
        assert (settings["num_train_epochs"], settings["learning_rate"]) == (2, 3e-5)
        assert settings["gradient_accumulation_steps"] == 2
        assert settings["warmup_steps"] == 2  # half of two steps in each of two epochs
        assert (settings["adam_beta2"], settings["weight_decay"], settings["seed"]) == (
            0.95,
            1e-4,
            7,
        )
    assert (trl["lora"]["r"], factory["lora_rank"], axolotl["lora_r"]) == (4, 4, 4)
    assert (trl["model"], factory["model_name_or_path"]) == (ABSENT, ABSENT)
    assert dataset["file_name"] == "train.jsonl"
    assert (axolotl["num_epochs"], axolotl["learning_rate"], axolotl["warmup_steps"]) == (
        2,
        3e-5,
        2,
    )
    assert axolotl["datasets"][0]["chat_template"] == "tokenizer_default"
    assert "--tuner_type lora" in swift
    assert "--warmup_steps 2" in swift
    assert "--add_non_thinking_prefix false" in swift


def test_a_model_that_is_elsewhere_is_noted_with_what_was_not_compared(tmp_path, traces) -> None:
    out, summary = exported(write_run(tmp_path / "run", traces), "trl")
    (note,) = [note for note in summary["notes"] if "tokenizer was not available" in note]
    assert note in (out / "README.md").read_text()
    with pytest.raises(ConfigError, match="no/such-model"):  # its template decides the format
        exported(tmp_path / "run", "sharegpt", **{"chat.format": "auto"})


def test_openai_chat_refuses_special_tokens_and_says_what_to_do(tmp_path, traces) -> None:
    root = write_run(tmp_path / "run", traces, formats={"mine": {"start": "[t]", "end": "[/t]"}})
    for name in ("s1", "gpt-oss", "mine"):
        with pytest.raises(ConfigError, match=f"chat.format is `{name}`; expected think-tags or p"):
            exported(root, "openai-chat", **{"chat.format": name})
    assert not (tmp_path / "openai-chat").exists()
    out, summary = exported(root, "openai-chat", **{"chat.format": "think-tags"})
    rows, ids = lines(out / "train.jsonl"), lines(out / "ids.jsonl")
    assert [set(row) for row in rows] == [{"messages"}] * 3
    assert rows[0]["messages"][-1]["content"].startswith("<think>\n")
    assert sorted(row["chain_id"] for row in ids) == sorted(trace.key for trace in traces)
    assert any("at least 10 rows" in note for note in summary["notes"])


def test_parquet_holds_messages_parts_and_columns(tmp_path, traces) -> None:
    import pyarrow.parquet as pq

    out, summary = exported(write_run(tmp_path / "run", traces), "parquet")
    rows = {row["chain_id"]: row for row in pq.read_table(out / "train.parquet").to_pylist()}
    assert summary["files"] == ["README.md", "train.parquet"]
    row = rows[traces[0].key]
    assert (row["question"], row["thinking"]) == ("What is 17 + 25?", " 17 + 25 = 42.\n")
    assert row["messages"][-1]["content"] == REPLY


def test_nothing_is_overwritten_and_a_failed_export_leaves_nothing(
    tmp_path, traces, monkeypatch
) -> None:
    root = write_run(tmp_path / "run", traces)
    out, _ = exported(root, "sharegpt")
    before = (out / "train.jsonl").read_bytes()
    with pytest.raises(DataError, match="exists already; expected a new or an empty folder"):
        exported(root, "sharegpt")
    assert (out / "train.jsonl").read_bytes() == before

    def full(folder: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("slowthink.export.folder.move_folder", full)
    with pytest.raises(OSError, match="No space left"):
        exported(root, "trl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "sharegpt"]


def test_bad_calls_are_explained(tmp_path, traces, capsys) -> None:
    root = write_run(tmp_path / "run", traces)
    with pytest.raises(ConfigError, match="`llamafactory` is unknown, did you mean|unknown"):
        export_run(root, tmp_path / "out", form="llamafactory")
    (root / "select" / "data.parquet").unlink()
    with pytest.raises(DataError, match=r"no training set yet\. Run: slowthink select"):
        export_run(root, tmp_path / "out", form="trl")
    with pytest.raises(DataError, match=r"no recipe\.yaml; expected the folder of a run"):
        export_run(tmp_path, tmp_path / "out", form="trl")
    write_records(root / "select" / "data.parquet", [], Trace)
    with pytest.raises(SystemExit) as stop:
        main(["export", str(root), "--form", "trl", "--out", str(tmp_path / "out")])
    assert stop.value.code == 1
    assert "no chains were selected" in capsys.readouterr().err


def test_the_command_names_every_form_and_prints_files_and_notes(tmp_path, traces, capsys) -> None:
    from slowthink.cli.export import FORM_HELP

    assert all(form in FORM_HELP for form in FORMS)
    root, out = write_run(tmp_path / "run", traces), tmp_path / "out"
    with pytest.raises(SystemExit):
        main(["export", str(root), "--form", "axolotl", "--out", str(out)])
    printed = capsys.readouterr().out
    assert "3 chains for 2 problems in README.md, sft.yaml, train.jsonl" in printed
    assert "to train, in that folder: axolotl train sft.yaml" in printed
    assert "note: " in printed


# --- with the base model's tokenizer --------------------------------------------------------------


@pytest.fixture
def model(tmp_path, smollm_tokenizer, monkeypatch) -> Path:
    """A folder with the embedded model's tokenizer, which is loaded once for all tests, and with
    the chat template that a test puts there."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama", "max_position_embeddings": 512}')

    def load(name: str, *_: Any, **__: Any) -> Any:
        tokenizer, template = copy.copy(smollm_tokenizer), Path(name) / "chat_template.jinja"
        if template.exists():
            tokenizer.chat_template = template.read_text()
        return tokenizer

    monkeypatch.setattr("slowthink.export.training.load_tokenizer", load)
    return folder


def expected_ids(training: ExportSource, trace: Trace) -> tuple[list[int], list[int]]:
    ids = training_ids(
        training.tokenizer, trace.problem, thinking=trace.thinking, response=trace.response,
        chat=training.recipe.chat, custom_formats=training.recipe.formats,
    )  # fmt: skip
    return list(ids.prompt_ids), list(ids.completion_ids)


def test_rendered_messages_have_the_ids_that_train_trains_on(tmp_path, traces, model) -> None:
    root = write_run(tmp_path / "run", traces, model=str(model))
    training = training_set(root)
    for row in training.rows:
        prompt, completion = expected_ids(training, row.trace)
        ids, num_prompt = render(training, row)
        assert (ids[: len(prompt + completion)], num_prompt) == (prompt + completion, len(prompt))
        assert training.tokenizer.decode(ids[len(prompt + completion) :]) == "\n"
    assert training.longest == max(len(p + c) for p, c in (
        expected_ids(training, trace) for trace in traces
    ))  # fmt: skip
    _, summary = exported(root, "axolotl")
    assert any("Every row, rendered" in note for note in summary["notes"])


@pytest.mark.parametrize(
    ("template", "format", "reason"),
    [
        (DROPS_THINKING, "s1", "expected '.*think.*', rendered"),
        (RAISES, "s1", "it raised TemplateError: no"),
        (None, "think-tags", "the same text in other tokens"),
    ],
)
def test_rows_that_a_template_would_rewrite_are_token_ids(
    tmp_path, traces, model, template, format, reason
) -> None:
    if template:
        (model / "chat_template.jinja").write_text(template)
    chat = {"format": format}
    root = write_run(tmp_path / "run", traces, model=str(model), chat=chat)
    training = training_set(root)
    expected = [expected_ids(training, row.trace) for row in training.rows]
    out, summary = exported(root, "trl")
    assert any(re.search(reason, note, re.DOTALL) for note in summary["notes"])
    for row, (prompt, completion) in zip(lines(out / "train.jsonl"), expected, strict=True):
        assert row["input_ids"] == prompt + completion
        assert row["completion_mask"] == [0] * len(prompt) + [1] * len(completion)
        assert "prompt" not in row
    out, _ = exported(root, "axolotl")
    for row, (prompt, completion) in zip(lines(out / "train.jsonl"), expected, strict=True):
        assert row["labels"] == [-100] * len(prompt) + completion
    _, summary = exported(root, "llama-factory")
    assert any(re.search(reason, note, re.DOTALL) for note in summary["notes"])


def test_too_long_chains_are_refused_left_out_or_cut_as_by_train(tmp_path, traces, model) -> None:
    long = replace(traces[2], thinking="2 is.\n" * 60, chain_id="")
    train = {**SETTINGS["train"], "max_length": 100}
    root = write_run(tmp_path / "run", [*traces[:2], long], model=str(model), train=train)
    with pytest.raises(DataError, match="1 of 3 examples are longer than 100 tokens"):
        exported(root, "sharegpt")
    _, summary = exported(root, "sharegpt", **{"train.too_long": "drop"})
    assert summary["num_rows"] == 2
    assert any("1 chains are left out" in note for note in summary["notes"])
    _, summary = exported(root, "parquet", **{"train.too_long": "cut_thinking"})
    assert any("the thinking of 1 is cut" in note for note in summary["notes"])
    source = load_source(
        root, load_saved(root / "recipe.yaml", overrides=["train.too_long=cut_thinking"])
    )
    (cut,) = [row for row in source.rows if row.trace.problem == long.problem]
    assert 90 < source.longest <= 100
    assert cut.text.thinking.count("2 is.") < 60
    assert cut.text.response == "(B)"


@pytest.mark.parametrize("with_tokenizer", [False, True])
def test_development_problems_are_left_out_as_in_training(
    tmp_path, make_problem, traces, request, with_tokenizer
) -> None:
    model = str(request.getfixturevalue("model")) if with_tokenizer else ABSENT
    problems = [make_problem(f"What is {n} + 1?", answer=str(n + 1)) for n in range(6)]
    traces = [replace(traces[0], problem=problem) for problem in problems]
    dev = {"checkpoint": "dev", "dev": {"num_problems": 2}}
    root = write_run(tmp_path / "run", traces, model=model, train={**SETTINGS["train"], **dev})
    recipe = load_saved(root / "recipe.yaml")
    trained_on, withheld = split_dev(traces, recipe.train, seed=recipe.seed)
    assert len(trained_on) == 4
    out, summary = exported(root, "sharegpt")
    exported_ids = {row["problem_id"] for row in lines(out / "train.jsonl")}
    assert exported_ids == {trace.problem.id for trace in trained_on}
    assert exported_ids.isdisjoint(problem.id for problem in withheld)
    assert any("2 chains of 2 development problems" in note for note in summary["notes"])


def test_settings_that_a_trainer_is_not_given_are_noted(tmp_path, traces) -> None:
    dev = {"checkpoint": "dev", "dev": {"num_problems": 1}}
    train = {**SETTINGS["train"], **dev, "optimizer": "adamw-8bit"}
    root = write_run(tmp_path / "run", traces, train=train)
    out, summary = exported(root, "trl")
    assert any("train.checkpoint" in note for note in summary["notes"])
    assert yaml.safe_load((out / "sft.yaml").read_text())["arguments"]["optim"] == "adamw_bnb_8bit"


def test_length_control_is_part_of_the_messages(tmp_path, traces, model) -> None:
    control = {"kind": "tokens"}
    root = write_run(tmp_path / "run", traces[:1], model=str(model), chat={"control": control})
    (row,) = training_set(root).rows
    assert row.user.endswith("\nThink for up to 16 tokens.")


# --- TRL itself -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory, smollm_tokenizer) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"), smollm_tokenizer)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["s1", "think-tags", "plain"])
def test_trl_tokenizes_and_masks_the_rows_as_train_does(
    tmp_path, traces, tiny_model, format
) -> None:
    from datasets import load_dataset
    from trl import SFTConfig, SFTTrainer

    root = write_run(tmp_path / "run", traces, model=str(tiny_model), chat={"format": format})
    out, _ = exported(root, "trl")
    training = training_set(root)
    arguments = yaml.safe_load((out / "sft.yaml").read_text())["arguments"]
    trainer = SFTTrainer(
        model=str(tiny_model),
        args=SFTConfig(output_dir=str(tmp_path / "trained"), use_cpu=True, bf16=False, **arguments),
        train_dataset=load_dataset("json", data_files=str(out / "train.jsonl"), split="train"),
        processing_class=training.tokenizer,
    )
    for row, prepared in zip(training.rows, trainer.train_dataset, strict=True):
        prompt, completion = expected_ids(training, row.trace)
        labels = [-100] * len(prompt) + completion
        ids = prepared["input_ids"]
        tail = ids[len(prompt + completion) :]
        assert ids == prompt + completion + tail
        assert prepared["labels"] == labels + tail
        assert training.tokenizer.decode(tail) == ("" if format == "think-tags" else "\n")


@pytest.mark.slow
@pytest.mark.parametrize("format", ["s1", "think-tags"])
def test_trl_trains_two_steps_on_the_folder_unchanged(tmp_path, traces, tiny_model, format) -> None:
    root = write_run(tmp_path / "run", traces, model=str(tiny_model), chat={"format": format})
    out, _ = exported(root, "trl")
    done = subprocess.run(
        [sys.executable, "sft.py", "2"], cwd=out, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("'loss'") == 2
    assert (out / "model" / "model.safetensors").exists()
