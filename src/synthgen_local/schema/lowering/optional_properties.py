"""Optional properties chosen so that the longest row fits.

Where a schema's optional properties multiply without end (each leads to a type that has others),
those nearest to the root are kept as far as there is room. Knows nothing of JSON Schema but
references; `lower.py` works each property out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AnySet
from dataclasses import dataclass, field, replace
from typing import Any

from ..certificate import Certificate, join_path
from ..grammar.size import longest_text
from ..ir import AnyOf, Array, Bounds, Dictionary, Node, Object
from ..json_schema.references import References
from .lower import Place, Schemas, lower

_MOST_NODES = 10_000  # of one walk: it has no more properties than there is room for
_AROUND = 6  # bytes of a property beside its name and its value
_LEAST_SHARE = 200  # bytes of a property that has properties of its own
_COMMON = 0.1  # of all definitions: a property that so many have says little of any of them
_MANY = 40  # definitions, below which none is common


def select(
    schema: Mapping[str, Any],
    bounds: Bounds,
    room: int,
    wanted: Iterable[str] = (),
    references: References | None = None,
) -> tuple[Node, Certificate]:
    """Return the node of rows with as many optional properties as `room` bytes allow.

    Properties near the root come first, in the schema's order, and those on the way to `wanted`
    paths before all others. Last come those that many definitions have in the same words, and those
    that lead back to what they stand in. Names that begin with an underscore are left out, and so
    is what leads to a type through which large circles of references go, unless they are wanted or
    rows would have nothing else. The certificate names each property that is left out.

    Raises SchemaError as `lower` does.

    Example: `select({"properties": {"a": {"type": "boolean"}}}, Bounds(), room=4096)`
    """
    known = references or References(schema)
    ahead, common = frozenset(_ahead(wanted)), _common(schema)
    for avoided in (known.hubs, frozenset[str]()):
        selection = Selection(avoided, ahead, common)
        node, _ = lower(schema, bounds, selection, references=known, max_nodes=_MOST_NODES)
        selection.room = room - longest_text(node)
        while selection.offers:
            selection.take()
            lower(schema, bounds, selection, references=known, max_nodes=_MOST_NODES)
        if selection.kept:
            break
    selection.closed = True
    return lower(schema, bounds, selection, references=known, max_nodes=_MOST_NODES)


@dataclass(frozen=True)
class Offer:
    """A property that may be kept.

    It takes at most `cost` bytes without properties of its own, if it `opens` such. Those of a
    lower `tier` are decided on first, in their `order`.
    """

    owner: str
    cost: int
    opens: bool
    tier: int
    order: tuple[int, ...]


@dataclass
class Selection:
    """The properties that are kept, by path. A `Selector`.

    `offers` are those that are not decided on, `room` is how many bytes are left for them.
    """

    avoided: AnySet[str]
    wanted: AnySet[str]
    common: AnySet[str]
    room: int = 0
    kept: set[str] = field(default_factory=set)
    offers: dict[str, Offer] = field(default_factory=dict)
    closed: bool = False
    _out: set[str] = field(default_factory=set)
    _met: Counter[str] = field(default_factory=Counter)
    _shares: dict[str, int] = field(default_factory=dict)

    def keeps(
        self, place: Place, name: str, schemas: Schemas, bare: Callable[[], Node | None]
    ) -> bool:
        """Return whether a property has been chosen; if that is open, note what it takes."""
        where = join_path(place.path, name)
        if where in self.kept or where in self._out or self.closed:
            return where in self.kept
        targets = {target for schema in schemas for target in _targets(schema)}
        wanted = where in self.wanted
        avoided = not wanted and (name.startswith("_") or bool(targets & self.avoided))
        node = None if avoided else bare()
        if node is None:
            self._out.add(where)
            return False
        cost = place.times * (len(name.encode()) + _AROUND + longest_text(node))
        if where not in self.offers:
            self._met[place.path] += 1
            late = self._is_common(name, schemas) or not targets.isdisjoint(place.trail)
            order = (not wanted, self._met[place.path])
            tier = 2 if late and not wanted else 0
            self.offers[where] = Offer(self._owner(place.path), cost, _opens(node), tier, order)
        elif cost > self.offers[where].cost:  # several alternatives have it
            self.offers[where] = replace(self.offers[where], cost=cost)
        return False

    def take(self) -> None:
        """Decide on the offers of the lowest tier.

        What is too much for its object's share waits, and gets what the others leave.
        """
        tier = min(offer.tier for offer in self.offers.values())
        groups: dict[str, list[tuple[str, Offer]]] = {}
        for path, offer in self.offers.items():
            if offer.tier == tier:
                groups.setdefault("" if tier else offer.owner, []).append((path, offer))
        for owner, group in groups.items():
            self._divide(min(self._shares.get(owner, self.room), self.room), group)
            for path, offer in group:
                del self.offers[path]
                if path not in self.kept and tier == 0:
                    self.offers[path] = replace(offer, tier=1)
                elif path not in self.kept:
                    self._out.add(path)

    def _divide(self, budget: int, group: list[tuple[str, Offer]]) -> None:
        """Keep what a budget allows; those with properties of their own share the rest."""
        ordered = sorted(group, key=lambda pair: (pair[1].opens, pair[1].order))
        opened: list[str] = []
        for path, offer in ordered:
            least = max(offer.cost, _LEAST_SHARE) if offer.opens else offer.cost
            shared = _LEAST_SHARE * len(opened)
            alone = offer.opens and not opened
            if offer.cost > budget or (least > budget - shared and not alone):
                continue
            self.kept.add(path)
            self.room -= offer.cost
            budget -= offer.cost
            opened += [path] if offer.opens else []
        for path in opened:
            self._shares[path] = budget // len(opened)

    def _is_common(self, name: str, schemas: Schemas) -> bool:
        return any(_words(name, schema) in self.common for schema in schemas)

    def _owner(self, path: str) -> str:
        """The kept property that the object at a path belongs to."""
        while path and path not in self._shares:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return path


def _opens(node: Node) -> bool:
    """Whether a node has objects that may have further properties."""
    match node:
        case Object():
            return True
        case Array(items, _, _, prefix):
            return any(map(_opens, prefix)) or (items is not None and _opens(items))
        case AnyOf(options):
            return any(map(_opens, options))
        case Dictionary(_, values):
            return _opens(values)
    return False


def _common(schema: Mapping[str, Any]) -> frozenset[str]:
    """Properties that a great part of all definitions has in the same words."""
    definitions = schema.get("$defs", schema.get("definitions", {})).values()
    found = [d["properties"] for d in definitions if isinstance(d, Mapping) and "properties" in d]
    if len(found) < _MANY:
        return frozenset()
    counted = Counter(_words(name, inner) for each in found for name, inner in each.items())
    return frozenset(words for words, n in counted.items() if n >= _COMMON * len(found))


def _words(name: str, schema: Any) -> str:
    return f"{name} {schema!r}"


def _targets(schema: Any) -> Iterator[str]:
    """The references that a value of a schema, or an item of it, is described by."""
    if not isinstance(schema, Mapping):
        return
    if isinstance(target := schema.get("$ref"), str):
        yield target
    for keyword in ("items", "additionalProperties"):
        yield from _targets(schema.get(keyword))
    for keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for inner in schema.get(keyword, ()):
            yield from _targets(inner)


def _ahead(paths: Iterable[str]) -> Iterator[str]:
    """All paths on the way to some, themselves included."""
    for path in paths:
        yield path
        yield from (path[:end] for end, mark in enumerate(path) if end > 1 and mark in ".[")
