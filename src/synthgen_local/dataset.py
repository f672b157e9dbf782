"""Instances of a schema, all of one run: a sequence that files, Arrow and notebooks take.

Knows rows and their schema, not models. What is not a list of Python objects is left to the
libraries that are made for it.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from pydantic import BaseModel

from .data.arrow import arrow_schema, batches, cells
from .data.columns import columns_of
from .data.destinations import Destination, is_stream
from .data.provenance import Origin, refuse_strange_manifest, write_manifest
from .data.readers import read_table
from .data.tables import row_line, write_table
from .errors import OutputError, UsageError
from .schema import RowSchema
from .schema.grammar.json_text import write_value

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_SHOWN = 10  # rows in a notebook


class Dataset(Sequence[Any]):
    """Rows of one schema, in their order; equal to a list of the same instances.

    `redraws` says how often rows were turned down before these, by the check that did so. Nothing
    changes it. What reads Arrow reads it: `pyarrow.table(rows)`, `duckdb.from_arrow(rows)`,
    `polars.DataFrame(rows.to_arrow())`.

    Example: `Dataset([Person(name="Ada", age=36)], Person).to_pandas()`
    """

    __hash__ = None  # type: ignore[assignment] # as lists have none

    def __init__(
        self,
        rows: Iterable[Any],
        schema: RowSchema | type[BaseModel] | dict[str, Any] | str,
        *,
        redraws: Mapping[str, int] | None = None,
        origin: Origin | None = None,
    ) -> None:
        self._rows = tuple(rows)
        self._origin = origin
        self.redraws = dict(redraws or {})
        self.schema = RowSchema.of(schema)

    @property
    def turned_down(self) -> dict[str, float]:
        """The share of all tries that each check turned down.

        Example: `generator.generate(rows=100).turned_down`
        """
        tries = len(self) + sum(self.redraws.values())
        return {check: count / tries for check, count in self.redraws.items()}

    @classmethod
    def load(
        cls,
        path: Destination,
        schema: RowSchema | type[BaseModel] | dict[str, Any] | str | None = None,
    ) -> Dataset:
        """Read what `save` or the command line wrote; every row is checked by the schema.

        Without a schema the rows of a .parquet file or of a folder are dicts, unchecked.
        Raises OutputError for what cannot be read, naming the row but no value.

        Example: `Dataset.load("people.csv", Person)`
        """
        found, lines = read_table(path, None if schema is None else RowSchema.of(schema))
        rows = []
        for number, line in enumerate(lines, 1):
            try:
                rows.append(found.parse(line))
            except ValueError as error:
                raise OutputError(
                    f"{path}, row {number} is no {found.name}: {error}.",
                    hint="Correct it, or give another schema.",
                ) from None
        return cls(rows, found)

    def save(
        self,
        path: Destination,
        *,
        provenance: Mapping[str, Any] | None = None,
        csv_safe: bool = False,
    ) -> None:
        """Write a .jsonl, .csv or .parquet file, or with a "/" at the end a folder of a data set.

        It replaces what has that name, as pandas does. See `write_table`; an apostrophe of
        `csv_safe` stays when the file is loaded. Rows as a TabularGenerator made them, all of them,
        get a manifest beside them, `PATH.manifest.json`, which `synthgen-local verify` reads; it
        holds nothing of the examples. Rows that were changed, sliced, loaded or put together have
        none, and an older one there is deleted. Raises OutputError, and leaves nothing.

        Example: `rows.save("people/", provenance={"licence": "Apache-2.0", "seed": 0})`
        """
        stream = is_stream(path)
        if not stream:
            refuse_strange_manifest(Path(path))
        write_table(path, self._lines(), self.schema, provenance=provenance, csv_safe=csv_safe)
        if not stream:
            unchanged = self._origin is not None and self._origin.made(self._lines())
            write_manifest(Path(path), self._origin if unchanged else None, csv_safe=csv_safe)

    def to_arrow(self) -> pa.Table:
        """Return a table with the types that a .parquet file has."""
        import pyarrow as pa

        columns = columns_of(self.schema.json_schema)
        schema = arrow_schema(columns, {"name": self.schema.name})
        return pa.Table.from_batches(batches(self._lines(), columns, schema), schema)

    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame; integers and flags that may be null stay such, as Int64 and boolean.

        Raises UsageError if pandas is not installed.

        Example: `rows.to_pandas().describe()`
        """
        try:
            import pandas as pd  # noqa: F401 pyarrow makes the frame
        except ImportError as error:
            raise UsageError("pandas is not installed.", hint="pip install pandas") from error
        frame = self.to_arrow().to_pandas(integer_object_nulls=True)
        kept = {"integer": "Int64", "boolean": "boolean"}
        fields = columns_of(self.schema.json_schema).fields
        may_lack = [
            f for f in fields if f.column.type in kept and (f.column.nullable or f.optional)
        ]
        return frame.astype({f.name: kept[str(f.column.type)] for f in may_lack})

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Dataset: ...
    def __getitem__(self, index: int | slice) -> Any:
        found = self._rows[index]
        return Dataset(found, self.schema) if isinstance(index, slice) else found

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | Dataset):
            return NotImplemented
        return list(self._rows) == list(other)

    def __repr__(self) -> str:
        return f"<Dataset: {len(self)} rows of {self.schema.name}>"

    def _repr_html_(self) -> str:
        """A table of the first rows, for notebooks."""
        columns = columns_of(self.schema.json_schema)
        rows = [cells(self.schema.dump(row), columns, n) for n, row in enumerate(self[:_SHOWN], 1)]
        body = "".join(_html_row("td", map(_shown, row)) for row in rows)
        caption = f"{len(self)} rows of {self.schema.name}"
        return (
            f"<table><caption>{html.escape(caption)}</caption>"
            f"<thead>{_html_row('th', columns.names)}</thead><tbody>{body}</tbody></table>"
        )

    def _lines(self) -> Iterator[str]:
        return (row_line(row, self.schema) for row in self._rows)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else write_value(value)


def _html_row(tag: str, texts: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(text)}</{tag}>' for text in texts)}</tr>"
