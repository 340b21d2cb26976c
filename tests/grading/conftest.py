"""Shared graders in place of new ones, whose workers would have to start first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext

import pytest

from slowthink.grading import Grader

OpenGrader = Callable[..., nullcontext[Grader]]


@pytest.fixture(scope="session")
def open_shared(grader: Grader) -> Iterator[OpenGrader]:
    """Opens the shared grader of a mode."""
    graders = {grader.mode: grader}
    with ExitStack() as stack:

        def open_shared(mode: str, num_workers: int) -> nullcontext[Grader]:
            if mode not in graders:
                graders[mode] = stack.enter_context(Grader(mode, num_workers))
            return nullcontext(graders[mode])

        yield open_shared


@pytest.fixture
def shared_workers(monkeypatch: pytest.MonkeyPatch, open_shared: OpenGrader) -> None:
    """`grade_file` grades by the shared grader."""
    monkeypatch.setattr("slowthink.data.pair_files.Grader", open_shared)
