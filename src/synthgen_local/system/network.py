"""Closes the network for this process and for every process that it starts.

Two doors, both shut for good. The kernel's is a seccomp filter (Linux on x86-64 and ARM64) under
which nobody makes a socket that is not AF_UNIX: no code, no thread and no child; see seccomp(2),
and linux/seccomp.h, linux/filter.h and linux/audit.h for the numbers. Python's is an audit hook
(PEP 578) that also refuses look-ups of names and sockets that were there before. Where there is no
filter the hook holds Python code alone: no native code, and no child.

Connections that were open before stay open, and AF_UNIX leads to whoever listens there: this
keeps code from talking by itself, it is no cell for a program that wants to break out.
Knows no models and no commands.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from dataclasses import dataclass
from typing import Any

from ..errors import NetworkError

QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_XET_TELEMETRY_ENABLED": "false",
    "LANGSMITH_TRACING_V2": "false",  # the first of the names that it reads; it would send prompts
}
"""What keeps the packages that this one uses from reporting; read when they are imported."""

OFFLINE = {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
"""What tells them not to try."""

_REFUSED = errno.EACCES
_LOOK_UPS = {f"socket.get{what}" for what in ("addrinfo", "hostbyname", "hostbyaddr", "nameinfo")}
_AF_UNIX = 1

# machine: AUDIT_ARCH, and the numbers of socket, socketpair and seccomp
_MACHINES = {"x86_64": (0xC000003E, 41, 53, 317), "aarch64": (0xC00000B7, 198, 199, 277)}
_IO_URING = (425, 426, 427)  # setup, enter, register: a ring makes sockets without socket(2)
_X32 = 0x40000000  # the bit of x86-64's third way to call the kernel

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _TSYNC = 1, 1
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
"""What a filter does: SECCOMP_RET_ALLOW, _ERRNO (with the number added), _KILL_PROCESS."""


@dataclass
class NetworkState:
    """Which doors are shut: the kernel's and Python's."""

    kernel: bool = False
    python: bool = False


_state = NetworkState()


def network_state() -> NetworkState:
    """Return which doors of this process `close_network` has shut.

    Example: `network_state().kernel`
    """
    return NetworkState(_state.kernel, _state.python)


def disable_telemetry() -> None:
    """Turn off what the packages in use would report. Call it before they are imported.

    Example: `disable_telemetry()`
    """
    os.environ.update(QUIET)


def close_network(*, kernel_required: bool = False) -> NetworkState:
    """Close the network for this process and its children, for good; return which doors are shut.

    From then on making a socket that is not AF_UNIX, or looking up a name, raises PermissionError.
    Programs that are set-user-ID, such as sudo, lose that right (PR_SET_NO_NEW_PRIVS). A second
    call changes nothing. Raises NetworkError if `kernel_required` and the kernel does not help.

    Example: `close_network(kernel_required=True).kernel`
    """
    disable_telemetry()
    os.environ.update(OFFLINE)
    if not _state.python:
        sys.addaudithook(_hook)
        _state.python = True
    _state.kernel = _state.kernel or _ask_kernel()
    if kernel_required and not _state.kernel:
        raise NetworkError(
            "This kernel cannot block the network.",
            hint="Without that requirement only Python's own sockets are blocked; "
            "else disconnect the machine.",
        )
    return network_state()


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse what Python code does with a socket of another family than AF_UNIX."""
    if not event.startswith("socket."):
        return
    family = _AF_UNIX
    if event == "socket.__new__":
        family = arguments[1]
    elif event in {"socket.bind", "socket.connect", "socket.sendto", "socket.sendmsg"}:
        family = arguments[0].family
    if family != _AF_UNIX or event in _LOOK_UPS:
        raise PermissionError(_REFUSED, "synthgen-local has closed the network")


def _ask_kernel() -> bool:
    """Install the filter in every thread of this process; whether the kernel took it."""
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        return False
    if struct.calcsize("P") != 8:
        return False
    return install(program(ERRNO | _REFUSED))


def install(code: bytes) -> bool:
    """Install a seccomp filter in every thread; whether the kernel took it.

    Example: `install(program(ERRNO | errno.EACCES))`
    """

    class Program(ctypes.Structure):  # struct sock_fprog
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))) != 0:
        return False
    number = ctypes.c_long(_MACHINES[platform.machine()][3])
    mode, flags = ctypes.c_ulong(_SET_MODE_FILTER), ctypes.c_ulong(_TSYNC)
    filtered = Program(len(code) // 8, code)
    return bool(libc.syscall(number, mode, flags, ctypes.byref(filtered)) == 0)


def program(refuse: int) -> bytes:
    """Return the filter; `refuse` is what it does with rings and sockets that are not AF_UNIX.

    Calls by another convention than this machine's own are all refused.

    Example: `program(KILL)`
    """
    arch, sockets, pairs, _ = _MACHINES[platform.machine()]
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06  # BPF: LD|W|ABS, JMP|JEQ, JMP|JGE, RET
    lines: list[tuple[int, str | int, str | int, int]] = [
        (load, 0, 0, 4),  # seccomp_data.arch
        (equal, 0, "refuse", arch),
        (load, 0, 0, 0),  # seccomp_data.nr
        (at_least, "refuse", 0, _X32),
        *((equal, "refuse", 0, number) for number in _IO_URING),
        (equal, "family", 0, sockets),
        (equal, "family", "allow", pairs),
        (load, 0, 0, 16),  # seccomp_data.args[0], its lower half: the kernel takes an int
        (equal, "allow", "refuse", _AF_UNIX),
        (give, 0, 0, ALLOW),
        (give, 0, 0, refuse),
    ]
    labels = {"family": len(lines) - 4, "allow": len(lines) - 2, "refuse": len(lines) - 1}

    def skip(index: int, target: str | int) -> int:
        return labels[target] - index - 1 if isinstance(target, str) else target

    return b"".join(
        struct.pack("=HBBI", code, skip(index, yes), skip(index, no), value)
        for index, (code, yes, no, value) in enumerate(lines)
    )
