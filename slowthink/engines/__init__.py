"""Engines that run a model; `open_session` returns a session on one of them."""

from __future__ import annotations

from collections.abc import Callable

from slowthink.engines.auto import resolve_engine
from slowthink.engines.session import Session
from slowthink.recipe import EngineConfig


def open_session(
    name: str,
    config: EngineConfig,
    *,
    revision: str | None = None,
    notify: Callable[[str], None] = lambda _: None,
) -> Session:
    """A session with this model (a folder, a hub id, `smollm2-135m`) on the configured engine.

    Settings that are still `auto` are chosen for this session, as for few tokens. Raises
    ConfigError if the model is unavailable or the engine's packages are not installed.
    """
    config = resolve_engine(config)
    if config.kind == "transformers":
        from slowthink.engines.transformers.session import TransformersSession

        return TransformersSession(name, config, revision=revision, notify=notify)
    if config.kind == "vllm":
        from slowthink.engines.vllm.session import VllmSession

        return VllmSession(name, config, revision=revision, notify=notify)
    if config.kind == "replay":
        from slowthink.engines.replay import ReplaySession, read_script

        return ReplaySession(read_script(config.replay))
    if config.endpoints is not None and config.endpoints.api == "chat":
        from slowthink.engines.server.chat_session import ChatSession

        return ChatSession(name, config, notify=notify)
    from slowthink.engines.server.session import OpenAISession

    return OpenAISession(name, config, revision=revision, notify=notify)
