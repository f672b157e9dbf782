"""How often each value of a row is null, by where it stands.

Knows shapes; what is done with the rates is the engine's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Mapping as AnyMapping
from functools import cached_property
from typing import Any

from .certificate import join_path
from .ir import Array, Choice, Mapping, Record, Shape, Union

_NULL = Choice((None,))


class NullPlace:
    """Where a value stands that may be of any of some shapes. `usual` is the rate of Optional.

    A union may say a rate of its own; else `seen` has rates by path. None leaves the choice to the
    model.

    Example: `NullPlace([grammar.shape], usual=0.5).of_key("email").null_rate`
    """

    def __init__(
        self,
        shapes: Sequence[Shape],
        usual: float | None,
        seen: AnyMapping[str, float] | None = None,
        path: str = "$",
    ) -> None:
        self._usual = usual
        self._seen = seen or {}
        self.path = path
        self._given = [shape.null_rate for shape in shapes if isinstance(shape, Union)]
        self._options = [option for shape in shapes for option in _options(shape)]
        self._inner: dict[str | int, NullPlace | None] = {}

    @cached_property
    def null_rate(self) -> float | None:
        """How often the value is null, None where it is not to be steered."""
        if _NULL not in self._options or len(self._options) == 1:
            return None
        given = next((rate for rate in self._given if rate is not None), None)
        return self._seen.get(self.path, self._usual) if given is None else given

    @property
    def learned(self) -> bool:
        """Whether the rate is one of those that were seen."""
        stated = any(rate is not None for rate in self._given)
        return self.null_rate is not None and not stated and self.path in self._seen

    def of_key(self, key: str) -> NullPlace | None:
        """Where the value of a key stands."""
        if key not in self._inner:
            found = [inner for shape in self._options for inner in _values(shape, key)]
            self._inner[key] = self._at(found, self._key_path(key)) if found else None
        return self._inner[key]

    def of_item(self, index: int) -> NullPlace | None:
        """Where an item of a list stands."""
        if index not in self._inner:
            found = [inner for shape in self._options for inner in _items(shape, index)]
            self._inner[index] = self._at(found, f"{self.path}[*]") if found else None
        return self._inner[index]

    def learned_rates(self, value: Any) -> Iterator[tuple[str, float]]:
        """Yield (path, rate) of each value within a row whose rate was seen.

        Example: `dict(place.learned_rates({"email": None}))`
        """
        if self.learned and self.null_rate is not None:
            yield self.path, self.null_rate
        inner: list[tuple[NullPlace | None, Any]] = []
        if isinstance(value, dict):
            inner = [(self.of_key(key), item) for key, item in value.items()]
        elif isinstance(value, list):
            inner = [(self.of_item(index), item) for index, item in enumerate(value)]
        for place, item in inner:
            if place is not None:
                yield from place.learned_rates(item)

    def _at(self, shapes: Sequence[Shape], path: str) -> NullPlace:
        return NullPlace(shapes, self._usual, self._seen, path)

    def _key_path(self, key: str) -> str:
        named = any(
            key == name for s in self._options if isinstance(s, Record) for name, _ in s.fields
        )
        return join_path(self.path, key) if named else f"{self.path}.*"


def has_nulls(shape: Shape) -> bool:
    """Return whether anything within a shape may be null or else another value.

    Example: `has_nulls(grammar.shape)`
    """
    known = set[int]()
    left = [shape]
    while left:
        one = left.pop()
        if id(one) in known:
            continue
        known.add(id(one))
        if isinstance(one, Union) and _NULL in one.options:
            return True
        left += _parts(one)
    return False


def _options(shape: Shape) -> Iterator[Shape]:
    if isinstance(shape, Union):
        for option in shape.options:
            yield from _options(option)
    else:
        yield shape


def _parts(shape: Shape) -> Iterator[Shape]:
    match shape:
        case Union(options):
            yield from options
        case Record(fields):
            yield from (field for _, field in fields)
            yield from (value for _, value in shape.extra)
        case Mapping(_, values):
            yield values
        case Array(items, _, _, prefix):
            yield from prefix
            if items is not None:
                yield items


def _values(shape: Shape, key: str) -> Iterator[Shape]:
    match shape:
        case Mapping(_, values):
            yield values
        case Record(fields):
            named = [field for name, field in fields if name == key]
            yield from named or (value for _, value in shape.extra)


def _items(shape: Shape, index: int) -> Iterator[Shape]:
    if isinstance(shape, Array):
        if index < len(shape.prefix):
            yield shape.prefix[index]
        elif shape.items is not None:
            yield shape.items
