"""Servers behind one door: a request goes where the queue is shortest, and comes back once.

Each address has a limit of requests under way that adapts (AIMD: halved by 429 and 503, then grown
by one per limit's worth of successes). What fails for a while (no connection, no answer in time,
5xx, a body that is torn) is tried again with full jitter, or when `Retry-After` says.

    async with Pool(EndpointConfig(urls=("http://localhost:8000/v1",))) as pool:
        reply = await pool.post("/completions", {"model": "m", "prompt": "2 + 2 ="})

Full jitter: Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from slowthink.errors import ConfigError, EngineError, missing_extra
from slowthink.recipe import EndpointConfig

if TYPE_CHECKING:
    import aiohttp

_RETRYABLE_STATUSES = frozenset(
    {408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}
)
"""Statuses that may be gone the next time."""
_TOO_MUCH = frozenset({429, 503, 529})
"""Of these, those by which a server says that it has too much to do."""
_LONGEST_RETRY_AFTER_SECONDS = 600.0
_MAX_PUT_OFF = 100
"""Times that one request may be put off by Retry-After; these are no retries."""
_CONNECT_SECONDS = 10.0
_TRIES_OF_ONE = 6
_AWAY_SECONDS, _AWAY_PAUSE_SECONDS = 300.0, 0.5
"""A server that nobody reaches may be starting anew: so long it is waited for, with these pauses
between looks; these are no retries."""


class Refused(EngineError):
    """A server said no to a request, and would say it again."""

    def __init__(self, message: str, status: int = 0, body: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class _Passing(Exception):
    """One try failed; another may do."""

    def __init__(
        self,
        reason: str,
        *,
        pause: float | None = None,
        too_much: bool = False,
        unreachable: bool = False,
    ) -> None:
        super().__init__(reason)
        self.pause = _AWAY_PAUSE_SECONDS if unreachable else pause
        self.too_much = too_much
        self.unreachable = unreachable


@dataclass
class _Tries:
    """What has become of one request so far."""

    num: int = 0
    num_failed: int = 0
    """Retries count these; being put off by the server is none."""
    num_put_off: int = 0
    away_since: float | None = None
    away_seconds: float = 0.0
    reason: str = ""

    def failed(self, error: _Passing, *, now: float) -> None:
        """One more try came to this."""
        self.reason = str(error)
        self.num += 1
        if not error.unreachable:
            self.away_since = None
            self.num_failed += error.pause is None
            self.num_put_off += error.pause is not None
        else:
            self.away_since = now if self.away_since is None else self.away_since
            self.away_seconds = now - self.away_since

    def are_over(self, config: EndpointConfig) -> bool:
        """Whether it was tried often and long enough."""
        return (
            self.num_failed > config.max_retries
            or self.num_put_off >= _MAX_PUT_OFF
            or self.away_seconds > _AWAY_SECONDS
        )


@dataclass
class Endpoint:
    """One address, and how much it is given to do."""

    url: str
    max_concurrency: int
    limit: float = 0.0
    """Requests under way, at most; between 1 and `max_concurrency`."""
    active: int = 0
    paused_until: float = 0.0
    cut_at: float = 0.0
    """When the limit was last halved."""

    def __post_init__(self) -> None:
        self.limit = self.limit or float(self.max_concurrency)

    def is_free(self, now: float) -> bool:
        """Whether it may be given one more request."""
        return self.active < int(self.limit) and self.paused_until <= now

    def succeeded(self) -> None:
        """Grow by one per limit's worth of successes."""
        self.limit = min(float(self.max_concurrency), self.limit + 1 / self.limit)

    def reduce_limit(self, *, started: float, now: float) -> None:
        """Halve; once for all requests that were under way together."""
        if started >= self.cut_at:
            self.limit = max(1.0, self.limit / 2)
            self.cut_at = now

    def pause(self, seconds: float, now: float) -> None:
        """Give it nothing for a while."""
        self.paused_until = max(self.paused_until, now + seconds)


@dataclass
class EndpointPool:
    """The addresses of one model; use as an async context manager."""

    config: EndpointConfig
    counts: Counter[str] = field(default_factory=Counter)
    """What went wrong and was tried again, by reason."""
    first_pause_seconds: float = 0.5
    """Most seconds before the second try; they double with each."""
    longest_pause_seconds: float = 30.0

    def __post_init__(self) -> None:
        self.key = api_key(self.config)
        self.endpoints = [
            Endpoint(url.rstrip("/"), self.config.max_concurrency) for url in self.config.urls
        ]
        self._waiting: deque[asyncio.Future[Endpoint]] = deque()
        self._random = random.Random()  # only pauses depend on it
        self._timer: asyncio.TimerHandle | None = None
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> EndpointPool:
        try:
            import aiohttp
        except ImportError:
            raise missing_extra("aiohttp", extra="http") from None
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        timeout = aiohttp.ClientTimeout(
            total=self.config.timeout_seconds, sock_connect=_CONNECT_SECONDS
        )
        self._http = aiohttp.ClientSession(
            headers=headers, timeout=timeout, connector=aiohttp.TCPConnector(limit=0)
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._http is not None:
            await self._http.close()

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON object that some address answers.

        Raises Refused for what no retry would change, EngineError after all retries.
        """
        tries = _Tries()
        while not tries.are_over(self.config):
            endpoint = await self._slot()
            started = time.monotonic()
            try:
                reply = await self._try(endpoint, "POST", path, body)
                endpoint.succeeded()
                return reply
            except _Passing as error:
                self.counts[str(error)] += 1
                pause = self._note(endpoint, error, started=started, tries=tries.num_failed)
                tries.failed(error, now=time.monotonic())
            finally:
                self._release(endpoint)
            await asyncio.sleep(pause)
        raise EngineError(
            f"{self._places(path)}: {tries.reason}, {tries.num} times in a row; expected an "
            "answer. See the server's log; give the same command again: what was had is kept."
        )

    async def ask(
        self, endpoint: Endpoint, path: str, body: Any = None, *, tries: int = _TRIES_OF_ONE
    ) -> dict[str, Any]:
        """This address's answer, GET without a body. Raises EngineError at once where nothing
        listens there, Refused, and EngineError after a few tries."""
        reason = ""
        for number in range(tries):
            try:
                return await self._try(endpoint, "GET" if body is None else "POST", path, body)
            except _Passing as error:
                reason = str(error)
                if error.unreachable:
                    break
                await asyncio.sleep(min(error.pause or 0.2 * 2**number, self.longest_pause_seconds))
        raise EngineError(
            f"{endpoint.url}: {reason}; expected an OpenAI-compatible server. Start it, or mend "
            "the address: --set engine.endpoints.urls=[http://HOST:PORT/v1]"
        )

    def _places(self, path: str) -> str:
        return ", ".join(endpoint.url + path for endpoint in self.endpoints)

    # -- one try --

    async def _try(self, endpoint: Endpoint, method: str, path: str, body: Any) -> dict[str, Any]:
        import aiohttp

        assert self._http is not None, "use the pool as a context manager"
        url = path if path.startswith("http") else endpoint.url + path
        try:
            async with self._http.request(method, url, json=body, allow_redirects=False) as reply:
                data = await reply.read()
                status, headers = reply.status, reply.headers
        except TimeoutError:
            raise _Passing(f"no answer in {self.config.timeout_seconds:g} s") from None
        except aiohttp.ClientConnectorError as error:
            reason = f"no connection ({type(error.os_error).__name__})"
            raise _Passing(reason, unreachable=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise _Passing(f"connection broke ({type(error).__name__})") from None
        if status != 200:
            raise self._explained(url, status, headers, data)
        return _json_object(data)

    def _explained(
        self, url: str, status: int, headers: Mapping[str, str], data: bytes
    ) -> Exception:
        text = self._without_key(data.decode(errors="replace"))
        if status in _RETRYABLE_STATUSES:
            pause = retry_after_seconds(headers.get("Retry-After"))
            return _Passing(f"status {status}", pause=pause, too_much=status in _TOO_MUCH)
        hint = "See what it says; change the request."
        if status in (401, 403):
            hint = "Name the environment variable that holds the key: engine.endpoints.api_key_env."
        if status == 404:
            hint = "Check engine.endpoints.urls (they end in /v1) and engine.endpoints.model."
        return Refused(
            f"{url}: status {status}, {text[:300]!r}; expected 200. {hint}", status, text
        )

    def _without_key(self, text: str) -> str:
        return text.replace(self.key, "…") if self.key else text

    def _note(self, endpoint: Endpoint, error: _Passing, *, started: float, tries: int) -> float:
        """What a failed try means for the address; seconds until the next try."""
        now = time.monotonic()
        if error.too_much:
            endpoint.reduce_limit(started=started, now=now)
        if error.pause is not None:
            pause = min(error.pause, _LONGEST_RETRY_AFTER_SECONDS)
            endpoint.pause(pause, now)
            return 0.0  # the slot comes when some address is ready
        longest = min(self.longest_pause_seconds, self.first_pause_seconds * 2**tries)
        return self._random.uniform(0, longest)

    # -- slots --

    async def _slot(self) -> Endpoint:
        """The free address with the shortest queue for its limit; waits for one, first come first
        served."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._hand_out()
        try:
            endpoint: Endpoint = await future
            return endpoint
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._release(future.result())
            raise

    def _release(self, endpoint: Endpoint) -> None:
        endpoint.active -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        now = time.monotonic()
        while self._waiting:
            free = [endpoint for endpoint in self.endpoints if endpoint.is_free(now)]
            if not free:
                self._wake_later(now)
                return
            future = self._waiting.popleft()
            if not future.done():
                endpoint = min(free, key=lambda one: one.active / one.limit)
                endpoint.active += 1
                future.set_result(endpoint)

    def _wake_later(self, now: float) -> None:
        """Look again when the first pause is over."""
        ends = [one.paused_until for one in self.endpoints if one.paused_until > now]
        if self._timer is not None:
            self._timer.cancel()
        if ends:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(min(ends) - now + 0.001, self._hand_out)


def _json_object(data: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(data)
        if isinstance(found, dict):
            return found
    raise _Passing("a torn body")


def retry_after_seconds(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, given in seconds or as a date (RFC 9110, section
    10.2.3); None without one that can be read."""
    if value is None:
        return None
    with contextlib.suppress(ValueError):
        return max(0.0, float(value))
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def api_key(config: EndpointConfig) -> str | None:
    """The key, from the named environment variable only. Raises ConfigError where it is not set."""
    if config.api_key_env is None:
        return None
    key = os.environ.get(config.api_key_env, "").strip()
    if not key:
        raise ConfigError(
            f"engine.endpoints.api_key_env: the environment variable `{config.api_key_env}` is not "
            f"set; expected the key there. Run: export {config.api_key_env}=…"
        )
    return key
