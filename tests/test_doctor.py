"""`slowthink doctor RECIPE`: what a recipe needs, judged against a machine."""

from __future__ import annotations

import json

import pytest
import yaml
from huggingface_hub import constants

from slowthink.cli import doctor, recipe_checks
from slowthink.cli.recipe_checks import check_recipe, model_size
from slowthink.engines.auto import Machine
from slowthink.environment import CudaDevice, GpuProblem
from slowthink.recipe import Recipe
from slowthink.recipe.loading import load_recipe
from tests.test_cli import call

SERVER = {
    "kind": "openai",
    "endpoints": {"urls": ["http://localhost:1/v1"], "api_key_env": "NO_SUCH_KEY"},
}


def failed(recipe: Recipe, *, num_gpus: int = 0) -> dict[str, str]:
    """Name and observation of each failed check on a machine with so many GPUs of 80 GB."""
    gpus = (CudaDevice("H100", (9, 0), 80.0),) * num_gpus
    checks = check_recipe(recipe, Machine(gpus=gpus))
    return {check.name: check.seen for check in checks if check.required and not check.ok}


def evaluation(**settings: object) -> Recipe:
    arms = [{"name": "base", "model": "base", "caps": [8]}]
    return Recipe.model_validate({"name": "t", "evaluate": {"arms": arms}, **settings})


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("someone/model-135m", 135e6),
        ("someone/Qwen2.5-32B-Instruct", 32e9),
        ("mistralai/Mixtral-8x7B-v0.1", 56e9),
        ("Qwen/Qwen3-0.6B", 0.6e9),
        ("someone/model-2b7", None),
        ("microsoft/phi-4", None),
    ],
)
def test_the_size_of_a_model_is_in_its_name_or_unknown(name, size) -> None:
    assert model_size(name) == size


def test_the_size_of_a_folder_is_computed_from_its_config(tmp_path) -> None:
    config = {
        "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 100,
        "num_hidden_layers": 1, "tie_word_embeddings": True,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert model_size(str(tmp_path)) == 100 * 8 + 2 * 8 * (8 + 8) + 3 * 8 * 16


def test_s1_cannot_run_on_a_laptop_and_quickstart_can(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipe_checks, "memory_gb", lambda: 16)
    monkeypatch.setattr(recipe_checks, "this_machine", Machine)
    assert call("doctor", "s1") == 1
    text = capsys.readouterr().out
    assert "MISS model          Qwen/Qwen2.5-32B-Instruct on vllm: needs about 78.6 GB" in text
    assert "MISS training       Qwen/Qwen2.5-32B-Instruct (all weights" in text
    assert "model          deepseek-ai/DeepSeek-R1 on vllm" in text
    assert call("doctor", "quickstart") == 0
    assert "quickstart can run here" in capsys.readouterr().out


def test_gpus_decide_what_fits() -> None:
    s1 = load_recipe("s1")
    assert "training" in failed(s1, num_gpus=2)
    assert {"training", "model"}.isdisjoint(failed(s1, num_gpus=8))


def test_an_unknown_size_is_no_ok_and_fails_nothing(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    recipe = evaluation(model="someone/model", engine={"kind": "transformers"})
    assert failed(recipe) == {}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    assert call("doctor", "mine.yaml") == 0
    lines = capsys.readouterr().out.splitlines()
    (place,) = [index for index, line in enumerate(lines) if line.startswith("?")]
    assert "?    model          someone/model on transformers: size unknown" in lines[place]
    assert "-> it is in the model's config; with a network: hf download" in lines[place + 1]
    assert lines[-1] == "mine.yaml can run here, if what is unknown fits: see each ? above"


@pytest.mark.parametrize(("offline", "missing"), [(True, True), (False, False)])
def test_a_model_that_is_not_here_is_missing_without_a_network(
    monkeypatch, offline, missing
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    recipe = evaluation(model="someone/model-1b", engine={"kind": "transformers"})
    assert ("file" in failed(recipe)) == missing
    checks = check_recipe(recipe, Machine(), elsewhere=True)
    assert not [check for check in checks if check.name == "file"]


def test_a_server_needs_its_key_and_no_memory(monkeypatch) -> None:
    recipe = evaluation(model="a/b-900B", engine=SERVER)
    assert failed(recipe) == {"key": "NO_SUCH_KEY is not set"}
    monkeypatch.setenv("NO_SUCH_KEY", "x")
    assert failed(recipe) == {}


def test_a_missing_package_counts_only_if_the_recipe_needs_it(monkeypatch) -> None:
    versions = {"vllm": None, "trl": None}
    monkeypatch.setattr(recipe_checks, "package_version", lambda name: versions.get(name, "1"))
    assert failed(evaluation(engine={"kind": "transformers"})) == {}
    assert list(failed(evaluation(engine={"kind": "vllm"}))) == ["extra vllm"]


def test_vllm_on_a_gpu_needs_a_compiler_and_the_headers_of_python(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(recipe_checks, "package_version", lambda name: "1")
    monkeypatch.setattr(recipe_checks.shutil, "which", lambda name: None)
    monkeypatch.setattr(recipe_checks.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    recipe = evaluation(engine={"kind": "vllm"})
    seen = failed(recipe, num_gpus=1)
    assert seen == {"compiler": f"missing: a C compiler and {tmp_path}/Python.h"}
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(recipe_checks.shutil, "which", lambda name: "/bin/gcc")
    assert failed(recipe, num_gpus=1) == failed(recipe) == {}


def test_a_gpu_that_torch_does_not_use_is_reported(monkeypatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    problem = GpuProblem("torch is built without CUDA", "install another")
    monkeypatch.setattr(doctor, "gpu_problem", lambda: problem)
    check = doctor._check_device()
    assert (check.ok, check.required) == (False, False)
    assert check.seen == "CPU only, beside a GPU: torch is built without CUDA -> install another"


@pytest.mark.parametrize(
    ("settings", "num_gpus", "missing"),
    [
        ({"lora": {"quantize": "nf4"}}, 1, "bitsandbytes missing, for train.lora.quantize: nf4"),
        ({"optimizer": "adamw-8bit"}, 0, "torchao missing, for train.optimizer: adamw-8bit"),
        ({"optimizer": "adamw-8bit"}, 1, "bitsandbytes missing, for train.optimizer: adamw-8bit"),
        ({"report_to": ["wandb"]}, 0, "wandb missing, for train.report_to: wandb"),
    ],
)
def test_a_package_that_one_setting_of_training_needs_is_looked_for(
    monkeypatch, settings, num_gpus, missing
) -> None:
    optional = ("bitsandbytes", "torchao", "wandb")
    monkeypatch.setattr(
        recipe_checks, "package_version", lambda name: None if name in optional else "1"
    )
    recipe = Recipe.model_validate({"name": "t", "model": "a/b-1m", "train": settings})
    assert failed(recipe, num_gpus=num_gpus)["package"] == missing


def test_auto_settings_are_those_of_the_gpus_that_are_named(capsys, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    seen = {}
    for options in ((), ("--gpus", "8xH100")):
        call("doctor", "quickstart", *options, "--json")
        findings = json.loads(capsys.readouterr().out)["findings"]
        seen[options] = next(each["seen"] for each in findings if each["name"] == "auto")
    here, there = seen.values()
    assert "engine.batch_size=48 (no NVIDIA GPU)" in here
    assert "engine.batch_size=256 (" in there and "engine.dtype=bfloat16 (H100 has" in there


def test_training_is_predicted_for_other_gpus(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    train = {"input": str(tmp_path / "none.jsonl"), "gradient_checkpointing": True}
    recipe = {"name": "t", "model": "Qwen/Qwen2.5-7B-Instruct", "train": train}
    (tmp_path / "t.yaml").write_text(json.dumps(recipe))
    call("doctor", "t.yaml", "--gpus", "8xH100", "--tokens-per-second", "20000", "--json")
    findings = {row["name"]: row for row in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["training"]["ok"] and findings["disk"]["ok"]
    assert "by fsdp2): needs about" in findings["training"]["seen"]
    assert "each of 8 H100 (--processes 8)" in findings["training"]["seen"]
    assert "tokens fit" in findings["micro-batch"]["seen"]
    assert "20,000 tokens/s; the training set is unknown" in findings["time"]["seen"]
    assert call("doctor", "t.yaml", "--gpus", "4090x8") == 2
    assert "--gpus 8xH100" in capsys.readouterr().err
    call("doctor", "t.yaml", "--gpus", "4090", "--json")
    findings = {row["name"]: row for row in json.loads(capsys.readouterr().out)["findings"]}
    assert not findings["training"]["ok"] and "train.lora" in findings["training"]["remedy"]
