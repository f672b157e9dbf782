"""The record of a model's tuning: which file, format and batch were chosen on a kind of machine.

A record is a JSON file under `optimised/` in the cache, one for each model and kind of machine,
beside the files that were written. Knows records and files; does not know how they are measured.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..engine.parallel_plan import BatchSettings
from ..errors import DecodingError, ModelError
from ..kernels.build import compiled_hash, library_hash
from ..models.store import optimised_file, optimised_files, optimised_record, sha256_of
from ..system.atomic_write import sync_path
from ..system.permissions import close_to_others, is_private
from .format_choice import explain_choice
from .measurement import BATCHES, Measurement
from .weight_formats import AS_SHIPPED


class TuningRecord(BaseModel):
    """The choice for a model's file on one kind of machine, and the measurements behind it.

    `sha256` and `size` are those of the file to open; with the format `as-shipped` that is the
    model's own. `refused` holds the reasons why formats were not measured.
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
    def _opens_shipped_file(self) -> bool:
        return self.sha256 == self.shipped_sha256

    @property
    def repacked_as(self) -> str:
        """The format into which the kernels repack the shipped file's weights, or nothing."""
        return self.format if self._opens_shipped_file and self.format != AS_SHIPPED else ""

    @property
    def chosen(self) -> Measurement:
        """The measurement of the chosen format."""
        return next(found for found in self.measured if found.format == self.format)

    def path(self, shipped: Path) -> Path:
        """Return the file to open. Raises ModelError if it is missing or has another size."""
        if self._opens_shipped_file:
            return shipped
        path = optimised_file(shipped, self.sha256)
        if not self.is_here(shipped):
            raise ModelError(
                f"The optimised weights of {shipped.name} are missing or truncated: {path}",
                hint="Write them again: synthgen-local models optimise; or use as-shipped weights.",
            )
        return path

    def is_here(self, shipped: Path) -> bool:
        """Return whether the file to open exists and has its size."""
        own = self._opens_shipped_file
        path = shipped if own else optimised_file(shipped, self.sha256)
        return (own or is_private(path)) and path.is_file() and path.stat().st_size == self.size

    def verdicts(self) -> dict[str, str]:
        """Return for each measured format why it was chosen, or why not."""
        chosen = None if self.format == AS_SHIPPED else self.chosen
        return {found.format: explain_choice(found, chosen) for found in self.measured}

    def covers(self, names: Sequence[str]) -> bool:
        """Return whether these formats were measured with all batch settings."""
        known = {found.format for found in self.measured if len(found.speeds) == len(BATCHES)}
        return {AS_SHIPPED, *names} <= known


def machine_id() -> str:
    """Return what speed and rounding depend on: the processor, llama.cpp's build, our kernels.

    Example: `machine_id()`
    """
    from ..engine.backends.llamacpp import build

    compiled = ""
    with suppress(DecodingError):
        compiled = compiled_hash()
    return f"{platform.machine()} {build()} {library_hash()} {compiled}".rstrip()


def read_record(shipped: Path) -> TuningRecord | None:
    """Return the record of a model on this kind of machine, None if there is none.

    A record that another user can change is ignored. Raises ModelError if it cannot be read.
    """
    path = optimised_record(shipped, machine_id())
    return _read(path) if is_private(path) else None


def _read(path: Path) -> TuningRecord:
    try:
        return TuningRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ModelError(f"The record {path} cannot be read.", hint="Delete it.") from error


def save_record(shipped: Path, record: TuningRecord, file: Path, scratch: Path) -> None:
    """Move a file and its record from `scratch` to their places.

    Files that no record names any more are deleted.

    Example: `save_record(shipped, record, scratch / "f16.gguf", scratch)`
    """
    target = optimised_record(shipped, record.machine)
    found = optimised_files(shipped)
    others = [_read(path) for path in found if path.suffix == ".json" and path != target]
    named = {optimised_file(shipped, each.sha256) for each in (record, *others)}
    if file != shipped:
        sync_path(file)
        close_to_others(file)
        file.replace(optimised_file(shipped, record.sha256))
    partial = scratch / "record"
    partial.write_text(f"{record.model_dump_json(indent=2)}\n", "utf-8")
    sync_path(partial)
    close_to_others(partial)
    partial.replace(target)
    for path in found:
        if path.suffix == ".gguf" and path not in named:
            path.unlink()


def delete_optimised(shipped: Path) -> list[Path]:
    """Delete files and records of a model for all kinds of machines; return their paths.

    Example: `delete_optimised(Path("model.gguf"))`
    """
    found = optimised_files(shipped)
    for path in found:
        path.unlink(missing_ok=True)
    return found


def verify_optimised(shipped: Path) -> None:
    """Hash the file that is opened for a model on this kind of machine, if it is not the shipped.

    Raises ModelError if its hash is not the recorded one.

    Example: `verify_optimised(Path("model.gguf"))`
    """
    record = read_record(shipped)
    if record is not None and (path := record.path(shipped)) != shipped:
        found = sha256_of(path)
        if found != record.sha256:
            raise ModelError(
                f"{path} is damaged: its sha256 is {found}, and {record.sha256} is recorded.",
                hint="Delete it with: synthgen-local models optimise --forget, and its name.",
            )
