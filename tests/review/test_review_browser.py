"""People reviewing in real browsers, over the real command: clicks, keys, restarts, hostile texts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_review import HOSTILE, MATHS_ATTACKS, make_run, make_trace, two_problems

from slowthink.data.reviews import DATABASE, is_name, read_reviews
from slowthink.environment import python_command, python_environment

CHROMIUM = Path("/usr/bin/chromium")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--headless", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
)  # fmt: skip

FOREIGN = "img, iframe, svg, object, embed, video, script:not([src])"
"""Elements that no page of ours has."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}: apt-get install chromium"),
]


class Server:
    """`slowthink review` in a process of its own."""

    def __init__(self, root: Path, *options: str) -> None:
        self.root, self.options = root, options
        self.port = "0"
        self.start()

    def start(self) -> None:
        command = python_command(
            "slowthink.cli.app", "review", str(self.root), "--port", self.port, *self.options
        )
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=python_environment()
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.startswith("http"):
                self.url = line.strip()
                self.port = re.search(r":(\d+)/", line)[1]
                return
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stderr.close()


class Person:
    """Somebody with a browser of their own, and what it said and requested."""

    def __init__(self, browser, server: Server, name: str, **more) -> None:
        self.context = browser.new_context(**more)
        self.server, self.messages, self.requests = server, [], []
        self.page = self.open_tab()
        self.page.goto(server.url)
        self.page.wait_for_selector("[name=name]:focus")
        self.page.fill("[name=name]", name)
        self.page.keyboard.press("Enter")
        self.page.locator(".items, [role=alert]:visible").first.wait_for()

    def open_tab(self):
        page = self.context.new_page()
        page.on("console", lambda message: self.messages.append(message.text))
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        return page

    def items(self) -> list[str]:
        self.page.goto(self.server.url)
        links = self.page.locator(".items a")
        return [link.get_attribute("href") for link in links.all()]

    def open(self, item: str, page=None) -> None:
        (page or self.page).goto(self.server.url.rstrip("/") + item)

    def save(self, page=None, *, key: str | None = None) -> None:
        """Save by a key, else by the button, and wait for the page that follows."""
        page = page or self.page
        with page.expect_navigation():
            page.keyboard.press(key) if key else page.click("#judge button.main")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    api = pytest.importorskip("playwright.sync_api", reason="pip install 'slowthink[dev]'")
    with api.sync_playwright() as player:
        opened = player.chromium.launch(executable_path=str(CHROMIUM), args=list(QUIET))
        yield opened
        opened.close()


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    started = Server(make_run(tmp_path / "run", two_problems()))
    yield started
    started.kill()


def test_two_reviewers_disagree_by_the_keyboard_and_see_it(browser, server) -> None:
    ann, bo = Person(browser, server, "Ann"), Person(browser, server, "Bo")
    items = ann.items()
    for person, level in ((ann, "5"), (bo, "2")):
        person.page.keyboard.press("Enter")  # begin
        person.page.wait_for_url("**/item/*")
        for item in items[:-1]:
            assert person.page.url.endswith(item)
            person.page.keyboard.press(level)
            if level == "2":
                person.page.keyboard.press("g")
                person.page.keyboard.press("n")
                person.page.keyboard.type("a leap, says Bo: 1 s x")
                person.page.keyboard.press("Escape")
            person.save(key="s")
        person.page.keyboard.press("1")
        assert person.page.locator("article").count() == 2, "a pair, side by side"
        person.save(key="s")
        assert person.page.locator("h1").inner_text() == "4 of 4 judged"
    assert "Krippendorff" in bo.page.locator("dl").inner_text()
    assert bo.page.locator(".differs").count() == 4 or bo.page.locator(".differs").count() == 3
    ann.open(items[0])
    assert "a leap, says Bo: 1 s x" in ann.page.locator(".kept.other").inner_text()
    assert "secret-teacher" in ann.page.locator(".revealed").inner_text()
    judged = read_reviews(server.root / DATABASE)
    assert [(each.reviewer, each.level) for each in judged if each.kind == "chain"] == [
        ("Ann", 5)] * 3 + [("Bo", 2)] * 3  # fmt: skip
    assert {each.flags for each in judged if each.reviewer == "Bo" and each.level} == {("gap",)}
    assert ann.messages == bo.messages == []


def test_a_reload_and_a_restart_in_the_middle_lose_nothing(browser, server) -> None:
    ann = Person(browser, server, "Ann")
    item = ann.items()[0]
    ann.open(item)
    ann.page.keyboard.press("3")
    ann.page.keyboard.press("u")
    ann.page.fill("[name=note]", "half a thought")
    ann.page.reload()
    assert "in the form again; it is not saved" in ann.page.locator("#draft").inner_text()
    assert ann.page.input_value("[name=note]") == "half a thought"
    server.kill()
    server.start()
    ann.page.fill("[name=note]", "a thought")
    ann.save()
    ann.open(item)
    assert ann.page.locator("#draft").is_hidden()
    (judged,) = read_reviews(server.root / DATABASE)
    assert (judged.level, judged.flags, judged.note) == (3, ("unclear",), "a thought")


def test_what_is_sent_while_the_server_is_gone_is_in_the_form_again(browser, server) -> None:
    ann = Person(browser, server, "Ann")
    item = ann.items()[0]
    ann.open(item)
    ann.page.keyboard.press("4")
    ann.page.fill("[name=note]", "to nobody")
    server.kill()
    ann.page.click("#judge button.main", no_wait_after=True)
    ann.page.wait_for_selector("#main-frame-error")
    server.start()
    ann.open(item)
    assert ann.page.input_value("[name=note]") == "to nobody"
    assert ann.page.is_checked("[name=level][value='4']")


def test_a_stale_tab_shows_both_judgements(browser, server) -> None:
    ann = Person(browser, server, "Ann")
    item = ann.items()[0]
    other = ann.open_tab()
    for page in (ann.page, other):
        ann.open(item, page)
    ann.page.fill("[name=note]", "of this tab")
    ann.page.locator("[name=level][value='2']").check()
    ann.save()
    other.fill("[name=note]", "of the stale tab")
    other.locator("[name=level][value='5']").check()
    ann.save(other)
    assert "judged this meanwhile" in other.locator("#problem").inner_text()
    assert other.input_value("[name=note]") == "of the stale tab"
    assert "of this tab" in other.locator(".kept").inner_text()
    ann.save(other)
    notes = [each.note for each in read_reviews(server.root / DATABASE)]
    assert notes == ["of this tab", "of the stale tab"]


def test_a_second_person_of_one_name_is_refused_until_the_first_leaves(browser, server) -> None:
    ann, second = Person(browser, server, "Ann"), Person(browser, server, "Ann")
    assert (
        "reviewing in another browser" in second.page.locator("[role=alert]:visible").inner_text()
    )
    ann.page.click("text=Leave")
    ann.page.wait_for_selector("[name=name]")
    second.page.click("button.main")
    second.page.wait_for_selector(".items")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390], ids=["wide", "phone"])
def test_pages_fit_their_window(browser, tmp_path, width, scheme) -> None:
    long = make_trace(
        "W" * 500, "w" * 5_000 + "\n\n$" + "+x" * 190 + "$", response="$$" + "x+" * 300 + "y$$"
    )
    server = Server(make_run(tmp_path / "run", [long, *two_problems()]))
    try:
        ann = Person(
            browser, server, "A" * 40, viewport={"width": width, "height": 800}, color_scheme=scheme
        )
        for item in ("", *ann.items()):
            ann.open(item)
            for _ in range(2):
                assert ann.page.evaluate(
                    "document.documentElement.scrollWidth <= window.innerWidth"
                )
                ann.page.keyboard.press("o")
            if item and width > 900:
                button = ann.page.locator("button.main").bounding_box()
                assert button["y"] + button["height"] <= 800, "what saves is on the first screen"
        assert ann.messages == []
    finally:
        server.kill()


def test_hostile_texts_are_inert_and_shown_as_they_are(browser, tmp_path) -> None:
    """In questions, chains, answers, notes and names: nothing runs, nothing is requested."""
    assert len(HOSTILE) >= 50
    root = make_run(tmp_path / "run", [
        make_trace(text, f"{text} thinks", response=text) for text in (*HOSTILE, *MATHS_ATTACKS)
    ])  # fmt: skip
    server = Server(root, "--reviewers", "1")
    try:
        ann = Person(browser, server, "<img src=x onerror=window.hacked=1>")
        assert ann.page.locator(".who .name").inner_text() == "<img src=x onerror=window.hacked=1>"
        shown: dict[str, str] = {}
        items = ann.items()
        ann.open(items[0])
        for item in items:
            question = ann.page.locator(".problem .text").text_content()
            if ann.page.locator("math").count() == 0:
                thinking = "".join(ann.page.locator(".passage .text").all_text_contents())
                assert thinking == f"{question} thinks"
                assert ann.page.locator(".response .text").text_content() == question
            ann.page.locator("[name=level][value='3']").check()
            ann.page.fill("[name=note]", question)
            assert ann.page.evaluate("window.hacked") is None
            shown[item] = question
            ann.save()
        for item, question in shown.items():
            ann.open(item)
            assert ann.page.input_value("[name=note]") == question
            assert ann.page.locator(".said").text_content() == question
            assert ann.page.evaluate("window.hacked") is None
            assert ann.page.locator(FOREIGN).count() == 0
        assert set(shown.values()) >= set(HOSTILE)
        for name in [text for text in HOSTILE if is_name(text)][::6]:
            person = Person(browser, server, name)
            assert person.page.locator(".who .name").inner_text() == name
            assert person.page.evaluate("window.hacked") is None
            person.context.close()
        origin = server.url.rstrip("/")
        assert {url for url in ann.requests if not url.startswith((origin, "data:,"))} == set()
        assert ann.messages == [], "nothing was even stopped by the policy"
    finally:
        server.kill()


def test_the_policy_stops_what_passed_the_escaping(browser, server) -> None:
    ann = Person(browser, server, "Ann")
    ann.page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked=1\">')"
    )
    ann.page.wait_for_timeout(200)
    assert ann.page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in text for text in ann.messages)


def test_a_wider_address_has_a_token(browser, tmp_path) -> None:
    server = Server(make_run(tmp_path / "run", two_problems()), "--host", "0.0.0.0")
    try:
        token = re.search(r"\?token=([\w-]{32})$", server.url)[1]
        page = browser.new_page()
        assert page.goto(f"http://127.0.0.1:{server.port}/").status == 403
        page.goto(f"http://127.0.0.1:{server.port}/?token={token}")
        assert "token" not in page.url and page.locator("[name=name]").count() == 1
        page.close()
    finally:
        server.kill()
