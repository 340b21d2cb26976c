"""The headline and the warnings: the same in the terminal, on the page and in the data."""

from __future__ import annotations

import html as html_module
import json

import pytest
from made_run import summary

from slowthink.cli.run import _print_run
from slowthink.stages.report.data import headline
from slowthink.stages.report.headline import headline_figures
from slowthink.stages.report.warnings import run_warnings


def figures_of(**changes: object) -> dict[str, str]:
    """Label and line of each figure of the made run's headline, with changes."""
    head = summary("base", "tuned") | {"thinking_gain": None} | changes
    return {figure.label: figure.line() for figure in headline_figures(head)}


def test_every_figure_of_the_terminal_is_on_the_page(whole_run, page) -> None:
    text = " ".join(html_module.unescape(page).split())
    for figure in headline_figures(headline(whole_run)):
        assert figure.label in text and figure.value in text and figure.note in text


def test_the_arms_have_their_own_names() -> None:
    head = json.loads(json.dumps(summary("base", "tuned")).replace('"tuned"', '"mine"'))
    labels = [figure.label for figure in headline_figures(head | {"thinking_gain": None})]
    assert labels[0] == "Accuracy, base to mine"


@pytest.mark.parametrize(
    ("bounds", "claim"),
    [
        ([0.1, 0.3], "thinking pays"),
        ([-0.3, -0.1], "thinking costs accuracy"),
        ([-0.1, 0.3], "no difference is established"),
    ],
)
def test_thinking_pays_only_if_the_interval_excludes_0(bounds, claim) -> None:
    gain = {"difference": 0.2, "ci95": bounds}
    assert claim in figures_of(thinking_gain=gain)["Accuracy by thinking budget, tuned"]
    assert "pays" not in figures_of()["Accuracy by thinking budget, tuned"]


def test_a_single_arm_has_its_accuracy_and_its_samples() -> None:
    point = summary("tuned")["sets"][1]["arms"][0]["points"][-1]
    none = dict.fromkeys(("base_accuracy", "base_point", "difference", "difference_ci95"))
    figures = figures_of(tuned_point=point, difference_n=None, **none)
    assert figures["pass@4 and maj@4, tuned"].endswith("(4 samples of each problem)")


def test_budgets_are_held_only_where_there_were_budgets() -> None:
    head = summary("base", "tuned") | {"thinking_gain": None}
    for eval_set in head["sets"]:
        for arm in eval_set["arms"]:
            arm["points"] = [p | {"forced": False, "max_thinking_tokens": 0} for p in arm["points"]]
    assert "Budgets" in figures_of()
    assert "Budgets" not in {figure.label for figure in headline_figures(head)}


def test_an_interval_with_0_is_said() -> None:
    line = figures_of(difference_ci95=[-0.1, 0.2])["Accuracy, base to tuned"]
    assert "no difference is established" in line


# --- warnings -------------------------------------------------------------------------------------


def warnings_of(*, facts=None, arms=(), sets=(), domains=None) -> list[str]:
    settings = {"evaluate": {"arms": list(arms)}}
    return [w["text"] for w in run_warnings(facts or {}, settings, list(sets), domains or {})]


def arm_with(name: str, *caps: int, no_answer: float = 0.0) -> dict:
    points = [
        {"max_thinking_tokens": cap, "waits": 0, "forced": True, "no_answer_rate": no_answer}
        for cap in caps
    ]
    return {"name": name, "points": points}


def eval_set(*arms: dict) -> dict:
    pairs = [{"a": arms[0]["name"], "b": arms[1]["name"]}] if len(arms) > 1 else []
    return {"benchmark": "heldout", "arms": list(arms), "comparisons": pairs}


def test_many_samples_without_an_answer_name_last_number() -> None:
    (text,) = warnings_of(sets=[eval_set(arm_with("base", 8, no_answer=0.21))])
    assert "base on held-out problems: 21.0% of the samples at ≤ 8 tokens" in text
    assert "last_number: true" in text
    assert warnings_of(sets=[eval_set(arm_with("base", 8, no_answer=0.2))]) == []
    both = eval_set(arm_with("base", 8, no_answer=0.15))
    both["arms"][0]["points"][0]["truncated_rate"] = 0.1
    assert "25.0% of the samples" in warnings_of(sets=[both])[0]
    arms = [{"name": "base", "last_number": True}]
    (text,) = warnings_of(sets=[eval_set(arm_with("base", 8, no_answer=0.5))], arms=arms)
    assert "last_number" not in text


def test_attempts_that_were_cut_off_name_the_cap() -> None:
    row = {"step": "difficulty", "model": "m", "num_attempts": 100, "num_cut_off": 26}
    (text,) = warnings_of(facts={"filter": {"attempts": [row]}})
    assert "26 of 100 attempts were cut off" in text and "max_thinking_tokens" in text
    assert warnings_of(facts={"filter": {"attempts": [row | {"num_cut_off": 25}]}}) == []


def test_a_domain_with_over_half_of_the_problems() -> None:
    (text,) = warnings_of(domains={"Mathematics education": 91, "Algebra": 9})
    assert "Mathematics education has 91 of 100" in text
    assert warnings_of(domains={"a": 50, "b": 50}) == []
    assert warnings_of(domains={"unknown": 100}) == []


def test_labels_that_disagree() -> None:
    labels = {"num_labelled": 30, "num_disagree": 2}
    (text,) = warnings_of(facts={"evaluate": {"arms": {"theirs": {"labels": labels}}}})
    assert "differ on 2 of 30 samples" in text


def test_arms_without_a_shared_cap() -> None:
    (text,) = warnings_of(sets=[eval_set(arm_with("a", 0, 64), arm_with("b", 0, 128))])
    assert "share no cap above 0 (0, 64; 0, 128)" in text
    assert warnings_of(sets=[eval_set(arm_with("a", 0, 64), arm_with("b", 64, 128))]) == []


def test_warnings_are_in_the_terminal_the_data_and_the_page(whole_run, page, capsys) -> None:
    head = headline(whole_run)
    assert {"stage": "filter", "text": "2 problems <i>untested</i>"} in head["warnings"]
    _print_run([], whole_run, as_json=False)
    assert "WARNING: filter: 2 problems <i>untested</i>" in capsys.readouterr().out
    assert "2 problems &lt;i&gt;untested&lt;/i&gt;" in page
