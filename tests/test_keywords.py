"""Keywords of this program are apart from keywords that users add to JSON Schema."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from synthgen_local.schema.compiler import compile_schema
from synthgen_local.schema.json_schema.keywords import PRIVATE
from synthgen_local.schema.row_schema import RowSchema

OWN: dict[str, Any] = {
    "version": 3,
    "validators": ["luhn"],
    "holds": {"type": "integer"},
    "timezone": "naive",
    "timedelta": True,
    "schemes": ["ftp"],
    "tolerance": True,
    "maxDigits": 2,
    "decimalPlaces": 1,
    "numberKeys": True,
    "relativeToNow": "past",
    "regexDialect": "python",
}
PLAIN: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "pattern": {"type": "string", "pattern": "^[a-z]{2}$"},
    "number": {"type": "number", "multipleOf": 0.1, "minimum": 0, "maximum": 9},
    "uuid": {"type": "string", "format": "uuid"},
    "uri": {"type": "string", "format": "uri"},
    "decimal": {"type": "string", "format": "decimal"},
    "date-time": {"type": "string", "format": "date-time"},
    "duration": {"type": "string", "format": "duration"},
}


@pytest.mark.parametrize("schema", PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize("keyword", OWN)
def test_a_users_own_keyword_changes_nothing(schema: dict[str, Any], keyword: str) -> None:
    plain = compile_schema(RowSchema.of(schema))
    own = compile_schema(RowSchema.of({**schema, keyword: OWN[keyword]}))
    assert own.lark == plain.lark
    assert own.certificate.constraints == plain.certificate.constraints
    assert ("$", keyword) in own.certificate.annotations


@pytest.mark.parametrize("spelling", ["nullRate", "x-synthgen-nullRate"])
def test_a_null_rate_has_two_spellings(spelling: str) -> None:
    shape = compile_schema(RowSchema.of({"type": ["integer", "null"], spelling: 0.25})).ir
    assert shape.null_rate == 0.25  # type: ignore[union-attr]


def test_keywords_that_pydantics_types_add_have_the_prefix() -> None:
    class Row(BaseModel):
        amount: Annotated[Decimal, Field(max_digits=5, decimal_places=2)]
        when: datetime
        key: UUID

    added = {"x-synthgen-maxDigits", "x-synthgen-decimalPlaces", "x-synthgen-timezone"}
    text = json.dumps(RowSchema.of(Row).json_schema)
    assert all(f'"{keyword}"' in text for keyword in added)
    assert all(keyword.startswith("x-synthgen-") for keyword in PRIVATE)
