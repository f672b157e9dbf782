"""Work on a model's file in a process of its own: on some files llama.cpp ends the process.

A question goes in as JSON and its answer comes back as JSON, or an error with its hint. Knows
processes, not what is asked.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import ModelError, SynthgenError
from .memory import memory_hint, memory_limit
from .processes import leave_no_core, no_threads, python

_LEAST_SECONDS = 60
_BYTES_A_SECOND = 20_000_000  # a slow disk: what a file of that size may take
_REFUSED = 3  # an exit code that Python itself does not use
_HINT = "Fetch it again, or use another model."


class SubprocessDiedError(ModelError):
    """The process ended on the file without a word."""


def call_in_subprocess(
    module: str, path: str, question: Mapping[str, Any], *, seconds: float = 0
) -> Any:
    """Return what a module of this package answers about a model's file.

    It has as long as reading a file of that size takes on a slow disk, and `seconds` more.
    Raises ModelError for what it refuses, or if the process hangs, and SubprocessDiedError if it
    dies.

    Example: `call_in_subprocess("synthgen_local.loading.probe", path, {"path": path})`
    """
    patience = _LEAST_SECONDS + Path(path).stat().st_size / _BYTES_A_SECOND + seconds
    try:
        done = subprocess.run(
            **python(module),
            input=json.dumps(question).encode(),
            stdout=subprocess.PIPE,
            timeout=patience,
            check=False,
        )
    except OSError as error:
        raise no_threads() from error
    except subprocess.TimeoutExpired:
        raise ModelError(
            f"{path} cannot be used: that takes more than {patience:.0f} s.", hint=_HINT
        ) from None
    if done.returncode == -signal.SIGINT:  # it hears no Ctrl-C: OpenBLAS ends itself so
        raise no_threads()
    with suppress(ValueError):
        said = json.loads(done.stdout)
        if done.returncode == 0:
            return said
        if done.returncode == _REFUSED:
            message, hint = said
            raise ModelError(message, hint=hint)
    raise SubprocessDiedError(
        f"{path} cannot be loaded: {_end(done.returncode)}.", hint=_hint(done.returncode)
    )


def _hint(code: int) -> str:
    """What may help: where memory is limited, that is likely why the process died."""
    if memory_limit() is None and code != -signal.SIGKILL:  # by which the system frees memory
        return _HINT
    return f"{memory_hint()} Else the file may be damaged: fetch it again."


def serve(work: Callable[..., Any]) -> int:
    """Do what the process was started for, and return its exit code.

    Example: `sys.exit(serve(lambda path: Path(path).stat().st_size))`
    """
    leave_no_core()
    try:
        print(json.dumps(work(**json.load(sys.stdin))))
    except SynthgenError as error:
        print(json.dumps([str(error), error.hint]))
        return _REFUSED
    return 0


def _end(code: int) -> str:
    """How a process ended that said nothing."""
    if code >= 0:
        return "something fails on it that knows no reason"
    return f"llama.cpp ends with {signal.Signals(-code).name} on it"
