"""Every wheel that installs this program again, for this very Python, without an index.

Published packages come through pip, in the versions that are installed here: the same files,
with the same hashes, as on the index. Two come from this machine: synthgen-local itself
(built from its checkout if the installation is editable, else put together again from what was
installed), and llama-cpp-python, so that the build which runs here is the one that runs there.

Knows pip and installed packages, not models. The wheel format:
https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from itertools import product
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from ..errors import ModelError
from . import store
from .wheels import pip

_FROM_HERE = ("synthgen-local", "llama-cpp-python")
_LOCAL_ONLY = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that a zip file can tell
REQUIREMENTS = "requirements.txt"


def collect(folder: Path, note: Callable[[str], None] = lambda _: None) -> None:
    """Fill `folder` with wheels, and a requirements.txt that pins each of them by its hash.

    Raises ModelNotFoundError if pip cannot fetch one, ModelError if an installed package was
    changed or the wheels would not suffice.

    Example: `collect(Path("wheels"), print)`
    """
    with store.writing(folder.parent) as scratch:
        note(f"Packing {' and '.join(_FROM_HERE)} as installed here")
        here = [str(from_installation(name, scratch)) for name in _FROM_HERE]
        constraints = scratch / "constraints.txt"
        constraints.write_text(_versions(), "utf-8")
        note("pip wheel: fetching what they need")
        pip("wheel", "--wheel-dir", str(folder), "--constraint", str(constraints), *here)
    (folder / REQUIREMENTS).write_text(requirements(folder), "utf-8")
    note("pip install --dry-run --no-index: trying whether it is all")
    check(folder)


def requirements(folder: Path) -> str:
    """Return a line for each wheel of a folder: name, version and hash, as pip reads them.

    Example: `requirements(Path("wheels"))`
    """
    lines = []
    for wheel in sorted(folder.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        lines.append(f"{name}=={version} --hash=sha256:{store.sha256_of(wheel)}\n")
    return "".join(lines)


def check(folder: Path) -> None:
    """Let pip work out an installation from a folder alone, without making it.

    Raises ModelNotFoundError naming what is missing.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    pip(
        "install", "--dry-run", "--ignore-installed", "--no-index", "--find-links", str(folder),
        "--require-hashes", "--requirement", str(folder / REQUIREMENTS),
        environment=clean | {"PIP_CONFIG_FILE": os.devnull},
    )  # fmt: skip


def from_installation(name: str, folder: Path) -> Path:
    """Make a wheel of an installed package in `folder` and return it.

    The same installation gives the same bytes. Raises ModelError if the package is not
    installed, its files were changed, or it has files elsewhere than a wheel of ours needs.
    """
    try:
        package = distribution(name)
    except PackageNotFoundError as error:
        raise ModelError(f"{name} is not installed.", hint="Install it with pip.") from error
    if checkout := _checkout(package):
        built = folder / "built"
        pip("wheel", "--no-deps", "--wheel-dir", str(built), str(checkout))
        return next(built.glob("*.whl"))
    return _put_together(package, folder)


def _versions() -> str:
    """What is installed here, as constraints: what is packed is what was tried here."""
    found: dict[str, str] = {}
    for package in distributions():
        found.setdefault(package.name.replace("_", "-").lower(), package.version)  # the first wins
    return "".join(f"{n}=={v}\n" for n, v in sorted(found.items()) if n not in _FROM_HERE)


def _checkout(package: Distribution) -> Path | None:
    """The source folder of an editable installation (PEP 610)."""
    origin = json.loads(package.read_text("direct_url.json") or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(urlsplit(origin["url"]).path))


def _put_together(package: Distribution, folder: Path) -> Path:
    """A wheel again from what pip unpacked of one, checked against the record it left."""
    info = _info_folder(package)
    tags = [
        line.removeprefix("Tag: ").split("-")
        for line in (package.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag: ")
    ]
    if not tags:
        raise _cannot(package, "was not installed from a wheel")
    parts = [".".join(sorted({tag[place] for tag in tags})) for place in range(3)]
    if len(tags) != len(list(product(*(part.split(".") for part in parts)))):
        raise _cannot(package, "has tags that no one file name says")
    wheel = folder / f"{info.removesuffix('.dist-info')}-{'-'.join(parts)}.whl"
    record = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(_contents(package)):
            member = zipfile.ZipInfo(name, _EPOCH)
            member.external_attr = 0o644 << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, data)
            record.append(f"{name},sha256={_urlsafe_sha256(data)},{len(data)}\n")
        last = zipfile.ZipInfo(f"{info}/RECORD", _EPOCH)
        last.external_attr = 0o644 << 16
        archive.writestr(last, "".join(record) + f"{info}/RECORD,,\n")
    return wheel


def _contents(package: Distribution) -> list[tuple[str, bytes]]:
    """What was in the wheel: not what pip made of it, nor what Python compiled since."""
    scripts = {point.name for point in package.entry_points}
    info = _info_folder(package)
    found = []
    for file in package.files or []:
        path = PurePosixPath(file.as_posix())
        made_here = path.suffix == ".pyc" or (path.parts[0] == info and path.name in _LOCAL_ONLY)
        if made_here or (".." in path.parts and path.stem in scripts):
            continue
        if ".." in path.parts or path.is_absolute():
            raise _cannot(package, f"has put {path.name} elsewhere")
        data = Path(str(file.locate())).read_bytes()
        if file.hash is None or file.hash.value != _urlsafe_sha256(data):
            raise _cannot(package, f"was changed since: {path}")
        found.append((str(path), data))
    return found


def _info_folder(package: Distribution) -> str:
    """The name of the package's .dist-info folder."""
    tops = {file.parts[0] for file in package.files or [] if file.parts}
    for top in sorted(tops):
        if top.endswith(".dist-info"):
            return top
    raise _cannot(package, "has no record of its files")


def _urlsafe_sha256(data: bytes) -> str:
    """A hash as RECORD writes it."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _cannot(package: Distribution, why: str) -> ModelError:
    return ModelError(
        f"The installed {package.name} cannot be packed: it {why}.",
        hint=f"Install it again: pip install --force-reinstall --no-deps {package.name}",
    )
