"""`slowthink serve`: the command of the server, and the example request."""

from __future__ import annotations

import importlib.util
import json
import shlex

import pytest

from slowthink.cli.serve import server_command
from slowthink.engines.vllm.request_args import read_args
from slowthink.errors import ConfigError

with_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vllm is not installed"
)


@with_vllm
@pytest.mark.slow
def test_the_command_names_the_processor_and_the_settings(smollm, monkeypatch) -> None:
    # A session that another test opened in this process may have set them.
    for variable in ("TRITON_F32_DEFAULT", "VLLM_NO_USAGE_STATS"):
        monkeypatch.delenv(variable, raising=False)
    server = server_command(
        smollm,
        port=8123,
        overrides=("engine.vllm.tensor_parallel_size=2", "engine.vllm.enforce_eager=true"),
        vllm_options=("--max-num-seqs", "64"),
    )
    command = list(server.command)
    assert command[command.index("--logits-processors") + 1] == "slowthink.engines.vllm:Forcing"
    assert command[command.index("--tensor-parallel-size") + 1] == "2"
    assert "--enforce-eager" in command
    assert command[-2:] == ["--max-num-seqs", "64"]
    assert command[command.index("--max-model-len") + 1] == "auto"
    assert not {"VLLM_USE_V2_MODEL_RUNNER", "TRITON_F32_DEFAULT"} & set(server.environment)
    assert server.environment["VLLM_NO_USAGE_STATS"] == "1"
    exact = server_command(smollm, dtype="float32")
    assert exact.environment["TRITON_F32_DEFAULT"] == "ieee"


@with_vllm
@pytest.mark.slow
@pytest.mark.parametrize(("value", "option"), [("true", "--async-"), ("false", "--no-async-")])
def test_scheduling_is_vllms_default_unless_set(smollm, value, option) -> None:
    assert not any("async" in word for word in server_command(smollm).command)
    server = server_command(smollm, overrides=(f"engine.vllm.async_scheduling={value}",))
    assert f"{option}scheduling" in server.command


@with_vllm
@pytest.mark.slow
def test_the_example_request_can_be_read(smollm) -> None:
    words = shlex.split(server_command(smollm, host="0.0.0.0").curl)
    assert words[:2] == ["curl", "http://127.0.0.1:8000/v1/completions"]
    body = json.loads(words[-1])
    args = read_args(body["vllm_xargs"])
    assert args.budget.max_thinking_tokens + args.budget.answer_tokens < body["max_tokens"]
    assert body["prompt"].endswith(args.format.start)


@with_vllm
def test_a_second_processor_is_refused() -> None:
    with pytest.raises(ConfigError, match="undo each other's work"):
        server_command("m", vllm_options=("--logits-processors", "my:Own"))


@with_vllm
def test_a_setting_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean `enforce_eager`"):
        server_command("m", overrides=("engine.vllm.enforce_eagr=true",))


def test_without_vllm_the_pip_line_is_printed(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="slowthink\\[vllm\\]"):
        server_command("m")
