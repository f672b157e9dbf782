"""Whatever a system, a shell or a limit does to the program, it ends with one line and its hint."""

from __future__ import annotations

import errno
import os
import pwd
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran

from synthgen_local.cli import console, main
from synthgen_local.cli.unhandled_errors import explained
from synthgen_local.errors import DecodingError, UsageError
from synthgen_local.generators.tabular import TabularGenerator
from synthgen_local.jobs.spec import GenerateJobSpec
from synthgen_local.kernels import build
from synthgen_local.local_model import LocalModel
from synthgen_local.models.resolve import find
from synthgen_local.models.store import cache_dir
from synthgen_local.system.processes import check_threads
from synthgen_local.system.subprocess_call import call_in_subprocess

Run = Callable[..., Ran]
NOT_UTF8 = os.fsdecode(b"x\xff")
RANDOM = ("generate", "name", "-n", "2", "-m", "random", "-q")


def _shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    program = f"{shlex.quote(sys.executable)} -m synthgen_local"
    return subprocess.run(
        ["bash", "-c", f"{program} {command}"],
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("name", ["source", "subject", "extra", "examples", "model"])
def test_settings_hold_no_bytes_that_are_no_utf8(name: str) -> None:
    """Text that no prompt and no manifest can hold is refused before anything is made."""
    with pytest.raises(UsageError, match=name):
        GenerateJobSpec(**{"source": "name", "rows": 1, name: NOT_UTF8})


@pytest.mark.parametrize(
    "arguments",
    [
        (*RANDOM, "--subject", NOT_UTF8, "-o", "rows.jsonl"),
        ("models", "remove", NOT_UTF8),
    ],
)
def test_arguments_that_are_no_utf8_are_one_line(
    run: Run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """They end in an error and a hint, and leave no file."""
    done = run(*arguments)

    assert done.code in {2, 3}
    assert [line.partition(":")[0] for line in done.err.splitlines()] == ["Error", "Hint"]
    assert not list(tmp_path.iterdir())


def test_a_user_without_a_home_is_told_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without HOME and an entry in passwd there is an error that names the cache's variable."""
    for name in ("HOME", "XDG_CACHE_HOME", "SYNTHGEN_LOCAL_CACHE"):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(UsageError) as caught:
        cache_dir()
    assert "SYNTHGEN_LOCAL_CACHE" in caught.value.hint
    monkeypatch.setenv("SYNTHGEN_LOCAL_CACHE", "cache")
    with pytest.raises(Exception, match="There is no model"):
        find("~/weights.gguf")


@pytest.mark.parametrize("command", ["gcc 'x", 'cc "', "cc \\", "gc\udcff"])
def test_a_compiler_that_is_no_command_is_one_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    """What CC holds is a reason to do without our kernels, and none to fail."""
    build.compiled_hash.cache_clear()
    monkeypatch.setenv("CC", command)
    with pytest.raises(DecodingError) as caught:
        build.compile_kernels(tmp_path)
    build.compiled_hash.cache_clear()
    assert "CC" in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize("command", ["models list >/dev/full", "models list >&-", "-h >/dev/full"])
def test_a_stdout_that_takes_nothing_is_one_line(command: str) -> None:
    """Tables and help say so on stderr, and none shows a traceback."""
    done = _shell(command)

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2
    assert done.stderr.startswith(b"Error: ")


def test_closed_streams_lend_their_numbers_to_no_file(tmp_path: Path) -> None:
    """With all three closed a file is made as ever, and nothing else is written into it."""
    done = _shell(f"{' '.join(RANDOM[:-1])} -o {tmp_path}/rows.jsonl <&- >&- 2>&-")

    assert done.returncode == 0
    assert len((tmp_path / "rows.jsonl").read_text("utf-8").splitlines()) == 2


@pytest.mark.parametrize("encoding", ["ascii", "utf-16"])
def test_stdout_is_utf8_whatever_is_asked_for(run: Run, encoding: str) -> None:
    """Rows and tables are the same bytes in every locale."""
    done = run("schema", "name: für 東京", PYTHONIOENCODING=encoding)

    assert (done.code, done.err) == (0, "")
    assert "─" in done.out


def test_the_reader_of_a_table_may_leave(run: Run) -> None:
    """`| head` and `| true` are no errors of any command."""
    for command in ("models list", "schema name"):
        done = _shell(f"{command} | true; exit ${{PIPESTATUS[0]}}")
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (MemoryError(), "memory"),
        (OSError(errno.ENOMEM, "secret"), "memory"),
        (OSError(errno.EAGAIN, "secret"), "processes"),
        (OSError(errno.EIO, "secret", "file.csv"), "file.csv"),
        (RuntimeError("can't start new thread"), "threads"),
        (RecursionError("secret"), "nested"),
        (ValueError("secret"), "Unexpected ValueError"),
    ],
)
def test_what_nothing_handles_is_one_line_without_values(
    raised: Exception,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An exception from anywhere ends in its kind and a hint; -v shows the traceback."""

    def fail(**_: object) -> None:
        raise raised

    monkeypatch.setattr("synthgen_local.cli.app", fail)
    for name in (
        "disable_core_dumps",
        "disable_telemetry",
        "signals.install",
        "console.drop_stdout",
    ):
        monkeypatch.setattr(f"synthgen_local.cli.{name}", lambda: None)
    for arguments in (["synthgen-local"], ["synthgen-local", "-v"]):
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as caught:
            main()
        err = capsys.readouterr().err
        assert caught.value.code == 1
        assert said in err
        assert ("Traceback" in err) == ("-v" in arguments)
        if "-v" not in arguments:
            assert len(err.splitlines()) == 2
            assert "secret" not in err


def test_a_place_of_this_package_is_named() -> None:
    """An unexpected error says where in this package it came from."""
    with pytest.raises(TypeError) as caught:
        console.seconds("secret")  # type: ignore[arg-type]
    assert "cli/console.py:" in str(explained(caught.value))


def test_a_limit_of_threads_is_found_before_libraries_die_of_it(
    monkeypatch: pytest.MonkeyPatch, random_model: LocalModel
) -> None:
    """Where no thread can be started there is an error, and all that were started end."""
    check_threads(3)
    before = threading.active_count()
    start, left = threading.Thread.start, [2]

    def refuse(thread: threading.Thread) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(DecodingError, match="No more threads"):
        check_threads(3)
    left[0] = 0
    with pytest.raises(DecodingError, match="No more threads"):
        TabularGenerator("name", random_model).generate("", 2)
    assert threading.active_count() == before


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
def test_a_process_that_cannot_start_is_one_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    """A limit of processes is no fault of the model's file."""

    def refuse(**_: object) -> None:
        raise OSError(number, os.strerror(number))

    file = tmp_path / "model.gguf"
    file.write_bytes(b"")
    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(DecodingError) as caught:
        call_in_subprocess("synthgen_local.loading.probe", str(file), {})
    assert "ulimit -u" in caught.value.hint


def test_a_process_that_ends_itself_by_sigint_was_not_interrupted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """OpenBLAS raises SIGINT where it cannot start a thread."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"")
    died = subprocess.CompletedProcess("", -signal.SIGINT, b"", b"")
    monkeypatch.setattr(subprocess, "run", lambda **_: died)
    with pytest.raises(DecodingError, match="No more threads"):
        call_in_subprocess("synthgen_local.loading.probe", str(file), {})
