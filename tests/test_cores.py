"""How many cores a process may use, as fake trees of `/proc` and `/sys` say it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from synthgen_local.system import cores
from synthgen_local.system.cores import available_cores, cpu_quota


def _tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return root


_SYS = "sys/fs/cgroup"


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {f"{_SYS}/cpu.max": "100000 100000\n"}, 1),
        ("0::/a/b\n", {f"{_SYS}/a/b/cpu.max": "max 100000\n"}, None),
        (
            "0::/a/b\n",
            {f"{_SYS}/a/b/cpu.max": "400000 100000\n", f"{_SYS}/a/cpu.max": "150000 100000\n"},
            1.5,
        ),
        ("0::/of/the/host\n", {f"{_SYS}/cpu.max": "50000 100000"}, 0.5),
        ("0::/../outside\n", {f"{_SYS}/cpu.max": "50000 100000"}, 0.5),
        (
            "3:memory:/m\n2:cpu,cpuacct:/docker/1\n0::/\n",
            {
                f"{_SYS}/cpu,cpuacct/docker/1/cpu.cfs_quota_us": "250000\n",
                f"{_SYS}/cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000\n",
                f"{_SYS}/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                f"{_SYS}/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        (
            "1:cpu:/docker/of/the/host\n",
            {f"{_SYS}/cpu/cpu.cfs_quota_us": "20000", f"{_SYS}/cpu/cpu.cfs_period_us": "10000"},
            2,
        ),
        ("2:cpuset:/\n", {f"{_SYS}/cpu.max": "100000 100000\n"}, None),
        ("0::/\n", {f"{_SYS}/cpu.max": "nonsense"}, None),
        ("0::/\n", {f"{_SYS}/cpu.max": "100000 0"}, None),
        ("nonsense", {}, None),
    ],
)
def test_quotas_of_containers(
    tmp_path: Path, groups: str, files: dict[str, str], quota: float | None
) -> None:
    """The least quota counts of a group and of those above it, in both versions of the files."""
    assert cpu_quota(_tree(tmp_path, {"proc/self/cgroup": groups, **files})) == quota


def test_a_system_without_groups_has_no_quota(tmp_path: Path) -> None:
    """Other systems than Linux have no such files."""
    assert cpu_quota(tmp_path) is None


@pytest.mark.parametrize(("quota", "expected"), [(0.5, 1), (1, 1), (2.5, 2), (9, 4), (None, 4)])
def test_threads_keep_to_quota_and_affinity(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int
) -> None:
    """Whole cores of the quota, at least one, and no more than the affinity allows."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    assert available_cores() == expected
