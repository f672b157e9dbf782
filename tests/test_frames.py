"""Tables of pandas, polars and pyarrow as examples and inputs."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel

from synthgen_local import FewShotPrompt, LocalModel, TextGenerator
from synthgen_local.data.frames import column_of, records_of
from synthgen_local.prompting.examples import example_texts
from synthgen_local.schema import RowSchema, compile_schema


class Visit(BaseModel):
    """A row of a table with gaps."""

    name: str | None
    day: date | None
    at: datetime | None
    age: int | None
    size: float = 0.5


FRAME = pd.DataFrame({
    "name": ["Ada", None],
    "day": pd.to_datetime(["2020-01-02", None]),
    "at": pd.to_datetime(["2020-01-02 03:04:05", None]),
    "age": [36.0, np.nan],
    "size": [np.nan, 1.5],
})  # fmt: skip
TEXTS = [
    '{"name":"Ada","day":"2020-01-02","at":"2020-01-02T03:04:05","age":36,"size":0.5}',
    '{"name":null,"day":null,"at":null,"age":null,"size":1.5}',
]


@pytest.mark.parametrize(
    "examples",
    [
        FRAME,
        FRAME.convert_dtypes(),
        FRAME.to_dict("records"),
        FRAME.convert_dtypes().to_dict("records"),
        pl.from_pandas(FRAME),
        pa.Table.from_pandas(FRAME),
        [
            {key: np.asarray([value])[0] for key, value in row.items()}
            for row in FRAME.to_dict("records")
        ],
    ],
    ids=["pandas", "pandas-na", "records", "records-na", "polars", "pyarrow", "numpy"],
)
def test_a_table_is_its_records(examples: Any) -> None:
    """NaN, NaT and NA are missing, whichever library they come from."""
    found = FewShotPrompt(examples=examples).examples

    assert example_texts(found, compile_schema(RowSchema.of(Visit))) == TEXTS


def test_a_table_follows_a_json_schema() -> None:
    """Dates become those of JSON; what is missing is left out where null is refused."""
    properties = {
        "name": {"type": ["string", "null"]},
        "day": {"type": "string", "format": "date"},
        "age": {"type": "integer"},
    }
    schema = {"type": "object", "properties": properties, "required": ["name"]}
    grammar = compile_schema(RowSchema.of(schema))
    found = FewShotPrompt(examples=FRAME[["name", "day", "age"]]).examples

    assert example_texts(found, grammar) == [
        '{"name":"Ada","day":"2020-01-02","age":36}',
        '{"name":null}',
    ]


def test_texts_are_written_about_the_rows_of_a_table(random_model: LocalModel) -> None:
    """A table given as inputs is its rows, not the names of its columns."""
    frame = pd.DataFrame({"actor": ["Ada", "Bob"], "age": [36.5, np.nan]})
    found = [text.as_dict() for text in TextGenerator(random_model).stream(frame)]

    assert [text["fields"] for text in found] == [
        {"actor": "Ada", "age": 36.5},
        {"actor": "Bob", "age": None},
    ]


def test_passages_are_the_texts_of_a_table() -> None:
    """What is not a table, and a table without that column, stays as it is."""
    assert column_of(pd.DataFrame({"id": [1], "text": ["a"]}), "text") == ["a"]
    assert column_of(["a"], "text") == ["a"]
    frame = pd.DataFrame({"id": [1]})
    assert column_of(frame, "text") is frame


def test_what_is_no_table_stays_as_it_is() -> None:
    """Lists, models and series are not touched."""
    for value in ([{"a": 1}], Visit(name="Ada", day=None, at=None, age=None), pd.Series(["a"])):
        assert records_of(value) is value
