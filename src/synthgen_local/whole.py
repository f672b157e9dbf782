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
def whole_file(
    path: Path,
    *,
    scratch: Path | None = None,
    mode: int = 0o666,
    ready: Callable[[Path], None] = lambda _: None,
) -> Iterator[IO[bytes]]:
    """Give a file that takes its name when all has been written, or is gone.

    It is written in `scratch`, a folder of the same file system, or else beside `path`, and gets
    `mode` less the umask. `ready` is called with the file that is written just before it takes its
    name, and may raise. Raises OSError.

    Example: `with whole_file(Path("rows.csv")) as file: file.write(b"name")`
    """
    partial = ""
    try:
        with tempfile.NamedTemporaryFile(
            dir=scratch or path.parent, prefix=".", suffix=".partial", delete=False
        ) as file:
            partial = file.name
            yield file
            sync(file)
        Path(partial).chmod(mode & ~_umask())
        ready(Path(partial))
        Path(partial).replace(path)
        sync_path(path.parent)
    finally:
        with suppress(OSError):
            Path(partial).unlink() if partial else None


@contextmanager
def whole_folder(
    path: Path,
    check: Callable[[Path], None],
    *,
    scratch: Path | None = None,
    ready: Callable[[Path], None] = lambda _: None,
) -> Iterator[Path]:
    """Give a folder that takes its name when all has been written, or is gone.

    It is written in `scratch` or beside `path`. `check` raises if what has that name by then must
    not be replaced; `ready` is called with what is written, and may raise. Raises OSError. Files in
    the folder are to be synced by who writes them.

    Example: `with whole_folder(Path("people"), check) as folder: (folder / "a").write_text("")`
    """
    new = Path(tempfile.mkdtemp(dir=scratch or path.parent, prefix=".", suffix=".partial"))
    try:
        yield new
        for folder in (*filter(Path.is_dir, new.rglob("*")), new):
            folder.chmod(0o777 & ~_umask())
            sync_path(folder)
        check(path)
        ready(new)
        _replace_folder(path, new)
        sync_path(path.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)


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


def sync_path(path: Path) -> None:
    """Wait until a file is on the disk, or the names in a folder.

    Example: `sync_path(Path("people.csv").parent)`
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
