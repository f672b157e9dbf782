r"""A regular expression of ECMA-262, Python or Rust as a tree.

The leaves are written in the syntax of Rust's regex, which the grammar takes, and in that of
ECMA-262, in which rows are judged. Knows regex syntax only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypeAlias

from .escapes import ASCII_PYTHON, DIALECTS, Dialect, Name, character, literal, narrow

_QUANTIFIER = re.compile(r"(?:[*+?]|\{\d+(?:,\d*)?\})([?+]?)")
_QUANTIFIER_PYTHON = re.compile(r"(?:[*+?]|\{\d+(?:,\d*)?\}|\{,\d+\})([?+]?)")
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|u\{[0-9a-fA-F]+\}|u[0-9a-fA-F]{4}|x\{[0-9a-fA-F]+\}|x[0-9a-fA-F]{2}|U[0-9a-fA-F]{8}"
    r"|U\{[0-9a-fA-F]+\}|N\{[^}]+\}|c[A-Za-z]|b\{[a-z-]+\}|[pP]\{[^}]*\}|[pP][A-Z]"
    r"|k<\w+>|[1-9][0-9]*|.)",
    re.S,
)
_GROUP = re.compile(
    r"\((?:\?(?:(?P<flags>[a-zA-Z]*(?:-[a-zA-Z]+)?):|(?P<look><?[=!])|P?<(?P<name>\w+)>"
    r"|(?P<atomic>>)))?"
)
_FLAGS = re.compile(r"\(\?([a-zA-Z]+)\)")
_BACK = re.compile(r"\(\?P=(\w+)\)")
_COMMENT = re.compile(r"\(\?#[^)]*\)")
_SPACE = re.compile(r"(?:\s|#[^\n]*(?:\n|$))+")
_START, _END = {"^", r"\A"}, {"$", r"\Z", r"\z"}
_ANY = "(?s:.*)"
_KEPT_FLAGS = "ims"


@dataclass(frozen=True)
class Atom:
    """A character, a class or an escape.

    `text` is Rust's syntax, `plain` the same with ASCII alone where an escape means all scripts,
    `ecma` that of ECMA-262 with the flag `u`.
    """

    text: str
    plain: str
    ecma: str


@dataclass(frozen=True)
class Edge:
    """The start or the end of the string."""

    start: bool


@dataclass(frozen=True)
class Inexpressible:
    """A construct that a grammar cannot express, such as a word boundary; `wider` replaces it."""

    ecma: str
    wider: str = ""


@dataclass(frozen=True)
class Group:
    """Alternatives in brackets; `look` is the sign of a look-around, such as "=" or "<!"."""

    options: Options
    look: str = ""
    flags: str = ""
    counted: bool = False
    atomic: bool = False


@dataclass(frozen=True)
class Item:
    """A node and its quantifier."""

    node: Atom | Edge | Inexpressible | Group
    quantifier: str = ""
    possessive: bool = False


Sequence: TypeAlias = tuple[Item, ...]
Options: TypeAlias = tuple[Sequence, ...]


def read_options(pattern: str, dialect: Name) -> tuple[Options, str]:
    """Return the alternatives of an expression, and the flags at its start.

    Raises ValueError if it is no regular expression of this dialect.

    Example: `read_options("(?i)a|b", "python")[1] == "i"`
    """
    return _Reader(pattern, DIALECTS[dialect]).read()


@dataclass
class _Reader:
    """Reads a pattern from left to right."""

    _pattern: str
    _dialect: Dialect
    _at: int = 0
    _dotall: bool = False
    _verbose: bool = False
    _lost: str = field(default="", init=False)
    _names: list[str] = field(default_factory=list, init=False)  # of groups that are counted

    def read(self) -> tuple[Options, str]:
        flags = ""
        while opening := _FLAGS.match(self._pattern, self._at):
            self._at = opening.end()
            flags += self._set(opening[1])
        options = self._options()
        if self._at < len(self._pattern):
            raise ValueError("a bracket is closed that was not opened")
        return options, "".join(dict.fromkeys(flags))

    def _set(self, flags: str) -> str:
        """Turn flags on; return those that an expression keeps."""
        known = {"ecma": "imsx", "python": "aiLmsux", "rust": "imsxuUR"}[self._dialect.name]
        if unknown := set(flags) - set(known):
            raise ValueError(f"the flag {min(unknown)} is not known")
        self._dotall |= "s" in flags
        self._verbose |= "x" in flags
        if self._dialect.name == "python" and "a" in flags:
            self._dialect = ASCII_PYTHON
        return "".join(flag for flag in flags if flag in _KEPT_FLAGS)

    def _options(self) -> Options:
        options = [self._sequence()]
        while self._next() == "|":
            if self._lost:
                raise ValueError("flags stand in the middle of alternatives")
            self._at += 1
            options.append(self._sequence())
        return tuple(options)

    def _sequence(self) -> Sequence:
        items: list[Item] = []
        while self._next() not in ("", "|", ")"):
            if self._skipped():
                continue
            if opening := _FLAGS.match(self._pattern, self._at):
                self._at = opening.end()
                flags = self._set(opening[1])
                rest = (self._sequence(),) if items else self._options()
                items.append(Item(Group(rest, flags=flags)))
                self._lost = opening[1] if len(items) > 1 else ""
                break
            node = self._node()
            self._skipped()
            repeatable = not isinstance(node, Edge) and node != Inexpressible(
                getattr(node, "ecma", "")
            )
            quantifier, possessive = self._quantifier() if repeatable else ("", False)
            items.append(Item(node, quantifier, possessive))
        return tuple(items)

    def _skipped(self) -> bool:
        """Skip a comment or white space without meaning; return whether there was one."""
        start = self._at
        if self._dialect.name == "python" and (found := _COMMENT.match(self._pattern, start)):
            self._at = found.end()
        if self._verbose and (found := _SPACE.match(self._pattern, self._at)):
            self._at = found.end()
        return self._at > start

    @property
    def _repeats(self) -> re.Pattern[str]:
        return _QUANTIFIER_PYTHON if self._dialect.name == "python" else _QUANTIFIER

    def _quantifier(self) -> tuple[str, bool]:
        match = self._repeats.match(self._pattern, self._at)
        if match is None:
            return "", False
        if self._dialect.name == "rust":  # one repetition may follow another
            found = re.compile(r"(?:[*+?]|\{\d+(?:,\d*)?\})+").match(self._pattern, self._at)
            assert found is not None
            self._at = found.end()
            return found[0], False
        mark = match[1] if match[1] != "+" or self._dialect.name == "python" else ""
        self._at = match.end() - len(match[1]) + len(mark)
        quantifier = match[0][: len(match[0]) - len(match[1])].replace("{,", "{0,")
        least, _, most = quantifier.strip("{}").partition(",")
        if most and int(most) < int(least):
            raise ValueError("a repetition ends before it begins")
        return quantifier, mark == "+"

    def _next(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _node(self) -> Atom | Edge | Inexpressible | Group:
        text = self._next()
        if self._repeats.match(self._pattern, self._at):
            raise ValueError("nothing to repeat")
        if text == "(":
            return self._group()
        if text == "[":
            return self._class()
        if text == "\\":
            return self._escape()
        self._at += 1
        if text in "^$":
            return Edge(start=text == "^")
        if text == ".":
            dot = "(?s:.)" if self._dotall else self._dialect.dot
            plain = dot if self._dotall or self._dialect.name == "ecma" else "."
            return Atom(dot, plain, r"[\s\S]" if self._dotall else _ecma(dot))
        return _atom(literal(text))

    def _group(self) -> Group | Inexpressible:
        if self._dialect.name != "ecma" and (back := _BACK.match(self._pattern, self._at)):
            self._at = back.end()
            return self._back(back[1])
        opening = _GROUP.match(self._pattern, self._at)
        assert opening is not None
        if opening.group() == "(" and self._pattern.startswith("(?", self._at):
            raise ValueError("an unknown kind of group")
        if opening["atomic"] and self._dialect.name != "python":
            raise ValueError("an unknown kind of group")
        self._at = opening.end()
        counted = opening.group() == "(" or bool(opening["name"])
        if counted:
            self._names.append(opening["name"] or "")
        before = self._dialect, self._dotall, self._verbose, self._lost
        on, _, off = (opening["flags"] or "").partition("-")
        flags = self._set(on)
        self._dotall &= "s" not in off
        self._verbose &= "x" not in off
        flags += f"-{kept}" if (kept := "".join(f for f in off if f in _KEPT_FLAGS)) else ""
        self._lost = ""
        options = self._options()
        self._dialect, self._dotall, self._verbose, self._lost = before
        if self._next() != ")":
            raise ValueError("a bracket is not closed")
        self._at += 1
        if opening["look"]:
            return Group(options, opening["look"])
        return Group(options, "", flags, counted, bool(opening["atomic"]))

    def _back(self, name: str) -> Inexpressible:
        """A back-reference; the engine of the check identifies groups by number."""
        number = name if name.isdecimal() else str(self._names.index(name) + 1)
        return Inexpressible(rf"(?:\{number})", _ANY)

    def _escape(self) -> Atom | Edge | Inexpressible:
        text = self._escape_text()
        if text in _START or text in _END:
            return Edge(start=text in _START)
        if text[1] in "bB" or (text[1] == "G" and self._dialect.name == "ecma"):
            return Inexpressible(text[:2])
        if text[1] in "k123456789":
            return self._back(text[3:-1] if text[1] == "k" else text[1:])
        return self._escaped(text)

    def _escape_text(self) -> str:
        match = _ESCAPE.match(self._pattern, self._at)
        if match is None:
            raise ValueError("it ends in a backslash")
        self._at = match.end()
        return match[0]

    def _escaped(self, text: str) -> Atom:
        kind = text[1]
        if kind in "pP":
            return _atom(_property(text, self._dialect))
        if kind.lower() not in "dws":
            return _atom(_character(text, self._dialect))
        members = self._dialect.members[kind.lower()]
        whole = f"[{members}]" if kind.islower() else f"[^{members}]"
        plain = f"[{narrow(kind)}]" if kind in "dw" else whole
        return Atom(whole, plain, _ecma(whole))

    def _class(self) -> Atom:
        self._at += 1
        inverse = self._next() == "^"
        self._at += inverse
        first = self._at
        members: list[Atom] = []
        while self._next() != "]" or (self._dialect.first_bracket and self._at == first):
            members.append(self._nested() if self._set_inside() else self._range())
        self._at += 1
        return _class_of(members, inverse=inverse)

    def _set_inside(self) -> bool:
        """Return whether Rust reads a class, or an operation on classes, inside of this one."""
        return self._dialect.name == "rust" and self._pattern.startswith(
            ("[", "&&", "--", "~~"), self._at
        )

    def _nested(self) -> Atom:
        """Rust's classes inside of a class, as they are."""
        if self._next() != "[":
            self._at += 2
            return Atom(self._pattern[self._at - 2 : self._at], "", "")
        if named := re.compile(r"\[:\^?[a-z]+:\]").match(self._pattern, self._at):
            self._at = named.end()
            return _atom(named[0])
        return self._class()

    def _range(self) -> Atom:
        """A member of a class, or two of them and all between."""
        low = self._member()
        if not re.match(r"-[^\]]", self._pattern[self._at :], re.S) or (
            self._dialect.name == "rust" and self._pattern.startswith("--", self._at)
        ):
            return low
        self._at += 1
        high = self._member()
        if _code(low.text) > _code(high.text):
            raise ValueError("a range ends before it begins")
        return _atom(f"{low.text}-{high.text}")

    def _member(self) -> Atom:
        text = self._next()
        if not text:
            raise ValueError("a class is not closed")
        if text == "\\":
            escape = self._escape_text()
            return _atom(r"\x{8}") if escape == r"\b" else self._escaped(escape)
        self._at += 1
        return _atom(literal(text))


def _atom(text: str) -> Atom:
    return Atom(text, text, _ecma(text))


def _ecma(text: str) -> str:
    return re.sub(r"\\x\{", r"\\u{", text)


def _property(text: str, dialect: Dialect) -> str:
    if dialect.name == "python" or (dialect.name == "ecma" and "{" not in text):
        raise ValueError(f"the escape {text[:2]} is not known or not complete")
    return text


def _character(text: str, dialect: Dialect) -> str:
    if len(text) == 12 and text[6:8] == r"\u":  # two halves of a surrogate pair
        high, low = int(text[2:6], 16), int(text[8:], 16)
        return rf"\x{{{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):x}}}"
    return character(text, dialect)


def _class_of(members: list[Atom], *, inverse: bool) -> Atom:
    """A class; what it excludes is excluded in all scripts."""
    if not members:
        none, any_ = r"[^\x{0}-\x{10FFFF}]", "(?s:.)"
        return Atom(any_, any_, r"[\s\S]") if inverse else Atom(none, none, r"(?!)")
    sign = "^" if inverse else ""
    text = f"[{sign}{''.join(member.text for member in members)}]"
    plain = text if inverse else f"[{''.join(m.plain or m.text for m in members)}]"
    simple = "".join(_inner(m.ecma) for m in members if not m.ecma.startswith("[^"))
    others = [m.ecma for m in members if m.ecma.startswith("[^")]
    if not others:
        return Atom(text, plain, f"[{sign}{simple}]")
    either = "|".join([*others, *([f"[{simple}]"] if simple else [])])
    return Atom(text, plain, rf"(?:(?!{either})[\s\S])" if inverse else f"(?:{either})")


def _inner(ecma: str) -> str:
    return ecma[1:-1] if ecma.startswith("[") else ecma


def _code(member: str) -> int:
    """The character of a member of a class.

    Raises ValueError if it is a class itself, which begins and ends no range.
    """
    if member[0] == "[" or member[:2] in (r"\p", r"\P"):
        raise ValueError("a range of what is no character")
    return int(member[2:].strip("{}"), 16) if member.startswith(r"\x") else ord(member[-1])
