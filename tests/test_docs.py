"""What the documents say is so: code runs, help is the program's, links lead somewhere."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_docs import commands
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

import synthgen_local
from synthgen_local.cli import main

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.model
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks_run(
    path: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every Python block of a document runs, in order; what it writes lies in the test's folder."""
    monkeypatch.chdir(tmp_path)
    document = Sybil(parsers=[PythonCodeBlockParser()], path=str(ROOT)).parse(path)

    for example in document.examples():
        example.evaluate()


@pytest.mark.model
def test_console_blocks_run(run: Callable[..., Any], tmp_path: Path, weights: Path) -> None:
    """Every command that the README shows works as it stands."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ synthgen-local (.*)$", text, re.MULTILINE)
    assert commands

    for command in commands:
        done = run(*shlex.split(command))
        assert done.code == 0, done.err
    assert (tmp_path / "bills.parquet").is_file()


@pytest.mark.model
def test_the_demo_prints_what_the_readme_shows(weights: Path) -> None:
    """The README's rows are rows of the demo: as many, with the same keys."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert block
    shown = [re.findall(r'"(\w+)":', line) for line in block[1].splitlines()]
    command = [str(ROOT / "examples" / "medical_billing.py")]
    done = subprocess.run(
        [__import__("sys").executable, *command], capture_output=True, text=True, check=True
    )

    assert [re.findall(r'"(\w+)":', line) for line in done.stdout.splitlines()] == shown
    assert len(shown) == 10


@pytest.mark.parametrize("command", commands())
def test_cli_document_is_the_help(command: str, run: Callable[..., Any]) -> None:
    """docs/cli.md holds each command's --help, word for word."""
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    shown = run(*command.split(), "--help", COLUMNS="80").out

    assert shown
    assert shown.strip() in text


def test_links_lead_somewhere() -> None:
    """Relative links of the documents name files that are there."""
    for path in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_what_security_names_is_there() -> None:
    """Every test that SECURITY.md names exists."""
    named = re.findall(r"`(tests/\w+\.py)(?:::(\w+))?`", (ROOT / "SECURITY.md").read_text("utf-8"))

    assert len(named) > 4
    for path, test in named:
        assert f"def {test}" in (ROOT / path).read_text(encoding="utf-8")


def test_public_names() -> None:
    """Public names are sorted, importable, documented, and all there is."""
    names = synthgen_local.__all__

    assert names == sorted(names)
    assert all(getattr(synthgen_local, name).__doc__ for name in names)
    assert set(names) <= set(dir(synthgen_local))
    with pytest.raises(AttributeError):
        _ = synthgen_local.no_such_name
    assert callable(main)


def test_the_table_of_types_is_current() -> None:
    """docs/guarantees.md has what the compiler does with each type."""
    tool = runpy.run_path(str(ROOT / "tools" / "guarantees.py"))
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")

    assert tool["table"]() in page
