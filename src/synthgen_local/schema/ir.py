"""What a row may be, as a tree in which everything is bounded.

A node is what is left of a JSON Schema when it has been tightened: each node has a
finite set of texts. Knows neither JSON Schema nor grammars; `lower.py` makes nodes
and `grammar.py` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias

from ..errors import UsageError


@dataclass(frozen=True)
class Bounds:
    """Limits for what a schema leaves open; a limit that the schema sets wins, unless `over`.

    Lengths are in characters, `whole_digits` before the decimal point and `places` after
    it, `depth` in levels of a recursive model, `levels` in those of a value that may be anything.
    `lengths` gives a limit of its own to the string at a path, such as "$.address.street".

    Example: `Bounds(max_length=400)`
    """

    max_length: int = 200
    lengths: Mapping[str, int] = field(default_factory=dict)
    max_items: int = 8
    integer_digits: int = 15
    whole_digits: int = 9
    places: int = 6
    first_year: int = 1900
    last_year: int = 2099
    depth: int = 3
    levels: int = 2
    over: bool = False

    @classmethod
    def given(cls, max_length: int | None, max_items: int | None) -> Bounds | None:
        """Return the usual limits but for these; None if none of them is given.

        Raises UsageError for a limit that leaves nothing.

        Example: `Bounds.given(max_length=40, max_items=None)`
        """
        chosen = {"max_length": max_length, "max_items": max_items}
        for name, value in chosen.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}.", hint="It must be 1 or more.")
        if max_length is None and max_items is None:
            return None
        usual = cls()
        return cls(
            max_length=max_length or usual.max_length, max_items=max_items or usual.max_items
        )


@dataclass(frozen=True)
class Choice:
    """One of these JSON values."""

    values: Sequence[Any]


@dataclass(frozen=True)
class Integer:
    """A whole number; `multiple_of` 1 allows all."""

    minimum: int
    maximum: int
    multiple_of: int = 1


@dataclass(frozen=True)
class Number:
    """A decimal fraction with up to `places` decimals, or a multiple of `multiple_of`.

    `quoted` writes it as a JSON string, as pydantic writes Decimal. `non_integral` leaves out whole
    numbers, which takes at least one place and no `multiple_of`.
    """

    minimum: Decimal
    maximum: Decimal
    places: int
    multiple_of: Decimal | None = None
    quoted: bool = False
    non_integral: bool = False


@dataclass(frozen=True)
class String:
    """A string without control characters.

    `patterns` are searched for, in the syntax of Rust's regex. `must_match` and `must_not_match`
    are expressions of the whole string, which then has neither quotes nor backslashes.
    """

    min_length: int
    max_length: int
    patterns: Sequence[str] = ()
    must_match: Sequence[str] = ()
    must_not_match: Sequence[str] = ()


@dataclass(frozen=True)
class Substring:
    """A part of a passage, given as its words and what stands between them, that is also `text`.

    It begins and ends with a whole word or mark, and not with white space.
    """

    chunks: Sequence[str]
    text: String


@dataclass(frozen=True)
class RegexString:
    """A string that matches all of `regexes` and none of `must_not_match`.

    Of ASCII without quotes and backslashes, and at most `length` characters; of exactly so many
    if it is `fixed`.
    """

    regexes: Sequence[str]
    length: int
    must_not_match: Sequence[str] = ()
    fixed: bool = True


@dataclass(frozen=True)
class ChecksumString:
    """A string of one character a position, which add up to 0 by what each contributes.

    Contributions count modulo `modulus`.
    """

    positions: Sequence[Mapping[str, int]]
    modulus: int


@dataclass(frozen=True)
class Array:
    """`prefix` items first, then `items`; `minimum` to `maximum` of them in all."""

    items: Node | None
    minimum: int
    maximum: int
    prefix: Sequence[Node] = ()


@dataclass(frozen=True)
class Object:
    """An object with these fields, in this order; the `optional` ones may be left out.

    Then up to `most_extra` pairs of `extra`, each a node of keys and one of values; nothing here
    keeps two of these keys from being equal. `minimum` to `maximum` pairs in all; a maximum of
    None is no limit.
    """

    fields: Sequence[tuple[str, Node]]
    optional: frozenset[str] = frozenset()
    extra: Sequence[tuple[Node, Node]] = ()
    most_extra: int = 0
    minimum: int = 0
    maximum: int | None = None


@dataclass(frozen=True)
class Dictionary:
    """An object with free keys. Nothing here keeps two keys from being equal."""

    keys: Node
    values: Node
    minimum: int
    maximum: int


@dataclass(frozen=True)
class JsonString:
    """A string that holds a value as JSON; its strings have neither quotes nor backslashes."""

    value: Node


@dataclass(frozen=True)
class AnyOf:
    """Any of these. `null_rate` is how often it is null if that is one of them and known."""

    options: Sequence[Node]
    null_rate: float | None = None


Node: TypeAlias = (
    Choice
    | Integer
    | Number
    | String
    | Substring
    | RegexString
    | ChecksumString
    | Array
    | Object
    | Dictionary
    | JsonString
    | AnyOf
)
