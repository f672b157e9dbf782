"""Evaluated prompts on disk, for runs to come: a prompt is then read instead of evaluated.

A state holds the prompt as the model sees it, examples included, and who has the file can read
them out of it. So nothing is kept unless it is asked for, and only its owner may open it. Knows
files, not prompts.
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

_MOST = 500_000_000
"""Bytes of all prefixes together; those that were not used for longest go first."""
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
"""What numpy and zipfile raise for a file that is gone, cut or changed."""
_ABANDONED = 3600  # seconds after which a scratch file is what a killed run has left


@dataclass(frozen=True)
class PrefixKey:
    """All that an evaluated prompt hangs on: weights, llama.cpp's build, threads, tokens.

    And this program's version, which decides how a context is set up. Weights are known by their
    file: its header's hash, its size, and when it was changed.
    """

    weights: str
    build: str
    threads: int
    tokens: Sequence[int]

    @property
    def name(self) -> str:
        """The name of its file."""
        program = version("synthgen-local")
        said = json.dumps([program, self.weights, self.build, self.threads, *self.tokens])
        return f"{hashlib.sha256(said.encode()).hexdigest()}.npz"


def load_prefix(key: PrefixKey) -> Prefix | None:
    """Return what was kept; None if nothing was, or it is damaged, or others can change it.

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
    """Keep an evaluated prompt, whole or not at all. A full disk is no reason to end a run.

    Where another user can change the folder nothing is kept.

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
        if total > _MOST:
            file.unlink()
    for scratch in folder.glob(".new-*"):
        if scratch.stat().st_mtime < time.time() - _ABANDONED:
            scratch.unlink()


def _folder() -> Path:
    return cache_dir() / "prefixes"
