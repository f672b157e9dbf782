r"""ECMA-262 regular expressions, searched for, as expressions of a whole string.

JSON Schema searches for a `pattern` anywhere in a string, with anchors and look-around;
llguidance's expressions match a whole string and have neither, but can be intersected and
complemented. Anchors at the edges and look-around next to them are rewritten exactly; what
stands elsewhere is dropped, and the result says that it is wider. Knows regex syntax only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from typing import TypeAlias

ANY = "(?s:.*)"
_QUANTIFIER = re.compile(r"(?:[*+?]|\{\d+(?:,\d*)?\})\??")
_ESCAPE = re.compile(
    r"\\(?:u\{[0-9a-fA-F]+\}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|c[A-Za-z]|[pP]\{[^}]*\}"
    r"|k<\w+>|[1-9][0-9]*|.)",
    re.S,
)
_GROUP = re.compile(r"\((\?(?:[ims]*:|=|!|<=|<!|P?<\w+>))?")
_FLAGS = re.compile(r"\(\?([ims]+)\)")  # not of ECMA-262, but of Python, Rust and pydantic
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_MOST_CONDITIONS = 16
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
    """What cannot be written: a word boundary, a reference back. `wider` stands in its place."""

    wider: str = ""


@dataclass(frozen=True)
class _Group:
    """Alternatives in brackets; `look` is the sign of a look-around, such as "=" or "<!"."""

    options: _Options
    look: str = ""
    flags: str = ""


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

    Example: `read_pattern("^(?!x)a").never == ("x(?s:.*)",)`
    """
    flags = _FLAGS.match(pattern)
    if flags:
        inner = read_pattern(pattern[flags.end() :])
        within, never = (
            tuple(f"(?{flags[1]}:{text})" for text in texts)
            for texts in (inner.within, inner.never)
        )
        return Pattern(within, never, inner.exact)
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
        items = _opened(items)
        if alone:
            self._ahead(items, "" if left else ANY)
        body = self.plain(tuple(items))
        return f"{'' if left else ANY}{body}{'' if right else ANY}" or "(?:)"

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

    def _ahead(self, items: Sequence[_Item], head: str) -> None:
        """What must follow in the middle narrows the whole: what stands before it, then that."""
        for index, item in enumerate(items):
            if _is_look(item, "="):
                assert isinstance(item.node, _Group)
                before = f"{head}{self.plain(tuple(items[:index]))}"
                self.within += [f"{before}{text}" for text in _conditions(item.node.options)]

    def plain(self, sequence: _Sequence) -> str:
        """A sequence without anchors; those it has are dropped."""
        return "".join(map(self._item, sequence))

    def _item(self, item: _Item) -> str:
        node = item.node
        if isinstance(node, _Atom):
            return node.text + item.quantifier
        if isinstance(node, _Group) and not node.look:
            inner = "|".join(self.plain(sequence) for sequence in node.options)
            return f"(?{node.flags}:{inner}){item.quantifier}"
        self.exact = False
        return node.wider if isinstance(node, _Unsaid) else ""


def _conditions(options: _Options) -> list[str]:
    """What alternatives that begin here have in common, each of which may have its own look-ahead.

    "a and b, or c and d" is also "a or c", "a or d", "b or c", and "b or d".
    """
    each: list[list[str]] = []
    for option in options:
        work = _Rewriting()
        each.append([work.options(((_Item(_Edge(start=True)), *option),)), *work.within])
    if math.prod(map(len, each)) > _MOST_CONDITIONS:
        each = [texts[:1] for texts in each]
    return [f"(?:{'|'.join(texts)})" for texts in product(*each)]


def _opened(items: list[_Item]) -> list[_Item]:
    """Without brackets that enclose all of them."""
    while (
        len(items) == 1
        and isinstance(items[0].node, _Group)
        and not (items[0].node.look or items[0].node.flags or items[0].quantifier)
        and len(items[0].node.options) == 1
    ):
        items = list(items[0].node.options[0])
    return items


def _expand(sequence: _Sequence) -> list[_Sequence]:
    """A sequence for each alternative of the groups at its edges that hold anchors."""
    for index in {0, len(sequence) - 1} if sequence else ():
        item = sequence[index]
        if (
            isinstance(item.node, _Group)
            and not (item.node.look or item.node.flags or item.quantifier)
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
    return isinstance(item.node, _Group) and item.node.look in signs and not item.quantifier


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
            repeatable = not isinstance(node, _Edge) and node != _Unsaid()
            items.append(_Item(node, self._quantifier() if repeatable else ""))
        return tuple(items)

    def _quantifier(self) -> str:
        match = _QUANTIFIER.match(self._pattern, self._at)
        if match is None:
            return ""
        self._at = match.end()
        quantifier = match[0].removesuffix("?") or "?"
        least, _, most = quantifier.strip("{}").partition(",")
        if most and int(most) < int(least):
            raise ValueError("a repetition ends before it begins")
        return quantifier

    def _next(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _node(self) -> _Atom | _Edge | _Unsaid | _Group:
        character = self._next()
        if _QUANTIFIER.match(self._pattern, self._at):
            raise ValueError("nothing to repeat")
        if character == "(":
            return self._group()
        if character == "[":
            return _Atom(self._class())
        if character == "\\":
            return self._escape()
        self._at += 1
        if character in "^$":
            return _Edge(start=character == "^")
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
        if sign in ("=", "!", "<=", "<!"):
            return _Group(options, sign)
        return _Group(options, flags=sign[:-1] if sign.endswith(":") else "")

    def _escape(self) -> _Atom | _Edge | _Unsaid:
        text = self._escape_text()
        if text in _START or text in _END:
            return _Edge(start=text in _START)
        if text[1] in "bBG":
            return _Unsaid()
        if text[1] in "k123456789":
            return _Unsaid(ANY)
        return _Atom(_escaped(text))

    def _escape_text(self) -> str:
        match = _ESCAPE.match(self._pattern, self._at)
        if match is None:
            raise ValueError("it ends in a backslash")
        self._at = match.end()
        return match[0]

    def _class(self) -> str:
        self._at += 1
        parts = ["["]
        if self._next() == "^":
            parts.append("^")
            self._at += 1
        while self._next() != "]":
            parts.append(self._range())
        self._at += 1
        if parts == ["["]:
            return r"[^\x{0}-\x{10FFFF}]"
        return ANY[:-2] + ")" if parts == ["[", "^"] else "".join([*parts, "]"])

    def _range(self) -> str:
        """A member of a class, or two of them and all between."""
        low = self._member()
        if not re.match(r"-[^\]]", self._pattern[self._at :], re.S):
            return low
        self._at += 1
        high = self._member()
        if _code(low) > _code(high):
            raise ValueError("a range ends before it begins")
        return f"{low}-{high}"

    def _member(self) -> str:
        character = self._next()
        if not character:
            raise ValueError("a class is not closed")
        if character == "\\":
            text = self._escape_text()
            return r"\x08" if text == r"\b" else _escaped(text)
        self._at += 1
        return _literal(character)


def _escaped(text: str) -> str:
    """An escape of ECMA-262 as Rust's regex has it."""
    kind, rest = text[1], text[2:]
    if kind in "uxcpP" and not rest:
        raise ValueError("an escape is not complete")
    if kind == "u":
        return rf"\x{{{rest.strip('{}')}}}"
    if kind == "c":
        return rf"\x{{{ord(rest) % 32:x}}}"
    if kind == "0" or kind in _CONTROLS:
        return rf"\x{{{_CONTROLS.get(kind, 0):x}}}"
    return text if kind in "dDwWsSpPx" else _literal(kind)


def _code(member: str) -> int:
    """The character of a member of a class.

    Raises ValueError if it is a class itself, which begins and ends no range.
    """
    if member[0] == "\\" and member[1] in "dDwWsSpP":
        raise ValueError("a range of what is no character")
    return int(member[2:].strip("{}"), 16) if member.startswith(r"\x") else ord(member[-1])


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
