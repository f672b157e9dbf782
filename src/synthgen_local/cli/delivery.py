"""What a command makes, on its way out: to stdout, a file or a folder, then a note of how it went.

Knows rows and their schema, not how they are made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ..errors import TooFewRowsError, UsageError
from . import console

if TYPE_CHECKING:
    from ..local_model import LocalModel
    from ..schema import RowSchema


def destination(output: str | None, *, csv_safe: bool) -> str | None:
    """Return where rows go, None for stdout; raise at once if they could not go there."""
    from ..tables import check_destination

    if output is None or output == "-":
        if csv_safe:
            raise UsageError("--csv-safe is for .csv files.", hint="Give one: -o rows.csv")
        return None
    check_destination(output, csv_safe=csv_safe)
    return output


def provenance(model: LocalModel, seed: int) -> dict[str, Any]:
    """Return where rows come from, as far as it is known; the licence is the model's."""
    from .. import __version__
    from ..models.catalog import catalog

    known = catalog().get(model.name)
    licence = {} if known is None else {"licence": known.licence}
    return {"model": model.name, **licence, "seed": seed, "synthgen-local": __version__}


def deliver(
    made: Generator[Any],
    wanted: int,
    schema: RowSchema,
    output: str | None,
    origin: Callable[[], str],
    *,
    word: str,
    quiet: bool,
    csv_safe: bool = False,
    made_by: Mapping[str, Any] | None = None,
) -> None:
    """Hand rows on as they come, then say how it went and where they come from.

    A TooFewRowsError is raised when what was made before it is safe.
    """
    from ..tables import row_line, write_table

    written = 0
    short: TooFewRowsError | None = None
    start = time.monotonic()

    def lines() -> Iterator[str]:
        nonlocal written, short
        with closing(console.tracked(made, wanted, word, quiet=quiet)) as tracked:
            try:
                for row in tracked:
                    written += 1
                    yield row_line(row, schema)
            except TooFewRowsError as error:
                short = error

    if output is None:
        for line in lines():
            console.data(line)
    else:
        write_table(output, lines(), schema, provenance=made_by, csv_safe=csv_safe)
    if not quiet:
        took = time.monotonic() - start
        console.note(
            f"{output or 'stdout'}: {written} {word} in {console.seconds(took)} "
            f"({written / max(took, 1e-9):.1f} {word}/s), {origin()}"
        )
    if short is not None:
        raise short
