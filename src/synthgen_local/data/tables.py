"""Rows as files: .jsonl, .csv, .parquet, and folders that the Hugging Face hub understands.

Rows go in as lines of JSON text, in one pass, and come out as such; what they hold besides is
read from their schema. A file or folder is written whole beside its destination and moved into
place, so that nobody sees half of it; a pipe gets each row at once. Knows JSON values and
instances, not models or grammars.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from ..errors import OutputError
from ..schema import RowSchema
from ..schema.grammar.json_text import write_value
from ..system.atomic_write import atomic_folder, atomic_write, sync, write_hint
from .arrow import (
    arrow_schema,
    batches,
    cells,
)
from .columns import Columns, ColumnType, Decimals, columns_of, is_string
from .csv_formulas import escape_formulas, escape_json_formulas, quote_cell
from .dataset_card import write_card
from .destinations import (
    _FOLDER,
    Destination,
    _check_replaceable,
    check_destination,
    destination_kind,
    is_stream,
)

if TYPE_CHECKING:
    import pyarrow as pa


_GROUP_ROWS = 100_000


_GROUP_BYTES = 1 << 24


_SHARD_BYTES = 1 << 28  # the hub asks for files well below a gigabyte


@dataclass(frozen=True)
class _Table:
    """What is written besides rows."""

    schema: RowSchema
    provenance: Mapping[str, Any]
    csv_safe: bool

    @cached_property
    def columns(self) -> Columns:
        return columns_of(self.schema.json_schema)

    @cached_property
    def arrow(self) -> pa.Schema:
        about = {
            "name": self.schema.name,
            "schema": self.schema.json_schema,
            "json": self.columns.json_paths(),
            "provenance": self.provenance,
        }
        return arrow_schema(self.columns, about)


def write_table(
    path: Destination,
    lines: Iterable[str],
    schema: RowSchema,
    *,
    provenance: Mapping[str, Any] | None = None,
    csv_safe: bool = False,
    scratch: Path | None = None,
    ready: Callable[[Path], None] = lambda _: None,
) -> None:
    """Write rows, each a line of JSON text as `row_line` makes it, replacing `path` in one step.

    .jsonl holds a row a line. .csv follows RFC 4180: nested values as JSON text, null as nothing,
    an empty string as `""`; `csv_safe` puts an apostrophe before text that a spreadsheet would
    take for a formula (https://owasp.org/www-community/attacks/CSV_Injection), also within a cell
    behind a separator or a line break: not every program separates cells by commas. .parquet has
    the types of `columns_of`, and under "synthgen_local" in its metadata JSON: the schema, which
    columns are JSON text, and the provenance. A path that ends in "/" is a folder with such files
    and a card, which `datasets.load_dataset` reads. A pipe without a suffix gets JSON lines.

    Takes one pass and a few megabytes, however many rows there are; what is not whole yet lies in
    `scratch`, or beside `path`. `ready` is called with it before it is moved into place, and may
    raise. Raises OutputError, and leaves nothing.

    Example: `write_table("people.csv", (row_line(row, schema) for row in rows), schema)`
    """
    check_destination(path, csv_safe=csv_safe)
    table = _Table(schema, provenance or {}, csv_safe)
    kind, where = destination_kind(path), Path(path).absolute()
    try:
        if is_stream(where):
            with where.open("ab") as file:
                _WRITERS[kind](file, _flushed(lines, file), table)
        elif kind == _FOLDER:
            with atomic_folder(where, _check_replaceable, scratch=scratch, ready=ready) as folder:
                _write_folder(folder, lines, table)
        else:
            with atomic_write(where, scratch=scratch, ready=ready) as file:
                _WRITERS[kind](file, lines, table)
    except BrokenPipeError:
        raise  # the reader has had enough
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror}.", hint=write_hint(error)
        ) from error


def plain_schema(*columns: str, **schemas: Mapping[str, Any]) -> RowSchema:
    """Return the schema of rows that are dicts of JSON values already.

    Values of `columns` may be anything, those of `schemas` have a JSON Schema.

    Example: `plain_schema("fields", text={"type": "string"})`
    """
    properties = {**{column: {} for column in columns}, **schemas}
    return RowSchema.of({"type": "object", "properties": properties, "required": list(properties)})


def row_line(instance: Any, schema: RowSchema) -> str:
    """Return a row as one line of JSON, without the newline."""
    return write_value(schema.dump(instance))


# Destinations


def _flushed(lines: Iterable[str], file: IO[bytes]) -> Iterator[str]:
    """Lines, each of which has left when the next one is asked for."""
    for line in lines:
        yield line
        file.flush()


# Writers


def _write_jsonl(file: IO[bytes], lines: Iterable[str], table: _Table) -> None:  # noqa: ARG001
    for line in lines:
        file.write(f"{line}\n".encode())


def _write_csv(file: IO[bytes], lines: Iterable[str], table: _Table) -> None:
    columns, safe = table.columns, table.csv_safe
    kinds = [field.column.type for field in columns.fields]
    file.write(_csv_record([_cell(name, "text", safe=safe) for name in columns.names]))
    for number, line in enumerate(lines, 1):
        values = cells(json.loads(line), columns, number)
        for name, kind, value in zip(columns.names, kinds, values, strict=True):
            if is_string(kind) and not isinstance(value, str | None):
                raise OutputError(
                    f"Row {number}: '{name}' is no text.", hint="Write .jsonl, or change its type."
                )
        pairs = zip(values, kinds, strict=True)
        file.write(_csv_record([_cell(value, kind, safe=safe) for value, kind in pairs]))


def _csv_record(texts: list[str]) -> bytes:
    """A line; one that is empty would be none to most readers."""
    return f"{','.join(texts) or quote_cell('')}\r\n".encode()


def _cell(value: Any, kind: ColumnType, *, safe: bool) -> str:
    if value is None:
        return ""
    text = value if is_string(kind) else write_value(value)
    if safe and not isinstance(kind, Decimals):
        text = escape_formulas(text) if is_string(kind) else escape_json_formulas(text)
    return quote_cell(text) if not text or any(mark in text for mark in ',"\r\n') else text


def _write_parquet(file: IO[bytes], lines: Iterable[str], table: _Table) -> None:
    from pyarrow.parquet import ParquetWriter

    with ParquetWriter(file, table.arrow) as writer:
        for group in _groups(batches(lines, table.columns, table.arrow)):
            writer.write_table(group)


def _write_folder(folder: Path, lines: Iterable[str], table: _Table) -> None:
    groups = _groups(batches(lines, table.columns, table.arrow))
    data = folder / "data"
    data.mkdir()
    group, rows = next(groups, None), 0
    shards: list[Path] = []
    while group is not None or not shards:
        shards.append(data / f"{len(shards)}.partial")
        with shards[-1].open("wb") as file:
            group, written = _write_shard(file, group, groups, table.arrow)
            rows += written
            sync(file)
    for number, shard in enumerate(shards):
        shard.rename(data / f"train-{number:05}-of-{len(shards):05}.parquet")
    card = write_card(
        table.schema.name, table.schema.json_schema, table.columns, rows, table.provenance
    )
    with (folder / "README.md").open("w", encoding="utf-8") as file:
        file.write(card)
        sync(file)


def _write_shard(
    file: IO[bytes], group: pa.Table | None, groups: Iterator[pa.Table], schema: pa.Schema
) -> tuple[pa.Table | None, int]:
    """Write groups until the file is large; the group that is next, and how many rows there are."""
    from pyarrow.parquet import ParquetWriter

    rows = 0
    with ParquetWriter(file, schema) as writer:
        while group is not None:
            writer.write_table(group)
            rows += group.num_rows
            group = next(groups, None)
            if file.tell() >= _SHARD_BYTES:
                break
    return group, rows


def _groups(made: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches joined into tables of which each is a row group."""
    import pyarrow as pa

    group: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in made:
        group.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
            yield pa.Table.from_batches(group)
            group, rows, size = [], 0, 0
    if group:
        yield pa.Table.from_batches(group)


_Writer: TypeAlias = Callable[[IO[bytes], Iterable[str], _Table], None]


_WRITERS: Mapping[str, _Writer] = {
    ".jsonl": _write_jsonl,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}


# Readers
