"""The curation in the page and in `report.json`: funnel, duplicates, contamination, selection."""

from __future__ import annotations

import html as escaping
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_pool import CHINESE, ENGLISH, EXAM, HOSTILE, IMAGE, PLANTED, WRONG_KEY
from made_run import CHINESE as CHINESE_APPLES, make_run, problem

from slowthink.stages.report import problem_columns, render
from slowthink.stages.report.curation import distribution, expected_counts, pass_rate_class
from slowthink.stages.report.data import headline

EMPTY = {
    "lengths": [], "difficulty": [], "duplicates": [], "contamination": [], "key_review": None,
    "score_correlations": [], "behaviour": [], "domain_labels": None, "expected": [], "selection": None, "paper": None,
}  # fmt: skip


@pytest.fixture
def curated(pool_run: Path) -> dict[str, Any]:
    return headline(pool_run)["curation"]


@pytest.fixture
def html(pool_run: Path) -> str:
    return (pool_run / "report/report.html").read_text("utf-8")


def section(html: str, name: str) -> str:
    """The text of one section of the page."""
    (part,) = re.findall(rf'<section id="{name}".*?</section>', html, re.DOTALL)
    return " ".join(escaping.unescape(re.sub(r"<[^>]*>", " ", part)).split())


def test_funnel_shows_the_planted_rows_under_the_rules_that_dropped_them(html: str) -> None:
    text = section(html, "funnel")
    assert "quality: image 13 → to 12 refers to an image 1 " + IMAGE in text
    assert "duplicates: exact 12 → to 11 duplicate question 1 " + PLANTED[2] in text
    assert "duplicates: near 11 → to 10 near duplicate 1 " + PLANTED[1] in text
    assert "contamination: strict 10 → to 8 copy of a problem of exam 2" in text
    assert "difficulty: key in doubt 8 → to 7" in text and CHINESE[-1] in text
    assert "TheoremQA without pictures s1 747 14" in text


def test_clusters_name_the_kept_question_and_the_dropped_ones(
    curated: dict[str, Any], html: str
) -> None:
    exact, near = curated["duplicates"]
    (cluster,) = exact["examples"]
    assert cluster["kept"]["question"] == CHINESE[0]
    assert [member["question"] for member in cluster["members"]] == [PLANTED[2]]
    assert (near["num_clusters"], near["num_dropped"], near["sizes"]) == (1, 1, {"2": 1})
    assert "near duplicates 1 1 2 1 of size 2" in section(html, "duplicates")
    assert f"kept {ENGLISH[2]}" in section(html, "duplicates")


def test_contamination_counts_hits_of_each_set_by_kind_and_marks_what_is_shared(
    curated: dict[str, Any], html: str
) -> None:
    (checked,) = curated["contamination"]
    (exam,) = checked["against"]
    assert (checked["num_checked"], checked["num_dropped"], exam["num_problems"]) == (10, 2, 3)
    assert exam["num_hits"] == {"copy": 2, "template": 1}
    assert exam["example"]["question"] == EXAM["chinese"]
    text = section(html, "contamination")
    assert "2 of 10 questions overlap the 3 test problems and are dropped (preset strict)." in text
    assert "exam 3 2 20.0% 1 10.0%" in text
    assert "<mark>甲乙两地相距 480 千米客车与货车" in html


def test_difficulty_counts_verdicts_and_problems_without_attempts_apart(
    curated: dict[str, Any], html: str
) -> None:
    (row,) = curated["difficulty"]
    rates = {name: num for name, num in row["pass_rates"].items() if num}
    assert rates == {"none": 3, "up to 25%": 3, "all": 1}
    assert row["verdicts"] == {"correct": 13, "wrong": 42, "truncated": 1}
    assert (row["num_problems"], row["num_untested"], row["num_attempts"]) == (7, 1, 56)
    text = section(html, "difficulty")
    assert "none 3 42.9% up to 25% 3 42.9% all 1 14.3%" in text
    assert "difficulty, samples.jsonl 7 1 56 of 56, 100.0% 0 13 42 1 6 1" in text


def test_doubtful_reference_answers_are_shown_with_the_models_answer(html: str) -> None:
    text = section(html, "pool-keys")
    assert f"{WRONG_KEY} reference answer 23 models 24 8 of 8 answers · 0 agree" in text


def test_domains_and_lengths_are_shown_before_and_after(curated: dict[str, Any], html: str) -> None:
    text = section(html, "selection")
    assert "Domain after pool after naming domains after filter" in text
    assert "unknown 14 100.0% 0 0.0% 0 0.0% Domains covered 0" in text
    assert "Domain (msc) assigned to 8 of 8 problems by lexical; 0 kept their own." in text
    before, after = curated["lengths"]
    assert (before["stage"], before["num"], after["stage"], after["num"]) == (
        "pool", 14, "filter", 6,
    )  # fmt: skip
    assert sum(before["counts"].values()) == 14 and "64–127" in text


def test_text_of_the_pool_never_becomes_markup(html: str) -> None:
    assert HOSTILE not in html and "<img" not in html and "<b class" not in html
    assert HOSTILE in section(html, "funnel")


def test_thinking_tokens_are_shown_before_and_after_selection(page: str, whole_run: Path) -> None:
    rows = headline(whole_run)["curation"]["lengths"]
    lengths = {(row["measure"], row["stage"]): row for row in rows}
    assert lengths["thinking tokens", "trace"]["counts"] == {"1": 24}
    assert lengths["thinking tokens", "select"]["num"] == 12
    assert "Thinking tokens after trace after select 1 24 100.0% 12 100.0%" in section(
        page, "selection"
    )


def test_run_without_curation_shows_none(pool_run: Path, tmp_path: Path) -> None:
    for stage, facts in (("pool", {}), ("filter", {"difficulty": None, "duplicates": None})):
        (tmp_path / stage).mkdir()
        manifest = json.loads((pool_run / stage / "manifest.json").read_text())
        (tmp_path / stage / "manifest.json").write_text(
            json.dumps(manifest | {"facts": facts, "settings": {}, "steps": []})
        )
    html = render(tmp_path, tmp_path / "report").read_text("utf-8")
    assert re.findall(r'<section id="([^"]*)"', html) == ["run"]
    assert headline(tmp_path)["curation"] == EMPTY


def test_scores_of_chains_have_their_behaviour_and_correlations(
    whole_run: Path, tmp_path: Path
) -> None:
    facts = {
        "score_correlations": [{"a": "length", "b": "limo-v2", "spearman": 0.806, "n": 2500}],
        "behaviour": [
            {"level": 5, "num_chains": 31, "thinking_tokens": 812.4, "lines": 40.1,
             "verification": 1.2, "exploration": 6.3, "granularity": 4.0, "words": {"since": 61, HOSTILE: 2}}
        ],
    }  # fmt: skip
    manifest = json.loads((whole_run / "trace/manifest.json").read_text("utf-8"))
    (tmp_path / "trace").mkdir()
    (tmp_path / "trace/manifest.json").write_text(
        json.dumps(manifest | {"facts": facts, "settings": {}, "steps": []})
    )
    page = render(tmp_path, tmp_path / "report").read_text("utf-8")
    text = section(page, "scores")
    assert "level 5 31 812.4 40.1 1.2 6.3 4.0 since, " + HOSTILE.split("<")[0] in text
    assert "length limo-v2 +0.81 2,500" in text


def test_report_json_contains_the_curation(pool_run: Path, curated: dict[str, Any]) -> None:
    data = json.loads((pool_run / "report/report.json").read_text("utf-8"))
    assert data["headline"]["curation"] == curated and set(curated) == set(EMPTY)


def test_selection_gives_its_phases_reasons_and_the_papers_funnel(tmp_path: Path) -> None:
    make_run(tmp_path)
    path = tmp_path / "select/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["facts"] = {
        "method": "s1", "mode": "paper", "num_asked": 12, "num_wasted_draws": 2,
        "num_problems": 12, "num_chains": 31,
        "phases": {"draw": 9, "preselect": 3},
        "paper": {
            "title": "s1K", "source": "the paper", "share_same_sources": 0.5,
            "steps": [{"step": "collected", "paper": 59029, "notebook": 59030, "ours": None},
                      {"step": "quality", "paper": 51581, "ours": None},
                      {"step": "chosen", "paper": 1000, "ours": 12}],
        },
    }  # fmt: skip
    path.write_text(json.dumps(manifest))
    row = {"id": problem(1).id, "chosen": True, "place": 0, "phase": "draw", "why": f"9 {HOSTILE}"}
    rows = [row, row | {"chosen": False, "phase": None, "why": "not drawn"}]
    (tmp_path / "select/rationale.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    html = render(tmp_path, tmp_path / "again").read_text("utf-8")
    text = section(html, "selection")
    assert (
        f"draw 9 75.0% preselect 3 25.0% Reasons examples from each phase {CHINESE_APPLES}" in text
    )
    assert f"draw: 9 {HOSTILE}" in text and HOSTILE not in html and "not drawn" not in text
    assert "by s1, mode paper; 12 requested. The 12 problems have 31 chains. 2 draws" in text
    funnel = "collected 59,029 59,030 30 quality 51,581 – 24 chosen 1,000 – 12"
    assert funnel in section(html, "funnel")


@pytest.mark.parametrize(
    ("rate", "expected_class"),
    [(0, "none"), (1 / 32, "up to 25%"), (0.25, "up to 25%"), (0.5, "25% to 50%"),
     (0.51, "50% to 75%"), (31 / 32, "above 75%"), (1.0, "all"), (None, "not gradable")],
)  # fmt: skip
def test_pass_rates_fall_into_classes(rate: float | None, expected_class: str) -> None:
    assert pass_rate_class(rate) == expected_class


def test_classes_of_lengths_double_and_none_is_left_out() -> None:
    lengths = distribution({0: 1, 1: 2, 7: 1, 8: 3, 40: 1})
    assert lengths["counts"] == {
        "0": 1,
        "1": 2,
        "2-3": 0,
        "4-7": 1,
        "8-15": 3,
        "16-31": 0,
        "32-63": 1,
    }
    assert (lengths["num"], lengths["quantiles"]["p50"], lengths["quantiles"]["max"]) == (
        8,
        7.5,
        40,
    )


def test_only_published_sources_are_compared_with_a_papers_counts() -> None:
    sources = [{"kind": "catalogue", "name": "math"}, {"kind": "file", "name": "theoremqa"}]
    rows = expected_counts(
        {"sources": {"math": 11000, "theoremqa": 5}}, {"pool": {"sources": sources}}
    )
    assert [(row["source"], row["paper"], row["expected"], row["ours"]) for row in rows] == [
        ("math", "s1", 11999, 11000)
    ]


def test_agreement_of_two_methods_has_its_interval(pool_run: Path, tmp_path: Path) -> None:
    shutil.copytree(pool_run / "filter", tmp_path / "filter")
    path = tmp_path / "filter/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["facts"]["domain_labels"] |= {
        "methods": ["lexical", "llm"],
        "agreement": {"n": 1100, "agreement": 0.5, "agreement_ci95": [0.47, 0.53]},
    }
    path.write_text(json.dumps(manifest))
    text = section(render(tmp_path, tmp_path / "report").read_text("utf-8"), "selection")
    assert "Lexical and llm agree on 50.0% of 1,100 (95 % interval 47.0 to 53.0)." in text


def test_columns_are_read_from_problems_and_traces_alike(tmp_path: Path) -> None:
    problems = [
        {"id": "a", "question": "数数", "domain": "x", "split": "train"},
        {"id": "b", "question": "four", "domain": None, "split": "train"},
        {"id": "c", "question": "longer", "domain": "x", "split": "heldout"},
    ]
    for name, rows in (("p", problems), ("t", [{"problem": row} for row in problems])):
        (tmp_path / name).mkdir()
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name / "data.parquet")
        folder = tmp_path / name
        assert problem_columns.domain_counts(folder) == {"x": 1, "unknown": 1}
        assert problem_columns.question_lengths(folder) == {2: 1, 4: 1}
        assert problem_columns.find_questions([folder], {"a", "c"}) == {"a": "数数", "c": "longer"}
        assert problem_columns.thinking_lengths(folder) == {}


def test_paraphrase_is_shown_with_the_judges_reason(pool_run: Path, tmp_path: Path) -> None:
    shutil.copytree(pool_run / "filter", tmp_path / "filter")
    path = tmp_path / "filter/contamination.json"
    paper = json.loads(path.read_text("utf-8"))
    hit = paper["hits"][0] | {
        "kind": "paraphrase", "score": 0.91, "span": "", "dropped": True, "said": f"Both {HOSTILE}",
    }  # fmt: skip
    paper["against"][0]["num_hits"] = {"paraphrase": 1}
    judge = {"model": "m", "num_same": 1, "num_different": 4, "num_no_verdict": 2}
    paraphrase = {"num_looked_at": 9, "num_unread": 3, "num_candidates": 7, "judge": judge}
    paper["settings"]["paraphrase"] = {"similar": "keep"}
    path.write_text(json.dumps(paper | {"hits": [hit], "paraphrase": paraphrase}))
    html = render(tmp_path, tmp_path / "report").read_text("utf-8")
    text = section(html, "contamination")
    assert "m judged 1 to be the same problem and 4 to be different; 2 have no verdict." in text
    assert "exam: the closest match paraphrase, similarity 0.91, dropped" in text
    assert f"similar to exam {hit['item']}: Both Find n if" in text and "<img src=x" not in html
