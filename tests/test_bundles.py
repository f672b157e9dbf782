"""Bundles: packed, carried, unpacked; and what comes of those that somebody has changed."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shlex
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from synthgen_local import ModelError, ModelNotFoundError, UsageError
from synthgen_local.models import (
    bundles as packs,
)
from synthgen_local.models import (
    resolve as sources,
)
from synthgen_local.models import (
    store,
    wheelhouse,
)

Run = Callable[..., Any]
Files = list[tuple[tarfile.TarInfo, bytes]]

GGUF = b"GGUF" + bytes(range(256)) * 20
ROOT = Path(__file__).parents[1]
WHEEL = "tiny-1.0-py3-none-any.whl"
KINDS = (
    tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
    tarfile.DIRTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE,
)  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the machine that unpacks."""
    monkeypatch.setenv("SYNTHGEN_LOCAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle of another machine, with one wheel."""

    def collect(folder: Path, note: Callable[[str], None]) -> None:
        (folder / WHEEL).write_bytes(b"PK")
        (folder / "requirements.txt").write_text(wheelhouse.requirements(folder))

    monkeypatch.setattr(wheelhouse, "collect", collect)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHGEN_LOCAL_CACHE", str(tmp_path / "there"))
        (tmp_path / "tiny.gguf").write_bytes(GGUF)
        model, _ = store.add(tmp_path / "tiny.gguf", "mine", "MIT")
        packs.pack(model, tmp_path / "bundle.tar", with_wheels=True)
    return tmp_path / "bundle.tar"


def members(bundle: Path) -> Files:
    with tarfile.open(bundle) as archive:
        return [(m, archive.extractfile(m).read()) for m in archive]  # type: ignore[union-attr]


def written(path: Path, files: Files, form: int = tarfile.USTAR_FORMAT) -> Path:
    """A tar file, however strange, by the standard library's own writer."""
    with tarfile.open(path, "w", format=form) as archive:  # type: ignore[call-overload]
        for member, data in files:
            archive.addfile(member, io.BytesIO(data))
    return path


def listed(files: Files) -> Files:
    """The same files with the list of contents made right for them."""
    contents = json.loads(files[0][1])
    contents["members"] = [
        {"name": m.name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for m, data in files[1:]
    ]
    return with_contents(files, contents)


def with_contents(files: Files, contents: Any) -> Files:
    text = json.dumps(contents).encode()
    head = tarfile.TarInfo(packs.CONTENTS)
    head.size = len(text)
    return [(head, text), *files[1:]]


def plain(name: str, data: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    return member, data


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def nothing_kept(cache: Path) -> bool:
    return not cache.exists() or not [path for path in cache.rglob("*") if path.is_file()]


def test_a_model_is_carried(bundle: Path, cache: Path, tmp_path: Path) -> None:
    """On the other side it has its name, hash and licence, and the wheels lie where asked."""
    model = packs.unpack(bundle, wheels=tmp_path / "wheels")

    assert sources.find("mine").read_bytes() == GGUF
    assert (model.licence, model.origin) == ("MIT", "file")
    store.verify(store.find("mine"))
    assert sorted(p.name for p in (tmp_path / "wheels").iterdir()) == ["requirements.txt", WHEEL]
    assert sorted(p.name for p in cache.rglob("*") if p.is_file()) == ["mine.gguf", "mine.json"]
    written_at = model.path.stat().st_mtime_ns
    assert packs.unpack(bundle) == model  # once more, and the file that is right stays
    assert model.path.stat().st_mtime_ns == written_at


def test_the_same_bytes_again(bundle: Path, tmp_path: Path) -> None:
    """A bundle says nothing of when, where and by whom it was made: it can be compared."""
    model = packs.unpack(bundle)

    packs.pack(model, tmp_path / "again.tar", with_wheels=True)

    assert (tmp_path / "again.tar").read_bytes() == bundle.read_bytes()
    assert str(tmp_path).encode() not in bundle.read_bytes()


def test_other_programs_read_a_bundle(bundle: Path, tmp_path: Path) -> None:
    """tar takes the wheels out before anything of ours is installed."""
    subprocess.run(["tar", "-xf", bundle, "wheels"], check=True, cwd=tmp_path)
    names = [member.name for member, _ in members(bundle)]

    assert (tmp_path / "wheels" / WHEEL).read_bytes() == b"PK"
    assert names == [
        "contents.json", "LICENCE.txt", "model/mine.gguf",
        "wheels/requirements.txt", f"wheels/{WHEEL}",
    ]  # fmt: skip
    assert "Licence of mine: MIT" in members(bundle)[1][1].decode()


def test_the_text_of_a_licence_is_carried(tmp_path: Path) -> None:
    """Not its name alone, where the text is known."""
    (tmp_path / "tiny.gguf").write_bytes(GGUF)
    model, _ = store.add(tmp_path / "tiny.gguf", "free", "apache-2.0")
    packs.pack(model, tmp_path / "free.tar")
    text = {m.name: data for m, data in members(tmp_path / "free.tar")}[packs.LICENCE]

    assert b"Licence of free: apache-2.0" in text
    assert b"TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in text


def test_a_damaged_model_is_not_packed_as_a_good_one(tmp_path: Path) -> None:
    """The list would not agree with the record, and nothing is written."""
    (tmp_path / "tiny.gguf").write_bytes(GGUF)
    model, _ = store.add(tmp_path / "tiny.gguf", "mine")
    (tmp_path / "tiny.gguf").write_bytes(GGUF[:-1] + b"!")

    with pytest.raises(ModelError, match="'mine' is damaged"):
        packs.pack(model, tmp_path / "bundle.tar")
    assert not (tmp_path / "bundle.tar").exists()


def test_wheels_are_only_put_into_a_new_folder(bundle: Path, tmp_path: Path, cache: Path) -> None:
    """Nothing of the user's is written over, and wheels that are not there are missed."""
    (tmp_path / "wheels").mkdir()
    with pytest.raises(UsageError, match="is there already"):
        packs.unpack(bundle, wheels=tmp_path / "wheels")
    bare = written(tmp_path / "bare.tar", listed(members(bundle)[:3]))
    with pytest.raises(ModelError, match="list of contents"):
        packs.unpack(bare)  # it says for which Python its wheels are, and has none

    files = members(bundle)[:3]
    contents = json.loads(listed(files)[0][1]) | {"python": None}
    bare = written(tmp_path / "bare.tar", with_contents(files, contents))
    with pytest.raises(UsageError, match="has no wheels"):
        packs.unpack(bare, wheels=tmp_path / "new")
    assert nothing_kept(cache)
    assert packs.unpack(bare).name == "mine"


def test_wheels_for_another_python_are_named(bundle: Path, tmp_path: Path) -> None:
    """They are unpacked for whoever asks, with a word of warning."""
    files = members(bundle)
    contents = json.loads(files[0][1]) | {"python": "cpython 3.9 linux-armv7l"}
    notes: list[str] = []

    other = written(tmp_path / "other.tar", with_contents(files, contents))
    packs.unpack(other, wheels=tmp_path / "wheels", note=notes.append)

    assert notes[-1].startswith("The wheels are for cpython 3.9 linux-armv7l")


def hostile(files: Files) -> Iterator[tuple[str, Files]]:
    """Bundles that somebody has changed; what the list says is right wherever it can be."""
    head, licence, weights, requirements, wheel = files
    outside = [
        "/tmp/x.gguf", "../x.gguf", "model/../x.gguf", "model/../../x.gguf", "model//x.gguf",
        "model/./x.gguf", "./model/x.gguf", "model/sub/x.gguf", "model/x.sh", "wheels/x.so",
        "wheels/../model/x.gguf", "model/a\\b.gguf", "contents.json", "extra",
    ]  # fmt: skip
    for name in outside:
        yield f"name {name}", listed([*files, plain(name)])
    for kind in KINDS:
        yield f"kind {kind!r}", listed([*files, special("wheels/x.whl", kind, "/etc/passwd")])
        link = special(weights[0].name, kind, "../../../x")
        yield f"weights of kind {kind!r}", [head, licence, link, requirements, wheel]
    yield "not listed", [*files, plain("wheels/y.whl")]
    yield "listed twice", listed([*files, wheel])
    yield "there twice", [*files, wheel]
    yield "missing", files[:-1]
    yield "no weights", listed([head, licence, requirements, wheel])
    yield "two weights", listed([*files, plain("model/y.gguf", GGUF)])
    yield "no licence", listed([head, weights, requirements, wheel])
    yield "no list", files[1:]
    yield "list last", [*files[1:], head]
    yield "other bytes", [head, licence, plain(weights[0].name, GGUF[:-1] + b"!"), *files[3:]]
    yield "other size", [head, licence, plain(weights[0].name, GGUF[:-1]), *files[3:]]
    yield "weights of another hash", listed([head, licence, plain(weights[0].name, b"GGUF!")])
    yield "empty", []
    contents = json.loads(head[1])
    model = contents["model"]
    other: dict[str, Any] = {
        "a later format": contents | {"format": 2},
        "more than is known": contents | {"run": "rm"},
        "no members": contents | {"members": []},
        "a list of lists": [[contents]],
        "another name": contents | {"model": model | {"name": "../../x"}},
        "a path's name": contents | {"model": model | {"name": "x.gguf"}},
        "a terminal's name": contents | {"model": model | {"licence": "\x1b[2J"}},
        "a terminal's Python": contents | {"python": "cpython\x1b]0;evil\x07"},
        "a terminal's maker": contents | {"made_by": "\x9b2J"},
        "the default's": contents | {"model": model | {"name": "smollm2-135m-instruct"}},
        "negative": contents | {"members": [m | {"size": -1} for m in contents["members"]]},
        "huge": contents | {"members": [
            *contents["members"], {"name": "wheels/z.whl", "size": 1 << 60, "sha256": "0" * 64}]},
    }  # fmt: skip
    for why, changed in other.items():
        yield why, with_contents(files, changed)
    yield "deep", [(plain(packs.CONTENTS, b"[" * 100_000)), *files[1:]]
    yield "a long list", [plain(packs.CONTENTS, b" " * (5 << 20) + head[1]), *files[1:]]
    for name in ("model/../../x.gguf", "model//tmp/x.gguf", "model/.gguf/../x.gguf", "model/x"):
        yield f"weights {name}", listed([head, licence, plain(name, GGUF), *files[3:]])


def test_hostile_bundles(bundle: Path, cache: Path, tmp_path: Path) -> None:
    """Each is refused in one line, and nothing is kept of it, here or anywhere else."""
    before = sorted(path for path in tmp_path.rglob("*") if cache not in path.parents)
    tried = 0
    for why, files in hostile(members(bundle)):
        bad = written(tmp_path / "bundle.tar", files)
        with pytest.raises(ModelError) as caught:
            packs.unpack(bad, wheels=tmp_path / "wheels")
        assert caught.value.exit_code == 1, why
        assert "\n" not in str(caught.value)
        assert nothing_kept(cache), why
        tried += 1
    after = sorted(path for path in tmp_path.rglob("*") if cache not in path.parents)

    assert tried > 50
    assert [path for path in after if path != cache] == before


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_extension_headers_are_refused(form: int, bundle: Path, cache: Path) -> None:
    """A header that changes the next one's name is no plain file, even if the list agrees."""
    files = listed([*members(bundle), plain("wheels/" + "y" * 150 + ".whl")])

    with pytest.raises(ModelError, match="no plain file"):
        packs.unpack(written(bundle, files, form))
    assert nothing_kept(cache)


def test_cut_and_changed_bytes(bundle: Path, cache: Path, tmp_path: Path) -> None:
    """Cut at any block, or with a byte changed or added anywhere that counts, it is refused."""
    whole = bundle.read_bytes()
    end = len(whole) - 1024
    bad = tmp_path / "bad.tar"
    changed = [whole[:cut] for cut in range(0, end, 512)]
    changed += [whole[: cut + 100] for cut in range(0, end - 512, 1024)]
    changed += [whole + b"more", whole[:-1] + b"x", whole[:end] + b"x" * 512 + whole[end:]]
    header = whole.index(b"model/mine.gguf\0")
    changed += [whole[:at] + b"?" + whole[at + 1 :] for at in (0, 600, header, header + 124)]
    start = header + 512
    changed += [whole[:at] + b"?" + whole[at + 1 :] for at in range(start, start + 5000, 999)]

    for data in changed:
        bad.write_bytes(data)
        with pytest.raises(ModelError, match="refused"):
            packs.unpack(bad)
        assert nothing_kept(cache)


def test_another_models_name(bundle: Path, cache: Path, tmp_path: Path) -> None:
    """A bundle cannot take the place of a model that is here."""
    (tmp_path / "other.gguf").write_bytes(GGUF + b"!")
    store.add(tmp_path / "other.gguf", "mine")

    with pytest.raises(ModelError, match="already names a model"):
        packs.unpack(bundle)
    assert sources.find("mine").read_bytes() == GGUF + b"!"


def test_more_than_there_is_room_for(bundle: Path, cache: Path) -> None:
    """A list that promises more than the disk can hold is not begun."""
    files = members(bundle)
    contents = json.loads(files[0][1])
    contents["members"][-1]["size"] = 1 << 60

    with pytest.raises(ModelError, match="MB are free"):
        packs.unpack(written(bundle, with_contents(files, contents)))
    assert nothing_kept(cache)


def test_no_bundle(tmp_path: Path) -> None:
    """A path that leads nowhere is exit code 3."""
    with pytest.raises(ModelNotFoundError, match="cannot be opened"):
        packs.unpack(tmp_path / "gone.tar")


def test_a_full_disk(bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full half way nothing is kept."""

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packs, "sync_path", full)

    with pytest.raises(ModelError, match="No space left on device"):
        packs.unpack(bundle)
    assert nothing_kept(cache)


@pytest.mark.model
def test_the_default_model_as_a_user_carries_it(
    run: Run, tmp_path: Path, weights: Path, own_cache: Path
) -> None:
    """pack, then unpack and verify on a machine that has nothing; no record is needed there."""
    here = {"SYNTHGEN_LOCAL_CACHE": str(own_cache)}
    pack = run("models", "pack", "smollm2-135m-instruct", "-o", "b.tar", "--json", **here)
    packed = json.loads(pack.out)
    there = {"SYNTHGEN_LOCAL_CACHE": str(tmp_path / "new"), "HF_HUB_OFFLINE": "1"}
    unpacked = run("models", "unpack", "b.tar", **there)
    verified = run("models", "verify", "smollm2-135m-instruct", **there)

    data = (tmp_path / "b.tar").read_bytes()
    assert packed["sha256"] == hashlib.sha256(data).hexdigest()
    assert unpacked.out == f"{tmp_path}/new/{weights.name}\n"
    assert "Licence of smollm2-135m-instruct: Apache-2.0" in unpacked.err
    assert verified.out.startswith("ok smollm2-135m-instruct")
    assert [p.name for p in (tmp_path / "new").rglob("*") if p.is_file()] == [weights.name]


@pytest.mark.model
def test_the_documents_commands_work(run: Run, tmp_path: Path, weights: Path) -> None:
    """What docs/models.md shows can be typed, in its order, into an empty cache."""
    (tmp_path / "weights.gguf").symlink_to(weights)
    text = (ROOT / "docs" / "models.md").read_text("utf-8")
    commands = re.findall(r"^\$ synthgen-local (.*)$", text, re.MULTILINE)

    for command in commands:
        done = run(*shlex.split(command), SYNTHGEN_LOCAL_CACHE=str(tmp_path / "new"))
        assert done.code == 0, done.err
    assert len(commands) > 5


# The wheelhouse.


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that builds itself without any index, and an environment to install it in."""
    folder = tmp_path / "my project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (folder / "backend.py").write_text(BACKEND)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


BACKEND = """
import base64, hashlib, os, zipfile

INFO = "tinyproject-1.0.dist-info"
FILES = {
    "tinyproject.py": "def main(): print(1)",
    f"{INFO}/METADATA": "Metadata-Version: 2.1\\nName: tinyproject\\nVersion: 1.0",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any",
    f"{INFO}/entry_points.txt": "[console_scripts]\\ntiny = tinyproject:main",
}

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "tinyproject-1.0-py3-none-any.whl"
    record = ""
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        for path, text in FILES.items():
            data = (text + "\\n").encode()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += f"{path},sha256={digest},{len(data)}\\n"
            wheel.writestr(path, data)
        wheel.writestr(f"{INFO}/RECORD", record + f"{INFO}/RECORD,,\\n")
    return name
"""


def installed_from(project: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install as pip does, scripts and record and all, into a prefix of its own."""
    wheelhouse.pip("install", "--prefix", str(target), "--no-deps", str(project))
    (site,) = target.rglob("site-packages")
    monkeypatch.syspath_prepend(str(site))


def test_a_wheel_out_of_an_installation(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What pip unpacked becomes a wheel again, without pip's own files, twice the same bytes."""
    installed_from(project, tmp_path / "one", monkeypatch)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    wheel = wheelhouse.from_installation("tinyproject", tmp_path / "a")

    assert wheel.name == "tinyproject-1.0-py3-none-any.whl"
    assert wheelhouse.from_installation("tinyproject", tmp_path / "b").read_bytes() == (
        wheel.read_bytes()
    )
    with zipfile.ZipFile(wheel) as archive:
        assert [name.removeprefix("tinyproject-1.0.") for name in archive.namelist()] == [
            "dist-info/METADATA", "dist-info/WHEEL", "dist-info/entry_points.txt",
            "tinyproject.py", "dist-info/RECORD",
        ]  # fmt: skip
    wheelhouse.pip("install", "--prefix", str(tmp_path / "two"), "--no-deps", str(wheel))
    assert list((tmp_path / "two").rglob("bin/tiny"))


def test_a_changed_installation_is_not_packed(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is not what was installed is named; so is a package that is not there."""
    installed_from(project, tmp_path / "one", monkeypatch)
    (module,) = (tmp_path / "one").rglob("tinyproject.py")
    module.write_text("changed")

    with pytest.raises(ModelError, match=r"was changed since: tinyproject\.py"):
        wheelhouse.from_installation("tinyproject", tmp_path)
    with pytest.raises(ModelError, match="is not installed"):
        wheelhouse.from_installation("no-such-package", tmp_path)


def test_an_editable_installation_is_built_from_its_checkout(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only a link to the source is installed, the source is built."""
    info = tmp_path / "site" / "tinyproject-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tinyproject\nVersion: 1.0\n")
    origin = {"dir_info": {"editable": True}, "url": project.as_uri()}
    (info / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    wheel = wheelhouse.from_installation("tinyproject", tmp_path)

    assert "tinyproject.py" in zipfile.ZipFile(wheel).namelist()


def test_a_wheelhouse_is_tried_before_it_is_packed(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip finds all it needs in the folder alone, pinned by hash; a missing wheel is named."""
    installed_from(project, tmp_path / "one", monkeypatch)
    monkeypatch.setattr(wheelhouse, "_FROM_HERE", ("tinyproject",))
    (tmp_path / "wheels").mkdir()

    wheelhouse.collect(tmp_path / "wheels")

    (line,) = (tmp_path / "wheels/requirements.txt").read_text().splitlines()
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert line == f"tinyproject==1.0 --hash=sha256:{digest}"
    wheel.write_bytes(wheel.read_bytes() + b"!")
    with pytest.raises(ModelNotFoundError, match="DO NOT MATCH"):
        wheelhouse.check(tmp_path / "wheels")
    wheel.unlink()
    with pytest.raises(ModelNotFoundError, match="No matching distribution"):
        wheelhouse.check(tmp_path / "wheels")


def test_a_bundle_replaces_bundles_alone(bundle: Path, tmp_path: Path) -> None:
    """Somebody's file is replaced only by force, and the model's own file never."""
    model = packs.unpack(bundle)
    packs.pack(model, bundle)
    (tmp_path / "mine.tar").write_text("mine")
    (tmp_path / "link.tar").symlink_to(model.path)

    with pytest.raises(UsageError, match="no bundle"):
        packs.pack(model, tmp_path / "mine.tar")
    with pytest.raises(UsageError, match="own file"):
        packs.pack(model, tmp_path / "link.tar", force=True)
    assert (tmp_path / "mine.tar").read_text() == "mine"
    packs.pack(model, tmp_path / "mine.tar", force=True)
