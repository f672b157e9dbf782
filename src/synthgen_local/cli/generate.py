"""`synthgen-local generate`: rows of a schema, to stdout or to a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

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

  synthgen-local generate 'name, age int, city: a town in Peru' -n 5

  synthgen-local generate models.py:Patient --examples patients.jsonl -n 1000 -o new.parquet

  synthgen-local generate schema.json -m random
"""


@dataclass(frozen=True)
class GenerateOptions:
    """Content and form of the rows."""

    rows: Annotated[int, typer.Option("--rows", "-n", help="Number of rows to generate.")] = 10
    subject: Annotated[str, typer.Option(help="Subject of the rows.")] = ""
    extra: Annotated[str, typer.Option(help="Additional instructions for the model.")] = ""
    examples: Annotated[
        Path | None, typer.Option(help="Example rows to imitate: .jsonl, .json or .csv.")
    ] = None
    temperature: Annotated[
        float, typer.Option(help="Sampling temperature; 1 is the model's own distribution.")
    ] = 1.0
    null_rate: Annotated[
        float | None,
        typer.Option(
            help="Probability of null for an Optional field that states none. Default: its "
            "frequency in the examples if there are 10 or more, else 0.5."
        ),
    ] = None
    sampling: Annotated[
        Literal["fast", "exact", "weighted"],
        typer.Option(
            help="exact: the model's distribution conditioned on valid rows; "
            "weighted: as fast, with a log_weight field."
        ),
    ] = "fast"
    layout: Annotated[
        Literal["auto", "lines", "json"],
        typer.Option(
            help="Format in which the model writes a row; lines takes half the time of json for "
            "a flat schema."
        ),
    ] = "auto"


@with_options
def generate(
    schema: Schema,
    options: GenerateOptions,
    limits: LimitOptions,
    engine: EngineOptions,
    output: OutputOptions,
    _common: CommonOptions,
) -> None:
    """Generate rows of a schema with a local model; each one is valid by construction."""
    with console.waiting(starting(engine.model), quiet=output.quiet) as step:
        values = {**vars(options), **vars(limits), **vars(engine)}
        check_ranges(**values)
        from ..jobs.spec import GenerateJobSpec

        values["examples"] = options.examples and str(options.examples)
        write_output(GenerateJobSpec(source=schema, **values), output, step)
