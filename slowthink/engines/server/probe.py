"""What a server supports, found by short requests at the start: nothing is taken on trust.

Servers with the same interface differ, and silently ignore settings they do not know. So each one
gets a few short greedy completions at the start, and a setting counts as supported only where its
effect shows:

    ServerFeatures(takes_ids=True, returns_ids=True, stops_at_ids=True, biases=True, …)    vLLM
    ServerFeatures(takes_ids=False, returns_ids=False, …)                          only text
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slowthink.engines.server.endpoints import Endpoint, EndpointPool, RequestRejected
from slowthink.engines.server.replies import ServerReply, prompt_ids_of, read_reply
from slowthink.errors import ConfigError, EngineError, did_you_mean

_TEXT = "1 2 3 4 5 6 7 8"
_LENGTH = 6
"""Tokens of a probe's completion."""
_NUM_LOGPROBS = 5
"""The most that OpenAI allows."""
_MAX_ADDED = 2
"""Prompt tokens added by the server that may be a start-of-text token; more are a template."""
OPTIONAL_SETTINGS: dict[str, Any] = {
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "seed": 0,
    "return_token_ids": True,
    "return_tokens_as_token_ids": True,
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
    "add_special_tokens": False,
}
"""Settings that not every server takes, with their neutral values. Sent in every request: a server
may have defaults of its own, such as the penalty in a model's generation_config.json."""
_GREEDY_TRUNCATIONS: dict[str, Any] = {"top_p": 1e-6, "top_k": 1, "min_p": 1.0}
"""Values that leave only the likeliest token at any temperature."""
_HIGH_TEMPERATURE = 2.0
_CONTEXT_NAMES = ("max_model_len", "context_length", "context_window", "n_ctx")
_VOLATILE = ("created", "permission", "owned_by")
_VERSION_PATHS = (
    ("/version", "vllm"),
    ("/props", "llama.cpp"),
    ("/get_server_info", "sglang"),
    ("/api/version", "ollama"),
)


@dataclass(frozen=True, kw_only=True)
class ServerFeatures:
    """What one server supports."""

    model: str
    """The server's name of the model."""
    version: str = ""
    facts: str = ""
    """The model's entry in `/models` as text, without values that change between calls."""
    max_context: int | None = None
    """Tokens; None: unknown."""
    takes_ids: bool = False
    """A prompt may be ids."""
    returns_ids: bool = False
    ids_need_logprobs: bool = False
    """Drawn ids are returned only with logprobs."""
    settings: frozenset[str] = frozenset()
    """Names of `OPTIONAL_SETTINGS` that it does not reject."""
    stops_at_ids: bool = False
    stops_at_texts: bool = False
    biases: bool = False
    """`logit_bias` excludes a token from the draw."""
    truncations: frozenset[str] = frozenset()
    """Which of top_p, top_k and min_p have an effect."""
    logprobs: int = 0
    """Number of logprobs per token; 0: none."""
    logprobs_of_ids: bool = False
    """It returns the logprobs of given ids (`logprob_token_ids`)."""


@dataclass(frozen=True)
class Prober:
    """Finds out what one server supports."""

    pool: EndpointPool
    endpoint: Endpoint
    tokenizer: Any

    async def find_model(self, name: str | None) -> ServerFeatures:
        """The model's name, version and context. Raises ConfigError where the server does not
        reply or does not serve the model."""
        try:
            models = await self.pool.request(self.endpoint, "/models")
        except EngineError as error:
            raise ConfigError(f"engine.endpoints: {error}") from None
        entries = [
            entry for entry in models.get("data") or [] if isinstance(entry, dict) and "id" in entry
        ]
        entry = _entry(self.endpoint.url, entries, name)
        version, properties = await self._version()
        facts = {key: value for key, value in entry.items() if key not in _VOLATILE}
        return ServerFeatures(
            model=str(entry["id"]),
            version=version,
            facts=repr(sorted(facts.items())),
            max_context=_context_length(entry, properties),
        )

    async def probe(self, features: ServerFeatures) -> ServerFeatures:
        """All other features. Raises ConfigError where no budget could be kept."""
        ids = list(self.tokenizer.encode(_TEXT, add_special_tokens=False))
        features = replace(features, settings=frozenset(OPTIONAL_SETTINGS))
        features, first = await self._first(features, ids)
        self._check_max_tokens(first)
        prompt: Any = ids if features.takes_ids else _TEXT
        reply = await self._complete(
            greedy_settings(features)
            | {"prompt": prompt, "max_tokens": 2, "logprobs": _NUM_LOGPROBS}
        )
        with_logprobs = reply if reply is not None and reply.logprobs else None
        features = replace(
            features,
            logprobs=_NUM_LOGPROBS if with_logprobs else 0,
            returns_ids=bool(first.ids or (with_logprobs and with_logprobs.ids)),
            ids_need_logprobs=not first.ids and bool(with_logprobs and with_logprobs.ids),
        )
        drawn = first.token_ids(self.tokenizer)
        return await self._probe_effects(features, prompt, drawn) if drawn else features

    async def is_slowthink_serve(self, model: str) -> bool:
        """Whether the server was started by `slowthink serve`: its processor rejects an unknown
        argument of ours, and any other server ignores it."""
        body = {"model": model, "prompt": "1", "max_tokens": 1}
        try:
            await self._post(body | {"vllm_xargs": {"slowthink_is_there": 1}})
        except RequestRejected as error:
            return "slowthink_is_there" in error.body
        return False

    async def _first(
        self, features: ServerFeatures, ids: list[int]
    ) -> tuple[ServerFeatures, ServerReply]:
        """Find the settings that are not rejected, and whether a prompt may be ids."""
        try:
            features, data = await self._without_rejected(features, ids)
            if _prompt_was(ids, data):
                return replace(features, takes_ids=True), read_reply(data)
        except RequestRejected:
            pass
        features, data = await self._without_rejected(features, _TEXT)
        reply = read_reply(data)
        if reply.num_prompt is not None and reply.num_prompt > len(ids) + _MAX_ADDED:
            raise ConfigError(
                f"{self.endpoint.url}: the server counts {reply.num_prompt} tokens for a prompt of "
                f"{len(ids)}: it adds a chat template of its own; expected the bare prompt. "
                "With Ollama, make a model whose Modelfile says: TEMPLATE {{ .Prompt }}"
            )
        return features, reply

    async def _without_rejected(
        self, features: ServerFeatures, prompt: Any
    ) -> tuple[ServerFeatures, dict[str, Any]]:
        while True:
            body = greedy_settings(features) | {"prompt": prompt, "max_tokens": _LENGTH}
            try:
                return features, await self._post(body)
            except RequestRejected as error:
                settings = features.settings
                if not settings or error.status not in (400, 422):
                    raise
                rejected = {name for name in settings if name in error.body}
                features = replace(features, settings=settings - (rejected or settings))

    def _check_max_tokens(self, first: ServerReply) -> None:
        count = len(first.ids) if first.ids is not None else first.num_completion
        if count is None:
            count = len(first.token_ids(self.tokenizer)) // 2
        if count > _LENGTH + 1:
            raise ConfigError(
                f"{self.endpoint.url}: {count} tokens returned for max_tokens {_LENGTH}: the "
                "server ignores max_tokens, so no budget could be kept; expected it to stop there. "
                "Use a server that does, or the transformers or vllm engine."
            )

    async def _probe_effects(
        self, features: ServerFeatures, prompt: Any, drawn: list[int]
    ) -> ServerFeatures:
        """Try each setting where its effect would show, given the ids that are drawn without it."""
        base = greedy_settings(features) | {"prompt": prompt, "max_tokens": _LENGTH}
        if features.ids_need_logprobs:
            base["logprobs"] = 1
        at = next((i for i in range(1, len(drawn)) if drawn[i] not in drawn[:i]), 0)
        target = drawn[at]
        text = self.tokenizer.decode([target])
        by_id = await self._stops_at(base | {"stop_token_ids": [target]}, at)
        by_text = bool(text.strip()) and await self._stops_at(base | {"stop": [text]}, at)
        return replace(
            features,
            stops_at_ids=by_id,
            stops_at_texts=by_text,
            biases=await self._biases(base, drawn[0]),
            truncations=await self._truncations(base, drawn),
            logprobs_of_ids=bool(features.logprobs) and await self._lists_id(base, target),
        )

    async def _stops_at(self, body: dict[str, Any], at: int) -> bool:
        reply = await self._complete(body)
        if reply is None or not reply.stopped:
            return False
        count = len(reply.ids) if reply.ids is not None else reply.num_completion
        return count is None or count <= at + 1

    async def _biases(self, base: dict[str, Any], first: int) -> bool:
        reply = await self._complete(base | {"logit_bias": {str(first): -100}, "max_tokens": 1})
        if reply is None:
            return False
        if reply.ids is not None:
            return first not in reply.ids
        return bool(reply.text) and reply.text != self.tokenizer.decode([first])

    async def _truncations(self, base: dict[str, Any], drawn: list[int]) -> frozenset[str]:
        effective = set()
        for name, value in _GREEDY_TRUNCATIONS.items():
            if name in base:
                body = base | {"temperature": _HIGH_TEMPERATURE, name: value}
                reply = await self._complete(body)
                if reply is not None and reply.token_ids(self.tokenizer) == drawn:
                    effective.add(name)
        return frozenset(effective)

    async def _lists_id(self, base: dict[str, Any], target: int) -> bool:
        body = base | {"logprobs": 1, "logprob_token_ids": [target], "max_tokens": 1}
        reply = await self._complete(body)
        return reply is not None and any(target in logprobs for logprobs in reply.logprobs)

    async def _complete(self, body: dict[str, Any]) -> ServerReply | None:
        """None if the request is rejected."""
        try:
            return read_reply(await self._post(body))
        except RequestRejected:
            return None

    async def _post(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self.pool.request(self.endpoint, "/completions", body)

    async def _version(self) -> tuple[str, dict[str, Any]]:
        """The server's kind and version, and the JSON that contains it; empty if unknown."""
        root = self.endpoint.url.removesuffix("/v1")
        for path, kind in _VERSION_PATHS:
            try:
                properties = await self.pool.request(self.endpoint, root + path, attempts=1)
            except EngineError:
                continue
            version = properties.get("version") or properties.get("build_info")
            if version:
                return f"{kind}-{version}", properties
        return "", {}


def greedy_settings(features: ServerFeatures) -> dict[str, Any]:
    """The settings of every request, at their neutral values, under greedy decoding."""
    optional = {
        name: value for name, value in OPTIONAL_SETTINGS.items() if name in features.settings
    }
    return {"model": features.model, "temperature": 0.0, "top_p": 1.0, **optional}


def common_features(urls: Sequence[str], features: Sequence[ServerFeatures]) -> ServerFeatures:
    """The features that all servers have. Raises ConfigError where they differ: results would
    depend on which server was free."""
    first = features[0]
    for url, other in zip(urls[1:], features[1:], strict=True):
        names = [
            name
            for name in ServerFeatures.__dataclass_fields__
            if getattr(other, name) != getattr(first, name)
        ]
        if names:
            raise ConfigError(
                f"engine.endpoints.urls: {url} and {urls[0]} differ in {', '.join(names)}; "
                "expected servers of one kind, version and model. Start them alike, or list only "
                "those that are."
            )
    return first


def _entry(url: str, entries: Sequence[dict[str, Any]], name: str | None) -> dict[str, Any]:
    """The model's entry in `/models`."""
    names = [str(entry["id"]) for entry in entries]
    if name is None and len(entries) == 1:
        return entries[0]
    if name in names:
        return entries[names.index(name)]
    listed = ", ".join(names[:10]) or "none"
    if name is None:
        raise ConfigError(
            f"{url}/models: it lists {len(names)} models ({listed}); expected one, or its name in "
            "the settings. Give its name: --set engine.endpoints.model=NAME"
        )
    raise ConfigError(
        f"engine.endpoints.model: {url} does not have `{name}`{did_you_mean(name, names)}; "
        f"expected one that it lists: {listed}."
    )


def _context_length(entry: Mapping[str, Any], properties: Mapping[str, Any]) -> int | None:
    """As reported by the server: the running context before the model's own."""
    running = properties.get("default_generation_settings") or {}
    for source in (running, entry, entry.get("meta") or {}):
        for name in _CONTEXT_NAMES:
            if source.get(name):
                return int(source[name])
    return None


def _prompt_was(ids: list[int], data: Mapping[str, Any]) -> bool:
    echoed = prompt_ids_of(data)
    if echoed is not None:
        return echoed == ids
    return read_reply(data).num_prompt == len(ids)
