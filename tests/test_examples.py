"""Records to imitate, in every form that users have them in."""

from __future__ import annotations

import json
from decimal import Decimal
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medical_billing import EXAMPLES, MedicalBilling
from pydantic import BaseModel

from synthgen_local import Dataset, PromptError
from synthgen_local.data.inputs import load_records
from synthgen_local.prompting import examples
from synthgen_local.prompting.examples import example_texts, load_examples
from synthgen_local.schema import RowGrammar, RowSchema, compile_schema

FIRST = (
    '{"patient_id":123456,"patient_name":"John Doe","diagnosis_code":"J20.9",'
    '"procedure_code":"99203","total_charge":500.0,"insurance_claim_amount":350.0}'
)


@pytest.fixture(scope="module")
def billing() -> RowGrammar:
    return compile_schema(RowSchema.of(MedicalBilling))


def test_every_form_is_the_same_record(billing: RowGrammar) -> None:
    """Text, text across lines, a mapping, JSON and an instance come out as one text."""
    text = EXAMPLES[0]["example"]
    record = json.loads(FIRST)
    forms: list[Any] = [
        EXAMPLES[0],
        text,
        text.replace(" Code", "\n        Code"),
        record,
        dict(reversed(record.items())),
        FIRST,
        MedicalBilling(**record),
        {"example": MedicalBilling(**record)},
    ]

    assert example_texts(forms, billing) == [FIRST] * len(forms)


def test_thousands_and_currency_are_read(billing: RowGrammar) -> None:
    """Amounts come as people write them."""
    text = EXAMPLES[0]["example"].replace("$500", "$1,234,500.50")

    assert '"total_charge":1234500.5,' in example_texts([text], billing)[0]


def test_text_that_is_no_record_stays_text(billing: RowGrammar) -> None:
    """A sentence goes into the prompt as it is, and a warning says so."""
    with pytest.warns(UserWarning, match="Example 1 is not a record of MedicalBilling"):
        assert example_texts([" A bill of 500 dollars. "], billing) == ["A bill of 500 dollars."]


def test_a_wrong_record_is_refused_without_its_values(billing: RowGrammar) -> None:
    """The error names example and field, and never the value: it may be a patient's."""
    record = {**json.loads(FIRST), "total_charge": "secret"}

    with pytest.raises(PromptError) as caught:
        example_texts([FIRST, record], billing)

    assert str(caught.value).startswith("Example 2 is not a MedicalBilling: total_charge:")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", f"{FIRST}\n\n{FIRST}\n"),
        ("a.json", f"[{FIRST}, {FIRST}]"),
        (
            "a.csv",
            "patient_id,patient_name,diagnosis_code,procedure_code,total_charge,"
            "insurance_claim_amount\n" + "123456,John Doe,J20.9,99203,500,350\n" * 2,
        ),
    ],
)
def test_files(name: str, content: str, tmp_path: Path, billing: RowGrammar) -> None:
    """JSON lines, JSON and CSV files are read alike."""
    path = tmp_path / name
    path.write_text(content)

    assert load_examples(path, billing) == [FIRST, FIRST]


def test_csv_cells_of_a_json_schema_are_typed(tmp_path: Path) -> None:
    """Cells become numbers, lists and null where the schema does not ask for a string."""
    schema = {"properties": {
        "code": {"type": "string"}, "n": {"type": ["integer", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    }}  # fmt: skip
    path = tmp_path / "a.csv"
    path.write_text('code,n,tags\n007,,"[""x""]"\n8,9,[]\n')

    assert load_examples(path, compile_schema(RowSchema.of(schema))) == [
        '{"code":"007","n":null,"tags":["x"]}',
        '{"code":"8","n":9,"tags":[]}',
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", f"{FIRST}\n{{oops\n", "a.jsonl, line 2 is not JSON"),
        ("a.jsonl", f'{FIRST}\n{{"patient_id": 1}}\n', "a.jsonl, line 2 is not a MedicalBilling"),
        ("a.json", '{"patient_id": 1}', "does not hold a list"),
        ("a.json", "[1]", "a.json, item 1 is not a MedicalBilling"),
        ("a.csv", "patient_id,patient_name\n1\n", "a.csv, line 2 has not 2 cells"),
        ("a.txt", "", "is not a kind of examples file"),
    ],
)
def test_bad_files_name_the_line(
    name: str, content: str, message: str, tmp_path: Path, billing: RowGrammar
) -> None:
    """A line that cannot be read or is no record is named by its number."""
    path = tmp_path / name
    path.write_text(content)

    with pytest.raises(PromptError, match=message):
        load_examples(path, billing)


def test_missing_and_binary_files(tmp_path: Path, billing: RowGrammar) -> None:
    """A file that is not there, or not text, is an error with a hint."""
    binary = tmp_path / "b.jsonl"
    binary.write_bytes(b"\xff\xfe\x00")

    for path, message in ((tmp_path / "no.jsonl", "cannot be read"), (binary, "not UTF-8")):
        with pytest.raises(PromptError, match=message) as caught:
            load_examples(path, billing)
        assert caught.value.hint


def test_a_field_called_example_is_a_field() -> None:
    """`{"example": ...}` is unwrapped only where the schema has no such field."""

    class Word(BaseModel):
        example: str

    assert example_texts([{"example": "x"}], compile_schema(RowSchema.of(Word))) == [
        '{"example":"x"}'
    ]


class Code(Enum):
    """A code that looks like a number."""

    ONE = "1"


class Cell(BaseModel):
    """Fields whose cells could be taken for something else."""

    zip: str | None
    code: Code
    price: Decimal | None
    mixed: int | str
    flag: bool
    size: float | None = None
    grade: Literal[1, 2] = 1


def _load(folder: Path, name: str, text: str, schema: Any) -> list[dict[str, Any]]:
    (folder / name).write_bytes(text.encode())
    grammar = compile_schema(RowSchema.of(schema))
    return [json.loads(text) for text in load_examples(folder / name, grammar)]


def test_cells_are_text_where_the_schema_allows_it(tmp_path: Path) -> None:
    """A zip, a surname `null`, quotes and decimals stay as they are; the rest has its type."""
    head = "zip,code,price,mixed,flag,size,grade\n"
    rows = _load(
        tmp_path, "a.csv", head + '98765,1,1.10,007,True,1e3,2\nnull,1,,x,1,,1\n'
        '"""Al""",1,3,5,no,.5,1\n,1,3,5,yes,+5,1\n"",1,3,5,false,5.,1\n', Cell,
    )  # fmt: skip

    assert [row["zip"] for row in rows] == ["98765", "null", '"Al"', None, ""]
    assert [row["code"] for row in rows] == ["1"] * 5
    assert [row["price"] for row in rows] == ["1.10", None, "3", "3", "3"]
    assert [row["mixed"] for row in rows] == ["007", "x", "5", "5", "5"]
    assert [row["flag"] for row in rows] == [True, True, False, True, False]
    assert [row["size"] for row in rows] == [1000, None, 0.5, 5, 5]
    assert [row["grade"] for row in rows] == [2, 1, 1, 1, 1]


def test_cells_of_a_json_schema_follow_its_types(tmp_path: Path) -> None:
    """Enumerations, references, formats and properties without a type are read alike."""
    schema = {
        "type": "object",
        "properties": {
            "zip": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/zip"}]},
            "code": {"enum": ["1", 2, None]},
            "day": {"anyOf": [{"type": "string", "format": "date"}, {"type": "integer"}]},
            "flag": {"type": "boolean"},
            "any": {},
        },
        "required": ["zip"],
        "$defs": {"zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
    }
    text = "zip,code,day,flag,any\n98765,1,5,TRUE,7\n,2,2020-02-03,0,x\n00001,,,,\n"

    assert _load(tmp_path, "a.csv", text, schema) == [
        {"zip": "98765", "code": "1", "day": 5, "flag": True, "any": 7},
        {"zip": None, "code": 2, "day": "2020-02-03", "flag": False, "any": "x"},
        {"zip": "00001", "code": None, "any": None},
    ]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_our_own_rows_are_examples(suffix: str, tmp_path: Path) -> None:
    """What is saved is read as the same examples, with every character that could end a line."""

    class Own(BaseModel):
        a: str | None
        b: str
        c: int | str | list[str]
        d: bool | None = None

    marks = "\x0b\x0c\x1c\x85\u2028\u2029\r\n\r\t;|'\"x"
    rows = [
        Own(a=None, b="", c=5, d=True),
        Own(a="", b=marks, c="5"),
        Own(a="null", b="NaN", c=[marks], d=False),
        Own(a='"q"', b=" 1.50 ", c=marks),
    ]
    Dataset(rows, Own).save(tmp_path / f"a{suffix}")

    found = load_examples(tmp_path / f"a{suffix}", compile_schema(RowSchema.of(Own)))

    assert [Own.model_validate_json(text) for text in found] == rows


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "age,x\nNaN,1\n", "line 2 is not JSON: age: a number"),
        ("a.csv", "age,x\nInfinity,1\n", "line 2 is not JSON: age: a number"),
        ("a.csv", "age,age\n1,2\n", "two columns named 'age': 1 and 2"),
        ("a.csv", "age,secret,secret\n1,2,3\n", "two columns of one name: 2 and 3"),
        ("a.csv", "age;x\n1;2\n", "is separated by semicolons"),
        ("a.jsonl", '{"age": 1, "age": 2}\n', "line 1 is not JSON: the key 'age'"),
        ("a.jsonl", '{"age": NaN}\n', "line 1 is not JSON"),
        ("a.jsonl", '{"age": 1, "x": "\\ud800secret"}\n', "half of a surrogate pair"),
        (
            "a.json",
            '[{"age": 1, "x": ""}, {"x": "", "secret": 1, "secret": 1}]',
            "item 2 is not JSON",
        ),
    ],
)
def test_files_that_say_too_much_are_refused(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    """NaN, twins and halves of characters are errors of a line and a declared field only."""
    with pytest.raises(PromptError, match=message) as caught:
        _load(tmp_path, name, text, "age float, x")
    assert "secret" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "example",
    [
        {"age": 1, "x": "\ud800"},
        {"age": float("inf"), "x": "a"},
        {"age": 1, "\ud800": 1},
        '{"age": NaN, "x": "a"}',
        '{"age": 1, "age": 2}',
        "secret \ud800",
    ],
)
def test_values_that_no_file_can_hold_are_refused(example: Any) -> None:
    """They are errors of one line before they reach a prompt."""
    schema = {"type": "object", "properties": {"age": {"type": "number"}, "x": {}}}
    with pytest.raises(PromptError, match=r"^Example 1 is not") as caught:
        example_texts([example], compile_schema(RowSchema.of(schema)))
    assert "secret" not in str(caught.value)


def test_too_many_examples_are_refused_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says how many could be used; what follows is not even read."""
    monkeypatch.setattr(examples, "_MOST_CHARACTERS", 1000)
    for name, text in (
        ("a.jsonl", '{"x": "a"}\n' * 500 + "no JSON"),
        ("a.json", "[" + '{"x": "a"},' * 500 + "no JSON"),
        ("a.csv", "x,y\n" + "a,1\n" * 2000 + "no CSV"),
    ):
        with pytest.raises(PromptError, match="first 111 examples") as caught:
            _load(tmp_path, name, text, "x")
        assert "111" in caught.value.hint


class Row(BaseModel):
    """Text in every place where a row can have it."""

    a: str
    b: str | None
    c: list[str]
    d: int | str
    e: dict[str, str]
    n: float | None


ODD = st.text(
    st.sampled_from("\x00\x0b\x0c\x1c\x1d\x1e\x1f\x7f\x85\u2028\u2029\ufeff\xa0\r\n\t ,;|\"'\\=1x")
    | st.characters(exclude_categories=["Cs"]),
    max_size=6,
)
ROWS = st.builds(
    Row,
    a=ODD,
    b=st.none() | ODD,
    c=st.lists(ODD, max_size=2),
    d=ODD,
    e=st.dictionaries(ODD, ODD, max_size=1),
    n=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=3))
def test_what_is_written_is_read(rows: list[Row]) -> None:
    """Every character comes back from our own files, whoever of us reads them."""
    grammar = compile_schema(RowSchema.of(Row))
    with TemporaryDirectory() as folder:
        for name in ("a.jsonl", "a.csv", "a.parquet"):
            path = Path(folder, name)
            Dataset(rows, Row).save(path)
            assert list(Dataset.load(path, Row)) == rows
            if name != "a.parquet":
                texts = load_examples(path, grammar)
                assert [Row.model_validate_json(text) for text in texts] == rows
                assert [record["a"] for record in load_records(str(path))] == [r.a for r in rows]
