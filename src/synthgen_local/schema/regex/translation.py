r"""Regular expressions, searched for, as expressions of a whole string.

JSON Schema searches for a `pattern` anywhere in a string, with anchors and look-around;
llguidance's expressions match a whole string and have neither, but can be intersected and
complemented. Anchors at the edges and look-around next to them are rewritten exactly; others
are dropped, and the result is marked as inexact. Knows regex syntax only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product

from .escapes import Name
from .parser import Atom as _Atom
from .parser import Edge as _Edge
from .parser import Group as _Group
from .parser import Inexpressible as _Inexpressible
from .parser import Item as _Item
from .parser import Options as _Options
from .parser import Sequence as _Sequence
from .parser import read_options

ANY = "(?s:.*)"
_MOST_CONDITIONS = 16


@dataclass(frozen=True)
class Pattern:
    """Whole strings that match all of `within` and none of `never`.

    `exact` if these are just the strings in which the pattern is found; else they include others.
    """

    within: tuple[str, ...]
    never: tuple[str, ...] = ()
    exact: bool = True


@dataclass(frozen=True)
class Regex:
    """A regular expression and the dialect in which it is written.

    Example: `Regex("^[A-Z]{,4}$", "python")`
    """

    text: str
    dialect: Name = "ecma"


@lru_cache(maxsize=4096)
def read_pattern(pattern: str, dialect: Name = "ecma") -> Pattern:
    """Return a pattern as expressions of the whole string.

    Raises ValueError if it is not a regular expression of this dialect.

    Example: `read_pattern("^(?!x)a").never == ("x(?s:.*)",)`
    """
    options, flags = read_options(pattern, dialect)
    work = _Rewriting()
    text = work.options(options)
    within, never = (text, *work.within), tuple(work.never)
    if flags:
        within, never = (tuple(f"(?{flags}:{text})" for text in texts) for texts in (within, never))
    return Pattern(within, never, work.exact)


def as_python(pattern: str) -> Regex:
    r"""Return an expression in Python's dialect, or in ECMA-262's if Python refuses it.

    Example: `as_python(r"\p{Lu}").dialect == "ecma"`
    """
    try:
        re.compile(pattern)
    except re.error:
        return Regex(pattern, "ecma")
    return Regex(pattern, "python")


@lru_cache(maxsize=1024)
def plain_pattern(regex: Regex) -> str:
    r"""Return a pattern in the syntax of Rust's regex, empty if that cannot express it.

    Where an escape means letters or digits of all scripts it is ASCII that is searched for.

    Example: `plain_pattern(Regex(r"^\d$", "python")) == "^[0-9]$"`
    """
    options, flags = read_options(regex.text, regex.dialect)
    text = _print(options)
    return "" if text is None else (f"(?{flags})" if flags else "") + text


def _print(options: _Options) -> str | None:
    texts: list[str] = []
    for sequence in options:
        items = [_print_item(item) for item in sequence]
        if None in items:
            return None
        texts.append("".join(text for text in items if text is not None))
    return "|".join(texts)


def _print_item(item: _Item) -> str | None:
    match item.node:
        case _Atom():
            return item.node.plain + item.quantifier
        case _Edge(start):
            return "^" if start else "$"
        case _Group(options, "") if not (item.node.atomic or item.possessive):
            inner = _print(options)
            return None if inner is None else f"(?{item.node.flags}:{inner}){item.quantifier}"
    return None


@dataclass
class _Rewriting:
    """The rewriting of one pattern to expressions of whole strings."""

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
        items = _unwrap(items)
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
        """Look-ahead in the middle is a condition on the whole: the text before it, then that."""
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
        if item.possessive or (isinstance(node, _Group) and node.atomic):
            self.exact = False
        if isinstance(node, _Atom):
            return node.text + item.quantifier
        if isinstance(node, _Group) and not node.look:
            inner = "|".join(self.plain(sequence) for sequence in node.options)
            return f"(?{node.flags}:{inner}){item.quantifier}"
        self.exact = False
        return node.wider if isinstance(node, _Inexpressible) else ""


def _conditions(options: _Options) -> list[str]:
    """Return the conditions that alternatives have in common; each may have look-ahead.

    "a and b, or c and d" is also "a or c", "a or d", "b or c", and "b or d".
    """
    each: list[list[str]] = []
    for option in options:
        work = _Rewriting()
        each.append([work.options(((_Item(_Edge(start=True)), *option),)), *work.within])
    if math.prod(map(len, each)) > _MOST_CONDITIONS:
        each = [texts[:1] for texts in each]
    return [f"(?:{'|'.join(texts)})" for texts in product(*each)]


def _unwrap(items: list[_Item]) -> list[_Item]:
    """Remove a group that encloses all items."""
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


def searched(patterns: Sequence[str], dialect: Name = "ecma") -> Pattern:
    """Return several patterns as one, each of which is to be found.

    Example: `searched(["^a", "b$"]).within == ("a(?s:.*)", "(?s:.*)b")`
    """
    read = [read_pattern(pattern, dialect) for pattern in patterns]
    return Pattern(
        tuple(text for pattern in read for text in pattern.within),
        tuple(text for pattern in read for text in pattern.never),
        all(pattern.exact for pattern in read),
    )
