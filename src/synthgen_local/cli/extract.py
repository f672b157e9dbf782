"""`synthgen-local extract`: the records of each passage, to stdout or to a file."""

from __future__ import annotations

from typing import Annotated

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

  synthgen-local extract 'actor, film' reviews.txt

  synthgen-local extract models.py:Patient notes.jsonl -o patients.jsonl

  synthgen-local text actors.csv | synthgen-local extract 'actor, film' -
"""


def extract(
    schema: Schema,
    texts: Annotated[
        str,
        typer.Argument(
            help="Passages: .txt (one a line), .json, .jsonl or .csv (of strings, or with a "
            "'text'), or - for stdin."
        ),
    ],
    grounded: Annotated[
        bool,
        typer.Option(
            "--grounded/--no-grounded",
            help="Take every free string word for word from its passage.",
        ),
    ] = True,
    least: Annotated[int, typer.Option(help="Records that a passage has at least.")] = 0,
    most: Annotated[
        int | None, typer.Option(help="Records that a passage may have. Default: 8.")
    ] = None,
    max_length: MaxLength = None,
    max_items: MaxItems = None,
    output: Output = None,
    csv_safe: CsvSafe = False,
    model: Model = "",
    seed: Seed = 0,
    temperature: Annotated[
        float, typer.Option(help="0 takes what the model finds likeliest.")
    ] = 0.0,
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
    """Read the records of a schema out of passages; each one is valid."""
    with console.waiting(starting(model), quiet=quiet) as step:
        refuse_nonsense(
            seed=seed,
            temperature=temperature,
            batch=batch,
            threads=threads,
            least=least,
            most=most,
            max_length=max_length,
            max_items=max_items,
        )
        from ..jobs.spec import ExtractSettings

        settings = ExtractSettings(
            source=schema,
            passages=texts,
            grounded=grounded,
            least=least,
            most=most,
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
