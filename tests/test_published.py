"""The published figures: complete, labelled, and equal to the papers' own averages."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import pytest

import slowthink
from slowthink.analysis import published
from slowthink.analysis.published import AVERAGE, load_published
from slowthink.data.registry import limo_ten
from slowthink.errors import DataError
from slowthink.recipe.protocols import PROTOCOLS

PACKAGE = Path(slowthink.__file__).parent


def only(benchmark: str, **fields: object) -> published.PublishedFigure:
    figures = [
        figure
        for figure in load_published(benchmark)
        if all(getattr(figure, key) == value for key, value in fields.items())
    ]
    assert len(figures) == 1
    return figures[0]


@pytest.mark.parametrize(
    ("model", "average"),
    [
        ("o1-preview", 61.1), ("Qwen2.5-32B-Instruct", 49.9), ("QwQ-32B-preview", 66.9),
        ("OpenThoughts-114k", 58.3), ("NuminaMath-100k", 32.3), ("LIMO v1", 72.8),
        ("LIMO v2", 78.1),
    ],
)  # fmt: skip
def test_limos_averages_come_out_of_its_ten_sets(model: str, average: float) -> None:
    rows = [f for f in load_published(main=True) if f.paper == "limo" and f.model == model]
    values = {f.benchmark: f.accuracy for f in rows if f.table.endswith("main table")}
    assert values.pop(AVERAGE) == average
    assert set(values) == limo_ten()
    assert round(sum(values.values()) / 10 + 1e-9, 1) == average


def test_v2_is_one_column_and_its_baselines_keep_v1s_protocol() -> None:
    protocols = {
        f.model: f.protocol for f in load_published("aime24", main=True) if f.paper == "limo"
    }
    assert protocols.pop("LIMO v2") == "limo-v2"
    assert set(protocols.values()) == {"limo-v1"}
    assert "carries these baselines over" in only("chmath", model="NuminaMath-100k").note


@pytest.mark.parametrize(
    ("benchmark", "fields", "accuracy"),
    [
        ("aime24", {"table": "Table 1", "model": "s1-32B", "setting": "budget forcing"}, 56.7),
        ("gpqa-diamond", {"table": "Table 1", "model": "s1.1-32B", "setting": "budget forcing"}, 63.6),
        ("aime25", {"model": "s1-32B", "setting": "2 waits"}, 33.3),
        ("math500", {"series": "budget-forcing", "thinking_tokens": 3200}, 93.2),
        ("gpqa-diamond", {"table": "Table 4", "setting": '2 × "Alternatively"'}, 59.6),
        ("gpqa-diamond", {"table": "Table 7", "thinking_tokens": 6841}, 52.5),
        ("aime24", {"setting": "REBASE of 16"}, 56.6),
        ("aime25", {"table": "AIME-Preview", "model": "s1-32B"}, 28.9),
        ("aime24", {"model": "Qwen2.5-72B-Instruct tuned"}, 68.3),
        ("minerva", {"model": "LIMO v2"}, 52.2),
    ],
)  # fmt: skip
def test_figures_stand_where_they_belong(benchmark, fields, accuracy) -> None:
    assert only(benchmark, **fields).accuracy == accuracy


def test_differences_to_s1k_have_their_published_intervals() -> None:
    rows = {f.setting: f.difference_ci95 for f in load_published("aime24") if f.table == "Table 2"}
    assert rows["59K-full"] == (-13.3, 20.0) and rows["s1K"] is None
    assert sum(bounds is not None for bounds in rows.values()) == 4


def test_every_figure_says_how_it_is_known_and_under_which_protocol() -> None:
    letters = published.legend()
    for figure in load_published():
        assert all(letter.strip() in letters for letter in figure.known.split(","))
        assert figure.protocol in {*PROTOCOLS, "unknown"} - {"greedy"}
        assert figure.paper in published.papers()
        assert 0 <= figure.accuracy <= 100 and figure.model
    assert len(set(load_published())) == len(load_published())


def test_curves_and_ablations_are_not_main_figures() -> None:
    counts = Counter((f.benchmark, f.main) for f in load_published())
    assert counts["aime24", True] == 21 and counts["aime24", False] > 80
    assert not any(f.series for f in load_published(main=True))


def test_a_column_that_means_nothing_is_refused() -> None:
    table = {"paper": "s1", "table": "t", "columns": ["model", "aime42"], "rows": [["m", 1.0]]}
    with pytest.raises(DataError, match="`aime42` is neither a benchmark nor a field"):
        list(
            published.parse_tables(
                [table | {"columns": ["model", "aime42", "aime24"], "rows": [["m", 1.0, 2.0]]}],
                benchmarks=["aime24"],
            )
        )
    with pytest.raises(DataError, match="missing.*'known'.*Complete the row"):
        list(
            published.parse_tables(
                [table | {"protocol": "s1", "columns": ["model", "aime24"]}], benchmarks=["aime24"]
            )
        )


def test_a_wheel_holds_every_file_that_is_not_code() -> None:
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["slowthink"]
    held = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    data = {p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert data <= held
