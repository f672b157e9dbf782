"""How often each value of a row is null, by where it stands.

Knows nodes; what is done with the rates is the engine's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from .certificate import join_path
from .ir import AnyOf, Array, Choice, Dictionary, Node, Object

_NULL = Choice((None,))


class NullPlace:
    """Where a value stands that may be of any of some nodes. `usual` is the rate of Optional.

    A union may say a rate of its own; else `seen` has rates by path. None leaves the choice to the
    model.

    Example: `NullPlace([grammar.ir], usual=0.5).of_key("email").null_rate`
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        usual: float | None,
        seen: Mapping[str, float] | None = None,
        path: str = "$",
    ) -> None:
        self._usual = usual
        self._seen = seen or {}
        self.path = path
        self._given = [node.null_rate for node in nodes if isinstance(node, AnyOf)]
        self._options = [option for node in nodes for option in _options(node)]
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
            found = [inner for node in self._options for inner in _values(node, key)]
            self._inner[key] = self._at(found, self._key_path(key)) if found else None
        return self._inner[key]

    def of_item(self, index: int) -> NullPlace | None:
        """Where an item of a list stands."""
        if index not in self._inner:
            found = [inner for node in self._options for inner in _items(node, index)]
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

    def _at(self, nodes: Sequence[Node], path: str) -> NullPlace:
        return NullPlace(nodes, self._usual, self._seen, path)

    def _key_path(self, key: str) -> str:
        named = any(
            key == name for s in self._options if isinstance(s, Object) for name, _ in s.fields
        )
        return join_path(self.path, key) if named else f"{self.path}.*"


def has_nulls(node: Node) -> bool:
    """Return whether anything within a node may be null or else another value.

    Example: `has_nulls(grammar.ir)`
    """
    known = set[int]()
    left = [node]
    while left:
        one = left.pop()
        if id(one) in known:
            continue
        known.add(id(one))
        if isinstance(one, AnyOf) and _NULL in one.options:
            return True
        left += _parts(one)
    return False


def _options(node: Node) -> Iterator[Node]:
    if isinstance(node, AnyOf):
        for option in node.options:
            yield from _options(option)
    else:
        yield node


def _parts(node: Node) -> Iterator[Node]:
    match node:
        case AnyOf(options):
            yield from options
        case Object(fields):
            yield from (field for _, field in fields)
            yield from (value for _, value in node.extra)
        case Dictionary(_, values):
            yield values
        case Array(items, _, _, prefix):
            yield from prefix
            if items is not None:
                yield items


def _values(node: Node, key: str) -> Iterator[Node]:
    match node:
        case Dictionary(_, values):
            yield values
        case Object(fields):
            named = [field for name, field in fields if name == key]
            yield from named or (value for _, value in node.extra)


def _items(node: Node, index: int) -> Iterator[Node]:
    if isinstance(node, Array):
        if index < len(node.prefix):
            yield node.prefix[index]
        elif node.items is not None:
            yield node.items
