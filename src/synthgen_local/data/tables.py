"""Rows as files: .jsonl, .csv, .parquet, and folders that the Hugging Face hub understands.

Rows go in as lines of JSON text, in one pass, and come out as such; what they hold besides is
read from their schema. A file or folder is written whole beside its destination and moved into
place, so that nobody sees half of it; a pipe gets each row at once. Knows JSON values and
instances, not models or grammars.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from ..errors import OutputError, UsageError
from ..schema import RowSchema
from ..schema.grammar.lark import write_value
from ..system.atomic_write import is_pinned, sync, whole_file, whole_folder, write_hint
from .arrow import (
    about_rows,
    arrow_schema,
    batches,
    cells,
    lines_of,
    row_of,
    through_columns,
)
from .columns import Columns, ColumnType, Decimals, columns_of, is_string
from .dataset_card import DATA, is_card, write_card

if TYPE_CHECKING:
    import pyarrow as pa

Destination: TypeAlias = str | os.PathLike[str]
"""A file by its suffix, a folder by a `/` at its end, or a pipe."""

_FOLDER = "/"
_LONGEST_NAME = 230  # bytes; 255 less what is put behind it
_STREAMS = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/")
_GROUP_ROWS = 100_000
_GROUP_BYTES = 1 << 24
_SHARD_BYTES = 1 << 28  # the hub asks for files well below a gigabyte
_READ_ROWS = 1000
_FORMULA = "[=+\\-@\\t\\r\uff1d\uff0b\uff0d\uff20]"  # begins a cell that a spreadsheet calculates
_PART = r"(?:\A|(?<=[,;|\t\r\n]))"  # where a cell may begin, by whichever separator
_BEFORE_FORMULA = re.compile(rf"{_PART}(?=['\" ]*{_FORMULA})|\A(?='*\n)")
_APOSTROPHE = re.compile(rf"{_PART}'(?=['\" ]*{_FORMULA})|\A'(?='*\n)")
_IN_JSON = re.compile(
    r"""([;|]['\\" ]*(?=-)|[,;|]['\\" ]*(?!-))([=+\-@\uff1d\uff0b\uff0d\uff20])"""
)


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


def check_destination(path: Destination, *, csv_safe: bool = False) -> None:
    """Raise OutputError if rows could not be written to `path`: before any work is done.

    Raises UsageError if `csv_safe` is asked for and it is no .csv.

    Example: `check_destination("people.parquet")`
    """
    kind, where = _kind(path), Path(path).absolute()
    if csv_safe and kind != ".csv":
        raise UsageError(f"{path} is no .csv: no cell is a formula in it.", hint="Leave it out.")
    if not 0 < len(os.fsencode(Path(path).name)) <= _LONGEST_NAME:
        raise OutputError(f"{path} has no name, or too long a one.", hint="Choose another.")
    if is_stream(where):
        writable = where
    elif not where.parent.is_dir():
        raise OutputError(
            f"The folder {Path(path).parent} does not exist.",
            hint=f"Make it: mkdir -p {Path(path).parent}",
        )
    else:
        writable = Path(path).parent
    if not os.access(writable, os.W_OK):
        what = "" if writable is where else "The folder "
        raise OutputError(f"{what}{writable} cannot be written.", hint="Choose another place.")
    if kind == _FOLDER:
        _check_replaceable(where)
    elif where.is_dir():
        raise OutputError(f"{path} is a folder.", hint="Name a file, or end it with a /.")
    elif not is_stream(where) and is_pinned(where):
        raise OutputError(f"{path} may not be replaced by you.", hint="Choose another place.")


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
    kind, where = _kind(path), Path(path).absolute()
    try:
        if is_stream(where):
            with where.open("ab") as file:
                _WRITERS[kind](file, _flushed(lines, file), table)
        elif kind == _FOLDER:
            with whole_folder(where, _check_replaceable, scratch=scratch, ready=ready) as folder:
                _write_folder(folder, lines, table)
        else:
            with whole_file(where, scratch=scratch, ready=ready) as file:
                _WRITERS[kind](file, lines, table)
    except BrokenPipeError:
        raise  # the reader has had enough
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror}.", hint=write_hint(error)
        ) from error


def read_table(
    path: Destination, schema: RowSchema | None = None, *, csv_safe: bool = False
) -> tuple[RowSchema, Iterator[str]]:
    """Return the schema of a file or folder of rows, and its rows, each as a line of JSON text.

    Without a schema a .parquet file or a folder of ours gives its own, whose rows are dicts.
    `csv_safe` takes the apostrophes away again that `write_table` put there. The rows have not
    been checked. Raises OutputError for what cannot be read, now or later.

    Example: `schema, lines = read_table("people.parquet")`
    """
    kind, where = _kind(path), Path(path)
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
    if _kind(path) in (".parquet", _FOLDER):
        return through_columns(lines, columns_of(schema.json_schema))
    return iter(lines)


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


def _kind(path: Destination) -> str:
    """The suffix of a file's format, or `_FOLDER`."""
    where = Path(path)
    suffix = where.suffix.lower()
    if is_stream(where):
        return suffix if suffix in _WRITERS else ".jsonl"
    if os.fspath(path).endswith(_FOLDER) or _is_ours(where):
        return _FOLDER
    if suffix in _WRITERS:
        return suffix
    raise OutputError(
        f"{path} has no known suffix.", hint=f"Use {', '.join(_WRITERS)}, or end it with a /."
    )


def is_stream(path: Destination) -> bool:
    """Whether a path is a pipe or a device; what it gets cannot be taken back."""
    if str(path).startswith(_STREAMS):
        return True
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _is_ours(path: Path) -> bool:
    try:
        return is_card((path / "README.md").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return False


def _check_replaceable(path: Path) -> None:
    """Raise OutputError for a folder with anything in it that `_write_folder` did not write."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise OutputError(f"{path} is no folder.", hint="Choose another name.")
    if not path.exists() or not any(path.iterdir()):
        return
    other = next(_others(path), None)
    if other is not None or not _is_ours(path):
        named = f" It holds {other.relative_to(path)}." if other is not None else ""
        raise OutputError(
            f"The folder {path} is no data set of this program.{named}",
            hint="Choose another name, or remove it.",
        )


def _others(path: Path) -> Iterator[Path]:
    """What is in a folder besides the parts of a data set."""
    for entry in path.iterdir():
        if entry.name == "data" and entry.is_dir() and not entry.is_symlink():
            yield from (file for file in entry.iterdir() if not file.match(DATA))
        elif entry.name != "README.md":
            yield entry


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
    return f"{','.join(texts) or _quoted('')}\r\n".encode()


def _cell(value: Any, kind: ColumnType, *, safe: bool) -> str:
    if value is None:
        return ""
    text = value if is_string(kind) else write_value(value)
    if safe and not isinstance(kind, Decimals):
        text = _safe(text) if is_string(kind) else _safe_json(text)
    return _quoted(text) if not text or any(mark in text for mark in ',"\r\n') else text


def _safe(text: str) -> str:
    """An apostrophe before each part that a spreadsheet would calculate, whatever separates cells.

    A quote may stand between: from the second column on it is a letter, by another separator.
    """
    return _BEFORE_FORMULA.sub("'", text)


def _safe_json(text: str) -> str:
    """JSON text in which such a sign is written by its number: it can stand in strings only."""
    return _IN_JSON.sub(lambda match: f"{match[1]}\\u{ord(match[2]):04x}", text)


def _plain(text: str) -> str:
    """What `_safe` was given."""
    return _APOSTROPHE.sub("", text)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


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
    convert = csv.ConvertOptions(
        column_types={_safe(name) if safe else name: pa.string() for name in columns.names},
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    read = csv.ReadOptions(block_size=max(1, min(path.stat().st_size, 1 << 30)))
    parse = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
    table = csv.read_csv(path, read, parse, convert)
    table = table.rename_columns([_plain(name) if safe else name for name in table.column_names])
    _check_names(path, table.column_names, columns)
    kinds = [field.column.type for field in columns.fields]
    for batch in table.select(columns.names).to_batches(_READ_ROWS):
        for texts in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            cells = map(partial(_uncelled, safe=safe), texts, kinds)
            yield write_value(row_of(columns, cells))


def _uncelled(text: str | None, kind: ColumnType, *, safe: bool) -> Any:
    if text is None or is_string(kind):
        return _plain(text) if safe and text else text
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
