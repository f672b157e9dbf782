"""Models that were added: named, hashed, verified, removed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tiny_gguf import STRING, Tiny

from synthgen_local import LocalModel, ModelError, ModelNotFoundError, UsageError
from synthgen_local.models import resolve, store
from synthgen_local.models.gguf import read_header
from synthgen_local.models.store import InstalledModel

Run = Callable[..., Any]

GGUF = b"GGUF" + bytes(1000)
SHA256 = hashlib.sha256(GGUF).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SYNTHGEN_LOCAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(GGUF)
    return path


def test_an_added_file_is_a_model(cache: Path, weights: Path) -> None:
    """It has a name, a hash and a licence, and outlives the file it was added from."""
    model, how = store.add(weights, "mine", "MIT")
    weights.unlink()

    assert how == "linked"
    assert resolve.find("mine").read_bytes() == GGUF
    assert (model.sha256, model.size, model.licence) == (SHA256, len(GGUF), "MIT")
    assert store.list_installed() == [model]
    assert sorted(path.name for path in cache.rglob("*")) == ["mine.gguf", "mine.json", "models"]


def test_a_file_of_another_file_system_is_copied(
    cache: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no link can be made the bytes are copied, and it is said."""

    def no_links(self: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", no_links)

    model, how = store.add(weights)

    assert how == "copied"
    assert (model.name, model.licence) == ("tiny", "not stated")
    assert not model.path.samefile(weights)
    assert model.path.read_bytes() == GGUF


def test_a_link_stands_for_the_file_behind_it(cache: Path, weights: Path, tmp_path: Path) -> None:
    """What is added is the file, not a link that may lead elsewhere tomorrow."""
    link = tmp_path / "link.gguf"
    link.symlink_to(weights)

    assert not store.add(link, "mine")[0].path.is_symlink()


def test_adding_again(cache: Path, weights: Path, tmp_path: Path) -> None:
    """The same file again is nothing new; another one needs another name."""
    store.add(weights, "mine")
    assert store.add(weights, "mine", "MIT")[0].licence == "MIT"
    other = tmp_path / "other.gguf"
    other.write_bytes(GGUF + b"!")

    with pytest.raises(ModelError, match="already names a model"):
        store.add(other, "mine")
    assert resolve.find("mine").read_bytes() == GGUF


@pytest.mark.parametrize(
    "name",
    ["random", "a/b", "../x", "x.gguf", "-m", "a b", "smollm2-135m-instruct", "é", "x" * 101],
)
def test_names_that_cannot_be(name: str, cache: Path, weights: Path) -> None:
    """A name that means something else, or could be a path, is refused."""
    with pytest.raises(UsageError):
        store.add(weights, name)
    assert not cache.exists()


def test_files_that_cannot_be(cache: Path, tmp_path: Path) -> None:
    """No file, or one of another kind, leaves nothing behind."""
    (tmp_path / "page.gguf").write_bytes(b"<html>")

    with pytest.raises(ModelNotFoundError, match="no model file"):
        store.add(tmp_path / "gone.gguf")
    with pytest.raises(ModelError, match="no GGUF file"):
        store.add(tmp_path / "page.gguf")
    assert list((cache / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("files", "hint"),
    [(["a.gguf", "b.gguf"], "a.gguf, b.gguf"), (["config.json"], "Convert"), ([], "none in it")],
)
def test_a_folder_is_called_one(files: list[str], hint: str, cache: Path, tmp_path: Path) -> None:
    """The hint says what is in it."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in files:
        (folder / name).touch()
    for use in (lambda: store.add(folder), lambda: resolve.find(str(folder))):
        with pytest.raises(ModelNotFoundError, match="is a folder") as caught:
            use()
        assert hint in caught.value.hint


def test_a_licence_is_read_out_of_the_file(cache: Path, tmp_path: Path) -> None:
    """What a file says of its own licence holds, unless another is given."""
    model = Tiny()
    model.keys["general.license"] = (STRING, "other")
    model.keys["general.license.name"] = (STRING, "Tiny\x1b[2J Terms")
    model.keys["general.license.link"] = (STRING, "https://example.org/terms")
    file = model.write(tmp_path / "tiny.gguf")

    added, _ = store.add(file, "tiny")
    assert added.licence == "Tiny[2J Terms"
    assert "https://example.org/terms" in added.licence_text
    assert store.add(file, "other", "MIT")[0].licence == "MIT"


def test_what_came_of_trying_a_model_is_removed_with_it(cache: Path, tmp_path: Path) -> None:
    """And nothing of another model."""
    file = Tiny().write(tmp_path / "tiny.gguf")
    other = Tiny()
    other.keys["general.name"] = (STRING, "other")
    marks = [
        store.probe_record(read_header(path), "conditions")
        for path in (file, other.write(tmp_path / "other.gguf"))
    ]
    store.add(file, "tiny")
    marks[0].parent.mkdir()
    for mark in marks:
        mark.write_text("{}")
    store.remove("tiny")

    assert [mark.exists() for mark in marks] == [False, True]


def test_one_changed_byte_is_found(cache: Path, weights: Path) -> None:
    """`find` sees another size, `verify` every byte, also one changed through the original."""
    model, _ = store.add(weights, "mine")
    store.verify(model)

    weights.write_bytes(GGUF[:-1] + b"!")
    assert resolve.find("mine") == model.path
    with pytest.raises(ModelError, match="'mine' is damaged") as caught:
        store.verify(model)
    assert caught.value.exit_code == 1

    weights.write_bytes(GGUF[:100])
    with pytest.raises(ModelError, match="has 100 bytes"):
        resolve.find("mine")


def test_a_removed_model_is_gone(cache: Path, weights: Path) -> None:
    """Its file, its record, what was written in other formats, and what was measured."""
    model, _ = store.add(weights, "mine")
    made = store.optimised_file(model.path, SHA256)
    made.parent.mkdir()
    made.write_bytes(b"GGUF")
    store.optimised_record(model.path, "a machine").write_text("{}")

    store.remove("mine")

    assert [path for path in cache.rglob("*") if path.is_file()] == []
    assert weights.is_file()
    for again in (store.remove, store.find, LocalModel.load):
        with pytest.raises(ModelNotFoundError):
            again("mine")


def test_a_file_that_vanished(cache: Path, weights: Path) -> None:
    """A record without a file is a model that is not here; its record can be removed."""
    store.add(weights, "mine")[0].path.unlink()

    with pytest.raises(ModelNotFoundError, match="not on this machine"):
        store.find("mine")
    assert store.list_installed() == []
    store.remove("mine")
    assert store.lookup_model("mine") is None


def test_a_record_that_cannot_be_read(cache: Path, weights: Path) -> None:
    """It is an error that says which file, not a model without a hash."""
    store.add(weights, "mine")
    (cache / "models" / "mine.json").write_text('{"name": "mine"}')

    with pytest.raises(ModelError, match=r"mine\.json cannot be read"):
        resolve.find("mine")


def test_a_cache_that_cannot_be_written(cache: Path, weights: Path) -> None:
    """One line, and no traceback."""
    cache.write_text("a file where the folder should be")

    with pytest.raises(ModelError, match="cannot be written"):
        store.add(weights, "mine")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a\nb"}, {"name": "x.gguf"}, {"name": "random"}, {"name": "é"},
        {"licence": "MIT\x1b[2J"}, {"sha256": "0"}, {"size": 0}, {"more": 1},
    ],
)  # fmt: skip
def test_a_record_says_nothing_strange(wrong: dict[str, Any]) -> None:
    """No name that means something else, nothing that a terminal would obey."""
    right = {"name": "mine", "origin": "file", "file": "f", "size": 1, "sha256": SHA256}
    InstalledModel.model_validate(right)

    with pytest.raises(ValidationError):
        InstalledModel.model_validate(right | wrong)


def test_file_names_are_of_one_model() -> None:
    """Two names never share a file, and a name too long for one is no record."""
    names = ["a/b:c", "a--b--c", "a%2Fb", "a/b.c"]

    assert len({store.file_name(name) for name in names}) == len(names)
    assert all("/" not in store.file_name(name) for name in names)
    assert store.lookup_model("/" * 300) is None


def test_the_commands(run: Run, tmp_path: Path, weights: Path) -> None:
    """add, list, path, verify and remove, for people and for programs."""
    settings = {"SYNTHGEN_LOCAL_CACHE": str(tmp_path / "cache")}
    added = run("models", "add", "tiny.gguf", "--name", "mine", "--licence", "MIT", **settings)
    facts = json.loads(run("models", "add", "tiny.gguf", "--json", **settings).out)
    listed = json.loads(run("models", "list", "--json", **settings).out)
    fine = run("models", "verify", **settings)
    os.truncate(tmp_path / "tiny.gguf", len(GGUF) - 1)
    damaged = run("models", "verify", "--json", **settings)
    removed = run("models", "remove", "mine", **settings)

    assert added.out == f"{tmp_path}/cache/models/mine.gguf\n"
    assert "Linked tiny.gguf" in added.err
    assert "Licence of mine: MIT" in added.err
    assert (facts["name"], facts["how"], facts["sha256"]) == ("tiny", "linked", SHA256)
    assert [m["name"] for m in listed if m["path"]] == ["mine", "tiny"]
    assert (fine.code, fine.out.count("ok ")) == (0, 2)
    assert (damaged.code, [row["ok"] for row in json.loads(damaged.out)]) == (1, [False, False])
    assert damaged.err.startswith("Error: 'mine' is damaged")
    assert removed.code == 0
    assert run("models", "verify", "mine", **settings).code == 3
