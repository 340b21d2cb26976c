"""Adapters that were kept apart: where they and their base model come from, and broken ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slowthink.engines import models
from slowthink.engines.models import ADAPTER_CONFIG, resolve_model
from slowthink.errors import ConfigError


def make_adapter(folder: Path, **settings: Any) -> Path:
    folder.mkdir()
    (folder / ADAPTER_CONFIG).write_text(json.dumps(settings))
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is merged, instead of merging it."""
    calls: list[Any] = []

    def merge(adapter: Path, base: Path, target: Path, *, trust_remote_code: bool) -> None:
        calls.append((adapter, base, trust_remote_code))
        target.mkdir(parents=True)
        (target / "config.json").write_text("{}")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "merge_adapter", merge)
    return calls


def test_adapters_of_the_hub_are_merged_with_their_base_model(
    tmp_path: Path, base: Path, merged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_adapter(tmp_path / "snapshot", base_model_name_or_path="some/base", revision="r")
    snapshots = {("some/adapter", None): adapter, ("some/base", "r"): base}
    monkeypatch.setattr(models, "_download", lambda name, revision: snapshots[name, revision])
    folder = resolve_model("some/adapter")
    assert merged == [(adapter, base, False)]
    assert folder == resolve_model(str(adapter)) and len(merged) == 1


@pytest.mark.parametrize("trust", [True, False])
def test_trust_and_notices_reach_the_base_model(
    tmp_path: Path, base: Path, merged: list[Any], trust: bool
) -> None:
    inner = make_adapter(tmp_path / "inner", base_model_name_or_path=str(base))
    outer = make_adapter(tmp_path / "outer", base_model_name_or_path=str(inner))
    notices: list[str] = []
    resolve_model(str(outer), trust_remote_code=trust, notify=notices.append)
    assert [call[2] for call in merged] == [trust, trust]
    assert [notice.split(":")[0] for notice in notices] == [str(inner), str(outer)]


@pytest.mark.parametrize(
    "text",
    ["{", "", "{}", "[]", "null", '{"base_model_name_or_path": null}',
     '{"base_model_name_or_path": 3}', '{"base_model_name_or_path": "b", "revision": 3}'],
)  # fmt: skip
def test_adapters_without_a_base_model_are_an_error(tmp_path: Path, text: str) -> None:
    folder = make_adapter(tmp_path / "adapter")
    (folder / ADAPTER_CONFIG).write_text(text)
    with pytest.raises(ConfigError, match="no base model; expected a file saved by peft.*again"):
        resolve_model(str(folder))
