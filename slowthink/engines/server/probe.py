"""What a server does with what it is sent, found out by asking it: nothing is taken on trust.

Servers of one interface differ, and ignore silently what they do not know. So each address is
asked a few short greedy completions at the start, and a setting counts as had only where its effect
shows:

    Dialect(takes_ids=True, returns_ids=True, stops_at_ids=True, biases=True, …)     vLLM
    Dialect(takes_ids=False, returns_ids=False, …)                                    text only
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slowthink.engines.server.pool import Endpoint, EndpointPool, Refused
from slowthink.engines.server.replies import ServerReply, prompt_ids_of, read_reply
from slowthink.errors import ConfigError, EngineError, did_you_mean

_TEXT = "1 2 3 4 5 6 7 8"
_LENGTH = 6
"""Tokens asked for by a probe."""
_WRAPPED_BY = 2
"""Prompt tokens more than sent that may be a start-of-text token; more is a template."""
OPTIONAL: dict[str, Any] = {
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
"""Settings that not every server takes, with their neutral values. Sent each time: a server may
have defaults of its own, such as the penalty in a model's generation_config.json."""
_TIGHT: dict[str, Any] = {"top_p": 1e-6, "top_k": 1, "min_p": 1.0}
_HOT = 2.0
_CONTEXT_NAMES = ("max_model_len", "context_length", "context_window", "n_ctx")
_CHANGING = ("created", "permission", "owned_by")
_VERSIONS = (
    ("/version", "vllm"),
    ("/props", "llama.cpp"),
    ("/get_server_info", "sglang"),
    ("/api/version", "ollama"),
)


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What one server does."""

    model: str
    """Its name of the model."""
    version: str = ""
    facts: str = ""
    """What it says of the model, as one text, less what changes from call to call."""
    max_context: int | None = None
    """Tokens; None: it does not say."""
    takes_ids: bool = False
    """A prompt may be ids."""
    returns_ids: bool = False
    ids_need_logprobs: bool = False
    """It tells the drawn ids only beside logprobs."""
    settings: frozenset[str] = frozenset()
    """Names of `OPTIONAL` that it does not refuse."""
    stops_at_ids: bool = False
    stops_at_texts: bool = False
    biases: bool = False
    """`logit_bias` keeps a token from being drawn."""
    truncations: frozenset[str] = frozenset()
    """Which of top_p, top_k and min_p have an effect."""
    logprobs: int = 0
    """How many logprobs it gives for each token; 0: none."""
    logprobs_of_ids: bool = False
    """It gives those of named ids (`logprob_token_ids`)."""


@dataclass(frozen=True)
class Prober:
    """Asks one address."""

    pool: EndpointPool
    endpoint: Endpoint
    tokenizer: Any

    async def find_model(self, wanted: str | None) -> Dialect:
        """The model's name, version and context. Raises ConfigError where nothing answers, or the
        model is not there."""
        try:
            listed = await self.pool.ask(self.endpoint, "/models")
        except EngineError as error:
            raise ConfigError(f"engine.endpoints: {error}") from None
        entries = [one for one in listed.get("data") or [] if isinstance(one, dict) and "id" in one]
        entry = _entry(self.endpoint.url, entries, wanted)
        version, props = await self._version()
        facts = {name: value for name, value in entry.items() if name not in _CHANGING}
        return Dialect(
            model=str(entry["id"]),
            version=version,
            facts=repr(sorted(facts.items())),
            max_context=_context(entry, props),
        )

    async def probe(self, dialect: Dialect) -> Dialect:
        """What the server does with a completion. Raises ConfigError where budgets cannot hold."""
        ids = list(self.tokenizer.encode(_TEXT, add_special_tokens=False))
        dialect = replace(dialect, settings=frozenset(OPTIONAL))
        dialect, first = await self._first(dialect, ids)
        self._refuse_endless(dialect, first)
        prompt: Any = ids if dialect.takes_ids else _TEXT
        logprobs = await self._logprobs(dialect, prompt)
        dialect = replace(
            dialect,
            logprobs=_DEPTH if logprobs else 0,
            returns_ids=bool(first.ids or (logprobs and logprobs.ids)),
            ids_need_logprobs=not first.ids and bool(logprobs and logprobs.ids),
        )
        said = first.ids or self.tokenizer.encode(first.text, add_special_tokens=False)
        return await self._effects(dialect, prompt, list(said))

    async def takes_processor(self, model: str) -> bool:
        """Whether the server was started by `slowthink serve`: its processor refuses a name of ours
        that does not exist, and any other server ignores it."""
        body = {"model": model, "prompt": "1", "max_tokens": 1}
        try:
            await self._post(body | {"vllm_xargs": {"slowthink_is_there": 1}})
        except Refused as error:
            return "slowthink_is_there" in error.body
        return False

    # -- parts of the probe --

    async def _first(self, dialect: Dialect, ids: list[int]) -> tuple[Dialect, ServerReply]:
        """Settle the settings, and whether the prompt may be ids."""
        try:
            dialect, data = await self._settled(dialect, ids)
            if _took(data, ids):
                return replace(dialect, takes_ids=True), read_reply(data)
        except Refused:
            pass
        dialect, data = await self._settled(dialect, _TEXT)
        reply = read_reply(data)
        if reply.num_prompt is not None and reply.num_prompt > len(ids) + _WRAPPED_BY:
            raise ConfigError(
                f"{self.endpoint.url}: a prompt of {len(ids)} tokens came to {reply.num_prompt}: "
                "the server puts a chat template of its own around it; expected the bare prompt. "
                "With Ollama, make a model whose Modelfile says: TEMPLATE {{ .Prompt }}"
            )
        return dialect, reply

    async def _settled(self, dialect: Dialect, prompt: Any) -> tuple[Dialect, dict[str, Any]]:
        """Leave out the settings that the server refuses."""
        while True:
            body = neutral(dialect) | {"prompt": prompt, "max_tokens": _LENGTH}
            try:
                return dialect, await self._post(body)
            except Refused as error:
                named = {name for name in dialect.settings if name in error.body}
                if not dialect.settings or error.status not in (400, 422):
                    raise
                dialect = replace(dialect, settings=dialect.settings - (named or dialect.settings))

    def _refuse_endless(self, dialect: Dialect, first: ServerReply) -> None:
        count = len(first.ids) if first.ids is not None else first.num_completion
        if count is None:
            count = len(self.tokenizer.encode(first.text, add_special_tokens=False)) // 2
        if count > _LENGTH + 1:
            raise ConfigError(
                f"{self.endpoint.url}: {count} tokens came for max_tokens {_LENGTH}: the server "
                "ignores max_tokens, so no budget could hold; expected it to stop there. "
                "Use a server that does, or the transformers or vllm engine."
            )

    async def _logprobs(self, dialect: Dialect, prompt: Any) -> ServerReply | None:
        body = neutral(dialect) | {"prompt": prompt, "max_tokens": 2, "logprobs": _DEPTH}
        try:
            reply = read_reply(await self._post(body))
        except Refused:
            return None
        return reply if reply.logprobs else None

    async def _effects(self, dialect: Dialect, prompt: Any, said: list[int]) -> Dialect:
        """Try each setting where its effect would show."""
        if not said:
            return dialect
        base = neutral(dialect) | {"prompt": prompt, "max_tokens": _LENGTH}
        if dialect.ids_need_logprobs:
            base["logprobs"] = 1
        at = next((i for i in range(1, len(said)) if said[i] not in said[:i]), 0)
        target = said[at]
        text = self.tokenizer.decode([target])
        by_id = await self._shortened(base | {"stop_token_ids": [target]}, at)
        by_text = bool(text.strip()) and await self._shortened(base | {"stop": [text]}, at)
        return replace(
            dialect,
            stops_at_ids=by_id,
            stops_at_texts=by_text,
            biases=await self._biased(base, said[0]),
            truncations=await self._truncations(base, said),
            logprobs_of_ids=bool(dialect.logprobs) and await self._listed(base, target),
        )

    async def _shortened(self, body: dict[str, Any], at: int) -> bool:
        reply = await self._reply(body)
        if reply is None or not reply.stopped:
            return False
        count = len(reply.ids) if reply.ids is not None else reply.num_completion
        return count is None or count <= at + 1

    async def _biased(self, base: dict[str, Any], first: int) -> bool:
        reply = await self._reply(base | {"logit_bias": {str(first): -100}, "max_tokens": 1})
        if reply is None:
            return False
        if reply.ids is not None:
            return first not in reply.ids
        return bool(reply.text) and reply.text != self.tokenizer.decode([first])

    async def _truncations(self, base: dict[str, Any], said: list[int]) -> frozenset[str]:
        """Those settings that, drawn tight, make a hot draw the greedy one."""
        found = set()
        for name, tight in _TIGHT.items():
            if name in base:
                reply = await self._reply(base | {"temperature": _HOT, name: tight})
                if reply is not None and self._drawn(reply) == said:
                    found.add(name)
        return frozenset(found)

    def _drawn(self, reply: ServerReply) -> list[int]:
        if reply.ids is not None:
            return list(reply.ids)
        return list(self.tokenizer.encode(reply.text, add_special_tokens=False))

    async def _listed(self, base: dict[str, Any], target: int) -> bool:
        wanted = {"logprobs": 1, "logprob_token_ids": [target], "max_tokens": 1}
        reply = await self._reply(base | wanted)
        return reply is not None and any(target in one for one in reply.logprobs)

    async def _reply(self, body: dict[str, Any]) -> ServerReply | None:
        try:
            return read_reply(await self._post(body))
        except Refused:
            return None

    async def _post(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self.pool.ask(self.endpoint, "/completions", body)

    async def _version(self) -> tuple[str, dict[str, Any]]:
        """The server's kind and version, and what it tells beside, where it tells."""
        root = self.endpoint.url.removesuffix("/v1")
        for path, kind in _VERSIONS:
            try:
                found = await self.pool.ask(self.endpoint, root + path, tries=1)
            except EngineError:
                continue
            told = found.get("version") or found.get("build_info")
            if told:
                return f"{kind}-{told}", found
        return "", {}


_DEPTH = 5
"""Logprobs asked for: what OpenAI's own interface allows."""


def neutral(dialect: Dialect) -> dict[str, Any]:
    """The settings of every request, greedy: those that the server takes, at neutral values."""
    named = {name: value for name, value in OPTIONAL.items() if name in dialect.settings}
    return {"model": dialect.model, "temperature": 0.0, "top_p": 1.0, **named}


def same_everywhere(urls: Sequence[str], dialects: Sequence[Dialect]) -> Dialect:
    """The one dialect of all addresses. Raises ConfigError where they differ: answers would depend
    on which one was free."""
    for url, other in zip(urls[1:], dialects[1:], strict=True):
        if other != dialects[0]:
            names = [
                name
                for name in Dialect.__dataclass_fields__
                if getattr(other, name) != getattr(dialects[0], name)
            ]
            raise ConfigError(
                f"engine.endpoints.urls: {url} and {urls[0]} differ in {', '.join(names)}; "
                "expected servers of one kind, version and model. Start them alike, or name those "
                "that are."
            )
    return dialects[0]


def _entry(url: str, entries: Sequence[dict[str, Any]], wanted: str | None) -> dict[str, Any]:
    names = [str(entry["id"]) for entry in entries]
    if wanted is None and len(entries) == 1:
        return entries[0]
    if wanted in names:
        return entries[names.index(str(wanted))]
    listed = ", ".join(names[:10]) or "none"
    if wanted is None:
        raise ConfigError(
            f"{url}/models: it lists {len(names)} models ({listed}); expected to be told which. "
            "Give its name: --set engine.endpoints.model=NAME"
        )
    raise ConfigError(
        f"engine.endpoints.model: {url} does not have `{wanted}`{did_you_mean(wanted, names)}; "
        f"expected one that it lists: {listed}."
    )


def _context(entry: Mapping[str, Any], props: Mapping[str, Any]) -> int | None:
    """The context's length, as the server tells it: the running one before the model's own."""
    running = props.get("default_generation_settings") or {}
    for place in (running, entry, entry.get("meta") or {}):
        for name in _CONTEXT_NAMES:
            if place.get(name):
                return int(place[name])
    return None


def _took(data: Mapping[str, Any], ids: list[int]) -> bool:
    """Whether these ids were the prompt."""
    echoed = prompt_ids_of(data)
    if echoed is not None:
        return echoed == ids
    return read_reply(data).num_prompt == len(ids)
