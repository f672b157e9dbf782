"""Whether another user of this machine can change what lies at a path.

Code that is loaded, and records that are believed, may come from a cache. Write access to any
folder on the way to them is enough to replace them. Knows permissions, not what is in the files.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")
_MOST_LINKS = 40  # Linux follows no more
_GROUP, _OTHERS = 0o020, 0o002


def exposed(path: Path) -> Path | None:
    """Return the first folder, link or file of a path that another user can change, else None.

    Each must belong to this user or to root, and nobody else may write to it. A folder on the way
    may have the sticky bit instead, as /tmp has; it, and a file, may also be writable by a group
    that is this user's alone.
    Links are followed, and the folders that they lie in are checked as well. What is not there yet
    is judged by the folders that are.

    Example: `exposed(Path.home() / ".cache" / "synthgen-local")`
    """
    end = Path(os.path.realpath(path))
    for place, about in _passed(path):
        if _changeable(about, strict=place == end and stat.S_ISDIR(about.st_mode)):
            return place
    return None


def is_private(path: Path) -> bool:
    """Return whether a path is there, and no other user can change what it leads to.

    Example: `is_private(Path("kernels.so"))`
    """
    try:
        path.stat()
    except OSError:
        return False
    return exposed(path) is None


def make_private(folder: Path) -> bool:
    """Make a folder that only this user may enter, unless it is there.

    Returns whether it is private, see `is_private`.

    Example: `make_private(Path("compiled"))`
    """
    try:
        make_folders(folder, mode=0o700)
    except OSError:
        return False
    return is_private(folder)


def close_to_others(path: Path) -> None:
    """Take the right to write to it from all but its owner, whatever the umask has left.

    Example: `close_to_others(Path("record.json"))`
    """
    path.chmod(stat.S_IMODE(path.stat().st_mode) & ~(_GROUP | _OTHERS))


def make_folders(folder: Path, *, mode: int = 0o755) -> None:
    """Make a folder and its parents, where they are missing, writable by this user alone.

    Example: `make_folders(Path("cache") / "models")`
    """
    for parent in reversed(folder.absolute().parents):
        if not parent.exists():
            parent.mkdir(mode=0o755, exist_ok=True)
    folder.mkdir(mode=mode, exist_ok=True)


def _passed(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Each folder and link on the way, and the end, as far as they are there."""
    place, links = _ROOT, 0
    left = list(path.absolute().parts[1:])
    yield place, place.lstat()
    while left:
        name = left.pop(0)
        if name == os.pardir:
            place = place.parent
            continue
        step = place / name
        try:
            about = step.lstat()
        except OSError:
            return
        yield step, about
        if not stat.S_ISLNK(about.st_mode):
            place = step
            continue
        if (links := links + 1) > _MOST_LINKS:
            return
        target = step.readlink()
        place = _ROOT if target.is_absolute() else place
        left = [*target.parts[target.is_absolute() :], *left]


def _changeable(about: os.stat_result, *, strict: bool) -> bool:
    """Whether another user can change it, or add to it if `strict`."""
    if about.st_uid not in {os.getuid(), 0}:
        return True
    if stat.S_ISLNK(about.st_mode):  # its mode means nothing; the folder decides
        return False
    if strict:
        return bool(about.st_mode & (_GROUP | _OTHERS))
    if stat.S_ISDIR(about.st_mode) and about.st_mode & stat.S_ISVTX:
        return False
    shared = bool(about.st_mode & _GROUP) and not _own_group(about.st_gid)
    return shared or bool(about.st_mode & _OTHERS)


def _own_group(gid: int) -> bool:
    """Whether a group is this user's alone: where the umask is 002, their folders belong to it."""
    try:
        user, group = pwd.getpwuid(os.getuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    alone = not set(group.gr_mem) - {user.pw_name}
    return bool(user.pw_uid) and user.pw_gid == gid and group.gr_name == user.pw_name and alone
