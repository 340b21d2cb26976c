"""Finds out by short requests what a server supports.

Servers with the same interface differ, and silently ignore settings they do not know. So each one
is sent a few short greedy completions, and a setting counts as supported only if it has its effect:

    ServerFeatures(takes_ids=True, returns_ids=True, stops_at_ids=True, logit_bias=True, …)  vLLM
    ServerFeatures(takes_ids=False, returns_ids=False, …)                          only text
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slowthink.data.rows import parse_number
from slowthink.engines.server.endpoints import Endpoint, EndpointPool
from slowthink.engines.server.replies import ServerReply, read_reply
from slowthink.engines.server.statuses import RequestRejected
from slowthink.errors import ConfigError, EngineError, did_you_mean

_PROMPT = "1 2 3 4 5 6 7 8"
_MAX_TOKENS = 6
"""`max_tokens` of a probe."""
_NUM_LOGPROBS = 5
"""Maximum that OpenAI allows."""
_MAX_ADDED_TOKENS = 2
"""A server may add a start-of-text token to a prompt; if it adds more, it applies a template."""
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
"""Settings that not every server accepts, with their neutral values. Sent in every request, since a
server may have other defaults, such as the penalty in a model's generation_config.json."""
_GREEDY_TRUNCATIONS: dict[str, Any] = {"top_p": 1e-6, "top_k": 1, "min_p": 1.0}
"""Values that leave only the likeliest token at any temperature."""
_HIGH_TEMPERATURE = 2.0
_CONTEXT_FIELDS = (
    "max_model_len", "context_length", "context_window", "max_context_length", "n_ctx",
)  # fmt: skip
_MAX_CONTEXT = 2**31
_MAX_VERSION_CHARS = 60
_VOLATILE_FIELDS = frozenset({
    "created", "permission", "owned_by",
    # of hosted APIs (OpenRouter, Mistral): prices and texts change, and the model stays
    "pricing", "top_provider", "per_request_limits", "description", "supported_parameters",
    "default_parameters", "supported_voices", "expiration_date", "links", "benchmarks",
    "aliases", "deprecation", "deprecation_replacement_model", "capabilities",
})  # fmt: skip
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
    """A prompt may be token ids."""
    returns_ids: bool = False
    ids_need_logprobs: bool = False
    """Sampled ids are returned only with logprobs."""
    settings: frozenset[str] = frozenset()
    """Names of `OPTIONAL_SETTINGS` that it does not reject."""
    stops_at_ids: bool = False
    stops_at_texts: bool = False
    logit_bias: bool = False
    """`logit_bias` excludes a token from sampling."""
    truncations: frozenset[str] = frozenset()
    """Which of top_p, top_k and min_p have an effect."""
    logprobs: int = 0
    """Number of logprobs per token; 0: none."""
    logprobs_of_ids: bool = False
    """It returns the logprobs of given ids (`logprob_token_ids`)."""
    reply_model: str | None = None
    """The model that its replies name."""
    names_limit: bool = True
    """Its replies give a reason for their end at `max_tokens`."""


@dataclass(frozen=True)
class Prober:
    """Finds out what one server supports, by requests to it."""

    pool: EndpointPool
    endpoint: Endpoint
    tokenizer: Any

    async def find_model(self, name: str | None, *, needs_list: bool = True) -> ServerFeatures:
        """The model's name, version and context. Raises ConfigError if the server does not
        reply or does not serve the model. `needs_list`: also if it lists no models,
        at all or to this key."""
        try:
            models = await self.pool.request(self.endpoint, "/models")
        except EngineError as error:
            has_none = isinstance(error, RequestRejected) and error.status in (403, 404, 405)
            if has_none and name is not None and not needs_list:
                return ServerFeatures(model=name)
            raise ConfigError(f"engine.endpoints: {error}") from None
        listed = models.get("data")
        entries = [
            entry
            for entry in (listed if isinstance(listed, list) else [])
            if isinstance(entry, dict) and isinstance(entry.get("id"), str)
        ]
        entry = _model_entry(self.endpoint.url, entries, name)
        version, properties = await self._server_version()
        facts = {key: value for key, value in entry.items() if key not in _VOLATILE_FIELDS}
        return ServerFeatures(
            model=str(entry["id"]),
            version=version,
            facts=repr(sorted(facts.items())),
            max_context=_context_length(entry, properties),
        )

    async def probe(self, features: ServerFeatures) -> ServerFeatures:
        """All other features. Raises ConfigError if no budget could be kept."""
        ids = list(self.tokenizer.encode(_PROMPT, add_special_tokens=False))
        features = replace(features, settings=frozenset(OPTIONAL_SETTINGS))
        features, reply = await self._probe_prompt(features, ids)
        self._check_max_tokens(reply)
        self._check_end(reply)
        prompt: Any = ids if features.takes_ids else _PROMPT
        with_logprobs = await self._complete(
            greedy_settings(features)
            | {"prompt": prompt, "max_tokens": 2, "logprobs": _NUM_LOGPROBS}
        )
        logprobs = with_logprobs.logprobs if with_logprobs is not None else ()
        ids_with_logprobs = with_logprobs.ids if with_logprobs is not None and logprobs else None
        features = replace(
            features,
            logprobs=_NUM_LOGPROBS if logprobs else 0,
            returns_ids=bool(reply.ids or ids_with_logprobs),
            ids_need_logprobs=bool(ids_with_logprobs) and not reply.ids,
            reply_model=reply.model,
            names_limit=reply.finish is not None,
        )
        greedy_ids = reply.token_ids(self.tokenizer)
        return await self._probe_effects(features, prompt, greedy_ids) if greedy_ids else features

    async def is_slowthink_serve(self, model: str) -> bool:
        """Whether the server was started by `slowthink serve`: its processor rejects an unknown
        slowthink argument, and any other server ignores it."""
        body = {"model": model, "prompt": "1", "max_tokens": 1}
        try:
            await self._post(body | {"vllm_xargs": {"slowthink_is_there": 1}})
        except RequestRejected as error:
            return "slowthink_is_there" in error.body
        return False

    async def _probe_prompt(
        self, features: ServerFeatures, ids: list[int]
    ) -> tuple[ServerFeatures, ServerReply]:
        """Find the settings that are not rejected, and whether a prompt may be ids."""
        try:
            features, reply = await self._complete_without_rejected(features, ids)
            if _received_prompt(reply, ids):
                return replace(features, takes_ids=True), reply
        except RequestRejected:
            pass
        features, reply = await self._complete_without_rejected(features, _PROMPT)
        if (reply.num_prompt_tokens or 0) > len(ids) + _MAX_ADDED_TOKENS:
            raise ConfigError(
                f"{self.endpoint.url}: the server counts {reply.num_prompt_tokens} tokens for a "
                f"prompt of {len(ids)}: it adds a chat template of its own; expected the bare "
                "prompt. With Ollama, create a model whose Modelfile has: TEMPLATE {{ .Prompt }}"
            )
        return features, reply

    async def _complete_without_rejected(
        self, features: ServerFeatures, prompt: Any
    ) -> tuple[ServerFeatures, ServerReply]:
        """Leave out rejected settings until none is; return the others and the completion."""
        while True:
            body = greedy_settings(features) | {"prompt": prompt, "max_tokens": _MAX_TOKENS}
            try:
                return features, read_reply(await self._post(body))
            except RequestRejected as error:
                settings = features.settings
                if not settings or error.status not in (400, 422):
                    raise
                rejected = {name for name in settings if name in error.body}
                features = replace(features, settings=settings - (rejected or settings))

    def _check_max_tokens(self, reply: ServerReply) -> None:
        count = reply.num_sampled
        if count is None:  # the text may be encoded into more tokens than were sampled
            count = len(reply.token_ids(self.tokenizer)) // 2
        if count > _MAX_TOKENS + 1:
            raise ConfigError(
                f"{self.endpoint.url}: {count} tokens returned for max_tokens {_MAX_TOKENS}: the "
                "server ignores max_tokens, so no budget could be kept; expected it to stop there. "
                "Use a server that does, or the transformers or vllm engine."
            )

    def _check_end(self, reply: ServerReply) -> None:
        if reply.finish is None and reply.num_sampled is None:
            raise ConfigError(
                f"{self.endpoint.url}: replies have neither a known `finish_reason` nor a number "
                "of tokens (`usage`), so the end of an answer could not be told from a limit; "
                "expected either. Use another server, or the transformers or vllm engine."
            )

    async def _probe_effects(
        self, features: ServerFeatures, prompt: Any, greedy_ids: list[int]
    ) -> ServerFeatures:
        """Find the settings that have an effect. `greedy_ids`: the completion without them."""
        base = greedy_settings(features) | {"prompt": prompt, "max_tokens": _MAX_TOKENS}
        if features.ids_need_logprobs:
            base["logprobs"] = 1
        first_uses = (i for i in range(1, len(greedy_ids)) if greedy_ids[i] not in greedy_ids[:i])
        position = next(first_uses, 0)
        stop_id = greedy_ids[position]
        text = self.tokenizer.decode([stop_id])
        by_id = await self._stops_at(position, base | {"stop_token_ids": [stop_id]})
        by_text = bool(text.strip()) and await self._stops_at(position, base | {"stop": [text]})
        return replace(
            features,
            stops_at_ids=by_id,
            stops_at_texts=by_text,
            logit_bias=await self._excludes(greedy_ids[0], base),
            truncations=await self._truncations(base, greedy_ids),
            logprobs_of_ids=bool(features.logprobs) and await self._has_logprob(stop_id, base),
        )

    async def _stops_at(self, position: int, body: dict[str, Any]) -> bool:
        reply = await self._complete(body)
        if reply is None or not (reply.stopped or reply.finish is None):
            return False
        if reply.num_sampled is None:
            return reply.stopped
        return reply.num_sampled <= position + 1

    async def _excludes(self, token: int, base: dict[str, Any]) -> bool:
        reply = await self._complete(base | {"logit_bias": {str(token): -100}, "max_tokens": 1})
        if reply is None:
            return False
        if reply.ids is not None:
            return token not in reply.ids
        return bool(reply.text) and reply.text != self.tokenizer.decode([token])

    async def _truncations(self, base: dict[str, Any], greedy_ids: list[int]) -> frozenset[str]:
        effective = set()
        for name, value in _GREEDY_TRUNCATIONS.items():
            if name in base:
                body = base | {"temperature": _HIGH_TEMPERATURE, name: value}
                reply = await self._complete(body)
                if reply is not None and reply.token_ids(self.tokenizer) == greedy_ids:
                    effective.add(name)
        return frozenset(effective)

    async def _has_logprob(self, token: int, base: dict[str, Any]) -> bool:
        body = base | {"logprobs": 1, "logprob_token_ids": [token], "max_tokens": 1}
        reply = await self._complete(body)
        return reply is not None and any(token in logprobs for logprobs in reply.logprobs)

    async def _complete(self, body: dict[str, Any]) -> ServerReply | None:
        """The reply; None if the request is rejected."""
        try:
            return read_reply(await self._post(body))
        except RequestRejected:
            return None

    async def _post(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self.pool.request(self.endpoint, "/completions", body)

    async def _server_version(self) -> tuple[str, dict[str, Any]]:
        """The server's name and version, and the JSON that contains it; empty if unknown."""
        root = self.endpoint.url.removesuffix("/v1")
        for path, server in _VERSION_PATHS:
            try:
                properties = await self.pool.request(self.endpoint, root + path, attempts=1)
            except EngineError:
                continue
            version = properties.get("version") or properties.get("build_info")
            if version:
                text = "".join(filter(str.isprintable, str(version)[:_MAX_VERSION_CHARS]))
                return f"{server}-{text}", properties
        return "", {}


def greedy_settings(features: ServerFeatures) -> dict[str, Any]:
    """The settings of every request, at their neutral values, under greedy decoding."""
    optional = {
        name: value for name, value in OPTIONAL_SETTINGS.items() if name in features.settings
    }
    return {"model": features.model, "temperature": 0.0, "top_p": 1.0, **optional}


def common_features(urls: Sequence[str], features: Sequence[ServerFeatures]) -> ServerFeatures:
    """The features of all servers. Raises ConfigError if they differ: results would depend on which
    server was free."""
    expected = features[0]
    for url, server_features in zip(urls[1:], features[1:], strict=True):
        differing = [
            name
            for name in ServerFeatures.__dataclass_fields__
            if getattr(server_features, name) != getattr(expected, name)
        ]
        if differing:
            raise ConfigError(
                f"engine.endpoints.urls: {url} and {urls[0]} differ in {', '.join(differing)}; "
                "expected servers of one kind, version and model. Start them with the same "
                "options, or list only those that are the same."
            )
    return expected


def _model_entry(url: str, entries: Sequence[dict[str, Any]], name: str | None) -> dict[str, Any]:
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
    """The context the server runs with or, if not reported, the model's; None if neither is, or the
    number cannot be one."""
    sources = (properties.get("default_generation_settings"), entry, entry.get("meta"))
    for source in sources:
        values = source if isinstance(source, Mapping) else {}
        for name in _CONTEXT_FIELDS:
            length = parse_number(values.get(name))
            if length is not None and 1 <= length <= _MAX_CONTEXT:
                return int(length)
    return None


def _received_prompt(reply: ServerReply, ids: list[int]) -> bool:
    """Whether the reply shows that the server received a prompt of these ids."""
    if reply.prompt_ids is not None:
        return list(reply.prompt_ids) == ids
    return reply.num_prompt_tokens == len(ids)
