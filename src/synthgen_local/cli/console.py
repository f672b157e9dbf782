"""Where the program speaks: data on stdout, all else on stderr.

Knows terminals, not schemas or models.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO, TypeVar

from ..errors import SynthgenError

Item = TypeVar("Item")


_data: list[TextIO] = []  # where data goes while `sys.stdout` is for what else is printed


def data(line: str) -> None:
    """Write a line of data and let a reader on the other side of a pipe have it at once."""
    out = _data[-1] if _data else sys.stdout
    out.write(f"{line}\n")
    out.flush()


@contextmanager
def prints_as_notes() -> Iterator[None]:
    """Let `print` in a schema's code write to stderr: nothing but rows is on stdout."""
    _data.append(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _data.pop()


def data_json(value: Any) -> None:
    """Write a value as indented JSON."""
    data(json.dumps(value, indent=2, ensure_ascii=False))


def note(line: str) -> None:
    """Tell the user something that is not data."""
    print(line, file=sys.stderr)


def report(error: SynthgenError) -> None:
    """Show an error: what is wrong, and what to do about it.

    It may name what somebody else's file holds, so it shows no codes that a terminal would obey.
    """
    note(f"Error: {_shown(str(error))}")
    if error.hint:
        note(f"Hint: {_shown(error.hint)}")


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table for people on stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = Table(*columns, box=box.SIMPLE, pad_edge=False)
    for row in rows:
        shown.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(shown)


@contextmanager
def warnings_as_notes(*, quiet: bool) -> Iterator[None]:
    """Show what the library warns of as one line each, and no other package's warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not quiet:
            warnings.filterwarnings("always", category=UserWarning)
        warnings.showwarning = lambda message, *_args, **_kwargs: note(f"Note: {message}")
        yield


def tracked(
    items: Generator[Item], total: int, word: str = "rows", *, quiet: bool
) -> Generator[Item]:
    """Yield items and show how many are done, how fast and how long it will take.

    Only a terminal sees it: not a file, not a pipe, and nobody with `quiet`.
    """
    if quiet or not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    speed = TextColumn("{task.fields[speed]}")
    columns = BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn()
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(word, total=total, speed="")
        for done, item in enumerate(items, 1):
            yield item
            rate = done / max(time.monotonic() - start, 1e-9)
            progress.update(task, completed=done, speed=f"{rate:.1f} {word}/s")


def seconds(value: float) -> str:
    """Return a duration for people.

    Example: `seconds(372) == "6m 12s"`
    """
    minutes, rest = divmod(round(value), 60)
    return f"{minutes}m {rest}s" if minutes else f"{value:.1f}s"
