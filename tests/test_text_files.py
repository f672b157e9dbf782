"""Text files as lines, JSON and CSV: where lines end, what stands twice, which separator."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen_local import PromptError
from synthgen_local.data.text_files import csv_records, csv_rows, json_items, json_lines, json_value

MARKS = "\x00\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\xa0"
TEXTS = st.text(
    st.sampled_from(f"a,;|\"'\r\n\t {MARKS}é") | st.characters(exclude_categories=["Cs"])
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(TEXTS, min_size=2, max_size=2), max_size=4))
def test_csv_of_python_is_read_as_it_is(rows: list[list[str]]) -> None:
    """Any text in any cell comes back: control characters, line breaks and quotes too."""
    written = io.StringIO(newline="")
    csv.writer(written).writerows([["a", "b"], *rows])

    columns, found = csv_rows(written.getvalue(), "a.csv")

    assert columns == ["a", "b"]
    assert [[cell or "" for cell in cells] for _, cells in found] == rows


def test_lines_end_at_newlines_only() -> None:
    """No other mark ends a line, in JSON lines and in CSV without quotes."""
    assert [value for _, value in json_lines(f'"{MARKS[6:]}"\r\n1\n', "a")] == [MARKS[6:], 1]
    assert [row for _, row in csv_records(f"a,b\n{MARKS},1\r\n", "a")] == [{"a": MARKS, "b": "1"}]


def test_cells_know_whether_they_are_quoted() -> None:
    """An empty cell is None, an empty text in quotes is text; blank lines are passed over."""
    _, rows = csv_rows('a,b\n,""\n\n"x\n""y""",z\n', "a.csv")

    assert list(rows) == [("a.csv, line 2", [None, ""]), ("a.csv, line 4", ['x\n"y"', "z"])]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Name;Ort\nAda;London\n", "semicolons"),
        ("Name;Preis\nAda;1,5\nBob;2,5\n", "semicolons"),
        ("Name\tOrt\nAda\tLondon\n", "tabs"),
        ("Name|Ort\nAda|London\n", "vertical bars"),
        ("Name;Ort\nAda;London, Kent\n", "semicolons"),
    ],
)
def test_another_separator_is_named(text: str, named: str) -> None:
    """The error says which separator a file has, and quotes nothing of it."""
    with pytest.raises(PromptError, match=f"is separated by {named}") as caught:
        list(csv_records(text, "a.csv"))
    assert not any(word in str(caught.value) for word in ("Ada", "Name", "Ort"))


def test_a_first_line_may_say_the_separator() -> None:
    """`sep=;` is what Excel writes; lines are counted with it."""
    found = list(csv_records("sep=;\r\na;b\r\n1,5;2\r\n", "a.csv"))

    assert found == [("a.csv, line 3", {"a": "1,5", "b": "2"})]


def test_one_column_may_hold_semicolons() -> None:
    """A file of one column is one, unless every record is split alike; a declared name is one."""
    assert len(list(csv_records("text\na; b\nc\n", "a.csv"))) == 2
    assert len(list(csv_records("a;b\n1;2\n", "a.csv", {"a;b"}))) == 1


def test_columns_without_a_name() -> None:
    """Excel's trailing commas and the index of pandas are no twins; what twins hold is."""
    assert next(csv_records("a,,\n1,,\n", "a.csv"))[1] == {"a": "1"}
    assert next(csv_records(",a\n0,1\n", "a.csv"))[1] == {"a": "1", "": "0"}
    with pytest.raises(PromptError, match="columns without a name"):
        list(csv_records("a,,\n1,2,3\n", "a.csv"))


def test_a_key_that_stands_twice_is_refused() -> None:
    """The error has the line and, if the schema declares it, the key."""
    for text, named in (('{"age":1,"age":2}', "'age'"), ('[{"secret":1,"secret":1}]', "a key")):
        with pytest.raises(PromptError, match=f"line 2 is not JSON: .*{named}") as caught:
            list(json_lines(f"{{}}\n{text}", "a.jsonl", {"age"}))
        assert "secret" not in str(caught.value)
    with pytest.raises(PromptError, match="item 2 is not JSON: a key stands twice"):
        list(json_items('[1, {"a":1,"a":1}]', "a.json"))


@pytest.mark.parametrize(
    "text", ["NaN", "-Infinity", "1e999", '"\\ud800"', '{"\\udc00": 1}', "1 2"]
)
def test_what_json_does_not_have_is_refused(text: str) -> None:
    """What Python reads beyond JSON, and no file can hold, is no value."""
    with pytest.raises(PromptError, match="is not JSON"):
        json_value(text, "a.json")


@pytest.mark.parametrize("text", ["[1, 2", "[1,]", "[1 2]", "[1] 2", "[", "[,1]"])
def test_lists_that_are_no_json_are_refused(text: str) -> None:
    """Items are read one by one, and by the rules of the whole."""
    with pytest.raises(PromptError, match="line 1 is not JSON"):
        list(json_items(text, "a.json"))
    assert list(json_items(" [ ] ", "a.json")) == []
