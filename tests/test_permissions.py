"""Whether another user can change what lies at a path, and what is not believed because of it."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_gguf import Tiny

from synthgen_local import DecodingError, ModelError
from synthgen_local.engine.prefix import Prefix
from synthgen_local.kernels import build
from synthgen_local.kernels.build import PLAIN, compile_kernels
from synthgen_local.loading import load_plan, probe_cache, tuning_record
from synthgen_local.loading.prefix_cache import PrefixKey, load_prefix, save_prefix
from synthgen_local.models import store
from synthgen_local.system.permissions import exposed, is_private, make_private


@pytest.fixture(params=["writable", "foreign", "linked", "link in a shared folder"])
def shared(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of ours, below one that somebody else can change, or that is his."""
    parent = tmp_path / "shared"
    folder = parent / "team" / "cache"
    folder.mkdir(parents=True)
    if request.param == "foreign":
        disown(parent, monkeypatch)
        return folder
    if request.param == "link in a shared folder":
        own, folder = tmp_path / "own", parent / "link" / "cache"
        (own / "cache").mkdir(parents=True)
        (parent / "link").symlink_to(own)
    parent.chmod(0o777)
    if request.param == "linked":
        (tmp_path / "link").symlink_to(parent / "team")
        return tmp_path / "link" / "cache"
    return folder


def disown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a folder be another user's, also where only root could give it to him."""
    usual = Path.lstat

    def lstat(self: Path) -> Any:
        about = usual(self)
        if self != folder:
            return about
        return SimpleNamespace(st_uid=os.getuid() + 1, st_gid=about.st_gid, st_mode=about.st_mode)

    monkeypatch.setattr(Path, "lstat", lstat)


def test_a_folder_of_ones_own_is_private(tmp_path: Path) -> None:
    """Below /tmp, too, whose sticky bit keeps others from renaming what is not theirs."""
    sticky = tmp_path / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    assert make_private(sticky / "a" / "b")
    assert stat.S_IMODE((sticky / "a" / "b").stat().st_mode) == 0o700
    assert exposed(sticky / "a" / "nothing" / "yet") is None


def test_each_folder_on_the_way_counts(shared: Path) -> None:
    """Who can rename a parent can put another folder there."""
    assert exposed(shared) is not None
    assert not is_private(shared)
    assert exposed(shared / "not" / "yet") is not None


@pytest.mark.parametrize("mode", [0o777, 0o707, 0o1777])
def test_the_folder_itself_counts(tmp_path: Path, mode: int) -> None:
    """A sticky bit keeps files from being replaced, and none from being added."""
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    assert exposed(folder) == folder


def test_a_file_that_others_can_write_is_not_private(tmp_path: Path) -> None:
    """Its folder alone does not decide."""
    file = tmp_path / "kernels.so"
    file.touch()
    file.chmod(0o666)
    assert not is_private(file)


def test_links_that_go_round_are_not_private(tmp_path: Path) -> None:
    """They lead nowhere."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert not is_private(tmp_path / "a" / "kernels.so")


def test_no_library_is_loaded_from_there(shared: Path) -> None:
    """Neither is one of the right name taken, nor is one put there."""
    folder = shared / "compiled"
    planted = folder / f"kernels-{build.compiled_hash()}.so"
    folder.mkdir(mode=0o700)
    planted.write_bytes(b"")
    compiled = compile_kernels(folder)

    assert compiled is not None
    assert is_private(Path(compiled))
    assert planted.read_bytes() == b""


def test_a_temporary_folder_of_others_is_not_used_either(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then rows are made without, and a line says why."""
    monkeypatch.setattr(build, "_passing", lambda: SimpleNamespace(name=str(shared)))
    with pytest.raises(DecodingError, match="other users can change"):
        compile_kernels(shared / "compiled")


def test_no_record_and_no_weights_are_believed_there(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is measured for a record that nobody reads."""
    monkeypatch.setenv("SYNTHGEN_LOCAL_CACHE", str(shared))
    monkeypatch.setattr(load_plan, "tune", lambda *_, **__: pytest.fail("it was measured"))
    weights = Tiny().write(tmp_path / "tiny.gguf")
    record = store.optimised_record(weights, tuning_record.machine_id())
    record.parent.mkdir()
    record.write_text("{}")

    assert tuning_record.read_record(weights) is None
    assert load_plan.choose_load_plan(weights, threads=1).path == weights


def test_no_trial_is_passed_by_there(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mark says that a file came through; there it is tried again, and a warning says so."""
    monkeypatch.setenv("SYNTHGEN_LOCAL_CACHE", str(shared))
    monkeypatch.setenv("CC", "")
    build.compiled_hash.cache_clear()
    tried: list[object] = []
    monkeypatch.setattr(probe_cache, "probe_kernels", lambda trial: tried.append(trial) or PLAIN)
    weights = Tiny().write(tmp_path / "tiny.gguf")
    for _ in range(2):
        with pytest.warns(UserWarning, match="other users can change"):
            probe_cache.probe_once(weights, 0)
    build.compiled_hash.cache_clear()

    assert len(tried) == 2
    assert not list(shared.glob("tried/*.json"))


def test_a_mark_that_others_may_write_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is tried again once, not at every load: the new mark is this user's alone."""
    monkeypatch.setenv("SYNTHGEN_LOCAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", "")
    build.compiled_hash.cache_clear()
    tried: list[object] = []
    monkeypatch.setattr(probe_cache, "probe_kernels", lambda trial: tried.append(trial) or PLAIN)
    weights = Tiny().write(tmp_path / "tiny.gguf")
    for _ in range(2):
        probe_cache.probe_once(weights, 0)
    (mark,) = (tmp_path / "cache").glob("tried/*.json")
    mark.chmod(0o666)
    for _ in range(2):
        probe_cache.probe_once(weights, 0)
    build.compiled_hash.cache_clear()

    assert len(tried) == 2
    assert mark.stat().st_mode & 0o777 == 0o600


def test_no_prompt_is_kept_or_read_there(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds examples, and llama.cpp believes what is in it."""
    monkeypatch.setenv("SYNTHGEN_LOCAL_CACHE", str(shared))
    key = PrefixKey("weights", "build", 1, [1, 2])
    prefix = Prefix(b"state", np.zeros(4, np.float32))
    save_prefix(key, prefix)
    assert not list(shared.glob("prefixes/*"))

    (shared / "prefixes").mkdir(exist_ok=True)
    with (shared / "prefixes" / key.name).open("wb") as file:
        np.savez(file, state=np.zeros(3, np.uint8), logits=prefix.logits)
    assert zipfile.is_zipfile(shared / "prefixes" / key.name)
    assert load_prefix(key) is None


def test_a_record_of_others_deletes_nothing_outside(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`models remove` deletes the file that the record names."""
    monkeypatch.setenv("SYNTHGEN_LOCAL_CACHE", str(shared))
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("GGUF")
    store.record(
        store.InstalledModel(name="bait", origin="hub", file=str(thesis), size=4, sha256="0" * 64)
    )
    with pytest.raises(ModelError, match="other users can change"):
        store.remove("bait")
    assert thesis.is_file()


def test_a_file_system_without_programs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the cache is mounted noexec another folder is used; if none is left, a line says so."""
    usual = os.statvfs

    def noexec(*folders: Path) -> None:
        def statvfs(path: Path) -> Any:
            barred = any(Path(path).is_relative_to(folder) for folder in folders)
            return SimpleNamespace(f_flag=usual(path).f_flag | (barred * os.ST_NOEXEC))

        monkeypatch.setattr(os, "statvfs", statvfs)

    noexec(tmp_path)
    compiled = compile_kernels(tmp_path / "compiled")
    assert compiled is not None
    assert not Path(compiled).is_relative_to(tmp_path)

    noexec(Path("/"))
    with pytest.raises(DecodingError, match="noexec") as caught:
        compile_kernels(tmp_path / "compiled")
    assert "SYNTHGEN_LOCAL_CACHE" in caught.value.hint
