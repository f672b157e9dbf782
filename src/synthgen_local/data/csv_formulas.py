"""Cells that a spreadsheet would evaluate: escaped with an apostrophe, and read back.

Knows text; knows no tables.
"""

from __future__ import annotations

import re

_FORMULA = "[=+\\-@\\t\\r\uff1d\uff0b\uff0d\uff20]"  # begins a cell that a spreadsheet calculates


_PART = r"(?:\A|(?<=[,;|\t\r\n]))"  # where a cell may begin, by whichever separator


_BEFORE_FORMULA = re.compile(rf"{_PART}(?=['\" ]*{_FORMULA})|\A(?='*\n)")


_APOSTROPHE = re.compile(rf"{_PART}'(?=['\" ]*{_FORMULA})|\A'(?='*\n)")


_IN_JSON = re.compile(
    r"""([;|]['\\" ]*(?=-)|[,;|]['\\" ]*(?!-))([=+\-@\uff1d\uff0b\uff0d\uff20])"""
)


def escape_formulas(text: str) -> str:
    """Return a cell with an apostrophe before each part that a spreadsheet would evaluate.

    A quote may stand between: from the second column on it is a letter, by another separator.
    """
    return _BEFORE_FORMULA.sub("'", text)


def escape_json_formulas(text: str) -> str:
    """Return JSON text in which the first sign of a formula is written as its escape."""
    return _IN_JSON.sub(lambda match: f"{match[1]}\\u{ord(match[2]):04x}", text)


def unescape_formulas(text: str) -> str:
    """Return the cell from which `escape_formulas` made a text."""
    return _APOSTROPHE.sub("", text)


def quote_cell(text: str) -> str:
    """Return a cell in quotes (RFC 4180)."""
    return '"' + text.replace('"', '""') + '"'
