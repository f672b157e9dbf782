"""`synthgen-local text`: a text about each record, to stdout or to a file."""

from __future__ import annotations

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
    Model,
    Offline,
    Output,
    Quiet,
    Seed,
    Threads,
    Verbose,
    Weights,
    refuse_nonsense,
)
from .output import Delivery, Kept, deliver, starting

EPILOG = """
Examples:

  synthgen-local text actors.jsonl --preferences '{"style": "gossip", "min_length": 200}'

  echo '["river", "lantern"]' | synthgen-local text - -q

  synthgen-local text actors.csv | synthgen-local extract 'actor, film' -
"""


def text(
    records: Annotated[
        str,
        typer.Argument(
            help="What to write about: .json, .jsonl, .csv, .txt (a value a line), or - for stdin."
        ),
    ],
    preferences: Annotated[
        str, typer.Option(help="Style, length and the like: JSON, or a file of it.")
    ] = "",
    mentions: Annotated[
        Literal["exact", "free"],
        typer.Option(help="exact: every value stands in its text, word for word."),
    ] = "exact",
    output: Output = None,
    csv_safe: CsvSafe = False,
    model: Model = "",
    seed: Seed = 0,
    temperature: Annotated[
        float, typer.Option(help="1 is the model's own distribution.")
    ] = 0.7,  # TEMPERATURE of ..text, which is slow to import
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
    """Write a text about each record; its values and the length are kept."""
    with console.waiting(starting(model), quiet=quiet) as step:
        refuse_nonsense(seed=seed, temperature=temperature, batch=batch, threads=threads)
        from ..data.inputs import load_preferences
        from ..jobs.spec import TextSettings

        settings = TextSettings(
            records=records,
            preferences=load_preferences(preferences) if preferences else None,
            mentions=mentions,
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
        deliver(settings, Delivery(output, csv_safe, kept, quiet), step, inputs=[preferences])
