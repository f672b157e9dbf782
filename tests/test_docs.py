"""The documents: code runs, shown output is printed, help is the program's, links exist."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import readme_output
from cli_docs import commands
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

import synthgen_local
from synthgen_local.cli import main

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
DESIGN = sorted((ROOT / "docs" / "design").glob("*.md"))
PAGES = ["CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md", "models/README.md"]
SHOWN = [ROOT / "README.md", ROOT / "docs" / "quickstart.md"]


@pytest.mark.model
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks_run(
    path: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every Python block of a document runs, in order; files are written to the test's folder."""
    monkeypatch.chdir(tmp_path)
    document = Sybil(parsers=[PythonCodeBlockParser()], path=str(ROOT)).parse(path)

    for example in document.examples():
        example.evaluate()


@pytest.mark.model
def test_console_blocks_run(run: Callable[..., Any], tmp_path: Path, weights: Path) -> None:
    """Every command that README and quickstart show exits with 0."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    text = "\n".join(path.read_text(encoding="utf-8") for path in SHOWN).replace("\\\n", " ")
    commands = re.findall(r"^\$ synthgen-local (.*)$", text, re.MULTILINE)
    assert len(commands) > 8

    for command in commands:
        done = run(*shlex.split(command))
        assert done.code == 0, done.err
    assert (tmp_path / "bills.parquet").is_file()


@pytest.mark.model
@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.name)
def test_the_output_that_a_document_shows_is_printed(path: Path, weights: Path) -> None:
    """The same rows with the same build, else rows with the same keys."""
    shown_build, command, shown = readme_output.find_output(path.read_text(encoding="utf-8"))
    printed = readme_output.run(command)

    if shown_build == readme_output.build():
        assert printed == shown
    assert [list(json.loads(line)) for line in printed.splitlines()] == [
        list(json.loads(line)) for line in shown.splitlines()
    ]


@pytest.mark.parametrize("command", commands())
def test_cli_document_is_the_help(command: str, run: Callable[..., Any]) -> None:
    """docs/cli.md holds each command's --help, word for word."""
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    shown = run(*command.split(), "--help", COLUMNS="80").out

    assert shown
    assert shown.strip() in text


def test_links_name_existing_files() -> None:
    """Relative links of the documents name existing files."""
    for path in [*DOCUMENTS, *DESIGN, *(ROOT / name for name in PAGES)]:
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
