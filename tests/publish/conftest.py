"""A made run with a model, and a hub on the loopback."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slowthink.publish import Publication, prepare
from tests.publish.fake_hub import TOKEN, FakeHub, running_hub
from tests.report.made_run import make_run

MODEL_FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": bytes(50_000),
    "tokenizer.json": b"{}" + b" " * 30_000,
}


def change_manifest(stage: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest of a stage in place."""
    path = stage / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def add_model(run: Path) -> None:
    """Give the made run's stage train a model, as the real one writes it."""
    folder = run / "train" / "model"
    folder.mkdir()
    for name, content in MODEL_FILES.items():
        (folder / name).write_bytes(content)
    digests = {f"model/{n}": hashlib.sha256(c).hexdigest() for n, c in MODEL_FILES.items()}
    trained = {"num_examples": 24, "num_steps": 20, "num_loss_tokens": 900, "final_loss": 0.1,
               "numerics": "float32"}  # fmt: skip

    def change(manifest: dict[str, Any]) -> None:
        manifest["files"] |= digests
        manifest["facts"] |= trained

    change_manifest(run / "train", change)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names in it are hostile, and the licence of its rows is unknown. Not to be changed."""
    root = tmp_path_factory.mktemp("runs") / "made"
    make_run(root)
    add_model(root)
    return root


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(finished_run, tmp_path / "made"))


@pytest.fixture(scope="session")
def publication(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Publication:
    """The run's model, ready to be uploaded."""
    out = tmp_path_factory.mktemp("published")
    return prepare(finished_run, "model", repo="me/made", licence="apache-2.0", out=out)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The hub that `slowthink publish` reaches, with a token that it accepts."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        yield hub
