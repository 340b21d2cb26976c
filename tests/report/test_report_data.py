"""What the report reads from a run folder."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made_run import CAPS, make_run, old_summary, points_of, recipe

from slowthink.errors import DataError
from slowthink.pipeline.contract import read_manifest
from slowthink.recipe.loading import parse_recipe
from slowthink.stages import report
from slowthink.stages.report.data import collect, headline, open_run
from slowthink.stages.report.sets import evaluated_sets, published_for, set_key

KEYS = {
    "thinking_gain", "warnings",
    "name", "wall_seconds", "peak_rss_mb", "seconds", "base_accuracy", "tuned_accuracy",
    "difference", "difference_ci95", "difference_n", "base_point", "tuned_point", "curve", "waits",
    "budget_violations", "thinking_natural_rate", "answer_eos_rate", "funnel", "tokens", "sweep",
    "sets", "averages", "parallel", "key_review", "judge", "curation",
}  # fmt: skip


def read_report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text("utf-8"))


def test_headline_has_the_figures_of_the_evaluate_stage(whole_run):
    figures = headline(whole_run)
    assert set(figures) == KEYS
    assert (figures["base_accuracy"], figures["tuned_accuracy"], figures["difference"]) == (
        0.2,
        0.8,
        0.6,
    )
    assert figures["difference_ci95"] == [0.41, 0.77]
    assert [point["max_thinking_tokens"] for point in figures["curve"]] == list(CAPS)
    assert [point["waits"] for point in figures["waits"]] == [0, 1, 2]
    assert (figures["budget_violations"], figures["answer_eos_rate"]) == (0, 0.97)


def test_headline_sums_tokens_and_seconds_over_stages(whole_run):
    figures = headline(whole_run)
    assert figures["tokens"] == {
        "prefilled": 1100,
        "decoded": 440,
        "forced": 54,
        "re_prefilled": 10,
    }
    stages = ("pool", "filter", "trace", "select", "train", "evaluate", "report")
    assert tuple(figures["seconds"]) == stages
    assert figures["wall_seconds"] == pytest.approx(sum(figures["seconds"].values()), abs=1e-3)
    assert figures["peak_rss_mb"] == max(
        read_manifest(whole_run / stage)["peak_rss_mb"] for stage in stages
    )


def test_wall_seconds_of_the_whole_command_count_when_larger(tmp_path):
    make_run(tmp_path, made=recipe(filter=None, trace=None, select=None, train=None, evaluate=None))
    (tmp_path / "run.json").write_text('{"wall_seconds": 4000.5}')
    assert headline(tmp_path)["wall_seconds"] == 4000.5


def test_headline_has_averages_parallel_scaling_and_the_judge(whole_run):
    figures = headline(whole_run)
    assert [arm["name"] for arm in figures["sets"][1]["arms"]] == ["base", "tuned"]
    assert figures["averages"][0]["benchmarks"] == ["heldout", "aime24"]
    assert [curve["method"] for curve in figures["parallel"][0]["curves"]][-1] == "rebase"
    assert (figures["key_review"][0]["answer"], figures["judge"]["agreement"]) == ("16", 0.9)


def test_summary_of_an_older_run_without_sets_becomes_one_set():
    (eval_set,) = evaluated_sets(old_summary("base", "tuned"))
    assert set_key(eval_set) == ("heldout", "greedy")
    assert (eval_set["protocol_text"], eval_set["num_problems"]) == ("greedy, 1 sample", 20)
    assert (eval_set["comparisons"], eval_set["elicitation"]) == ([], None)
    mixed = old_summary("base", "tuned")
    mixed["arms"][1]["protocol"] = "T=0.7, 4 samples"
    assert [len(row["arms"]) for row in evaluated_sets(mixed)] == [1, 1]


def test_figures_of_zero_are_kept_among_the_published():
    assert min(row["accuracy"] for row in published_for("aime24")) == 0.0


def test_funnel_has_each_step_with_its_reasons(whole_run):
    assert headline(whole_run)["funnel"][1] == {
        "stage": "filter", "step": "quality", "num_in": 30, "num_out": 24,
        "reasons": {"image & link": 6},
    }  # fmt: skip


def test_absent_stages_leave_their_figures_empty(tmp_path):
    make_run(tmp_path, made=recipe(evaluate=None))
    figures = headline(tmp_path)
    assert set(figures) == KEYS
    assert figures["tuned_accuracy"] is None and figures["budget_violations"] is None
    assert figures["curve"] == [] and figures["waits"] == []


def test_folder_without_a_finished_stage_is_an_error_with_the_command_to_run(tmp_path):
    with pytest.raises(DataError, match=r"no finished stage.*slowthink run RECIPE"):
        headline(tmp_path)


def test_report_json_contains_what_the_page_shows(whole_run):
    data = read_report(whole_run / "report")
    assert data["title"] == "made <run>"
    assert data["headline"]["difference"] == 0.6
    assert [(row["benchmark"], row["protocol"]) for row in data["headline"]["sets"]] == [
        ("heldout", "greedy"), ("aime24", "limo-v2"),
    ]  # fmt: skip
    assert data["published"]["heldout"] == []
    assert {"model": "LIMO v2", "accuracy": 63.3, "protocol": "limo-v2"}.items() <= next(
        row for row in data["published"]["aime24"] if row["model"] == "LIMO v2"
    ).items()
    assert len(data["training"]["steps"]) == 20
    assert data["warnings"] == [{"stage": "filter", "text": "2 problems <i>untested</i>"}]
    assert data["run"]["settings"]["model"] == "smollm2-135m"


def test_domains_count_training_problems_after_each_stage(whole_run):
    rows = read_report(whole_run / "report")["domains"]
    assert [row["counts"]["pool"] for row in rows] == [10, 10, 10]
    assert sum(row["counts"]["filter"] for row in rows) == 24
    assert sum(row["counts"]["select"] for row in rows) == 12


def test_drops_come_with_examples_and_their_questions(whole_run):
    (drop,) = read_report(whole_run / "report")["drops"]
    assert (drop["stage"], drop["reason"], drop["count"]) == ("filter", "image & link", 6)
    assert len(drop["examples"]) == 3
    assert all(example["question"] for example in drop["examples"])


def test_table_of_the_report_contains_every_point(whole_run):
    rows = pq.read_table(whole_run / "report" / "data.parquet").to_pylist()
    assert len(rows) == len(list(points_of("base"))) + len(list(points_of("tuned"))) + 2 * 2
    free = next(row for row in rows if row["id"] == "base|greedy|heldout|96|0|free")
    assert (free["accuracy"], free["n"], free["forced"]) == (0.2, 20, False)


def test_same_run_gives_the_same_table_and_transcripts(whole_run):
    opened = open_run(whole_run)
    config = recipe().report
    first, again = (collect(opened, config) for _ in range(2))
    assert first == again
    ids = [row["id"] for row in read_report(whole_run / "report")["transcripts"]]
    assert ids == [row["id"] for row in first["transcripts"]]


def test_figures_that_are_not_numbers_become_null(whole_run, tmp_path):
    opened = open_run(whole_run)
    opened.manifests["evaluate"]["facts"]["summary"]["answer_eos_rate"] = float("nan")
    assert collect(opened, recipe().report)["headline"]["answer_eos_rate"] is None


def test_finished_run_is_rendered_again_elsewhere(whole_run, tmp_path):
    path = report.render(whole_run, tmp_path / "again")
    assert path.name == "report.html" and "made" in path.read_text("utf-8")
    assert read_report(tmp_path / "again")["headline"]["difference"] == 0.6
    assert (tmp_path / "again" / "curve.svg").exists()


def test_recipe_beside_the_stages_gives_the_name_and_their_manifests_the_seed(whole_run):
    (whole_run / "recipe.yaml").write_text("name: written\nseed: 7\n")
    opened = open_run(whole_run)
    (whole_run / "recipe.yaml").unlink()
    assert (opened.settings["name"], opened.seed) == ("written", 0)


def test_plan_spends_no_tokens():
    assert report.plan(recipe()) == {"max_transcripts": 16, "estimated_tokens": 0}
    assert report.plan(parse_recipe({"name": "bare"}))["max_transcripts"] == 0
