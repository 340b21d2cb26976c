"""Progress lines: items done and the estimated remaining time."""

from __future__ import annotations

import itertools

import pytest

from slowthink.pipeline import progress
from slowthink.pipeline.progress import ProgressReporter


@pytest.fixture
def clock(monkeypatch):
    """A clock that advances by 20 seconds with each call; it started long before the task."""
    ticks = itertools.count(1_000_000, 20)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(ticks))


def test_remaining_time_is_estimated_from_items_done_since_the_first_call(clock, capsys) -> None:
    reporter = ProgressReporter()
    reporter.progress(100, 200)  # cached
    reporter.progress(110, 200)
    assert capsys.readouterr().err == "      110/200, about 180 s left\n"


def test_each_task_has_its_own_start(clock, capsys) -> None:
    reporter = ProgressReporter()
    for done, total in ((0, 10), (5, 10), (10, 10), (3, 40), (0, 10), (5, 10)):
        reporter.progress(done, total)
    assert capsys.readouterr().err.splitlines() == [
        "      5/10, about 20 s left",
        "      10/10, about 0 s left",
        "      5/10, about 20 s left",
    ]


def test_a_task_of_the_same_size_starts_anew(clock, capsys) -> None:
    reporter = ProgressReporter()
    for done in (0, 8, 10, 0, 5, 2, 4):
        reporter.progress(done, 10)
    assert capsys.readouterr().err.splitlines() == [
        "      8/10, about 5 s left",
        "      10/10, about 0 s left",
        "      5/10, about 20 s left",
        "      4/10, about 60 s left",
    ]


def test_no_time_is_estimated_before_an_item_is_done(clock, capsys) -> None:
    reporter = ProgressReporter()
    reporter.progress(0, 50)
    reporter.progress(0, 50)
    assert capsys.readouterr().err == "      0/50\n"


def test_first_call_may_be_the_last(capsys) -> None:
    ProgressReporter().progress(3, 3)
    ProgressReporter(quiet=True).progress(1, 3)
    assert capsys.readouterr().err == ""
