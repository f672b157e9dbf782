"""Files of rows, read back by the libraries that people read them with."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NotRequired, Optional

import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, Field, create_model
from pydantic_core import PydanticSerializationError
from random_rows import decode
from test_construction import JSON_SCHEMAS, types
from test_types import TYPES
from typing_extensions import TypedDict

from synthgen_local import OutputError, SchemaError, UsageError
from synthgen_local.data import tables
from synthgen_local.data.destinations import check_destination
from synthgen_local.data.readers import read_table
from synthgen_local.data.tables import plain_schema, row_line, write_table
from synthgen_local.schema import RowSchema, compile_schema

FORMATS = ["a.jsonl", "a.csv", "a.parquet", "a/"]


class Kind(Enum):
    """An enum."""

    A = "a"


class Inner(BaseModel):
    """A nested model."""

    x: int | None
    when: list[date]


class Line(BaseModel):
    """A row with one of each kind of cell."""

    name: str = Field(alias="the name")
    born: date
    price: Annotated[Decimal, Field(max_digits=7, decimal_places=2)]
    kind: Kind
    inner: Inner
    tags: list[str]
    ok: bool
    mixed: int | str
    seen: datetime
    sent: AwareDatetime
    at: time
    took: timedelta
    share: float
    maybe: Optional[str]


SCHEMA = RowSchema.of(Line)
LINES = [
    '{"the name":"a, \\"b\\"","born":"2020-02-29","price":"1.50","kind":"a",'
    '"inner":{"x":null,"when":["1999-12-31"]},"tags":["é"],"ok":true,"mixed":1,'
    '"seen":"2020-01-02T03:04:05.000006","sent":"2020-01-02T03:04:05Z","at":"23:59:59",'
    '"took":"-PT1.5S","share":-0.00001,"maybe":null}',
    '{"the name":"","born":"0001-01-01","price":"-99999.99","kind":"a",'
    '"inner":{"x":-5,"when":[]},"tags":[],"ok":false,"mixed":"1",'
    '"seen":"9999-12-31T23:59:59","sent":"1900-01-01T00:00:00Z","at":"00:00:00",'
    '"took":"P400D","share":1e5,"maybe":""}',
]
ROWS = [SCHEMA.parse(line) for line in LINES]
RECORDS = [
    {
        "the name": 'a, "b"', "born": date(2020, 2, 29), "price": Decimal("1.50"), "kind": "a",
        "inner": {"x": None, "when": [date(1999, 12, 31)]}, "tags": ["é"], "ok": True, "mixed": "1",
        "seen": datetime(2020, 1, 2, 3, 4, 5, 6), "sent": datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC),
        "at": time(23, 59, 59), "took": timedelta(seconds=-1.5), "share": -0.00001, "maybe": None,
    },
    {
        "the name": "", "born": date(1, 1, 1), "price": Decimal("-99999.99"), "kind": "a",
        "inner": {"x": -5, "when": []}, "tags": [], "ok": False, "mixed": '"1"',
        "seen": datetime(9999, 12, 31, 23, 59, 59), "sent": datetime(1900, 1, 1, tzinfo=UTC),
        "at": time(0), "took": timedelta(days=400), "share": 1e5, "maybe": "",
    },
]  # fmt: skip


def write(folder: Path, name: str, lines: Any = LINES, schema: RowSchema = SCHEMA) -> str:
    """Write a table and return its path, slash included."""
    path = f"{folder}/{name}"
    write_table(path, iter(lines), schema)
    return path


def read(path: str, schema: RowSchema = SCHEMA) -> list[Any]:
    """The instances of a table."""
    return [schema.parse(line) for line in read_table(path, schema)[1]]


def test_jsonl(tmp_path: Path) -> None:
    """The lines as they are, each ended by a newline."""
    assert Path(write(tmp_path, "a.jsonl")).read_bytes().decode() == "\n".join([*LINES, ""])


def test_csv(tmp_path: Path) -> None:
    """RFC 4180: CRLF, quotes doubled, nested values as JSON text, a header of aliases."""
    data = Path(write(tmp_path, "a.csv")).read_bytes().decode()
    lines = data.split("\r\n")
    records = list(csv.DictReader(lines))

    assert (len(lines), data.replace("\r\n", "").count("\n")) == (4, 0)
    assert lines[1].startswith('"a, ""b""",2020-02-29,1.50,a,"{""x"":null,')
    assert lines[1].endswith(",-PT1.5S,-0.00001,")
    assert lines[2].startswith('"",')
    assert lines[2].endswith(',""')
    assert json.loads(records[0]["inner"]) == {"x": None, "when": ["1999-12-31"]}
    assert (records[0]["ok"], records[0]["mixed"], records[1]["mixed"]) == ("true", "1", '"1"')


def test_pandas_reads_csv(tmp_path: Path) -> None:
    """Numbers, flags and dates are such to a reader that guesses."""
    import pandas as pd

    frame = pd.read_csv(write(tmp_path, "a.csv"), parse_dates=["sent"])

    assert frame["price"].tolist() == [1.5, -99999.99]
    assert frame["ok"].tolist() == [True, False]
    assert frame["sent"].tolist() == [record["sent"] for record in RECORDS]


@pytest.mark.parametrize("name", ["a.parquet", "a/"])
def test_pyarrow_pandas_and_polars(name: str, tmp_path: Path) -> None:
    """Each reads the same values, each of the type that the schema says."""
    import pandas as pd
    import polars as pl

    path = write(tmp_path, name)
    table = pyarrow.parquet.read_table(path if name == "a.parquet" else f"{path}data")
    frame = pd.read_parquet(path if name == "a.parquet" else f"{path}data")
    files = path if name == "a.parquet" else f"{path}data/*.parquet"

    assert table.to_pylist() == RECORDS
    assert pl.read_parquet(files).to_dicts() == RECORDS
    assert str(frame["seen"].dtype).startswith("datetime64")
    assert str(frame["sent"].dtype).endswith(", UTC]")
    assert str(frame["took"].dtype).startswith("timedelta64")
    for column in ("the name", "born", "price", "ok", "seen", "sent", "took", "share"):
        assert frame[column].tolist() == [record[column] for record in RECORDS]


@pytest.mark.parametrize("name", ["a.parquet", "a/data/*.parquet"])
def test_duckdb(name: str, tmp_path: Path) -> None:
    """It reads all but durations, which it takes for microseconds."""
    import duckdb

    write(tmp_path, name.partition("/data")[0] + "/" * ("/" in name))
    columns = [name for name in RECORDS[0] if name not in ("took", "sent")]
    chosen = ", ".join(f'"{column}"' for column in columns)
    found = duckdb.sql(
        f"SELECT {chosen}, took, epoch_us(sent) AS sent FROM read_parquet('{tmp_path}/{name}')"
    ).fetchall()

    for row, record in zip(found, RECORDS, strict=True):
        assert dict(zip(columns, row, strict=False)) == {k: record[k] for k in columns}
        assert row[-2:] == (
            record["took"] // timedelta(microseconds=1),
            (record["sent"] - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1),
        )


def test_datasets_reads_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`load_dataset` finds the split and the types, with nothing said but the folder."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    import datasets

    datasets.disable_progress_bars()
    path = write(tmp_path, "people/")
    loaded = datasets.load_dataset(path, cache_dir=str(tmp_path / "cache"))
    rows = loaded["train"]

    assert list(loaded) == ["train"]
    assert rows.features["price"].dtype == "decimal128(7, 2)"
    assert rows.features["sent"].dtype == "timestamp[us, tz=UTC]"
    assert rows.to_list() == RECORDS


def test_metadata(tmp_path: Path) -> None:
    """A .parquet file says its schema, which columns are JSON text, and where it comes from."""
    path = tmp_path / "a.parquet"
    write_table(path, LINES, SCHEMA, provenance={"model": "m", "seed": 0})
    about = json.loads(pyarrow.parquet.read_schema(path).metadata[b"synthgen_local"])

    assert about == {
        "name": "Line",
        "schema": SCHEMA.json_schema,
        "json": ["$.mixed"],
        "provenance": {"model": "m", "seed": 0},
    }


@pytest.mark.parametrize("name", FORMATS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    """What is read back are the instances that were written."""
    assert read(write(tmp_path, name)) == ROWS


@pytest.mark.parametrize("name", [name for name in TYPES if "Iterable" not in name])
def test_each_type_comes_back(name: str, tmp_path: Path) -> None:
    """Rows of every type that pydantic documents are the same from every format."""
    for kind in TYPES[name]:
        grammar = compile_schema(RowSchema.of(create_model("Row", field=(kind, ...), n=(int, ...))))
        if grammar.certificate.guarantee == "construction":
            _come_back(decode(grammar, salt=1, rows=3), grammar.schema, tmp_path)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(types, min_size=2, max_size=4), st.integers(0, 2**32 - 1))
def test_rows_of_any_model_come_back(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[Any], salt: int
) -> None:
    """Rows of random models are the same from every format."""
    model = create_model("Model", **{f"field_{i}": (kind, ...) for i, kind in enumerate(kinds)})
    try:
        grammar = compile_schema(RowSchema.of(model))
    except SchemaError:
        assume(False)
    assume(grammar.longest < 20_000)

    lines = decode(grammar, salt, rows=3)
    _come_back(lines, grammar.schema, tmp_path_factory.mktemp("tables"))


@pytest.mark.parametrize("schema", JSON_SCHEMAS, ids=[str(i) for i in range(len(JSON_SCHEMAS))])
def test_rows_of_json_schemas_come_back(schema: dict[str, Any], tmp_path: Path) -> None:
    """Rows that are dicts, lists or numbers do so too; null may take the place of what is missing.

    Moments come back in UTC.
    """
    grammar = compile_schema(RowSchema.of(schema))
    lines = decode(grammar, salt=3, rows=6)
    if "date-time" in json.dumps(schema):
        lines = [json.dumps({"w": "2020-02-03T04:05:06Z", "t": "12:00:00+01:00"}), "{}"]
    rows = [json.loads(line) for line in lines]
    for name in FORMATS:
        found = read(write(tmp_path, name, lines, grammar.schema), grammar.schema)
        assert [_without_null(row) for row in found] == [_without_null(row) for row in rows]


def _without_null(row: Any) -> Any:
    return {k: v for k, v in row.items() if v is not None} if isinstance(row, dict) else row


def _come_back(lines: list[str], schema: RowSchema, folder: Path) -> None:
    rows = [schema.parse(line) for line in lines]
    written = [row_line(row, schema) for row in rows]
    for name in FORMATS:
        assert read(write(folder, name, written, schema), schema) == rows, name


def test_what_is_missing_is_not_null(tmp_path: Path) -> None:
    """A key that was left out and cannot be null is left out again."""

    class Movie(TypedDict):
        title: str
        year: NotRequired[int]

    schema = RowSchema.of(Movie)
    lines = ['{"title":"a"}', '{"title":"b","year":1999}']

    for name in FORMATS:
        path = write(tmp_path, name, lines, schema)
        assert list(read_table(path, schema)[1]) == lines


def test_a_column_alone(tmp_path: Path) -> None:
    """A row of one empty cell is a line that readers do not pass over."""
    schema = RowSchema.of(create_model("Row", only=(Optional[int], ...)))
    path = write(tmp_path, "a.csv", ['{"only":null}', '{"only":1}'], schema)

    assert Path(path).read_text().splitlines() == ["only", '""', "1"]
    assert [row.only for row in read(path, schema)] == [None, 1]


def test_without_a_schema(tmp_path: Path) -> None:
    """A .parquet file and a folder say their own: JSON values; others ask for it."""
    for name in ("a.parquet", "a/"):
        schema, lines = read_table(write(tmp_path, name))
        rows = [json.loads(line) for line in lines]
        assert (schema.name, schema.json_schema) == ("Line", SCHEMA.json_schema)
        assert [row["born"] for row in rows] == ["2020-02-29", "0001-01-01"]
        assert [row["mixed"] for row in rows] == [1, "1"]
    with pytest.raises(OutputError, match="does not say its schema"):
        read_table(write(tmp_path, "a.csv"))


def test_a_schema_that_has_changed_since(tmp_path: Path) -> None:
    """A file is read by the types that it was written with, its rows then checked by the new."""
    before = RowSchema.of(create_model("Row", n=(int | str, ...)))
    path = write(tmp_path, "a.parquet", ['{"n":"1"}'], before)

    assert read(path, RowSchema.of("n"))[0].n == "1"
    with pytest.raises(ValueError, match="n: "):
        read(path, RowSchema.of("n date"))


def test_files_of_other_programs(tmp_path: Path) -> None:
    """A .parquet file without our metadata is read by a schema that fits it, and by no other."""
    import pandas as pd

    pd.DataFrame({"name": ["Ada"], "age": [36]}).to_parquet(tmp_path / "a.parquet")
    lines = list(read_table(tmp_path / "a.parquet", RowSchema.of("age int, name"))[1])

    assert lines == ['{"age":36,"name":"Ada"}']
    for fields in ("name", "name, age date", "name, age int, city"):
        with pytest.raises(OutputError):
            list(read_table(tmp_path / "a.parquet", RowSchema.of(fields))[1])
    with pytest.raises(OutputError, match="does not say its schema"):
        read_table(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "name", ["gone.jsonl", "gone.parquet", "gone/", "not.parquet", "not.jsonl"]
)
def test_what_cannot_be_read(name: str, tmp_path: Path) -> None:
    """A missing file and one of other bytes are an error that says so in a line."""
    for file in ("not.parquet", "not.jsonl"):
        (tmp_path / file).write_bytes(b"\xff\xfe secret")

    with pytest.raises(OutputError) as caught:
        list(read_table(f"{tmp_path}/{name}", SCHEMA)[1])
    assert "secret" not in str(caught.value)
    assert caught.value.hint


def test_broken_cells(tmp_path: Path) -> None:
    """A cell that is no number, and one that would add a field, are refused without being shown."""
    schema = RowSchema.of("age int")
    for cell in ("secret", '"1,""name"":""secret"""'):
        (tmp_path / "a.csv").write_text(f"age\r\n{cell}\r\n")
        with pytest.raises(OutputError) as caught:
            list(read_table(tmp_path / "a.csv", schema)[1])
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", FORMATS)
def test_no_rows_are_a_table_too(name: str, tmp_path: Path) -> None:
    """An empty table has its columns, and replaces what was there in one step."""
    path = write(tmp_path, name)
    assert write(tmp_path, name, []) == path

    assert read(path) == []
    assert [entry.name for entry in tmp_path.iterdir()] == [name.rstrip("/")]


@pytest.mark.parametrize("name", ["a.txt", "a", "missing/a.csv", "missing/a/", "folder.csv"])
def test_bad_destinations(name: str, tmp_path: Path) -> None:
    """An unknown suffix, a missing folder and a folder's name are refused with a hint."""
    (tmp_path / "folder.csv").mkdir()

    with pytest.raises(OutputError) as caught:
        write_table(tmp_path / name if name[-1] != "/" else f"{tmp_path}/{name}", LINES, SCHEMA)
    assert caught.value.hint


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_left_of_a_failed_write(name: str, tmp_path: Path) -> None:
    """Rows that end in an error leave neither the file nor a part of it."""

    def lines() -> Iterator[str]:
        yield LINES[0]
        row_line(object(), SCHEMA)

    with pytest.raises(PydanticSerializationError):
        write(tmp_path, name, lines())
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_stays_when_a_write_fails(tmp_path: Path) -> None:
    """A file and a folder of before are still there, whole."""
    for name in FORMATS:
        path = write(tmp_path, name)
        with pytest.raises(ZeroDivisionError):
            write(tmp_path, name, (LINES[1 // (i - 1)] for i in (0, 1)))
        assert read(path) == ROWS
    assert len(list(tmp_path.iterdir())) == len(FORMATS)


def test_modes(tmp_path: Path) -> None:
    """Files and folders have the mode that the user's mask gives, not that of a scratch file."""
    for name in FORMATS:
        write(tmp_path, name)
    mask = os.umask(0)
    os.umask(mask)

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o666 & ~mask}
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o777 & ~mask


def test_a_folder_is_not_replaced_unless_it_is_ours(tmp_path: Path) -> None:
    """An empty folder and a data set are replaced; what holds anything else is left alone."""
    folder = tmp_path / "people"
    folder.mkdir()
    write(tmp_path, "people/")
    write_table(folder, LINES[:1], SCHEMA)  # no slash is needed for what is there
    assert len(read(f"{folder}/")) == 1

    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"It holds notes\.txt"):
        check_destination(f"{folder}/")
    with pytest.raises(OutputError, match=r"It holds notes\.txt"):
        write(tmp_path, "people/")
    (folder / "notes.txt").unlink()
    (folder / "README.md").write_text("# Mine")
    with pytest.raises(OutputError, match="no data set of this program"):
        write(tmp_path, "people/")
    assert (folder / "README.md").read_text() == "# Mine"
    (folder / "README.md").unlink()
    (folder / "data" / "mine.parquet").touch()
    with pytest.raises(OutputError, match=r"It holds data/mine\.parquet"):
        write(tmp_path, "people/")
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(OutputError, match="is no folder"):
        write(tmp_path, "link/")


def test_a_folder_that_gets_files_meanwhile(tmp_path: Path) -> None:
    """What somebody puts into the folder while rows are made is not deleted."""
    write(tmp_path, "people/")

    def lines() -> Iterator[str]:
        (tmp_path / "people" / "notes.txt").write_text("mine")
        yield LINES[0]

    with pytest.raises(OutputError, match=r"notes\.txt"):
        write(tmp_path, "people/", lines())
    assert (tmp_path / "people" / "notes.txt").read_text() == "mine"
    assert len(read(f"{tmp_path}/people/")) == 2


def test_shards_and_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large folder has several files, numbered and counted, and no row is lost between them."""
    monkeypatch.setattr(tables, "_SHARD_BYTES", 1)
    monkeypatch.setattr(tables, "_GROUP_ROWS", 1000)
    schema = RowSchema.of("n int")
    path = write(tmp_path, "a/", (f'{{"n":{n}}}' for n in range(3000)), schema)

    assert sorted(p.name for p in Path(path, "data").iterdir()) == [
        f"train-0000{n}-of-00003.parquet" for n in range(3)
    ]
    assert [row.n for row in read(path, schema)] == list(range(3000))


FORMULAS = ["=1+1", "+1", "-1", "@a", "\ta", "\ra", "'=1", "a=1", ""]


def test_formulas(tmp_path: Path) -> None:
    """`csv_safe` puts an apostrophe before text that begins as a formula; numbers stay numbers."""
    model = create_model("Row", text=(str, ...), n=(int, ...), d=(Decimal, ...), u=(int | str, ...))
    schema = RowSchema.of(model)
    rows = [model(text=text, n=-1, d=Decimal("-1.5"), u="=1") for text in FORMULAS]
    lines = [row_line(row, schema) for row in rows]
    write_table(tmp_path / "a.csv", lines, schema, csv_safe=True)
    with (tmp_path / "a.csv").open(newline="") as file:
        cells = list(csv.reader(file))[1:]

    assert [row[0] for row in cells] == [
        "'=1+1", "'+1", "'-1", "'@a", "'\ta", "'\ra", "''=1", "a=1", "",
    ]  # fmt: skip
    assert {tuple(row[1:]) for row in cells} == {("-1", "-1.5", '"=1"')}
    _, back = read_table(tmp_path / "a.csv", schema, csv_safe=True)
    assert list(back) == lines
    write_table(tmp_path / "a.csv", lines, schema)
    assert read(str(tmp_path / "a.csv"), schema) == rows


def test_a_formula_as_a_name(tmp_path: Path) -> None:
    """The header has cells of text as well."""
    schema = plain_schema("=a", "b")
    write_table(tmp_path / "a.csv", ['{"=a":1,"b":2}'], schema, csv_safe=True)

    assert (tmp_path / "a.csv").read_text().splitlines()[0] == "'=a,b"
    assert list(read_table(tmp_path / "a.csv", schema, csv_safe=True)[1]) == ['{"=a":1,"b":2}']


SIGNS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r")
PARTS = st.text(st.sampled_from("=+-@\uff1d\t\r\n,;|'\" x1"), max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(PARTS, st.lists(PARTS, max_size=2)), min_size=1, max_size=3))
def test_csv_safe_holds_by_any_separator(rows: list[tuple[str, list[str]]]) -> None:
    """No part of a cell begins as a formula, by whichever separator it is read; it comes back."""
    schema = RowSchema.of({
        "type": "object",
        "properties": {
            "n": {"type": "integer"},
            "text": {"type": "string"},
            "list": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["n", "text", "list"],
    })  # fmt: skip
    lines = [row_line({"n": -5, "text": text, "list": items}, schema) for text, items in rows]
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.csv")
        write_table(path, lines, schema, csv_safe=True)
        written = path.read_bytes().decode()
        assert list(read_table(path, schema, csv_safe=True)[1]) == lines

    for separator in ",;|\t":
        for row in csv.reader(io.StringIO(written, newline=""), delimiter=separator):
            cells = [cell.lstrip("\"' ") if cell[:1] != "'" else "" for cell in row]
            found = [cell for cell in cells if cell.startswith(SIGNS)]
            assert not [cell for cell in found if not cell.startswith("-5")]


def test_csv_safe_examples(tmp_path: Path) -> None:
    """Separators of other programs, and what may stand between one and a sign."""
    schema = RowSchema.of("a, b")
    for text, safe in (
        ("x;=HYPERLINK(1)", "x;'=HYPERLINK(1)"),
        ("x\t=1+1", "x\t'=1+1"),
        ("x|@SUM(1)", "x|'@SUM(1)"),
        ('x; "=1', "x;' \"=1"),
        ("x\n\uff1d1", "x\n'\uff1d1"),
        (" =1", "' =1"),
        ("1; 2 - 3 = 4", "1; 2 - 3 = 4"),
    ):
        line = row_line({"a": "5", "b": text}, schema)
        write_table(tmp_path / "a.csv", [line], schema, csv_safe=True)
        with (tmp_path / "a.csv").open(newline="") as file:
            assert list(csv.reader(file))[1] == ["5", safe]
        assert list(read_table(tmp_path / "a.csv", schema, csv_safe=True)[1]) == [line]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a/"])
def test_csv_safe_is_for_csv(name: str, tmp_path: Path) -> None:
    """Asked for with another format it is an error, not forgotten."""
    with pytest.raises(UsageError):
        write_table(f"{tmp_path}/{name}", LINES, SCHEMA, csv_safe=True)
    assert list(tmp_path.iterdir()) == []


MISFITS: list[tuple[str, str]] = [
    ("n int", '{"n":9223372036854775808}'),
    ("n float", '{"n":36893488147419103233}'),
    ("n decimal", '{"n":"0.0000000000000000001"}'),
    ("n datetime", '{"n":"2020-01-01T00:00:00Z"}'),
    ("n time", '{"n":"12:00:00Z"}'),
    ("n int", '{"n":1,"more":2}'),
]


@pytest.mark.parametrize(("fields", "line"), MISFITS)
def test_what_has_no_place_in_a_column(fields: str, line: str, tmp_path: Path) -> None:
    """A value that its column would change or lose is an error that names the row only."""
    schema = RowSchema.of(f"{fields}, m")
    lines = ['{"m":"","n":null}'] * 1500 + [line.replace("{", '{"m":"",')]

    with pytest.raises(OutputError, match="Row 1501") as caught:
        write(tmp_path, "a.parquet", lines, schema)
    assert not any(digits in str(caught.value) for digits in ("9223", "3689", "0.000", "2020"))
    assert list(tmp_path.iterdir()) == []


def test_nested_fields_without_a_column(tmp_path: Path) -> None:
    """Arrow would leave them out in silence."""
    schema = plain_schema(a={"type": "object", "properties": {"x": {"type": "integer"}}})

    with pytest.raises(OutputError, match="Row 1: 'a' does not fit"):
        write(tmp_path, "a.parquet", ['{"a":{"x":1,"y":2}}'], schema)


def test_moments_finer_than_a_column(tmp_path: Path) -> None:
    """Python would cut nanoseconds."""
    schema = plain_schema(a={"type": "string", "format": "date-time"})
    fine, finer = "2020-01-01T00:00:00.123456+05:30", "2020-01-01T00:00:00.1234567Z"

    path = write(tmp_path, "a.parquet", [json.dumps({"a": fine})], schema)
    assert list(read_table(path, schema)[1]) == ['{"a":"2019-12-31T18:30:00.123456Z"}']
    with pytest.raises(OutputError, match="Row 1"):
        write(tmp_path, "a.parquet", [json.dumps({"a": finer})], schema)


def test_floats_beyond_53_bits(tmp_path: Path) -> None:
    """A whole number that a float has exactly is one, however large."""
    schema = RowSchema.of("n float")
    lines = [row_line(schema.parse(text), schema) for text in ('{"n":1e25}', '{"n":1e300}')]

    assert [row.n for row in read(write(tmp_path, "a.parquet", lines, schema), schema)] == [
        1e25,
        1e300,
    ]


def test_a_pipe_gets_each_row_at_once(tmp_path: Path) -> None:
    """A row is there for the reader before the next one is made; no suffix means JSON lines."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    seen: list[str] = []
    arrived = threading.Event()

    def follow() -> None:
        with pipe.open(encoding="utf-8") as file:
            for line in file:
                seen.append(line.rstrip("\n"))
                arrived.set()

    def lines() -> Iterator[str]:
        yield LINES[0]
        assert arrived.wait(timeout=10)
        yield LINES[1]

    reader = threading.Thread(target=follow)
    reader.start()
    write_table(pipe, lines(), SCHEMA)
    reader.join(timeout=10)
    assert seen == LINES
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_pipe_with_a_suffix(tmp_path: Path) -> None:
    """The suffix names the format of a pipe as well, that of .parquet too."""
    import pandas as pd

    pipe = tmp_path / "pipe.parquet"
    os.mkfifo(pipe)
    writer = threading.Thread(target=write_table, args=(pipe, LINES, SCHEMA))
    writer.start()
    (tmp_path / "copy.parquet").write_bytes(pipe.read_bytes())
    writer.join(timeout=10)

    assert len(pd.read_parquet(tmp_path / "copy.parquet")) == 2


def test_plain_rows(tmp_path: Path) -> None:
    """Dicts of JSON values need no model, only the names of their columns."""
    rows = [{"text": "a", "spans": [{"start": 0}]}, {"text": "b", "spans": []}]
    lines = [json.dumps(row) for row in rows]
    schema = plain_schema("spans", text={"type": "string"})
    for name in FORMATS:
        path = write(tmp_path, name, lines, schema)
        assert [json.loads(line) for line in read_table(path, schema)[1]] == rows

    assert (tmp_path / "a.csv").read_text().splitlines()[1:] == ['"[{""start"":0}]",a', "[],b"]


@pytest.mark.parametrize(
    "values", [["one", 1], [1, "one"], [{}, {}], [{"a": {}}], [[{}]], [["a"], {"a": 1}], [2**70]]
)
def test_what_parquet_has_no_type_for(values: list[Any], tmp_path: Path) -> None:
    """Values of several types, objects without keys and vast numbers become JSON text."""
    lines = [json.dumps({"n": 1, "value": value}) for value in values]
    path = write(tmp_path, "a.parquet", lines, plain_schema("value", n={"type": "integer"}))
    rows = pyarrow.parquet.read_table(path).to_pylist()

    assert [json.loads(row["value"]) for row in rows] == values
    assert {row["n"] for row in rows} == {1}


FLAT = """
import resource, sys
from synthgen_local.schema import RowSchema
from synthgen_local.data.tables import write_table
schema = RowSchema.of("name, age int, born date, price decimal")
line = '{"name":"%s","age":%d,"born":"2020-01-01","price":"1.50"}'
rows, path = int(sys.argv[1]), sys.argv[2]
write_table(path, (line % ("x" * (i % 40), i) for i in range(rows)), schema)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Ten times as many rows take no more memory: megabytes at the peak of a process."""

    def peak(rows: int) -> int:
        command = [sys.executable, "-c", FLAT, str(rows), str(tmp_path / "a.parquet")]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert peak(200_000) - peak(20_000) < 40
