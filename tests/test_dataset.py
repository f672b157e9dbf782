"""Data sets: sequences of instances that files and other libraries take."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NotRequired, Optional
from uuid import UUID, uuid4

import pyarrow
import pyarrow.parquet
import pytest
from pydantic import BaseModel, Field, PlainSerializer
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypedDict

from synthgen_local import (
    Dataset,
    Extractor,
    LocalModel,
    OutputError,
    RunError,
    SchemaError,
    TabularGenerator,
    UsageError,
)
from synthgen_local.data.provenance import manifest_path
from synthgen_local.generators.notebook_progress import shown
from synthgen_local.jobs.manifest import read_manifest
from synthgen_local.jobs.verify import replay, verify


class Person(BaseModel):
    """A row."""

    name: str
    age: Optional[int]
    born: date
    paid: Decimal
    well: bool
    tags: list[str]


ROWS = [
    Person(name="Ada <b>", age=36, born="1815-12-10", paid="1.5", well=True, tags=["a"]),
    Person(name="Bo", age=None, born="2000-01-01", paid="2", well=False, tags=[]),
    Person(name="Cy", age=2**60 + 1, born="1999-01-01", paid="0", well=True, tags=["x", "y"]),
]
DATA = Dataset(ROWS, Person)


def test_a_sequence() -> None:
    """It is read as a list is, and cannot be changed."""
    assert isinstance(DATA, Sequence)
    assert (len(DATA), DATA[0], DATA[-1], list(DATA)) == (3, ROWS[0], ROWS[2], ROWS)
    assert ROWS[1] in DATA
    assert DATA.index(ROWS[2]) == 2
    assert isinstance(DATA[1:], Dataset)
    assert DATA[1:] == ROWS[1:]
    assert not Dataset([], Person)
    with pytest.raises(TypeError):
        DATA[0] = ROWS[1]  # type: ignore[index]


def test_equality() -> None:
    """A list of the same instances is equal, from both sides; nothing else is."""
    assert DATA == ROWS
    assert list.__eq__(ROWS, DATA) is NotImplemented  # so that Python asks the other side
    assert Dataset(ROWS, Person) == DATA
    assert ROWS[:2] != DATA
    assert tuple(ROWS) != DATA
    assert DATA != "rows"
    with pytest.raises(TypeError):
        hash(DATA)


def test_rows_of_before_are_kept() -> None:
    """A list that it was made of may change."""
    rows = list(ROWS)
    data = Dataset(rows, Person)
    rows.clear()

    assert data == ROWS


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a/"])
def test_save_and_load(name: str, tmp_path: Path) -> None:
    """What is loaded with the schema are the instances that were saved."""
    DATA.save(f"{tmp_path}/{name}")
    loaded = Dataset.load(f"{tmp_path}/{name}", Person)

    assert loaded == ROWS
    assert isinstance(loaded[0], Person)


def test_load_without_a_schema(tmp_path: Path) -> None:
    """A .parquet file gives dicts of JSON values, that can be saved again."""
    DATA.save(tmp_path / "a.parquet", provenance={"seed": 0})
    loaded = Dataset.load(tmp_path / "a.parquet")
    loaded.save(tmp_path / "b.parquet")

    assert loaded[0] == {**ROWS[0].model_dump(mode="json")}
    assert Dataset.load(tmp_path / "b.parquet", Person) == ROWS
    DATA.save(tmp_path / "a.jsonl")
    with pytest.raises(OutputError, match="does not say its schema"):
        Dataset.load(tmp_path / "a.jsonl")


def test_rows_are_checked_when_they_are_loaded(tmp_path: Path) -> None:
    """A row that the schema refuses is named by its number, without its values."""
    DATA.save(tmp_path / "a.jsonl")
    text = (tmp_path / "a.jsonl").read_text()
    (tmp_path / "a.jsonl").write_text(text.replace('"2000-01-01"', '"secret"'))

    with pytest.raises(OutputError, match=r"row 2 is no Person: born") as caught:
        Dataset.load(tmp_path / "a.jsonl", Person)
    assert "secret" not in str(caught.value)


def test_csv_safe(tmp_path: Path) -> None:
    """The option of `write_table` is one here too."""
    Dataset([Person(**{**ROWS[0].model_dump(), "name": "=1"})], Person).save(
        tmp_path / "a.csv", csv_safe=True
    )

    assert "'=1" in (tmp_path / "a.csv").read_text()


def test_to_pandas() -> None:
    """Types come from the schema: integers that may be null stay integers."""
    frame = DATA.to_pandas()

    assert str(frame["age"].dtype) == "Int64"
    assert str(frame["well"].dtype) == "bool"
    assert frame["age"].tolist()[::2] == [36, 2**60 + 1]
    assert frame["name"].tolist() == [row.name for row in ROWS]
    assert frame["born"].tolist() == [row.born for row in ROWS]
    assert len(Dataset([], Person).to_pandas()) == 0


def test_keys_that_are_left_out() -> None:
    """A flag that may be missing is a boolean that may be NA."""

    class Item(TypedDict):
        ok: NotRequired[bool]

    frame = Dataset([{"ok": True}, {}], Item).to_pandas()

    assert str(frame["ok"].dtype) == "boolean"
    assert frame["ok"].isna().tolist() == [False, True]


def test_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(UsageError) as caught:
        DATA.to_pandas()
    assert caught.value.hint == "pip install pandas"


def test_what_reads_arrow(tmp_path: Path) -> None:
    """pyarrow and duckdb take it as it is, with the types of a .parquet file, polars its table."""
    import duckdb
    import polars as pl

    DATA.save(tmp_path / "a.parquet")
    file = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    table = pyarrow.table(DATA)

    assert table.schema.equals(file.schema)
    assert table.to_pylist() == file.to_pylist()
    assert pl.DataFrame(DATA.to_arrow()).to_dicts() == table.to_pylist()
    assert duckdb.from_arrow(DATA).fetchall() == [tuple(r.values()) for r in table.to_pylist()]


def test_html() -> None:
    """A notebook shows the first rows, and no markup of theirs."""
    shown = DATA._repr_html_()
    many = Dataset(ROWS * 100, Person)._repr_html_()

    assert "Ada &lt;b&gt;" in shown
    assert "<b>" not in shown
    assert shown.count("<tr>") == 4
    assert many.count("<tr>") == 11
    assert "300 rows of Person" in many
    assert "<x>" not in Dataset([{"<x>": 1}], {"properties": {"<x>": {}}})._repr_html_()


def test_repr() -> None:
    """It says what it is, not what is in it."""
    assert repr(DATA) == "<Dataset: 3 rows of Person>"


def test_a_schema_is_needed() -> None:
    """What is no schema is refused at once."""
    with pytest.raises(SchemaError):
        Dataset(ROWS, "name: of: what int, 1")


def test_what_generators_return(random_model: LocalModel) -> None:
    """Rows of one schema come as a data set of it."""
    generator = TabularGenerator(Person, random_model)
    rows = generator.generate(rows=3)
    later = asyncio.run(generator.agenerate(rows=3))
    extractor = Extractor("name", random_model, temperature=1)
    one: Any = extractor("Ada and Bo")

    assert isinstance(rows, Dataset)
    assert rows.schema.name == "Person"
    assert later == rows
    assert isinstance(one, Dataset)
    assert extractor(["Ada and Bo"]) == [one]


class Keyed(BaseModel):
    """Fields that are written otherwise than they are read, or drawn anew for each instance."""

    price: Annotated[Decimal, PlainSerializer(float, return_type=float)]
    id: SkipJsonSchema[UUID] = Field(default_factory=uuid4)


@pytest.mark.parametrize(
    "schema", [Keyed, Optional[int], {"type": ["object", "null"]}, {}, Literal[None]]
)
def test_all_formats_hold_the_same_rows(
    schema: Any, random_model: LocalModel, tmp_path: Path
) -> None:
    """Serialisers and hidden fields change none, and null is a row."""
    rows = TabularGenerator(schema, random_model).generate(rows=8)

    assert len(rows) == 8
    assert len(rows.to_pandas()) == 8
    for suffix in ("jsonl", "csv", "parquet"):
        rows.save(tmp_path / f"rows.{suffix}")
        assert Dataset.load(tmp_path / f"rows.{suffix}", schema) == rows


SECRET = {"name": "Zyxw", "age": 71234}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet", "rows/"])
def test_what_is_saved_is_verified(random_model: LocalModel, tmp_path: Path, name: str) -> None:
    """Rows that a generator made have a manifest, as if a command had; examples are not in it."""
    rows = TabularGenerator("name, age int", random_model, examples=[SECRET]).generate(n=40)
    rows.save(f"{tmp_path}/{name}")

    found = verify(tmp_path / name, lambda _: None)
    assert (found.settings.seed, found.settings.model, found.counts.rows) == (0, "random", 40)
    assert found.certificate
    written = manifest_path(tmp_path / name).read_text()
    assert "Zyxw" not in written
    assert "71234" not in written
    assert not {"examples", "prompt"} & found.hashes.keys()


def test_what_is_saved_comes_out_again(random_model: LocalModel, tmp_path: Path) -> None:
    """A run from Python is made again by the command line, examples and all."""
    (tmp_path / "e.jsonl").write_text('{"name": "Zyxw", "age": 71234}\n')
    TabularGenerator("name, age int", random_model, examples=[SECRET]).generate(
        "people", 40, seed=3
    ).save(tmp_path / "rows.jsonl")

    said: list[str] = []
    output = tmp_path / "rows.jsonl"
    replay(output, read_manifest(output), 2, said.append, inputs=str(tmp_path / "e.jsonl"))
    assert len(said) == 2


def test_other_rows_have_no_manifest(random_model: LocalModel, tmp_path: Path) -> None:
    """Part of the rows, changed rows, rows of somebody else: an old manifest is deleted."""
    output = tmp_path / "rows.jsonl"
    made = TabularGenerator("name, age int", random_model).generate(n=3)
    for other in (made[:2], Dataset(made, made.schema), Dataset([], made.schema)):
        made.save(output)
        other.save(output)
        assert not manifest_path(output).exists()
    made.save(output)
    made[0].name = "changed"
    made.save(output)
    assert not manifest_path(output).exists()
    with pytest.raises(RunError, match="cannot be read"):
        verify(output, print)


def test_somebodys_file_is_no_manifest(random_model: LocalModel, tmp_path: Path) -> None:
    """What has the name of a manifest and is none stays, and nothing is written."""
    beside = tmp_path / "rows.csv.manifest.json"
    beside.write_text("[]")
    with pytest.raises(OutputError, match="is no manifest"):
        TabularGenerator("name", random_model).generate().save(tmp_path / "rows.csv")
    assert [path.name for path in tmp_path.iterdir()] == [beside.name]


@pytest.mark.parametrize("names", [{"n": 3}, {"num_rows": 3}, {"rows": 3}, {"rows": 3, "n": 3}])
def test_names_of_a_number(random_model: LocalModel, names: dict[str, int]) -> None:
    """Each way to ask for rows takes the name that other libraries have for it."""
    generator = TabularGenerator("name", random_model)

    assert len(generator.generate(**names)) == 3
    assert len(asyncio.run(generator.agenerate(**names))) == 3
    assert len(list(generator.stream(**names))) == 3
    assert len(list(generator.rows(**names))) == 3


@pytest.mark.parametrize(
    "names",
    [
        {"temperature": 0},
        {"runs": 3},
        {"rows": 3, "n": 4},
        {"rows": 2.5},
        {"n": "3"},
        {"rows": None},
    ],
)
def test_options_that_are_none(random_model: LocalModel, names: dict[str, Any]) -> None:
    """One line that names `rows`, wherever it is asked."""
    generator = TabularGenerator("name", random_model)
    for ask in (
        lambda: generator.generate(**names),
        lambda: asyncio.run(generator.agenerate(**names)),
        lambda: list(generator.stream(**names)),
        lambda: list(generator.rows(**names)),
    ):
        with pytest.raises(UsageError) as failed:
            ask()
        assert "rows=" in failed.value.hint


def test_progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A line on stderr where it is asked for, and in a notebook for what takes long."""

    class Shell:
        kernel = object()

    assert list(shown(range(3), 3)) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    assert list(shown(range(3), 3, wanted=True)) == [0, 1, 2]
    assert "3 of 3 rows" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=Shell))
    monkeypatch.setattr("synthgen_local.generators.notebook_progress._FIRST", 0)
    assert list(shown(range(3), 3)) == [0, 1, 2]
    assert "3 of 3 rows" in capsys.readouterr().err
