"""One line of progress on stderr, for whoever waits for rows in a notebook. Knows no rows."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")

_FIRST, _NEXT = 2.0, 0.5  # seconds before the first line, and between others


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook.

    Example: `in_notebook()`
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def shown(items: Iterable[Item], total: int, wanted: bool | None = None) -> Generator[Item]:
    """Yield items and write how many there were: one line, written anew twice a second.

    None wants that in a notebook, for what takes longer than two seconds.

    Example: `list(shown(range(3), 3, wanted=True)) == [0, 1, 2]`
    """
    if not (in_notebook() if wanted is None else wanted):
        yield from items
        return
    start = time.monotonic()
    following, done = (start + _FIRST if wanted is None else start), 0
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now >= following:
            following = now + _NEXT
            _write(done, total, now - start, "")
    if following > start + _FIRST or wanted:
        _write(done, total, time.monotonic() - start, "\n")


def _write(done: int, total: int, took: float, end: str) -> None:
    rate = done / max(took, 1e-9)
    sys.stderr.write(f"\r{done} of {total} rows, {rate:.1f} rows/s{end}")
    sys.stderr.flush()
