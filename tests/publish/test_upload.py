"""`slowthink publish --yes` against a hub on the loopback: what it sends, and how it fails."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from slowthink.cli.app import main
from slowthink.errors import ConfigError, EngineError
from slowthink.publish import upload
from tests.publish.conftest import MODEL_FILES
from tests.publish.fake_hub import TOKEN, FakeHub, running_hub

LICENCE = ("--license", "apache-2.0")


def publish(run: Path, *options: str, what: str = "model", repo: str = "me/made") -> int:
    with pytest.raises(SystemExit) as stop:
        main(["publish", str(run), "--what", what, "--repo", repo, *options])
    return stop.value.code or 0


def test_a_dry_run_asks_the_hub_nothing(run, hub, monkeypatch, capsys) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert publish(run, "--json", *LICENCE) == 0
    data = json.loads(capsys.readouterr().out)
    assert [file["path"] for file in data["files"]] == ["README.md", "curve.svg", *MODEL_FILES]
    assert {file["path"]: file["num_bytes"] for file in data["files"]}[
        "model.safetensors"
    ] == 50_000
    assert data["uploaded"] is None
    assert hub.calls == []


def test_all_files_are_one_commit_of_a_private_repository(run, hub, capsys) -> None:
    assert publish(run, "--yes", *LICENCE) == 0
    assert set(hub.repos["me/made"]) == {"README.md", "curve.svg", *MODEL_FILES}
    assert hub.private["me/made"] is True
    stored = {path: hub.blobs[oid] for path, oid in hub.repos["me/made"].items()}
    assert {path: stored[path] for path in MODEL_FILES} == MODEL_FILES
    assert stored["README.md"] == (run / "publish" / "model" / "README.md").read_bytes()
    assert (hub.num_calls("PUT /lfs/"), hub.num_calls("POST /api/models/me/made/commit")) == (2, 1)
    assert f"uploaded: {hub.url}/me/made/commit/" in capsys.readouterr().out


def test_the_training_set_is_a_repository_of_data(run, hub) -> None:
    assert publish(run, "--yes", "--public", *LICENCE, what="data") == 0
    assert set(hub.repos["datasets/me/made"]) == {"README.md", "data/train.parquet"}
    assert hub.private["datasets/me/made"] is False


def test_what_the_hub_has_is_not_sent_again(publication, hub) -> None:
    upload(publication, token=TOKEN)
    hub.calls.clear()
    upload(publication, token=TOKEN)
    assert hub.num_calls("PUT") == hub.num_calls("POST /api/models/me/made/commit") == 0


def test_an_upload_goes_on_after_a_large_file_failed(publication, hub) -> None:
    last = "PUT /lfs/" + hashlib.sha256(MODEL_FILES["tokenizer.json"]).hexdigest()
    hub.failures[last] = (403, "the signed address has expired")
    with pytest.raises(ConfigError, match="run the same command again to continue"):
        upload(publication, token=TOKEN)
    assert hub.repos["me/made"] == {}, "no commit of a part"
    hub.failures.clear()
    hub.calls.clear()
    upload(publication, token=TOKEN)
    assert [call for call in hub.calls if call.startswith("PUT")] == [last]
    assert set(hub.repos["me/made"]) > set(MODEL_FILES)


CREATE, COMMIT = "POST /api/repos/create", "POST /api/models/me/made/commit"


@pytest.mark.parametrize(
    ("call", "status", "kind", "message"),
    [
        (CREATE, 401, ConfigError, "the hub answers 401 (gone wrong); expected a valid token"),
        (
            CREATE,
            403,
            ConfigError,
            "the hub answers 403 (gone wrong); expected a token that may write",
        ),
        (COMMIT, 409, EngineError, "expected a repository that nobody else changes meanwhile"),
        (COMMIT, 412, EngineError, "expected a repository that nobody else changes meanwhile"),
        (COMMIT, 413, EngineError, "expected files that the hub takes"),
        (COMMIT, 500, EngineError, "the hub answers 500 (gone wrong)"),
    ],
)
def test_a_status_of_the_hub_says_what_to_do(publication, hub, call, status, kind, message) -> None:
    hub.failures = {call: (status, "gone wrong")}
    with pytest.raises(kind, match=re.escape(message)):
        upload(publication, token=TOKEN)
    hub.failures = {}
    assert upload(publication, token=TOKEN).startswith(hub.url), "nothing is lost"


def test_a_token_that_the_hub_repeats_is_not_printed(run, hub, monkeypatch, capsys) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert publish(run, "--yes", *LICENCE) == 2
    printed = capsys.readouterr()
    assert "401 (Invalid credentials: Bearer ***)" in printed.err
    assert "Traceback" not in printed.err
    assert "hf_secret" not in printed.out + printed.err
    stored = [path for path in run.rglob("*") if path.is_file() and b"hf_" in path.read_bytes()]
    assert stored == []


def test_somebody_elses_repository_is_refused(publication, hub) -> None:
    with pytest.raises(ConfigError, match="You don't have the rights to write to you"):
        upload(replace(publication, repo="you/made"), token=TOKEN)


def test_without_a_network_the_address_is_named(publication, hub, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EngineError, match=r"127\.0\.0\.1:9: .*Check the network and HF_ENDPOINT"):
        upload(publication, token=TOKEN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licence": None}, "name it: --license NAME"),
        ({"refusals": ("a test set",)}, "refused. a test set"),
        ({"repo": "me/ma--de"}, "--repo me/ma--de: "),
    ],
)
def test_what_cannot_be_published_sends_nothing(publication, hub, change, message) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        upload(replace(publication, **change), token=TOKEN)
    assert hub.calls == []


def test_a_licence_that_the_hub_does_not_know_is_refused_before_anything_is_sent(
    run, hub, capsys
) -> None:
    assert publish(run, "--yes", "--license", "as you like", what="data") == 2
    assert '400 ("license" must be one of' in capsys.readouterr().err
    assert hub.blobs == {}


def test_offline_and_a_missing_token_are_said(publication, run, hub, monkeypatch, capsys) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        upload(publication, token=TOKEN)
    monkeypatch.delenv("HF_TOKEN")
    assert publish(run, "--yes", *LICENCE) == 2
    assert "HF_TOKEN is not set" in capsys.readouterr().err


@pytest.mark.slow
def test_an_upload_that_was_killed_continues(run, tmp_path) -> None:
    """As a user runs it: in a process of its own, cut off while it sends the second large file."""
    with running_hub() as hub:
        hub.slow_puts = 60
        command = [
            sys.executable, "-m", "slowthink.cli.app", "publish", str(run), "--what", "model",
            "--repo", "me/made", "--yes", *LICENCE,
        ]  # fmt: skip
        environment = {
            **os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home"),
        }  # fmt: skip
        first = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        _wait_for(hub)
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert hub.repos["me/made"] == {}
        hub.slow_puts = 0
        hub.calls.clear()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        assert set(hub.repos["me/made"]) == {"README.md", "curve.svg", *MODEL_FILES}
        assert hub.num_calls("PUT") == 1
        assert not (tmp_path / "home" / "token").exists()


def _wait_for(hub: FakeHub) -> None:
    """Wait until the hub has one large file and is being sent the other."""
    deadline = time.monotonic() + 60
    while hub.num_calls("PUT") < 2 or not hub.blobs:
        assert time.monotonic() < deadline
        time.sleep(0.05)
