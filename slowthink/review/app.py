"""The web application: pages of items, forms, and what it refuses.

    app = ReviewPages(store, reviewed, num_reviewers=2).app()     # Starlette; served by `server`

A page is HTML from one template; the forms work without the script. What was typed is never lost: a
form that cannot be saved is shown again as it was sent, with the reason.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from slowthink.data.reviews import (
    EQUAL,
    FLAGS,
    MAX_NAME,
    MAX_NOTE,
    PAIR,
    Judgement,
    is_name,
    latest,
    now,
    problem_of,
)
from slowthink.errors import SlowthinkError
from slowthink.records import group_by
from slowthink.review.chains import Item, ReviewSet, sides
from slowthink.review.store import Changed, Entry, ReviewStore, Taken
from slowthink.review.summary import FAR, summarise
from slowthink.review.text import render, steps

MAX_BODY = 200_000
"""Bytes of a form."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LEVEL_TEXTS = {
    5: "well organised, clear explanations, rigorous self-verification",
    4: "well structured, slightly less checking",
    3: "reasonable organisation, skips some crucial leaps",
    2: "abbreviated reasoning, little explanation",
    1: "lists basic steps, rarely any verification",
}
"""LIMO v1's levels (arXiv 2502.03387v1, section 3.2), best first."""
FLAG_KEYS = dict(zip(FLAGS, "xegrul", strict=True))
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}  # fmt: skip
"""Of every answer: nothing is loaded from elsewhere, and nothing in a text can run."""
ASSETS = {"page.css": "text/css", "review.css": "text/css", "review.js": "text/javascript"}
"""`page.css` is the report's."""


@dataclass(frozen=True)
class Visit:
    """A reviewer who has entered."""

    session: str
    reviewer: str


class ReviewPages:
    """The pages over one store and one set of items."""

    def __init__(
        self, store: ReviewStore, reviewed: ReviewSet, *, title: str = "review",
        num_reviewers: int = 2, names: Sequence[str] = (), key: str | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._reviewed = reviewed
        self._title = title
        self._num_reviewers = num_reviewers
        self._names = names
        """The names that may enter; any if empty."""
        self._key = key
        """What an address must contain where others can reach it; None: this machine only."""
        self._cookie = "review-" + store.form_token("cookie")[:8]

    def app(self) -> Starlette:
        """The application."""
        return Starlette(
            routes=[
                Route("/", self._overview),
                Route("/enter", self._enter, methods=["POST"]),
                Route("/leave", self._leave, methods=["POST"]),
                Route("/alive", self._alive, methods=["POST"]),
                Route("/next", self._next),
                Route("/item/{id}", self._show),
                Route("/item/{id}", self._save, methods=["POST"]),
                Route("/static/{name}", _asset),
            ],
            middleware=[Middleware(BaseHTTPMiddleware, dispatch=self._guard)],
            exception_handlers={HTTPException: self._http_error, SlowthinkError: self._data_error},
        )

    # --- what is refused --------------------------------------------------------------------------

    async def _guard(
        self, request: Request, call: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Refuse other sites and strangers; add the headers to every answer."""
        response = self._refusal(request) or await call(request)
        response.headers.update(HEADERS)
        return response

    def _refusal(self, request: Request) -> Response | None:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if self._key is None and urlsplit(f"//{host}").hostname not in LOOPBACK:
            return _plain("This server answers only to 127.0.0.1 and localhost.", 421)
        if request.method not in ("GET", "HEAD", "POST"):
            return _plain("Only GET and POST.", 405)
        is_foreign = origin is not None and urlsplit(origin).netloc != host
        site = request.headers.get("sec-fetch-site", "same-origin")
        if request.method == "POST" and (is_foreign or site != "same-origin"):
            return _plain("A form of another site; expected one of this page.", 403)
        return self._without_key(request) if self._key else None

    def _without_key(self, request: Request) -> Response | None:
        """The answer to a request without the key; one that brings it gets a cookie instead."""
        name, key = f"{self._cookie}-key", (self._key or "").encode()
        if hmac.compare_digest(request.cookies.get(name, "").encode(), key):
            return None
        if hmac.compare_digest(request.query_params.get("token", "").encode(), key):
            response = RedirectResponse("/", 303)
            response.set_cookie(name, key.decode(), httponly=True, samesite="lax")
            return response
        return _plain("No valid token; open the address that `slowthink review` printed.", 403)

    def _session(self, request: Request) -> tuple[str, str | None]:
        session = request.cookies.get(self._cookie, "")
        return session, self._store.reviewer_of(session) if session else None

    async def _http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return self._page("message.html", text=error.detail, status=error.status_code)

    async def _data_error(self, request: Request, error: Exception) -> Response:
        return self._page("message.html", text=str(error), status=500)

    # --- who --------------------------------------------------------------------------------------

    async def _enter(self, request: Request) -> Response:
        form = await _form(request)
        name = unicodedata.normalize("NFC", form.get("name", "").strip())
        self._check_token(form, "")
        problem = None
        if not is_name(name):
            problem = f"A name has 1 to {MAX_NAME} visible characters."
        elif self._names and name not in self._names:
            problem = f"{name} was not named at the start; take one of the names in the list."
        try:
            session = "" if problem else self._store.enter(name)
        except Taken:
            problem = (
                f"{name} is reviewing in another browser. Leave there first, or take another name; "
                "the name is free again 90 seconds after that page is closed."
            )
        if problem:
            return self._enter_page(problem, name=name, status=409)
        response = RedirectResponse("/", 303)
        response.set_cookie(
            self._cookie, session, httponly=True, samesite="lax", max_age=30 * 86_400
        )
        return response

    async def _leave(self, request: Request) -> Response:
        session, _ = self._session(request)
        self._check_token(await _form(request), session)
        self._store.leave(session)
        response = RedirectResponse("/", 303)
        response.delete_cookie(self._cookie)
        return response

    async def _alive(self, request: Request) -> Response:
        """The sign of an open page that keeps the reviewer's seat."""
        return Response(status_code=204 if self._session(request)[1] else 401)

    def _is_ours(self, form: Mapping[str, str], session: str) -> bool:
        """Whether a form has the token of this session's pages."""
        expected = self._store.form_token(session)
        return hmac.compare_digest(form.get("token", "").encode(), expected.encode())

    def _check_token(self, form: Mapping[str, str], session: str) -> None:
        if not self._is_ours(form, session):
            raise HTTPException(403, "A form of another session; open the page again.")

    # --- pages ------------------------------------------------------------------------------------

    async def _overview(self, request: Request) -> Response:
        session, reviewer = self._session(request)
        if reviewer is None:
            return self._enter_page(None, name="", status=200)
        entries = self._store.entries()
        current = _current(entries)
        rows = [self._row(item, reviewer, current) for item in self._reviewed.items.values()]
        is_done = all(row["own"] for row in rows)
        figures = summarise(
            self._reviewed, [entry.judgement for entry in entries],
            num_reviewers=self._num_reviewers,
        ) if is_done else None  # fmt: skip
        return self._page("overview.html", Visit(session, reviewer), rows=rows,
                          figures=figures)  # fmt: skip

    async def _next(self, request: Request) -> Response:
        """The first item after `after` that the reviewer has not judged; else the overview."""
        _, reviewer = self._session(request)
        if reviewer is None:
            return RedirectResponse("/", 303)
        ids, current = list(self._reviewed.items), _current(self._store.entries())
        after = request.query_params.get("after")
        start = ids.index(after) + 1 if after in ids else 0
        open_ids = [id for id in ids[start:] + ids[:start] if reviewer not in current.get(id, {})]
        return RedirectResponse(f"/item/{open_ids[0]}" if open_ids else "/", 303)

    async def _show(self, request: Request) -> Response:
        session, reviewer = self._session(request)
        if reviewer is None:
            return RedirectResponse("/", 303)
        item = self._item(request)
        own = _current(self._store.entries()).get(item.id, {}).get(reviewer)
        visit = Visit(session, reviewer)
        return self._item_page(visit, item, values=own.judgement if own else None)

    async def _save(self, request: Request) -> Response:
        form = await _form(request)
        session, reviewer = self._session(request)
        if reviewer is None:
            return self._unsaved(form, "Your session has ended. Enter again in another tab, then "
                                 "send this form; nothing of it is lost.", 401)  # fmt: skip
        item = self._reviewed.item(request.path_params["id"])
        if item is None:
            return self._unsaved(form, "The run has no such chain any more: its traces were made "
                                 "anew. Your text is below, to copy.", 409)  # fmt: skip
        if not self._is_ours(form, session):
            # Of an earlier session, perhaps before a restart: sent again, it has this one's token.
            return self._again(request, form, item, "You have entered anew since this page was "
                               "made. Check it and save again.", 409)  # fmt: skip
        current = _current(self._store.entries()).get(item.id, {})
        judgement = _judgement(form, item, reviewer, blind=not self._is_open(current, reviewer))
        if problem := problem_of(judgement):
            return self._again(request, form, item, f"Not saved. {problem}.", 422)
        try:
            if reviewer not in current or not _is_same(current[reviewer].judgement, judgement):
                seen = form.get("seen", "")
                self._store.add(judgement, seen=int(seen) if seen.isdecimal() else 0)
        except Changed:
            return self._again(request, form, item, "Not saved: you have judged this meanwhile, "
                               "in another tab. Your new judgement is in the form, the saved one "
                               "below it. Save again to replace it.", 409)  # fmt: skip
        except SlowthinkError as error:
            return self._again(request, form, item, f"Not saved. {error}", 507)
        return RedirectResponse(f"/next?after={item.id}", 303)

    def _again(
        self, request: Request, form: Mapping[str, str], item: Item, text: str, status: int
    ) -> Response:
        """The form as it was sent, with the reason why it was not saved."""
        session, reviewer = self._session(request)
        visit = Visit(session, reviewer or "")
        values = _judgement(form, item, reviewer or "", blind=True)
        return self._item_page(visit, item, values=values, problem=text, status=status)

    def _unsaved(self, form: Mapping[str, str], text: str, status: int) -> Response:
        return self._page("message.html", text=text, form=form, status=status)

    def _item_page(
        self, visit: Visit, item: Item, *, values: Judgement | None, problem: str | None = None,
        status: int = 200,
    ) -> Response:  # fmt: skip
        current = _current(self._store.entries())
        own = current.get(item.id, {}).get(visit.reviewer)
        is_open = self._is_open(current.get(item.id, {}), visit.reviewer)
        others = [each.judgement for name, each in sorted(current.get(item.id, {}).items())
                  if is_open and name != visit.reviewer]  # fmt: skip
        ids = list(self._reviewed.items)
        return self._page(
            "item.html", visit, item=item, chains=sides(item, visit.reviewer), values=values,
            saved=own and own.judgement, seen=own.number if own else 0, problem=problem,
            is_open=is_open, others=others, place=ids.index(item.id) + 1 if item.id in ids else 0,
            num_judged=sum(visit.reviewer in current.get(id, {}) for id in ids), status=status,
            previous=ids[ids.index(item.id) - 1] if item.id in ids[1:] else None,
        )  # fmt: skip

    def _enter_page(self, problem: str | None, *, name: str, status: int) -> Response:
        return self._page(
            "enter.html", problem=problem, name=name, names=self._names, status=status,
            token=self._store.form_token(""),
        )  # fmt: skip

    def _page(
        self, template: str, visit: Visit | None = None, *, status: int = 200, **values: Any
    ) -> Response:
        values.setdefault("token", self._store.form_token(visit.session) if visit else "")
        page = _environment().get_template(template).render(
            title=self._title, reviewer=visit.reviewer if visit else None,
            num_items=len(self._reviewed.items), levels=LEVEL_TEXTS, flags=FLAGS,
            flag_keys=FLAG_KEYS, max_note=MAX_NOTE, max_name=MAX_NAME, equal=EQUAL, **values,
        )  # fmt: skip
        return Response(page.encode("utf-8", "replace"), status, media_type="text/html")

    # --- items ------------------------------------------------------------------------------------

    def _item(self, request: Request) -> Item:
        item = self._reviewed.item(request.path_params["id"])
        if item is None:
            raise HTTPException(404, "The run has no such chain. Go back to the overview.")
        return item

    def _is_open(self, entries: Mapping[str, Entry], reviewer: str) -> bool:
        """Whether a reviewer may see the others' judgements of an item, and its scores."""
        return reviewer in entries and len(entries) >= self._num_reviewers

    def _row(
        self, item: Item, reviewer: str, current: Mapping[str, Mapping[str, Entry]]
    ) -> dict[str, Any]:
        entries = current.get(item.id, {})
        is_open = self._is_open(entries, reviewer)
        shown = [each.judgement for each in entries.values()] if is_open else []
        levels = [each.level for each in shown if each.level is not None]
        verdicts = {each.preferred for each in shown} | {each.is_bad for each in shown}
        own = entries.get(reviewer)
        is_far = bool(levels) and max(levels) - min(levels) >= FAR
        return {"item": item, "own": own and own.judgement, "num_done": len(entries),
                "others": [each for each in shown if each.reviewer != reviewer],
                "differs": is_far or len(verdicts) > 2}  # fmt: skip


def _current(entries: Sequence[Entry]) -> dict[str, dict[str, Entry]]:
    """The last entry of each reviewer, by item."""
    numbers = {id(entry.judgement): entry for entry in entries}
    last = latest(entry.judgement for entry in entries).values()
    items = group_by(last, lambda judgement: judgement.item)
    return {
        item: {judgement.reviewer: numbers[id(judgement)] for judgement in same}
        for item, same in items.items()
    }


def _judgement(form: Mapping[str, str], item: Item, reviewer: str, *, blind: bool) -> Judgement:
    """What a form says; its values may be wrong."""
    level, flags = form.get("level", ""), form.get("flags", "").split()
    is_chain = item.kind == "chain"
    return Judgement(
        kind=item.kind, item=item.id, problem_id=item.chains[0].problem_id, reviewer=reviewer,
        level=int(level) if is_chain and level.isdecimal() else None,
        flags=tuple(flag for flag in FLAGS if is_chain and flag in flags),
        note=form.get("note", "").replace("\r\n", "\n"),
        preferred=None if is_chain else form.get("preferred") or None, blind=blind, at=now(),
    )  # fmt: skip


def _is_same(a: Judgement, b: Judgement) -> bool:
    return (a.level, a.flags, a.note, a.preferred) == (b.level, b.flags, b.note, b.preferred)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; those that occur several times joined by spaces."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"More than {MAX_BODY} bytes; expected a shorter note.")
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=50)
    return {name: " ".join(values) for name, values in fields.items()}


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in ASSETS:
        raise HTTPException(404, "No such file.")
    return Response(asset(name), media_type=ASSETS[name])


def _plain(text: str, status: int) -> Response:
    return Response(text + "\n", status, media_type="text/plain")


@cache
def asset(name: str) -> str:
    """The text of a style or a script."""
    package = "slowthink.stages.report" if name == "page.css" else "slowthink.review"
    return (resources.files(package) / name).read_text("utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("slowthink.review", package_path=""), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(rendered=render, steps=steps)
    version = hashlib.sha256("".join(map(asset, ASSETS)).encode()).hexdigest()[:8]
    environment.globals.update(version=version, pair=PAIR)
    return environment
