"""The web application: pages of items, and their forms.

    app = ReviewPages(store, reviewed, num_reviewers=2).app()     # Starlette; served by `server`

The forms work without the script. What was typed is never lost: a form that cannot be saved is
shown again as it was sent, with the reason.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import parse_qs

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
    Judgement,
    is_name,
    latest,
    now,
    problem_of,
)
from slowthink.errors import SlowthinkError
from slowthink.review.chains import Item, ReviewSet, sides
from slowthink.review.guard import Guard
from slowthink.review.store import SEAT_SECONDS, Changed, ReviewStore, Taken
from slowthink.review.summary import FAR, summarise
from slowthink.review.text import render, steps

MAX_BODY = 200_000
"""Bytes of a form."""
LEVEL_TEXTS = {
    5: "well organised, clear explanations, rigorous self-verification",
    4: "well structured, slightly less checking",
    3: "reasonable organisation, skips some crucial leaps",
    2: "abbreviated reasoning, little explanation",
    1: "lists basic steps, rarely any verification",
}
"""LIMO v1's levels (arXiv 2502.03387v1), best first."""
FLAG_KEYS = dict(zip(FLAGS, "xegrul", strict=True))
ASSETS = {"page.css": "text/css", "review.css": "text/css", "review.js": "text/javascript"}
"""`page.css` is the report's."""
ENDED = "Your session has ended. Enter again in another tab, then send this form; nothing is lost."
GONE = "The run has no such chain any more: its traces were made anew. Your text is below, to copy."
ANEW = "You have entered anew since this page was made. Check it and save again."
MEANWHILE = (
    "Not saved: you have judged this meanwhile, in another tab. Your new judgement is in the form, "
    "the saved one below it. Save again to replace it."
)


@dataclass(frozen=True)
class Visit:
    """A reviewer who has entered."""

    session: str
    reviewer: str


class Judged:
    """The last judgements of each item, by reviewer."""

    def __init__(self, judgements: Iterable[Judgement]) -> None:
        self._items: dict[str, dict[str, Judgement]] = {}
        for (item, reviewer), judgement in sorted(latest(judgements).items()):
            self._items.setdefault(item, {})[reviewer] = judgement

    def of(self, item: str) -> Mapping[str, Judgement]:
        """The judgements of an item, by reviewer."""
        return self._items.get(item, {})


class ReviewPages:
    """The pages over one store and one set of items."""

    def __init__(
        self, store: ReviewStore, reviewed: ReviewSet, *, title: str = "review",
        num_reviewers: int = 2, names: Sequence[str] = (), key: str | None = None,
    ) -> None:  # fmt: skip
        """`names`: those that may enter; any if empty. `key`: see `Guard`."""
        self._store = store
        self._reviewed = reviewed
        self._title = title
        self._num_reviewers = num_reviewers
        self._names = names
        self._cookie = "review-" + store.form_token("cookie")[:8]  # not another port's
        self._guard = Guard(key, cookie=f"{self._cookie}-key")

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
            exception_handlers={HTTPException: self._error, SlowthinkError: self._error},
        )

    async def _error(self, request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return self._page("message.html", text=error.detail, status=error.status_code)
        return self._page("message.html", text=str(error), status=500)

    # --- who --------------------------------------------------------------------------------------

    def _visit(self, request: Request) -> Visit | None:
        session = request.cookies.get(self._cookie, "")
        reviewer = self._store.reviewer_of(session) if session else None
        return Visit(session, reviewer) if reviewer else None

    async def _enter(self, request: Request) -> Response:
        form = await _form(request)
        if not self._is_ours(form, ""):
            raise HTTPException(403, "A form of another page; open the first page again.")
        name = unicodedata.normalize("NFC", form.get("name", "").strip())
        problem, session = None, ""
        if not is_name(name):
            problem = f"A name has 1 to {MAX_NAME} visible characters."
        elif self._names and name not in self._names:
            problem = f"{name} was not named at the start; take one of the names in the list."
        else:
            try:
                session = self._store.enter(name)
            except Taken:
                problem = (
                    f"{name} is reviewing in another browser. Leave there first, or take another "
                    f"name; it is free {SEAT_SECONDS} seconds after that page is closed."
                )
        if problem:
            return self._enter_page(problem, name=name, status=409)
        response = RedirectResponse("/", 303)
        response.set_cookie(self._cookie, session, httponly=True, samesite="lax", max_age=2_592_000)
        return response

    async def _leave(self, request: Request) -> Response:
        session = request.cookies.get(self._cookie, "")
        if not self._is_ours(await _form(request), session):
            raise HTTPException(403, "A form of another session; open the page again.")
        self._store.leave(session)
        response = RedirectResponse("/", 303)
        response.delete_cookie(self._cookie)
        return response

    async def _alive(self, request: Request) -> Response:
        """The sign of an open page that keeps the reviewer's seat."""
        return Response(status_code=204 if self._visit(request) else 401)

    def _is_ours(self, form: Mapping[str, str], session: str) -> bool:
        """Whether a form has the token of this session's pages."""
        expected = self._store.form_token(session)
        return hmac.compare_digest(form.get("token", "").encode(), expected.encode())

    # --- pages ------------------------------------------------------------------------------------

    async def _overview(self, request: Request) -> Response:
        visit = self._visit(request)
        if visit is None:
            return self._enter_page(None, name="", status=200)
        judgements = self._store.judgements()
        judged = Judged(judgements)
        rows = [self._row(item, visit.reviewer, judged) for item in self._reviewed.items.values()]
        figures = None
        if all(row["own"] for row in rows):
            num = self._num_reviewers
            figures = summarise(self._reviewed, judgements, num_reviewers=num)
        return self._page("overview.html", visit, rows=rows, figures=figures)

    def _row(self, item: Item, reviewer: str, judged: Judged) -> dict[str, Any]:
        """An item's line in the overview."""
        others = self._visible_others(item, reviewer, judged)
        own = judged.of(item.id).get(reviewer)
        shown = [own, *others] if own and others else []
        levels = [each.level for each in shown if each.level is not None]
        differs = len({(each.is_bad, each.preferred) for each in shown}) > 1
        return {
            "item": item, "own": own, "others": others, "num_done": len(judged.of(item.id)),
            "differs": differs or (bool(levels) and max(levels) - min(levels) >= FAR),
        }  # fmt: skip

    async def _next(self, request: Request) -> Response:
        """The first item after `after` that the reviewer has not judged; else the overview."""
        visit, judged = self._visit(request), Judged(self._store.judgements())
        ids, after = list(self._reviewed.items), request.query_params.get("after")
        start = ids.index(after) + 1 if after in ids else 0
        for id in ids[start:] + ids[:start]:
            if visit and visit.reviewer not in judged.of(id):
                return RedirectResponse(f"/item/{id}", 303)
        return RedirectResponse("/", 303)

    async def _show(self, request: Request) -> Response:
        visit, item = self._visit(request), self._reviewed.item(request.path_params["id"])
        if visit is None:
            return RedirectResponse("/", 303)
        if item is None:
            raise HTTPException(404, "The run has no such chain. Go back to the overview.")
        return self._item_page(visit, item)

    async def _save(self, request: Request) -> Response:
        form, visit = await _form(request), self._visit(request)
        item = self._reviewed.item(request.path_params["id"])
        if visit is None or item is None:
            text, status = (GONE, 409) if visit else (ENDED, 401)
            return self._page("message.html", text=text, form=form, status=status)
        judged = Judged(self._store.judgements())
        is_blind = not self._is_open(item, visit.reviewer, judged)
        judgement = _judgement(form, item, visit.reviewer, blind=is_blind)
        problem, status = problem_of(judgement), 422
        if not self._is_ours(form, visit.session):
            problem, status = ANEW, 409  # sent again, it has this session's token
        elif not problem and not _is_same(judgement, judged.of(item.id).get(visit.reviewer)):
            try:
                self._store.add(judgement, seen=_number(form.get("seen", "")))
            except Changed:
                problem, status = MEANWHILE, 409
            except SlowthinkError as error:
                problem, status = f"Not saved. {error}", 507
        if problem:
            return self._item_page(visit, item, sent=judgement, problem=problem, status=status)
        return RedirectResponse(f"/next?after={item.id}", 303)

    def _item_page(
        self, visit: Visit, item: Item, *, sent: Judgement | None = None,
        problem: str | None = None, status: int = 200,
    ) -> Response:  # fmt: skip
        """An item with its form: as it was sent, else as it was saved."""
        judged, ids = Judged(self._store.judgements()), list(self._reviewed.items)
        saved = judged.of(item.id).get(visit.reviewer)
        place = ids.index(item.id) + 1 if item.id in ids else 0
        return self._page(
            "item.html", visit, item=item, chains=sides(item, visit.reviewer), saved=saved,
            values=sent or saved, seen=self._store.last_number(item.id, visit.reviewer),
            problem=problem, status=status, is_open=self._is_open(item, visit.reviewer, judged),
            others=self._visible_others(item, visit.reviewer, judged), place=place,
            num_judged=sum(visit.reviewer in judged.of(id) for id in ids),
            previous=ids[place - 2] if place > 1 else None,
        )  # fmt: skip

    def _enter_page(self, problem: str | None, *, name: str, status: int) -> Response:
        token = self._store.form_token("")
        return self._page("enter.html", problem=problem, name=name, names=self._names,
                          token=token, status=status)  # fmt: skip

    def _page(
        self, template: str, visit: Visit | None = None, *, status: int = 200, **values: Any
    ) -> Response:
        values.setdefault("token", self._store.form_token(visit.session) if visit else "")
        page = _environment().get_template(template).render(
            title=self._title, reviewer=visit.reviewer if visit else None,
            num_items=len(self._reviewed.items), **values,
        )  # fmt: skip
        return Response(page.encode("utf-8", "replace"), status, media_type="text/html")

    # --- what is blind ----------------------------------------------------------------------------

    def _is_open(self, item: Item, reviewer: str, judged: Judged) -> bool:
        """Whether a reviewer may see the scores of an item, and what others say: once enough people
        have judged it and all items with one of its chains, and the reviewer too."""
        together = {*self._reviewed.with_chains_of(item), item.id}
        return all(
            reviewer in judged.of(id) and len(judged.of(id)) >= self._num_reviewers
            for id in together
        )

    def _visible_others(self, item: Item, reviewer: str, judged: Judged) -> list[Judgement]:
        if not self._is_open(item, reviewer, judged):
            return []
        return [each for name, each in judged.of(item.id).items() if name != reviewer]


def _judgement(form: Mapping[str, str], item: Item, reviewer: str, *, blind: bool) -> Judgement:
    """What a form says; its values may be wrong."""
    is_chain, flags = item.kind == "chain", form.get("flags", "").split()
    level = form.get("level", "")
    return Judgement(
        kind=item.kind, item=item.id, problem_id=item.chains[0].problem_id, reviewer=reviewer,
        level=_number(level) if is_chain and level else None,
        flags=tuple(flag for flag in FLAGS if is_chain and flag in flags),
        note=form.get("note", "").replace("\r\n", "\n"),
        preferred=None if is_chain else form.get("preferred") or None, blind=blind, at=now(),
    )  # fmt: skip


def _number(text: str) -> int:
    """The number that a text is; 0 for any other."""
    return int(text) if text.isdecimal() and len(text) < 18 else 0


def _is_same(a: Judgement, b: Judgement | None) -> bool:
    said = (a.level, a.flags, a.note, a.preferred)
    return b is not None and said == (b.level, b.flags, b.note, b.preferred)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; those that occur several times joined by spaces."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"More than {MAX_BODY} bytes; expected a shorter note.")
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), True, max_num_fields=50)
    except ValueError as error:
        raise HTTPException(400, f"{error}; expected a form of these pages.") from None
    return {name: " ".join(values) for name, values in fields.items()}


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in ASSETS:
        raise HTTPException(404, "No such file.")
    return Response(asset(name), media_type=ASSETS[name])


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
    environment.globals.update(
        version=version, levels=LEVEL_TEXTS, flags=FLAGS, flag_keys=FLAG_KEYS, equal=EQUAL,
        max_note=MAX_NOTE, max_name=MAX_NAME,
    )  # fmt: skip
    return environment
