"""Where the program speaks: data on stdout, all else on stderr.

Knows terminals, not schemas or models.
"""

from __future__ import annotations

import errno
import io
import json
import os
import queue
import re
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO, TypeVar

from ..errors import OutputError, SynthgenError

Item = TypeVar("Item")

_UNSAID, _USUAL = 0.3, 2.0  # seconds that need no word: at first use or on a terminal, else
_FIRST_LINE, _NEXT_LINE = 10.0, 30.0  # seconds between lines of progress off a terminal


_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Characters that a terminal obeys, or that change the order in which it shows a line."""

_data: list[TextIO | None] = []  # where data goes while `sys.stdout` is for what else is printed


def data(line: str) -> None:
    """Write a line of data and let a reader on the other side of a pipe have it at once.

    A terminal gets control characters as JSON's escapes, so a row stays the same row. Raises
    OutputError if stdout is closed or full.
    """
    out = _data[-1] if _data else sys.stdout
    if out is not None and out.isatty():
        line = _CONTROLS.sub(_escaped, line)
    _write(f"{line}\n")


def _write(text: str) -> None:
    out = _data[-1] if _data else sys.stdout
    with _writing_stdout():
        if out is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        out.write(text)
        out.flush()


def tell(line: str) -> None:
    """Write a line for people to stdout. Raises OutputError if stdout is closed or full."""
    data(shown(line))


def flush() -> None:
    """Write what is left in stdout's buffer. Raises OutputError if it cannot be written."""
    if sys.stdout is not None:
        with _writing_stdout():
            sys.stdout.flush()


def open_streams() -> None:
    """Let both streams write UTF-8, as files do, whatever the locale says.

    Bytes of file names that are no UTF-8 are shown by their numbers. A standard descriptor that is
    closed is opened on /dev/null: otherwise the next file would get its number, and messages of
    libraries. What is sent to a closed stdout stays an error.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


@contextmanager
def _writing_stdout() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # the reader has had enough, as `head` has
        drop_stdout()
        sys.exit(0)
    except OSError as error:
        drop_stdout()
        raise OutputError(
            f"stdout cannot be written: {error.strerror}.", hint="Write to a file: -o rows.jsonl"
        ) from error


def drop_stdout() -> None:
    """Let nothing more be written to stdout: Python would try again when it ends."""
    if sys.__stdout__ is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.__stdout__.fileno())
        os.close(nowhere)


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
    """Tell the user something that is not data.

    It may name what is in somebody else's file, so no code that a terminal obeys is written.
    """
    with suppress(OSError):  # there is nobody else to tell
        print(shown(line), file=sys.stderr)


def report(error: SynthgenError) -> None:
    """Show an error: what is wrong, and what to do about it."""
    note(f"Error: {error}")
    if error.hint:
        note(f"Hint: {error.hint}")


def shown(text: str) -> str:
    r"""Return a text with JSON's escapes for what cannot be printed, but for ends of lines.

    Example: `shown("\x1b[2J") == r"\u001b[2J"`
    """
    return "".join(c if c.isprintable() or c == "\n" else _escape(c) for c in text)


def _escaped(found: re.Match[str]) -> str:
    return _escape(found[0])


def _escape(character: str) -> str:
    return json.dumps(character)[1:-1]


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table for people on stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(*columns, box=box.SIMPLE, pad_edge=False)
    for row in rows:
        grid.add_row(*(Text(shown(cell)) for cell in row))
    terminal = sys.stdout is not None and sys.stdout.isatty()
    written = io.StringIO()
    width = shutil.get_terminal_size().columns if terminal else 160
    Console(file=written, force_terminal=terminal, width=width).print(grid)
    _write(written.getvalue())


@contextmanager
def warnings_as_notes(*, quiet: bool) -> Iterator[None]:
    """Show what the library warns of as one line each, and no other package's warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not quiet:
            warnings.filterwarnings("always", category=UserWarning)
        warnings.showwarning = lambda message, *_args, **_kwargs: note(f"Note: {message}")
        yield


@contextmanager
def waiting(what: str, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Say which step takes long, and every ten seconds for how long.

    Yields a function that names the next step; of one without a name nothing is said. Off a
    terminal nothing is said of what takes less than two seconds, unless the first step has a name.

    Example: `with waiting("Starting", quiet=False) as step: step("Loading the model"); load()`
    """
    if quiet:
        yield lambda _: None
        return
    steps: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    unsaid = _UNSAID if what or sys.stderr.isatty() else _USUAL
    teller = threading.Thread(target=_tell, args=(what, unsaid, steps), daemon=True)
    teller.start()
    try:
        yield steps.put
    finally:
        steps.put(None)
        teller.join()


def _tell(what: str | None, unsaid: float, steps: queue.SimpleQueue[str | None]) -> None:
    """Write lines about steps until one is None."""
    while what is not None:
        start, patience = time.monotonic(), unsaid
        while True:
            try:
                what = steps.get(timeout=patience if what else None)
                break
            except queue.Empty:
                took = time.monotonic() - start
                note(f"{what} ..." if patience == unsaid else f"{what}: {seconds(took)} so far")
                patience = _FIRST_LINE


def tracked(
    items: Generator[Item], total: int, word: str = "rows", *, quiet: bool
) -> Generator[Item]:
    """Yield items and show how many are done; see `Bar`. Each one is safe once it is taken."""
    with Bar(total, word, quiet=quiet) as bar:
        for done, item in enumerate(bar.counted(items), 1):
            yield item
            bar.keep(done)


class Bar:
    """Shows how many rows are kept, how fast they come and how long it will take.

    A terminal sees a bar. A file or a pipe gets a line after ten seconds and every half minute
    from then on. With `quiet` nothing is shown. Only what would not be lost is counted: rows that
    are made and not yet kept are shown beside it.

    Example: `with Bar(100, "rows", quiet=False) as bar: bar.keep(1)`
    """

    def __init__(self, total: int, word: str, *, quiet: bool) -> None:
        self._total = total
        self._word = word
        self._quiet = quiet
        self.kept = 0
        self._before: int | None = None  # kept by an earlier part of the run
        self._made = 0
        self._start = time.monotonic()
        self._next_line = _FIRST_LINE
        self._shown: Any = None

    def __enter__(self) -> Bar:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
            self._shown = Progress(*columns, console=Console(stderr=True), transient=True)
            self._shown.start()
            self._task = self._shown.add_task(self._word, total=self._total)
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown is not None:
            self._shown.stop()

    def counted(self, items: Generator[Item]) -> Generator[Item]:
        """Yield items, and count them as made."""
        with closing(items):
            for item in items:
                self._made += 1
                self._show()
                yield item

    def keep(self, rows: int) -> None:
        """Say how many rows are safe now."""
        if self._before is None:
            self._before = rows if self._made == 0 else 0
        self.kept = rows
        self._show()

    def _show(self) -> None:
        if self._quiet:
            return
        took = time.monotonic() - self._start
        if self._shown is not None:
            self._shown.update(self._task, completed=self.kept, description=self._said(took))
        elif took >= self._next_line:
            self._next_line = took + _NEXT_LINE
            note(f"{self.kept} of {self._total} {self._word}, {self._said(took)}")

    def _said(self, took: float) -> str:
        """The speed, what is still to come, and what is made and not yet kept."""
        done = (self._before or 0) + self._made
        rate = self._made / max(took, 1e-9)
        parts = [f"{rate:.1f} {self._word}/s"]
        if self._made and done < self._total:
            parts.append(f"{seconds((self._total - done) / rate)} left")
        if done > self.kept:
            parts.append(f"{done - self.kept} more in work")
        return ", ".join(parts)


def seconds(value: float) -> str:
    """Return a duration for people.

    Example: `seconds(372) == "6m 12s"`
    """
    minutes, rest = divmod(round(value), 60)
    return f"{minutes}m {rest}s" if minutes else f"{value:.1f}s"
