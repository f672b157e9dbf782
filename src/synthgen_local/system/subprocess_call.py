"""Function calls in a subprocess, for files on which llama.cpp may abort the process.

Arguments go in as JSON; the result comes back as JSON, or an error with its hint. Knows processes;
does not know what is called.
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
from .processes import disable_core_dumps, no_threads, python

_MIN_SECONDS = 60
_BYTES_PER_SECOND = 20_000_000  # of a slow disk
_REFUSED = 3  # an exit code that Python itself does not use
_HINT = "Download the file again, or use another model."


class SubprocessDiedError(ModelError):
    """The subprocess ended without a result."""


def call_in_subprocess(
    module: str, path: str, arguments: Mapping[str, Any], *, seconds: float = 0
) -> Any:
    """Return the result of a module of this package that works on a model's file.

    The time limit is that of reading the file from a slow disk, and `seconds` more. Raises
    ModelError if the module refuses the file or exceeds the limit, and SubprocessDiedError if the
    process dies.

    Example: `call_in_subprocess("synthgen_local.loading.probe", path, {"path": path})`
    """
    limit = _MIN_SECONDS + Path(path).stat().st_size / _BYTES_PER_SECOND + seconds
    try:
        done = subprocess.run(
            **python(module),
            input=json.dumps(arguments).encode(),
            stdout=subprocess.PIPE,
            timeout=limit,
            check=False,
        )
    except OSError as error:
        raise no_threads() from error
    except subprocess.TimeoutExpired:
        raise ModelError(
            f"{path} cannot be used: that takes more than {limit:.0f} s.", hint=_HINT
        ) from None
    # The subprocess ignores Ctrl-C; OpenBLAS sends itself this signal if it cannot start threads.
    if done.returncode == -signal.SIGINT:
        raise no_threads()
    with suppress(ValueError):
        result = json.loads(done.stdout)
        if done.returncode == 0:
            return result
        if done.returncode == _REFUSED:
            message, hint = result
            raise ModelError(message, hint=hint)
    raise SubprocessDiedError(
        f"{path} cannot be loaded: {_describe(done.returncode)}.", hint=_hint(done.returncode)
    )


def serve(function: Callable[..., Any]) -> int:
    """Call a function with the arguments on standard input, print its result, return an exit code.

    Example: `sys.exit(serve(lambda path: Path(path).stat().st_size))`
    """
    disable_core_dumps()
    try:
        print(json.dumps(function(**json.load(sys.stdin))))
    except SynthgenError as error:
        print(json.dumps([str(error), error.hint]))
        return _REFUSED
    return 0


def _describe(code: int) -> str:
    """The end of a process without a result."""
    if code >= 0:
        return "the subprocess fails without a reason"
    return f"llama.cpp ends with {signal.Signals(-code).name} on it"


def _hint(code: int) -> str:
    """A hint: the memory, if it is limited or the system killed the process, else the file."""
    if memory_limit() is None and code != -signal.SIGKILL:
        return _HINT
    return f"{memory_hint()} Otherwise the file may be damaged: download it again."
