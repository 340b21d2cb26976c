"""Starting vLLM in this process: defaults that fit the memory, and errors that name the settings."""

from __future__ import annotations

import importlib.util

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

torch = pytest.importorskip("torch")
if importlib.util.find_spec("vllm") is None:
    pytest.skip("vllm is not installed", allow_module_level=True)

from slowthink.engines import open_session
from slowthink.engines.session import Job, Point, generate
from slowthink.engines.vllm import client
from slowthink.errors import ConfigError, EngineError
from slowthink.recipe import EngineConfig, VllmConfig
from slowthink.records import Budget, Request, Sampling, ThinkingFormat

FORMAT = ThinkingFormat(name="lines", start="", end="\n")
CACHE_BYTES = 40 << 20
"""Holds about 800 tokens of the model, whose own context is 8,192."""


@pytest.fixture
def settings(monkeypatch) -> dict:
    monkeypatch.setattr(client, "_CPU_CACHE_BYTES", CACHE_BYTES)
    vllm = VllmConfig(enforce_eager=True, max_num_seqs=4, max_num_batched_tokens=64)
    return {"kind": "vllm", "dtype": "float32", "vllm": vllm}


def test_the_default_context_is_what_the_cache_holds(smollm, settings, monkeypatch) -> None:
    from vllm.usage import usage_lib

    monkeypatch.delenv("VLLM_NO_USAGE_STATS", raising=False)
    monkeypatch.setattr(usage_lib, "_USAGE_STATS_ENABLED", None)
    with open_session(smollm, EngineConfig(**settings)) as session:
        assert 500 < session.capabilities.max_context < 1000
        request = Request(
            model="m", numerics="n", prompt_ids=(1, 2), sampling=Sampling(), budget=Budget(),
            format=ThinkingFormat(name="s1", start="", end=""), seed=0,
        )  # fmt: skip
        with pytest.raises(
            ConfigError, match=r"has room for \(engine.vllm.tensor_parallel_size: 1"
        ):
            session.submit(Job(request=request, points=(Point(2000),)))
    assert not usage_lib.is_usage_stats_enabled()  # nothing is uploaded: README.md


def test_a_worker_in_another_process_is_read_by_calls(smollm, settings, monkeypatch) -> None:
    """On a CPU vLLM moves its only worker there if the variable says so."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    with open_session(smollm, EngineConfig(**settings)) as session:
        budget = Budget(max_thinking_tokens=3, answer_tokens=2)
        request = Request(
            model="smollm", numerics="", prompt_ids=(1, 2, 3), format=FORMAT, sampling=Sampling(),
            budget=budget, seed=0,
        )  # fmt: skip
        (result,) = generate(session, [Job(request=request, points=(Point(3),))])
    assert len(result.chain.ids) == 3


def test_a_context_that_does_not_fit_names_the_settings(smollm, settings) -> None:
    with pytest.raises(EngineError, match="KV cache is needed") as caught:
        open_session(smollm, EngineConfig(**settings, max_context=8192))
    for name in ("engine.max_context", "engine.vllm.gpu_memory_utilization", "engine.dtype"):
        assert name in str(caught.value)


@pytest.mark.parametrize("num_copies", [1, 2])
def test_a_large_gpu_runs_as_many_requests_as_vllm_does_offline(
    monkeypatch, smollm, num_copies
) -> None:
    """Unless it is told what it is used for, vLLM runs 128 requests and 2,048 tokens at a time."""
    from vllm import EngineArgs
    from vllm.platforms import current_platform

    gpu = {"is_cpu": False, "get_device_total_memory": 80 << 30, "get_device_name": "H100"}
    for name, value in gpu.items():
        monkeypatch.setattr(type(current_platform), name, lambda *_, value=value: value)
    limits = []

    def stop(self, usage_context=None, **_) -> None:
        tokens, requests = EngineArgs.get_batch_defaults(1)
        limits.append((requests.get(usage_context, 128), tokens.get(usage_context, 2048)))
        raise ValueError("stop")

    monkeypatch.setattr(EngineArgs, "create_engine_config", stop)
    vllm = VllmConfig(data_parallel_size=num_copies)
    with pytest.raises(EngineError, match="stop"):
        open_session(smollm, EngineConfig(kind="vllm", dtype="bfloat16", vllm=vllm))
    assert limits == [(1024, 16384)]


@pytest.mark.parametrize(
    ("free", "total", "options", "expected"),
    [
        (79, 80, {}, {}),
        (40, 80, {}, {"gpu_memory_utilization": 0.48}),
        (12, 24, {}, {"gpu_memory_utilization": 0.44}),
        (0, 80, {}, {}),
        (40, 80, {"tensor_parallel_size": 2}, {}),
    ],
    ids=["a free GPU", "half in use", "of a small one", "full: vLLM says so", "several workers"],
)
def test_the_default_share_of_a_gpu_is_what_is_free(
    monkeypatch, free, total, options, expected
) -> None:
    pytest.importorskip("vllm.engine.arg_utils")  # imported without a GPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free << 30, total << 30))
    assert client._gpu_memory(VllmConfig(**options)) == expected
