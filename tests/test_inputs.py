"""Records and passages, read from every kind of file."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from synthgen_local import PromptError
from synthgen_local.data.inputs import load_passages, load_preferences, load_records

Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file, or stdin, and return the name to read it by."""

    def put(name: str, text: str) -> str:
        data = text.encode()
        if name == "-":
            monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
            return name
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    return put


@pytest.mark.parametrize(
    ("name", "text", "records"),
    [
        ("a.json", '[{"a": 1}, ["b"]]', [{"a": 1}, ["b"]]),
        ("a.json", '{"a": [1, null]}', [{"a": [1, None]}]),
        ("a.json", '["river", "lantern"]', [["river", "lantern"]]),
        ("a.json", "[]", []),
        ("a.jsonl", '\ufeff{"a": 1}\r\n\r\n["b", ["c"]]', [{"a": 1}, ["b", ["c"]]]),
        ("a.ndjson", '{"a": "x\u2028y"}\n', [{"a": "x\u2028y"}]),
        ("a.csv", 'a,b\r\n"1, 2",\r\n', [{"a": "1, 2", "b": ""}]),
        ("a.CSV", 'a\n"two\nlines"\n', [{"a": "two\nlines"}]),
        ("a.csv", "", []),
        ("a.txt", " red \n\ndark blue", [["red"], ["dark blue"]]),
        ("-", '{"a": 1}\n["b"]\n', [{"a": 1}, ["b"]]),
        ("-", '[\n {"a": 1},\n ["b"]\n]', [{"a": 1}, ["b"]]),
        ("-", '{\n "a": 1\n}', [{"a": 1}]),
        ("-", '["river", "lantern"]\n', [["river", "lantern"]]),
        ("-", "", []),
    ],
)
def test_records(name: str, text: str, records: list[Any], write: Write) -> None:
    """Each kind of file holds records in order; a list of plain values is one record."""
    assert load_records(write(name, text)) == records


@pytest.mark.parametrize(
    ("name", "text", "passages"),
    [
        ("a.txt", "one\r\n\r\n two \r\n", ["one", "two"]),
        ("a.json", '["one", {"text": "two", "spans": []}]', ["one", "two"]),
        ("a.json", '{"text": "one"}', ["one"]),
        ("a.jsonl", '"one"\n{"text": ""}\n', ["one", ""]),
        ("a.csv", 'id,text\n1,"one, two"\n', ["one, two"]),
        ("-", '"one"\n{"text": "two"}\n', ["one", "two"]),
        ("-", '"one"\ntwo\n', ['"one"', "two"]),
        ("-", '{"no": "text"}\n', ['{"no": "text"}']),
        ("-", "", []),
    ],
)
def test_passages(name: str, text: str, passages: list[str], write: Write) -> None:
    """Each kind of file holds passages in order; stdin is JSON only if all of its lines are."""
    assert load_passages(write(name, text)) == passages


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"a": 1}\n\n{"a": secret}', "line 3 is not JSON: Expecting value"),
        ("a.json", '[\n{"a":\nsecret}]', "line 3 is not JSON: Expecting value"),
        ("a.json", "", "line 1 is not JSON"),
        ("a.jsonl", '{"a": NaN}', "line 1 is not JSON: NaN is not a value"),
        ("a.jsonl", '{"a": "\\ud800"}', "line 1 is not JSON: half of a surrogate pair"),
        ("a.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("a.jsonl", '[1]\n"secret"', "a.jsonl, line 2 is not a record"),
        ("a.json", '[{"a": 1}, "secret"]', "a.json, item 2 is not a record"),
        ("a.json", "3", "a.json is not a record"),
        ("a.csv", "a,b\n1,2\nsecret\n", "a.csv, line 3 has not 2 cells"),
        ("a.csv", "a,b\n1,2,secret\n", "a.csv, line 2 has not 2 cells"),
        ("a.csv", 'a\n"secret"x\n', "a.csv, line 2 is not CSV"),
        ("a.csv", "a,a\n1,2\n", "a.csv has two columns of one name"),
        ("-", '{"a": 1}\nsecret\n', "stdin, line 2 is not JSON"),
        ("a.parquet", "", "no known suffix"),
    ],
)
def test_bad_records(name: str, text: str, message: str, write: Write) -> None:
    """An error names the file and the line, has a hint, and quotes nothing."""
    with pytest.raises(PromptError) as caught:
        load_records(write(name, text))
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '"one"\n{"note": "secret"}\n', 'a.jsonl, line 2 has no "text"'),
        ("a.json", '["one", 2]', 'a.json, item 2 has no "text"'),
        ("a.csv", "note\nsecret\n", 'a.csv, line 2 has no "text"'),
        ("a.md", "one", "no known suffix"),
    ],
)
def test_bad_passages(name: str, text: str, message: str, write: Write) -> None:
    """A passage that has no text is named, not quoted."""
    with pytest.raises(PromptError) as caught:
        load_passages(write(name, text))
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder and a file that is not UTF-8 are told apart."""
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "latin.txt").write_bytes(b"\xe9t\xe9")

    for name, reason in (
        ("gone.txt", "No such file"),
        ("folder.txt", "Is a directory"),
        ("latin.txt", "is not UTF-8"),
    ):
        with pytest.raises(PromptError, match=reason):
            load_passages(str(tmp_path / name))


def test_preferences(write: Write) -> None:
    """Preferences are an object, as text or as a file; nothing else is."""
    assert load_preferences(' {"a": 1}') == {"a": 1}
    assert load_preferences(write("a.json", '{"a":\n1}')) == {"a": 1}
    for bad in ('{"a"', "no such file", write("b.json", "[]"), write("c.json", "")):
        with pytest.raises(PromptError) as caught:
            load_preferences(bad)
        assert caught.value.hint
