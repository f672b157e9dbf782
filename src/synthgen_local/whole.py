"""Files and folders that are there whole, or not at all.

Each is written beside its destination, made durable, and moved into place. Knows nothing of what
is in them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Give a file that takes its name when all has been written, or is gone.

    Raises OSError.

    Example: `with whole_file(Path("rows.csv")) as file: file.write(b"name")`
    """
    partial = ""
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".partial", delete=False
        ) as file:
            partial = file.name
            yield file
            sync(file)
        Path(partial).chmod(0o666 & ~_umask())
        Path(partial).replace(path)
        _sync_folder(path.parent)
    finally:
        with suppress(OSError):
            Path(partial).unlink() if partial else None


@contextmanager
def whole_folder(path: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """Give a folder that takes its name when all has been written, or is gone.

    `check` raises if what has that name by then must not be replaced. Raises OSError. Files in
    the folder are to be synced by who writes them.

    Example: `with whole_folder(Path("people"), check) as folder: (folder / "a").write_text("")`
    """
    scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial"))
    try:
        yield scratch
        for folder in (*filter(Path.is_dir, scratch.rglob("*")), scratch):
            folder.chmod(0o777 & ~_umask())
            _sync_folder(folder)
        check(path)
        _replace_folder(path, scratch)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def sync(file: IO[Any]) -> None:
    """Let what was written reach the disk."""
    file.flush()
    os.fsync(file.fileno())


def _replace_folder(path: Path, new: Path) -> None:
    """Put a folder in the place of another, which POSIX does in one step only for empty ones."""
    if not path.exists() or not any(path.iterdir()):
        new.rename(path)
        return
    old = new.with_suffix(".old")
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sync_folder(path: Path) -> None:
    """Make names durable, not contents only."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
