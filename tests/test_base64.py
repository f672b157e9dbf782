"""Base64 as patterns: by what is in it."""

from __future__ import annotations

import base64
import re
from datetime import timedelta
from typing import Annotated, Any

import pytest
from pydantic import (
    Base64Bytes,
    Base64Str,
    Base64UrlBytes,
    Base64UrlStr,
    BaseModel,
    Discriminator,
    Field,
    HttpUrl,
    StringConstraints,
    Tag,
    create_model,
)
from random_rows import decode

from synthgen_local import SchemaError
from synthgen_local.schema import RowSchema, compile_schema
from synthgen_local.schema.regex.base64 import of_bytes, of_text

ENCODERS = {"base64": base64.b64encode, "base64url": base64.urlsafe_b64encode}


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize(("least", "most"), [(0, 0), (0, 5), (1, 1), (2, 2), (4, 9), (7, None)])
def test_lengths_count_bytes(kind: str, least: int, most: int | None) -> None:
    """The encodings of so many bytes, and of no other number."""
    pattern = re.compile(of_bytes(kind, least, most))
    for count in range(20):
        text = ENCODERS[kind](bytes(range(230, 230 + count))).decode()
        wanted = least <= count <= (48 if most is None else most)
        assert bool(pattern.search(text)) is wanted, (count, text)


@pytest.mark.parametrize("kind", ENCODERS)
def test_text_is_ascii(kind: str) -> None:
    """Every encoding of ASCII is of the pattern, and one of bytes above is not."""
    pattern = re.compile(of_text(kind))
    for count in range(9):
        assert pattern.search(ENCODERS[kind](b"az~\x00\x7f A9q"[:count]).decode())
    for bad in (b"\x80", b"a\x80", b"ab\xff", b"abc\x80"):
        assert not pattern.search(ENCODERS[kind](bad).decode())


@pytest.mark.parametrize(
    "kind",
    [
        Annotated[Base64Bytes, Field(min_length=10, max_length=12)],
        Annotated[Base64UrlBytes, Field(max_length=4)],
        Base64Str,
        Base64UrlStr,
        Annotated[str, StringConstraints(ascii_only=True, max_length=9)],
        Annotated[str, StringConstraints(strip_whitespace=True, min_length=2, max_length=9)],
    ],
    ids=str,
)
def test_rows_of_encoded_types_validate(kind: Any) -> None:
    """What is decoded or stripped before it is checked is right by construction."""
    grammar = compile_schema(RowSchema.of(create_model("Model", field=(kind, ...))))

    assert grammar.certificate.guarantee == "construction"
    for salt in range(3):
        decode(grammar, salt, rows=6)


class Cat(BaseModel):
    """One of two."""

    lives: int


class Dog(BaseModel):
    """The other."""

    name: str


def which(value: Any) -> str:
    return "cat" if "lives" in value else "dog"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (
            Annotated[
                Annotated[Cat, Tag("cat")] | Annotated[Dog, Tag("dog")], Discriminator(which)
            ],
            "which",
        ),
        (Annotated[str, StringConstraints(strip_whitespace=True, pattern="^ a+$")], "strip_white"),
        (Annotated[HttpUrl, Field(max_length=30)], "max_length"),
    ],
    ids=str,
)
def test_what_only_a_check_can_say_is_said(kind: Any, name: str) -> None:
    """The certificate names what looks at a value after it was changed, or at anything."""
    grammar = compile_schema(RowSchema.of(create_model("Model", field=(kind, ...))))
    checks = [str(c.value) for c in grammar.certificate.constraints if c.enforced_by == "check"]

    assert any(check.startswith(name) for check in checks)


def test_steps_of_a_duration_are_refused() -> None:
    """What nothing here can keep to is refused by name."""
    kind = Annotated[timedelta, Field(multiple_of=timedelta(hours=1))]

    with pytest.raises(SchemaError, match="a timedelta with multiple_of"):
        compile_schema(RowSchema.of(create_model("Model", field=(kind, ...))))
