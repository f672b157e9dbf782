"""The load plan of a model: file, weight format and batch with which it is opened here.

Once a choice is recorded for this kind of machine, the record decides. Knows records; does not
know how formats are measured, nor what rows are.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..engine.parallel_plan import BatchSettings
from ..errors import ModelError
from ..kernels.build import PLAIN, Kernels
from ..models.gguf import Header, read_header
from ..models.store import optimised_record
from ..system.permissions import exposed
from .measurement import DEFAULT_BATCH
from .tuning import tune
from .tuning_record import machine_id, read_record
from .weight_formats import AS_SHIPPED, FORMATS, is_quantised, kernel_formats, likely_format

_MAX_AUTOMATIC_SIZE = 1_000_000_000  # bytes as f16 of a model that is measured without being asked


@dataclass(frozen=True)
class LoadPlan:
    """A file to open, its format, and the batch that each context decodes.

    `repacked_as` is the format into which the kernels repack the weights, empty if they do not.
    """

    path: Path
    format: str = AS_SHIPPED
    batch: BatchSettings = DEFAULT_BATCH
    repacked_as: str = ""


def choose_load_plan(
    shipped: Path,
    *,
    threads: int,
    kernels: Kernels = PLAIN,
    note: Callable[[str], None] = lambda _: None,
) -> LoadPlan:
    """Return the load plan for a model on this kind of machine.

    If another user can change the cache, the model is opened as shipped. A small model without a
    record is measured, which takes some seconds: two batches as shipped and, where that may be
    faster, in the format that our kernels or this CPU prefer. If that fails it is opened as
    shipped, and a warning says so. Raises ModelError if the chosen file is missing.

    Example: `choose_load_plan(Path("model.gguf"), threads=2).path`
    """
    if exposed(optimised_record(shipped, machine_id()).parent):
        return LoadPlan(shipped)
    record = read_record(shipped)
    if record is None and _is_small(header := read_header(shipped)):
        likely = likely_format(kernels)
        names = [likely] if likely in kernel_formats(kernels) or is_quantised(header) else []
        try:
            record = tune(shipped, names, threads=threads, kernels=kernels, quick=True, note=note)
        except (OSError, ModelError) as error:
            warnings.warn(
                f"The weights are used as shipped, which is slower: {error}", stacklevel=3
            )
    if record is None:
        return LoadPlan(shipped)
    return LoadPlan(record.path(shipped), record.format, record.batch, record.repacked_as)


def _is_small(header: Header) -> bool:
    return FORMATS["f16"].size(header.parameters) <= _MAX_AUTOMATIC_SIZE
