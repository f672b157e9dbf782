"""`synthgen-local text`: a text about each record, to stdout or to a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from . import console
from .options import (
    CommonOptions,
    EngineOptions,
    OutputOptions,
    check_ranges,
    with_options,
)
from .output import starting, write_output

EPILOG = """
Examples:

  synthgen-local text actors.jsonl --preferences '{"style": "gossip", "min_length": 200}'

  echo '["river", "lantern"]' | synthgen-local text - -q

  synthgen-local text actors.csv | synthgen-local extract 'actor, film' -
"""


@dataclass(frozen=True)
class TextOptions:
    """Content and style of the texts."""

    preferences: Annotated[
        str, typer.Option(help="Style, length and other preferences: JSON, or a JSON file.")
    ] = ""
    mentions: Annotated[
        Literal["exact", "free"],
        typer.Option(help="exact: each text contains every value of its record word for word."),
    ] = "exact"
    temperature: Annotated[
        float, typer.Option(help="Sampling temperature; 1 is the model's own distribution.")
    ] = 0.7  # TEMPERATURE of ..generators.text, which is slow to import


@with_options
def text(
    records: Annotated[
        str,
        typer.Argument(
            help="Records to write about: .json, .jsonl, .csv, .txt (one value per line), "
            "or - for stdin."
        ),
    ],
    options: TextOptions,
    engine: EngineOptions,
    output: OutputOptions,
    _common: CommonOptions,
) -> None:
    """Generate a text about each record that contains its values and has the requested length."""
    with console.waiting(starting(engine.model), quiet=output.quiet) as step:
        values = {**vars(options), **vars(engine)}
        check_ranges(**values)
        from ..data.inputs import load_preferences
        from ..jobs.spec import TextJobSpec

        given = options.preferences
        values["preferences"] = load_preferences(given) if given else None
        write_output(TextJobSpec(records=records, **values), output, step, inputs=[given])
