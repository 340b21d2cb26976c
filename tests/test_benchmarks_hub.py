"""The hub's own client against a small mirror: what is loaded, what is recorded, what is cached."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

from tests.needs import needs

pytestmark = [pytest.mark.slow, needs("datasets")]

REPO = "HuggingFaceH4/MATH-500"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROWS = [{"problem": f"What is {n} + 1?", "answer": str(n + 1), "solution": "Add."} for n in (1, 2)]
FILES = {"test.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode()}


def listing() -> list[dict[str, Any]]:
    return [
        {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        for name, data in FILES.items()
    ]


class Mirror(BaseHTTPRequestHandler):
    """Answers what the client asks of one data set."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path)
        api, files = f"/api/datasets/{REPO}", f"/datasets/{REPO}/resolve/{COMMIT}/"
        if path == api or path.startswith(f"{api}/revision/"):
            self.answer({"_id": "1", "id": REPO, "sha": COMMIT, "siblings": [], "tags": []})
        elif path == f"{api}/tree/{COMMIT}":
            self.answer(listing())
        elif path.startswith(files) and path.removeprefix(files) in FILES:
            self.send(FILES[path.removeprefix(files)])
        else:
            self.send(b"", code=404)

    do_HEAD = do_GET

    def answer(self, value: Any) -> None:
        self.send(json.dumps(value).encode())

    def send(self, body: bytes, code: int = 200) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.send_header(
            "X-Repo-Commit" if code == 200 else "X-Error-Code",
            COMMIT if code == 200 else "EntryNotFound",
        )
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def mirror() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def loaded(home: Path, mirror: str, *, offline: bool, revision: str | None = None) -> Any:
    """What `load_benchmark` gives in a process of its own, or its error's text."""
    code = (
        "import json\nfrom slowthink.data.load import load_benchmark\n"
        "from slowthink.errors import SlowthinkError\nfrom slowthink.recipe import BenchmarkConfig\n"
        f"config = BenchmarkConfig(name='math500', revision={revision!r})\n"
        "try:\n    found = load_benchmark(config, seed=0, setting='evaluate.benchmarks.0')\n"
        "except SlowthinkError as error:\n    print(json.dumps(str(error)))\n"
        "else:\n    print(json.dumps([found.source, [p.answer for p in found.problems]]))"
    )
    environment = os.environ | {
        "HF_ENDPOINT": mirror, "HF_HOME": str(home), "HF_HUB_OFFLINE": str(int(offline)),
    }  # fmt: skip
    environment.pop("HF_DATASETS_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def cached(home: Path) -> bool:
    """What the plan of a run sees in the cache that `loaded` fills."""
    code = (
        "from slowthink.data.hub import HubDataset, is_cached\n"
        f"print(is_cached(HubDataset(hub_id={REPO!r}, split='test')))"
    )
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_DATASETS_CACHE", None)
    return subprocess.check_output([sys.executable, "-c", code], env=environment) == b"True\n"


def test_a_mirrors_set_is_loaded_with_its_commit_and_again_from_the_cache(
    mirror: str, tmp_path: Path
) -> None:
    assert not cached(tmp_path)
    online = loaded(tmp_path, mirror, offline=False)
    assert cached(tmp_path)
    source, answers = online
    assert answers == ["2", "3"]
    assert (source["hub_id"], source["revision"], source["split"]) == (REPO, COMMIT, "test")
    assert loaded(tmp_path, mirror, offline=True) == online


def test_a_cached_copy_is_not_used_for_another_commit(mirror: str, tmp_path: Path) -> None:
    loaded(tmp_path, mirror, offline=False)
    other = loaded(tmp_path, mirror, offline=True, revision="f" * 40)
    assert f"cached at {COMMIT}; expected {'f' * 40}" in other
