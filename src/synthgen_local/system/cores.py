"""How many processor cores this process may use: its affinity, and the CPU quota of its container.

A quota limits the time of all threads together. More threads than the quota has cores stop in the
middle of each period and wait for each other, so a run would be slower with them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

_VERSION_1 = ("cpu", "cpu,cpuacct", "cpuacct,cpu")
_VERSION_2 = ("", "unified")


def available_cores() -> int:
    """Return how many cores this process may use, at least 1.

    Of a fractional quota the whole cores count: 2.5 are 2, and 0.5 is 1.

    Example: `LocalModel.load(threads=available_cores())`
    """
    allowed = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    quota = cpu_quota()
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the least CPU quota of this process's control groups, in cores; None if it has none.

    `root` is where `proc` and `sys` are.

    Example: `cpu_quota() == 1.5` in a container that was started with `--cpus 1.5`
    """
    quotas = [
        quota
        for version, folder in _groups(root)
        for quota in [_quota_2(folder) if version == 2 else _quota_1(folder)]
        if quota is not None
    ]
    return min(quotas, default=None)


def _groups(root: Path) -> Iterator[tuple[int, Path]]:
    """Each control group of this process that may limit CPU time, with the version of its files.

    Those above it limit it as well. A container may see the groups of its host in `/proc` and its
    own alone in `/sys`: then only the topmost exists, which is its own.
    """
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text("utf-8").splitlines():
            number, controllers, path = line.split(":", 2)
            unified = number == "0" and not controllers
            if not unified and "cpu" not in controllers.split(","):
                continue
            inner = PurePosixPath(path.lstrip("/"))
            for place in _VERSION_2 if unified else _VERSION_1:
                for group in (inner, *inner.parents):
                    yield 2 if unified else 1, root / "sys/fs/cgroup" / place / group


def _quota_2(folder: Path) -> float | None:
    """Version 2: `cpu.max` holds a quota, or max, and a period, in microseconds."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (folder / "cpu.max").read_text("utf-8").split()
        return _positive(int(quota) / int(period))
    return None


def _quota_1(folder: Path) -> float | None:
    """Version 1: a file for each, and a quota of -1 is none."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (
            int((folder / f"cpu.cfs_{name}_us").read_text("utf-8")) for name in ("quota", "period")
        )
        return _positive(quota / period)
    return None


def _positive(cores: float) -> float | None:
    return cores if cores > 0 else None
