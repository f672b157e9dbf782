"""Files of rows, read back by the libraries that people read them with."""

from __future__ import annotations

import csv
import json
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from pydantic import BaseModel, Field
from pydantic_core import PydanticSerializationError

from synthgen_local import OutputError
from synthgen_local.schema import RowSchema
from synthgen_local.tables import plain_schema, write_table


class Kind(Enum):
    """An enum."""

    A = "a"


class Inner(BaseModel):
    """A nested model."""

    x: int | None


class Line(BaseModel):
    """A row with one of each kind of cell."""

    name: str = Field(alias="the name")
    born: date
    price: Decimal
    kind: Kind
    inner: Inner
    tags: list[str]
    ok: bool
    mixed: int | str


SCHEMA = RowSchema.of(Line)
TEXT = (
    '{"the name":"a, \\"b\\"","born":"2020-02-29","price":"1.50","kind":"a",'
    '"inner":{"x":null},"tags":["é"],"ok":true,"mixed":%s}'
)
ROWS = [SCHEMA.parse(TEXT % "1"), SCHEMA.parse(TEXT % '"one"')]


def test_jsonl(tmp_path: Path) -> None:
    """A row a line, in the text of the grammar, that the schema reads again."""
    write_table(tmp_path / "a.jsonl", ROWS, SCHEMA)
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()

    assert lines == [TEXT % "1", TEXT % '"one"']
    assert [SCHEMA.parse(line) for line in lines] == ROWS


def test_csv(tmp_path: Path) -> None:
    """RFC 4180: CRLF, quotes doubled, nested values as JSON text, a header of aliases."""
    write_table(tmp_path / "a.csv", ROWS, SCHEMA)
    data = (tmp_path / "a.csv").read_bytes()
    records = list(csv.DictReader(data.decode().splitlines()))

    assert data.count(b"\r\n") == 3
    assert records[0]["the name"] == 'a, "b"'
    assert json.loads(records[0]["inner"]) == {"x": None}
    assert records[0]["ok"] == "true"


def test_parquet(tmp_path: Path) -> None:
    """Dates, decimals, structs and lists are such; a column of several types is JSON text."""
    write_table(tmp_path / "a.parquet", ROWS, SCHEMA)
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    first, second = table.to_pylist()

    assert (first["born"], first["price"]) == (date(2020, 2, 29), Decimal("1.50"))
    assert (first["inner"], first["tags"], first["kind"]) == ({"x": None}, ["é"], "a")
    assert (first["mixed"], second["mixed"]) == ("1", '"one"')
    assert table.column_names[0] == "the name"


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_no_rows_are_a_table_too(suffix: str, tmp_path: Path) -> None:
    """An empty table has its columns, and replaces what was there in one step."""
    path = tmp_path / f"a{suffix}"
    path.write_text("old")
    write_table(path, [], SCHEMA)

    assert path.read_bytes() != b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["a.txt", "missing/a.csv", "folder.csv"])
def test_bad_destinations(name: str, tmp_path: Path) -> None:
    """An unknown suffix, a missing folder and a folder's name are refused with a hint."""
    (tmp_path / "folder.csv").mkdir()

    with pytest.raises(OutputError) as caught:
        write_table(tmp_path / name, ROWS, SCHEMA)
    assert caught.value.hint


def test_nothing_is_left_of_a_failed_write(tmp_path: Path) -> None:
    """A row that cannot be written leaves neither the file nor a part of it."""
    with pytest.raises(PydanticSerializationError):
        write_table(tmp_path / "a.jsonl", [*ROWS, object()], SCHEMA)

    assert list(tmp_path.iterdir()) == []


def test_plain_rows(tmp_path: Path) -> None:
    """Dicts of JSON values need no model, only the names of their columns."""
    rows = [{"text": "a", "spans": [{"start": 0}]}, {"text": "b", "spans": []}]
    schema = plain_schema("text", "spans")
    for suffix in ("jsonl", "csv", "parquet"):
        write_table(tmp_path / f"a.{suffix}", rows, schema)

    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == rows
    assert (tmp_path / "a.csv").read_text().splitlines()[1:] == ['a,"[{""start"":0}]"', "b,[]"]
    assert pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist() == rows


@pytest.mark.parametrize(
    "values", [["one", 1], [1, "one"], [{}, {}], [{"a": {}}], [[{}]], [["a"], {"a": 1}], [2**70]]
)
def test_what_parquet_has_no_type_for(values: list[Any], tmp_path: Path) -> None:
    """Values of several types, objects without keys and vast numbers become JSON text."""
    rows = [{"n": 1, "value": value} for value in values]
    write_table(tmp_path / "a.parquet", rows, plain_schema("n", "value"))
    read = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist()

    assert [json.loads(row["value"]) for row in read] == values
    assert {row["n"] for row in read} == {1}
