"""`synthgen-local generate`: rows of a schema, to stdout or to a file."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import UsageError
from . import console

if TYPE_CHECKING:
    from ..tabular import Row, TabularGenerator

EPILOG = """
Examples:

  synthgen-local generate 'name, age int, city: a town in Peru' -n 5

  synthgen-local generate models.py:Patient --examples patients.jsonl -n 1000 -o new.parquet

  synthgen-local generate schema.json -m random
"""


def generate(
    schema: Annotated[
        str,
        typer.Argument(
            help="file.py:Class, package.module:Class, a .json schema, or 'name, age int'."
        ),
    ],
    rows: Annotated[int, typer.Option("--rows", "-n", help="How many rows to make.")] = 10,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help=".jsonl, .csv or .parquet. Default: JSON lines on stdout."
        ),
    ] = None,
    subject: Annotated[str, typer.Option(help="What the rows are about.")] = "",
    extra: Annotated[str, typer.Option(help="What else the model should see to.")] = "",
    examples: Annotated[
        Path | None, typer.Option(help="Records to imitate: .jsonl, .json or .csv.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="A catalog name, a .gguf file, user/repo:QUANT, or random."
        ),
    ] = "",
    seed: Annotated[int, typer.Option(help="The same seed gives the same rows.")] = 0,
    temperature: Annotated[float, typer.Option(help="1 is the model's own distribution.")] = 1.0,
    batch: Annotated[int | None, typer.Option(help="Rows decoded together.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads. Default: all cores.")] = None,
    gpu_layers: Annotated[
        int | None, typer.Option(help="Layers on the GPU. Default: all, if this build can.")
    ] = None,
    weights: Annotated[
        Literal["fast", "as-shipped"],
        typer.Option(help="fast: expand a small Q4_1 file to 16 bits once."),
    ] = "fast",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")
    ] = False,
    verbose: Annotated[  # noqa: ARG001 main() looks for it, after the command has failed
        bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.")
    ] = False,
) -> None:
    """Make rows of a schema with a local model; each one is valid by construction."""
    _refuse_nonsense(rows, seed, temperature, batch, threads)
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
            from ..tabular import TabularGenerator

            generator = TabularGenerator(
                source,
                loaded,
                prompt=FewShotPrompt(examples=records),
                temperature=temperature,
                batch=batch,
            )
            made = generator.rows(subject, rows, extra=extra, seed=seed)
            _write(made, rows, generator, output, f"seed {seed}, {loaded.name}", quiet)


def _write(
    made: Generator[Row],
    wanted: int,
    generator: TabularGenerator,
    output: Path | None,
    origin: str,
    quiet: bool,
) -> None:
    """Hand rows on as they come, then say how it went."""
    from ..tables import row_line, write_table
    from ..tabular import Missing

    schema = generator.grammar.schema
    missing, kept, again, written = Missing(wanted), [], 0, 0
    start = time.monotonic()
    with closing(console.tracked(made, wanted, quiet=quiet)) as tracked:
        for row in tracked:
            again += len(row.rejections)
            if row.value is None:
                missing.add(row)
                continue
            written += 1
            if output is None:
                console.data(row_line(row.value, schema))
            else:
                kept.append(row.value)
    if output is not None:
        write_table(output, kept, schema)
    if not quiet:
        took = time.monotonic() - start
        console.note(
            f"{output or 'stdout'}: {written} rows in {console.seconds(took)} "
            f"({written / max(took, 1e-9):.1f} rows/s), {again} drawn again, {origin}"
        )
    missing.raise_if_any()


def _refuse_nonsense(
    rows: int, seed: int, temperature: float, batch: int | None, threads: int | None
) -> None:
    for name, value, least in (
        ("--rows", rows, 0),
        ("--seed", seed, 0),
        ("--temperature", temperature, 0),
        ("--batch", batch, 1),
        ("--threads", threads, 1),
    ):
        if value is not None and not value >= least:
            raise UsageError(f"{name} is {value}.", hint=f"It must be {least} or more.")
