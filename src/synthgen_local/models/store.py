"""The models that are on this machine: where they lie, and what is recorded of each.

A model whose hash the catalog knows needs no record. Every other one that was pulled, added
or unpacked has one: a JSON file under `models/` in the cache, written after its bytes were
hashed. Knows files and records, not where they come from. Uses no network.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from ..errors import ModelError, ModelNotFoundError, UsageError
from ..system.atomic_write import atomic_write, sync_path
from ..system.permissions import exposed, is_private, make_folders
from .catalog import CatalogEntry, catalog
from .gguf import Header, read_header

NOT_STATED = "not stated"
_MAGIC = b"GGUF"
_ADDED_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_RESERVED = {"random"}
_SHOWN = 5  # files of a folder that a hint names
_LONGEST = 255  # bytes of a file's name
_ABANDONED = 86_400  # seconds after which a scratch folder is what a killed process has left


def _printable(text: str) -> str:
    """Records are shown on terminals, and those of bundles come from somebody else."""
    if not text.isprintable():
        raise ValueError("a line with control characters")
    return text


Line = Annotated[str, Field(max_length=300), AfterValidator(_printable)]


class InstalledModel(BaseModel):
    """A model of this machine. `size` is in bytes, `sha256` that of its file.

    `file` is relative to `models_dir()`, or absolute where the hub's own cache keeps it.
    `repo` and `revision` say which commit of which repository of the hub it was.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[\w.-]+(:[\w.-]+)?)?$", max_length=200)
    title: Line = ""
    quantisation: Line = ""
    licence: Line = NOT_STATED
    licence_text: str = ""
    origin: Literal["wheel", "hub", "file"]
    repo: Line | None = None
    revision: Line | None = None
    file: str
    size: int = Field(gt=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @field_validator("name")
    @classmethod
    def _no_other_meaning(cls, name: str) -> str:
        """A name is not that of the random model, nor one that reads as a path to a file."""
        if name in _RESERVED or name.endswith(".gguf") or not name.isascii():
            raise ValueError("a name that means something else")
        return name

    @property
    def path(self) -> Path:
        """Where the file should lie."""
        return Path(os.path.normpath(models_dir() / self.file))

    @property
    def licence_line(self) -> str:
        """One line for people: whose terms hold."""
        return f"Licence of {self.name}: {self.licence}"


def cache_dir() -> Path:
    """Return where models are kept: `$SYNTHGEN_LOCAL_CACHE`, else in the user's cache.

    Raises UsageError if neither is known: no variable is set and the user has no home.

    Example: `cache_dir() / "models"`
    """
    if chosen := os.environ.get("SYNTHGEN_LOCAL_CACHE"):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "synthgen-local"
    try:
        return Path.home() / ".cache" / "synthgen-local"
    except RuntimeError:
        raise UsageError(
            "There is no place for models: HOME is not set, and this user has no home.",
            hint="Set SYNTHGEN_LOCAL_CACHE to a folder that holds them.",
        ) from None


def models_dir() -> Path:
    """Return the folder of the records, and of the files that were added or unpacked."""
    return cache_dir() / "models"


def optimised_file(path: Path, sha256: str) -> Path:
    """Return where a model's file lies in another format, by its hash, whether it is there or not.

    Example: `optimised_file(Path("model.gguf"), sha256).is_file()`
    """
    return _optimised(path, sha256[:16], ".gguf")


def optimised_record(path: Path, machine: str) -> Path:
    """Return where it lies what was measured of a model on a kind of machine.

    Example: `optimised_record(Path("model.gguf"), machine).is_file()`
    """
    key = hashlib.blake2b(machine.encode(), digest_size=8).hexdigest()
    return _optimised(path, key, ".json")


def optimised_files(path: Path) -> list[Path]:
    """Return all files and records that were made of a model's file.

    Example: `optimised_files(find("smollm2-135m-instruct").path)`
    """
    first = _optimised(path, "", "")
    folder = first.parent
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.name.startswith(first.name))


def _optimised(path: Path, key: str, suffix: str) -> Path:
    """A name of the model's file as it is now: what was made of other bytes is not found."""
    status = path.stat()
    origin = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
    of = hashlib.blake2b(os.fsencode(origin), digest_size=8).hexdigest()
    return cache_dir() / "optimised" / f"{path.stem[:100]}.{of}.{key}{suffix}"


def probe_record(header: Header, key: str) -> Path:
    """Return where it lies what came of trying a file with that header under some conditions.

    Example: `probe_record(read_header(path), "llama.cpp 1.0")`
    """
    conditions = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    return cache_dir() / "tried" / f"{header.sha256[:32]}.{conditions}.json"


def _trials(path: Path) -> list[Path]:
    """What came of trying a model's file; nothing of one whose header cannot be read."""
    try:
        header = read_header(path)
    except ModelError:
        return []
    return sorted((cache_dir() / "tried").glob(f"{header.sha256[:32]}.*"))


def file_name(name: str, suffix: str = ".gguf") -> str:
    """Return a file name that stands for a model's name and for no other.

    Example: `file_name("user/repo:Q8_0") == "user%2Frepo%3AQ8_0.gguf"`
    """
    return quote(name, safe="") + suffix


def lookup_model(name: str) -> InstalledModel | None:
    """Return what is known of a name, whether its file is still there or not; None if nothing.

    Raises ModelError if its record cannot be read.
    """
    if not name.isascii():  # no record has such a name
        return None
    entry = catalog().get(name)
    if entry and entry.sha256:
        return of_entry(entry)
    file = file_name(name, ".json")
    path = models_dir() / file
    return _read(path) if len(file) <= _LONGEST and path.is_file() else None


def of_entry(entry: CatalogEntry) -> InstalledModel:
    """Return the record that a catalog entry with a hash makes unnecessary."""
    assert entry.file
    assert entry.size
    assert entry.sha256
    return InstalledModel(
        name=entry.name,
        title=entry.title,
        quantisation=entry.quantisation,
        licence=entry.licence,
        licence_text=_kept_licence(entry.name),
        origin="wheel",
        file=f"../{entry.file}",
        size=entry.size,
        sha256=entry.sha256,
    )


def save_licence(model: InstalledModel, text: str) -> None:
    """Keep the licence that came with a model of the catalog, which has no record.

    Raises ModelError if the cache cannot be written.
    """
    if text and model.origin == "wheel":
        with writing(models_dir()), atomic_write(_licence_file(model.name)) as file:
            file.write(text.encode())


def _kept_licence(name: str) -> str:
    try:
        return _licence_file(name).read_text("utf-8", "replace")
    except OSError:
        return ""


def _licence_file(name: str) -> Path:
    return models_dir() / file_name(name, ".licence.txt")


def find(name: str) -> InstalledModel:
    """Return a model that is here, and has its size; nothing is hashed.

    Raises ModelNotFoundError if it is not on this machine, ModelError if its size is wrong.

    Example: `find("smollm2-135m-instruct").sha256`
    """
    model = lookup_model(name)
    if model is None or not model.path.is_file():
        raise not_found_error(name)
    size = model.path.stat().st_size
    if size != model.size:
        raise ModelError(
            f"{model.path} has {size} bytes where {model.size} are recorded.",
            hint=f"Remove it with: synthgen-local models remove {name}",
        )
    return model


def not_found_error(name: str) -> ModelNotFoundError:
    """Return the error for a model that could be fetched, but was not."""
    return ModelNotFoundError(
        f"Model '{name}' is not on this machine.",
        hint=f"Fetch it with: synthgen-local models pull {name}",
    )


def list_installed() -> list[InstalledModel]:
    """Return all models that are here, those of the catalog first.

    Raises ModelError if a record cannot be read.
    """
    names = [name for name, entry in catalog().items() if entry.sha256]
    known = [model for name in names if (model := lookup_model(name))]
    known += [_read(path) for path in sorted(models_dir().glob("*.json"))]
    return [model for model in known if model.path.is_file()]


def record(model: InstalledModel) -> None:
    """Write a model's record, whole or not at all.

    Raises ModelError if the cache cannot be written.
    """
    with writing(models_dir()) as scratch:
        partial = scratch / "record"
        partial.write_text(model.model_dump_json(indent=2, exclude_defaults=True) + "\n", "utf-8")
        sync_path(partial)
        partial.replace(models_dir() / file_name(model.name, ".json"))


def add(file: Path, name: str = "", licence: str = NOT_STATED) -> tuple[InstalledModel, str]:
    """Put a GGUF file into the cache under a name; return it, and "linked" or "copied".

    A hard link is made where the file system allows it: no bytes are copied, and whoever
    writes into the original changes the model too, which `verify` finds. The name is the
    file's if none is given.

    Raises UsageError if the name cannot be used, ModelNotFoundError if there is no file,
    ModelError if it is no GGUF file or the name stands for another one.

    Example: `add(Path("weights.gguf"), "mine")`
    """
    check_file(file)
    name = name or file.stem
    _check_name(name)
    licence = "".join(filter(str.isprintable, " ".join(licence.split())))[:300]
    with writing(models_dir()) as scratch:
        held = scratch / "weights"
        how = _link_or_copy(file.resolve(), held)
        check_magic(held, str(file))
        told, link = _licence_in(held)
        model = InstalledModel(
            name=name,
            title="".join(filter(str.isprintable, file.name)),
            licence=told if told and licence == NOT_STATED else licence,
            licence_text=f"The file names {link} for its licence.\n" if link else "",
            origin="file",
            file=file_name(name),
            size=held.stat().st_size,
            sha256=sha256_of(held),
        )
        place(model, held)
    return model, how


def _licence_in(path: Path) -> tuple[str, str]:
    """The name of the licence that a file says it has, and the address of its text."""
    try:
        said = read_header(path).metadata
    except ModelError:
        return "", ""
    names = "license.name", "license", "license.link"
    name, short, link = (said.get(f"general.{key}", b"") for key in names)
    return _line(name if short in (b"", b"other") else short), _line(link)


def _line(value: object) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else ""
    return "".join(filter(str.isprintable, " ".join(text.split())))[:300]


def place(model: InstalledModel, held: Path) -> None:
    """Move a file that was checked to where its model lies, and record it.

    The same bytes in the same place stay as they are: what was made of them stays valid.

    Raises ModelError if the name stands for other bytes.
    """
    check_free(model)
    sync_path(held)
    model.path.parent.mkdir(parents=True, exist_ok=True)
    if not (model.path.is_file() and sha256_of(model.path) == model.sha256):
        held.replace(model.path)
    if lookup_model(model.name) != model:
        record(model)


def check_free(model: InstalledModel) -> None:
    """Raise ModelError if the model's name stands for other bytes already."""
    before = lookup_model(model.name)
    of_catalog = model.name in catalog() and before is not None
    if before and before.sha256 != model.sha256 and (of_catalog or before.path.is_file()):
        raise ModelError(
            f"'{model.name}' already names a model with sha256 {before.sha256}.",
            hint=f"Give another name, or remove it: synthgen-local models remove {model.name}",
        )


def verify(model: InstalledModel) -> None:
    """Hash a model's file again.

    Raises ModelError if it is not what was recorded, or cannot be read.

    Example: `verify(find("smollm2-135m-instruct"))`
    """
    try:
        found = sha256_of(model.path)
    except OSError as error:
        raise ModelError(
            f"{model.path} cannot be read: {error.strerror}.", hint="Check the disk."
        ) from error
    check_hash(model, found)


def check_hash(model: InstalledModel, found: str) -> None:
    """Raise ModelError if the hash that was found is not the one recorded."""
    if found != model.sha256:
        raise ModelError(
            f"'{model.name}' is damaged: its sha256 is {found} where {model.sha256} is recorded.",
            hint=f"Remove it with: synthgen-local models remove {model.name}",
        )


def remove(name: str) -> InstalledModel:
    """Delete a model's file, what was made of it, and its record.

    Of the hub's cache only this file goes; what else was fetched there stays.

    Raises ModelNotFoundError if it is not on this machine, ModelError if another user could have
    written in its record which file outside the cache goes.
    """
    model = lookup_model(name)
    if model is None or not (model.path.is_file() or model.origin != "wheel"):
        raise not_found_error(name)
    known = models_dir() / file_name(name, ".json")
    if not model.path.is_relative_to(cache_dir()) and not is_private(known):
        raise ModelError(
            f"{model.path} is not deleted: other users can change {exposed(known)}.",
            hint=f"Delete {known}, and that file if it is the model's.",
        )
    try:
        if model.path.is_file():
            for made in (*optimised_files(model.path), *_trials(model.path)):
                made.unlink(missing_ok=True)
        _licence_file(name).unlink(missing_ok=True)
        _unlink(model.path)
        known.unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(
            f"{model.path} cannot be deleted: {error.strerror}.", hint="Check its permissions."
        ) from error
    return model


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: Path) -> None:
    """Raise ModelNotFoundError if there is no file of that name, with what is in a folder.

    Example: `check_file(Path("model.gguf"))`
    """
    if path.is_file():
        return
    if not path.is_dir():
        raise ModelNotFoundError(f"There is no model file {path}.", hint="Check the path.")
    inside = sorted(file.name for file in path.glob("*.gguf"))[:_SHOWN]
    if inside:
        hint = f"Name a file in it: {', '.join(inside)}"
    elif (path / "config.json").is_file() or any(path.glob("*.safetensors")):
        hint = "Convert what is in it to GGUF, with llama.cpp's convert_hf_to_gguf.py."
    else:
        hint = "Name a .gguf file; there is none in it."
    raise ModelNotFoundError(f"{path} is a folder, and no model file.", hint=hint)


def check_magic(path: Path, named: str) -> None:
    """Raise ModelError if a file does not begin as every GGUF file does."""
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ModelError(f"{named} is no GGUF file.", hint="Convert it with llama.cpp.")


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """Give a scratch folder on the file system of `folder`, and delete it afterwards.

    What a killed process has left there is deleted after a day.

    Raises ModelError if the disk is full or may not be written.
    """
    try:
        make_folders(folder)
        for left in folder.glob(".partial-*"):
            if left.stat().st_mtime < time.time() - _ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as scratch:
            yield Path(scratch)
    except OSError as error:
        raise ModelError(
            f"{folder} cannot be written: {error.strerror or error}.",
            hint="Check the disk and its permissions; SYNTHGEN_LOCAL_CACHE names another cache.",
        ) from error


def _read(path: Path) -> InstalledModel:
    try:
        return InstalledModel.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ModelError(
            f"The record {path} cannot be read.", hint="Delete it, and fetch its model again."
        ) from error


def _check_name(name: str) -> None:
    if not _ADDED_NAME.fullmatch(name) or name in _RESERVED or name.endswith(".gguf"):
        raise UsageError(
            f"'{name}' cannot be a model's name.",
            hint="Letters, digits, '.', '_' and '-'; give one with --name.",
        )
    if name in catalog():
        raise UsageError(f"'{name}' is a model of the catalog.", hint="Give another with --name.")


def _link_or_copy(file: Path, target: Path) -> str:
    try:
        target.hardlink_to(file)
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, target)
        return "copied"
    return "linked"


def _unlink(path: Path) -> None:
    """Delete a file; in the hub's cache also the blob that it points to, if nothing else does."""
    if path.is_symlink():
        blob = path.resolve()
        others = (p for p in path.parents[1].rglob("*") if p != path and p.is_symlink())
        if not any(other.resolve() == blob for other in others):
            blob.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
