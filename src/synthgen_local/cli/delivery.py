"""What a command makes, on its way out: to stdout or to a file, then a note of how it went.

Knows rows and their schema, not how they are made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TooFewRowsError
from . import console

if TYPE_CHECKING:
    from ..schema import RowSchema


def deliver(
    made: Generator[Any],
    wanted: int,
    schema: RowSchema,
    output: Path | None,
    origin: Callable[[], str],
    *,
    word: str,
    quiet: bool,
) -> None:
    """Hand rows on as they come, then say how it went and where they come from.

    A TooFewRowsError is raised when what was made before it is safe.
    """
    from ..tables import row_line, write_table

    kept: list[Any] = []
    written, short = 0, None
    start = time.monotonic()
    with closing(console.tracked(made, wanted, word, quiet=quiet)) as tracked:
        try:
            for row in tracked:
                written += 1
                if output is None:
                    console.data(row_line(row, schema))
                else:
                    kept.append(row)
        except TooFewRowsError as error:
            short = error
    if output is not None:
        write_table(output, kept, schema)
    if not quiet:
        took = time.monotonic() - start
        console.note(
            f"{output or 'stdout'}: {written} {word} in {console.seconds(took)} "
            f"({written / max(took, 1e-9):.1f} {word}/s), {origin()}"
        )
    if short is not None:
        raise short
