"""How this package starts a process of its own: for work on which a process may die.

Knows Python's command line, not what the process does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any


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

    Example: `leave_no_core()`
    """
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
