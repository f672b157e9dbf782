"""Where schemas come from, and what is said when they cannot be read."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from queue import Queue
from typing import Annotated, Any, Literal, Optional
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    SerializeAsAny,
    TypeAdapter,
    computed_field,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic.json_schema import SkipJsonSchema
from random_rows import decode
from typing_extensions import TypedDict

from synthgen_local import SchemaError
from synthgen_local.schema import RowSchema, compile_schema, load_schema
from synthgen_local.schema.class_import import class_in

MODULE = """
from pydantic import BaseModel
from neighbour import Base

class Person(Base):
    name: str

class Outer:
    class Inner(BaseModel):
        x: int

not_a_model = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "people.py").write_text(MODULE)
    (tmp_path / "neighbour.py").write_text(
        "from pydantic import BaseModel\nclass Base(BaseModel):\n    id: int\n"
    )
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "failing.py").write_text("raise RuntimeError('on purpose')\n")
    (tmp_path / "schema.json").write_text(json.dumps({"title": "T", "type": "integer"}))
    (tmp_path / "half.json").write_text('{"type":')
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "wrong.json").write_text('{"type": "no such type"}')
    monkeypatch.chdir(tmp_path)
    for name in ("people", "neighbour", "broken", "failing"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("people.py:Person", "Person"),
        ("./people.py:Outer.Inner", "Inner"),
        ("people:Person", "Person"),
        ("schema.json", "T"),
        ("name, age int", "Row"),
        ("name: who it is\nage int: how old, in years", "Row"),
    ],
)
def test_finds(source: str, name: str, folder: Path) -> None:
    """A class by file or module, a JSON Schema file, and a list of fields are all schemas."""
    assert load_schema(source).name == name


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gone.py:Person", "gone.py does not exist"),
        ("people.py:Nobody", "people.py has no class Nobody"),
        ("people.py:not_a_model", "pydantic does not know the type"),
        ("people.py", "does not name a class"),
        ("gone.module:Person", "gone.module cannot be imported: ModuleNotFoundError"),
        ("broken.py:X", "broken.py, line 1: invalid syntax"),
        ("failing.py:X", "RuntimeError: on purpose"),
        ("gone.json", "gone.json cannot be read"),
        ("half.json", "half.json is not JSON"),
        ("list.json", "not an object"),
        ("wrong.json", "Not a JSON Schema"),
        ("name, age number", "unknown type 'number'"),
        ("name, name", "is defined twice"),
        ("two words int", "is not a field"),
        ("1st", "is not a field name"),
        (" , ", "has no fields"),
    ],
)
def test_refuses(source: str, message: str, folder: Path) -> None:
    """What cannot be read is told in one line, with a hint."""
    with pytest.raises(SchemaError, match=message) as caught:
        load_schema(source)

    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_an_error_lists_the_classes_that_are_there(folder: Path) -> None:
    """A misspelt class is answered with the names of the file's models."""
    with pytest.raises(SchemaError) as caught:
        load_schema("people.py:Persn")

    assert "Person" in caught.value.hint


def test_a_list_of_fields_has_types_and_descriptions() -> None:
    """Each field has a name, a type that is str if left out, and a description."""
    schema = RowSchema.of("name, born date: day of birth, price decimal, ok bool")
    row = schema.parse('{"name":"A","born":"2020-02-29","price":"1.50","ok":true}')

    assert (row.born, row.price, row.ok) == (date(2020, 2, 29), Decimal("1.50"), True)
    assert schema.json_schema["properties"]["born"]["description"] == "day of birth"


def test_rows_keep_aliases_and_leave_out_computed_fields() -> None:
    """What is written can be read again."""

    class Aliased(BaseModel):
        inner: int = Field(alias="outer")

    schema = RowSchema.of(Aliased)

    assert schema.dump(schema.parse('{"outer":1}')) == {"outer": 1}


class Inner(BaseModel):
    """Fields that are read under other names than they are written."""

    read: int = Field(validation_alias="in")
    both: int = Field(alias="x", serialization_alias="y")
    first: int = Field(validation_alias=AliasChoices(AliasPath("z", 1), "p", "q"))
    hidden: int = Field(exclude=True)


class Named(BaseModel):
    """Fields that are read by name alone."""

    model_config = ConfigDict(validate_by_alias=False, validate_by_name=True)
    name: int = Field(alias="alias")
    inner: list[Inner]


def test_rows_have_the_keys_by_which_they_are_read() -> None:
    """Whatever a model writes by default, its rows and examples can be read again."""
    schema = RowSchema.of(Named)
    row = {"name": 1, "inner": [{"in": 1, "x": 2, "p": 3, "hidden": 4}]}

    assert schema.dump(schema.read(row)) == row
    for text in decode(compile_schema(schema), salt=1, rows=8):
        assert json.loads(text).keys() == row.keys()


def test_a_field_that_is_read_from_within_another_is_refused() -> None:
    """No key of a row leads to it."""

    class Deep(BaseModel):
        deep: int = Field(validation_alias=AliasPath("x", 1))

    with pytest.raises(SchemaError, match="'deep' has no alias but an AliasPath"):
        RowSchema.of(Deep)


def test_a_row_of_a_json_schema_is_checked() -> None:
    """jsonschema checks rows of a JSON Schema; the reason names keyword and path, not the value."""
    schema = RowSchema.of({"properties": {"a": {"type": "array", "uniqueItems": True}}})

    with pytest.raises(ValueError, match=r"^a: uniqueItems is not satisfied$"):
        schema.parse('{"a":["secret","secret"]}')


@pytest.mark.parametrize("draft", ["draft-03/schema#", "draft-99/schema"])
def test_a_draft_that_is_not_known_is_refused(draft: str) -> None:
    """Its meta-schema would be fetched; keyword and path are named instead."""
    with pytest.raises(SchemaError, match=r"^\$: keyword '\$schema'"):
        RowSchema.of({"$schema": f"http://json-schema.org/{draft}"})


def test_a_validator_may_raise_anything() -> None:
    """What is no ValueError is a reason like others: it names the validator and the error."""

    def divide(value: int) -> float:
        return 1 / (value - value)

    schema = RowSchema.of(Annotated[int, AfterValidator(divide)])

    with pytest.raises(ValueError, match=r"^divide says: ZeroDivisionError$"):
        schema.parse("1")


def test_what_is_no_schema_is_refused() -> None:
    """What pydantic cannot validate is an error with a hint."""
    with pytest.raises(SchemaError, match="pydantic does not know the type Queue"):
        RowSchema.of(Queue)


class Priced(BaseModel):
    """Fields with serialisers of every kind, before and behind validators."""

    model_config = ConfigDict(ser_json_timedelta="float", ser_json_bytes="base64")
    price: Annotated[Decimal, PlainSerializer(float, return_type=float)]
    day: date = Field(exclude_if=lambda _: True)
    took: timedelta
    raw: bytes

    @field_validator("day")
    @classmethod
    def keep(cls, value: date) -> date:
        """Change nothing."""
        return value

    @field_serializer("day")
    def german(self, value: date) -> str:
        """Write a day as in Germany."""
        return value.strftime("%d.%m.%Y")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> Decimal:
        """Return twice the price."""
        return 2 * self.price


class Counted(BaseModel):
    """A model that is written as another one."""

    n: int

    @model_serializer
    def short(self) -> dict[str, int]:
        """Write another key."""
        return {"x": self.n}


@dataclass
class Marked:
    """A dataclass whose field is written with a mark."""

    n: int

    @field_serializer("n")
    def mark(self, value: int) -> str:
        """Write a mark."""
        return f"{value}!"


class Dated(TypedDict):
    """A dictionary whose date is written as a number."""

    day: Annotated[date, PlainSerializer(lambda day: day.toordinal())]


class Listed(RootModel[list[int]]):
    """A list that is written as text."""

    @model_serializer
    def joined(self) -> str:
        """Write text."""
        return ",".join(map(str, self.root))


class Phone:
    """What only its serialiser can write."""

    def __init__(self, text: str) -> None:
        self.text = text


class Called(BaseModel):
    """A field whose validator makes of it what pydantic does not know."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    phone: Annotated[str, AfterValidator(Phone), PlainSerializer(lambda phone: phone.text)]


class Keyed(BaseModel):
    """Fields that are hidden from JSON Schema: one that it can say, one that it cannot."""

    id: SkipJsonSchema[UUID] = Field(default_factory=uuid4)
    change: SkipJsonSchema[Callable[[], int]] = int


@pytest.mark.parametrize(
    "kind", [Priced, Counted, Marked, Dated, Listed, Called, Keyed, Optional[int]]
)
def test_what_is_written_is_the_row_that_was_validated(kind: Any) -> None:
    """Serialisers change no written row: it is read as an equal one and satisfies its schema."""
    schema = RowSchema.of(kind)
    check = RowSchema.of(schema.json_schema)

    for text in decode(compile_schema(schema), salt=3, rows=8):
        row = schema.accept(text)
        written = json.dumps(schema.dump(row))
        assert schema.dump(TypeAdapter(kind).validate_json(written)) == json.loads(written)
        assert _keys(check.parse(written)) == _keys(json.loads(text))


def _keys(row: Any) -> list[str] | None:
    return list(row) if isinstance(row, dict) else None


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (str.upper, "the serialised row is not valid: code: "),
        (len, "the serialised row is not valid: code: "),
        (
            lambda code: code[1:] + code[:1],
            r"\$\.code: the serialised value is read as another value",
        ),
    ],
)
def test_a_row_that_its_validator_makes_invalid_is_turned_down(function: Any, reason: str) -> None:
    """The reason names the field and not the value."""

    class Coded(BaseModel):
        code: Annotated[str, Field(pattern="^[a-z]{3}$"), AfterValidator(function)]

    with pytest.raises(ValueError, match=f"^{reason}") as caught:
        RowSchema.of(Coded).accept('{"code":"qvj"}')

    assert "qvj" not in str(caught.value).lower()


def test_a_validator_may_change_a_row_that_stays_valid() -> None:
    """What is stripped, rounded or worked out from other fields reads back as the same row."""

    class Tidy(BaseModel):
        name: Annotated[str, AfterValidator(str.strip)]
        mean: Annotated[float, AfterValidator(lambda value: round(value, 1))]
        total: int

        @model_validator(mode="after")
        def sum_up(self) -> Tidy:
            self.total = 7
            return self

    row = RowSchema.of(Tidy).accept('{"name":" Ada ","mean":1.26,"total":1}')

    assert row == Tidy(name="Ada", mean=1.3, total=7)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("name: str, age: int", {"name": str, "age": int}),
        ("name:str,age:int", {"name": str, "age": int}),
        ("id: uuid", {"id": UUID}),
        ("id:uuid", {"id": UUID}),
        (
            "n: Integer, ok: boolean, x: number, s: string",
            {"n": int, "ok": bool, "x": float, "s": str},
        ),
        ("tags: list[str], ages list[int]", {"tags": list[str], "ages": list[int]}),
        ("age: int | None, born: Optional[date]", {"age": Optional[int], "born": Optional[date]}),
        ("age: int, a whole number, name", {"age": int, "name": str}),
        ("age: int: how old, name", {"age": int, "name": str}),
        ("name: str,\nage: int,\n", {"name": str, "age": int}),
        ("a, b: one of x/y", {"a": str, "b": str}),
        ("unit: km/h", {"unit": str}),
        ("file: such as main.py", {"file": str}),
        ("file: such as a.json", {"file": str}),
        ("host: www.example.com", {"host": str}),
        ("path: such as C:/x", {"path": str}),
        ("born: date of birth", {"born": str}),
        ("name: str, age: int = 3", {"name": str, "age": int}),
        ("name: str = Bob, ok bool = true", {"name": str, "ok": bool}),
        ("sum: a = b", {"sum": str}),
        ("d: float, in euros, e", {"d": float, "e": str}),
        ("id: uuid.UUID, age: int (in years)", {"id": UUID, "age": int}),
        ("x: int | str | None, d: dict[str, int]", {"x": int | str | None, "d": dict[str, int]}),
        ('x: Literal["a", "b, c"], y: set[int]', {"x": Literal["a", "b, c"], "y": set[int]}),
    ],
)
def test_a_description_that_names_a_type_is_one(fields: str, expected: dict[str, Any]) -> None:
    """A colon may stand before a type; slashes and dots in a description make no path of it."""
    rows = load_schema(fields)

    assert rows.json_schema["properties"].keys() == expected.keys()
    for name, kind in expected.items():
        wanted = RowSchema.of(kind).json_schema
        given = rows.json_schema["properties"][name]
        assert {key: given[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("age: int, a whole number", "a whole number"),
        ("age: int: in years", "in years"),
        ("age: int (in years)", "in years"),
        ("age: int - in years", "in years"),
        ("price: float, in euros", "in euros"),
        ("city: a town, or a village", "a town, or a village"),
        ("born: date of birth", "date of birth"),
    ],
)
def test_what_is_no_type_is_a_description(fields: str, said: str) -> None:
    """What stands after a type describes the field, and so does what goes on after a comma."""
    (field,) = load_schema(fields).json_schema["properties"].values()

    assert field["description"] == said


def test_settings_for_output_are_in_the_certificate() -> None:
    """Rows follow neither serialisers nor the like, and the certificate says so by field."""

    class Inner(BaseModel):
        when: Annotated[int, PlainSerializer(str)]

    class Outer(BaseModel):
        hidden: int = Field(exclude=True)
        named: int = Field(serialization_alias="other")
        items: list[Inner]
        alike: SerializeAsAny[Inner]

        @computed_field
        def twice(self) -> int:
            return 2

    compiled = compile_schema(RowSchema.of(Outer))

    assert set(compiled.certificate.annotations) >= {
        ("$.hidden", "exclude"),
        ("$.named", "serialization_alias"),
        ("$.items[*].when", "serializer"),
        ("$.twice", "computed_field"),
    }
    row = '{"hidden":1,"named":2,"items":[{"when":3}],"alike":{"when":4}}'
    assert compiled.schema.dump(compiled.schema.accept(row)) == json.loads(row)


def test_a_field_that_pydantic_cannot_build_is_named(tmp_path: Path) -> None:
    """Half of a surrogate pair fails at import, in the midst of pydantic."""
    (tmp_path / "halves.py").write_text(
        "from typing import Literal\n"
        "from pydantic import BaseModel\n"
        "class Row(BaseModel):\n"
        "    code: Literal['\\ud800']\n"
    )

    with pytest.raises(SchemaError, match="field 'code': SchemaError: error"):
        load_schema(f"{tmp_path}/halves.py:Row")


def test_a_default_of_a_field() -> None:
    """It is a value of the field's type, or the error names the field."""
    properties = load_schema("age: int = 3, name str = 'Bo', ok: bool | None = none").json_schema[
        "properties"
    ]

    assert [field["default"] for field in properties.values()] == [3, "Bo", None]
    with pytest.raises(SchemaError, match="default of field 'age'"):
        load_schema("age: int = young")


@pytest.mark.parametrize("source", ["models/people", "./people.py", "C:/x/people.py"])
def test_a_path_without_a_class_is_none_of_fields(source: str) -> None:
    """The hint says how a class is named."""
    with pytest.raises(SchemaError, match="does not name a class"):
        load_schema(source)


SPEAKING = """
import json, numpy, typing
import beside
from pydantic import BaseModel, field_validator
print("on import")

class M(BaseModel):
    a: bool

    @field_validator("a")
    @classmethod
    def say(cls, value):
        print("on a row")
        return value
"""


@pytest.mark.parametrize("name", ["numpy", "json", "typing", "pydantic", "conftest", "plain"])
def test_a_schema_file_shadows_no_module(name: str, folder: Path) -> None:
    """Whatever its name is, what is imported is what is installed, and its neighbours are found."""
    (folder / f"{name}.py").write_text(SPEAKING)
    (folder / "beside.py").write_text('print("beside")\n')
    before = {key: sys.modules.get(key) for key in ("numpy", "json", "typing", "pydantic")}

    kind = class_in(f"{name}.py", "M")

    assert sys.modules[kind.__module__].json is json
    assert sys.modules[kind.__module__].numpy.__version__
    assert {key: sys.modules.get(key) for key in before} == before
    assert str(folder) not in sys.path


def test_what_a_schema_file_prints_is_no_data(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes to stderr."""
    (folder / "speaking.py").write_text(SPEAKING)
    (folder / "beside.py").write_text('print("beside")\n')
    sys.modules.pop("beside", None)
    load_schema("speaking.py:M")

    assert capsys.readouterr() == ("", "beside\non import\n")


IMPOSSIBLE = """
from pydantic import BaseModel, ConfigDict
from pydantic.v1 import BaseModel as Old

class Foo: pass

class Known(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    good: int
    bad: list[Foo]

class Outer(BaseModel):
    inner: Known

class Before(Old):
    a: int
"""


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("import sys\nsys.exit(3)", "M", "it calls sys.exit"),
        ("raise SystemExit", "M", "it calls sys.exit"),
        (IMPOSSIBLE, "Known", "Known: field 'bad' has a type without a JSON Schema"),
        (IMPOSSIBLE, "Outer", "field 'inner.bad' has a type without a JSON Schema"),
        (IMPOSSIBLE, "Before", "Before is a pydantic.v1 model"),
        (IMPOSSIBLE + "class M(BaseModel):\n    a: int\n    odd: Foo", "M", "field 'odd': "),
    ],
)
def test_what_cannot_be_a_schema_is_named(text: str, name: str, message: str, folder: Path) -> None:
    """A file that ends the program, a field of an impossible type, a model of another pydantic."""
    (folder / "odd.py").write_text(text)

    with pytest.raises(SchemaError, match=message) as caught:
        load_schema(f"odd.py:{name}")

    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_a_validator_cannot_end_the_program() -> None:
    """sys.exit in one turns its row down."""
    schema = RowSchema.of(Annotated[int, AfterValidator(sys.exit)])

    with pytest.raises(ValueError, match=r"says: SystemExit$"):
        schema.parse("1")


def telling(value: str) -> str:
    """Say what the value is."""
    raise ValueError(f"there is no {value}")


def silent(value: str) -> str:
    """Say what is written here."""
    raise ValueError("it is always wrong")


class Private(BaseModel):
    """Fields whose errors would quote values."""

    model_config = ConfigDict(extra="forbid")
    scores: dict[str, int] = {}
    zone: ZoneInfo = ZoneInfo("UTC")
    told: Annotated[str, AfterValidator(telling)] = ""
    mute: Annotated[str, AfterValidator(silent)] = ""
    id: UUID = UUID(int=0)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"scores": {"Alice Secret": "x"}}, "scores.*: Input should be a valid integer"),
        ({"Alice Secret": 1}, "*: Extra inputs are not permitted"),
        ({"zone": "Secretland/Alice"}, "zone: Input is not valid (zoneinfo_str)"),
        ({"told": "Alice Secret"}, "told: telling says: ValueError"),
        ({"mute": "Alice Secret"}, "mute: silent says: Value error, it is always wrong"),
        ({"id": "Alice Secret"}, "id: Input should be a valid UUID"),
    ],
)
def test_a_reason_quotes_no_value(record: dict[str, Any], reason: str) -> None:
    """Names of declared fields, kinds of error, and words that a validator's code has."""
    schema = RowSchema.of(Private)

    for read, value in ((schema.parse, json.dumps(record)), (schema.read, record)):
        with pytest.raises(ValueError, match=f"^{re.escape(reason)}") as caught:
            read(value)
        assert "Alice" not in str(caught.value)


def test_a_path_of_a_json_schema_quotes_no_key() -> None:
    """A key of a free mapping is a value."""
    number = {"type": "integer"}
    schema = RowSchema.of({"properties": {"scores": {"patternProperties": {"^A": number}}}})

    with pytest.raises(ValueError, match=r"^scores\.\*: type is not satisfied$"):
        schema.parse('{"scores": {"Alice Secret": "x"}}')
