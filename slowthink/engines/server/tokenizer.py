"""The tokenizer of a served model: the local one of that name, else the server's own.

A recipe's `model` names the tokenizer (a folder, a hub id, `smollm2-135m`); only its small files
are fetched, never weights. Where nothing of that name is to be had, `/tokenize` and `/detokenize`
of vLLM, SGLang and llama.cpp stand in, and the server puts the chat template on.
"""

from __future__ import annotations

import functools
import json
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slowthink.engines.models import EMBEDDED, eos_ids, fingerprint, resolve_model
from slowthink.errors import ConfigError, EngineError

Ask = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Path below the server's root, and body → reply. Raises EngineError."""
_ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<|endoftext|>", "</s>", "<eos>", "<end_of_turn>")
"""Texts that end a turn in the model families in use: a server does not tell which is its own."""


def local_tokenizer(name: str, revision: str | None) -> Any | None:
    """The tokenizer of that name; None where there is none here, nor on the hub."""
    try:
        from transformers import AutoTokenizer
    except ImportError:
        return None
    place = _place(name)
    try:
        return AutoTokenizer.from_pretrained(place, revision=revision)
    except Exception:  # transformers and the hub client raise a dozen kinds
        return None


def local_eos_ids(name: str, revision: str | None, tokenizer: Any) -> frozenset[int]:
    """All ids that end a turn: the generation config's, where there is one, and the tokenizer's."""
    configured = None
    try:
        from transformers import GenerationConfig

        configured = GenerationConfig.from_pretrained(_place(name), revision=revision).eos_token_id
    except (ImportError, OSError, ValueError):
        pass
    return eos_ids(configured, tokenizer.eos_token_id)


def local_fingerprint(name: str) -> str:
    """Of the model's files where the name is of a folder here; empty elsewhere."""
    local = name == EMBEDDED or (Path(name) / "config.json").is_file()
    return fingerprint(resolve_model(name)) if local else ""


def _place(name: str) -> str:
    local = name == EMBEDDED or Path(name).exists()
    return str(resolve_model(name)) if local else name


class ServedTokenizer:
    """The server's tokenizer, with the methods of transformers' that slowthink uses."""

    chat_template = "the server's"

    def __init__(self, ask: Ask, model: str) -> None:
        self.name_or_path = model
        self._ask = ask
        self._model = model
        self.encode = functools.lru_cache(maxsize=4096)(self._encode)
        self._decode = functools.lru_cache(maxsize=4096)(self._decoded)
        ids = [ids[0] for text in _ENDS if len(ids := self._encode(text)) == 1]
        self.eos_ids = frozenset(ids)

    @property
    def eos_token_id(self) -> int | None:
        """The least id that ends a turn."""
        return min(self.eos_ids, default=None)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Text of ids."""
        return self._decode(tuple(ids))

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, str]],
        tokenize: bool,
        add_generation_prompt: bool,
        **variables: Any,
    ) -> str:
        """The messages as the server's template has them. Raises ConfigError where it has none."""
        body: dict[str, Any] = {"model": self._model, "messages": list(messages)}
        body["add_generation_prompt"] = add_generation_prompt
        if variables:
            body["chat_template_kwargs"] = variables
        try:
            if "prompt" in (found := self._ask_first(("/apply-template", "/tokenize"), body)):
                return str(found["prompt"])
            return self.decode(found["tokens"])
        except EngineError as error:
            raise ConfigError(
                f"model `{self._model}`: the server has no chat template to put on ({error}); "
                "expected one. Name a tokenizer that has: --set model=FOLDER_OR_HUB_ID"
            ) from None

    def _encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        if not text:
            return []
        body: dict[str, Any] = {"model": self._model, "prompt": text, "content": text}
        body |= {"add_special_tokens": add_special_tokens, "add_special": False}
        found = self._ask("/tokenize", body | {"parse_special": True})
        return [int(one) for one in found["tokens"]]

    def _decoded(self, ids: tuple[int, ...]) -> str:
        if not ids:
            return ""
        found = self._ask("/detokenize", {"model": self._model, "tokens": list(ids)})
        return str(found.get("prompt", found.get("content", "")))

    def _ask_first(self, paths: Sequence[str], body: dict[str, Any]) -> dict[str, Any]:
        """The first of these paths that is there; the last one's error if none is."""
        for path in paths[:-1]:
            try:
                return self._ask(path, body)
            except EngineError:
                continue
        return self._ask(paths[-1], body)


def asks(url: str, key: str | None, *, timeout_seconds: float = 60.0) -> Ask:
    """Questions to the server whose address (ending in /v1) this is, one at a time: they are short,
    and are asked from more than one thread."""
    root = url.rstrip("/").removesuffix("/v1")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"

    def ask(path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(root + path, json.dumps(body).encode(), headers)
        try:
            with opener.open(request, timeout=timeout_seconds) as reply:
                found = json.load(reply)
        except (OSError, ValueError) as error:
            raise EngineError(
                f"{root}{path}: {error}; expected the server's tokenizer there. Name a tokenizer "
                "of your own: --set model=FOLDER_OR_HUB_ID"
            ) from None
        if not isinstance(found, dict):
            raise EngineError(
                f"{root}{path}: {str(found)[:80]!r}; expected an object. See its log."
            )
        return found

    return ask


def served_tokenizer(ask: Ask, model: str) -> ServedTokenizer:
    """Raises ConfigError where the server does not tokenise."""
    try:
        return ServedTokenizer(ask, model)
    except (EngineError, KeyError, TypeError) as error:
        raise ConfigError(
            f"model `{model}`: there is no tokenizer of that name here or on the hub, and the "
            f"server has no /tokenize ({type(error).__name__}); expected one, since budgets are "
            "counted in tokens. Name the model's folder or hub id as `model`, and the server's "
            "name of it as engine.endpoints.model. Tokenizers need: pip install 'slowthink[local]'."
        ) from None
