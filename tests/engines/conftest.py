"""A small model for tests of the embedded engine."""

from __future__ import annotations

import pytest

from tests.tiny import make_tiny_model


@pytest.fixture(scope="session")
def tiny_model(smollm_tokenizer, tmp_path_factory) -> str:
    """Folder of a model of two layers (see `tests.tiny`)."""
    return str(make_tiny_model(tmp_path_factory.mktemp("tiny"), smollm_tokenizer))
