"""Code that lies in the working folder, in a model's folder or in a chat template does not run."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import slowthink
from slowthink.engines.models import eos_ids
from slowthink.environment import python_environment
from slowthink.errors import ConfigError
from slowthink.grading.workers import WorkerPool
from slowthink.pipeline.run_folder import locked, write_recipe
from slowthink.pipeline.stage_process import StageServer
from slowthink.recipe.loading import parse_recipe
from slowthink.recipe.models import code_that_runs

SHADOWED = (
    "math_verify", "sympy", "signal", "json", "typing", "subprocess", "torch", "yaml", "numpy",
    "pyarrow", "typer", "sitecustomize", "slowthink",
)  # fmt: skip


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with modules that write a file `ran` if they are imported."""
    folder = tmp_path / "trap"
    folder.mkdir()
    code = f"import os\nopen({str(folder / 'ran')!r}, 'a').write(__name__ + ' ')\nos._exit(77)\n"
    for name in SHADOWED:
        (folder / f"{name}.py").write_text(code)
    monkeypatch.chdir(folder)
    return folder


def assert_untouched(folder: Path) -> None:
    ran = folder / "ran"
    assert not ran.exists(), ran.read_text()


# --- the working folder ---------------------------------------------------------------------------


@pytest.mark.slow
def test_the_workers_of_a_grader_import_nothing_from_the_working_folder(trap: Path) -> None:
    pool = WorkerPool(timeout_seconds=30)
    try:
        (result,) = pool.compare_many([("x^2+2x+1", "(x+1)^2")])
    finally:
        pool.close()
    assert result.equal is True
    assert_untouched(trap)


@pytest.mark.parametrize("path", [f"{os.pathsep}/nowhere{os.pathsep}"])
def test_a_stage_imports_nothing_from_the_working_folder(
    trap: Path, tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with empty entries in PYTHONPATH, which mean the working folder to Python."""
    own = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", own + path)
    sandbox = {"kind": "sandbox", "num_problems": 4, "num_heldout": 1}
    recipe = parse_recipe({"name": "x", "pool": {"sources": [sandbox]}, "report": None})
    root = tmp_path / "run"
    with (
        locked(root) as lock_fd,
        StageServer(root, imports=["json"], lock_fd=lock_fd, quiet=True) as server,
    ):
        write_recipe(recipe, root)
        server.run("pool")
    assert (root / "pool" / "data.parquet").exists()
    assert_untouched(trap)


def test_the_program_imports_nothing_from_the_working_folder(trap: Path) -> None:
    root = str(Path(slowthink.__file__).parents[1])
    (trap / "slowthink.py").unlink()  # Python itself looks for the program's package there
    done = subprocess.run(
        [sys.executable, "-m", "slowthink.cli.app", "--help"],
        env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Usage" in done.stdout
    assert_untouched(trap)


def test_children_of_libraries_have_the_same_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "/mine", "", "/other", ""]))
    environment = python_environment()
    folders = environment["PYTHONPATH"].split(os.pathsep)
    assert environment["PYTHONSAFEPATH"] == "1"
    assert folders[:2] == ["/mine", "/other"]
    assert "" not in folders


# --- a model's folder -----------------------------------------------------------------------------


def test_models_are_loaded_in_one_place_alone() -> None:
    """`from_pretrained` asks on the terminal whether to run a model's code unless it is told not to."""
    package = Path(slowthink.__file__).parent
    calls = [
        f"{path.relative_to(package)}: {ast.unparse(node)}"
        for path in package.rglob("*.py")
        if "from_pretrained" in (code := path.read_text("utf-8"))
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Attribute) and node.attr == "from_pretrained"
    ]
    assert sorted(calls) == [
        "engines/models.py: PeftModel.from_pretrained",  # an adapter's weights, and JSON
        "engines/models.py: auto_class.from_pretrained",
        "engines/server/tokenizer.py: GenerationConfig.from_pretrained",  # JSON alone
        # The script that is exported with a training set, which slowthink itself does not run.
        "export/sft_script.py: AutoModelForCausalLM.from_pretrained",
        "export/sft_script.py: AutoTokenizer.from_pretrained",
    ]


CODE = """
with open({ran!r}, "w"):
    pass
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizer
class Config(PretrainedConfig):
    model_type = "foreign"
class Model(PreTrainedModel):
    config_class = Config
class Tokenizer(PreTrainedTokenizer):
    pass
"""


@pytest.fixture
def foreign_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose classes are in its folder; whoever is asked says yes."""
    folder = tmp_path / "model"
    folder.mkdir()
    auto_map = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    config = {"model_type": "foreign", "auto_map": auto_map, "architectures": ["Model"]}
    tokenizer = {
        "tokenizer_class": "Tokenizer",
        "auto_map": {"AutoTokenizer": ["code.Tokenizer", None]},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "code.py").write_text(CODE.format(ran=str(tmp_path / "ran")))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    return folder


def test_code_of_a_models_folder_is_refused_and_the_setting_is_named(foreign_model: Path) -> None:
    pytest.importorskip("transformers")
    from transformers import AutoConfig, AutoModelForCausalLM

    from slowthink.engines.models import from_folder, load_tokenizer

    with pytest.raises(ConfigError, match=r"auto_map.*engine\.trust_remote_code=true"):
        load_tokenizer(str(foreign_model))
    for auto_class in (AutoConfig, AutoModelForCausalLM):
        with pytest.raises(ConfigError, match=r"engine\.trust_remote_code=true"):
            from_folder(auto_class, foreign_model)
    assert not (foreign_model.parent / "ran").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["transformers", "vllm"])
def test_an_engine_refuses_code_of_a_models_folder(foreign_model: Path, kind: str) -> None:
    pytest.importorskip("torch" if kind == "transformers" else "vllm")
    from slowthink.engines import open_session
    from slowthink.recipe import EngineConfig

    with pytest.raises(ConfigError, match=r"engine\.trust_remote_code=true"):
        open_session(str(foreign_model), EngineConfig(kind=kind, dtype="float32"))
    assert not (foreign_model.parent / "ran").exists()


def test_a_setting_allows_it(foreign_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    from transformers import AutoConfig, dynamic_module_utils

    from slowthink.engines.models import from_folder

    modules = str(foreign_model.parent / "modules")
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    config = from_folder(AutoConfig, foreign_model, trust_remote_code=True)
    assert type(config).__name__ == "Config"
    assert (foreign_model.parent / "ran").exists()


def test_a_models_config_has_no_kernel_loaded_from_the_hub(tmp_path: Path) -> None:
    """transformers would load and run it, whatever attention is asked for."""
    pytest.importorskip("transformers")
    from transformers import AutoModelForCausalLM

    from slowthink.engines.models import from_folder

    config = {"model_type": "llama", "_attn_implementation": "mallory/attention"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"mallory/attention.*engine\.trust_remote_code=true"):
        from_folder(AutoModelForCausalLM, tmp_path, attn_implementation="sdpa")


def test_a_model_that_needs_another_package_is_a_clear_error(tmp_path: Path) -> None:
    from slowthink.engines.models import from_folder

    class NeedsPackage:
        @staticmethod
        def from_pretrained(folder: Path, **_: object) -> None:
            raise ImportError("needs `nothere`: pip install nothere")

    with pytest.raises(
        ConfigError, match=r"without another package .*pip install nothere.*Install"
    ):
        from_folder(NeedsPackage, tmp_path)


@pytest.mark.parametrize("damage", ["config.json", "nothing saved"])
def test_a_damaged_model_is_a_clear_error(tmp_path: Path, damage: str) -> None:
    pytest.importorskip("transformers")
    from slowthink.engines.models import load_tokenizer

    (tmp_path / "config.json").write_text(
        "{" if damage == "config.json" else '{"model_type": "llama"}'
    )
    with pytest.raises(ConfigError, match="transformers cannot load it.*expected a folder saved"):
        load_tokenizer(str(tmp_path))


def test_end_ids_that_are_none_are_a_clear_error() -> None:
    assert eos_ids([2, None], 7) == {2, 7}
    for ids in ({"a": 1}, ["x"], [True], "x", 2.5):
        with pytest.raises(ConfigError, match=r"`eos_token_id` is .*Correct the model's file"):
            eos_ids(ids, 7)  # type: ignore[arg-type]


TEMPLATES = (
    "{{ cycler.__init__.__globals__.os.system('touch RAN') }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.append.__self__.__class__.__base__ }}",
    "{{ (messages[0].items|attr('__globals__')) }}{{ ().__class__.__bases__[0].__subclasses__()[0]() }}",
    "{% set x = messages.clear() %}",
)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_chat_template_stays_in_its_sandbox(
    template: str, smollm_tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jinja2.exceptions import SecurityError

    from slowthink.forcing.prompts import render_messages

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        smollm_tokenizer, "chat_template", template.replace("RAN", str(tmp_path / "ran"))
    )
    with pytest.raises((SecurityError, ConfigError)):
        render_messages(smollm_tokenizer, [{"role": "user", "content": "hi"}])
    assert list(tmp_path.iterdir()) == []


# --- a recipe -------------------------------------------------------------------------------------


def test_a_run_says_which_code_its_recipe_runs() -> None:
    recipe = parse_recipe(
        {
            "name": "x", "engine": {"trust_remote_code": True},
            "evaluate": {
                "input": "p.jsonl", "arms": [{"name": "base", "caps": [8]}],
                "parallel": {
                    "arm": "base", "protocol": "greedy",
                    "scorer": {"kind": "function", "function": "os:system"},
                },
            },
        }
    )  # fmt: skip
    assert code_that_runs(recipe) == [
        "engine.trust_remote_code runs code of the model's folder",
        "evaluate.parallel.scorer runs your code: the function os:system",
    ]
    assert code_that_runs(parse_recipe({"name": "x"})) == []
