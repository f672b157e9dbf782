"""`synthgen-local text`: a text about each record, to stdout or to a file."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
    Seed,
    Threads,
    Verbose,
    Weights,
    refuse_nonsense,
)

if TYPE_CHECKING:
    from ..text import Text

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
    model: Model = "",
    seed: Seed = 0,
    temperature: Annotated[
        float, typer.Option(help="1 is the model's own distribution.")
    ] = 0.7,  # TEMPERATURE of ..text, which is slow to import
    batch: Batch = None,
    threads: Threads = None,
    gpu_layers: GpuLayers = None,
    weights: Weights = "fast",
    quiet: Quiet = False,
    offline: Offline = None,  # noqa: ARG001 its callback closes the network
    verbose: Verbose = False,  # noqa: ARG001 main() looks for it, after the command has failed
) -> None:
    """Write a text about each record; its values and the length are kept."""
    refuse_nonsense(seed=seed, temperature=temperature, batch=batch, threads=threads)
    from ..local_model import LocalModel
    from ..records import load_preferences, load_records
    from ..tables import check_destination, plain_schema
    from ..text import TextGenerator

    if output is not None:
        check_destination(output)
    preferred = load_preferences(preferences) if preferences else None
    fields = load_records(records)
    with (
        console.warnings_as_notes(quiet=quiet),
        LocalModel.load(model, gpu_layers=gpu_layers, threads=threads, weights=weights) as loaded,
    ):
        generator = TextGenerator(loaded, mentions=mentions, temperature=temperature, batch=batch)
        deliver(
            _rows(generator.texts(fields, preferred, seed=seed)),
            len(fields),
            plain_schema("fields", "preferences", "text", "spans"),
            output,
            lambda: f"seed {seed}, {loaded.name}",
            word="texts",
            quiet=quiet,
        )


def _rows(texts: Generator[Text]) -> Generator[dict[str, Any]]:
    with closing(texts):
        for made in texts:
            yield made.as_dict()
