"""A hub on the loopback that answers `huggingface_hub`'s calls of an upload, and can fail.

Written after what huggingface_hub 2.4.0 sends without Xet: create the repository, validate the
card, ask how each file is to be sent (by size: in the commit, or as a large file), large files by
git-lfs's batch protocol, then one commit in lines of JSON.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_testtoken"
LFS_BYTES = 20_000
"""Files from this size on are large files."""


@dataclass
class FakeHub:
    """What the hub has, was asked, and fails at."""

    url: str = ""
    repos: dict[str, dict[str, str]] = field(default_factory=dict)
    """Path → hash of the content, by repository such as `datasets/me/name`."""
    private: dict[str, bool] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    """Method and path of each call that was answered."""
    failures: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Status and message by the beginning of `METHOD path`."""
    slow_puts: float = 0.0
    """Seconds that the second large file takes."""

    def num_calls(self, start: str) -> int:
        return sum(call.startswith(start) for call in self.calls)


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_GET(self) -> None:
        self._answer("GET")

    def _answer(self, method: str) -> None:
        path = self.path.split("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        call = f"{method} {path}"
        for start, (status, message) in self.hub.failures.items():
            if call.startswith(start):
                return self._send(status, {"error": message})
        signed = path.startswith("/lfs/")  # its address is the permission
        if not signed and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(
                401, {"error": f"Invalid credentials: {self.headers['Authorization']}"}
            )
        self.hub.calls.append(call)
        status, answer = self._route(method, path, body)
        self._send(status, answer)

    def _send(self, status: int, answer: Any) -> None:
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _route(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path.startswith("/lfs/"):
            return self._put(path, body)
        if path.endswith("/commit/main"):
            return self._commit(_repo(path), body)
        if method == "GET":
            known = _repo(path) in self.hub.repos
            info = {"id": _repo(path), "sha": "0" * 40, "siblings": []}
            return (200, info) if known else (404, {"error": "Repository not found"})
        request = json.loads(body)
        if path == "/api/repos/create":
            return self._create(request)
        if path == "/api/validate-yaml":
            valid = re.search(r"^license: [a-z0-9.-]+$", request["content"], re.MULTILINE)
            bad = {"errors": [{"message": '"license" must be one of …'}]}
            return (200, {"warnings": []}) if valid else (400, bad)
        if path.endswith("/preupload/main"):
            return 200, {"files": [self._mode(_repo(path), file) for file in request["files"]]}
        return 200, {"objects": list(map(self._action, request["objects"]))}

    def _create(self, request: dict[str, Any]) -> tuple[int, Any]:
        prefix = {"dataset": "datasets/"}.get(request.get("type"), "")
        name = f"{prefix}{request['organization']}/{request['name']}"
        if request["organization"] != "me":
            return 403, {
                "error": f"You don't have the rights to write to {request['organization']}"
            }
        known = name in self.hub.repos
        self.hub.repos.setdefault(name, {})
        self.hub.private.setdefault(name, request.get("visibility") == "private")
        return (409 if known else 200), {"url": f"{self.hub.url}/{name}"}

    def _mode(self, repo: str, file: dict[str, Any]) -> dict[str, Any]:
        mode = "lfs" if file["size"] >= LFS_BYTES else "regular"
        oid = self.hub.repos[repo].get(file["path"])
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}

    def _action(self, item: dict[str, Any]) -> dict[str, Any]:
        has = item["oid"] in self.hub.blobs
        upload = {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}"}}
        return item if has else item | {"actions": upload}

    def _put(self, path: str, body: bytes) -> tuple[int, Any]:
        if self.hub.blobs:
            time.sleep(self.hub.slow_puts)
        oid = path.removeprefix("/lfs/")
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.blobs[oid] = body
        return 200, {}

    def _commit(self, repo: str, body: bytes) -> tuple[int, Any]:
        for line in map(json.loads, body.splitlines()[1:]):
            value = line["value"]
            if line["key"] == "lfsFile":
                assert value["oid"] in self.hub.blobs, "a commit of a file that was not sent"
                self.hub.repos[repo][value["path"]] = value["oid"]
            else:
                content = base64.b64decode(value["content"])
                oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
                self.hub.blobs[oid], self.hub.repos[repo][value["path"]] = content, oid
        oid = hashlib.sha1(body).hexdigest()
        return 200, {"commitUrl": f"{self.hub.url}/{repo}/commit/{oid}", "commitOid": oid}


def _repo(path: str) -> str:
    """`/api/datasets/me/name/commit/main` → `datasets/me/name`; of a model: `me/name`."""
    kind, user, name = path.removeprefix("/api/").split("/")[:3]
    return f"datasets/{user}/{name}" if kind == "datasets" else f"{user}/{name}"
