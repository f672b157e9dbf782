"""`synthgen-local extract`: the records of each passage, to stdout or to a file."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import console
from .delivery import deliver
from .options import (
    Batch,
    GpuLayers,
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

if TYPE_CHECKING:
    from ..schema import RowSchema

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
    output: Output = None,
    model: Model = "",
    seed: Seed = 0,
    temperature: Annotated[
        float, typer.Option(help="0 takes what the model finds likeliest.")
    ] = 0.0,
    batch: Batch = None,
    threads: Threads = None,
    gpu_layers: GpuLayers = None,
    weights: Weights = "fast",
    quiet: Quiet = False,
    offline: Offline = None,  # noqa: ARG001 its callback closes the network
    verbose: Verbose = False,  # noqa: ARG001 main() looks for it, after the command has failed
) -> None:
    """Read the records of a schema out of passages; each one is valid."""
    refuse_nonsense(seed=seed, temperature=temperature, batch=batch, threads=threads)
    from ..extract import Extractor
    from ..local_model import LocalModel
    from ..records import load_passages
    from ..schema import load_schema
    from ..tables import check_destination

    if output is not None:
        check_destination(output)
    with console.warnings_as_notes(quiet=quiet):
        source = load_schema(schema)
        passages = load_passages(texts)
        with LocalModel.load(
            model, gpu_layers=gpu_layers, threads=threads, weights=weights
        ) as loaded:
            extractor = Extractor(
                source, loaded, grounded=grounded, temperature=temperature, batch=batch
            )
            deliver(
                _rows(passages, extractor.extract(passages, seed=seed)),
                len(passages),
                _schema_of_rows(extractor.schema),
                output,
                lambda: f"seed {seed}, {loaded.name}",
                word="passages",
                quiet=quiet,
            )


def _rows(passages: Sequence[str], found: Generator[list[Any]]) -> Generator[dict[str, Any]]:
    with closing(found):
        for passage, records in zip(passages, found, strict=True):
            yield {"text": passage, "records": records}


def _schema_of_rows(schema: RowSchema) -> RowSchema:
    """The schema of a passage with its records."""
    from ..tables import plain_schema

    def dump(row: dict[str, Any]) -> dict[str, Any]:
        return row | {"records": [schema.dump(record) for record in row["records"]]}

    return replace(plain_schema("text", "records"), dump=dump)
