"""What reaches a terminal: strings of other people's files are shown, and never obeyed."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from io import StringIO

import pytest

from synthgen_local import ModelError
from synthgen_local.cli import console

HOSTILE = "Tiny\x1b]0;evil\x07\x9b2J\r\x08\u202egpj.\u2028\x7f[bold]x[/bold]"


class Terminal(StringIO):
    """A stream that says that it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """It does."""
        return True


def warned(text: str) -> None:
    """A note of the library."""
    with console.warnings_as_notes(quiet=False):
        warnings.warn(text, stacklevel=1)


WAYS: dict[str, Callable[[str], None]] = {
    "note": console.note,
    "tell": console.tell,
    "error": lambda text: console.report(ModelError(text)),
    "hint": lambda text: console.report(ModelError("It is wrong.", hint=text)),
    "warning": warned,
    "table": lambda text: console.table(["name", "licence"], [["tiny", text]]),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_string_is_obeyed(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither are escapes of the terminal, nor the markup of tables; both can be read."""
    WAYS[way](HOSTILE)
    out, err = capsys.readouterr()
    said = out + err

    assert said.replace("\n", "").isprintable()
    assert "evil" in said
    assert "[bold]x[/bold]" in said


def test_a_row_on_a_terminal_is_the_same_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Escapes of JSON stand for what a terminal would obey; what joins letters stays."""
    row = {
        "name": HOSTILE,
        "emoji": "\U0001f469\u200d\U0001f52c",
        "word": "\u0645\u06cc\u200c\u062e",
    }
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    console.data(json.dumps(row, ensure_ascii=False))

    assert json.loads(terminal.getvalue()) == row
    assert not {"\x1b", "\x9b", "\u202e", "\u2028", "\x7f"} & set(terminal.getvalue())
    assert row["emoji"] in terminal.getvalue()


def test_a_pipe_gets_data_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Programs read it."""
    console.data("a\x9bb")
    assert capsys.readouterr().out == "a\x9bb\n"
