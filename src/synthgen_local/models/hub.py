"""Files of the Hugging Face hub: found, fetched, checked. The only module that touches its client.

A file is fetched at the commit that the hub tells, into the hub's own cache (`HF_HOME`), and
reaches it only after its bytes were hashed and found to be what the hub's LFS record says.
A cut download is kept beside it and goes on at its next pull. `HF_ENDPOINT`, `HF_TOKEN` and
`HF_HUB_OFFLINE` are the client's; its telemetry is switched off.

The protocol: https://huggingface.co/docs/hub/api and
https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import fcntl
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Self, cast

from ..errors import ModelError, ModelNotFoundError
from ..system.atomic_write import atomic_write
from . import store

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import ModelInfo

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LICENCE_FILE = re.compile(r"(LICEN[CS]E|NOTICE|USE_POLICY)(\.md|\.txt)?", re.IGNORECASE)
_LICENCE_BYTES = 200_000
_MOST_LICENCES = 8


@dataclass(frozen=True)
class HubFile:
    """A file as the hub describes it: what its bytes must be. `size` is in bytes."""

    repo: str
    revision: str
    name: str
    size: int
    sha256: str
    etag: str
    licence: str
    licence_files: tuple[str, ...] = ()


def lookup_model(
    repo: str, quantisation: str, *, file: str = "", revision: str | None = None
) -> HubFile:
    """Ask the hub which file a quantisation names, at which commit, and what its hash is.

    Raises ModelNotFoundError if the hub cannot be reached, ModelError if it has no such file,
    wants a token, or does not tell a hash that the bytes could be checked against.

    Example: `lookup_model("Qwen/Qwen3-0.6B-GGUF", "Q8_0").sha256`
    """
    with _talking(repo):
        from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url

        info = HfApi().model_info(repo, revision=revision, files_metadata=True)
        siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
        name = _one_file(siblings, repo, quantisation, file)
        if not _COMMIT.fullmatch(info.sha or ""):
            raise _untrustworthy(repo, "tells no commit")
        metadata = get_hf_file_metadata(hf_hub_url(repo, name, revision=info.sha))
        etag = metadata.etag or ""
        lfs = siblings[name].lfs
        sha256 = lfs.sha256 if lfs else etag
        size = lfs.size if lfs else metadata.size
    if not _SHA256.fullmatch(sha256) or not size:
        raise _untrustworthy(repo, f"tells no sha256 of {name}")
    if _SHA256.fullmatch(etag) and etag != sha256:
        raise _untrustworthy(repo, f"tells two hashes of {name}")
    if not re.fullmatch(r"[\w-]+", etag):
        raise _untrustworthy(repo, f"tells no ETag of {name}")
    texts = tuple(
        text.rfilename
        for text in siblings.values()
        if _LICENCE_FILE.fullmatch(text.rfilename) and (text.size or 0) <= _LICENCE_BYTES
    )[:_MOST_LICENCES]
    assert info.sha
    return HubFile(repo, info.sha, name, size, sha256, etag, _licence(info), texts)


def fetch(wanted: HubFile, note: Callable[[str], None] = lambda _: None) -> Path:
    """Fetch a file into the hub's cache and return where it lies; `note` hears of progress.

    Raises ModelNotFoundError if the connection fails: what has come is kept, and the next call
    goes on there. Raises ModelError if the bytes are not what the hub promised: none are kept.

    Example: `fetch(lookup_model("Qwen/Qwen3-0.6B-GGUF", "Q8_0"), print)`
    """
    with _talking(wanted.repo):
        blob = _snapshot(wanted).parents[1] / "blobs" / wanted.etag
        if not _is(blob, wanted):
            _fetch_blob(wanted, blob, note)
        return _named(blob, _snapshot(wanted) / wanted.name)


def licence_text(wanted: HubFile) -> str:
    """Return the licence files of a repository, joined; empty if it has none.

    Raises ModelError for one of more than 200,000 bytes.
    """
    with _talking(wanted.repo):
        texts = [_small_file(wanted, name) for name in wanted.licence_files]
    return "\n".join(text.decode(errors="replace") for text in texts)


def _small_file(wanted: HubFile, name: str) -> bytes:
    """A file of the hub's cache, fetched if it is not there."""
    path = _snapshot(wanted) / name
    if not path.is_file():
        text = io.BytesIO()
        silent = _progress(_LICENCE_BYTES, 0, lambda _: None)
        _get(wanted, name, _Bounded(text, _LICENCE_BYTES, name), tqdm_class=silent)
        with atomic_write(path) as file:
            file.write(text.getvalue())
    return path.read_bytes()


def find_in_cache(repo: str, quantisation: str) -> Path | None:
    """Return a file that anybody fetched into the hub's cache; None if there is none."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cached = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return None
    files = {
        file.file_name: file.file_path
        for found in cached
        if found.repo_id == repo and found.repo_type == "model"
        for revision in sorted(found.revisions, key=lambda revision: revision.last_modified)
        for file in revision.files
        if file.file_name.endswith(".gguf")
    }
    return files[choose(files, repo, quantisation)] if files else None


def choose(names: Iterable[str], repo: str, quantisation: str) -> str:
    """Return the one GGUF file of a repository whose name holds the quantisation.

    Raises ModelError if none does, or several.

    Example: `choose(["x-Q4_K_M.gguf", "x-Q8_0.gguf"], "user/repo", "Q8_0")`
    """
    gguf = sorted(name for name in names if name.endswith(".gguf"))
    wanted = re.compile(rf"(?:^|[-._/]){re.escape(quantisation)}(?:[-._]|$)", re.IGNORECASE)
    stems = {name: name.removesuffix(".gguf") for name in gguf}
    fitting = [name for name in gguf if not quantisation or wanted.search(stems[name])]
    if len(fitting) == 1:
        return fitting[0]
    if not gguf:
        raise ModelError(
            f"{repo} holds no GGUF file.", hint="Look for a repository whose name ends in -GGUF."
        )
    choice = ", ".join(fitting or gguf)
    raise ModelError(
        f"'{repo}:{quantisation}' names {len(fitting)} files.",
        hint=f"Name one quantisation of: {choice}",
    )


class _Bounded:
    """A file that takes no more bytes than were promised of it."""

    def __init__(self, file: IO[bytes], most: int, name: str) -> None:
        self._file, self._most, self._name = file, most, name
        self.seek, self.tell, self.truncate = file.seek, file.tell, file.truncate

    def write(self, data: bytes) -> int:
        """Write bytes. Raises ModelError if they are too many."""
        if self._file.tell() + len(data) > self._most:
            raise _TooLongError(
                f"The hub sends more than the {self._most} bytes that {self._name} may have.",
                hint="Nothing was kept. If it stays so, the mirror or a proxy changes it.",
            )
        return self._file.write(data)


class _TooLongError(ModelError):
    """More bytes came than were promised."""


def _snapshot(wanted: HubFile) -> Path:
    """The folder of a revision in the hub's cache."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = repo_folder_name(repo_id=wanted.repo, repo_type="model")
    return Path(constants.HF_HUB_CACHE) / folder / "snapshots" / wanted.revision


def _named(blob: Path, path: Path) -> Path:
    """Give a blob of the hub's cache its file's name, as the hub's client does."""
    if not (path.exists() and path.samefile(blob)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(os.path.relpath(blob, path.parent))
    return path


def _fetch_blob(wanted: HubFile, blob: Path, note: Callable[[str], None]) -> None:
    """Download beside `blob`, going on where the last try was cut, and move it there if right."""
    blob.parent.mkdir(parents=True, exist_ok=True)
    partial = blob.with_name(f"{wanted.sha256}.synthgen-local.incomplete")
    with partial.open("ab") as file:
        _lock(file.fileno(), wanted)
        if file.tell() > wanted.size:
            file.seek(0)
            file.truncate()
        if start := file.tell():
            note(f"Going on at {start / 1e6:.0f} of {wanted.size / 1e6:.0f} MB")
        try:
            _stream(wanted, file, start, note)
        except OSError as error:
            if type(error) is OSError and error.errno is None:  # it ended early, and in order
                raise _cut(wanted, file.tell()) from error
            raise
        except _TooLongError:
            file.seek(0)
            file.truncate()
            partial.unlink()
            raise
        finally:
            file.flush()
            os.fsync(file.fileno())
        found = store.sha256_of(partial)
        if found != wanted.sha256:
            partial.unlink()
            raise ModelError(
                f"{wanted.name} is not what the hub says: its sha256 is {found}, "
                f"not {wanted.sha256}.",
                hint="It was deleted. Try again; if it stays so, the mirror or a proxy changes it.",
            )
        partial.replace(blob)
    note(f"Verified sha256 {wanted.sha256}")


def _stream(wanted: HubFile, file: IO[bytes], start: int, note: Callable[[str], None]) -> None:
    if start != wanted.size:
        _get(
            wanted,
            wanted.name,
            _Bounded(file, wanted.size, wanted.name),
            resume_size=start,
            expected_size=wanted.size,
            tqdm_class=_progress(wanted.size, start, note),
        )


def _get(wanted: HubFile, name: str, file: _Bounded, **options: Any) -> None:
    """Write a file of a repository to another."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # it is public

    # Not the address behind the redirect: that one expires, and a retry asks for a fresh one.
    url = hf_hub_url(wanted.repo, name, revision=wanted.revision)
    http_get(url, cast("BinaryIO", file), headers=build_hf_headers(), **options)


def _progress(size: int, start: int, note: Callable[[str], None]) -> Any:
    """A stand-in for tqdm's class that tells every tenth: as readable in a log as on a terminal."""

    class Progress:
        def __init__(self, **_options: Any) -> None:
            self.done = start

        def update(self, bytes_: float | None = 1) -> None:
            before, self.done = self.done, self.done + int(bytes_ or 0)
            if self.done * 10 // size > before * 10 // size:
                note(f"{self.done * 100 // size} % of {size / 1e6:.0f} MB")

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_error: object) -> None:
            return None

    return Progress


def _lock(descriptor: int, wanted: HubFile) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ModelError(
            f"{wanted.name} is being fetched by another process.", hint="Wait until it is done."
        ) from error


def _is(path: Path, wanted: HubFile) -> bool:
    """Whether a file has the bytes that the hub promised."""
    right_size = path.is_file() and path.stat().st_size == wanted.size
    return right_size and store.sha256_of(path) == wanted.sha256


def _one_file(siblings: Iterable[str], repo: str, quantisation: str, file: str) -> str:
    names = list(siblings)
    name = file or choose(names, repo, quantisation)
    if name not in names:
        raise ModelError(f"{repo} has no file {name}.", hint="The repository was changed.")
    if not name.isprintable() or {"", ".", ".."} & set(name.split("/")):
        raise _untrustworthy(repo, "names a file that leads elsewhere, or cannot be printed")
    if re.search(r"-\d{5}-of-\d{5}\.gguf$", name):
        raise ModelError(
            f"{name} is one part of several.",
            hint="Join them with llama.cpp's gguf-split, then: synthgen-local models add FILE",
        )
    return name


def _licence(info: ModelInfo) -> str:
    """What the model's card calls its licence, in one printable line."""
    card = info.card_data
    name = card.get("license_name" if card.get("license") == "other" else "license") if card else ""
    text = " ".join(str(name or "").split())[:100]
    return "".join(letter for letter in text if letter.isprintable()) or store.NOT_STATED


@contextmanager
def _talking(repo: str) -> Iterator[None]:
    """Turn what the client raises into one line and a hint."""
    # Read when huggingface_hub is imported; without it, it would also ask who calls it.
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled as error:
        raise ModelNotFoundError(
            f"{repo} cannot be fetched: HF_HUB_OFFLINE is set.", hint="Unset it to fetch a model."
        ) from error
    except HfHubHTTPError as error:
        raise _refused(repo, error) from error
    except HFValidationError as error:
        raise ModelError(
            f"'{repo}' is no name of a repository.", hint="It reads user/repo:QUANT."
        ) from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise ModelNotFoundError(
            f"{repo} cannot be fetched: the hub cannot be reached.",
            hint="Check the network, HF_ENDPOINT and the proxy; what has come is kept.",
        ) from error
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise ModelError(
            f"{repo} cannot be fetched: {reason}", hint="Check the disk, HF_HOME and the network."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _untrustworthy(repo, "answers with something else than the hub's protocol") from error


def _refused(repo: str, error: HfHubHTTPError) -> ModelError:
    """What a status code means for the one who waits for the model."""
    from huggingface_hub.errors import GatedRepoError

    status = error.response.status_code
    if status >= 500 or status in {408, 429}:
        return ModelNotFoundError(
            f"{repo} cannot be fetched: the hub answers {status}.",
            hint="Try again later; what has come is kept.",
        )
    if isinstance(error, GatedRepoError):
        return ModelError(
            f"{repo} is given only to those who have accepted its terms.",
            hint="Accept them on its page, then set HF_TOKEN.",
        )
    if status in {401, 403}:
        return ModelError(
            f"The hub does not show {repo} to you, if there is such a model.",
            hint="Check the name; if it is private, set HF_TOKEN.",
        )
    if status == 404:
        return ModelError(
            f"The hub has no {repo}, or not this file or revision of it.", hint="Check the name."
        )
    return ModelError(
        f"{repo} cannot be fetched: the hub answers {status}.", hint="Check HF_ENDPOINT."
    )


def _cut(wanted: HubFile, came: int) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"{wanted.name} was cut off at {came} of {wanted.size} bytes.",
        hint="The same command goes on there.",
    )


def _untrustworthy(repo: str, what: str) -> ModelError:
    return ModelError(
        f"{repo} cannot be fetched: the hub {what}.", hint="Check HF_ENDPOINT and the proxy."
    )
