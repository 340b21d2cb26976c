"""Scorers: functions, judges' marks, cached scores; AUC against all pairs."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from slowthink.engines.replay import ReplaySession, Script
from slowthink.errors import ConfigError, DataError
from slowthink.recipe import EngineConfig, FunctionScorer, JudgeScorer, Recipe
from slowthink.records import Problem
from slowthink.sampling import prompted_model
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.parallel import scorers
from slowthink.sampling.parallel.auc import LabelledScore, auc, auc_report
from slowthink.sampling.parallel.fit import choose_best
from slowthink.sampling.parallel.scorers import (
    ScoredText,
    ScoreItem,
    Scorer,
    open_scorer,
    parse_mark,
    transcript_text,
)


def by_length(problem: Problem, text: str) -> float:
    return float(len(text) + len(problem.question))


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


def test_a_function_scores(ledger, make_problem) -> None:
    config = FunctionScorer(function="test_scorers:by_length")
    with open_scorer(config, Recipe(name="r"), ledger=ledger) as scorer:
        scores = scorer.score([ScoreItem(make_problem("ab"), t) for t in ("", "xyz")])
    assert scores == [2.0, 5.0]


@pytest.mark.parametrize("name", ["no_such_module:f", "math:no_such", "math", "math:pi"])
def test_a_function_that_cannot_be_imported_is_an_error(name, ledger) -> None:
    with pytest.raises(ConfigError, match="expected"):
        open_scorer(FunctionScorer(function=name), Recipe(name="r"), ledger=ledger)


def test_a_text_is_scored_once(make_problem) -> None:
    scored = []

    def score_new(items):
        scored.extend(item.text for item in items)
        return [ScoredText(0.5, 7) for _ in items]

    scorer, problem = Scorer(score_new, facts={}), make_problem()
    texts = ["a", "b", "a"]
    assert scorer.score_texts([ScoreItem(problem, t) for t in texts]) == [ScoredText(0.5, 7)] * 3
    scorer.score([ScoreItem(problem, "b"), ScoreItem(make_problem("other"), "b")])
    assert scored == ["a", "b", "b"]


def test_a_score_that_is_not_finite_is_an_error(make_problem) -> None:
    scorer = Scorer(lambda items: [ScoredText(math.nan, 0)], facts={})
    with pytest.raises(DataError, match="expected a finite number"):
        scorer.score([ScoreItem(make_problem(), "t")])


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("Step two holds.\nMARK: 7", 7),
        ("**Mark: 10/10**", 10),
        ("mark: 0.", 0),
        ("MARK: 11", None),
        ("MARK: 7\nbut I am not sure", None),
        ("MARK: 3\nMARK: 7", None),
        ("MARK: 7\nMARK: 7", 7),
        ("I would say 7", None),
        ("", None),
    ],
)
def test_a_mark_is_read_from_the_last_line_only(text, mark) -> None:
    assert parse_mark(text) == mark


def open_replayed(scripts, monkeypatch) -> ReplaySession:
    """Let the judge's model replay scripts, by prompt."""
    session = ReplaySession(scripts)
    monkeypatch.setattr(prompted_model, "open_session", lambda *a, **k: session)
    return session


def test_a_judge_marks_through_the_ledger(ledger, make_problem, monkeypatch) -> None:
    item, other = (
        ScoreItem(make_problem("What is 1 + 1?"), "It is >>> 2"),
        ScoreItem(make_problem("q"), "t"),
    )
    prompt, unreadable = (scorers._messages(i)[-1]["content"] for i in (item, other))
    assert prompt.count(">>>") == 2
    scripts = {
        prompt: Script(thinking=("It holds.\nMARK: 8",), answer=""),
        unreadable: Script(thinking=("Maybe.",), answer=""),
    }
    open_replayed(scripts, monkeypatch)
    recipe = Recipe(name="r", engine=EngineConfig(kind="replay"))
    config = JudgeScorer(model="base")
    with open_scorer(config, recipe, ledger=ledger) as scorer:
        scored = scorer.score_texts([item, other])
        assert [text.score for text in scored] == [0.8, 0.5]
        assert (scorer.facts["num_marks"], scorer.facts["num_unreadable"]) == (2, 1)
        assert scorer.cost.decoded > 0
        assert scored[0].num_tokens > len(prompt)
    session = open_replayed(scripts, monkeypatch)
    with open_scorer(config, recipe, ledger=ledger) as scorer:
        assert scorer.score([item]) == [0.8]
        assert session.cost.decoded == 0


def test_marks_keep_their_ledger_keys(ledger, make_problem, monkeypatch) -> None:
    """This mark's key in existing ledgers, so that stored marks are reused."""
    item = ScoreItem(make_problem("What is 1 + 1?"), "It is >>> 2 ")
    prompt = scorers._messages(item)[-1]["content"]
    open_replayed({prompt: Script(thinking=("MARK: 8",), answer="")}, monkeypatch)
    with open_scorer(JudgeScorer(model="base"), Recipe(name="r"), ledger=ledger) as scorer:
        scorer.score([item])
    key = "781880369db92710923a396f98ddc5d2"
    assert list(ledger.chains([key])) == [key]


def test_an_attempt_too_long_for_the_judge_is_an_error(ledger, make_problem, monkeypatch) -> None:
    open_replayed({}, monkeypatch)
    item = ScoreItem(make_problem(), "so " * 100_000)
    with (
        open_scorer(JudgeScorer(model="base"), Recipe(name="r"), ledger=ledger) as scorer,
        pytest.raises(ConfigError, match="exceeds the judge's context"),
    ):
        scorer.score([item])


def test_the_text_of_a_stored_transcript() -> None:
    assert transcript_text('[["thinking", "1+1"], ["closing", "|"], ["answer", "2"]]') == "1+1|2"


@pytest.mark.parametrize("seed", range(5))
def test_auc_counts_all_pairs(seed) -> None:
    rng = random.Random(seed)
    items = [LabelledScore(f"p{rng.randint(0, 3)}", rng.choice([0.1, 0.2, 0.2, 0.7]), rng.random() < 0.5)
             for _ in range(30)]  # fmt: skip
    wins, within = [], []
    for a, b in itertools.product(items, items):
        if a.label and not b.label:
            win = 1.0 if a.score > b.score else 0.5 if a.score == b.score else 0.0
            wins.append(win)
            within += [win] if a.problem_id == b.problem_id else []
    report = auc_report(items)
    assert auc([i.score for i in items], [i.label for i in items]) == pytest.approx(
        sum(wins) / len(wins)
    )
    assert report["auc"] == pytest.approx(sum(wins) / len(wins), abs=1e-4)
    assert report["auc_within_problem"] == pytest.approx(sum(within) / len(within), abs=1e-4)
    assert report["num_pairs_within"] == len(within)
    assert report["ci95"][0] < report["auc"] < report["ci95"][1]


def test_half_the_layers_are_chosen_if_they_lose_little() -> None:
    tried = [
        {"layers": 15, "l2": 0.01, "auc": 0.750},
        {"layers": 15, "l2": 0.1, "auc": 0.739},
        {"layers": 30, "l2": 0.01, "auc": 0.755},
    ]
    assert choose_best(tried) == tried[0]
    assert choose_best([*tried, {"layers": 30, "l2": 0.1, "auc": 0.80}])["layers"] == 30


def test_without_both_kinds_there_is_no_auc() -> None:
    report = auc_report([LabelledScore("p", 0.5, True)])
    assert (report["auc"], report["ci95"], report["auc_within_problem"]) == (
        None,
        [None, None],
        None,
    )
