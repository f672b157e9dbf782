"""What type each column of a table of rows has, from the schema alone.

Knows JSON Schema and the keywords of `pydantic_schema.py`, not Arrow or files. What has no one
type is JSON text: `int | str`, Any, dicts (a map is nothing that every reader takes), tuples of
several types, objects with keys that the schema does not name, integers beyond 64 bits, and what
contains itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import reduce
from typing import Any, Literal, TypeAlias

from ..schema.certificate import join_path
from ..schema.json_schema.conjunct import Conjunct, Schema, intersect
from ..schema.json_schema.dnf import DnfConverter
from ..schema.json_schema.keywords import (
    DECIMAL_PLACES,
    JSON_TYPES,
    MAX_DIGITS,
    TIMEDELTA,
    TIMEZONE,
)
from ..schema.json_schema.references import References
from ..schema.lowering.datetimes import FORMAT_BOUNDS

Word: TypeAlias = Literal[
    "text", "json", "integer", "number", "boolean",
    "date", "time", "datetime", "instant", "duration",
]  # fmt: skip
"""A type without parts. A `datetime` has no time zone; an `instant` is one of UTC.

`json` is JSON text; the others are Arrow's string, int64, float64, bool, date32, time64,
timestamp and duration, the last three in microseconds.
"""


@dataclass(frozen=True)
class Decimals:
    """Decimals of up to `digits` digits, `places` of them after the point."""

    digits: int
    places: int


@dataclass(frozen=True)
class Listed:
    """Lists of one type of item."""

    items: Column


@dataclass(frozen=True)
class Struct:
    """Objects with these fields."""

    fields: tuple[Field, ...]


ColumnType: TypeAlias = Word | Decimals | Listed | Struct


@dataclass(frozen=True)
class Column:
    """A type, and whether null is a value of it."""

    type: ColumnType
    nullable: bool = False


@dataclass(frozen=True)
class Field:
    """A named column; one that is `optional` may be left out of its object."""

    name: str
    column: Column
    optional: bool = False


@dataclass(frozen=True)
class Columns:
    """The columns of a table; if a row is no object, it stands `whole` in the only one."""

    fields: tuple[Field, ...]
    whole: bool = False

    @property
    def names(self) -> list[str]:
        """The names of the columns, in their order."""
        return [field.name for field in self.fields]

    def json_paths(self) -> list[str]:
        """Return the paths of what is JSON text, such as "$.address.extra" or "$.tags[*]".

        Example: `columns_of({"properties": {"a": {}}}).json_paths() == ["$.a"]`
        """
        if self.whole:
            return list(_json_paths(self.fields[0].column, "$"))
        return [p for f in self.fields for p in _json_paths(f.column, join_path("$", f.name))]


WHOLE = "value"
"""The name of the column that holds rows which are no objects."""

_JSON = Column("json")
_STRINGS = {"text", "date", "time", "datetime", "instant", "duration"}
_MOST_FIELDS = 2000  # beyond which a schema is no table: the rest is JSON text
_MOST_DIGITS = 38  # of a 128-bit decimal, which every reader has
_USUAL_PLACES = 18  # of a decimal that nobody limits
_LEAST_PLACES = 6


def columns_of(schema: Mapping[str, Any]) -> Columns:
    """Return the columns of a JSON Schema's rows.

    Raises SchemaError for a reference without a target.

    Example: `columns_of({"properties": {"age": {"type": "integer"}}}).names == ["age"]`
    """
    column = _Walk(schema).column((dict(schema),), "$", frozenset())
    if isinstance(column.type, Struct) and not column.nullable:
        return Columns(column.type.fields)
    return Columns((Field(WHOLE, column),), whole=True)


class _Walk:
    """One walk over one schema, into each reference once on the way down."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._dnf = DnfConverter(References(root))
        self._fields = 0

    def column(self, schemas: Sequence[Schema], path: str, inside: frozenset[str]) -> Column:
        """The column of the values that all schemas allow."""
        parts = [Conjunct()]
        for schema in schemas:
            others = self._dnf.convert(schema, path)
            parts = [met for a in parts for b in others if (met := intersect(a, b)) is not None]
        found = [column for part in parts for column in self._of_part(part, path, inside)]
        columns = [column for column in found if column is not None]
        joined = reduce(_joined, columns) if columns else _JSON
        joined = _JSON if joined.type == Struct(()) else joined  # nothing that a file can hold
        return replace(joined, nullable=joined.nullable or None in found)

    def _of_part(
        self, part: Conjunct, path: str, inside: frozenset[str]
    ) -> Iterator[Column | None]:
        """A column for each kind of value; None for null."""
        if part.values is not None:
            yield from (_of_value(value) for value in part.values if kind_of(value) in part.types)
            return
        kinds = part.implied_types if part.types == JSON_TYPES else part.types
        if not kinds:  # anything
            yield from (_JSON, None)
            return
        if inside.intersection(part.references):
            yield _JSON
            return
        if {"integer", "fraction"} <= kinds:
            kinds -= {"integer"}
        for kind in sorted(kinds):
            yield self._of_kind(kind, part, path, inside.union(part.references))

    def _of_kind(
        self, kind: str, part: Conjunct, path: str, inside: frozenset[str]
    ) -> Column | None:
        match kind:
            case "null":
                return None
            case "boolean":
                return Column("boolean")
            case "integer":
                return Column(_integer(part.keywords))
            case "fraction":
                return Column("number")
            case "string":
                return Column(_string(part.keywords))
            case "array":
                return self._list(part, path, inside)
        return self._object(part, path, inside)

    def _list(self, part: Conjunct, path: str, inside: frozenset[str]) -> Column:
        ahead = max((len(rule.prefix) for rule in part.items), default=0)
        rests: list[Schema] = [rule.others for rule in part.items]
        closed = bool(ahead) and all(rest is True for rest in rests)
        items = [] if closed or False in rests else [self.column(rests, f"{path}[*]", inside)]
        for index in range(ahead):
            heads = [r.prefix[index] if index < len(r.prefix) else r.others for r in part.items]
            items.append(self.column(heads, f"{path}[{index}]", inside))
        if not items:
            return _JSON
        item = reduce(_joined, items)
        one_type = item.type != "json" or all(other.type == "json" for other in items)
        return Column(Listed(item)) if one_type else _JSON

    def _object(self, part: Conjunct, path: str, inside: frozenset[str]) -> Column:
        listed = [name for rule in part.fields for name in rule.properties]
        names = dict.fromkeys((*listed, *part.required))
        others = [rule.others for rule in part.fields]
        free = any(rule.patterns for rule in part.fields) or any(
            not isinstance(schema, bool) and schema != {} for schema in others
        )
        self._fields += len(names)
        if free or not (names or False in others) or self._fields > _MOST_FIELDS:
            return _JSON
        fields = []
        for name in names:
            schemas = [rule.properties.get(name, rule.others) for rule in part.fields]
            if name not in part.forbidden and False not in schemas:
                column = self.column(schemas, join_path(path, name), inside)
                fields.append(Field(name, column, name not in part.required))
        return Column(Struct(tuple(fields)))


def _joined(a: Column, b: Column) -> Column:
    """The column that holds the values of both."""
    return Column(_joined_types(a.type, b.type), a.nullable or b.nullable)


def _joined_types(a: ColumnType, b: ColumnType) -> ColumnType:
    if a == b:
        return a
    match a, b:
        case Listed(x), Listed(y):
            return Listed(_joined(x, y))
        case Struct(xs), Struct(ys):
            return _joined_structs(xs, ys)
    if {a, b} == {"integer", "number"}:
        return "number"
    return "text" if is_string(a) and is_string(b) else "json"


def _joined_structs(xs: Sequence[Field], ys: Sequence[Field]) -> ColumnType:
    """The fields of both, unless it would be lost who has one that is null."""
    before, after = ({field.name: field for field in fields} for fields in (xs, ys))
    fields = []
    for name in dict.fromkeys((*before, *after)):
        x, y = before.get(name), after.get(name)
        if x is not None and y is not None:
            fields.append(Field(name, _joined(x.column, y.column), x.optional or y.optional))
        elif (one := x or y) is not None:
            if one.column.nullable:
                return "json"
            fields.append(replace(one, optional=True))
    return Struct(tuple(fields))


def is_string(kind: ColumnType) -> bool:
    """Return whether a column holds what JSON writes as strings, as they are.

    Example: `is_string("date") and not is_string("json")`
    """
    return isinstance(kind, Decimals) or kind in _STRINGS


def _of_value(value: Any) -> Column | None:
    match value:
        case None:
            return None
        case bool():
            return Column("boolean")
        case int():
            return Column(_integer({"minimum": value, "maximum": value}))
        case float():
            return Column("number")
        case str():
            return Column("text")
    return _JSON


def kind_of(value: Any) -> str:
    """Return the kind, one of `JSON_TYPES`, of a JSON value.

    Example: `kind_of(1.5) == "fraction"`
    """
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "fraction"
        case str():
            return "string"
    return "object" if isinstance(value, dict) else "array"


def _integer(keywords: Mapping[str, Any]) -> Word:
    lows = [keywords[key] for key in ("minimum", "exclusiveMinimum") if key in keywords]
    highs = [keywords["maximum"]] if "maximum" in keywords else []
    highs += [keywords["exclusiveMaximum"] - 1] if "exclusiveMaximum" in keywords else []
    fits = all(-(2**63) <= bound < 2**63 for bound in (*lows, *highs))
    return "integer" if fits else "json"


def _string(keywords: Mapping[str, Any]) -> Word | Decimals:
    match keywords.get("format", ()):
        case ("date",):
            return "date"
        case ("date-time",):
            return "datetime" if keywords.get(TIMEZONE) == "naive" else "instant"
        case ("time",) if keywords.get(TIMEZONE) == "naive":
            return "time"  # Arrow has no time of a time zone
        case ("duration",) if TIMEDELTA in keywords:
            return "duration"  # one that has months or years is as long as its calendar
        case ("decimal",):
            return _decimals(keywords)
    return "text"


def _decimals(keywords: Mapping[str, Any]) -> Word | Decimals:
    """As many places as there may be; text where no column has room for them."""
    digits, places = keywords.get(MAX_DIGITS), keywords.get(DECIMAL_PLACES)
    if digits is not None:
        most = 2 * digits if places is None else max(digits, places)
        found = Decimals(most, digits if places is None else places)
        return found if most <= _MOST_DIGITS else "text"
    bounds = [Decimal(keywords[key]) for key in FORMAT_BOUNDS if key in keywords]
    room = _MOST_DIGITS - max((len(str(int(abs(bound)))) for bound in bounds), default=0)
    if places is None:
        steps = [-int(Decimal(step).as_tuple().exponent) for step in keywords.get("multipleOf", ())]
        places = max(min(_USUAL_PLACES, room), _LEAST_PLACES, *steps)
    return Decimals(_MOST_DIGITS, places) if places <= room else "text"


def _json_paths(column: Column, path: str) -> Iterable[str]:
    match column.type:
        case "json":
            yield path
        case Listed(items):
            yield from _json_paths(items, f"{path}[*]")
        case Struct(fields):
            for field in fields:
                yield from _json_paths(field.column, join_path(path, field.name))
