"""Tuning: measure weight formats and batches of a model, and keep the best format's file.

Knows measurements, disk space and memory; knows no rows.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError, UsageError
from ..kernels.build import PLAIN, Kernels
from ..models.gguf import read_header
from ..models.store import optimised_record, sha256_of, writing
from ..system.permissions import make_folders
from ..system.subprocess_call import SubprocessDiedError
from . import measurement
from .format_choice import choose_batch, choose_format
from .measurement import BATCHES, Comparison, Measurement
from .tuning_record import TuningRecord, machine_id, read_record, save_record
from .weight_formats import AS_SHIPPED, FORMATS, INT8, kernel_formats

MAX_FILE_SIZE = 4_000_000_000
"""The maximum size in bytes of a file that is written in another format."""

_QUICK_PASSES = 4  # of a measurement that the user did not ask for
_RESERVED = 500_000_000  # bytes that are left free on the disk


def optimise(
    shipped: Path,
    names: Sequence[str] = tuple(FORMATS),
    *,
    threads: int,
    kernels: Kernels = PLAIN,
    note: Callable[[str], None] = lambda _: None,
) -> TuningRecord:
    """Measure formats and batches of a model, keep the best format's file, and record the choice.

    A record of this kind of machine that covers the formats is returned unchanged. At most one
    more file than is kept is on the disk at a time. Raises UsageError for an unknown format,
    ModelError if no format can be measured, or the disk is full.

    Example: `optimise(Path("model.gguf"), ["f16", "q8_0"], threads=2).format`
    """
    if unknown := set(names) - set(FORMATS):
        raise UsageError(
            f"Unknown format: {', '.join(sorted(unknown))}.",
            hint=f"Choose from {', '.join(FORMATS)}.",
        )
    record = read_record(shipped)
    known = [found.format for found in record.measured] if record else []
    names = [name for name in FORMATS if name in {*names, *known}]
    if record and record.is_here(shipped):
        possible, _ = _possible_formats(shipped, names, kernels)
        if record.covers(possible):
            return record
    return tune(shipped, names, threads=threads, kernels=kernels, note=note)


def tune(
    shipped: Path,
    names: Sequence[str],
    *,
    threads: int,
    kernels: Kernels = PLAIN,
    quick: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> TuningRecord:
    """Measure these formats, and record the best; `quick` measures fewer batches and passes.

    Raises ModelError if no format can be measured.

    Example: `tune(Path("model.gguf"), ["f16"], threads=2).format`
    """
    with writing(optimised_record(shipped, machine_id()).parent) as scratch:
        possible, refused = _possible_formats(shipped, names, kernels)
        tuner = _Tuner(shipped, scratch, threads, kernels, kernel_formats(kernels), quick, note)
        found = [tuner.measure(AS_SHIPPED, shipped)]
        for name in possible:
            try:
                found.append(tuner.measure(name, tuner.file(name)))
            except SubprocessDiedError:
                refused[name] = "llama.cpp crashes on it"
        chosen = choose_format(found)
        file = shipped if chosen is None else tuner.file(chosen.format)
        record = TuningRecord(
            machine=machine_id(),
            threads=threads,
            shipped_sha256=sha256_of(shipped),
            format=AS_SHIPPED if chosen is None else chosen.format,
            sha256=sha256_of(file),
            size=file.stat().st_size,
            batch=choose_batch((chosen or found[0]).speeds),
            measured=found,
            refused=refused,
        )
        save_record(shipped, record, file, scratch)
    return record


@dataclass(frozen=True)
class _Tuner:
    """Files of one model in other formats, and their measurements."""

    shipped: Path
    scratch: Path
    threads: int
    kernels: Kernels
    repacked: Sequence[str]
    quick: bool
    note: Callable[[str], None]

    def file(self, name: str) -> Path:
        """Return the file in a format; the one written before is deleted to save disk space."""
        if name in self.repacked:
            return self.shipped
        target = self.scratch / f"{name}.gguf"
        if not target.is_file():
            self.note(f"Writing the weights as {name}")
            for other in self.scratch.iterdir():
                other.unlink()
            measurement.convert(self.shipped, target, name, threads=self.threads)
        return target

    def measure(self, name: str, file: Path) -> Measurement:
        """Measure a format with all batch settings."""
        size = file.stat().st_size
        if name in self.repacked:
            size = FORMATS[name].size(read_header(self.shipped).parameters)
        self.note(f"Measuring {name}, {size / 1e6:.0f} MB")
        passes = {"passes": _QUICK_PASSES} if self.quick else {}
        comparison = Comparison(
            str(self.shipped),
            str(file),
            measurement.quick_batches(self.kernels) if self.quick else BATCHES,
            self.threads,
            kernels=self.kernels,
            repacked_as=name if name in self.repacked else "",
            **passes,
        )
        return measurement.measure_format(name, comparison, size)


def _possible_formats(
    shipped: Path, names: Sequence[str], kernels: Kernels
) -> tuple[list[str], dict[str, str]]:
    """Formats that can be measured, and why others cannot. Raises ModelError if none can."""
    header = read_header(shipped)
    repacked = kernel_formats(kernels)
    shipped_size = shipped.stat().st_size
    folder = optimised_record(shipped, machine_id()).parent
    make_folders(folder)
    free, memory = shutil.disk_usage(folder).free - _RESERVED, _memory() // 2
    refused = {}
    for name in names:
        size = header.size + FORMATS[name].size(header.parameters)
        if name == INT8 and name not in repacked:
            refused[name] = "our kernels do not support it on this processor"
        elif name in repacked and size + shipped_size > memory:
            refused[name] = f"{_gigabytes(size)}, too much for half of this machine's memory"
        elif name in repacked:
            continue
        elif header.metadata.get("general.file_type") == FORMATS[name].file_type:
            refused[name] = "it is the format as shipped"
        elif size > MAX_FILE_SIZE:
            refused[name] = f"{_gigabytes(size)}, above the bound of {_gigabytes(MAX_FILE_SIZE)}"
        elif size > free:
            refused[name] = f"{_gigabytes(size)}, and the disk has {_gigabytes(max(0, free))} left"
        elif size + shipped_size > memory:
            refused[name] = f"{_gigabytes(size)}, too much for half of this machine's memory"
    possible = [name for name in names if name not in refused]
    if names and not possible:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise ModelError(
            f"{shipped.name} cannot be written in another format: {reasons}.",
            hint="Free disk space or memory, choose other formats, or use the weights as shipped.",
        )
    return possible, refused


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
