"""The options that `generate`, `text` and `extract` share. Knows typer, not what they lead to."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ..errors import UsageError
from . import console

Schema = Annotated[
    str,
    typer.Argument(
        help="file.py:Class or package.module:Class, whose code runs; a .json schema or "
        "'name, age int', which run none."
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        help=".jsonl, .csv, .parquet, or a folder/ for Hugging Face datasets. "
        "Default, or -: JSON lines on stdout.",
    ),
]
CsvSafe = Annotated[
    bool,
    typer.Option("--csv-safe", help="No cell of a .csv is a formula to a spreadsheet."),
]
Model = Annotated[
    str,
    typer.Option("--model", "-m", help="A catalog name, a .gguf file, user/repo:QUANT, or random."),
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same rows.")]
Batch = Annotated[int | None, typer.Option(help="Rows decoded together.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads. Default: all cores.")]
GpuLayers = Annotated[
    int | None, typer.Option(help="Layers on the GPU. Default: all, if this build can.")
]
Weights = Annotated[
    Literal["fast", "as-shipped"],
    typer.Option(
        help="fast: as `models optimise` chose; a small model is measured briefly at first use."
    ),
]
FlashAttn = Annotated[
    Literal["auto", "on", "off"],
    typer.Option(help="llama.cpp's flash attention. auto: what was found faster here, else on."),
]
MaxLength = Annotated[
    int | None, typer.Option(help="Characters of a string that the schema does not limit.")
]
MaxItems = Annotated[
    int | None, typer.Option(help="Items of a list that the schema does not limit.")
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Forget a run into this file that was not finished.")
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Replace a file that no run made. An input is never replaced."),
]
KeepRun = Annotated[
    bool, typer.Option("--keep-run", help="Leave the run's state beside the file in the end.")
]
ManifestExamples = Annotated[
    bool,
    typer.Option("--manifest-examples", help="Write the examples into the manifest as well."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.")]


def _close(context: typer.Context, wanted: bool | None) -> bool | None:
    """Close the network while options are read: before a command has loaded anything."""
    fetches = context.params.get("wheelhouse") is True  # `models pack`, by pip
    if wanted is False or (wanted is None and fetches):
        return wanted
    from ..system.network import close_network

    shut = close_network(kernel_required=wanted is True)
    if not shut.kernel and not context.params.get("quiet"):
        console.note("Note: this kernel cannot close the network; Python's own door alone is shut.")
    return wanted


_OFFLINE = ("--offline/--no-offline",)
_ENVIRONMENT = "SYNTHGEN_LOCAL_OFFLINE"
Offline = Annotated[
    bool | None,
    typer.Option(
        *_OFFLINE,
        envvar=_ENVIRONMENT,
        callback=_close,
        help="Close the network first. Default: as well as this system can; --offline: or fail.",
    ),
]
Online = Annotated[
    bool,
    typer.Option(
        *_OFFLINE,
        envvar=_ENVIRONMENT,
        callback=_close,
        show_default=True,
        help="Close the network first.",
    ),
]
"""The same for a command whose work is to fetch."""


def refuse_nonsense(
    *,
    seed: int = 0,
    temperature: float = 0,
    batch: int | None = None,
    threads: int | None,
    rows: int = 0,
    max_length: int | None = None,
    max_items: int | None = None,
    least: int = 0,
    most: int | None = None,
) -> None:
    """Raise UsageError for a number that its option cannot mean."""
    from ..system.cores import available_cores
    from ..system.processes import check_threads

    check_threads(available_cores() - 1)  # those of numpy's OpenBLAS, before it is imported
    from ..engine.parallel_plan import MAX_ROWS, MAX_THREADS

    for name, value, lowest in (
        ("--rows", rows, 0),
        ("--seed", seed, 0),
        ("--temperature", temperature, 0),
        ("--batch", batch, 1),
        ("--threads", threads, 1),
        ("--max-length", max_length, 1),
        ("--max-items", max_items, 1),
        ("--least", least, 0),
        ("--most", most, 1),
    ):
        check_minimum(name, value, lowest)
    for name, number, highest in (
        ("--rows", rows, MAX_ROWS),
        ("--batch", batch, MAX_ROWS),
        ("--threads", threads, MAX_THREADS),
    ):
        if number is not None and number > highest:
            raise UsageError(f"{name} is {number}.", hint=f"It must be {highest} or less.")


def check_minimum(option: str, value: float | None, minimum: int) -> None:
    """Raise UsageError if the value of an option is less than a minimum.

    Example: `check_minimum("--max-length", 40, 1)`
    """
    if value is not None and not value >= minimum:
        raise UsageError(f"{option} is {value}.", hint=f"It must be {minimum} or more.")
