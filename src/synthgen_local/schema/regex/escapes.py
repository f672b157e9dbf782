r"""The meaning of the escapes of a regular expression in each dialect.

ECMA-262 is what JSON Schema asks for; Python's `re` and Rust's `regex` are what pydantic uses.
They differ in `\d`, `\w`, `\s`, `.`, and in some escapes. Classes are given in the syntax of
Rust's regex. Knows regex syntax only.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Name: TypeAlias = Literal["ecma", "python", "rust"]

_SPACES = r"\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"  # beyond ASCII
_ASCII = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\x{9}-\x{d} "}
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "0": 0}


@dataclass(frozen=True)
class Dialect:
    r"""The meaning of `\d`, `\w` and `\s`, as members of a class, and of a dot."""

    name: Name
    members: Mapping[str, str]
    dot: str
    controls: Mapping[str, int]
    first_bracket: bool = True
    """Whether a closing bracket at the start of a class is a member of it."""


_OTHERS = {**_CONTROLS, "a": 7}
_ECMA = Dialect(
    "ecma",
    {**_ASCII, "s": rf"{_ASCII['s']}{_SPACES}\x{{feff}}"},
    r"[^\x{a}\x{d}\x{2028}\x{2029}]",
    _CONTROLS,
    first_bracket=False,
)
_PYTHON = Dialect(
    "python",
    {
        "d": r"\p{Nd}",
        "w": r"\p{L}\p{N}_",
        "s": rf"{_ASCII['s']}\x{{1c}}-\x{{1f}}\x{{85}}{_SPACES}",
    },
    r"[^\x{a}]",
    _OTHERS,
)
_RUST = Dialect(
    "rust",
    {
        "d": r"\p{Nd}",
        "w": r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}",
        "s": rf"{_ASCII['s']}\x{{85}}{_SPACES}",
    },
    r"[^\x{a}]",
    _OTHERS,
)
DIALECTS: Mapping[Name, Dialect] = {"ecma": _ECMA, "python": _PYTHON, "rust": _RUST}
"""Dialects by name."""
ASCII_PYTHON = Dialect("python", _ASCII, _PYTHON.dot, _OTHERS)
"""Python's with the flag `re.ASCII`."""


def narrow(letter: str) -> str:
    r"""Return the ASCII members of `\d` and `\w`, of which there are some in every dialect.

    Example: `narrow("d") == "0-9"`
    """
    return _ASCII[letter]


def character(text: str, dialect: Dialect) -> str:
    r"""Return the escape of one character as Rust's regex has it.

    Raises ValueError for an escape that is not complete or that this dialect does not know.

    Example: `character(r"\u00e9", DIALECTS["ecma"]) == r"\x{00e9}"`
    """
    kind, rest = text[1], text[2:]
    if kind in "uUxcN" and not rest:
        if dialect.name == "ecma" and kind in "UN":
            return literal(kind)
        raise ValueError("an escape is not complete")
    if kind == "N":
        return rf"\x{{{ord(unicodedata.lookup(rest.strip('{}'))):x}}}"
    if kind in "uUx":
        return _code_point(int(rest.strip("{}"), 16))
    if kind == "c":
        return rf"\x{{{ord(rest) % 32:x}}}"
    if kind in dialect.controls:
        return rf"\x{{{dialect.controls[kind]:x}}}"
    if dialect.name != "ecma" and kind.isascii() and kind.isalpha():
        raise ValueError(f"the escape \\{kind} is not known")
    return literal(kind)


def literal(text: str) -> str:
    r"""Return a character so that it means itself anywhere in an expression.

    Example: `literal("/") == r"\/"`
    """
    if 0xD800 <= ord(text) <= 0xDFFF:
        raise ValueError("half of a surrogate pair is no character")
    return f"\\{text}" if text in r"\.+*?()|[]{}^$#&-~/" else text


def _code_point(code: int) -> str:
    if 0xD800 <= code <= 0xDFFF:
        raise ValueError("half of a surrogate pair is no character")
    if code > 0x10FFFF:
        raise ValueError("there is no such character")
    return rf"\x{{{code:x}}}"
