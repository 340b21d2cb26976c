"""Serving the pages: this machine only, or others with a token in the address."""

from __future__ import annotations

import contextlib
import importlib.util
import secrets
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from slowthink.data.reviews import DATABASE, is_name
from slowthink.errors import ConfigError, missing_extra
from slowthink.review.chains import ReviewSet
from slowthink.review.store import ReviewStore

PACKAGES = ("starlette", "uvicorn", "latex2mathml")


def serve(
    root: Path, reviewed: ReviewSet, *, host: str, port: int, num_reviewers: int,
    names: Sequence[str], notify: Callable[[str], None],
) -> None:  # fmt: skip
    """Serve the pages until interrupted; `notify` receives the address.

    Raises ConfigError if a package is missing, the address cannot be used, or a name occurs twice.
    """
    check_packages()
    check_names(names)
    import uvicorn

    from slowthink.review.app import ReviewPages
    from slowthink.review.guard import LOOPBACK

    key = None if host in LOOPBACK else secrets.token_urlsafe(24)
    with _listen(host, port) as listener, ReviewStore(root / DATABASE) as store:
        unknown = reviewed.check(store.judgements(), where=store.path)
        if unknown:
            notify(
                f"review: {unknown} judged chains are no longer in the trace stage; they are kept"
            )
        pages = ReviewPages(
            store, reviewed, title=root.name, num_reviewers=num_reviewers, names=names, key=key
        )
        address = f"[{host}]" if ":" in host else host
        query = f"/?token={key}" if key else "/"
        notify(f"review: {len(reviewed.items)} chains and pairs, kept in {store.path}")
        notify(f"http://{address}:{listener.getsockname()[1]}{query}")
        config = uvicorn.Config(pages.app(), log_level="warning", access_log=False)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def check_packages() -> None:
    """Raise ConfigError if a package of the extra `review` is not installed."""
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, extra="review")


def check_names(names: Sequence[str]) -> None:
    """Raise ConfigError if two reviewers have one name, or a name cannot be one."""
    for index, name in enumerate(names):
        if not is_name(name):
            raise ConfigError(
                f"review: --reviewer {name!r:.60}; expected 1 to 40 visible characters. "
                "Name the reviewer otherwise."
            )
        if name.casefold() in {other.casefold() for other in names[:index]}:
            raise ConfigError(
                f"review: two reviewers are called {name}; expected a name each, since each "
                "judges alone. Give one of them another: --reviewer 'NAME 2'"
            )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"review: {host}:{port}: {error.strerror or error}; expected an address of this "
            "machine and a free port. Name another: --port 0 takes a free one."
        ) from None
