"""The HTML: its sections and figures, and that no text from data becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_run import CHINESE, HOSTILE, evaluation_rows, make_run, old_summary, recipe

from slowthink.stages.report import render

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


@lru_cache(maxsize=4)
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
        "result", "sets", "set-1", "set-2", "averages", "parallel", "key-review", "judge", "funnel",
        "difficulty",
        "selection", "training", "transcripts", "run",
    ]  # fmt: skip


def test_every_link_of_the_navigation_has_its_section(page):
    tags = read(page).tags
    targets = {attributes["href"][1:] for tag, attributes in tags if tag == "a"}
    assert targets <= {attributes.get("id") for _, attributes in tags}


def test_evaluate_only_run_leaves_the_other_sections_out(tmp_path):
    html = made(
        tmp_path, arms=("tuned",), pool=None, filter=None, trace=None, select=None, train=None
    )
    assert not {"funnel", "selection", "training"} & set(read(html).sections())
    assert "95 % interval 70.0 to 90.0, n = 20 problems; ≤ 128 tokens + 2 waits." in words(html)


def test_run_without_evaluation_shows_its_funnel_and_needs_no_script(tmp_path):
    html = made(tmp_path, evaluate=None, train=None)
    assert read(html).sections() == ["funnel", "difficulty", "selection", "run"]
    assert "script" not in {tag for tag, _ in read(html).tags}


def test_budget_violations_raise_an_alert(tmp_path, page):
    html = made(tmp_path, violations=3)
    assert "3 budget violations." in words(html)
    assert ("p", {"class": "banner alarm", "role": "alert"}) in read(html).tags
    assert "banner alarm" not in page.partition("<body>")[2]


@pytest.fixture
def with_summary(whole_run, tmp_path) -> Callable[[dict], str]:
    """Render the page of the made run with another summary of its evaluate stage."""

    def with_summary(summary: dict) -> str:
        root = tmp_path / "changed"
        shutil.copytree(whole_run, root)
        manifest = json.loads((root / "evaluate" / "manifest.json").read_text())
        manifest["facts"]["summary"] = summary
        (root / "evaluate" / "manifest.json").write_text(json.dumps(manifest))
        return render(root, root / "report").read_text("utf-8")

    return with_summary


@pytest.fixture
def rendered(whole_run, with_summary) -> Callable[[Callable[[dict], None]], str]:
    """Render the page of the made run with its summary changed."""

    def rendered(change: Callable[[dict], None]) -> str:
        manifest = json.loads((whole_run / "evaluate" / "manifest.json").read_text())
        change(manifest["facts"]["summary"])
        return with_summary(manifest["facts"]["summary"])

    return rendered


def test_interval_that_includes_zero_is_pointed_out(rendered, page):
    html = rendered(lambda summary: summary.update(difference_ci95=[-0.1, 0.2]))
    lead = "interval −10.0 to 20.0, n = 20 problems. The 95 % interval includes 0: no difference"
    assert lead in words(html) and lead not in words(page)


def test_funnel_shows_counts_reasons_and_examples(page):
    text = words(page)
    assert "filter 30 →to 24" in text and "quality 30 →to 24" in text
    assert "image & link 6" in text and "not JSON 1" in text
    assert "20 of these are held out for evaluation" in text
    assert "not drawn 12" in text and "Steps that dropped nothing: choose." in text


def strong_rows(page: str, number: int) -> list[str]:
    """The shaded rows of one of the page's sets, as text."""
    (part,) = re.findall(rf'<section id="set-{number}".*?</section>', page, re.DOTALL)
    rows = re.findall(r"<tr class=\"strong\">.*?</tr>", part, re.DOTALL)
    return [" ".join(read(row).text.split()) for row in rows]


def test_every_point_has_n_and_interval(page):
    cells = strong_rows(page, 1)
    assert cells[0].startswith("base 20.0% 10.0 to 30.0 free, ≤ 96 tokens 20 86.4 0 5.0% 0.0%")
    assert cells[1].startswith("tuned 80.0% 70.0 to 90.0 ≤ 128 tokens + 2 waits 20 117.2")


def test_each_set_has_its_protocol_and_size(page):
    text = words(page)
    assert "held-out problems greedy: greedy, 1 sample 20 problems." in text
    assert (
        "aime24 limo-v2: T=0.6, 4 samples 30 problems, in domain, from eval/aime24.jsonl." in text
    )
    assert "limo-v2: T=0.6, 4 samples. All measured points" in text


def test_several_samples_have_pass_maj_and_coverage(page):
    rows = strong_rows(page, 2)
    assert "tuned ≤ 96 tokens 4 50.0% 35.0% maj 35.0% 40.0% maj 37.0% 50.0% maj 41.0%" in rows
    assert not any("maj" in row for row in strong_rows(page, 1))


def test_lengths_and_ends_have_their_own_table(page):
    assert any(
        "10th 48.0 · 50th 86.4 · 90th 96.0 5.0 10th 3.0 · 50th 5.0 · 90th 8.0 80.0% 97.0%" in row
        for row in strong_rows(page, 2)
    )


def test_comparison_has_both_p_values_and_the_detectable_difference(page):
    text = words(page)
    assert "+25.0 −5.0 to 50.0, includes 0 0.061 < 0.001 18.7 points" in text
    assert "This set of 20 questions could detect a true difference of 18.7 points or more." in text


def test_headline_uses_the_detectable_difference_of_its_own_points_only(rendered, page):
    lead = "n = 20 problems. This set of 20 questions could detect"
    assert lead in words(page)
    html = rendered(lambda summary: summary["sets"][0]["comparisons"][0]["a_point"].update(
        max_thinking_tokens=32))  # fmt: skip
    assert lead not in words(html)


def test_measures_are_points_per_doubling_with_intervals(page):
    assert "tuned 8 100.0% answers 99.5% +14.8 10.0 to 20.0 +510.0 80.0% 70.0 to 90.0" in words(
        page
    )


def test_elicitation_is_explained_in_words(page):
    text = words(page)
    assert "base solves 25.0% with 4 samples (pass@4), tuned 35.0% with one." in text
    assert "75.0% of that gain (95 % interval 50.0 to 95.0) is on problems" in text


def test_published_figures_are_below_ours_each_with_its_protocol(page):
    text = words(page)
    ours = text.index("ours: tuned ≤ 96 tokens 35.0% 25.0 to 45.0 limo-v2: T=0.6, 4 samples")
    first = text.index("DeepSeek-R1 79.8% (1) unknown 800,000 s1, Table 1 [F, P]")
    assert ours < first < text.index("LIMO v2 63.3% (3) limo-v2 800 limo, v2 main table [P2]")
    assert "F: decoded from the paper's own figures" in text
    assert "budget forcing" not in words(re.findall(r"<figure>.*?</figure>", page, re.DOTALL)[1])


def test_averages_over_the_ten_sets_are_compared_with_the_papers(page, rendered):
    assert "LIMO v2 78.1%" in words(page) and "base limo-v2 LIMO's ten sets 42.0%" in words(page)

    def without_ten(summary):
        summary["averages"] = [row for row in summary["averages"] if row["group"] != "ten"]

    assert "LIMO v2 78.1%" not in words(rendered(without_ten))


def test_doubtful_reference_answers_and_the_judge_are_shown(page):
    text = words(page)
    assert "reference answer 12 models 16 7 of 8 answers, base, tuned · aime24" in text
    assert "90.0% (95 % interval 79.0 to 96.0)" in text
    assert "1 disagreement with the rules" in text and "rules correct judge wrong" in text


def test_parallel_scaling_shows_every_point(page):
    assert "REBASE 8 60.0% 50.0 to 70.0 1,500 50.0 0.0%" in words(page)
    assert "Scorer: kind model, model made/scorer." in words(page)


def test_older_run_renders_without_the_parts_it_lacks(with_summary):
    html = with_summary(old_summary("base", "tuned"))
    assert read(html).sections() == [
        "result", "set-1", "funnel", "difficulty", "selection", "training", "transcripts", "run",
    ]  # fmt: skip
    assert "+60.0 points, paired 95 % interval 41.0 to 77.0" in words(html)


def test_stored_samples_have_no_budget(rendered):
    def stored(summary):
        for arm in summary["sets"][1]["arms"]:
            arm["points"] = arm["points"][:1]
            arm["points"][0] |= {"max_thinking_tokens": 0, "waits": 0, "forced": False}
        summary["sets"][1]["comparisons"] = []

    html = rendered(stored)
    assert "tuned 20.0% 10.0 to 30.0 stored samples 30" in words(html)


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


def test_nothing_on_the_page_can_send_a_request(page):
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


def test_page_accepts_the_summary_of_the_evaluate_stage(with_summary):
    from slowthink.data.load import ProblemSet
    from slowthink.stages.evaluate.summary import Evaluation, summarise

    made = recipe()
    protocols = {"evaluate": made.evaluate.model_dump() | {"protocols": ("greedy", "limo-v2")}}
    made = recipe(**protocols)
    sets = [ProblemSet(name=name, problems=()) for name in ("heldout", "aime24")]
    rows = list(evaluation_rows("base", "tuned"))
    summary = summarise(
        Evaluation(config=made.evaluate, sets=sets, rows=rows, groups={}, seed=0, chat=made.chat)
    )
    html = with_summary(summary)
    assert "35.0% → to 50.0%" in words(html) and "n = 20 problems" in words(html)
    assert {"result", "sets", "set-1", "set-2"} <= set(read(html).sections())
    assert len(strong_rows(html, 1)) >= 2


def test_a_long_list_of_doubtful_answers_is_folded(rendered, page):
    def many(summary: dict) -> None:
        summary["key_review"] = summary["key_review"] * 200

    folded = rendered(many).partition('id="key-review"')[2].partition("</section>")[0]
    assert '<details class="part">' in folded and "Questions" in folded
    short = page.partition('id="key-review"')[2].partition("</section>")[0]
    assert '<details class="part" open>' in short


def test_accuracy_precedes_the_warnings_and_all_other_sections(page):
    body = page.partition("<main")[2]
    assert body.index("Accuracy, base to tuned") < body.index("banner") < body.index('id="funnel"')


def test_stored_samples_have_no_card_about_thinking(rendered):
    def stored(summary: dict) -> None:
        for eval_set in summary["sets"]:
            for arm in eval_set["arms"]:
                for point in arm["points"]:
                    point.update(forced=False, max_thinking_tokens=0)
        for point in (summary["base_point"], summary["tuned_point"]):
            point.update(forced=False, max_thinking_tokens=0)
        summary["curve"] = []

    result = rendered(stored).partition('id="result"')[2].partition("</section>")[0]
    assert "Thinking tokens" not in result and "Budgets" not in result
    assert "stored samples" in result


def test_sentences_of_the_headline_are_parted_by_a_blank(rendered):
    html = rendered(lambda summary: summary.update(difference_ci95=[-0.1, 0.2]))
    assert "no difference is established. This set of 20" in words(html)


def test_checkpoints_are_shown_with_accuracy_and_natural_ends(page: str) -> None:
    text = words(page)
    assert "Checkpoints on 5 development problems" in text
    cells = "".join(text.split("Checkpoints on 5")[1].split())
    assert "101.040.0%12.0to77.075.0%40.5202.020.0%" in cells
    assert "Step 10 is evaluated; the last is step 20." in text
