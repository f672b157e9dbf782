"""Start llama.cpp's server on a free local port, send it completions over HTTP, stop it.

Knows its options and its completion request, not the workloads.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from peak_memory import peak_memory

SLOTS = 16
_HOST = "127.0.0.1"
_START = 120  # seconds to load a model


@dataclass(frozen=True)
class Server:
    """A running server that accepts requests."""

    port: int
    process: int

    def complete(self, requests: Sequence[dict[str, Any]]) -> list[str]:
        """Return the completions in the order of the requests; `SLOTS` of them run concurrently.

        Example: `server.complete([{"prompt": "Once", "n_predict": 10}])`
        """
        with ThreadPoolExecutor(SLOTS) as pool:
            return list(pool.map(self._complete, requests))

    def _complete(self, request: dict[str, Any]) -> str:
        status, answer = _request(self.port, "POST", "/completion", json.dumps(request))
        if status != http.client.OK:
            raise RuntimeError(f"llama-server answered {status}: {answer[:300]}")
        content: str = json.loads(answer)["content"]
        return content

    def peak_memory(self) -> int:
        """Return the peak resident memory of the server in bytes.

        Example: `server.peak_memory() / 1e6`
        """
        return peak_memory(self.process)


@contextmanager
def serve(binary: str, weights: str, *, context: int, threads: int) -> Iterator[Server]:
    """Start a server with `SLOTS` slots of `context` tokens each, and wait until it is ready.

    Raises FileNotFoundError if there is no such binary.

    Example: `with serve("llama-server", "model.gguf", context=1024, threads=2) as server: ...`
    """
    port = _free_port()
    options = {
        "--model": weights,
        "--host": _HOST,
        "--port": port,
        "--parallel": SLOTS,
        "--ctx-size": SLOTS * context,
        "--threads": threads,
        "--threads-http": SLOTS + 1,
    }
    command = [binary, *(str(part) for option in options.items() for part in option)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(process, port)
        yield Server(port, process.pid)
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + _START
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"llama-server ended with {process.returncode}")
        with suppress(OSError, http.client.HTTPException):
            if _request(port, "GET", "/health")[0] == http.client.OK:
                return
        time.sleep(0.2)
    raise RuntimeError(f"llama-server was not ready after {_START} s")


def _request(port: int, method: str, path: str, body: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(_HOST, port)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
