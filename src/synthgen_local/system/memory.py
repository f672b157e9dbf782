"""How much memory this process may take, where somebody has set a limit to it.

Knows limits of the system, not what memory is for.
"""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path

_UNLIMITED = 1 << 60  # cgroups of version 1 say "no limit" with a number near 2**63
_GROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")


def memory_limit() -> int | None:
    """Return the fewest bytes that limits of the process or of its cgroups allow, None if none do.

    Example: `memory_limit()`
    """
    limits = [
        soft
        for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)
        if (soft := resource.getrlimit(kind)[0]) != resource.RLIM_INFINITY
    ]
    if sys.platform == "linux":
        limits += _of_groups()
    return min(limits, default=None)


def memory_hint() -> str:
    """Return one line on what to do about a lack of memory.

    Example: `memory_hint()`
    """
    limit = memory_limit()
    if limit is None:
        return "Free memory, or use a smaller model."
    return (
        f"Memory is limited to {limit / 1e6:.0f} MB: raise the limit (ulimit -v, or the "
        "container's), or use a smaller model."
    )


def _of_groups() -> list[int]:
    """Limits of the cgroups that this process is in, of both versions."""
    found = []
    with suppress(OSError):
        for line in _GROUPS.read_text("utf-8", "replace").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                found += _on_the_way(_MOUNT, path, "memory.max")
            elif "memory" in controllers.split(","):
                found += _on_the_way(_MOUNT / "memory", path, "memory.limit_in_bytes")
    return found


def _on_the_way(mount: Path, path: str, name: str) -> list[int]:
    """Limits of a group and of all above it; in a container its own group is the mount."""
    here = mount / path.lstrip("/")
    found = []
    for folder in {here, *here.parents, mount}:
        if folder.is_relative_to(mount):
            with suppress(OSError, ValueError):
                limit = int((folder / name).read_text("ascii"))
                found += [limit] if limit < _UNLIMITED else []
    return found
