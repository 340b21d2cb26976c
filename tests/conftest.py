"""What several tests need: problems, scripts, the embedded model."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from slowthink.grading import Grader
from slowthink.records import Problem, Split, duplicate_key, problem_id
from tests.tiny import tokenizer_once

SLOW_AS_A_WHOLE = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.slow\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """True for a file that is slow as a whole, where its tests would be deselected: what it imports,
    such as torch and vLLM, takes seconds."""
    if config.getoption("markexpr") != "not slow" or collection_path.suffix != ".py":
        return None
    return True if SLOW_AS_A_WHOLE.search(collection_path.read_text("utf-8")) else None


def pytest_collection_finish() -> None:
    """Take what lives to the end, some millions of objects, out of each round of the collector, and
    let it come less often: tests make much and keep little."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


@pytest.fixture
def make_problem() -> Callable[..., Problem]:
    """Problems with ids of their own."""

    def make(question: str = "What is 17 + 25?", answer: str | None = "42", **more) -> Problem:
        fields = {"source": "made", "source_row": "0", "split": Split.TRAIN} | more
        return Problem(
            id=problem_id(question),
            duplicate_key=duplicate_key(question),
            question=question,
            answer=answer,
            **fields,
        )

    return make


@pytest.fixture(scope="module")
def chat() -> Iterator[tuple[Any, Any]]:
    """A toy server with a chat API, and a session with it that retries almost at once."""
    pytest.importorskip("aiohttp")
    from slowthink.engines import open_session
    from slowthink.recipe import EngineConfig
    from slowthink.recipe.base import EndpointConfig
    from tests.servers.completions import serve

    with serve() as server:
        endpoints = EndpointConfig(urls=(server.url,), api="chat", model="toy", max_retries=1)
        with open_session("toy", EngineConfig(kind="openai", endpoints=endpoints)) as session:
            session._pool.first_pause_seconds = 0.01
            yield server, session


@pytest.fixture(scope="session")
def grader() -> Iterator[Grader]:
    """A grader that the tests share, with its worker."""
    with Grader() as grader:
        yield grader


@pytest.fixture(scope="session")
def smollm() -> str:
    """The embedded model's name; its package must be installed (make test does)."""
    pytest.importorskip("transformers")
    return "smollm2-135m"


@pytest.fixture(scope="session")
def smollm_tokenizer(smollm):
    return tokenizer_once(smollm)


@pytest.fixture
def tokenizers_once(monkeypatch) -> None:
    """What loads a tokenizer gets the one that an earlier test loaded."""
    monkeypatch.setattr("slowthink.engines.models.load_tokenizer", tokenizer_once)
