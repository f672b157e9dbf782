"""Write docs/cli.md from the program's own --help: `python tools/cli_docs.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

INTRODUCTION = """# The command line

Written by `python tools/cli_docs.py` from the program's own help; a test compares the two.
"""


def commands() -> list[str]:
    """Every command of the program, the program itself first."""
    from typer.main import get_command

    from synthgen_local.cli import app

    found = [""]
    groups = [("", get_command(app))]
    for path, group in groups:
        for name, command in getattr(group, "commands", {}).items():
            found.append(f"{path} {name}".strip())
            groups.append((found[-1], command))
    return found


def main() -> None:
    """Collect the help of every command."""
    parts = [INTRODUCTION]
    for command in commands():
        title = f"synthgen-local {command}".strip()
        parts.append(f"## {title}\n\n```text\n{_help(command).strip()}\n```\n")
    path = Path(__file__).parents[1] / "docs" / "cli.md"
    path.write_text("\n".join(parts), encoding="utf-8")


def _help(command: str) -> str:
    arguments = [sys.executable, "-m", "synthgen_local", *command.split(), "--help"]
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    return subprocess.run(
        arguments, capture_output=True, text=True, check=True, env=environment
    ).stdout


if __name__ == "__main__":
    main()
