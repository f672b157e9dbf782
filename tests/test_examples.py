"""Records to imitate, in every form that users have them in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from medical_billing import EXAMPLES, MedicalBilling
from pydantic import BaseModel

from synthgen_local import PromptError
from synthgen_local.examples import example_texts, load_examples
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
