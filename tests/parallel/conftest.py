"""A grader, and the context with which parallel methods sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from slowthink.grading import Grader
from slowthink.recipe import ChatConfig, ForcingConfig, Recipe
from slowthink.records import Sampling
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.parallel.context import ParallelContext


@pytest.fixture
def grader() -> Iterator[Grader]:
    with Grader() as grader:
        yield grader


@pytest.fixture
def context_for(tmp_path, grader) -> Callable[..., contextmanager]:
    """Open the ledger, the same one each time, and yield the context of a session."""

    @contextmanager
    def make(
        session, *, cap: int = 40, temperature: float = 1.0, **forcing
    ) -> Iterator[ParallelContext]:
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            yield ParallelContext(
                session=session, ledger=ledger, grader=grader, recipe=Recipe(name="r"),
                chat=ChatConfig(), forcing=ForcingConfig(answer_tokens=24, **forcing),
                max_thinking_tokens=cap, sampling=Sampling(temperature=temperature),
                num_resamples=100,
            )  # fmt: skip

    return make
