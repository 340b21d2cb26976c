"""A grader that the tests of a module share, with its workers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from slowthink.grading import Grader


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(num_workers=2) as grader:
        yield grader
