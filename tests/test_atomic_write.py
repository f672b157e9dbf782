"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from synthgen_local.system.atomic_write import atomic_folder, atomic_write, is_pinned, write_hint


def anything(path: Path) -> None:
    """Let every folder be replaced."""


def test_nobody_sees_half(tmp_path: Path) -> None:
    """Until all is written the old contents are there."""
    for name in ("file", "folder"):
        (tmp_path / name).mkdir(parents=True) if name == "folder" else None
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder" / "a").write_text("old")

    with atomic_write(tmp_path / "file") as file:
        file.write(b"new")
        assert (tmp_path / "file").read_text() == "old"
    with atomic_folder(tmp_path / "folder", anything) as folder:
        (folder / "b").write_text("new")
        assert (tmp_path / "folder" / "a").read_text() == "old"

    assert (tmp_path / "file").read_text() == "new"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_the_old_folder_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the new folder cannot take its place, the old one is back, and nothing else is left."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("old")
    rename = Path.rename

    def refused(path: Path, target: Path) -> Path:
        if path.suffix == ".partial":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(OSError, match="No space"), atomic_folder(tmp_path / "folder", anything):
        pass

    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "a"]
    assert (tmp_path / "folder" / "a").read_text() == "old"


KILLED = """
import os, sys
from pathlib import Path
from synthgen_local.system.atomic_write import is_pinned, atomic_write, atomic_folder, write_hint
with atomic_write(Path("file")) as file, atomic_folder(Path("folder"), print) as folder:
    file.write(b"new")
    (folder / "a").write_text("new")
    os.kill(os.getpid(), 9)
"""


def test_a_killed_process_leaves_what_was_there(tmp_path: Path) -> None:
    """After kill -9 the old contents are there; what is left beside them is hidden."""
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, check=False)

    assert (tmp_path / "file").read_text() == "old"
    assert list((tmp_path / "folder").iterdir()) == []
    left = {path.name for path in tmp_path.iterdir()} - {"file", "folder"}
    assert len(left) == 2
    assert all(name.startswith(".") and name.endswith(".partial") for name in left)


def test_the_hint_is_that_of_the_error() -> None:
    """A full disk, a place that may not be written, a limit, and anything else."""
    words = {
        errno.ENOSPC: "Make room",
        errno.EPERM: "may not",
        errno.EFBIG: "ulimit -f",
        errno.EIO: "Check",
    }
    for code, word in words.items():
        assert word in write_hint(OSError(code, os.strerror(code)))


def test_a_file_that_may_not_be_replaced_is_known_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marked as immutable, or another user's in a folder such as /tmp."""
    file = tmp_path / "people.csv"
    assert not is_pinned(file)
    file.touch()
    assert not is_pinned(file)
    tmp_path.chmod(0o1777)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert is_pinned(file)
    tmp_path.chmod(0o755)

    def immutable(*_: object) -> int:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "open", immutable)
    assert is_pinned(file)
