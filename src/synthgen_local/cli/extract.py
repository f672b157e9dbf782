"""`synthgen-local extract`: the records of each passage, to stdout or to a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from . import console
from .options import (
    CommonOptions,
    EngineOptions,
    LimitOptions,
    OutputOptions,
    Schema,
    check_ranges,
    with_options,
)
from .output import starting, write_output

EPILOG = """
Examples:

  synthgen-local extract 'actor, film' reviews.txt

  synthgen-local extract models.py:Patient notes.jsonl -o patients.jsonl

  synthgen-local text actors.csv | synthgen-local extract 'actor, film' -
"""


@dataclass(frozen=True)
class ExtractOptions:
    """Number and grounding of the records."""

    grounded: Annotated[
        bool,
        typer.Option(
            "--grounded/--no-grounded",
            help="Require every free string to be a substring of its passage.",
        ),
    ] = True
    least: Annotated[int, typer.Option(help="Minimum number of records per passage.")] = 0
    most: Annotated[
        int | None, typer.Option(help="Maximum number of records per passage. Default: 8.")
    ] = None
    temperature: Annotated[
        float, typer.Option(help="Sampling temperature; 0 selects the most likely token.")
    ] = 0.0


@with_options
def extract(
    schema: Schema,
    texts: Annotated[
        str,
        typer.Argument(
            help="Passages: .txt (one per line), .json, .jsonl or .csv (strings, or objects with "
            "the key 'text'), or - for stdin."
        ),
    ],
    options: ExtractOptions,
    limits: LimitOptions,
    engine: EngineOptions,
    output: OutputOptions,
    _common: CommonOptions,
) -> None:
    """Extract the records of a schema from passages; each one is valid."""
    with console.waiting(starting(engine.model), quiet=output.quiet) as step:
        values = {**vars(options), **vars(limits), **vars(engine)}
        check_ranges(**values)
        from ..jobs.spec import ExtractJobSpec

        write_output(ExtractJobSpec(source=schema, passages=texts, **values), output, step)
