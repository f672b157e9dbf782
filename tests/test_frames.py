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

from synthgen_local import FewShotPrompt
from synthgen_local.examples import example_texts
from synthgen_local.frames import records_of
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


def test_what_is_no_table_stays_as_it_is() -> None:
    """Lists, models and series are not touched."""
    for value in ([{"a": 1}], Visit(name="Ada", day=None, at=None, age=None), pd.Series(["a"])):
        assert records_of(value) is value
