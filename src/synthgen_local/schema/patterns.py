r"""ECMA-262 regular expressions, searched for, as expressions of a whole string.

JSON Schema searches for a `pattern` anywhere in a string, with anchors and look-around;
llguidance's expressions match a whole string and have neither, but can be intersected and
complemented. Anchors at the edges and look-around next to them are rewritten exactly; what
stands elsewhere is dropped, and the result says that it is wider. Knows regex syntax only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

ANY = "(?s:.*)"
_QUANTIFIER = re.compile(r"(?:[*+?]|\{\d+(?:,\d*)?\})\??")
_ESCAPE = re.compile(
    r"\\(?:u\{[0-9a-fA-F]+\}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|c[A-Za-z]|[pP]\{[^}]*\}|.)", re.S
)
_GROUP = re.compile(r"\((\?(?::|=|!|<=|<!|P?<\w+>))?")
_START, _END = {"^", r"\A"}, {"$", r"\Z", r"\z"}


@dataclass(frozen=True)
class Pattern:
    """Whole strings that match all of `within` and none of `never`.

    `exact` if these are the strings in which the pattern is found; else they are more.
    """

    within: tuple[str, ...]
    never: tuple[str, ...] = ()
    exact: bool = True


@dataclass(frozen=True)
class _Atom:
    """A character, a class or an escape, in the syntax of Rust's regex."""

    text: str


@dataclass(frozen=True)
class _Edge:
    """The start or the end of the string."""

    start: bool


@dataclass(frozen=True)
class _Unsaid:
    """What cannot be written: a word boundary, a reference back."""


@dataclass(frozen=True)
class _Group:
    """Alternatives in brackets; `look` is the sign of a look-around, such as "=" or "<!"."""

    options: _Options
    look: str = ""


@dataclass(frozen=True)
class _Item:
    node: _Atom | _Edge | _Unsaid | _Group
    quantifier: str = ""


_Sequence: TypeAlias = tuple[_Item, ...]
_Options: TypeAlias = tuple[_Sequence, ...]


@lru_cache(maxsize=4096)
def read_pattern(pattern: str) -> Pattern:
    """Return a pattern as expressions of the whole string.

    Raises ValueError if it is no regular expression.

    Example: `read_pattern("^(?!x)a").never == ("(?:x)(?s:.*)",)`
    """
    options = _Reader(pattern).read()
    work = _Rewriting()
    text = work.options(options)
    return Pattern((text, *work.within), tuple(work.never), work.exact)


@dataclass
class _Rewriting:
    """One pattern's way to whole strings."""

    never: list[str] = field(default_factory=list)
    within: list[str] = field(default_factory=list)
    exact: bool = True

    def options(self, options: _Options) -> str:
        sequences = [expanded for sequence in options for expanded in _expand(sequence)]
        alone = len(sequences) == 1
        texts = [self._whole(sequence, alone=alone) for sequence in dict.fromkeys(sequences)]
        return texts[0] if len(texts) == 1 else f"(?:{'|'.join(texts)})"

    def _whole(self, sequence: _Sequence, *, alone: bool) -> str:
        items = list(sequence)
        left = right = False
        while items and _is_edge(items[0], start=True):
            items.pop(0)
            left = True
        while items and _is_edge(items[-1], start=False):
            items.pop()
            right = True
        while left and items and _is_look(items[0], "=", "!"):
            self._look(items.pop(0), alone=alone)
        while right and items and _is_look(items[-1], "<=", "<!"):
            self._look(items.pop(), alone=alone)
        body = self.plain(tuple(items))
        return f"{'' if left else ANY}{body}{'' if right else ANY}"

    def _look(self, item: _Item, *, alone: bool) -> None:
        """Look-around at an end of the string is a condition on all of it."""
        assert isinstance(item.node, _Group)
        behind = item.node.look.startswith("<")
        edge = _Item(_Edge(start=not behind))
        inner = _Rewriting()
        text = inner.options(tuple((*o, edge) if behind else (edge, *o) for o in item.node.options))
        if alone and inner.exact and not (inner.never or inner.within):
            (self.never if item.node.look.endswith("!") else self.within).append(text)
        else:
            self.exact = False

    def plain(self, sequence: _Sequence) -> str:
        """A sequence without anchors; those it has are dropped."""
        return "".join(map(self._item, sequence))

    def _item(self, item: _Item) -> str:
        node = item.node
        if isinstance(node, _Atom):
            return node.text + item.quantifier
        if isinstance(node, _Group) and not node.look:
            inner = "|".join(self.plain(sequence) for sequence in node.options)
            return f"(?:{inner}){item.quantifier}"
        self.exact = False
        return ""


def _expand(sequence: _Sequence) -> list[_Sequence]:
    """A sequence for each alternative of the groups at its edges that hold anchors."""
    for index in {0, len(sequence) - 1} if sequence else ():
        item = sequence[index]
        if (
            isinstance(item.node, _Group)
            and not item.node.look
            and not item.quantifier
            and _anchored(item.node.options)
        ):
            before, after = sequence[:index], sequence[index + 1 :]
            return [
                expanded
                for option in item.node.options
                for expanded in _expand((*before, *option, *after))
            ]
    return [sequence]


def _anchored(options: _Options) -> bool:
    return any(
        isinstance(item.node, _Edge)
        or (
            isinstance(item.node, _Group) and (bool(item.node.look) or _anchored(item.node.options))
        )
        for sequence in options
        for item in sequence
    )


def _is_edge(item: _Item, *, start: bool) -> bool:
    return isinstance(item.node, _Edge) and item.node.start is start


def _is_look(item: _Item, *signs: str) -> bool:
    return isinstance(item.node, _Group) and item.node.look in signs


class _Reader:
    """Reads a pattern from left to right."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def read(self) -> _Options:
        options = self._options()
        if self._at < len(self._pattern):
            raise ValueError("a bracket is closed that was not opened")
        return options

    def _options(self) -> _Options:
        options = [self._sequence()]
        while self._next() == "|":
            self._at += 1
            options.append(self._sequence())
        return tuple(options)

    def _sequence(self) -> _Sequence:
        items: list[_Item] = []
        while self._next() not in ("", "|", ")"):
            node = self._node()
            match = _QUANTIFIER.match(self._pattern, self._at)
            if match:
                self._at = match.end()
            quantifier = match[0].removesuffix("?") or "?" if match else ""
            items.append(_Item(node, quantifier))
        return tuple(items)

    def _next(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _node(self) -> _Atom | _Edge | _Unsaid | _Group:
        character = self._next()
        if character == "(":
            return self._group()
        if character == "[":
            return _Atom(self._class())
        if character == "\\":
            return self._escape()
        self._at += 1
        if character in "^$":
            return _Edge(start=character == "^")
        if character in "*+?":
            raise ValueError("nothing to repeat")
        return _Atom(character if character == "." else _literal(character))

    def _group(self) -> _Group:
        opening = _GROUP.match(self._pattern, self._at)
        assert opening is not None
        if opening[1] is None and self._pattern.startswith("(?", self._at):
            raise ValueError("an unknown kind of group")
        self._at = opening.end()
        options = self._options()
        if self._next() != ")":
            raise ValueError("a bracket is not closed")
        self._at += 1
        sign = (opening[1] or "").removeprefix("?")
        return _Group(options, sign if sign in ("=", "!", "<=", "<!") else "")

    def _escape(self) -> _Atom | _Edge | _Unsaid:
        match = _ESCAPE.match(self._pattern, self._at)
        if match is None:
            raise ValueError("it ends in a backslash")
        self._at = match.end()
        text = match[0]
        if text in _START or text in _END:
            return _Edge(start=text in _START)
        if text[1] in "bBkG" or text[1] in "123456789":
            return _Unsaid()
        return _Atom(_escaped(text))

    def _class(self) -> str:
        self._at += 1
        parts = ["["]
        if self._next() == "^":
            parts.append("^")
            self._at += 1
        while (character := self._next()) != "]":
            if not character:
                raise ValueError("a class is not closed")
            if character == "\\":
                match = _ESCAPE.match(self._pattern, self._at)
                if match is None:
                    raise ValueError("it ends in a backslash")
                self._at = match.end()
                parts.append(r"\x08" if match[0] == r"\b" else _escaped(match[0]))
                continue
            self._at += 1
            parts.append(f"\\{character}" if character in "[&~" else character)
        self._at += 1
        if parts == ["["]:
            return r"[^\x{0}-\x{10FFFF}]"
        return ANY[:-2] + ")" if parts == ["[", "^"] else "".join([*parts, "]"])


def _escaped(text: str) -> str:
    """An escape of ECMA-262 as Rust's regex has it."""
    kind, rest = text[1], text[2:]
    if kind == "u":
        return rf"\x{{{rest.strip('{}')}}}"
    if kind == "c":
        return rf"\x{{{ord(rest) % 32:x}}}"
    if kind == "0":
        return r"\x00"
    if kind in "dDwWsSpPxntrfv":
        return text
    return _literal(kind)


def _literal(character: str) -> str:
    return f"\\{character}" if character in r"\.+*?()|[]{}^$#&-~/" else character


def searched(patterns: Sequence[str]) -> Pattern:
    """Return several patterns as one, each of which is to be found.

    Example: `searched(["^a", "b$"]).within == ("a(?s:.*)", "(?s:.*)b")`
    """
    read = [read_pattern(pattern) for pattern in patterns]
    return Pattern(
        tuple(text for pattern in read for text in pattern.within),
        tuple(text for pattern in read for text in pattern.never),
        all(pattern.exact for pattern in read),
    )
