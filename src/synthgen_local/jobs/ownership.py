"""Protection of files: a run replaces only files that a run wrote, and never an input.

A run wrote a file if the file's manifest has its hash. A file that was moved into place before
its manifest was written is recognised by its hash in the state of the run. Knows paths and hashes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..data.provenance import file_hash, manifest_path
from ..errors import OutputError, RunError, UsageError
from ..system.atomic_write import atomic_write
from .ledger import NOTE, ledger_folder
from .manifest import read_manifest
from .spec import AnyJobSpec

_NAMES = ("source", "examples", "records", "passages", "model")
_HINT = "Choose another -o, or replace it with --force."


def refuse_inputs(output: Path, settings: AnyJobSpec, others: Iterable[str] = ()) -> None:
    """Raise UsageError if writing `output` would replace an input of the run.

    Links are followed; stdin is an input, too. `others` are inputs that the settings do not name.

    Example: `refuse_inputs(Path("people.jsonl"), settings)`
    """
    for name in (*_inputs(settings), *others):
        for target in (output, manifest_path(output)):
            if _is_same(name, target) or _is_inside(name, target):
                raise UsageError(
                    f"{'stdin' if name == '-' else name} is an input, and {target} would "
                    "replace it.",
                    hint="Name another -o.",
                )


def refuse_replacing(output: Path, *, force: bool) -> None:
    """Raise OutputError if `output` or its manifest exists and no run wrote it.

    Empty files and folders may be replaced; with `force`, all may.

    Example: `refuse_replacing(Path("people.jsonl"), force=False)`
    """
    if force:
        return
    if not (_is_empty(output) or _is_made_by_a_run(output)):
        raise OutputError(f"{output} exists, and no run wrote it.", hint=_HINT)
    manifest = manifest_path(output)
    if not _is_empty(manifest):
        try:
            read_manifest(output)
        except RunError:
            raise OutputError(f"{manifest} exists and is not a manifest.", hint=_HINT) from None


def announce(output: Path, made: Path) -> None:
    """Write the hash of a file that will be moved to `output` into the state of its run.

    Raises OSError.

    Example: `announce(Path("people.jsonl"), Path("people.jsonl.run/.x.partial"))`
    """
    folder = ledger_folder(output)
    with atomic_write(folder / NOTE, scratch=folder, mode=0o600) as file:
        file.write(file_hash(made).encode())


def _inputs(settings: AnyJobSpec) -> Iterator[str]:
    """Yield the values of settings that may name a file."""
    for name in _NAMES:
        value = getattr(settings, name, None)
        if value:
            yield value
            yield value.rpartition(":")[0]  # file.py:Class


def _is_same(name: str, target: Path) -> bool:
    try:
        found = os.fstat(0) if name == "-" else Path(name).stat()
        return stat.S_ISREG(found.st_mode) and os.path.samestat(found, target.stat())
    except (OSError, ValueError):
        return False


def _is_inside(name: str, target: Path) -> bool:
    """Return whether a file lies in a folder that would be replaced."""
    if not name or name == "-" or not target.is_dir():
        return False
    try:
        found = Path(name)
        return found.is_file() and found.resolve().is_relative_to(target.resolve())
    except (OSError, ValueError):
        return False


def _is_empty(path: Path) -> bool:
    """Return whether a path does not exist or is an empty file or folder."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            return not any(path.iterdir())
        return stat.S_ISREG(mode) and path.stat().st_size == 0
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _is_made_by_a_run(output: Path) -> bool:
    try:
        found = file_hash(output)
        note = ledger_folder(output) / NOTE
        if note.is_file() and note.read_text("utf-8") == found:
            return True
        return read_manifest(output).output.sha256 == found
    except (OSError, ValueError, RunError):
        return False
