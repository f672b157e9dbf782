"""`synthgen-local generate`: rows of a schema, to stdout or to a file."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import console
from .delivery import deliver
from .options import (
    Batch,
    GpuLayers,
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
    bounds_of,
    refuse_nonsense,
)

if TYPE_CHECKING:
    from ..tabular import Row, Tally

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
    subject: Annotated[str, typer.Option(help="What the rows are about.")] = "",
    extra: Annotated[str, typer.Option(help="What else the model should see to.")] = "",
    examples: Annotated[
        Path | None, typer.Option(help="Records to imitate: .jsonl, .json or .csv.")
    ] = None,
    model: Model = "",
    seed: Seed = 0,
    temperature: Annotated[float, typer.Option(help="1 is the model's own distribution.")] = 1.0,
    max_length: MaxLength = None,
    max_items: MaxItems = None,
    batch: Batch = None,
    threads: Threads = None,
    gpu_layers: GpuLayers = None,
    weights: Weights = "fast",
    quiet: Quiet = False,
    offline: Offline = None,  # noqa: ARG001 its callback closes the network
    verbose: Verbose = False,  # noqa: ARG001 main() looks for it, after the command has failed
) -> None:
    """Make rows of a schema with a local model; each one is valid by construction."""
    refuse_nonsense(rows=rows, seed=seed, temperature=temperature, batch=batch, threads=threads)
    from ..local_model import LocalModel
    from ..prompts import FewShotPrompt
    from ..schema import compile_schema, load_schema
    from ..tables import check_destination

    if output is not None:
        check_destination(output)
    with console.warnings_as_notes(quiet=quiet):
        source = load_schema(schema)
        records: list[str] = []
        if examples is not None:
            from ..examples import load_examples

            records = load_examples(examples, compile_schema(source))
        with LocalModel.load(
            model, gpu_layers=gpu_layers, threads=threads, weights=weights
        ) as loaded:
            from ..tabular import TabularGenerator, Tally

            generator = TabularGenerator(
                source,
                loaded,
                prompt=FewShotPrompt(examples=records),
                bounds=bounds_of(max_length, max_items),
                temperature=temperature,
                batch=batch,
            )
            tally = Tally(rows)
            deliver(
                _instances(generator.rows(subject, rows, extra=extra, seed=seed), tally),
                rows,
                generator.grammar.schema,
                output,
                lambda: f"{tally.rejections} drawn again, seed {seed}, {loaded.name}",
                word="rows",
                quiet=quiet,
            )
            if not quiet:
                for reason, share in tally.rates():
                    console.note(f"Turned down {share:.1%} of the tries: {reason}")


def _instances(rows: Generator[Row], tally: Tally) -> Generator[Any]:
    """Yield what the rows hold.

    Raises TooFewRowsError in the end if some rows were given up.
    """
    with closing(rows):
        for row in rows:
            tally.add(row)
            if row.value is not None:
                yield row.value
    tally.raise_if_short()
