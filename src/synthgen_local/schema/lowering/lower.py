"""A JSON Schema made strict, closed and bounded: a tree of nodes and a certificate.

Every keyword is honoured by the node, left to the check of the finished row and marked so
in the certificate, or refused by name and path. What the schema leaves open gets a limit.
References are unfolded, a recursive one to a bounded depth. Knows no grammar syntax.

Keywords: JSON Schema, drafts 4 to 2020-12, and those of `pydantic_schema.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from itertools import combinations
from typing import Any, Protocol, TypeAlias

from ...errors import SchemaError
from ..certificate import Certificate, Notes, join_path
from ..errors import NoValueError, refused, unsatisfiable
from ..ir import (
    AnyOf,
    Array,
    Bounds,
    Choice,
    Dictionary,
    Integer,
    JsonString,
    Node,
    Number,
    Object,
    String,
)
from ..json_schema.conjunct import (
    Conjunct,
    PropertyRules,
    Schema,
    intersect,
    too_many_alternatives,
)
from ..json_schema.dnf import DnfConverter
from ..json_schema.keywords import (
    ANNOTATIONS,
    ASSERTIONS,
    CONTENT_SCHEMA,
    JSON_TYPES,
    PRIVATE,
    SHORT_NULL_RATE,
    VALIDATORS,
    null_rates_in,
)
from ..json_schema.references import References, nothing_outside
from ..json_schema.validation import finds, judge
from ..regex.search import SearchError
from ..regex.translation import Regex
from .numbers import Numbers
from .strings import Strings

_KNOWN = ANNOTATIONS | ASSERTIONS | PRIVATE | {SHORT_NULL_RATE}
_ORDER = ("string", "number", "integer", "fraction", "boolean", "object", "array", "null")
_MANY = 4000  # nodes, from which on equal parts of a schema are worked out once
_MOST_NODES = 50_000  # real schemas have some hundreds
_MOST_PATTERNS = 3  # of keys, for which every overlap is worked out

Keywords: TypeAlias = Mapping[str, Any]
Schemas: TypeAlias = tuple[Schema, ...]
"""Schemas that all apply."""
_Depth: TypeAlias = frozenset[tuple[str, int]]  # levels of each circle of references


@dataclass(frozen=True)
class Place:
    """An object of the schema: how often it may stand in a row, by which references it was met."""

    path: str
    times: int
    trail: Sequence[str]


class Selector(Protocol):
    """Decides which of the optional properties are part of the node."""

    def keeps(
        self, place: Place, name: str, schemas: Schemas, bare: Callable[[], Node | None]
    ) -> bool:
        """Return whether the object at a place has a property.

        `bare` works the property out without optional ones of its own.
        """
        ...

    @property
    def closed(self) -> bool:
        """Whether properties that can only be empty objects or lists are left out."""
        ...


def lower(
    schema: Mapping[str, Any],
    bounds: Bounds,
    selector: Selector | None = None,
    *,
    references: References | None = None,
    max_nodes: int | None = None,
) -> tuple[Node, Certificate]:
    """Return the node of a schema's rows and who enforces each constraint.

    Without a `selector` all optional properties are part of it. `max_nodes` is where to give up.
    Raises SchemaError, naming keyword and path, for what cannot be honoured or satisfied.

    Example: `lower({"type": "integer", "minimum": 0}, Bounds())[0]`
    """
    work = _Lowering(
        schema, bounds, selector, references or References(schema), max_nodes or _MOST_NODES
    )
    try:
        node = work.lower((dict(schema),), "$", frozenset())
    except SearchError:
        raise SchemaError(
            "A pattern of the schema takes too long to search for in its own names and values.",
            hint="Simplify the pattern: it repeats what is repeated.",
        ) from None
    if node is None:
        raise work.why or SchemaError(
            "The schema has no finite row: it contains itself.", hint="Make a field optional."
        )
    return node, work.notes.certificate()


class _Lowering:
    """One walk over one schema. None stands for a schema without a value of finite length."""

    def __init__(
        self,
        root: Mapping[str, Any],
        bounds: Bounds,
        selector: Selector | None,
        references: References,
        max_nodes: int,
    ) -> None:
        self._root = root
        self._bounds = bounds
        self._selector = selector
        self._max_nodes = max_nodes
        self._bare = False  # whether a property is measured, without optional ones of its own
        self._times = 1  # how often what is worked on may stand in a row
        self._trail: list[str] = []
        self.notes = Notes()
        self._references = references
        self._dnf = DnfConverter(self._references)
        self._known: dict[tuple[tuple[int, ...], _Depth], tuple[Schemas, Node | None]] = {}
        self._made = 0
        self._numbers = Numbers(bounds, self.notes)
        self._strings = Strings(bounds, self.notes)
        self.why: SchemaError | None = None

    def lower(self, schemas: Schemas, path: str, depth: _Depth) -> Node | None:
        """The values that all schemas allow."""
        schemas = tuple(schema for schema in schemas if schema is not True and schema != {})
        if not schemas:
            return self._anything(depth)
        key = (tuple(map(id, schemas)), depth)
        if key in self._known and (depth or self._made > _MANY) and self._selector is None:
            return self._known[key][1]
        self._made += 1
        if self._made > self._max_nodes:
            raise too_many_alternatives(path)
        node = self._lower(schemas, path, depth)
        self._known[key] = schemas, node  # held, so that no other schema gets their identities
        return node

    def _lower(self, schemas: Schemas, path: str, depth: _Depth) -> Node | None:
        parts = [Conjunct()]
        for schema in schemas:
            self._annotate(schema, path)
            others = self._dnf.convert(schema, path)
            if parts == [Conjunct()]:
                parts = others
            else:
                parts = [met for a in parts for b in others if (met := intersect(a, b)) is not None]
        if not parts:
            self._impossible(schemas, path)
        rate = _null_rate(schemas, parts, path)
        values = [value for part in parts for value in part.values or ()]
        options: list[Node] = []
        if parts and all(part.values == () for part in parts):
            self._give_up(unsatisfiable("enum", path, "it lists nothing"))
        if values:
            chosen = self._chosen(schemas, values, path)
            options += _null_apart(chosen) if chosen is not None else []
        for part in parts:
            for name in part.keywords.get(VALIDATORS, ()):
                self.notes.add(path, "validator", name, "check")
            if part.values is None:
                deeper = self._deeper(part, depth)
                options += self._followed(part, path, deeper) if deeper is not None else []
        if len(options) <= 1:
            return options[0] if options else None
        return AnyOf(tuple(options), rate)

    def _followed(self, part: Conjunct, path: str, depth: _Depth) -> list[Node]:
        length = len(self._trail)
        self._trail += part.references
        nodes = self._of_kinds(part, path, depth)
        del self._trail[length:]
        return nodes

    @contextmanager
    def _repeated(self, times: int) -> Iterator[None]:
        """Work out what may stand several times where this stands once."""
        before, self._times = self._times, self._times * max(times, 1)
        yield
        self._times = before

    def _annotate(self, schema: Schema, path: str) -> None:
        if isinstance(schema, Mapping):
            for keyword in schema.keys() - (_KNOWN - self._references.unknown_keywords):
                self.notes.annotate(path, keyword)

    def _impossible(self, schemas: Schemas, path: str) -> None:
        keywords = [key for s in schemas if isinstance(s, Mapping) for key in s]
        combining = next(
            (k for k in ("allOf", "oneOf", "not", "if", "anyOf", "minContains") if k in keywords),
            "type",
        )
        self._give_up(unsatisfiable(combining, path, "what is asked for excludes itself"))

    def _give_up(self, error: SchemaError) -> None:
        """Remember why there is no value here; it matters if one is needed."""
        self.why = error

    def _deeper(self, part: Conjunct, depth: _Depth) -> _Depth | None:
        """The depth inside of a part; None if a circle of references has gone round enough."""
        levels = dict(depth)
        circles = [self._references.cycle(reference) for reference in part.references]
        for name in {min(circle) for circle in circles if circle}:
            levels[name] = levels.get(name, -1) + 1
            self.notes.add("$", "depth", self._bounds.depth, "bound")
            if levels[name] > self._bounds.depth:
                return None
        return frozenset(levels.items())

    def _anything(self, depth: _Depth) -> Node:
        """Any JSON value, of a few levels."""
        levels = dict(depth)
        level = levels.get("", 0) + 1
        self.notes.add("$", "levels", self._bounds.levels, "bound")
        limit = Decimal(10**self._bounds.whole_digits)
        text = String(0, min(32, self._bounds.max_length))
        number = Number(-limit, limit, self._bounds.places)
        nodes: list[Node] = [text, number, Choice((True, False, None))]
        if level <= self._bounds.levels:
            inner = self._anything(frozenset({**levels, "": level}.items()))
            most = min(4, self._bounds.max_items)
            nodes += [Dictionary(String(1, 16), inner, 0, most), Array(inner, 0, most)]
        return AnyOf(tuple(nodes))

    def _of_kinds(self, part: Conjunct, path: str, depth: _Depth) -> list[Node]:
        for keyword in part.unenforced:
            self.notes.add(path, keyword, True, "check")
        kinds = set(part.types)
        if part.types == JSON_TYPES and (meant := part.implied_types):
            kinds = set(meant)
            self.notes.add(path, "type", sorted(meant), "bound")
        if {"integer", "fraction"} <= kinds:
            kinds = kinds - {"integer", "fraction"} | {"number"}
        nodes = []
        for kind in _ORDER:
            if kind in kinds:
                self.notes.add(path, "type", kind)
                try:
                    node = self._of_kind(kind, part, path, depth)
                except NoValueError as nothing:
                    self._give_up(nothing)
                    continue
                nodes += [node] if node is not None else []
        return nodes

    def _of_kind(self, kind: str, part: Conjunct, path: str, depth: _Depth) -> Node | None:
        match kind:
            case "integer":
                return self._numbers.integer(part.keywords, path)
            case "number":
                return self._numbers.number(part.keywords, path)
            case "fraction":
                return self._numbers.fraction(part.keywords, path)
            case "string":
                if CONTENT_SCHEMA in part.keywords:
                    held = self.lower((part.keywords[CONTENT_SCHEMA],), path, depth)
                    return None if held is None else JsonString(held)
                return self._strings.string(part.keywords, path)
            case "boolean":
                return Choice((True, False))
            case "null":
                return Choice((None,))
            case "array":
                return self._array(part, path, depth)
        return self._object(part, path, depth)

    def _chosen(self, schemas: Schemas, values: Sequence[Any], path: str) -> Choice | None:
        """Those of the values that all schemas take."""
        told = [_without(schema, "enum", "const") for schema in schemas]  # they have been met
        check = self._validators([schema for schema in told if schema])
        distinct = {json.dumps(value, sort_keys=True): value for value in values}.values()
        with nothing_outside():
            kept = [value for value in distinct if all(c.is_valid(value) for c in check)]
        if not kept:
            self._give_up(unsatisfiable("enum", path, "no value is allowed"))
            return None
        self.notes.add(path, "const" if len(values) == 1 else "enum", kept)
        return Choice(tuple(kept))

    def _validators(self, schemas: Sequence[Schema]) -> list[Any]:
        """Validators of parts of the document."""
        return [self._validator.evolve(schema=schema) for schema in schemas]

    @cached_property
    def _validator(self) -> Any:
        return judge(self._root)

    # Containers

    def _array(self, part: Conjunct, path: str, depth: _Depth) -> Node | None:
        keywords = part.keywords
        ahead = max((len(rule.prefix) for rule in part.items), default=0)
        others = tuple(rule.others for rule in part.items)
        closed = any(schema is False for schema in others)
        if ahead and not closed and all(schema is True for schema in others):
            closed = True
            self.notes.add(path, "items", False, "bound")
        fewest, most = keywords.get("minItems", 0), keywords.get("maxItems")
        if most is None:
            most = ahead if closed else max(self._bounds.max_items, fewest, ahead)
            if not closed:
                self.notes.add(path, "maxItems", most, "bound")
        elif self._bounds.over and most > (limit := max(self._bounds.max_items, fewest, ahead)):
            most = limit
            self.notes.add(path, "maxItems", most, "bound")
        if closed:
            most = min(most, ahead)
        self.notes.given(keywords, path, "minItems", "maxItems")
        if fewest > most:
            raise unsatisfiable("minItems", path, f"{fewest} is above the {most} items allowed")
        heads: list[Node] = []
        for index in range(min(ahead, most)):
            head = self.lower(_item(part, index), f"{path}[{index}]", depth)
            if head is None:
                most = index
                break
            heads.append(head)
        with self._repeated(most - len(heads)):
            items = self.lower(others, f"{path}[*]", depth) if most > len(heads) else None
        if keywords.get("uniqueItems"):
            self.notes.add(path, "uniqueItems", True, "check")
            most = most if heads else min(most, _count(items, most))
        reach = most if items is not None else min(most, len(heads))
        if fewest > reach:
            if items is not None:
                self._give_up(unsatisfiable("minItems", path, f"there are {reach} different items"))
            return None
        array = Array(items, fewest, reach, tuple(heads))
        return self._containing(array, part, path, depth) if part.contains else array

    def _containing(self, array: Array, part: Conjunct, path: str, depth: _Depth) -> Node | None:
        """A list for each place at which the wanted item may stand."""
        for _ in part.contains[1:]:
            self.notes.add(path, "contains", True, "check")
        self.notes.add(path, "contains", True)
        places: list[Node] = []
        for index in range(array.maximum):
            wanted = self.lower((part.contains[0], *_item(part, index)), f"{path}[{index}]", depth)
            heads = list(array.prefix[:index])
            missing = index - len(heads)
            if wanted is None or (missing and array.items is None):
                continue
            heads += [array.items] * missing if array.items is not None else []
            rest = array.prefix[index + 1 :]
            fewest = max(array.minimum, index + 1)
            places.append(Array(array.items, fewest, array.maximum, (*heads, wanted, *rest)))
        if not places:
            raise unsatisfiable("contains", path, "no item can be what must be there")
        return places[0] if len(places) == 1 else AnyOf(tuple(places))

    def _object(self, part: Conjunct, path: str, depth: _Depth) -> Node | None:
        fewest = part.keywords.get("minProperties", 0)
        most = part.keywords.get("maxProperties")
        self.notes.given(part.keywords, path, "minProperties", "maxProperties")
        listed = dict.fromkeys(name for rule in part.fields for name in rule.properties)
        names = [*listed, *(name for name in part.required if name not in listed)]
        required = frozenset(part.required)
        fields = self._fields(part, names, path, depth)
        if fields is None:
            return None
        if required:
            self.notes.add(path, "required", list(part.required))
        if most is not None and most < len(required):
            raise unsatisfiable("maxProperties", path, f"{len(required)} are required")
        extra = self._extra(part, names, path, depth)
        if not fields and len(extra) == 1:
            return self._mapping(*extra[0], fewest, most, path)
        free = self._bounds.max_items if extra else 0
        reach = len(fields) + free
        if extra:
            self.notes.add(path, "maxProperties", reach, "bound")
        if fewest > reach:
            raise unsatisfiable("minProperties", path, f"{fewest} is above {reach}")
        if extra and fewest > len(required):
            self.notes.add(path, "minProperties", fewest, "check")  # keys may repeat
        optional = frozenset(name for name, _ in fields) - required
        limit = reach if most is None else min(most, reach)
        return Object(tuple(fields), optional, tuple(extra), free, fewest, limit)

    def _fields(
        self, part: Conjunct, names: Sequence[str], path: str, depth: _Depth
    ) -> list[tuple[str, Node]] | None:
        """The named properties that can be; None if one that must be there cannot."""
        fields: list[tuple[str, Node]] = []
        needed = part.keywords.get("minProperties", 0) - len(part.required)
        for name in names:
            schemas = _property(part, name)
            forbidden = name in part.forbidden or any(schema is False for schema in schemas)
            node = None
            if not forbidden and self._may_be_key(name, part):
                if name in part.required or needed > 0:
                    node = self.lower(schemas, join_path(path, name), depth)
                else:
                    node = self._optional(name, schemas, path, depth)
            elif name in part.required:
                raise unsatisfiable("required", path, f"'{name}' is forbidden")
            if node is not None:
                fields.append((name, node))
                needed -= name not in part.required
            elif name in part.required:
                return None
            elif not forbidden:
                self.notes.add(join_path(path, name), "properties", False, "bound")
        return fields

    def _optional(self, name: str, schemas: Schemas, path: str, depth: _Depth) -> Node | None:
        """An optional property, None if rows do not have it."""
        where = join_path(path, name)
        if self._selector is None:
            return self.lower(schemas, where, depth)

        def bare() -> Node | None:
            self._bare = True
            node = self.lower(schemas, where, depth)
            self._bare = False
            return node

        place = Place(path, self._times, tuple(self._trail))
        if self._bare or not self._selector.keeps(place, name, schemas, bare):
            return None
        node = self.lower(schemas, where, depth)
        empty = node is not None and self._selector.closed and _is_empty(node)
        return None if empty else node

    def _may_be_key(self, name: str, part: Conjunct) -> bool:
        names = part.keywords.get("propertyNames", ())
        return not names or all(check.is_valid(name) for check in self._validators(names))

    def _mapping(self, keys: Node, values: Node, fewest: int, most: int | None, path: str) -> Node:
        if most is None:
            most = max(self._bounds.max_items, fewest)
            self.notes.add(path, "maxProperties", most, "bound")
        if fewest > most:
            raise unsatisfiable("minProperties", path, f"{fewest} is above maxProperties {most}")
        if fewest > 1:
            self.notes.add(path, "minProperties", fewest, "check")  # keys may repeat
        return Object(()) if most == 0 else Dictionary(keys, values, fewest, most)

    def _extra(
        self, part: Conjunct, names: Sequence[str], path: str, depth: _Depth
    ) -> list[tuple[Node, Node]]:
        """Kinds of keys that have no name in the schema, each with its values."""
        patterns = list(dict.fromkeys(p for rule in part.fields for p in rule.patterns))
        others = [rule.others for rule in part.fields]
        silent = all(schema is True or schema == {} for schema in others)
        if silent and (names or patterns):
            self.notes.add(path, "additionalProperties", False, "bound")
        if part.keywords.get("maxProperties") == 0:
            return []
        found = []
        for chosen in _subsets(patterns):
            if not chosen and ((silent and (names or patterns)) or any(s is False for s in others)):
                continue
            keys = self._keys(part, chosen, patterns, names, path)
            values = tuple(schema for rule in part.fields for schema in _values(rule, chosen))
            with self._repeated(self._bounds.max_items):
                value = self.lower(values, f"{path}.*", depth) if keys is not None else None
            if keys is not None and value is not None:
                found.append((keys, value))
            elif not chosen:
                self.notes.add(path, "additionalProperties", False, "bound")
        if len(patterns) > _MOST_PATTERNS:
            self.notes.add(path, "patternProperties", patterns, "check")
        return found

    def _keys(
        self,
        part: Conjunct,
        chosen: Sequence[str],
        patterns: Sequence[str],
        names: Sequence[str],
        path: str,
    ) -> Node | None:
        """Keys that match the chosen patterns, and neither the others nor a name."""
        schemas: list[Schema] = [*part.keywords.get("propertyNames", ()), {"type": "string"}]
        schemas += [{"pattern": pattern} for pattern in chosen]
        if len(patterns) <= _MOST_PATTERNS:
            schemas += [{"not": {"pattern": p}} for p in patterns if p not in chosen]
        taken = [*names, *part.forbidden]
        if taken:
            schemas.append({"not": {"enum": taken}})
        node = self.lower(tuple(schemas), f"{path}.*~", frozenset())
        return None if node is None else _key(node, path)


def _key(node: Node, path: str) -> Node:
    """A key that holds a number or a flag as that value: the grammar puts keys in quotes."""
    match node:
        case AnyOf(options):
            return AnyOf(tuple(_key(option, path) for option in options))
        case JsonString(Integer() | Number() | Choice((True, False))):
            return node.value
        case JsonString():
            raise refused("propertyNames", path, "of what is neither text, number nor flag")
    return node


def _is_empty(node: Node) -> bool:
    """Whether a node has nothing but objects without properties, or lists of these."""
    match node:
        case Object(fields, _, extra):
            return not fields and not extra
        case Array(items, _, _, prefix):
            return not prefix and (items is None or _is_empty(items))
        case AnyOf(options):
            return all(map(_is_empty, options))
    return False


def _count(node: Node | None, otherwise: int) -> int:
    """How many values a node has, where that is plain to see."""
    match node:
        case Choice(values):
            return len(values)
        case AnyOf(options):
            return sum(_count(option, otherwise) for option in options)
        case Integer(minimum, maximum, step):
            return maximum // step - -(-minimum // step) + 1
    return otherwise


def _null_rate(schemas: Schemas, parts: Sequence[Conjunct], path: str) -> float | None:
    """How often null is wanted, of which `nullRate` speaks; a row is valid either way.

    What stands here goes before what a reference or an option says.
    """
    rates = [r for s in schemas if isinstance(s, Mapping) for r in null_rates_in(s)]
    rates += [rate for part in parts for rate in null_rates_in(part.keywords)]
    for rate in rates:
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise refused(SHORT_NULL_RATE, path, f"of {rate!r}, which is not from 0 to 1,")
    return float(rates[0]) if rates else None


def _null_apart(chosen: Choice) -> list[Node]:
    """Values, and null as an option of its own: it has a rate."""
    others = tuple(value for value in chosen.values if value is not None)
    if len(others) in (0, len(chosen.values)):
        return [chosen]
    return [Choice(others), Choice((None,))]


def _without(schema: Schema, *names: str) -> Schema:
    """A schema without some keywords and those that allow and forbid nothing."""
    if not isinstance(schema, Mapping):
        return schema
    return {k: v for k, v in schema.items() if k not in names and k not in ANNOTATIONS}


def _item(part: Conjunct, index: int) -> Schemas:
    return tuple(r.prefix[index] if index < len(r.prefix) else r.others for r in part.items)


def _property(part: Conjunct, name: str) -> Schemas:
    """All that is said of one property."""
    found: list[Schema] = []
    for rule in part.fields:
        matching = [s for pattern, s in rule.patterns.items() if finds(Regex(pattern), name)]
        matching += [rule.properties[name]] if name in rule.properties else []
        found += matching or [rule.others]
    return tuple(found)


def _values(rule: PropertyRules, chosen: Sequence[str]) -> list[Schema]:
    return [rule.patterns[p] for p in chosen if p in rule.patterns] or [rule.others]


def _subsets(patterns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Which patterns a key may match at once; where they are many, one at most."""
    most = len(patterns) if len(patterns) <= _MOST_PATTERNS else 1
    for size in range(most + 1):
        yield from combinations(patterns, size)
