"""Mistakes of the first minutes: each is answered by one message."""

from __future__ import annotations

import json

import pytest

from slowthink.cli import generate as generate_command
from slowthink.errors import ConfigError
from slowthink.pipeline.run_folder import changed_settings
from slowthink.recipe.loading import load_recipe
from tests.test_cli import call


def faults(*overrides: str) -> list[str]:
    """The lines of the message for the quickstart with these settings."""
    with pytest.raises(ConfigError) as caught:
        load_recipe("quickstart", overrides=overrides)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("pool.sources=[{kind: fil, path: x}]", "pool.sources.0: Input tag 'fil'"),
        ("pool.sources=[{kind: file}]", "pool.sources.0.path: missing"),
        ("evaluate.protocols=[3]", "evaluate.protocols.0: Input should be a valid string, or: "),
        ("train.micro_batch_size=x", "train.micro_batch_size: Input should be a valid integer"),
        ("evaluate.arms.0.caps=x", "evaluate.arms.0.caps: Input should be a list, e.g. [x]"),
        ("filter.difficulty.num_attempt=3", "filter.difficulty.num_attempt: unknown key"),
        ("evaluate.protocols=[{nam: x}]", "evaluate.protocols.0."),
    ],
)
def test_one_fault_gives_one_message(override, start) -> None:
    lines = faults(override)
    assert lines[0].startswith(start)
    assert len(lines) == 1 or "protocols" in override


def test_two_faults_give_two_messages() -> None:
    assert len(faults("train.epochs=-1", "evaluate.arms.0.caps=x")) == 2


def test_a_changed_setting_is_named_to_its_leaf() -> None:
    old = load_recipe("quickstart").model_dump(mode="json")
    new = load_recipe("quickstart", overrides=["pool.sources.0.num_problems=61"])
    (line,) = changed_settings(old, new.model_dump(mode="json"))
    assert line == f"pool.sources.0.num_problems: {old['pool']['sources'][0]['num_problems']} -> 61"
    assert changed_settings([1], [1, 2], prefix="a") == ["a.1: None -> 2"]


def test_generate_reads_a_file_that_is_given_as_the_prompt(tmp_path, monkeypatch, capsys) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "What is 1 + 1?"}\n')
    asked = []
    monkeypatch.setattr(
        generate_command, "complete", lambda problems, *_, **__: asked.extend(problems) or []
    )
    assert call("generate", str(path)) == 0
    assert [problem.question for problem in asked] == ["What is 1 + 1?"]
    assert "its questions are read" in capsys.readouterr().err


def test_broken_weights_are_one_message(tmp_path, capsys) -> None:
    pytest.importorskip("transformers")
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 16,
        "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 100,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_text("junk")
    assert call("generate", "x", "--model", str(tmp_path)) == 2
    error = capsys.readouterr().err
    assert "transformers cannot load it" in error and "Traceback" not in error


def test_out_that_is_a_file_is_one_message(tmp_path, capsys) -> None:
    path = tmp_path / "file"
    path.touch()
    assert call("run", "quickstart", "--out", str(path), "--quiet") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_model_of_a_later_arm_is_looked_for_before_the_first_token(tmp_path) -> None:
    from slowthink.pipeline.run_folder import make_context
    from slowthink.stages.evaluate.arms import check_models

    arms = [
        {"name": "base", "model": "base", "caps": [8]},
        {"name": "other", "model": "./absent", "caps": [8]},
    ]
    recipe = load_recipe("quickstart").model_dump(mode="json")
    recipe |= {"engine": {"kind": "transformers"}, "train": None, "evaluate": {"arms": arms}}
    context = make_context(load_recipe_of(recipe), tmp_path, "evaluate", notify=lambda _: None)
    with pytest.raises(ConfigError, match=r"absent`: no such|absent`: no"):
        check_models(context)


def load_recipe_of(data: dict):
    from slowthink.recipe.loading import parse_recipe

    return parse_recipe(data)


def test_an_unknown_key_names_those_that_are_known() -> None:
    (line,) = faults("evaluate.caps=[0, 64]")
    assert line.startswith("evaluate.caps: unknown key; expected one of arms, benchmarks, ")


def test_a_run_that_does_not_exist_is_one_short_message(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("evaluate", "runs/none", "--regrade") == 2
    error = capsys.readouterr().err
    assert "`runs/none`: no such file or run folder" in error and "slowthink recipes" in error
    assert len(error) < 300


def test_a_file_of_chats_is_not_asked_for_a_column_of_questions(capsys, tmp_path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text('{"conversations": [{"from": "human", "value": "1 + 1?"}]}\n')
    assert call("init", "own-data", "--data", str(path)) == 1
    assert "slowthink run own-chains" in capsys.readouterr().err


def test_a_recipe_for_ones_own_chains_trains_on_all_that_it_selects() -> None:
    train = load_recipe("own-chains").train
    assert train is not None and train.step_limit is None


def test_a_model_in_python_hides_what_libraries_log_on_import(monkeypatch) -> None:
    import logging

    import slowthink
    from slowthink import engines

    def refuse(*_, **__):
        raise ConfigError("no model is loaded here")

    monkeypatch.setattr(engines, "open_session", refuse)
    monkeypatch.setattr(logging.getLogger("torchao"), "level", logging.NOTSET)
    with pytest.raises(ConfigError):
        slowthink.load_model("smollm2-135m")
    assert logging.getLogger("torchao").level == logging.ERROR
