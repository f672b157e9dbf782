"""What is said where memory is limited."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from synthgen_local.system import memory, subprocess_call
from synthgen_local.system.subprocess_call import SubprocessDiedError

UNDER_A_LIMIT = """
import resource, sys
from pathlib import Path
from synthgen_local import ModelError
from synthgen_local.prompting import chat_template
from synthgen_local.system import memory
from synthgen_local.models.gguf import read_header
chat_template.render  # what is imported needs memory too
most = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (1 << 27)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
assert memory.memory_limit() <= most
try:
    read_header(Path(sys.argv[1]))
except ModelError as error:
    print(error.hint)
"""


def test_a_limit_of_the_process_is_named(tmp_path: Path) -> None:
    """A file that cannot be mapped is not said to have a wrong path."""
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    with (tmp_path / "big.gguf").open("wb") as file:
        file.write(b"GGUF")
        file.truncate(1 << 32)
    done = subprocess.run(
        [sys.executable, "-c", UNDER_A_LIMIT, str(tmp_path / "big.gguf")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Memory is limited to" in done.stdout


def test_limits_of_cgroups_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of both versions, of the group and of those above it; the lowest holds."""
    (tmp_path / "groups").write_text("4:cpu,memory:/a\n0::/job/step\n")
    for name, text in {
        "memory/a/memory.limit_in_bytes": "9223372036854771712",
        "memory/memory.limit_in_bytes": "7000",
        "job/step/memory.max": "max",
        "job/memory.max": "5000",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory, "_MOUNT", tmp_path)

    assert sorted(memory._of_groups()) == [5000, 7000]


@pytest.mark.parametrize(
    ("code", "limit", "word"),
    [
        (-signal.SIGABRT, 300_000_000, "limited to 300 MB"),
        (1, 300_000_000, "limited to 300 MB"),
        (-signal.SIGKILL, None, "Free memory"),
        (-signal.SIGABRT, None, "another model"),
    ],
)
def test_a_process_that_dies_under_a_limit(
    code: int, limit: int | None, word: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The hint is about memory; without a limit it is about the file."""
    ended = subprocess.CompletedProcess([], code, b"")
    monkeypatch.setattr(subprocess_call.subprocess, "run", lambda **_: ended)
    for module in (subprocess_call, memory):
        monkeypatch.setattr(module, "memory_limit", lambda: limit)
    (tmp_path / "x.gguf").touch()
    with pytest.raises(SubprocessDiedError) as caught:
        subprocess_call.call_in_subprocess("x", str(tmp_path / "x.gguf"), {})
    assert word in caught.value.hint
