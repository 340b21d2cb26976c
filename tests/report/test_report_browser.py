"""The page in a real browser: silent, self-contained, narrow enough, with working filters."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_pool import CHINESE, EXAM, IMAGE
from made_run import HOSTILE

from slowthink.stages.report.compare import compare, open_pair
from slowthink.stages.report.compare_page import write_page

CHROMIUM = Path("/usr/bin/chromium")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--headless", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
)  # fmt: skip

UNASSIGNED = ("\u0378", "\U0003fffd")
"""Code points without a character: a missing glyph looks the same."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}: apt-get install chromium"),
]


class Visit:
    """A page opened in the browser, with its console messages and its requests."""

    def __init__(self, page, url: str) -> None:
        self.page, self.url = page, url
        self.messages: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.messages.append(message.text))
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(url)

    def verdicts(self) -> set[str]:
        return set(self.page.locator("#list .verdict").all_inner_texts())


@pytest.fixture(scope="module")
def browser() -> Iterator:
    api = pytest.importorskip("playwright.sync_api", reason="pip install 'slowthink[dev]'")
    with api.sync_playwright() as player:
        opened = player.chromium.launch(executable_path=str(CHROMIUM), args=list(QUIET))
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, whole_run, request) -> Iterator[Visit]:
    width, scheme = getattr(request, "param", (1100, "light"))
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    yield Visit(page, (whole_run / "report" / "report.html").as_uri())
    page.close()


@pytest.mark.parametrize(
    "visit", [(1100, "light"), (1100, "dark"), (360, "light"), (360, "dark")],
    indirect=True, ids=["light", "dark", "phone", "dark phone"],
)  # fmt: skip
def test_page_is_silent_alone_and_fits_its_window(visit):
    visit.page.evaluate(
        "for (const details of document.querySelectorAll('details')) details.open = true"
    )
    visit.page.locator("#list .body").nth(3).wait_for(state="attached")
    assert visit.messages == []
    assert visit.requests == [visit.url]
    assert visit.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("width", [1280, 390], ids=["wide", "phone"])
def test_comparison_is_silent_alone_and_fits_its_window(browser, whole_run, tmp_path, width):
    pair = open_pair(whole_run, whole_run)
    path = write_page(pair, compare(pair), tmp_path / "compare.html")
    page = browser.new_page(viewport={"width": width, "height": 800})
    visit = Visit(page, path.as_uri())
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    assert (visit.messages, visit.requests) == ([], [visit.url])
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate("window.hacked") is None and page.locator("img, .hostile").count() == 0
    page.close()


LONG_WORDS = """() => {
  for (const details of document.querySelectorAll('details')) details.open = true;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), wide = [];
  const nodes = [];
  while (walker.nextNode()) nodes.push(walker.currentNode);
  for (const node of nodes) {
    const text = node.textContent, parent = node.parentElement;
    if (!text.trim() || ['SCRIPT', 'STYLE'].includes(parent.tagName)) continue;
    node.textContent = 'w'.repeat(5000);
    if (document.documentElement.scrollWidth > window.innerWidth) wide.push(parent.outerHTML);
    node.textContent = text;
  }
  return wide.map((html) => html.slice(0, 120));
}"""
"""Puts a word of 5,000 characters in place of each text in turn; where the page is then too wide."""


@pytest.mark.parametrize("width", [1100, 360], ids=["wide", "phone"])
def test_no_long_word_widens_a_page(browser, whole_run, pool_run, tmp_path, width):
    pair = open_pair(whole_run, whole_run)
    compared = write_page(pair, compare(pair), tmp_path / "compare.html")
    for path in (*(run / "report" / "report.html" for run in (whole_run, pool_run)), compared):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto(path.as_uri())
        assert page.evaluate(LONG_WORDS) == []
        page.close()


def fonts_for(language: str) -> str:
    """The fonts that fontconfig lists for a language; empty without fontconfig."""
    if shutil.which("fc-list") is None:
        return ""
    listed = subprocess.run(["fc-list", f":lang={language}"], capture_output=True, text=True)
    return listed.stdout.strip()


def drawn(page, text: str) -> bytes:
    """A screenshot of a short text in the font of the page."""
    page.locator("h1").evaluate("(heading, text) => { heading.textContent = text }", text)
    return page.locator("h1").screenshot()


@pytest.mark.skipif(not fonts_for("zh"), reason="no Chinese font: apt-get install fonts-noto-cjk")
@pytest.mark.parametrize("width", [1100, 360], ids=["wide", "phone"])
def test_chinese_of_the_pool_is_drawn_and_fits(browser, pool_run, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    visit = Visit(page, (pool_run / "report" / "report.html").as_uri())
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    for text in (IMAGE, CHINESE[0], EXAM["chinese"]):
        page.locator(".question", has_text=text).first.wait_for(state="visible")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate("window.hacked") is None and page.locator("img, .hostile").count() == 0
    box, other_box = (drawn(page, char) for char in UNASSIGNED)
    number, other = drawn(page, "数"), drawn(page, "学")
    assert number == drawn(page, "数") and len({number, other, box, other_box}) >= 3
    assert number not in (box, other_box) and other not in (box, other_box)
    assert (visit.messages, visit.requests) == ([], [visit.url])
    page.close()


def test_sets_can_be_filtered_too(visit):
    visit.page.select_option("[name=set]", "aime24 · limo-v2")
    metas = visit.page.locator("#list .meta").all_inner_texts()
    assert metas and all(text.startswith("aime24 · limo-v2 · ") for text in metas)


def test_hostile_text_is_inert_and_shown_as_text(visit):
    visit.page.evaluate(
        "for (const details of document.querySelectorAll('details')) details.open = true"
    )
    visit.page.wait_for_selector("#list .body")
    assert visit.page.evaluate("window.hacked") is None
    assert visit.page.locator("img, .hostile").count() == 0
    assert HOSTILE in visit.page.locator("#list").inner_text()


def test_policy_stops_a_script_that_passed_the_escaping(visit):
    visit.page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked=1\">')"
    )
    visit.page.wait_for_timeout(200)
    assert visit.page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in text for text in visit.messages)


def test_filters_narrow_the_transcripts_together(visit):
    page = visit.page
    assert page.locator("#tally").inner_text() == "16 of 16 transcripts"
    page.select_option("[name=verdict]", "wrong")
    assert visit.verdicts() == {"✗ wrong"}
    page.select_option("[name=arm]", "tuned")
    assert page.locator("#tally").inner_text() == "4 of 16 transcripts"
    assert all("tuned" in text for text in page.locator("#list .meta").all_inner_texts())
    page.click("button[type=reset]")
    page.locator("#tally", has_text="16 of 16 transcripts").wait_for()


def test_point_and_domain_filters_show_matching_rows(visit):
    page = visit.page
    page.select_option("[name=point]", "free, ≤ 96 tokens")
    metas = page.locator("#list .meta").all_inner_texts()
    assert metas and all("free, ≤ 96 tokens" in text for text in metas)
    page.select_option("[name=point]", "")
    page.select_option("[name=domain]", "数论 <b>")
    metas = page.locator("#list .meta").all_inner_texts()
    assert metas and all("数论 <b>" in text for text in metas)


def test_search_finds_text_inside_the_thinking(visit):
    page = visit.page
    page.fill("[name=text]", "再检查")
    assert 0 < page.locator("#list details").count() < 16
    page.fill("[name=text]", "no such words")
    assert page.locator("#tally").inner_text() == "0 of 16 transcripts"


def test_only_forced_text_is_marked(visit):
    page = visit.page
    page.select_option("[name=point]", "≤ 128 tokens + 2 waits")
    page.locator("#list summary").first.click()
    page.wait_for_selector("#list mark")
    marks = page.locator("#list mark").evaluate_all(
        "all => all.map(mark => [mark.title, mark.lastChild.previousSibling.textContent])"
    )
    assert marks == [["forced wait", "Wait"], ["forced end of thinking", "Final Answer:"]]


def test_transcript_opens_from_the_keyboard(visit):
    page = visit.page
    page.locator("#list summary").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#list .body")
    assert page.locator("#list details").first.evaluate("details => details.open")


def test_picture_opens_by_itself(browser, whole_run):
    page = browser.new_page()
    page.goto((whole_run / "report" / "curve.svg").as_uri())
    assert page.evaluate("document.documentElement.tagName") == "svg"
    page.close()


@pytest.mark.parametrize("visit", [(390, "light"), (390, "dark")], indirect=True)
def test_a_phone_shows_the_accuracy_first_and_that_tables_go_on(visit):
    accuracy = visit.page.locator(".card.lead .big").bounding_box()
    assert accuracy["y"] + accuracy["height"] < 400, "on the first screen, below a one-line menu"
    table = visit.page.locator("#set-1 .scroll").first
    column = table.locator("thead th", has_text="Accuracy").bounding_box()
    assert column["x"] + column["width"] < 390, "without scrolling"
    assert "gradient" in table.evaluate("e => getComputedStyle(e).backgroundImage")
