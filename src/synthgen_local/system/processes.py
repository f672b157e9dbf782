"""How this package starts a process of its own: for work on which a process may die.

Knows Python's command line, not what the process does.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from typing import Any

from ..errors import DecodingError

_PR_SET_DUMPABLE = 4
_THREADS_HINT = "Raise the limit of processes (ulimit -u, the container's), or lower --threads."


def no_threads() -> DecodingError:
    """Return the error for a limit of processes that is reached.

    Example: `raise no_threads()`
    """
    return DecodingError("No more threads or processes can be started.", hint=_THREADS_HINT)


def check_threads(number: int) -> None:
    """Start so many threads, which end at once. Raises DecodingError if the system refuses one.

    Libraries end the process where they cannot start theirs: OpenMP with a line of its own,
    OpenBLAS with SIGINT, as if the user had interrupted it.

    Example: `check_threads(available_cores())`
    """
    enough = threading.Event()
    threads = [threading.Thread(target=enough.wait, daemon=True) for _ in range(number)]
    started = []
    try:
        for thread in threads:
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        raise no_threads() from error
    finally:
        enough.set()
        for thread in started:
            thread.join()


def python(module: str) -> dict[str, Any]:
    """Return the arguments of `subprocess.Popen` that run a module of this package.

    It finds the packages that this process finds, and none in the working directory; it does not
    hear Ctrl-C; what it says on stderr is dropped, because that may quote what it works on.

    Example: `subprocess.run(**python("synthgen_local.loading.probe"))`
    """
    places = os.pathsep.join(place for place in sys.path if place)
    return {
        "args": [sys.executable, "-P", "-m", module],
        "env": {**os.environ, "PYTHONPATH": places, "GGML_NO_BACKTRACE": "1"},
        "stderr": subprocess.DEVNULL,
        "process_group": 0,
    }


def disable_core_dumps() -> None:
    """Let this process write no core file when it dies: it may hold what is private.

    The limit holds for processes that it starts, too. On Linux the process is also marked as not
    dumpable, because a program that core files are piped to need not keep to the limit.

    Example: `disable_core_dumps()`
    """
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, *map(ctypes.c_ulong, (0, 0, 0, 0)))
