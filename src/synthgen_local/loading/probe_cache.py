"""The results of probes, one small JSON file under `tried/` in the cache for each header.

Knows headers and kernels; does not know how a model is probed.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from ..errors import DecodingError
from ..kernels.build import Kernels, compile_kernels, compiled_hash, library_hash
from ..models.gguf import read_header
from ..models.store import cache_dir, probe_record
from ..system.atomic_write import atomic_write
from ..system.permissions import exposed, is_private, make_private
from .probe import ProbeRequest, probe_kernels

_NOT_REPACKED = (
    "This build of llama.cpp crashes in its AMX kernels and runs without them, which is slower. "
    "Rebuild it as docs/models.md describes."
)
_NOT_COMPILED = (
    "Attention and sampling run without the compiled kernels, which is slower: the kernels failed "
    "the probe of this model."
)
_NOT_TRUSTED = (
    "Loading is slower than necessary: other users can change {}, so the kernels and measurements "
    "in the cache are not used. Set SYNTHGEN_LOCAL_CACHE to a folder of your own."
)


def probe_once(
    path: Path, gpu_layers: int | None, note: Callable[[str], None] = lambda _: None
) -> Kernels:
    """Check a file's header, and probe the file in a subprocess unless that was done before.

    llama.cpp's behaviour on a file depends on its header; the weights after it are numbers.
    Returns the kernels that work with the file; a warning names those that do not. Raises
    ModelError for a file that cannot be loaded.

    Example: `probe_once(Path("model.gguf"), gpu_layers=0)`
    """
    header = read_header(path)
    if shared := exposed(cache_dir()):
        warnings.warn(_NOT_TRUSTED.format(shared), stacklevel=3)
    wanted = Kernels(compiled=_compiled(note))
    parts = (header.sha256, path.stat().st_size, version("llama-cpp-python"), library_hash())
    conditions = " ".join(map(str, (*parts, gpu_layers, wanted.compiled and compiled_hash())))
    record = probe_record(header, conditions)
    kernels = _read(record, wanted)
    if kernels is None:
        note(f"Probing {path.name} in a subprocess, once")
        kernels = probe_kernels(ProbeRequest(str(path), gpu_layers, wanted))
        _save(record, kernels, wanted)
    if not kernels.repack:
        warnings.warn(_NOT_REPACKED, stacklevel=3)
    if kernels.compiled != wanted.compiled:
        warnings.warn(_NOT_COMPILED, stacklevel=3)
    return kernels


def _read(record: Path, wanted: Kernels) -> Kernels | None:
    """The result of an earlier probe, None if there is none."""
    if not is_private(record):
        return None
    try:
        found = json.loads(record.read_text("utf-8"))
        return Kernels(found["repack"], wanted.compiled if found["compiled"] else None)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _save(record: Path, kernels: Kernels, wanted: Kernels) -> None:
    """Write the result of a probe; if that fails, the file is probed again next time."""
    found = {"repack": kernels.repack, "compiled": kernels.compiled == wanted.compiled}
    if make_private(record.parent):
        with suppress(OSError), atomic_write(record, mode=0o600) as file:
            file.write(json.dumps(found).encode())


def _compiled(note: Callable[[str], None]) -> str | None:
    """The compiled kernels; a warning says why if they cannot be compiled."""
    try:
        return compile_kernels(cache_dir() / "compiled", note)
    except DecodingError as error:
        warnings.warn(f"{error} {error.hint}", stacklevel=4)
        return None
