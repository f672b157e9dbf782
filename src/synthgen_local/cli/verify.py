"""`synthgen-local verify`: whether rows are what their manifest says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from . import console
from .options import CommonOptions, with_options

EPILOG = """
Examples:

  synthgen-local verify people.jsonl

  synthgen-local verify people.parquet --replay 5 -m weights/model.gguf
"""


@with_options
def verify(
    *,
    file: Annotated[Path, typer.Argument(help="The rows, with their .manifest.json beside them.")],
    replay: Annotated[
        int,
        typer.Option(
            help="Decode so many shards again and compare; the code of a schema in Python runs."
        ),
    ] = 0,
    model: Annotated[str, typer.Option("--model", "-m", help="Where the weights are now.")] = "",
    schema: Annotated[
        str, typer.Option(help="Hold rows against this class as well; its code runs.")
    ] = "",
    inputs: Annotated[
        str, typer.Option(help="Where examples, records or passages are now, for --replay.")
    ] = "",
    _common: CommonOptions,
) -> None:
    """Check the bytes, every row and the weights; exit code 1 for what is not as it was."""
    if replay < 0:
        raise UsageError(f"--replay is {replay}.", hint="It must be 0 or more.")
    from ..jobs import verify as checks

    manifest = checks.verify(file, console.data, model=model, source=schema)
    if replay:
        with console.waiting(f"Making {replay} shards again", quiet=False):
            checks.replay(
                file, manifest, replay, console.data, model=model, source=schema, inputs=inputs
            )
