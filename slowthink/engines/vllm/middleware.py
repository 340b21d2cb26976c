"""The middleware of `slowthink serve`: refuses requests whose budget vLLM would ignore or fail on.

vLLM passes a budget to the logits processor only on its usual path. Beam search has none, unknown
fields are ignored, and texts that are not UTF-8 fail deep inside it. So each request with a
`slowthink_` argument is checked here first, and answered with 400 if it cannot be forced.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from slowthink.engines.vllm.request_args import PREFIX, read_args
from slowthink.errors import ConfigError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
_ARGUMENTS = "vllm_xargs"


class RefuseUnforced:
    """An ASGI middleware; vLLM's option `--middleware` names it."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request that cannot be forced; pass any other on."""
        if scope["type"] != "http" or scope.get("method") != "POST":
            await self.app(scope, receive, send)
            return
        messages = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())
        reason = refusal(b"".join(message.get("body", b"") for message in messages))
        if reason is not None:
            await _send_refusal(send, reason)
            return

        async def replay() -> Message:
            return messages.pop(0) if messages else await receive()

        await self.app(scope, replay, send)


def refusal(body: bytes) -> str | None:
    """Why a request's budget cannot be forced; None if it can, or if it has none."""
    if not any(part in body for part in (PREFIX.encode(), b"\\u", b"\0")):
        return None  # no argument's name: neither as it is, escaped, nor in UTF-16 or UTF-32
    constants: list[str] = []
    try:
        data = json.loads(body, parse_constant=constants.append)
    except (ValueError, RecursionError):
        return None  # vLLM says so
    arguments = data.get(_ARGUMENTS) if isinstance(data, dict) else None
    if misplaced := _misplaced_name(data):
        return f"{misplaced}: outside {_ARGUMENTS}, where it has no effect. Move it there."
    if not isinstance(arguments, dict) or not any(name.startswith(PREFIX) for name in arguments):
        return None
    if constants:
        return f"{constants[0]} in the request; expected finite numbers. Change it."
    try:
        body.decode()
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeError:
        return "a text of the request is not valid UTF-8 (a lone surrogate?); expected one. Fix it."
    return _conflict(data, arguments)


def _conflict(data: Mapping[str, Any], arguments: Mapping[str, Any]) -> str | None:
    if data.get("use_beam_search"):
        return (
            "use_beam_search: true together with a thinking budget; expected it unset, since beam "
            "search does not force budgets. Leave it out."
        )
    if f"{PREFIX}log" in arguments:
        return f"{_ARGUMENTS}.{PREFIX}log: only for the engine in the same process. Leave it out."
    try:
        read_args(arguments)
    except ConfigError as error:
        return str(error)
    return None


def _misplaced_name(data: Any) -> str | None:
    """The name of an argument beside, not in, `vllm_xargs`."""
    outside = [data] if isinstance(data, dict) else []
    outside += [v for k, v in (outside[0] if outside else {}).items()
                if isinstance(v, dict) and k != _ARGUMENTS]  # fmt: skip
    names = (name for values in outside for name in values)
    return next((name for name in names if name.startswith(PREFIX)), None)


async def _send_refusal(send: Send, reason: str) -> None:
    """400 in the form of OpenAI's errors, in ASCII."""
    error = {"message": reason, "type": "BadRequestError", "param": None, "code": 400}
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})
