"""Two runs on the questions that both answered: the figures, the refusals, the page."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from made_run import HOSTILE, evaluation_rows
from test_report_page import read, words

from slowthink.analysis.pairing import compare_rows
from slowthink.analysis.scores import ComparedRow, problem_scores
from slowthink.cli.app import main
from slowthink.data.tables import write_records
from slowthink.errors import ConfigError, DataError
from slowthink.records import Verdict
from slowthink.stage_rows import EvaluationRow
from slowthink.stages.report.compare import compare, open_pair
from slowthink.stages.report.compare_page import write_page

Change = Callable[[EvaluationRow], EvaluationRow | None]


def altered(run: Path, folder: Path, change: Change, *, summary: Callable | None = None) -> Path:
    """A copy of a run whose rows (and summary) were changed; a row changed to None is left out."""
    shutil.copytree(run, folder)
    rows = [new for row in evaluation_rows("base", "tuned") if (new := change(row)) is not None]
    write_records(folder / "evaluate" / "data.parquet", rows, EvaluationRow)
    if summary is not None:
        path = folder / "evaluate" / "manifest.json"
        manifest = json.loads(path.read_text())
        summary(manifest["facts"]["summary"])
        path.write_text(json.dumps(manifest))
    return folder


def replaced(**changes: object) -> Change:
    return lambda row: dataclasses.replace(row, **changes)


def point(data: dict, benchmark: str, cap: int) -> dict:
    (match,) = (
        point
        for compared_set in data["sets"]
        for point in compared_set["points"]
        if (compared_set["benchmark"], point["max_thinking_tokens"]) == (benchmark, cap)
        and point["forced"]
    )
    return match


# --- figures --------------------------------------------------------------------------------------


def test_one_run_is_compared_base_against_tuned(whole_run):
    data = compare(open_pair(whole_run, whole_run))
    assert (data["a"]["arm"], data["b"]["arm"]) == ("base", "tuned")
    assert [(compared_set["benchmark"], compared_set["protocol"]) for compared_set in data["sets"]] == [
        ("heldout", "greedy"), ("aime24", "limo-v2"),
    ]  # fmt: skip
    figures = point(data, "heldout", 32)
    assert (figures["n"], figures["a"]["accuracy"], figures["b"]["accuracy"]) == (20, 0.35, 0.5)
    assert figures["difference"] == pytest.approx(0.15)


def test_questions_that_changed_are_named_with_a_row_of_each_side(whole_run):
    figures = point(compare(open_pair(whole_run, whole_run)), "heldout", 96)
    rows = {row.id: row for row in evaluation_rows("base", "tuned")}
    assert (len(figures["won"]), len(figures["lost"])) == (
        6,
        3,
    )  # 2 | n and not 3 | n; 3 | n, not 2
    for change in figures["won"]:
        a, b = rows[change["a_id"]], rows[change["b_id"]]
        assert (a.arm, a.verdict) == ("base", Verdict.WRONG)
        assert (b.arm, b.verdict) == ("tuned", Verdict.CORRECT)
        assert a.problem_id == b.problem_id == change["problem_id"]
        assert a.max_thinking_tokens == b.max_thinking_tokens == 96
    assert all(rows[change["a_id"]].verdict is Verdict.CORRECT for change in figures["lost"])


def test_the_tests_are_paired_and_exact(whole_run):
    figures = point(compare(open_pair(whole_run, whole_run)), "heldout", 96)
    exact = 2 * sum(math.comb(9, wins) for wins in range(4)) / 2**9
    assert figures["p_exact"] == pytest.approx(exact)
    values = [1.0] * 6 + [-1.0] * 3 + [0.0] * 11
    deviation = math.sqrt(sum((value - 0.15) ** 2 for value in values) / 19)
    detectable = (1.959964 + 0.841621) * deviation / math.sqrt(20)
    assert figures["minimal_detectable_difference"] == pytest.approx(detectable, rel=1e-5)
    low, high = figures["ci95"]
    assert low < 0.0 < 0.15 < high


def test_samples_of_a_problem_are_averaged_before_pairing(whole_run):
    figures = point(compare(open_pair(whole_run, whole_run)), "aime24", 96)
    base = [sum((n + s) % 3 == 0 for s in range(4)) / 4 for n in range(30)]
    assert (figures["n"], figures["a"]["num_samples"]) == (30, 4)
    assert figures["a"]["accuracy"] == pytest.approx(sum(base) / 30)
    assert figures["b"]["accuracy"] == 0.5
    partly = next(change for change in figures["won"] if change["a"] == 0.25)
    assert partly["b"] == 0.5


def answer(problem: str, verdict: Verdict, *, temperature: float = 0.0) -> ComparedRow:
    return ComparedRow(
        id=problem, problem_id=problem, sample=0, temperature=temperature, max_thinking_tokens=8,
        waits=0, forced=True, num_thinking_tokens=8, num_answer_tokens=2, verdict=verdict,
    )  # fmt: skip


def test_temperatures_weigh_the_same_whatever_their_samples():
    rows = [
        answer("p", Verdict.CORRECT),
        *(answer("p", Verdict.WRONG, temperature=0.6) for _ in range(3)),
        answer("p", Verdict.CORRECT, temperature=0.6),
        answer("q", Verdict.UNGRADABLE),
    ]
    assert problem_scores(rows) == {"p": (1 + 0.25) / 2}


def test_problems_of_one_side_are_counted_and_left_out(whole_run, tmp_path):
    numbers = {row.problem_id for row in evaluation_rows("base") if int(row.gold or 0) < 25 + 5}

    def without(row: EvaluationRow) -> EvaluationRow | None:
        return None if row.problem_id in numbers else row

    other = altered(whole_run, tmp_path / "other", without)
    figures = point(compare(open_pair(whole_run, other)), "heldout", 96)
    assert (figures["n"], figures["num_only_a"], figures["num_only_b"]) == (15, 5, 0)
    assert figures["a"]["accuracy"] == figures["b"]["accuracy"] == 7 / 15  # even ones of 5 to 19
    assert figures["won"] == figures["lost"] == [] and figures["difference"] == 0.0


def test_ungradable_answers_leave_the_pairing(whole_run, tmp_path):
    def doubt(row: EvaluationRow) -> EvaluationRow:
        first = row.problem_id == next(iter(evaluation_rows("base"))).problem_id
        return dataclasses.replace(row, verdict=Verdict.UNGRADABLE) if first else row

    other = altered(whole_run, tmp_path / "other", doubt)
    figures = point(compare(open_pair(whole_run, other)), "heldout", 96)
    assert (figures["n"], figures["num_only_a"], figures["num_only_b"]) == (19, 1, 0)


def test_rows_without_a_shared_problem_have_no_figures():
    rows = [answer(problem, Verdict.CORRECT) for problem in "pq"]
    assert compare_rows(rows[:1], rows[1:]) == {"n": 0, "num_only_a": 1, "num_only_b": 1}


def test_arms_can_be_named_across_runs(whole_run, tmp_path):
    other = altered(whole_run, tmp_path / "other", lambda row: row)
    pair = open_pair(whole_run, other, arm_a="base", arm_b="base")
    assert all(
        p["difference"] == 0
        for compared_set in compare(pair)["sets"]
        for p in compared_set["points"]
    )
    assert open_pair(whole_run, other).a.arm == "tuned"


# --- refusals -------------------------------------------------------------------------------------


def rename(old: str, new: str) -> Callable[[dict], None]:
    def change(summary: dict) -> None:
        for compared_set in summary["sets"]:
            compared_set.update(
                {k: new for k in ("benchmark", "protocol") if compared_set[k] == old}
            )

    return change


def test_other_protocols_are_refused_by_name(whole_run, tmp_path):
    def sampled(row: EvaluationRow) -> EvaluationRow | None:
        return None if row.benchmark == "aime24" else dataclasses.replace(row, protocol="limo-v1")

    other = altered(whole_run, tmp_path / "o", sampled, summary=rename("greedy", "limo-v1"))
    with pytest.raises(
        DataError, match=r"protocols differ on heldout: .*under greedy, b under limo-v1"
    ):
        compare(open_pair(whole_run, other))


def test_one_name_for_two_temperatures_is_refused(whole_run, tmp_path):
    def hotter(row: EvaluationRow) -> EvaluationRow:
        return dataclasses.replace(row, temperature=1.0 if row.temperature else 0.0)

    other = altered(whole_run, tmp_path / "other", hotter)
    with pytest.raises(DataError, match=r"`limo-v2` on aime24 means different.*0\.6 and 1\.0"):
        compare(open_pair(whole_run, other))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"benchmark": "gsm8k"}, r"no benchmark in common; a has aime24, heldout, b has gsm8k"),
        ({"max_thinking_tokens": 7}, r"no point in common.*b has .*≤ 7 tokens"),
        ({"problem_id": "p-other"}, r"no question in common, though sets and points are the same"),
    ],
    ids=["benchmark", "point", "question"],
)
def test_nothing_in_common_is_refused_with_the_reason(whole_run, tmp_path, changes, message):
    def change(row: EvaluationRow) -> EvaluationRow | None:
        return dataclasses.replace(row, **changes) if row.benchmark == "heldout" else None

    other = altered(whole_run, tmp_path / "other", change)
    with pytest.raises(DataError, match=message):
        compare(open_pair(whole_run, other))


def test_set_of_one_side_is_left_out_and_named(whole_run, tmp_path):
    other = altered(
        whole_run, tmp_path / "other", lambda row: row if row.benchmark == "heldout" else None
    )
    data = compare(open_pair(whole_run, other))
    assert data["left_out"] == [{"side": "a", "benchmark": "aime24", "protocol": "limo-v2"}]


def test_unknown_and_equal_arms_are_refused(whole_run):
    with pytest.raises(ConfigError, match=r"--arm-b: .* no arm `tunde`; expected one of base"):
        open_pair(whole_run, whole_run, arm_b="tunde")
    with pytest.raises(ConfigError, match="both arms are `tuned`"):
        open_pair(whole_run, whole_run, arm_a="tuned")


def test_folder_that_was_not_evaluated_is_refused(whole_run, tmp_path):
    shutil.copytree(whole_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "evaluate")
    with pytest.raises(DataError, match=r"has not been evaluated yet.*slowthink evaluate"):
        open_pair(whole_run, tmp_path / "run")


# --- the page -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def html(whole_run, tmp_path_factory) -> str:
    pair = open_pair(whole_run, whole_run)
    path = tmp_path_factory.mktemp("compared") / "deep" / "compare.html"
    return write_page(pair, compare(pair), path).read_text("utf-8")


def test_page_leads_with_the_difference_at_the_largest_shared_point(html):
    text = words(html)
    assert "Accuracy at ≤ 96 tokens, base to tuned 35.0% → to 50.0%" in text
    assert "+15.0 points, paired 95 % interval" in text and "The 95 % interval includes 0." in text
    assert "questions could detect a true difference of" in text


def test_page_shows_what_was_won_and_lost_with_both_answers(html):
    text = words(html)
    assert "Won: 6 questions at ≤ 96 tokens where tuned is better" in text
    assert "Lost: 3 questions at ≤ 96 tokens where base is better" in text
    (part,) = re.findall(r'<section id="set-1".*?</section>', html, re.DOTALL)
    assert part.count("✓ correct") == part.count("✗ wrong") == part.count('<details class="item"')
    assert "extracted 7, expected" in words(part)


def test_page_is_inert_and_loads_nothing(html):
    tags = read(html).tags
    assert "script" not in {tag for tag, _ in tags} and "img" not in {tag for tag, _ in tags}
    policy = next(attributes["content"] for _, attributes in tags if "http-equiv" in attributes)
    assert HOSTILE not in html and "script-src 'none'" in policy
    links = [attributes["href"] for tag, attributes in tags if tag == "a"]
    ids = {attributes.get("id") for _, attributes in tags}
    assert all(link[1:] in ids for link in links)


def test_long_lists_are_drawn_by_seed_and_say_so(whole_run, tmp_path):
    pair = open_pair(whole_run, whole_run)
    data = compare(pair)
    pages = [
        write_page(pair, data, tmp_path / f"{i}.html", max_shown=2, seed=i // 2) for i in range(3)
    ]
    first, again, other = (path.read_text("utf-8") for path in pages)
    assert "2 of them, sampled at random (seeded)" in words(first)
    assert first == again != other


def test_command_prints_figures_or_words_and_writes_the_page(whole_run, tmp_path, capsys):
    out = tmp_path / "c.html"
    with pytest.raises(SystemExit) as stop:
        main(["compare", str(whole_run), str(whole_run), "--out", str(out)])
    said = capsys.readouterr().out
    assert not stop.value.code and out.exists()
    assert "35.0% -> 50.0% (+15.0%" in said and "6 won, 3 lost" in said
    with pytest.raises(SystemExit):
        main(["compare", str(whole_run), str(whole_run), "--json"])
    assert set(json.loads(capsys.readouterr().out)) == {"a", "b", "sets", "left_out"}
