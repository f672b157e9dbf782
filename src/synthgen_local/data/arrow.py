"""Rows as Arrow record batches, and back: JSON text on one side, columns on the other.

Types come from the schema's columns, never from the rows, so that any part of the rows has the
types of the whole. Knows columns and JSON, not files or instances; pyarrow is imported at use.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import OutputError
from ..schema.grammar.json_text import write_value
from .columns import Columns, ColumnType, Decimals, Field, Listed, Struct

if TYPE_CHECKING:
    import pyarrow as pa
    from pydantic import TypeAdapter

METADATA = b"synthgen_local"
"""The key of the schema's metadata under which JSON says where the rows come from."""

_BATCH_ROWS = 1000
_BATCH_CHARACTERS = 1 << 22

_Change: TypeAlias = Callable[[Any], Any]


def arrow_schema(columns: Columns, about: Mapping[str, Any]) -> pa.Schema:
    """Return the Arrow schema of columns, with `about` as JSON under `METADATA`.

    Every column may hold null, as readers ask for that; the JSON Schema is stricter.

    Example: `arrow_schema(columns_of(schema.json_schema), {"name": "Person"})`
    """
    import pyarrow as pa

    fields = [pa.field(field.name, _arrow_type(field.column.type)) for field in columns.fields]
    return pa.schema(fields, {METADATA: json.dumps(about, ensure_ascii=False).encode()})


def about_rows(schema: pa.Schema) -> dict[str, Any]:
    """Return what `arrow_schema` was told; nothing of the rows of other programs.

    Example: `about_rows(pyarrow.parquet.read_schema("people.parquet"))["name"]`
    """
    found = json.loads((schema.metadata or {}).get(METADATA, b"{}"))
    return found if isinstance(found, dict) else {}


def batches(lines: Iterable[str], columns: Columns, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield rows, each the JSON text of one, as record batches of a few megabytes at most.

    Raises OutputError, naming row and column but no value, for a row that has no place in them.

    Example: `list(batches(['{"age":1}'], columns, arrow_schema(columns, {})))`
    """
    import pyarrow as pa

    changes = [_into(field.column.type) for field in columns.fields]
    first = 1
    for texts in _chunks(lines):
        rows = [cells(json.loads(text), columns, first + i) for i, text in enumerate(texts)]
        arrays = [
            _array([row[index] for row in rows], schema.field(index), changes[index], first)
            for index in range(len(changes))
        ]
        yield pa.record_batch(arrays, schema=schema)
        first += len(rows)


def lines_of(table: Iterable[pa.RecordBatch], columns: Columns) -> Iterator[str]:
    """Yield the JSON text of each row of what `batches` made.

    Example: `list(lines_of(batches(lines, columns, schema), columns))`
    """
    changes = [_out_of(field.column.type) for field in columns.fields]
    for batch in table:
        values = [batch.column(name).to_pylist() for name in columns.names]
        for row in zip(*values, strict=True):
            yield write_value(row_of(columns, map(_applied, changes, row)))


def through_columns(lines: Iterable[str], columns: Columns) -> Iterator[str]:
    """Yield rows as columns give them back: without the zeros at the end of a decimal, in UTC.

    Example: `list(through_columns(['{"price":"1.50"}'], columns))`
    """
    return lines_of(batches(lines, columns, arrow_schema(columns, {})), columns)


def cells(row: Any, columns: Columns, number: int) -> list[Any]:
    """Return the JSON values of a row, column by column; None for what it lacks.

    Raises OutputError for a row with a field that has no column.

    Example: `cells({"age": 1}, columns, number=1) == [1]`
    """
    if columns.whole:
        return [row]
    if not isinstance(row, dict) or row.keys() - set(columns.names):
        raise OutputError(
            f"Row {number} has a field that the schema does not name.", hint="Write .jsonl."
        )
    return [row.get(name) for name in columns.names]


def row_of(columns: Columns, values: Iterable[Any]) -> Any:
    """Return the row of JSON values that `cells` took apart.

    Example: `row_of(columns, [1]) == {"age": 1}`
    """
    return next(iter(values)) if columns.whole else _object(columns.fields, values)


def _object(fields: Sequence[Field], values: Iterable[Any]) -> dict[str, Any]:
    """The fields that are there: null stands for one that was left out, if it cannot be null."""
    return {
        field.name: value
        for field, value in zip(fields, values, strict=True)
        if value is not None or field.column.nullable or not field.optional
    }


def _chunks(lines: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += len(line)
        if len(chunk) >= _BATCH_ROWS or size >= _BATCH_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _array(values: list[Any], field: pa.Field, change: _Change | None, first: int) -> pa.Array:
    try:
        return _converted(values, field.type, change)
    except _misfits():
        for index, value in enumerate(values):
            try:
                _converted([value], field.type, change)
            except _misfits():
                raise OutputError(
                    f"Row {first + index}: '{field.name}' does not fit into {field.type}.",
                    hint="Write .jsonl, or bound the field in the schema.",
                ) from None
        raise


def _converted(values: list[Any], kind: pa.DataType, change: _Change | None) -> pa.Array:
    import pyarrow as pa

    return pa.array([_applied(change, value) for value in values] if change else values, kind)


@cache
def _misfits() -> tuple[type[Exception], ...]:
    import pyarrow as pa

    return pa.ArrowException, ValueError, TypeError, OverflowError, ArithmeticError


def _applied(change: _Change | None, value: Any) -> Any:
    return value if change is None or value is None else change(value)


def _arrow_type(kind: ColumnType) -> pa.DataType:
    import pyarrow as pa

    match kind:
        case Decimals(digits, places):
            return pa.decimal128(digits, places)
        case Listed(items):
            return pa.list_(_arrow_type(items.type))
        case Struct(fields):
            return pa.struct([pa.field(f.name, _arrow_type(f.column.type)) for f in fields])
    types = {
        "integer": pa.int64,
        "number": pa.float64,
        "boolean": pa.bool_,
        "date": pa.date32,
        "time": lambda: pa.time64("us"),
        "datetime": lambda: pa.timestamp("us"),
        "instant": lambda: pa.timestamp("us", "UTC"),
        "duration": lambda: pa.duration("us"),
    }
    return types.get(kind, pa.string)()


# From JSON values to what Arrow takes


def _into(kind: ColumnType) -> _Change | None:
    """The change of each value but null; None if Arrow takes JSON's own."""
    match kind:
        case Decimals():
            return Decimal
        case Listed(items):
            change = _into(items.type)
            return change and (lambda values: [_applied(change, value) for value in values])
        case Struct(fields):
            return _struct(fields)
    return _INTO.get(kind)


def _struct(fields: Sequence[Field]) -> _Change:
    changes = {field.name: _into(field.column.type) for field in fields}

    def change(value: dict[str, Any]) -> dict[str, Any]:
        if value.keys() - changes.keys():
            raise ValueError("a field without a column")  # which Arrow would leave out
        return {name: _applied(changes[name], inner) for name, inner in value.items()}

    return change


def _number(value: int | float) -> float:
    """Arrow refuses whole numbers of more than 53 bits, even those that a float has exactly."""
    number = float(value)
    if isinstance(value, int) and value not in (int(number), Decimal(repr(number))):
        raise ValueError("no float is this number")
    return number


def _moment(text: str, *, aware: bool) -> datetime:
    moment = datetime.fromisoformat(_whole_microseconds(text))
    if (moment.tzinfo is not None) is not aware:
        raise ValueError("a moment with and one without a time zone are not comparable")
    return moment.astimezone(UTC) if aware else moment


def _time(text: str) -> time:
    moment = time.fromisoformat(_whole_microseconds(text))
    if moment.tzinfo is not None:
        raise ValueError("Arrow has no time of a time zone")
    return moment


def _whole_microseconds(text: str) -> str:
    """The text of a moment; Python would cut what is finer than a microsecond."""
    fraction = text.partition(".")[2]
    if len(fraction) - len(fraction.lstrip("0123456789")) > 6:
        raise ValueError("finer than a microsecond")
    return text


@cache
def _durations() -> TypeAdapter[timedelta]:
    """Reads and writes ISO 8601 as rows do."""
    from pydantic import TypeAdapter

    return TypeAdapter(timedelta)


_INTO: Mapping[Any, _Change] = {
    "json": write_value,
    "number": _number,
    "date": date.fromisoformat,
    "time": _time,
    "datetime": lambda text: _moment(text, aware=False),
    "instant": lambda text: _moment(text, aware=True),
    "duration": lambda text: _durations().validate_python(text),
}


# And back


def _out_of(kind: ColumnType) -> _Change | None:
    match kind:
        case Decimals():
            return _decimal_text
        case Listed(items):
            change = _out_of(items.type)
            return change and (lambda values: [_applied(change, value) for value in values])
        case Struct(fields):
            changes = [_out_of(field.column.type) for field in fields]
            return lambda value: _object(fields, map(_applied, changes, value.values()))
    return _OUT_OF.get(kind)


def _decimal_text(value: Decimal) -> str:
    """Without the zeros that the column adds: they count as digits."""
    return f"{value.normalize():f}"


def _instant_text(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


_OUT_OF: Mapping[Any, _Change] = {
    "json": json.loads,
    "date": date.isoformat,
    "time": time.isoformat,
    "datetime": datetime.isoformat,
    "instant": _instant_text,
    "duration": lambda value: _durations().dump_python(value, mode="json"),
}
