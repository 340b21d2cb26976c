"""`auto` is resolved once, when a run is created; a value that was given or saved is kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from slowthink import environment
from slowthink.cli.plan_text import plan_text
from slowthink.engines import auto
from slowthink.engines.auto import (
    CAPTURE_SECONDS,
    TRANSFORMERS_TOKENS_PER_SECOND,
    VLLM_START_SECONDS,
    VLLM_TOKENS_PER_SECOND,
    Choice,
    Machine,
    Workload,
    choose_batch_size,
    choose_batch_tokens,
    choose_dtype,
    choose_kind,
    resolve_engine,
)
from slowthink.engines.vllm.client import open_engine
from slowthink.environment import CudaDevice
from slowthink.errors import ConfigError
from slowthink.pipeline.resolve import Resolved, planned_work, resolve, resolve_run
from slowthink.pipeline.run import run_recipe
from slowthink.pipeline.run_plan import plan_run
from slowthink.recipe import EndpointConfig, EngineConfig, Generation, Recipe
from slowthink.recipe.loading import load_recipe, parse_recipe
from slowthink.recipe.saved import parse_saved, sections, value_at

H100 = CudaDevice("H100", (9, 0), 80.0)
V100 = CudaDevice("V100", (7, 0), 32.0)
P40 = CudaDevice("P40", (6, 1), 24.0)
GPU_MACHINE = Machine(gpus=(H100,), cpu_bfloat16=True, has_vllm=True)
OLD_CPU = Machine(cpu_bfloat16=False, has_vllm=True)
FEW, MANY = Workload(1_000), Workload(10_000_000)


@pytest.mark.parametrize(
    ("machine", "device", "expected"),
    [
        (Machine(cpu_bfloat16=True), "auto", "bfloat16"),
        (OLD_CPU, "auto", "float32"),
        (Machine(), "auto", "float32"),
        (Machine(gpus=(H100,), cpu_bfloat16=False), "auto", "bfloat16"),
        (Machine(gpus=(H100,), cpu_bfloat16=False), "cpu", "float32"),
        (Machine(gpus=(V100,), cpu_bfloat16=True), "cuda", "float16"),
        (Machine(gpus=(P40,), cpu_bfloat16=True), "cuda", "float32"),
        (Machine(gpus=(H100, V100)), "auto", "float16"),
        (Machine(gpus=(V100, H100)), "cuda:1", "bfloat16"),
        (Machine(has_other_gpu=True, cpu_bfloat16=False), "auto", "bfloat16"),
        (Machine(has_other_gpu=True, cpu_bfloat16=False), "cpu", "float32"),
    ],
)
def test_the_data_type_is_one_that_the_device_is_fast_in(machine, device, expected) -> None:
    assert choose_dtype(EngineConfig(device=device), machine).value == expected


@pytest.mark.parametrize(
    ("machine", "workload", "expected", "reason"),
    [
        (GPU_MACHINE, MANY, "vllm", "repay its start on H100"),
        (GPU_MACHINE, FEW, "transformers", "about 1,000 tokens do not repay the start"),
        (GPU_MACHINE, Workload(80_000), "transformers", "do not repay the start of vLLM"),
        (GPU_MACHINE, Workload(100_000), "vllm", "repay its start on H100"),
        (Machine(gpus=(H100,)), MANY, "transformers", "vLLM is not installed"),
        (OLD_CPU, MANY, "transformers", "torch finds no NVIDIA GPU"),
    ],
)
def test_vllm_is_taken_only_where_it_repays_its_start(machine, workload, expected, reason) -> None:
    choice = choose_kind(EngineConfig(), lambda: workload, machine)
    assert choice.value == expected
    assert reason in choice.reason


def test_vllm_is_not_taken_for_a_gpu_that_it_would_not_use() -> None:
    machine = Machine(gpus=(V100, H100), has_vllm=True)
    kinds = {
        device: choose_kind(EngineConfig(device=device), lambda: MANY, machine).value
        for device in ("auto", "cuda", "cuda:0", "cuda:1")
    }
    assert kinds == {"auto": "vllm", "cuda": "vllm", "cuda:0": "vllm", "cuda:1": "transformers"}
    with pytest.raises(ConfigError, match=r"(?s)`cuda:1`.*Choose them by CUDA_VISIBLE_DEVICES"):
        open_engine(Path("model"), EngineConfig(kind="vllm", device="cuda:1"))


def test_each_model_that_is_loaded_must_repay_a_start() -> None:
    kinds = [
        choose_kind(EngineConfig(), lambda n=n: Workload(120_000, n), GPU_MACHINE).value
        for n in (1, 2)
    ]
    assert kinds == ["vllm", "transformers"]


def test_whichever_speed_the_transformers_engine_has_a_wrong_choice_costs_one_start() -> None:
    start, losses = VLLM_START_SECONDS - CAPTURE_SECONDS, []
    for tokens in range(1_000, 2_000_000, 1_000):
        kind = choose_kind(EngineConfig(), lambda n=tokens: Workload(n), GPU_MACHINE).value
        for speed in TRANSFORMERS_TOKENS_PER_SECOND:
            saved = tokens / speed - tokens / VLLM_TOKENS_PER_SECOND
            losses.append((saved - start) * (1 if kind == "transformers" else -1))
    assert 0.8 * start < max(losses) <= start


@pytest.mark.parametrize(
    ("machine", "device", "size", "tokens"),
    [
        (OLD_CPU, "auto", 48, 32_768),
        (Machine(has_other_gpu=True), "auto", 48, 32_768),
        (GPU_MACHINE, "cpu", 48, 32_768),
        (GPU_MACHINE, "auto", 256, 975_872),
        (Machine(gpus=(P40, H100)), "cuda", 256, 292_864),
        (Machine(gpus=(P40, H100)), "cuda:1", 256, 975_872),
        (Machine(gpus=(CudaDevice("GB10", (12, 1), 0.0),)), "auto", 256, 1024),  # unknown
    ],
)
def test_batches_are_larger_on_a_gpu(machine, device, size, tokens) -> None:
    config = EngineConfig(device=device)
    assert choose_batch_size(config, machine).value == size
    choice = choose_batch_tokens(config, machine)
    assert choice.value == tokens
    assert choice.value * 32 * 1024 <= 0.4 * 80e9
    assert ("GB" in choice.reason) is (size == 256)


def test_batches_that_a_user_gave_or_a_run_has_stay() -> None:
    recipe = parse_recipe({"name": "x", "engine": {"batch_tokens": 99}})
    on_gpu = resolved(recipe, GPU_MACHINE)
    assert (on_gpu.engine.batch_size, on_gpu.engine.batch_tokens) == (256, 99)
    former = parse_saved({"engine": {"dtype": "bfloat16"}}, where="manifest")
    again = resolved(parse_recipe({"name": "x"}), GPU_MACHINE, saved=former)
    assert (again.engine.batch_size, again.engine.batch_tokens) == (48, 32_768)


def test_an_engine_without_a_run_has_batches_for_this_machine(monkeypatch) -> None:
    monkeypatch.setattr(auto, "this_machine", lambda: GPU_MACHINE)
    config = resolve_engine(EngineConfig(kind="transformers", batch_tokens=7))
    assert (config.batch_size, config.batch_tokens, config.dtype) == (256, 7, "bfloat16")


def test_given_servers_or_scripts_name_the_engine() -> None:
    servers = EngineConfig(endpoints=EndpointConfig(urls=("http://localhost:8000/v1",)))
    assert choose_kind(servers, lambda: MANY, GPU_MACHINE).value == "openai"
    assert choose_kind(EngineConfig(replay="x.jsonl"), lambda: MANY, GPU_MACHINE).value == "replay"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ATEN_CPU_CAPABILITY", "avx2", False),
        ("ATEN_CPU_CAPABILITY", "default", False),
        ("ONEDNN_MAX_CPU_ISA", "AVX2", False),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI", False),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", None),
        ("ATEN_CPU_CAPABILITY", "avx512", None),
    ],
)
def test_a_variable_that_limits_the_processor_counts(monkeypatch, name, value, expected) -> None:
    for variable in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.delenv(variable, raising=False)
    unlimited = environment.bfloat16_instructions()
    monkeypatch.setenv(name, value)
    assert environment.bfloat16_instructions() is (unlimited if expected is None else expected)


def resolved(recipe: Recipe, machine: Machine, **options) -> Recipe:
    return resolve(recipe, workload=lambda _: MANY, machine=machine, **options).recipe


def test_every_engine_of_a_recipe_is_resolved_and_given_values_stay() -> None:
    models = [{"model": "a", "engine": {"dtype": "float32"}}, {"engine": {"kind": "transformers"}}]
    recipe = parse_recipe({"name": "x", "filter": {"difficulty": {"models": models}}})
    result = resolve(recipe, workload=lambda _: MANY, machine=GPU_MACHINE)
    first, second = result.recipe.filter.difficulty.models
    assert (result.recipe.engine.kind, result.recipe.engine.dtype) == ("vllm", "bfloat16")
    assert (first.engine.kind, first.engine.dtype) == ("vllm", "float32")
    assert (second.engine.kind, second.engine.dtype) == ("transformers", "bfloat16")
    assert list(result.choices) == [
        "engine.kind", "engine.dtype", "engine.batch_size", "engine.batch_tokens",
        "filter.difficulty.models.0.engine.kind", "filter.difficulty.models.0.engine.batch_size",
        "filter.difficulty.models.0.engine.batch_tokens", "filter.difficulty.models.1.engine.dtype",
        "filter.difficulty.models.1.engine.batch_size",
        "filter.difficulty.models.1.engine.batch_tokens",
    ]  # fmt: skip
    again = resolve(result.recipe, workload=lambda _: FEW, machine=OLD_CPU)
    assert (again.recipe, again.choices) == (result.recipe, {})


def test_a_saved_value_is_kept_on_another_machine() -> None:
    recipe = parse_recipe({"name": "x"})
    saved = resolved(recipe, OLD_CPU)
    assert resolved(recipe, GPU_MACHINE, saved=saved) == saved
    assert resolved(recipe, GPU_MACHINE).engine.dtype == "bfloat16"


def test_settings_from_before_a_setting_existed_have_its_former_default() -> None:
    saved = parse_saved({"engine": {"batch_size": 8}, "train": {"epochs": 2}}, where="manifest")
    assert (saved.engine.kind, saved.engine.dtype) == ("transformers", "bfloat16")
    assert saved.train is not None and saved.train.micro_batch_size is None


def test_sections_are_found_with_their_places() -> None:
    recipe = load_recipe("quickstart")
    for place, section in sections(recipe):
        assert value_at(recipe, place) == section
    assert ("evaluate", "arms", 1) in dict(sections(recipe))
    with pytest.raises(LookupError):
        value_at(recipe, ("evaluate", "judge", "engine"))


def test_the_planned_tokens_are_those_of_the_stages_that_use_the_engine() -> None:
    recipe = load_recipe("quickstart")
    whole = planned_work(recipe, ("engine",))
    part = planned_work(recipe, ("evaluate", "judge", "engine"))
    assert whole.num_tokens > part.num_tokens > 0
    assert (whole.num_starts, part.num_starts) == (3, 2)


def small_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe whose only stage is a pool; the processor is limited to AVX2."""
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    problems = folder / "problems.jsonl"
    problems.write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    sources = [{"kind": "file", "path": str(problems)}]
    return parse_recipe({"name": "x", "pool": {"sources": sources}, "report": None})


def test_a_run_records_its_choices_once_and_keeps_them(tmp_path, monkeypatch, capsys) -> None:
    recipe, root = small_run(tmp_path, monkeypatch), tmp_path / "run"
    run_recipe(recipe, root)
    printed = capsys.readouterr().err
    assert "auto: engine.kind=transformers (" in printed
    assert "engine.dtype=float32 (this CPU has no bfloat16 instructions)" in printed
    record = json.loads((root / "run.json").read_text())["auto"]
    assert record["engine.dtype"]["value"] == "float32"
    assert yaml.safe_load((root / "recipe.yaml").read_text())["engine"]["dtype"] == "float32"
    before = (root / "recipe.yaml").read_bytes()
    monkeypatch.delenv("ATEN_CPU_CAPABILITY")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    run_recipe(recipe, root)
    assert "auto:" not in capsys.readouterr().err
    assert (root / "recipe.yaml").read_bytes() == before
    assert json.loads((root / "run.json").read_text())["auto"] == record


def test_a_dry_run_prints_what_auto_becomes_and_writes_nothing(tmp_path, monkeypatch) -> None:
    recipe, root = small_run(tmp_path, monkeypatch), tmp_path / "run"
    estimates = plan_run(recipe, root)
    assert estimates["recipe"]["engine"]["dtype"] == "float32"
    assert "auto: engine.dtype=float32 (this CPU has no bfloat16" in plan_text(estimates)
    assert not root.exists()


def test_a_folder_that_holds_only_a_recipe_is_a_new_run(tmp_path, monkeypatch) -> None:
    recipe = small_run(tmp_path, monkeypatch)
    (tmp_path / "recipe.yaml").write_text("name: mine\n")
    assert resolve_run(recipe, tmp_path).recipe.engine.dtype == "float32"


def test_generate_settings_are_resolved_too() -> None:
    result = resolve(Generation(), workload=lambda _: FEW, machine=OLD_CPU)
    assert isinstance(result.recipe, Generation)
    assert (result.recipe.engine.kind, result.recipe.engine.dtype) == ("transformers", "float32")


NVML = """
#include <string.h>
int nvmlInit_v2(void) { return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = DRIVER; return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **gpu) { *gpu = (void *)(long)(i + 1); return 0; }
int nvmlDeviceGetName(void *gpu, char *name, unsigned size) { strcpy(name, "Test GPU"); return 0; }
int nvmlDeviceGetCudaComputeCapability(void *gpu, int *major, int *minor) {
  *major = SAME ? 8 : 6 + (int)(long)gpu; *minor = 5; return 0; }
int nvmlDeviceGetMemoryInfo(void *gpu, unsigned long long *memory) {
#ifdef UNIFIED
  return 3; }
#else
  memory[0] = 80000000000ULL; return 0; }
#endif
int nvmlDeviceGetMigMode(void *gpu, unsigned *now, unsigned *later) { *now = MIG; return 0; }
"""
CUDA = """
#include <string.h>
int cuInit(unsigned flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *gpu, int i) { *gpu = i + 5; return 0; }
int cuDeviceGetName(char *name, int size, int gpu) { strcpy(name, "By CUDA"); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int gpu) {
  *value = attribute == 75 ? 14 - gpu : 0; return 0; }
int cuDeviceTotalMem_v2(unsigned long *memory, int gpu) { *memory = 10000000000UL; return 0; }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["-DSAME=1", "-DMIG=0"], [("Test GPU", 8, 5, 80.0)]),
        (["-DSAME=0", "-DMIG=0"], [("By CUDA", 9, 0, 10.0), ("By CUDA", 8, 0, 10.0)]),
        (["-DSAME=1", "-DMIG=1"], [("By CUDA", 9, 0, 10.0), ("By CUDA", 8, 0, 10.0)]),
        (["-DSAME=0", "-DMIG=0", None], [("Test GPU", 8, 5, 80.0)]),
        (
            ["-DSAME=1", "-DMIG=0", "-DUNIFIED"],
            [("By CUDA", 9, 0, 10.0), ("By CUDA", 8, 0, 10.0)],
        ),
    ],
    ids=["alike", "mixed", "in parts", "mixed, CUDA does not start", "with the machine's memory"],
)
def test_gpus_are_read_from_the_drivers_libraries(flags, expected, tmp_path) -> None:
    """NVML and CUDA number them differently: where they differ, CUDA is asked."""
    code = """for gpu in environment.cuda_devices():
        print((gpu.name, *gpu.capability, gpu.memory_gb))"""
    flags = [*flags, "-DDRIVER=13000"]
    assert with_libraries(flags, code, tmp_path) == [str(gpu) for gpu in expected]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize(
    ("built", "driver", "expected"),
    [
        ("13.0", 13010, [None, 1]),
        ("13.2", 13000, [None, 1]),  # of the same major version
        ("13.0", 12040, ["torch is built for CUDA 13.0, and the driver runs CUDA 12.4 at most", 0]),
        (None, 13000, ["torch is built without CUDA", 0]),
        (
            "13.0", 0,
            ["the version of NVIDIA's driver is unknown, as where libcuda.so.1 is missing", 0],
        ),
    ],
)  # fmt: skip
def test_a_gpu_that_torch_cannot_use_is_none(built, driver, expected, tmp_path) -> None:
    """On a driver older than torch's CUDA everything runs on the CPU: `auto` must choose for it."""
    flags = ["-DSAME=1", "-DMIG=0", f"-DDRIVER={driver}"]
    code = """problem = environment.gpu_problem()
print([problem and problem.seen, len(environment.cuda_devices())])
assert problem is None or problem.remedy"""
    assert with_libraries(flags, code, tmp_path, built=built) == [str(expected)]


def with_libraries(flags: list, code: str, tmp_path: Path, *, built: str | None = "13.0") -> list:
    """Lines printed by the code where these are the driver's libraries, and torch's CUDA `built`;
    the second GPU is visible."""
    libraries = {"libnvidia-ml.so.1": NVML, "libcuda.so.1": CUDA if None not in flags else ""}
    for library, text in libraries.items():
        source = tmp_path / "library.c"
        source.write_text(text)
        options = ["-shared", "-fPIC", *filter(None, flags), "-o", tmp_path / library]
        subprocess.run(["cc", *options, source], check=True)
    code = f"from slowthink import environment\nenvironment._torch_cuda = lambda: {built!r}\n{code}"
    environ = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "1"}
    child = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True
    )
    assert not child.returncode, child.stderr
    return child.stdout.splitlines()


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, "HVP"), ("1", "V"), ("2,0", "PH"), ("", ""), ("-1", ""), ("GPU-8932f937", "H"),
        ("1,-1,0", "V"), ("0,9,1", "H"), ("0, x", "H"),
    ],
)  # fmt: skip
def test_only_visible_gpus_count(monkeypatch, visible, expected) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    selected = environment.visible_devices((H100, V100, P40))
    assert "".join(gpu.name[0] for gpu in selected) == expected


def test_what_null_means_is_said_in_words() -> None:
    choices = {
        "train.micro_batch_size": Choice(None, "no NVIDIA GPU"),
        "train.max_steps": Choice(None, "all fit"),
        "engine.dtype": Choice("float32", "a CPU"),
    }
    assert Resolved(Recipe(name="t"), choices).text == (
        "train.micro_batch_size=the whole batch (no NVIDIA GPU); "
        "train.max_steps=all steps (all fit); engine.dtype=float32 (a CPU)"
    )
