"""Files and folders that are there whole, or not at all.

Each is written beside its destination, made durable, and moved into place. Knows nothing of what
is in them.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_write(
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

    Example: `with atomic_write(Path("rows.csv")) as file: file.write(b"name")`
    """
    partial = ""
    try:
        with tempfile.NamedTemporaryFile(
            dir=scratch or path.parent, prefix=".", suffix=".partial", delete=False
        ) as file:
            partial = file.name
            yield file
            sync(file)
        with suppress(PermissionError):  # not every file system has modes
            Path(partial).chmod(mode & ~_umask())
        ready(Path(partial))
        Path(partial).replace(path)
        sync_path(path.parent)
    finally:
        with suppress(OSError):
            Path(partial).unlink() if partial else None


@contextmanager
def atomic_folder(
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

    Example: `with atomic_folder(Path("people"), check) as folder: (folder / "a").write_text("")`
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


def write_hint(error: OSError) -> str:
    """Return one line on what to do where a file could not be written.

    Example: `write_hint(OSError(errno.ENOSPC, "No space left on device"))`
    """
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "Make room on the disk, or choose another place."
        case errno.EPERM | errno.EACCES | errno.EROFS:
            return "You may not write there, or not replace what is there: choose another place."
        case errno.EFBIG:
            return "The file system, or ulimit -f, allows no larger file: choose another place."
    return "Check the disk, or choose another place."


def is_pinned(path: Path) -> bool:
    """Return whether a file is there that may not be replaced, though its folder can be written.

    It is another user's in a folder with the sticky bit, or marked as immutable.

    Example: `is_pinned(Path("/tmp/people.csv"))`
    """
    try:
        file, folder = path.lstat(), path.parent.stat()
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.EPERM:
            return True
    return _sticks(file, folder)


def _sticks(file: os.stat_result, folder: os.stat_result) -> bool:
    mine = os.geteuid() in {0, file.st_uid, folder.st_uid}
    return bool(folder.st_mode & stat.S_ISVTX) and not mine


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
