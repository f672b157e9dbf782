"""Destinations of rows: a file by its suffix, a folder or a pipe, and what may be replaced.

Knows paths; knows no rows.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from ..errors import OutputError, UsageError
from ..system.atomic_write import is_pinned
from .dataset_card import DATA, is_card

Destination: TypeAlias = str | os.PathLike[str]
"""A file by its suffix, a folder by a `/` at its end, or a pipe."""


SUFFIXES = (".jsonl", ".csv", ".parquet")
_FOLDER = "/"


_LONGEST_NAME = 230  # bytes; 255 less what is put behind it


_STREAMS = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/")


def check_destination(path: Destination, *, csv_safe: bool = False) -> None:
    """Raise OutputError if rows could not be written to `path`: before any work is done.

    Raises UsageError if `csv_safe` is asked for and it is no .csv.

    Example: `check_destination("people.parquet")`
    """
    kind, where = destination_kind(path), Path(path).absolute()
    if csv_safe and kind != ".csv":
        raise UsageError(f"{path} is no .csv: no cell is a formula in it.", hint="Leave it out.")
    if not 0 < len(os.fsencode(Path(path).name)) <= _LONGEST_NAME:
        raise OutputError(f"{path} has no name, or too long a one.", hint="Choose another.")
    if is_stream(where):
        writable = where
    elif not where.parent.is_dir():
        raise OutputError(
            f"The folder {Path(path).parent} does not exist.",
            hint=f"Make it: mkdir -p {Path(path).parent}",
        )
    else:
        writable = Path(path).parent
    if not os.access(writable, os.W_OK):
        what = "" if writable is where else "The folder "
        raise OutputError(f"{what}{writable} cannot be written.", hint="Choose another place.")
    if kind == _FOLDER:
        _check_replaceable(where)
    elif where.is_dir():
        raise OutputError(f"{path} is a folder.", hint="Name a file, or end it with a /.")
    elif not is_stream(where) and is_pinned(where):
        raise OutputError(f"{path} may not be replaced by you.", hint="Choose another place.")


def destination_kind(path: Destination) -> str:
    """Return the suffix of a file's format, or `_FOLDER`."""
    where = Path(path)
    suffix = where.suffix.lower()
    if is_stream(where):
        return suffix if suffix in SUFFIXES else ".jsonl"
    if os.fspath(path).endswith(_FOLDER) or _is_ours(where):
        return _FOLDER
    if suffix in SUFFIXES:
        return suffix
    raise OutputError(
        f"{path} has no known suffix.", hint=f"Use {', '.join(SUFFIXES)}, or end it with a /."
    )


def is_stream(path: Destination) -> bool:
    """Whether a path is a pipe or a device; what it gets cannot be taken back."""
    if str(path).startswith(_STREAMS):
        return True
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _is_ours(path: Path) -> bool:
    try:
        return is_card((path / "README.md").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return False


def _check_replaceable(path: Path) -> None:
    """Raise OutputError for a folder with anything in it that `_write_folder` did not write."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise OutputError(f"{path} is no folder.", hint="Choose another name.")
    if not path.exists() or not any(path.iterdir()):
        return
    other = next(_others(path), None)
    if other is not None or not _is_ours(path):
        named = f" It holds {other.relative_to(path)}." if other is not None else ""
        raise OutputError(
            f"The folder {path} is no data set of this program.{named}",
            hint="Choose another name, or remove it.",
        )


def _others(path: Path) -> Iterator[Path]:
    """What is in a folder besides the parts of a data set."""
    for entry in path.iterdir():
        if entry.name == "data" and entry.is_dir() and not entry.is_symlink():
            yield from (file for file in entry.iterdir() if not file.match(DATA))
        elif entry.name != "README.md":
            yield entry
