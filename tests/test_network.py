"""Nothing leaves: who keeps sockets from being made, and that a run does not even try."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from synthgen_local.cli import app
from synthgen_local.system.network import network_state

Run = Callable[..., Any]
FIELDS = "name, age int"
REAL = ["-m", "synthgen_local", "generate", FIELDS, "-n", "2", "--max-length", "20"]

linux = pytest.mark.skipif(sys.platform != "linux", reason="seccomp and namespaces are Linux's")

TRY = """
import ctypes, errno, socket
libc = ctypes.CDLL(None, use_errno=True)

def native(*arguments):
    "A socket as compiled code makes one; the error's name if there is none."
    made = libc.socket(*arguments)
    return "made" if made >= 0 else errno.errorcode[ctypes.get_errno()]

def tried(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return type(error).__name__
    return "made"
"""

WITHOUT_A_KERNEL = """
from synthgen_local.system import network
network._ask_kernel = lambda: False
"""

UNDER_A_TRIPWIRE = """
import os, sys
from synthgen_local.system.network import KILL, install, program
assert install(program(KILL))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""

WITHOUT_INTERFACES = """
import ctypes, errno, os, socket, sys
user, network = 0x10000000, 0x40000000  # CLONE_NEWUSER, CLONE_NEWNET: unshare(2)
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(user | network) != 0 and libc.unshare(network) != 0:
    sys.exit("This test needs a network namespace: allow them to users, or be root.")
names = [line.split(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:]]
assert names == ["lo"], names
with socket.socket() as out:
    assert out.connect_ex(("127.0.0.1", 9)) == errno.ENETUNREACH  # even lo is down
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def child(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own: what is closed there stays open here."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,
    )


def told(code: str) -> Any:
    """What a child prints as JSON."""
    done = child(code)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rows(done: subprocess.CompletedProcess[str]) -> list[Any]:
    """The rows that a run wrote."""
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@linux
def test_the_kernel_refuses_every_socket_but_unix() -> None:
    """Compiled code, threads that were there before and children get no socket but AF_UNIX."""
    code = f"""{TRY}
import json, multiprocessing, subprocess, sys, threading
from synthgen_local import close_network

closed, other = threading.Event(), []
ask = lambda: (closed.wait(), other.append(native(socket.AF_INET, 1, 0)))
thread = threading.Thread(target=ask)
thread.start()
shut = close_network(kernel_required=True)
closed.set()
thread.join()
ways = subprocess.run([sys.executable, "-c", 'import socket; socket.socket()'], capture_output=True)
fork = multiprocessing.get_context("fork")
with fork.Pool(1) as pool:
    squares = pool.map(abs, [-2])
print(json.dumps({{
    "shut": vars(shut),
    "again": vars(close_network()),
    "thread": other,
    "families": sorted({{native(f, 1, 0) for f in range(50) if f != socket.AF_UNIX}}),
    "high bits": native(ctypes.c_long(socket.AF_INET | 1 << 32), 1, 0),
    "pair": tried(socket.socketpair, socket.AF_INET),
    "ring": [libc.syscall(425, 8, 0), errno.errorcode[ctypes.get_errno()]],
    "child": b"PermissionError" in ways.stderr,
    "unix": [native(socket.AF_UNIX, 1, 0), tried(socket.socket, socket.AF_UNIX)],
    "pool": squares,
}}))
"""
    assert told(code) == {
        "shut": {"kernel": True, "python": True},
        "again": {"kernel": True, "python": True},
        "thread": ["EACCES"],
        "families": ["EACCES"],
        "high bits": "EACCES",
        "pair": "PermissionError",
        "ring": [-1, "EACCES"],
        "child": True,
        "unix": ["made", "made"],
        "pool": [2],
    }


def test_without_the_kernel_python_refuses() -> None:
    """The hook alone refuses sockets, look-ups, and what was made before; AF_UNIX goes on."""
    code = f"""{TRY}{WITHOUT_A_KERNEL}
import json
before = socket.socket()
shut = network.close_network()
print(json.dumps([
    vars(shut), tried(socket.socket), tried(socket.getaddrinfo, "localhost", 80),
    tried(socket.gethostbyname, "localhost"), tried(before.connect, ("127.0.0.1", 9)),
    tried(before.bind, ("127.0.0.1", 0)), tried(socket.socketpair), tried(socket.gethostname),
]))
"""
    shut = {"kernel": False, "python": True}
    assert told(code) == [shut, *["PermissionError"] * 5, "made", "made"]


@pytest.mark.parametrize(
    ("options", "code", "notes"),
    [
        (
            [],
            0,
            ["Note: this kernel cannot block the network; only Python's own sockets are blocked."],
        ),
        (["-q"], 0, []),
        (["--no-offline", "-q"], 0, []),
        (["--offline", "-q"], 1, ["Error: This kernel cannot block the network."]),
    ],
)
def test_a_kernel_that_does_not_help(options: list[str], code: int, notes: list[str]) -> None:
    """By default a run says that half is missing and goes on; with --offline it does not."""
    line = f"{WITHOUT_A_KERNEL}\nfrom synthgen_local.cli import main\nmain()"
    done = child(line, "generate", FIELDS, "-n", "1", "-m", "random", *options)

    assert done.returncode == code
    assert len(done.stdout.splitlines()) == (code == 0)
    assert done.stderr.splitlines()[: len(notes)] == notes


@linux
@pytest.mark.model
def test_a_run_does_not_even_try(weights: Path) -> None:
    """With the network open, generate lives under a filter that kills whoever makes a socket."""
    trap = child(UNDER_A_TRIPWIRE, "-c", "import socket; socket.socket()")
    run = child(UNDER_A_TRIPWIRE, *REAL, "--no-offline")

    assert trap.returncode == -signal.SIGSYS
    assert len(rows(run)) == 2


@linux
@pytest.mark.model
@pytest.mark.skipif(not shutil.which("strace"), reason="the tripwire above shows it without")
def test_strace_sees_no_connection(weights: Path, tmp_path: Path) -> None:
    """Of all threads and children strace sees no call outside AF_UNIX, the network being open."""
    log = tmp_path / "trace"
    strace = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-e",
        "trace=network",
        "-o",
        str(log),
        sys.executable,
    ]

    def seen(*command: str) -> list[str]:
        done = subprocess.run([*strace, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        calls = [line for line in log.read_text().splitlines() if re.search(r"\w\(", line)]
        return [call for call in calls if "AF_UNIX" not in call]

    assert seen("-c", "import socket; socket.socket()")
    assert seen(*REAL, "--no-offline") == []


@linux
@pytest.mark.model
def test_generate_without_any_network(weights: Path) -> None:
    """In a network namespace without interfaces generate makes its rows."""
    assert len(rows(child(WITHOUT_INTERFACES, *REAL))) == 2


@pytest.fixture
def nosy(tmp_path: Path) -> Path:
    """A schema whose file asks for a socket."""
    (tmp_path / "nosy.py").write_text(
        "import socket\nfrom pydantic import BaseModel\nsocket.socket().close()\n"
        "class M(BaseModel):\n    a: bool\n"
    )
    return tmp_path


def test_it_is_closed_before_the_schemas_code_runs(run: Run, nosy: Path) -> None:
    """A schema's own code gets no socket, unless option or environment say that it may."""
    arguments = ["schema", "nosy.py:M", "--json"]
    closed = run(*arguments)
    options = run(*arguments, "--no-offline")
    environment = run(*arguments, SYNTHGEN_LOCAL_OFFLINE="0")
    both = run(*arguments, "--offline", SYNTHGEN_LOCAL_OFFLINE="0")

    assert "PermissionError" in closed.err
    assert "PermissionError" in both.err
    assert [each.code for each in (closed, options, environment, both)] == [1, 0, 0, 1]


@pytest.mark.model
def test_it_is_closed_before_model_code_is_loaded(weights: Path) -> None:
    """When llama.cpp, llguidance and numpy are imported the doors are shut already."""
    watch = """
import sys
from synthgen_local.cli import main
from synthgen_local.system.network import network_state

seen = {}
def watch(event, arguments):
    if event == "import" and arguments[0] in {"llama_cpp", "llguidance", "numpy"}:
        seen.setdefault(arguments[0], network_state().python)
sys.addaudithook(watch)
try:
    main()
finally:
    print(sorted(seen.items()), file=sys.stderr)
"""
    done = child(watch, *REAL[2:], "-q")

    assert eval(done.stderr) == [("llama_cpp", True), ("llguidance", True), ("numpy", True)]


def commands(group: Any = None, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command and its name."""
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{name} ")
        else:
            yield path + name, command


def test_every_command_closes_the_network_but_those_that_fetch() -> None:
    """All have --offline; it is the default of all but `models pull`, and of `pack` if any."""
    options = {
        name: {option.name: option.default for option in command.params}
        for name, command in commands()
    }
    fetching = {name for name, option in options.items() if option["offline"] is False}

    assert all("offline" in option for option in options.values())
    assert {"models pull"} <= fetching <= {"models pull", "models pack"}


def test_doctor_says_which_doors_are_shut(run: Run) -> None:
    """`doctor` says who closes the network with the same options."""
    expected = ["kernel", "python"] if sys.platform == "linux" else ["python"]

    assert json.loads(run("doctor", "--json").out)["network_closed_by"] == expected
    assert "network closed by: nobody\n" in run("doctor", "--no-offline").out


@pytest.mark.parametrize("told_by", ["disable_telemetry", "close_network"])
def test_nobody_reports(told_by: str) -> None:
    """The hub's client and LangSmith, told by the environment to report, do not."""
    code = f"""
import os
for name in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE"):
    os.environ[name] = "0"
for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING", "LANGSMITH_TRACING_V2"):
    os.environ[name] = os.environ[name.replace("SMITH", "CHAIN")] = "true"
from synthgen_local.system import network
network.{told_by}()
import json, huggingface_hub, huggingface_hub.utils._telemetry as telemetry, langsmith.utils
telemetry.send_telemetry("examples")
print(json.dumps([telemetry._TELEMETRY_QUEUE.qsize(), telemetry._TELEMETRY_THREAD,
    bool(langsmith.utils.tracing_is_enabled()), huggingface_hub.is_offline_mode()]))
"""
    assert told(code) == [0, None, False, told_by == "close_network"]


def test_the_command_line_is_silent() -> None:
    """Every command, those that fetch too, turns reports off before anything else."""
    code = """
import os, sys
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "0"
from synthgen_local.cli import main
sys.argv = ["synthgen-local", "models", "pull", "--help"]
try:
    main()
finally:
    print(os.environ["HF_HUB_DISABLE_TELEMETRY"], file=sys.stderr)
"""
    assert child(code).stderr == "1\n"


def test_these_tests_close_nothing_here() -> None:
    """What is closed in a child stays open in the tests' own process."""
    assert vars(network_state()) == {"kernel": False, "python": False}
