"""In which format a model is opened on this kind of machine, and how many rows a context decodes.

What was measured is recorded under `optimised/` in the cache, one JSON file for each model and kind
of machine, beside the files that were written. From then on the record decides. Knows measurements
and records, not what rows are.
"""

from __future__ import annotations

import os
import platform
import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..engine.parallel_plan import BatchSettings
from ..errors import DecodingError, ModelError, UsageError
from ..kernels.build import PLAIN, Kernels, compiled_hash, library_hash
from ..models.gguf import Header, read_header
from ..models.store import (
    optimised_file,
    optimised_files,
    optimised_record,
    sha256_of,
    writing,
)
from ..system.atomic_write import sync_path
from ..system.permissions import close_to_others, exposed, is_private, make_folders
from ..system.subprocess_call import SubprocessDiedError
from . import weight_formats
from .weight_formats import AS_SHIPPED, BATCHES, FORMATS, INT8, USUAL, Comparison, Measurement

MOST_DISK = 4_000_000_000
"""Bytes that a file may take that is written here."""

_AUTOMATIC = 1_000_000_000  # the same where nobody asked for it
_UNPACKED = {0, 1, 32}  # F32, F16, BF16: wide already
_BRIEF = 4  # passes of a measurement that nobody asked for
_SPARE = 500_000_000  # bytes that are left free on the disk


class TuningRecord(BaseModel):
    """What was chosen for a model's file on one kind of machine, and why.

    `sha256` and `size` are those of the file to open; with the format `as-shipped` that is the
    model's own. `refused` says why formats were not tried.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    machine: str
    threads: int
    shipped_sha256: str
    format: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int
    batch: BatchSettings
    measured: list[Measurement]
    refused: dict[str, str] = {}

    @property
    def _in_place(self) -> bool:
        """Whether the file as shipped is opened, in whichever format its weights are then held."""
        return self.sha256 == self.shipped_sha256

    @property
    def held(self) -> str:
        """The format in which our kernels hold the weights of the file as shipped, or nothing."""
        return self.format if self._in_place and self.format != AS_SHIPPED else ""

    @property
    def kept(self) -> Measurement:
        """What was measured of the format that was chosen."""
        return next(found for found in self.measured if found.format == self.format)

    def path(self, shipped: Path) -> Path:
        """Return the file to open. Raises ModelError if it is gone, or was cut."""
        if self._in_place:
            return shipped
        path = optimised_file(shipped, self.sha256)
        if not self.is_here(shipped):
            raise ModelError(
                f"The optimised weights of {shipped.name} are gone or cut: {path}",
                hint="Write them again: synthgen-local models optimise; or use as-shipped weights.",
            )
        return path

    def is_here(self, shipped: Path) -> bool:
        """Return whether the file to open is there, and has its size."""
        path = shipped if self._in_place else optimised_file(shipped, self.sha256)
        private = self._in_place or is_private(path)
        return private and path.is_file() and path.stat().st_size == self.size

    def verdicts(self) -> dict[str, str]:
        """Return why each format was kept, or was not."""
        chosen = None if self.format == AS_SHIPPED else self.kept
        return {found.format: weight_formats.verdict(found, chosen) for found in self.measured}

    def covers(self, names: Sequence[str]) -> bool:
        """Return whether these formats were measured, and batches as well."""
        known = {found.format for found in self.measured if len(found.speeds) == len(BATCHES)}
        return {AS_SHIPPED, *names} <= known


@dataclass(frozen=True)
class LoadPlan:
    """What to open: a file, its format, the batch that each context is to decode.

    `held` is the format in which our kernels hold the file's weights, empty if they do not.
    """

    path: Path
    format: str = AS_SHIPPED
    batch: BatchSettings = USUAL
    held: str = ""


def choose_load_plan(
    shipped: Path,
    *,
    threads: int,
    kernels: Kernels = PLAIN,
    note: Callable[[str], None] = lambda _: None,
) -> LoadPlan:
    """Return what was chosen for a model on this kind of machine.

    Where another user can change the cache, the model is used as shipped. A small model is measured
    where nothing was chosen yet, in two batches, also in the format that our kernels or, if it is
    quantised, this CPU likes, which takes some seconds. If that fails it is used as shipped, and a
    warning says so. Raises ModelError if what was chosen is not there.

    Example: `choose_load_plan(Path("model.gguf"), threads=2).path`
    """
    if exposed(optimised_record(shipped, machine()).parent):
        return LoadPlan(shipped)
    tuned = recorded(shipped)
    if tuned is None and _is_small(header := read_header(shipped)):
        likely = likely_format(kernels)
        names = [likely] if likely in _held(kernels) or _is_quantised(header) else []
        try:
            tuned = _tune(shipped, names, threads=threads, kernels=kernels, brief=True, note=note)
        except (OSError, ModelError) as error:
            warnings.warn(
                f"The weights are used as shipped, which is slower: {error}", stacklevel=3
            )
    if tuned is None:
        return LoadPlan(shipped)
    return LoadPlan(tuned.path(shipped), tuned.format, tuned.batch, tuned.held)


def optimise(
    shipped: Path,
    names: Sequence[str] = tuple(FORMATS),
    *,
    threads: int,
    kernels: Kernels = PLAIN,
    note: Callable[[str], None] = lambda _: None,
) -> TuningRecord:
    """Measure formats and batches of a model, keep the best format's file, and record it.

    What was measured on this kind of machine before, and is here, is returned as it is. The disk
    holds at most one more file than is kept. Raises UsageError for a format that is not known,
    ModelError if none of them can be tried, or the disk is full.

    Example: `optimise(Path("model.gguf"), ["f16", "q8_0"], threads=2).format`
    """
    if unknown := set(names) - set(FORMATS):
        raise UsageError(
            f"{', '.join(sorted(unknown))} is no format.", hint=f"Choose from {', '.join(FORMATS)}."
        )
    tuned = recorded(shipped)
    known = [found.format for found in tuned.measured] if tuned else []
    names = [name for name in FORMATS if name in {*names, *known}]  # what is kept is not forgotten
    if tuned and tuned.is_here(shipped):
        tried, _ = _possible(shipped, names, kernels)
        if tuned.covers(tried):
            return tuned
    return _tune(shipped, names, threads=threads, kernels=kernels, note=note)


def recorded(shipped: Path) -> TuningRecord | None:
    """Return what is recorded for a model on this kind of machine, None if nothing is.

    What another user can change is not believed. Raises ModelError if the record cannot be read.
    """
    path = optimised_record(shipped, machine())
    return _read(path) if is_private(path) else None


def _read(path: Path) -> TuningRecord:
    try:
        return TuningRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ModelError(f"The record {path} cannot be read.", hint="Delete it.") from error


def forget(shipped: Path) -> list[Path]:
    """Delete what was written for a model, on all kinds of machines; return what that was.

    Example: `forget(Path("model.gguf"))`
    """
    found = optimised_files(shipped)
    for path in found:
        path.unlink(missing_ok=True)
    return found


def verify(shipped: Path) -> None:
    """Hash the file again that is opened for a model on this kind of machine, if it is another.

    Raises ModelError if it is not what was recorded.

    Example: `verify(Path("model.gguf"))`
    """
    tuned = recorded(shipped)
    if tuned is not None and (path := tuned.path(shipped)) != shipped:
        found = sha256_of(path)
        if found != tuned.sha256:
            raise ModelError(
                f"{path} is damaged: its sha256 is {found} where {tuned.sha256} is recorded.",
                hint="Delete it with: synthgen-local models optimise --forget, and its name.",
            )


def machine() -> str:
    """Return what speed and rounding hang on: the processor, llama.cpp's build, and our kernels.

    Example: `machine()`
    """
    from ..engine.backends.llamacpp import build

    compiled = ""
    with suppress(DecodingError):
        compiled = compiled_hash()
    return f"{platform.machine()} {build()} {library_hash()} {compiled}".rstrip()


def likely_format(kernels: Kernels = PLAIN) -> str:
    """Return the format that this CPU is likely to multiply fastest, but for those of 4 bits.

    It is one that our own kernels hold, if they can. llama.cpp's take 8 bits to AMX's tiles; where
    there are none, 16 are faster, because unpacking weights costs more than it saves.

    Example: `likely_format() in FORMATS`
    """
    from ..engine.backends.llamacpp import system_info

    if held := _held(kernels):
        return held[0]
    features = system_info()
    if kernels.repack and "AMX_INT8" in features:
        return "q8_0"
    return "bf16" if "AVX512" in features else "f16"


def _held(kernels: Kernels) -> list[str]:
    from ..engine.backends.llamacpp import held_formats

    return held_formats(kernels)


def _is_small(header: Header) -> bool:
    """Whether it is measured unasked."""
    return FORMATS["f16"].size(header.parameters) <= _AUTOMATIC


def _is_quantised(header: Header) -> bool:
    """Whether another format may be faster, and not only nearer to the weights' own."""
    kind = header.metadata.get("general.file_type")
    return isinstance(kind, int) and kind not in _UNPACKED


def _tune(
    shipped: Path,
    names: Sequence[str],
    *,
    threads: int,
    kernels: Kernels = PLAIN,
    brief: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> TuningRecord:
    folder = optimised_record(shipped, machine()).parent
    with writing(folder) as scratch:
        tried, refused = _possible(shipped, names, kernels)
        held = _held(kernels)

        def written(name: str) -> Path:
            """The file in that format, alone of its kind: the one before makes room for it."""
            if name in held:
                return shipped
            target = scratch / f"{name}.gguf"
            if not target.is_file():
                note(f"Writing the weights as {name}")
                for other in scratch.iterdir():
                    other.unlink()
                weight_formats.write(shipped, target, name, threads=threads)
            return target

        def measured(name: str, file: Path) -> Measurement:
            size = file.stat().st_size
            if name in held:
                size = FORMATS[name].size(read_header(shipped).parameters)
            note(f"Measuring {name}, {size / 1e6:.0f} MB")
            passes = {"passes": _BRIEF} if brief else {}
            asked = Comparison(
                str(shipped),
                str(file),
                weight_formats.brief(kernels) if brief else BATCHES,
                threads,
                kernels=kernels,
                held=name if name in held else "",
                **passes,
            )
            return weight_formats.measure(name, asked, size)

        found = [measured(AS_SHIPPED, shipped)]
        for name in tried:
            try:
                found.append(measured(name, written(name)))
            except SubprocessDiedError:
                refused[name] = "llama.cpp dies of it"
        chosen = weight_formats.choose(found)
        file = shipped if chosen is None else written(chosen.format)
        tuned = TuningRecord(
            machine=machine(),
            threads=threads,
            shipped_sha256=sha256_of(shipped),
            format=AS_SHIPPED if chosen is None else chosen.format,
            sha256=sha256_of(file),
            size=file.stat().st_size,
            batch=weight_formats.fastest((chosen or found[0]).speeds),
            measured=found,
            refused=refused,
        )
        _keep(shipped, tuned, file, scratch)
    return tuned


def _possible(
    shipped: Path, names: Sequence[str], kernels: Kernels
) -> tuple[list[str], dict[str, str]]:
    """Formats that can be tried, and why others cannot. Raises ModelError if none of them can."""
    header = read_header(shipped)
    held = _held(kernels)
    shipped_size = shipped.stat().st_size
    folder = optimised_record(shipped, machine()).parent
    make_folders(folder)
    free, memory = shutil.disk_usage(folder).free - _SPARE, _memory() // 2
    refused = {}
    for name in names:
        size = header.size + FORMATS[name].size(header.parameters)
        if name == INT8 and name not in held:
            refused[name] = "our kernels cannot hold it on this processor"
        elif name in held and size + shipped_size > memory:
            refused[name] = f"{_gigabytes(size)}, too much for half of this machine's memory"
        elif name in held:
            continue
        elif header.metadata.get("general.file_type") == FORMATS[name].file_type:
            refused[name] = "it is the format as shipped"
        elif size > MOST_DISK:
            refused[name] = f"{_gigabytes(size)}, above the bound of {_gigabytes(MOST_DISK)}"
        elif size > free:
            refused[name] = f"{_gigabytes(size)}, and the disk has {_gigabytes(max(0, free))} left"
        elif size + shipped_size > memory:
            refused[name] = f"{_gigabytes(size)}, too much for half of this machine's memory"
    tried = [name for name in names if name not in refused]
    if names and not tried:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise ModelError(
            f"{shipped.name} cannot be written in another format: {reasons}.",
            hint="Make room, or choose other formats; as shipped it runs as before.",
        )
    return tried, refused


def _keep(shipped: Path, tuned: TuningRecord, file: Path, scratch: Path) -> None:
    """Put the file in its place, then its record; what no record names any more is deleted."""
    record = optimised_record(shipped, tuned.machine)
    found = optimised_files(shipped)
    others = [_read(path) for path in found if path.suffix == ".json" and path != record]
    named = {optimised_file(shipped, each.sha256) for each in (tuned, *others)}
    if file != shipped:
        sync_path(file)
        close_to_others(file)
        file.replace(optimised_file(shipped, tuned.sha256))
    partial = scratch / "record"
    partial.write_text(f"{tuned.model_dump_json(indent=2)}\n", "utf-8")
    sync_path(partial)
    close_to_others(partial)
    partial.replace(record)
    for path in found:
        if path.suffix == ".gguf" and path not in named:
            path.unlink()


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
