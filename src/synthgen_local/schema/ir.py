"""What a row may be, as a tree in which everything is bounded.

A shape is what is left of a JSON Schema when it has been tightened: each node has a
finite set of texts. Knows neither JSON Schema nor grammars; `tighten.py` makes shapes
and `grammar.py` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence
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
    lengths: AnyMapping[str, int] = field(default_factory=dict)
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
        chosen = {"--max-length": max_length, "--max-items": max_items}
        for option, value in chosen.items():
            if value is not None and value < 1:
                raise UsageError(f"{option} is {value}.", hint="It must be 1 or more.")
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

    `quoted` writes it as a JSON string, as pydantic writes Decimal. `broken` leaves out whole
    numbers, which takes at least one place and no `multiple_of`.
    """

    minimum: Decimal
    maximum: Decimal
    places: int
    multiple_of: Decimal | None = None
    quoted: bool = False
    broken: bool = False


@dataclass(frozen=True)
class Text:
    """A string without control characters.

    `patterns` are searched for, in the syntax of Rust's regex. `within` and `never` are
    expressions of the whole string, which then has neither quotes nor backslashes.
    """

    min_length: int
    max_length: int
    patterns: Sequence[str] = ()
    within: Sequence[str] = ()
    never: Sequence[str] = ()


@dataclass(frozen=True)
class Excerpt:
    """A part of a passage, given as its words and what stands between them, that is also `text`.

    It begins and ends with a whole word or mark, and not with white space.
    """

    chunks: Sequence[str]
    text: Text


@dataclass(frozen=True)
class Formatted:
    """A string that matches all of `regexes` and none of `never`.

    Of ASCII without quotes and backslashes, and at most `length` characters; of exactly so many
    if it is `fixed`.
    """

    regexes: Sequence[str]
    length: int
    never: Sequence[str] = ()
    fixed: bool = True


@dataclass(frozen=True)
class Digits:
    """A string of one character a position, which add up to 0 by what each contributes.

    Contributions count modulo `modulus`.
    """

    positions: Sequence[AnyMapping[str, int]]
    modulus: int


@dataclass(frozen=True)
class Array:
    """`prefix` items first, then `items`; `minimum` to `maximum` of them in all."""

    items: Shape | None
    minimum: int
    maximum: int
    prefix: Sequence[Shape] = ()


@dataclass(frozen=True)
class Record:
    """An object with these fields, in this order; the `optional` ones may be left out.

    Then up to `most_extra` pairs of `extra`, each a shape of keys and one of values; nothing here
    keeps two of these keys from being equal. `minimum` to `maximum` pairs in all; a maximum of
    None is no limit.
    """

    fields: Sequence[tuple[str, Shape]]
    optional: frozenset[str] = frozenset()
    extra: Sequence[tuple[Shape, Shape]] = ()
    most_extra: int = 0
    minimum: int = 0
    maximum: int | None = None


@dataclass(frozen=True)
class Mapping:
    """An object with free keys. Nothing here keeps two keys from being equal."""

    keys: Shape
    values: Shape
    minimum: int
    maximum: int


@dataclass(frozen=True)
class Quoted:
    """A string that holds a value as JSON; its strings have neither quotes nor backslashes."""

    value: Shape


@dataclass(frozen=True)
class Union:
    """Any of these. `null_rate` is how often it is null if that is one of them and known."""

    options: Sequence[Shape]
    null_rate: float | None = None


Shape: TypeAlias = (
    Choice
    | Integer
    | Number
    | Text
    | Excerpt
    | Formatted
    | Digits
    | Array
    | Record
    | Mapping
    | Quoted
    | Union
)
