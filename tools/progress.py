"""Run a command and show on stderr that it is alive: its last line, and the time gone.

`python tools/progress.py COMMAND ...`: a terminal sees one moving line, a log one line a
minute. The command's whole output is shown only if it fails. Standard library only: it
runs before anything is installed.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time


def main(command: list[str]) -> int:
    """Run `command`; return its exit code."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    lines: list[str] = []
    reader = threading.Thread(target=_read, args=(process, lines))
    reader.start()
    terminal = sys.stderr.isatty()
    start = time.monotonic()
    following = 0.0
    while reader.is_alive():
        gone = time.monotonic() - start
        if gone >= following:
            _show(lines, gone, terminal=terminal)
            following = gone + (1 if terminal else 60)
        reader.join(0.2)
    code = process.wait()
    if terminal:
        sys.stderr.write("\r\x1b[K")
    if code:
        sys.stderr.writelines(lines)
    return code


def _read(process: subprocess.Popen[str], lines: list[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)  # noqa: PERF402 a list grows while it is read; extend would wait


def _show(lines: list[str], gone: float, *, terminal: bool) -> None:
    last = lines[-1].strip() if lines else ""
    text = f"[{int(gone) // 60}m {int(gone) % 60:02d}s] {last}"
    sys.stderr.write(f"\r\x1b[K{text[:100]}" if terminal else f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
