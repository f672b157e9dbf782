"""How this package starts a process of its own: for work on which a process may die.

Knows Python's command line, not what the process does.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from typing import Any

_PR_SET_DUMPABLE = 4


def python(module: str) -> dict[str, Any]:
    """Return the arguments of `subprocess.Popen` that run a module of this package.

    It finds the packages that this process finds, and none in the working directory; it does not
    hear Ctrl-C; what it says on stderr is dropped, because that may quote what it works on.

    Example: `subprocess.run(**python("synthgen_local.engine.trial"))`
    """
    places = os.pathsep.join(place for place in sys.path if place)
    return {
        "args": [sys.executable, "-P", "-m", module],
        "env": {**os.environ, "PYTHONPATH": places, "GGML_NO_BACKTRACE": "1"},
        "stderr": subprocess.DEVNULL,
        "process_group": 0,
    }


def leave_no_core() -> None:
    """Let this process write no core file when it dies: it may hold what is private.

    The limit holds for processes that it starts, too. On Linux the process is also marked as not
    dumpable, because a program that core files are piped to need not keep to the limit.

    Example: `leave_no_core()`
    """
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, *map(ctypes.c_ulong, (0, 0, 0, 0)))
