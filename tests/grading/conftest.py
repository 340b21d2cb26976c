"""A grader that the tests share, with its workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest

from slowthink.grading import Grader

OpenGrader = Callable[..., nullcontext[Grader] | Grader]


@pytest.fixture(scope="session")
def grader() -> Iterator[Grader]:
    with Grader(num_workers=2) as grader:
        yield grader


@pytest.fixture(scope="session")
def open_shared(grader: Grader) -> OpenGrader:
    """Opens the shared grader in place of a new one, whose workers would have to start first."""

    def open_shared(mode: str, num_workers: int) -> nullcontext[Grader] | Grader:
        return nullcontext(grader) if mode == grader.mode else Grader(mode, num_workers)

    return open_shared


@pytest.fixture
def shared_workers(monkeypatch: pytest.MonkeyPatch, open_shared: OpenGrader) -> None:
    """`grade_file` grades by the shared grader."""
    monkeypatch.setattr("slowthink.grading.files.Grader", open_shared)
