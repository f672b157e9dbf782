"""Generation in a thread, for callers that run an event loop.

Knows no generator: it collects any stream and stops it when the task is cancelled.
"""

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from typing import TypeVar

_T = TypeVar("_T")


async def collect_in_thread(open_stream: Callable[[], Generator[_T]]) -> list[_T]:
    """Return the values of a stream that is opened and read in a thread of its own.

    Cancelling the task stops the stream before its next value.

    Example:
        >>> asyncio.run(collect_in_thread(lambda: (number for number in range(3))))
        [0, 1, 2]
    """
    cancelled = threading.Event()

    def collect() -> list[_T]:
        collected: list[_T] = []
        with closing(open_stream()) as stream:
            for value in stream:
                if cancelled.is_set():
                    break
                collected.append(value)
        return collected

    try:
        return await asyncio.to_thread(collect)
    except asyncio.CancelledError:
        cancelled.set()
        raise
