"""HTTP requests to the servers of one model, with retries and an adaptive limit for each server.

A request goes to the server with the fewest active requests relative to its limit. The limit adapts
(AIMD): 429 and 503 halve it, and it grows by one per limit's worth of successes. A request that
fails temporarily is sent again. It may fail this often, each kind of failure counted separately:

    timeout, 5xx, unusable reply      `max_retries` times; retried with full jitter
    any reply that names a time       fewer than 100 times; postponed until then, at most 120 s
    no connection (a restart?)        for 300 s without a break; a new attempt every 0.5 s

    async with EndpointPool(EndpointConfig(urls=("http://localhost:8000/v1",))) as pool:
        reply = await pool.post("/completions", {"model": "m", "prompt": "2 + 2 ="})

Full jitter: Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from slowthink.data.rows import as_evidence
from slowthink.engines.server.bodies import (
    MAX_ERROR_BYTES,
    Body,
    UnusableBody,
    read_body,
    scrub,
    size_limit,
)
from slowthink.engines.server.replies import BadReply, body_error
from slowthink.engines.server.request_fields import RequestFields
from slowthink.engines.server.statuses import (
    OVERLOAD_STATUSES,
    RequestRejected,
    may_pass,
    pause_seconds,
    rejection,
    remedy_after_retries,
)
from slowthink.environment import environment_variable
from slowthink.errors import ConfigError, EngineError, missing_extra
from slowthink.recipe import EndpointConfig

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
_MAX_RETRY_AFTER_SECONDS = 120.0
_MAX_POSTPONEMENTS = 100
_MAX_UNREACHABLE_SECONDS, _RECONNECT_PAUSE_SECONDS = 300.0, 0.5
_CONNECT_TIMEOUT_SECONDS = 10.0
_MAX_STREAM_TIMEOUTS = 12
"""A stream may last this many times `timeout_seconds`, as long as pieces come."""
_PROBE_ATTEMPTS = 6


@dataclass(eq=False)
class _TemporaryFailure(Exception):
    """An attempt failed; another may succeed, after `pause_seconds` if these are known."""

    reason: str
    pause_seconds: float | None = None
    overloaded: bool = False
    unreachable: bool = False
    detail: str = ""
    """What the server sent, or what is wrong with it."""


@dataclass
class _FailedAttempts:
    """Failed attempts of one request, in all and by kind; see the module's table."""

    total: int = 0
    num_retries: int = 0
    num_postponements: int = 0
    unreachable_since: float | None = None
    unreachable_seconds: float = 0.0
    reason: str = ""
    detail: str = ""

    def add(self, failure: _TemporaryFailure, *, now: float) -> None:
        """Count a failed attempt."""
        self.reason, self.detail = failure.reason, failure.detail
        self.total += 1
        if failure.unreachable:
            self.unreachable_since = self.unreachable_since or now
            self.unreachable_seconds = now - self.unreachable_since
        else:
            self.unreachable_since = None
            self.num_retries += failure.pause_seconds is None
            self.num_postponements += failure.pause_seconds is not None

    def reached_limit(self, config: EndpointConfig) -> bool:
        """Whether the request must not be sent again."""
        return (
            self.num_retries > config.max_retries
            or self.num_postponements >= _MAX_POSTPONEMENTS
            or self.unreachable_seconds > _MAX_UNREACHABLE_SECONDS
        )


@dataclass
class Endpoint:
    """One server and its limit of active requests."""

    url: str
    max_concurrency: int
    limit: float = 0.0
    """Maximum number of active requests; between 1 and `max_concurrency`."""
    active: int = 0
    paused_until: float = 0.0
    reduced_at: float = 0.0
    """When the limit was last halved."""

    def __post_init__(self) -> None:
        self.limit = self.limit or float(self.max_concurrency)

    def is_free(self, now: float) -> bool:
        """Whether it may be sent one more request."""
        return self.active < int(self.limit) and self.paused_until <= now

    def increase_limit(self) -> None:
        """Increase the limit after a success: by one per limit's worth of successes."""
        self.limit = min(float(self.max_concurrency), self.limit + 1 / self.limit)

    def reduce_limit(self, *, started: float, now: float) -> None:
        """Halve the limit; only once for requests that were active at the same time.
        `started`: when the failed request was sent."""
        if started >= self.reduced_at:
            self.limit = max(1.0, self.limit / 2)
            self.reduced_at = now

    def pause(self, seconds: float, now: float) -> None:
        """Send no request for this long."""
        self.paused_until = max(self.paused_until, now + seconds)


@dataclass
class EndpointPool:
    """The servers of one model; use as an async context manager."""

    config: EndpointConfig
    failure_counts: Counter[str] = field(default_factory=Counter)
    """Failed attempts that were retried, by reason."""
    first_pause_seconds: float = 0.5
    """Maximum pause before the first retry; doubled for each further one."""
    max_pause_seconds: float = 30.0

    def __post_init__(self) -> None:
        self.key = api_key(self.config)
        self.endpoints = [
            Endpoint(url.rstrip("/"), self.config.max_concurrency) for url in self.config.urls
        ]
        self._waiting_requests: deque[asyncio.Future[Endpoint]] = deque()
        self._fields = RequestFields(self.config, self.failure_counts)
        self._final_rejection: RequestRejected | None = None
        """After it, no request is sent: each would be rejected."""
        self._random = random.Random()  # only pauses depend on it
        self._timer: asyncio.TimerHandle | None = None
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> EndpointPool:
        try:
            import aiohttp
        except ImportError:
            raise missing_extra("aiohttp", extra="http") from None
        headers = {"Accept-Encoding": "identity"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        seconds, streamed = self.config.timeout_seconds, self.config.stream
        timeout = aiohttp.ClientTimeout(
            total=seconds * (_MAX_STREAM_TIMEOUTS if streamed else 1),
            sock_read=seconds if streamed else None,
            sock_connect=_CONNECT_TIMEOUT_SECONDS,
        )
        self._http = aiohttp.ClientSession(
            headers=headers, timeout=timeout, connector=aiohttp.TCPConnector(limit=0),
            auto_decompress=False,  # `bodies` unpacks, within a limit
        )  # fmt: skip
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._http is not None:
            await self._http.close()

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send to a free server and return the JSON object that it replies with: see `ask`."""
        return await self.ask(path, body, lambda data: data)

    async def ask(
        self, path: str, body: Mapping[str, Any], read: Callable[[dict[str, Any]], T]
    ) -> T:
        """Send to a free server and return what `read` makes of the reply; if `read` raises
        BadReply, the request is sent again.

        Raises RequestRejected if no retry would help, EngineError after all retries.
        """
        failures = _FailedAttempts()
        while not failures.reached_limit(self.config):
            endpoint = await self._acquire()
            started = time.monotonic()
            try:
                if self._final_rejection is not None:
                    raise self._final_rejection
                reply = _checked(read, await self._send(endpoint, "POST", path, body))
                endpoint.increase_limit()
                return reply
            except _TemporaryFailure as failure:
                self.failure_counts[failure.reason] += 1
                num_retries = failures.num_retries
                pause = self._back_off(endpoint, failure, started=started, num_retries=num_retries)
                failures.add(failure, now=time.monotonic())
            finally:
                self._release(endpoint)
            await asyncio.sleep(pause)
        urls = ", ".join(endpoint.url + path for endpoint in self.endpoints)
        detail = f" ({failures.detail})" if failures.detail else ""
        raise EngineError(
            f"{urls}, model `{body.get('model')}`: {failures.reason}{detail}, {failures.total} "
            f"times in a row; expected a reply. {remedy_after_retries(failures.reason)} repeat "
            "the command: finished requests are kept."
        )

    async def request(
        self, endpoint: Endpoint, path: str, body: Any = None, *, attempts: int = _PROBE_ATTEMPTS
    ) -> dict[str, Any]:
        """Send to this server and return its reply; GET if `body` is None. Raises RequestRejected,
        and EngineError after the last attempt, or at once without a connection."""
        reason = ""
        for attempt in range(attempts):
            try:
                return await self._send(endpoint, "GET" if body is None else "POST", path, body)
            except _TemporaryFailure as failure:
                reason = f"{failure.reason} {failure.detail}".rstrip()
                if failure.unreachable:
                    break
                pause = failure.pause_seconds or 0.2 * 2**attempt
                await asyncio.sleep(min(pause, self.max_pause_seconds))
        raise EngineError(
            f"{endpoint.url}: {reason}; expected an OpenAI-compatible server. Start it, or correct "
            "the address: --set engine.endpoints.urls=[http://HOST:PORT/v1]"
        )

    # -- one attempt --

    async def _send(self, endpoint: Endpoint, method: str, path: str, body: Any) -> dict[str, Any]:
        import aiohttp

        assert self._http is not None, "use the pool as a context manager"
        url = path if path.startswith("http") else endpoint.url + path
        if body is not None:
            body = self._fields.complete(body)
        limit = size_limit(body)
        try:
            async with self._http.request(method, url, json=body, allow_redirects=False) as reply:
                status, headers = reply.status, reply.headers
                limit = limit if status == 200 else MAX_ERROR_BYTES
                data = await read_body(reply, limit=limit, joined=status == 200)
        except TimeoutError:
            raise _TemporaryFailure(f"no answer in {self.config.timeout_seconds:g} s") from None
        except aiohttp.ClientConnectorError as error:
            reason = f"no connection ({type(error.os_error).__name__})"
            pause = _RECONNECT_PAUSE_SECONDS
            raise _TemporaryFailure(reason, pause_seconds=pause, unreachable=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _TemporaryFailure(f"connection broke ({type(error).__name__})") from None
        except UnusableBody as error:
            raise _TemporaryFailure(str(error)) from None
        if status != 200:
            raise self._status_error(url, status, headers, data.text, body)
        if data.size > limit:
            raise _TemporaryFailure("a body above the limit", detail=f"{limit:,} bytes")
        return self._read_object(url, data, body)

    def _read_object(self, url: str, data: Body, sent: Any) -> dict[str, Any]:
        """The JSON object of a body that came with status 200, which may still be an error."""
        try:
            content = data.json(secret=self.key)
        except UnusableBody as error:
            raise _TemporaryFailure(str(error)) from None
        failure = body_error(content)
        if failure is None:
            return content
        known = None
        if failure.status is not None:
            known = self._known_error(url, failure.status, {}, failure.text, sent)
        raise known or _TemporaryFailure(
            "an error in place of a reply",
            overloaded=failure.status in OVERLOAD_STATUSES,
            detail=as_evidence(failure.text),
        )

    def _status_error(
        self, url: str, status: int, headers: Mapping[str, str], text: str, sent: Any
    ) -> Exception:
        known = self._known_error(url, status, headers, scrub(text, self.key), sent)
        return known or _TemporaryFailure(
            f"status {status}",
            pause_seconds=pause_seconds(headers),
            overloaded=status in OVERLOAD_STATUSES,
        )

    def _known_error(
        self, url: str, status: int, headers: Mapping[str, str], text: str, sent: Any
    ) -> Exception | None:
        """For a status, of the reply or named in its body: the rejection, or a `_TemporaryFailure`
        with no pause if a field was learnt; None if it may pass."""
        sent = sent or {}
        if self._fields.learn(sent, status, text):
            return _TemporaryFailure(f"status {status} for a field", pause_seconds=0.0)
        if may_pass(status, headers, text):
            return None
        error = rejection(url, status, text, model=sent.get("model"), config=self.config)
        if error.is_final and sent:
            self._final_rejection = error
        return error

    def _back_off(
        self, endpoint: Endpoint, failure: _TemporaryFailure, *, started: float, num_retries: int
    ) -> float:
        """Reduce the endpoint's limit or pause it if the failure requires it. Return the seconds to
        wait before the next attempt."""
        now = time.monotonic()
        if failure.overloaded:
            endpoint.reduce_limit(started=started, now=now)
        if failure.pause_seconds is not None:
            endpoint.pause(min(failure.pause_seconds, _MAX_RETRY_AFTER_SECONDS), now)
            return 0.0  # another endpoint may be free now
        max_pause = min(self.max_pause_seconds, self.first_pause_seconds * 2**num_retries)
        return self._random.uniform(0, max_pause)

    # -- free endpoints --

    async def _acquire(self) -> Endpoint:
        """Wait for a free endpoint, first come, first served. Of several, return the one with the
        fewest active requests relative to its limit."""
        future = asyncio.get_running_loop().create_future()
        self._waiting_requests.append(future)
        self._assign_endpoints()
        try:
            endpoint: Endpoint = await future
            return endpoint
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._release(future.result())
            raise

    def _release(self, endpoint: Endpoint) -> None:
        endpoint.active -= 1
        self._assign_endpoints()

    def _assign_endpoints(self) -> None:
        now = time.monotonic()
        while self._waiting_requests:
            free = [endpoint for endpoint in self.endpoints if endpoint.is_free(now)]
            if not free:
                self._assign_after_next_pause(now)
                return
            future = self._waiting_requests.popleft()
            if not future.done():
                endpoint = min(free, key=lambda endpoint: endpoint.active / endpoint.limit)
                endpoint.active += 1
                future.set_result(endpoint)

    def _assign_after_next_pause(self, now: float) -> None:
        pause_ends = [e.paused_until for e in self.endpoints if e.paused_until > now]
        if self._timer is not None:
            self._timer.cancel()
        if pause_ends:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(min(pause_ends) - now + 0.001, self._assign_endpoints)


def _checked(read: Callable[[dict[str, Any]], T], content: dict[str, Any]) -> T:
    try:
        return read(content)
    except BadReply as error:
        raise _TemporaryFailure("an unusable reply", detail=str(error)) from None


def api_key(config: EndpointConfig) -> str | None:
    """The API key in the configured environment variable; None if none is configured. Raises
    ConfigError if the variable is unset."""
    if config.api_key_env is None:
        return None
    key = environment_variable(config.api_key_env)
    if not key:
        raise ConfigError(
            f"engine.endpoints.api_key_env: the environment variable `{config.api_key_env}` is not "
            f"set; expected the key in it. Run: export {config.api_key_env}=…"
        )
    return key
