"""`synthgen-local generate`: rows of a schema, to stdout or to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from . import console
from .options import (
    Batch,
    CsvSafe,
    FlashAttn,
    Force,
    Fresh,
    GpuLayers,
    KeepRun,
    ManifestExamples,
    MaxItems,
    MaxLength,
    Model,
    Offline,
    Output,
    Quiet,
    Schema,
    Seed,
    Threads,
    Verbose,
    Weights,
    refuse_nonsense,
)
from .output import Delivery, Kept, deliver, starting

EPILOG = """
Examples:

  synthgen-local generate 'name, age int, city: a town in Peru' -n 5

  synthgen-local generate models.py:Patient --examples patients.jsonl -n 1000 -o new.parquet

  synthgen-local generate schema.json -m random
"""


def generate(
    schema: Schema,
    rows: Annotated[int, typer.Option("--rows", "-n", help="How many rows to make.")] = 10,
    output: Output = None,
    csv_safe: CsvSafe = False,
    subject: Annotated[str, typer.Option(help="What the rows are about.")] = "",
    extra: Annotated[str, typer.Option(help="What else the model should see to.")] = "",
    examples: Annotated[
        Path | None, typer.Option(help="Records to imitate: .jsonl, .json or .csv.")
    ] = None,
    model: Model = "",
    seed: Seed = 0,
    temperature: Annotated[float, typer.Option(help="1 is the model's own distribution.")] = 1.0,
    null_rate: Annotated[
        float | None,
        typer.Option(
            help="How often an Optional is null where its field does not say; "
            "else as often as in the examples, of 10 or more, or 0.5."
        ),
    ] = None,
    sampling: Annotated[
        Literal["fast", "exact", "weighted"],
        typer.Option(
            help="exact: rows with the model's own odds among valid rows; weighted: a log_weight."
        ),
    ] = "fast",
    layout: Annotated[
        Literal["auto", "lines", "json"],
        typer.Option(help="How the model writes a row: lines of a flat schema take half as long."),
    ] = "auto",
    max_length: MaxLength = None,
    max_items: MaxItems = None,
    batch: Batch = None,
    threads: Threads = None,
    gpu_layers: GpuLayers = None,
    weights: Weights = "fast",
    flash_attn: FlashAttn = "auto",
    fresh: Fresh = False,
    force: Force = False,
    keep_run: KeepRun = False,
    manifest_examples: ManifestExamples = False,
    quiet: Quiet = False,
    offline: Offline = None,  # noqa: ARG001 its callback closes the network
    verbose: Verbose = False,  # noqa: ARG001 main() looks for it, after the command has failed
) -> None:
    """Make rows of a schema with a local model; each one is valid by construction."""
    with console.waiting(starting(model), quiet=quiet) as step:
        refuse_nonsense(
            rows=rows,
            seed=seed,
            temperature=temperature,
            batch=batch,
            threads=threads,
            max_length=max_length,
            max_items=max_items,
        )
        from ..jobs.spec import GenerateSettings

        settings = GenerateSettings(
            source=schema,
            rows=rows,
            subject=subject,
            extra=extra,
            examples=None if examples is None else str(examples),
            null_rate=null_rate,
            sampling=sampling,
            layout=layout,
            max_length=max_length,
            max_items=max_items,
            model=model,
            weights=weights,
            flash_attn=flash_attn,
            gpu_layers=gpu_layers,
            threads=threads,
            batch=batch,
            seed=seed,
            temperature=temperature,
        )
        kept = Kept(fresh, force, keep_run, manifest_examples)
        deliver(settings, Delivery(output, csv_safe, kept, quiet), step)
