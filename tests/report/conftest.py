"""One made run for all tests of the report."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_pool import make_pool_run
from made_run import make_run


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of all seven stages."""
    root = tmp_path_factory.mktemp("runs") / "made"
    make_run(root)
    return root


@pytest.fixture(scope="session")
def page(whole_run: Path) -> str:
    """The HTML of that run."""
    return (whole_run / "report" / "report.html").read_text("utf-8")


@pytest.fixture(scope="session")
def pool_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of our own put through the real pool, filter and report stages."""
    return make_pool_run(tmp_path_factory.mktemp("runs") / "curated")
