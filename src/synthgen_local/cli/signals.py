"""Signals that end the program: the first in good order, the second at once, with exit code 130.

Python runs a handler only between two of its own instructions. A regular expression that does not
end holds the interpreter's lock, and no handler runs at all: so the first signal also gives the
next one of its kind back to the system, which ends the process, until the handler has run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

EXIT_CODE = 130
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 5.0


def _interrupt() -> None:
    raise KeyboardInterrupt


@dataclass(frozen=True)
class _Policy:
    """Action of the first signal, the seconds that it may take, and what is said then."""

    action: Callable[[], None] = _interrupt
    patience: float = _PATIENCE
    last_words: Callable[[], str] = lambda: "Interrupted."


_policy = _Policy()
_asked = False


def install() -> None:
    """Handle SIGINT, SIGTERM and SIGHUP from now on; the last one stays ignored under nohup.

    Example: `install()`
    """
    for number in _NUMBERS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)
            _reset_at_first(number)


@contextmanager
def ending(
    action: Callable[[], None], patience: float, last_words: Callable[[], str]
) -> Iterator[None]:
    """Let the first signal do `action` instead of raising KeyboardInterrupt.

    What has not ended `patience` seconds later is ended, after its `last_words`.

    Example: `with ending(stop.request, 8, lambda: "Interrupted."): make_rows(stop)`
    """
    global _policy  # noqa: PLW0603 there is one process, and one way to end it
    before, _policy = _policy, _Policy(action, patience, last_words)
    try:
        yield
    finally:
        _policy = before


def say(line: str) -> None:
    """Write a line to stderr in a handler, where a stream may be in use.

    Example: `say("Interrupted.")`
    """
    try:
        os.write(2, f"{line}\n".encode())
    except OSError:
        return


def _handle(number: int, _frame: FrameType | None) -> None:
    global _asked  # noqa: PLW0603
    signal.signal(number, _handle)
    if _asked:
        os._exit(EXIT_CODE)
    _asked = True
    guard = threading.Timer(_policy.patience, _give_up, [_policy])
    guard.daemon = True
    guard.start()
    _policy.action()


def _give_up(policy: _Policy) -> None:
    """End what does not end by itself: a validator that sleeps, a pass that takes long."""
    say(policy.last_words())
    os._exit(EXIT_CODE)


def _reset_at_first(number: int) -> None:
    """Let the system's default follow the first signal: `signal` as System V has it does so.

    Where libc has no such function, only Python's handler answers.
    """
    if sys.platform != "linux":
        return
    install_once = getattr(ctypes.CDLL(None), "sysv_signal", None)
    if install_once is not None:
        install_once.restype = ctypes.c_void_p
        install_once.argtypes = [ctypes.c_int, ctypes.c_void_p]
        install_once(number, install_once(number, None))  # None is SIG_DFL
