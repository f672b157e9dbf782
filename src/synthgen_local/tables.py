"""Rows as files: .jsonl, .csv and .parquet.

A file is written whole beside its destination and moved into place, so that nobody sees
half of it. Knows JSON values and instances, not models or grammars.
"""

from __future__ import annotations

import csv
import datetime
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel

from .errors import OutputError
from .schema import RowSchema
from .schema.grammar import write_value

_TYPED = (str, bool, int, float, Decimal, datetime.date, datetime.time, type(None))


def check_destination(path: Path) -> None:
    """Raise OutputError if rows could not be written to `path`: before any work is done.

    Example: `check_destination(Path("people.parquet"))`
    """
    if path.suffix.lower() not in _WRITERS:
        raise OutputError(f"{path} has no known suffix.", hint=f"Use {', '.join(_WRITERS)}.")
    if not path.parent.is_dir():
        raise OutputError(
            f"The folder {path.parent} does not exist.", hint=f"Make it: mkdir -p {path.parent}"
        )
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", hint="Name a file.")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(
            f"The folder {path.parent} cannot be written.", hint="Choose another folder."
        )


def write_table(path: Path, rows: Sequence[Any], schema: RowSchema) -> None:
    """Write instances to a file whose suffix names the format, replacing it in one step.

    .jsonl holds a row a line; .csv follows RFC 4180, nested values as JSON text; .parquet
    keeps dates, times and decimals as such. Raises OutputError, and leaves nothing.

    Example: `write_table(Path("people.csv"), rows, schema)`
    """
    check_destination(path)
    writer = _WRITERS[path.suffix.lower()]
    partial = ""
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".partial", delete=False
        ) as file:
            partial = file.name
            writer(file, rows, schema)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).chmod(0o666 & ~_umask())
        Path(partial).replace(path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror}.", hint="Is the disk full?"
        ) from error
    finally:
        with suppress(OSError):
            Path(partial).unlink() if partial else None


def plain_schema(*columns: str) -> RowSchema:
    """Return the schema of rows that are dicts of JSON values already.

    Example: `write_table(Path("texts.csv"), texts, plain_schema("fields", "text"))`
    """
    return RowSchema.of({"properties": {column: {} for column in columns}})


def row_line(instance: Any, schema: RowSchema) -> str:
    """Return a row as one line of JSON, without the newline."""
    return write_value(schema.dump(instance))


def _write_jsonl(file: IO[bytes], rows: Sequence[Any], schema: RowSchema) -> None:
    for row in rows:
        file.write(f"{row_line(row, schema)}\n".encode())


def _write_csv(file: IO[bytes], rows: Sequence[Any], schema: RowSchema) -> None:
    lines = [schema.dump(row) for row in rows]
    writer = csv.DictWriter(_Utf8(file), _columns(schema, lines), lineterminator="\r\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({key: _csv_cell(value) for key, value in _record(line).items()})


def _csv_cell(value: Any) -> Any:
    return write_value(value) if isinstance(value, dict | list | bool) else value


def _write_parquet(file: IO[bytes], rows: Sequence[Any], schema: RowSchema) -> None:
    import pyarrow
    import pyarrow.parquet

    records = [_record(_typed(row)) for row in rows]
    columns = _columns(schema, records)
    data = {column: [record.get(column) for record in records] for column in columns}
    try:
        pyarrow.parquet.write_table(pyarrow.table(data), file)
    except (pyarrow.ArrowException, OverflowError):  # int | str, or {}, is nothing to Parquet
        data = {c: v if _uniform(v) else [_json_or_none(x) for x in v] for c, v in data.items()}
        file.seek(0)
        file.truncate()
        pyarrow.parquet.write_table(pyarrow.table(data), file)


def _uniform(values: list[Any]) -> bool:
    import pyarrow
    import pyarrow.parquet

    try:
        pyarrow.parquet.write_table(pyarrow.table({"values": values}), BytesIO())
    except (pyarrow.ArrowException, OverflowError):
        return False
    return True


def _json_or_none(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, default=str)


def _typed(value: Any) -> Any:
    """An instance as values that Arrow has types for."""
    match value:
        case BaseModel():
            aliases = {
                name: field.serialization_alias or name
                for name, field in type(value).model_fields.items()
            }
            return {alias: _typed(getattr(value, name)) for name, alias in aliases.items()}
        case Enum():
            return _typed(value.value)
        case dict():
            return {str(_typed(k)): _typed(v) for k, v in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_typed(item) for item in value]
    return value if isinstance(value, _TYPED) else str(value)


def _columns(schema: RowSchema, records: Sequence[Any]) -> list[str]:
    named = list(schema.json_schema.get("properties", {}))
    return named or list(dict.fromkeys(key for record in records for key in _record(record)))


def _record(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {"value": value}


class _Utf8:
    """What csv writes, as bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_WRITERS: dict[str, Callable[[IO[bytes], Sequence[Any], RowSchema], None]] = {
    ".jsonl": _write_jsonl,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
