"""Rows and schemas in other processes: whatever this package makes can be pickled and copied."""

from __future__ import annotations

import copy
import json
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from synthgen_local import Dataset
from synthgen_local.schema import RowSchema, load_schema

LIST = "name, age int, tags list[str], born: date"
ROW = '{"name":"Ada","age":36,"tags":["a"],"born":"1815-12-10"}'


class Person(BaseModel):
    """A class of a module."""

    name: str


def _again(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_rows_of_a_short_list_are_pickled(protocol: int) -> None:
    """They are equal afterwards and of the same class, as are their copies."""
    row = RowSchema.of(LIST).parse(ROW)
    for made in (pickle.loads(pickle.dumps(row, protocol)), copy.copy(row), copy.deepcopy(row)):
        assert made == row
        assert type(made) is type(row)
        assert made.born.year == 1815


def test_a_class_of_a_short_list_is_pickled() -> None:
    """Equal lists give one class, and a class is made again by its list."""
    kind = type(RowSchema.of(LIST).parse(ROW))
    assert type(RowSchema.of(LIST).parse(ROW)) is kind
    assert _again(kind) is kind
    assert _again(type(kind)) is type(kind)
    assert _again(kind.__mro__[1]) is kind.__mro__[1]


@pytest.mark.parametrize(
    ("schema", "row"),
    [
        (LIST, ROW),
        (Person, '{"name":"Ada"}'),
        (list[int], "[1,2]"),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, '{"a":1}'),
        ({"type": ["object", "null"]}, "null"),
    ],
)
def test_schemas_and_data_sets_are_pickled(schema: Any, row: str) -> None:
    """Each kind of schema comes back and reads the same rows; a data set with its rows, too."""
    schema = RowSchema.of(schema)
    for made in (_again(schema), copy.deepcopy(schema)):
        assert (made.name, made.json_schema) == (schema.name, schema.json_schema)
        assert made.dump(made.accept(row)) == json.loads(row)
    rows = Dataset([schema.parse(row)], schema)
    assert _again(rows) == rows == copy.deepcopy(rows)
    assert _again(rows).to_arrow() == rows.to_arrow()


def test_rows_reach_a_process_that_was_spawned() -> None:
    """A process that has imported nothing of a list makes its class anew."""
    rows = Dataset([RowSchema.of(LIST).parse(ROW)], LIST)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(copy.deepcopy, [rows, rows[0]]) == [rows, rows[0]]


def test_rows_of_a_schema_file_are_pickled(tmp_path: Path) -> None:
    """Where the file was loaded, its classes are found again."""
    file = tmp_path / "people_for_pickle.py"
    file.write_text("from pydantic import BaseModel\nclass A(BaseModel):\n    name: str\n", "utf-8")
    row = load_schema(f"{file}:A").parse('{"name":"Ada"}')
    assert _again(row) == row
