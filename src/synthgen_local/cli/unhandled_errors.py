"""One line for an exception that nothing handled: memory, recursion, the system, or a defect.

The text of an exception may quote a row, so only its kind and the place of its origin are shown.
"""

from __future__ import annotations

import errno
import os
import traceback
from pathlib import Path

from ..errors import DecodingError, SynthgenError, UsageError
from ..system.processes import no_threads

_PACKAGE = Path(__file__).parents[1]
_MEMORY_HINT = "Raise its limit (ulimit -v, the container's), or lower --batch and --threads."


def explained(error: Exception) -> SynthgenError:
    """Return an error as it is shown to the user: one that was raised on purpose stays itself.

    Example: `explained(MemoryError()).hint`
    """
    match error:
        case SynthgenError():
            return error
        case MemoryError():
            return DecodingError("The memory that this process may use is full.", hint=_MEMORY_HINT)
        case ImportError() if "failed to map segment" in str(error):  # no room for a library
            return explained(MemoryError())
        case RecursionError():
            return SynthgenError(
                f"Something is nested too deeply for Python ({_origin(error)}).",
                hint="Use a schema, or an input, that is nested less deeply.",
            )
        case UnicodeEncodeError() if _is_surrogate(error):
            return UsageError(
                f"An argument or a file's name is no UTF-8 ({_origin(error)}).",
                hint="Give text as UTF-8, and rename the file.",
            )
        case RuntimeError() if "can't start new thread" in str(error):
            return no_threads()
        case OSError() if error.errno is not None:
            return _of_system(error)
    return SynthgenError(
        f"Unexpected {type(error).__name__} ({_origin(error)}).",
        hint="This is a defect: please report it with the traceback that -v shows.",
    )


def _of_system(error: OSError) -> SynthgenError:
    if error.errno == errno.ENOMEM:
        return explained(MemoryError())
    said = os.strerror(error.errno or 0)
    if error.errno == errno.EAGAIN and error.filename is None:
        return no_threads()
    name = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    return SynthgenError(
        f"{name}{said} ({_origin(error)}).", hint="Check the file, the disk and its permissions."
    )


def _is_surrogate(error: UnicodeEncodeError) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in error.object)


def _origin(error: Exception) -> str:
    """The last line of this package in the traceback, such as `tables.py:120`."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(_PACKAGE)]
    if not ours:
        return "outside of this package"
    return f"{Path(ours[-1].filename).relative_to(_PACKAGE)}:{ours[-1].lineno}"
