"""The HTML: what it says, what it leaves out, and that no text from data becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_run import CHINESE, HOSTILE, evaluation_rows, make_run, recipe

from slowthink.evaluate.summary import summarise
from slowthink.report import render

REQUESTING = {"src", "href", "srcset", "action", "data", "poster", "xlink:href", "formaction"}


class Reader(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] not in ("script", "style"):
            self.text += data

    def sections(self) -> list[str | None]:
        return [attributes.get("id") for tag, attributes in self.tags if tag == "section"]


def read(html: str) -> Reader:
    return Reader(html)


def words(html: str) -> str:
    return " ".join(read(html).text.split())


def made(root: Path, *, violations: int = 0, arms: tuple[str, ...] = ("base", "tuned"), **changes):
    folder = make_run(root, made=recipe(**changes), violations=violations, arms=arms)
    return (folder / "report.html").read_text("utf-8")


def test_page_gives_the_difference_with_its_interval_and_n(page):
    assert "20.0% → to 80.0%" in words(page)
    assert "+60.0 points, paired 95 % interval 41.0 to 77.0, n = 20 problems." in words(page)


def test_page_has_every_section_of_a_whole_run(page):
    assert read(page).sections() == [
        "result", "curve", "points", "domains", "funnel", "selection", "training", "transcripts",
        "run",
    ]  # fmt: skip


def test_every_link_of_the_navigation_has_its_section(page):
    tags = read(page).tags
    targets = {attributes["href"][1:] for tag, attributes in tags if tag == "a"}
    assert targets <= {attributes.get("id") for _, attributes in tags}


def test_evaluate_only_run_leaves_the_other_sections_out(tmp_path):
    html = made(
        tmp_path, arms=("tuned",), pool=None, filter=None, trace=None, select=None, train=None
    )
    assert read(html).sections() == ["result", "curve", "points", "domains", "transcripts", "run"]
    assert "95 % interval 70.0 to 90.0, n = 20 problems; ≤ 128 tokens + 2 waits." in words(html)


def test_run_without_evaluation_shows_its_funnel_and_needs_no_script(tmp_path):
    html = made(tmp_path, evaluate=None, train=None)
    assert read(html).sections() == ["funnel", "selection", "run"]
    assert "script" not in {tag for tag, _ in read(html).tags}


def test_budget_violations_are_loud(tmp_path, page):
    html = made(tmp_path, violations=3)
    assert "3 budget violations." in words(html)
    assert ("p", {"class": "banner alarm", "role": "alert"}) in read(html).tags
    assert "banner alarm" not in page.partition("<body>")[2]


def test_interval_that_holds_zero_is_called_no_difference(tmp_path, page):
    root = tmp_path / "run"
    folder = make_run(root)
    manifest = json.loads((root / "evaluate" / "manifest.json").read_text())
    manifest["facts"]["summary"]["difference_ci95"] = [-0.1, 0.2]
    (root / "evaluate" / "manifest.json").write_text(json.dumps(manifest))
    html = render(root, folder).read_text("utf-8")
    assert "interval −10.0 to 20.0" in words(html) and "no difference is shown" in words(html)
    assert "no difference is shown" not in words(page)


def test_funnel_shows_counts_reasons_and_examples(page):
    text = words(page)
    assert "filter 30 →to 24" in text and "quality 30 →to 24" in text
    assert "image & link 6" in text and "not JSON 1" in text
    assert "20 of these are held out for evaluation" in text
    assert "not drawn 12" in text and "Nothing dropped by: choose." in text


def test_every_figure_of_a_point_stands_beside_n_and_interval(page):
    rows = re.findall(r"<tr class=\"strong\">.*?</tr>", page, re.DOTALL)
    cells = [" ".join(read(row).text.split()) for row in rows]
    assert cells[0].startswith("base free, ≤ 96 tokens 20 20.0% 10.0 to 30.0 86.4")
    assert cells[1].startswith("tuned ≤ 128 tokens + 2 waits 20 80.0% 70.0 to 90.0 117.2")


def test_domains_have_wilson_intervals(page):
    assert "40.0% 16.8 to 68.7, n = 10" in words(page)


def test_chinese_text_is_kept_as_it_is(tmp_path):
    page = made(tmp_path, report={"num_transcripts": 200})
    assert CHINESE in page and "让我再检查一遍" in page and "数论" in page


def test_hostile_text_never_becomes_markup(page):
    tags = [tag for tag, _ in read(page).tags]
    assert "img" not in tags and "b" not in tags and "i" not in tags
    assert tags.count("script") == 2
    assert HOSTILE not in page


def test_transcripts_survive_their_embedding(page, whole_run):
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    rows = json.loads(block.group(1))
    assert rows == json.loads((whole_run / "report" / "report.json").read_text())["transcripts"]
    assert any(HOSTILE in row["question"] for row in rows)


def test_nothing_on_the_page_can_ask_for_anything(page):
    for _, attributes in read(page).tags:
        for name in REQUESTING & set(attributes):
            assert attributes[name].startswith(("#", "data:,"))
        assert not any(name.startswith("on") or name == "style" for name in attributes)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL).group(1)
    assert "url(" not in style and "@import" not in style


@pytest.mark.parametrize(
    ("tag", "directive"), [("script", "script-src"), ("style", "style-src")], ids=str
)
def test_policy_admits_the_pages_own_text_and_no_other(page, tag, directive):
    content = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[-1]
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    policy = next(
        attributes["content"]
        for _, attributes in read(page).tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert f"{directive} 'sha256-{digest}'" in policy and "default-src 'none'" in policy


def test_every_control_and_table_has_a_name(page):
    tags = read(page).tags
    regions = [attributes for _, attributes in tags if attributes.get("role") == "region"]
    assert regions and all(region["aria-label"] for region in regions)
    assert page.count("<table>") == page.count("<caption>")
    pictures = [attributes for tag, attributes in tags if attributes.get("role") == "img"]
    assert pictures and all(picture["aria-label"] for picture in pictures)


def test_page_takes_what_the_evaluate_stage_sums_up(tmp_path):
    arms = recipe().evaluate.arms
    rows = list(evaluation_rows("base", "tuned"))
    found = summarise(rows, arms, num_resamples=100, seed=0)
    root = tmp_path / "run"
    folder = make_run(root)
    manifest = json.loads((root / "evaluate" / "manifest.json").read_text())
    manifest["facts"]["summary"] = found
    (root / "evaluate" / "manifest.json").write_text(json.dumps(manifest))
    html = render(root, folder).read_text("utf-8")
    assert "35.0% → to 35.0%" in words(html) and "n = 20 problems" in words(html)
    assert html.count('<tr class="strong">') == 2
    assert read(html).sections()[:4] == ["result", "curve", "points", "domains"]
