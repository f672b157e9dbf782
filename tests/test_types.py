"""Each type that pydantic documents for data: rows from random logits validate.

`python tools/guarantees.py` writes the table of docs/guarantees.md from `TYPES`.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag, IntEnum, IntFlag
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NotRequired,
    Optional,
    TypeVar,
    Union,
)
from uuid import UUID
from zoneinfo import ZoneInfo

import annotated_types
import pydantic
import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints, create_model
from pydantic_extra_types.country import CountryAlpha2, CountryShortName
from pydantic_extra_types.currency_code import Currency
from pydantic_extra_types.iban import IBAN
from pydantic_extra_types.isbn import ISBN
from pydantic_extra_types.language_code import LanguageAlpha2
from pydantic_extra_types.mac_address import MacAddress
from pydantic_extra_types.payment import PaymentCardNumber
from pydantic_extra_types.routing_number import ABARoutingNumber
from pydantic_extra_types.timezone_name import TimeZoneName
from random_rows import decode
from typing_extensions import TypedDict

from synthgen_local import SchemaError
from synthgen_local.schema import RowSchema, compile_schema

Value = TypeVar("Value")


class Colour(Enum):
    """Values of two kinds."""

    RED = "red"
    TWO = 2


class Level(IntEnum):
    """Numbers."""

    LOW = -1
    HIGH = 10


class Right(Flag):
    """Flags."""

    READ = 1
    WRITE = 2


class Bit(IntFlag):
    """Flags that are numbers."""

    ONE = 1
    TWO = 2


class Movie(TypedDict):
    """A mapping with a key that may be left out."""

    title: str
    year: NotRequired[int]


@dataclass
class Point:
    """A dataclass with a default."""

    x: int
    y: int = 0


class Pair(NamedTuple):
    """A tuple with names."""

    left: int
    right: str


class Box(BaseModel, Generic[Value]):
    """A generic model."""

    value: Value


class Cat(BaseModel):
    """One option of a union."""

    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    """Another one."""

    kind: Literal["dog"]
    name: str = Field(alias="the name")


class Tree(BaseModel):
    """A recursive model."""

    leaf: bool
    branches: list[Tree] = []


class Open(BaseModel):
    """A model that takes other fields too."""

    model_config = ConfigDict(extra="allow")
    a: int


class Sizes(RootModel[list[int]]):
    """A model of one value."""


TYPES: dict[str, tuple[Any, ...]] = {
    "int": (int, pydantic.StrictInt),
    "conint, PositiveInt & co.": (pydantic.PositiveInt, pydantic.conint(gt=3, multiple_of=5)),
    "float": (
        float, pydantic.FiniteFloat, pydantic.NegativeFloat, pydantic.confloat(multiple_of=0.1),
    ),
    "Decimal": (Decimal, pydantic.condecimal(max_digits=5, decimal_places=2)),
    "Decimal with narrow digits": (
        pydantic.condecimal(max_digits=2, decimal_places=4),
        pydantic.condecimal(max_digits=3, decimal_places=3),
        pydantic.condecimal(decimal_places=1, multiple_of=Decimal("0.25")),
        pydantic.condecimal(decimal_places=0, multiple_of=Decimal("0.1")),
        pydantic.condecimal(gt=Decimal(0), lt=Decimal("0.01")),
        pydantic.condecimal(max_digits=3, ge=Decimal(500)),
        Annotated[Decimal, Field(ge=0.1, le=0.3)],
    ),
    "bool": (bool, pydantic.StrictBool),
    "str, constr": (str, Annotated[str, StringConstraints(to_upper=True, max_length=9)]),
    "str with a pattern": (Annotated[str, Field(pattern=r"^[1-9][0-9]{2,5}$")],),
    "bytes, Base64Bytes": (bytes, pydantic.Base64Bytes, Annotated[bytes, Field(max_length=9)]),
    "None": (None,),
    "date": (date, pydantic.PastDate, pydantic.FutureDate),
    "datetime": (datetime, pydantic.PastDatetime, pydantic.NaiveDatetime, pydantic.AwareDatetime),
    "time": (time,),
    "timedelta": (timedelta, Annotated[timedelta, Field(ge=timedelta(hours=1))]),
    "UUID, UUID1 to UUID8": (UUID, pydantic.UUID1, pydantic.UUID4, pydantic.UUID7),
    "IPv4Address, IPv6Address": (ipaddress.IPv4Address, ipaddress.IPv6Address),
    "IPv4Network, IPv6Network": (ipaddress.IPv4Network, ipaddress.IPv6Network),
    "IPv4Interface, IPv6Interface": (ipaddress.IPv4Interface, ipaddress.IPv6Interface),
    "IPvAnyAddress & co.": (pydantic.IPvAnyAddress, pydantic.IPvAnyNetwork),
    "Path": (Path,),
    "Literal": (Literal["a", 1, None, True],),
    "Enum, IntEnum": (Colour, Level),
    "Flag, IntFlag": (Right, Bit),
    "list, Sequence, deque, Iterable": (list[int], Sequence[str], deque[int], Iterable[bool]),
    "set, frozenset, conset": (set[int], frozenset[str], pydantic.conset(int, min_length=2)),
    "tuple": (tuple[int, str], tuple[int, ...]),
    "dict, Mapping, OrderedDict, Counter": (
        dict[str, int], dict[date, int], Mapping[int, float], OrderedDict[str, int], Counter[str],
    ),
    "keys that are numbers, flags, enumerations": (
        dict[int, int], dict[float, int], dict[bool, int], dict[Level, int], dict[Decimal, int],
        dict[Colour, int], dict[Literal["a", 1], int], dict[Optional[int], int], Counter[int],
        Annotated[dict[Level, int], Field(min_length=1)], pydantic.Json[dict[int, int]],
    ),
    "list, dict and Any without types": (list, dict, Any),
    "TypedDict": (Movie,),
    "dataclass": (Point,),
    "NamedTuple": (Pair,),
    "generic models": (Box[int], Box[list[str]]),
    "recursive models": (Tree,),
    "models with extra fields": (Open,),
    "RootModel": (Sizes,),
    "Optional": (Optional[int],),
    "Union": (Union[int, str, None], Union[Cat, Dog]),
    "discriminated unions": (Annotated[Union[Cat, Dog], Field(discriminator="kind")],),
    "EmailStr, NameEmail": (pydantic.EmailStr, pydantic.NameEmail),
    "HttpUrl and the URL family": (
        pydantic.HttpUrl, pydantic.AnyUrl, pydantic.FileUrl, pydantic.WebsocketUrl,
        pydantic.PostgresDsn, pydantic.RedisDsn,
    ),
    "SecretStr, SecretBytes": (pydantic.SecretStr, pydantic.SecretBytes),
    "Json": (pydantic.Json, pydantic.Json[list[int]], pydantic.Json[Box[str]]),
    "payment cards, IBAN, ISBN, ABA routing numbers": (
        PaymentCardNumber, IBAN, ISBN, ABARoutingNumber,
    ),
    "countries, languages, currencies, time zones": (
        CountryAlpha2, CountryShortName, LanguageAlpha2, Currency, TimeZoneName,
    ),
    "MacAddress": (MacAddress,),
    "ZoneInfo, complex": (ZoneInfo, complex),
    "re.Pattern": (re.Pattern,),
    "ByteSize": (pydantic.ByteSize,),
}  # fmt: skip


@pytest.mark.parametrize("name", TYPES)
def test_rows_of_each_type_validate(name: str) -> None:
    """Rows validate, at the first attempt wherever the certificate promises construction."""
    for kind in TYPES[name]:
        model = create_model("Model", field=(kind, ...))
        grammar = compile_schema(RowSchema.of(model))
        if grammar.certificate.guarantee == "checked":
            continue
        for text in decode(grammar, salt=1, rows=8):
            instance = grammar.schema.parse(text)
            assert grammar.schema.dump(instance) is not None


@pytest.mark.parametrize("kind", [Movie, Point, Pair, list[int], Sizes, Box[str]], ids=str)
def test_any_type_is_a_schema(kind: Any) -> None:
    """A row may be whatever pydantic validates, not a model only."""
    grammar = compile_schema(RowSchema.of(kind))

    for text in decode(grammar, salt=2, rows=4):
        assert grammar.schema.parse(text) is not None


@pytest.mark.parametrize("key", [int, float, bool, Level, Decimal], ids=str)
def test_keys_that_are_no_strings_are_written(key: Any) -> None:
    """Numbers and flags stand in quotes where they are keys."""
    grammar = compile_schema(RowSchema.of(dict[key, None]))
    rows = [grammar.schema.parse(text) for text in decode(grammar, salt=4, rows=16)]

    assert any(rows)
    assert all(isinstance(name, key) for row in rows for name in row)


@pytest.mark.parametrize("key", [tuple[int, int], frozenset[int], None, Literal[1], Right], ids=str)
def test_keys_that_json_cannot_write_are_refused(key: Any) -> None:
    """A dict whose keys no JSON text gives back is refused; it is not always empty."""
    with pytest.raises(SchemaError, match=r"^\$\.field: keyword 'propertyNames'"):
        compile_schema(RowSchema.of(create_model("Model", field=(dict[key, int], ...))))


class Steady(BaseModel):
    """A model that refuses some rows when it is made."""

    a: int = Field(ge=0, le=9)

    def model_post_init(self, _context: Any) -> None:
        """Refuse odd numbers."""
        if self.a % 2:
            raise ValueError("odd")


@dataclass
class Brittle:
    """A dataclass that fails in a way of its own."""

    a: int

    def __post_init__(self) -> None:
        """Fail."""
        raise KeyError(self.a)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Steady, "model_post_init"),
        (Brittle, "__post_init__"),
        (Annotated[int, annotated_types.Predicate(lambda value: value > 3)], "Predicate"),
        (annotated_types.IsDigits[str], "Predicate"),
        (Annotated[str, pydantic.AfterValidator(lambda v: v), Field(pattern="^a$")], "pattern"),
        (Annotated[date, pydantic.AfterValidator(lambda v: v), Field(ge=date(2020, 1, 1))], "ge"),
        (
            Annotated[Decimal, pydantic.AfterValidator(lambda v: v), Field(max_digits=2)],
            "max_digits",
        ),
    ],
    ids=str,
)
def test_what_only_code_can_refuse_is_checked(kind: Any, name: str) -> None:
    """Functions that see the value later than the type does are named in the certificate."""
    certificate = compile_schema(RowSchema.of(kind)).certificate

    assert name in [c.value for c in certificate.constraints if c.enforced_by == "check"]


@pytest.mark.parametrize("bound", [{"ge": float("inf")}, {"lt": float("-inf")}], ids=str)
@pytest.mark.parametrize("kind", [float, Decimal])
def test_bounds_at_infinity(kind: Any, bound: dict[str, float]) -> None:
    """A bound that no finite number keeps is refused by name."""
    with pytest.raises(SchemaError, match=r"^\$: '(m|exclusiveM)"):
        compile_schema(RowSchema.of(Annotated[kind, Field(**bound)]))


def test_fields_with_a_default_are_written() -> None:
    """A row has all fields of a model; a key that a TypedDict may lack can be left out."""
    rows = [
        RowSchema.of(Movie).parse(t) for t in decode(compile_schema(RowSchema.of(Movie)), 3, 16)
    ]

    assert all('"y":' in text for text in decode(compile_schema(RowSchema.of(Point)), 3, 8))
    assert {"year" in row for row in rows} == {True, False}


def test_secrets_are_written_out() -> None:
    """What stands behind asterisks in a log is data in a row."""
    schema = RowSchema.of(create_model("Login", password=(pydantic.SecretStr, ...)))

    assert schema.dump(schema.parse('{"password":"abc"}')) == {"password": "abc"}


def test_past_and_future_are_whole_years() -> None:
    """PastDate and FutureDate keep a distance from today, as bounds of the certificate."""
    model = create_model("Model", past=(pydantic.PastDate, ...), future=(pydantic.FutureDate, ...))
    grammar = compile_schema(RowSchema.of(model))

    limits = {(c.path, c.keyword): c.value for c in grammar.certificate.constraints}
    assert limits[("$.past", "formatMaximum")] < date.today().isoformat()
    assert limits[("$.future", "formatMinimum")] > date.today().isoformat()
