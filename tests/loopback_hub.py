"""A server on loopback that speaks as much of the hub's protocol as fetching a model takes.

Like the hub it answers a question about a repository with the LFS records of its files,
redirects a large file to another host, and understands ranges. `faults` makes it misbehave.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c" * 40
OLDER = "b" * 40
REPO = "somebody/Tiny-GGUF"
FILE = "tiny-Q4_K_M.gguf"
GGUF = b"GGUF" + bytes(range(256)) * 400
LICENCE = b"The terms of Tiny.\n"


class Hub(ThreadingHTTPServer):
    """The hub's state: what it has, what it was asked, and what goes wrong next."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files = {FILE: GGUF, "tiny-Q8_0.gguf": b"GGUF8", "LICENSE": LICENCE}
        self.card: dict[str, Any] = {"license": "apache-2.0"}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.faults: list[str] = []
        self.endless: set[str] = set()
        self.sent = 0
        self.status: dict[str, tuple[int, str]] = {}
        self.token = ""
        self.stalled = threading.Event()

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT is to be."""
        return f"http://127.0.0.1:{self.server_port}"

    def downloads(self) -> list[tuple[str, dict[str, str]]]:
        """The bytes that were asked for: paths and headers of GETs of the other host."""
        return [(p, h) for method, p, h in self.asked if method == "GET" and p.startswith("/cdn/")]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is part of the tests."""


class Answer(BaseHTTPRequestHandler):
    """One request."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        """Say what a file is."""
        self.answer()

    def do_GET(self) -> None:
        """Send what is asked for."""
        self.answer()

    def answer(self) -> None:
        """Find what a path means; anything unknown is a 404."""
        hub = self.server
        headers = {name.lower(): value for name, value in self.headers.items()}
        hub.asked.append((self.command, self.path, headers))
        for part, (status, code) in hub.status.items():
            if part in self.path:
                return self.send(b"{}", status, {"X-Error-Code": code} if code else {})
        if self.path.startswith("/cdn/"):
            return self.send_bytes()
        if hub.token and headers.get("authorization") != f"Bearer {hub.token}":
            return self.send(b"{}", 401, {})
        if self.path.startswith(f"/api/models/{REPO}"):
            return self.send(json.dumps(self.about()).encode(), 200, {})
        if match := re.fullmatch(rf"/{REPO}/resolve/(\w+)/([\w.-]+)", self.path):
            return self.resolve(*match.groups())
        return self.send(b"{}", 404, {"X-Error-Code": "RepoNotFound"})

    def about(self) -> dict[str, Any]:
        """The answer of /api/models, with blobs=true."""
        siblings: list[dict[str, Any]] = []
        for name, data in self.server.files.items():
            sibling: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": "0" * 40}
            if name.endswith(".gguf") and "no lfs" not in self.server.faults:
                sha256 = hashlib.sha256(data).hexdigest()
                if "other hash" in self.server.faults:
                    sha256 = "0" * 64
                sibling["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
            siblings.append(sibling)
        commit = OLDER if f"/revision/{OLDER}" in self.path else COMMIT
        return {"id": REPO, "sha": commit, "siblings": siblings, "cardData": self.server.card}

    def resolve(self, commit: str, name: str) -> None:
        """A large file lies elsewhere, a small one here."""
        data = self.server.files.get(name)
        if name in self.server.endless:
            return self.send_without_end()
        if data is None:
            return self.send(b"{}", 404, {"X-Error-Code": "EntryNotFound"})
        etag = hashlib.sha256(data).hexdigest()
        if "weak etag" in self.server.faults:
            etag = "abc-1"
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"'}
        if not name.endswith(".gguf"):
            return self.send(data, 200, headers)
        headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(data))}
        headers["Location"] = f"http://localhost:{self.server.server_port}/cdn/{name}"
        return self.send(b"", 302, headers)

    def send_bytes(self) -> None:
        """A file, or what is left of it, or as much as a fault lets through."""
        faults = self.server.faults
        data = self.server.files[self.path.removeprefix("/cdn/")]
        if "endless" in faults:
            return self.send_without_end()
        if "wrong bytes" in faults:
            data = data[:-1] + b"?"
        start, status, headers = 0, 200, {}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and "no ranges" not in faults:
            start, status = int(asked[1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        fault = faults[0] if faults else ""
        if fault == "ends early":
            faults.pop(0)
            return self.send(data[: len(data) // 2], status, {"Connection": "close"}, len(data))
        if fault not in {"cut", "stall"}:
            return self.send(data[start:], status, headers)
        faults.pop(0)
        self.send(data[start:], status, headers, only=(len(data) - start) * 3 // 4)
        if fault == "stall":
            self.wfile.flush()
            self.server.stalled.set()
            threading.Event().wait(20)
        self.close_connection = True
        return None

    def send(
        self, data: bytes, status: int, headers: dict[str, str], only: int | None = None
    ) -> None:
        """One answer; with `only` fewer bytes than promised, or none promised if it is more."""
        self.send_response(status)
        if only is None or only <= len(data):
            self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[:only])

    def send_without_end(self) -> None:
        """Many more bytes than were promised, counted; 200 megabytes at most."""
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        while self.server.sent < 200_000_000:
            self.wfile.write(bytes(100_000))
            self.server.sent += 100_000

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class names it
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Hub]:
    """Run a hub until the block ends."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
