"""Rows of files as JSON text: .jsonl, .csv, .parquet and folders of them.

Knows formats and schemas; knows no models.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..schema import RowSchema
from ..schema.grammar.json_text import write_value
from .arrow import (
    about_rows,
    arrow_schema,
    lines_of,
    row_of,
    through_columns,
)
from .columns import Columns, ColumnType, columns_of, is_string
from .csv_formulas import escape_formulas, unescape_formulas
from .dataset_card import DATA
from .destinations import _FOLDER, Destination, destination_kind

_READ_ROWS = 1000


def read_table(
    path: Destination, schema: RowSchema | None = None, *, csv_safe: bool = False
) -> tuple[RowSchema, Iterator[str]]:
    """Return the schema of a file or folder of rows, and its rows, each as a line of JSON text.

    Without a schema a .parquet file or a folder of ours gives its own, whose rows are dicts.
    `csv_safe` takes the apostrophes away again that `write_table` put there. The rows have not
    been checked. Raises OutputError for what cannot be read, now or later.

    Example: `schema, lines = read_table("people.parquet")`
    """
    kind, where = destination_kind(path), Path(path)
    with _readable(path):
        if kind in (".parquet", _FOLDER):
            return _read_parquet(where, schema)
        if schema is None:
            raise OutputError(f"{path} does not say its schema.", hint="Give it as well.")
        if kind == ".csv":
            return schema, _guarded(path, _csv_lines(where, schema, safe=csv_safe))
        return schema, _guarded(path, _json_lines(where))


def lines_as_kept(path: Destination, lines: Iterable[str], schema: RowSchema) -> Iterator[str]:
    """Yield lines as `read_table` gives them back after they were written to `path`.

    Example: `list(lines_as_kept("people.parquet", lines, schema))`
    """
    if destination_kind(path) in (".parquet", _FOLDER):
        return through_columns(lines, columns_of(schema.json_schema))
    return iter(lines)


@contextmanager
def _readable(path: Destination) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it holds no such rows"
        raise OutputError(f"{path} cannot be read: {reason}.", hint="Check the path.") from error


def _guarded(path: Destination, lines: Iterable[str]) -> Iterator[str]:
    with _readable(path):
        yield from lines


def _json_lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:  # in text mode other marks than \n end a line
        for line in file:
            if text := line.decode().strip():
                yield text


def _csv_lines(path: Path, schema: RowSchema, *, safe: bool) -> Iterator[str]:
    """The reader of pyarrow tells an empty cell from an empty string; Python's does not."""
    import pyarrow as pa
    from pyarrow import csv

    columns = columns_of(schema.json_schema)
    names = [escape_formulas(name) if safe else name for name in columns.names]
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    read = csv.ReadOptions(block_size=max(1, min(path.stat().st_size, 1 << 30)))
    parse = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
    table = csv.read_csv(path, read, parse, convert)
    if safe:
        table = table.rename_columns(list(map(unescape_formulas, table.column_names)))
    _check_names(path, table.column_names, columns)
    kinds = [field.column.type for field in columns.fields]
    for batch in table.select(columns.names).to_batches(_READ_ROWS):
        for texts in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            cells = map(partial(_uncelled, safe=safe), texts, kinds)
            yield write_value(row_of(columns, cells))


def _uncelled(text: str | None, kind: ColumnType, *, safe: bool) -> Any:
    if text is None or is_string(kind):
        return unescape_formulas(text) if safe and text else text
    return json.loads(text) if text else None  # a row of one empty cell is quoted


def _read_parquet(path: Path, schema: RowSchema | None) -> tuple[RowSchema, Iterator[str]]:
    from pyarrow import parquet

    files = [path] if path.is_file() else sorted(path.glob(DATA))
    if not files:
        raise OutputError(f"{path} is no data set.", hint="Check the path.")
    about = about_rows(parquet.read_schema(files[0]))
    own = about.get("schema")
    if schema is None:
        if own is None:
            raise OutputError(f"{path} does not say its schema.", hint="Give it as well.")
        schema = RowSchema(about["name"], own, json.loads, _itself, _itself)
    columns = columns_of(schema.json_schema if own is None else own)
    return schema, _guarded(path, _parquet_lines(files, columns))


def _parquet_lines(files: Iterable[Path], columns: Columns) -> Iterator[str]:
    from pyarrow import parquet

    schema = arrow_schema(columns, {})
    for path in files:
        with parquet.ParquetFile(path) as file:
            _check_names(path, file.schema_arrow.names, columns)
            read = file.iter_batches(_READ_ROWS, columns=columns.names)
            yield from lines_of(
                (batch.select(columns.names).cast(schema) for batch in read), columns
            )


def _check_names(path: Path, names: Iterable[str], columns: Columns) -> None:
    if sorted(names) != sorted(columns.names):
        raise OutputError(
            f"The columns of {path} are not those of the schema.", hint="Give its own schema."
        )


def _itself(value: Any) -> Any:
    return value
