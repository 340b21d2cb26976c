"""The tokenizer of a served model: a local one of its name, or else the server's own.

A recipe's `model` names the tokenizer (a folder, a hub id, `smollm2-135m`). Only its small files
are downloaded, never weights. If it is unavailable, `/tokenize` and `/detokenize` of vLLM, SGLang
and llama.cpp are used instead, and the server applies the chat template.
"""

from __future__ import annotations

import contextlib
import functools
import json
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from slowthink.data.rows import json_evidence
from slowthink.engines.models import EMBEDDED, eos_ids, fingerprint, from_folder, resolve_model
from slowthink.engines.server.bodies import UnusableBody, json_object, scrub
from slowthink.engines.server.replies import MAX_ID
from slowthink.errors import ConfigError, EngineError

_END_TOKENS = (
    "<|im_end|>", "<|eot_id|>", "<|end|>", "<|endoftext|>", "</s>", "<eos>", "<end_of_turn>",
)  # fmt: skip
"""Tokens that end a turn in common model families; servers do not report their model's."""
_TIMEOUT_SECONDS = 60.0
_MAX_BYTES = 64_000_000
"""Of a reply."""


def local_tokenizer(name: str, revision: str | None) -> tuple[Any, frozenset[int]] | None:
    """The tokenizer and all ids that end a turn: its own and, if there is one, the generation
    config's. None if the model is neither local nor on the hub."""
    try:
        from transformers import AutoTokenizer
    except ImportError:
        return None
    is_local = name == EMBEDDED or Path(name).exists()
    path = str(resolve_model(name)) if is_local else name
    try:
        tokenizer = from_folder(AutoTokenizer, path, revision=revision)
    except Exception:  # transformers and the hub client raise many kinds of errors
        return None
    configured = None
    with contextlib.suppress(ImportError, OSError, ValueError):
        from transformers import GenerationConfig

        configured = GenerationConfig.from_pretrained(path, revision=revision).eos_token_id
    return tokenizer, eos_ids(configured, tokenizer.eos_token_id)


def folder_fingerprint(name: str) -> str:
    """Fingerprint of a local folder's files; empty for any other name."""
    is_local = name == EMBEDDED or (Path(name) / "config.json").is_file()
    return fingerprint(resolve_model(name)) if is_local else ""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key to another server."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """None: the redirect is an error."""


class ServedTokenizer:
    """The server's tokenizer, with the methods of a transformers tokenizer that slowthink uses.

    Requests are short and blocking; they may come from several threads. Raises ConfigError if the
    server cannot tokenise.
    """

    chat_template = "the server's"

    def __init__(self, url: str, key: str | None, model: str) -> None:
        self.name_or_path = model
        self._root = url.rstrip("/").removesuffix("/v1")
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._key = key
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)
        self.encode = functools.lru_cache(maxsize=4096)(self._encode)
        self._decode_cached = functools.lru_cache(maxsize=4096)(self._decode)
        try:
            ids = [ids[0] for text in _END_TOKENS if len(ids := self._encode(text)) == 1]
        except (EngineError, KeyError, TypeError) as error:
            raise ConfigError(
                f"model `{model}`: no tokenizer of this name is local or on the hub, and the "
                f"server has no /tokenize ({type(error).__name__}); expected one, since budgets "
                "are counted in tokens. Set `model` to the model's folder or hub id, and "
                "engine.endpoints.model to the server's name of it. Tokenizers need: "
                "pip install 'slowthink[local]'."
            ) from None
        self.eos_ids = frozenset(ids)

    @property
    def eos_token_id(self) -> int | None:
        """The lowest id that ends a turn."""
        return min(self.eos_ids, default=None)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of these ids."""
        return self._decode_cached(tuple(ids))

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, str]],
        tokenize: bool,
        add_generation_prompt: bool,
        **variables: Any,
    ) -> str:
        """The messages as text in the server's chat template. Raises ConfigError if it has none."""
        body: dict[str, Any] = {"model": self.name_or_path, "messages": list(messages)}
        body["add_generation_prompt"] = add_generation_prompt
        if variables:
            body["chat_template_kwargs"] = variables
        try:
            try:
                reply = self._post("/apply-template", body)
            except EngineError:
                reply = self._post("/tokenize", body)
            return str(reply["prompt"]) if "prompt" in reply else self.decode(self._ids(reply))
        except EngineError as error:
            raise ConfigError(
                f"model `{self.name_or_path}`: the server has no chat template ({error}); "
                "expected one. Name a tokenizer that has one: --set model=FOLDER_OR_HUB_ID"
            ) from None

    def _encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        if not text:
            return []
        body: dict[str, Any] = {"model": self.name_or_path, "prompt": text, "content": text}
        body |= {"add_special_tokens": add_special_tokens, "add_special": False}
        reply = self._post("/tokenize", body | {"parse_special": True})
        return self._ids(reply)

    def _ids(self, reply: Mapping[str, Any]) -> list[int]:
        """The ids in a reply, each a number or an object with an `id`. Raises EngineError."""
        tokens = reply.get("tokens")
        items = tokens if isinstance(tokens, list) else [None]
        values = [item.get("id") if isinstance(item, dict) else item for item in items]
        ids = [value for value in values if type(value) is int and 0 <= value < MAX_ID]
        if len(ids) < len(values):
            raise EngineError(
                f"{self._root}/tokenize: {json_evidence(reply)}; expected `tokens`, a list of ids. "
                "Name a local tokenizer: --set model=FOLDER_OR_HUB_ID"
            )
        return ids

    def _decode(self, ids: tuple[int, ...]) -> str:
        if not ids:
            return ""
        reply = self._post("/detokenize", {"model": self.name_or_path, "tokens": list(ids)})
        return str(reply.get("prompt", reply.get("content", "")))

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(body).encode()
        request = urllib.request.Request(self._root + path, data, self._headers)
        try:
            with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
                data = response.read(_MAX_BYTES)
            reply = json_object(data, secret=self._key)
        except (OSError, ValueError, HTTPException, UnusableBody) as error:
            if isinstance(error, HTTPError):
                error.close()
            raise EngineError(
                f"{self._root}{path}: {scrub(str(error), self._key)[:200]}; expected the server's "
                "tokenizer there. Name a local tokenizer: --set model=FOLDER_OR_HUB_ID"
            ) from None
        return reply
