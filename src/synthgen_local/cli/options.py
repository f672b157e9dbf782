"""The options that `generate`, `text` and `extract` share. Knows typer, not what they lead to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import UsageError
from . import console

if TYPE_CHECKING:
    from ..schema import Bounds

Schema = Annotated[
    str,
    typer.Argument(
        help="file.py:Class or package.module:Class, whose code runs; a .json schema or "
        "'name, age int', which run none."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help=".jsonl, .csv or .parquet. Default: JSON lines on stdout."),
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
    typer.Option(help="fast: expand a small Q4_1 file to 16 bits once."),
]
MaxLength = Annotated[
    int | None, typer.Option(help="Characters of a string that the schema does not limit.")
]
MaxItems = Annotated[
    int | None, typer.Option(help="Items of a list that the schema does not limit.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.")]


def _close(context: typer.Context, wanted: bool | None) -> bool | None:
    """Close the network while options are read: before a command has loaded anything."""
    if wanted is False:
        return wanted
    from ..offline import close_network

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


def bounds_of(max_length: int | None, max_items: int | None) -> Bounds | None:
    """Return the limits that were asked for; None leaves them to the examples and the context.

    Raises UsageError for a limit that leaves nothing.
    """
    from ..schema import Bounds

    given = {"max_length": max_length, "max_items": max_items}
    for name, value in given.items():
        if value is not None and value < 1:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} is {value}.", hint="It must be 1 or more.")
    if max_length is None and max_items is None:
        return None
    default = Bounds()
    return Bounds(
        max_length=max_length or default.max_length, max_items=max_items or default.max_items
    )


def refuse_nonsense(
    *, seed: int, temperature: float, batch: int | None, threads: int | None, rows: int = 0
) -> None:
    """Raise UsageError for a number that its option cannot mean."""
    for name, value, least in (
        ("--rows", rows, 0),
        ("--seed", seed, 0),
        ("--temperature", temperature, 0),
        ("--batch", batch, 1),
        ("--threads", threads, 1),
    ):
        if value is not None and not value >= least:
            raise UsageError(f"{name} is {value}.", hint=f"It must be {least} or more.")
