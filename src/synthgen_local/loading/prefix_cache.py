"""The prefix cache on disk: later jobs read an evaluated prompt instead of evaluating it.

A file contains the prompt with its examples, which its reader can reconstruct. So nothing is
written unless the user asks for it, and only the owner may open the file. Knows files; knows no
prompts.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ..engine.prefix import Prefix
from ..models.store import cache_dir
from ..system.permissions import is_private, make_private

_MAX_SIZE = 500_000_000
"""The maximum size in bytes of all files; the least recently used are deleted first."""
_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    zipfile.BadZipFile,
)
"""Exceptions of numpy and zipfile for a file that is missing, truncated or changed."""
_ABANDONED = 3600  # seconds after which a temporary file belongs to a job that was killed


@dataclass(frozen=True)
class PrefixKey:
    """Everything that an evaluated prompt depends on: weights, llama.cpp's build, threads, tokens.

    The name adds this program's version, which decides how a context is opened. `weights`
    identifies the file by its header's hash, its size and its modification time.
    """

    weights: str
    build: str
    threads: int
    tokens: Sequence[int]

    @property
    def name(self) -> str:
        """The name of the cache file."""
        program = version("synthgen-local")
        said = json.dumps([program, self.weights, self.build, self.threads, *self.tokens])
        return f"{hashlib.sha256(said.encode()).hexdigest()}.npz"


def load_prefix(key: PrefixKey) -> Prefix | None:
    """Return a cached prefix; None if there is none, it is damaged, or others can change it.

    Example: `load_prefix(PrefixKey("...", model.engine.build, 2, tokens))`
    """
    path = _folder() / key.name
    if not is_private(path):
        return None
    try:
        with np.load(path, allow_pickle=False) as file:  # a zip file: its checksums are compared
            prefix = Prefix(file["state"].tobytes(), file["logits"])
        os.utime(path)
    except _DAMAGED:
        return None
    return prefix


def save_prefix(key: PrefixKey, prefix: Prefix) -> None:
    """Write a prefix to the cache atomically; a full disk is ignored.

    Nothing is written if another user can change the folder.

    Example: `save_prefix(key, Prefix.prefill(model.engine, job, threads=2))`
    """
    folder = _folder()
    if not make_private(folder):
        return
    with suppress(OSError):
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".new-", delete=False) as file:
            scratch = Path(file.name)
            try:
                state = np.frombuffer(prefix.state, dtype=np.uint8)
                np.savez(file, state=state, logits=prefix.logits)
                file.close()
                scratch.replace(folder / key.name)
            finally:
                scratch.unlink(missing_ok=True)
        _trim(folder)


def _trim(folder: Path) -> None:
    files = sorted(folder.glob("*.npz"), key=lambda file: file.stat().st_mtime, reverse=True)
    total = 0
    for file in files:
        total += file.stat().st_size
        if total > _MAX_SIZE:
            file.unlink()
    for scratch in folder.glob(".new-*"):
        if scratch.stat().st_mtime < time.time() - _ABANDONED:
            scratch.unlink()


def _folder() -> Path:
    return cache_dir() / "prefixes"
