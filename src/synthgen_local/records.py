"""Records and passages from files, or from stdin.

Knows files, not models. What they hold may be somebody's patients: no error quotes it.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from .errors import PromptError

STDIN = "-"

_Item: TypeAlias = tuple[str, Any]  # where it stands, and what stands there
_Reader: TypeAlias = Callable[[str, str], Iterable[_Item]]  # of a text and its file's name


def load_records(source: str) -> list[Any]:
    """Return the records of a file in their order: lists and dicts, as deep as JSON.

    .json holds a list of records, or one record; .jsonl a record a line; .csv a dict of strings
    a line; a line of .txt is a list of that one string. `-` is stdin: JSON lines, or what a
    .json file holds. Raises PromptError that names the file and the line (the item, in .json).

    Example: `load_records("actors.csv")[0]["actor"]`
    """
    return [_record(value, where) for where, value in _items(source, _RECORDS)]


def load_passages(source: str) -> list[str]:
    """Return the passages of a file in their order; see `load_documents`.

    Example: `load_passages("notes.txt")[0]`
    """
    return [document["text"] for document in load_documents(source)]


def load_documents(source: str) -> list[dict[str, Any]]:
    """Return the passages of a file in their order: dicts with a "text" and what stands beside it.

    A line of .txt is a passage; .json (a list), .jsonl and .csv hold strings or objects with a
    "text". `-` is stdin: such JSON lines, or else plain lines. Raises PromptError that names
    the file and the line (the item, in .json).

    Example: `load_documents("notes.jsonl")[0]["text"]`
    """
    return [_document(value, where) for where, value in _items(source, _PASSAGES)]


def load_preferences(given: str) -> dict[str, Any]:
    """Return preferences out of JSON text, or out of a file of it. Raises PromptError.

    Example: `load_preferences('{"style": "gossip"}') == {"style": "gossip"}`
    """
    hint = """Give JSON, such as '{"style": "gossip"}', or a file of it."""
    inline = given.lstrip().startswith("{")
    name = "preferences" if inline else given
    value = _loads(given if inline else _text(given, hint), name)
    if not isinstance(value, dict):
        raise PromptError(f"{name} does not hold a JSON object.", hint=hint)
    return value


def _items(source: str, readers: Mapping[str, _Reader]) -> Iterable[_Item]:
    reader = readers.get(source if source == STDIN else Path(source).suffix.lower())
    if reader is None:
        kinds = ", ".join(kind for kind in readers if kind != STDIN)
        raise PromptError(
            f"{source} has no known suffix.", hint=f"Use {kinds}, or {STDIN} for stdin."
        )
    return reader(_text(source), "stdin" if source == STDIN else source)


def _text(source: str, hint: str = "Check the path.") -> str:
    """What a file holds, its lines ended by newlines only."""
    try:
        data = sys.stdin.buffer.read() if source == STDIN else Path(source).read_bytes()
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise PromptError(f"{source} cannot be read: {error.strerror}.", hint=hint) from error
    except UnicodeDecodeError as error:
        raise PromptError(f"{source} is not UTF-8.", hint="Save it as UTF-8.") from error


def _record(value: Any, where: str) -> Any:
    if not isinstance(value, dict | list):
        raise PromptError(
            f"{where} is not a record.", hint="A record is a JSON object or a JSON list."
        )
    return value


def _document(value: Any, where: str) -> dict[str, Any]:
    document = value if isinstance(value, dict) else {"text": value}
    if not isinstance(document.get("text"), str):
        raise PromptError(
            f'{where} has no "text".', hint='A passage is a string, or has a key "text" for it.'
        )
    return document


def _lines(text: str, name: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.split("\n"), 1):  # splitlines breaks JSON at U+2028
        if line.strip():
            yield f"{name}, line {number}", line.strip()


def _line_records(text: str, name: str) -> Iterator[_Item]:
    for where, line in _lines(text, name):
        yield where, [line]


def _json_lines(text: str, name: str) -> Iterator[_Item]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{name}, line {number}", _loads(line, name, number)


def _json_items(text: str, name: str) -> Iterable[_Item]:
    value = _loads(text, name)
    return _numbered(value, name) if isinstance(value, list) else [(name, value)]


def _json_records(text: str, name: str) -> Iterable[_Item]:
    """A list of plain values is one record: none of them could be a record of its own."""
    value = _loads(text, name)
    plain = isinstance(value, list) and not any(isinstance(item, dict | list) for item in value)
    return [(name, value)] if plain and value else _json_items(text, name)


def _numbered(values: list[Any], name: str) -> Iterator[_Item]:
    for number, value in enumerate(values, 1):
        yield f"{name}, item {number}", value


def _csv_records(text: str, name: str) -> Iterator[_Item]:
    lines = io.StringIO(text)
    reader = csv.DictReader(lines, strict=True)
    try:
        columns = reader.fieldnames or []
        if len(set(columns)) < len(columns):
            raise PromptError(f"{name} has two columns of one name.", hint="Rename one of them.")
        for record in reader:
            where = f"{name}, line {reader.line_num}"
            if None in record or None in record.values():
                raise PromptError(f"{where} has not {len(columns)} cells.", hint="Correct it.")
            yield where, record
    except csv.Error as error:
        read = text[: lines.tell()].removesuffix("\n")  # line_num leaves the bad line out
        number = read.count("\n") + 1
        raise PromptError(
            f"{name}, line {number} is not CSV: {error}.", hint="Correct it."
        ) from error


def _piped_records(text: str, name: str) -> Iterable[_Item]:
    try:
        _loads(text, name)
    except PromptError:
        return _json_lines(text, name)
    return _json_records(text, name)


def _piped_passages(text: str, name: str) -> Iterable[_Item]:
    try:
        return [(where, _document(value, where)) for where, value in _json_lines(text, name)]
    except PromptError:
        return _lines(text, name)


def _loads(text: str, name: str, line: int = 1) -> Any:
    """Read JSON that begins at a line of a file."""
    try:
        value = json.loads(text, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        where, reason = f"{name}, line {line + error.lineno - 1}", error.msg
    except UnicodeEncodeError:
        where, reason = f"{name}, line {line}", "half of a surrogate pair"
    except (ValueError, RecursionError) as error:
        where, reason = f"{name}, line {line}", type(error).__name__
    else:
        return value
    raise PromptError(f"{where} is not JSON: {reason}.", hint="Correct it.")


def _refuse(constant: str) -> None:
    """NaN and Infinity are Python's, not JSON's."""
    raise json.JSONDecodeError(f"{constant} is not a value", "", 0)


_RECORDS: dict[str, _Reader] = {
    ".json": _json_records,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _csv_records,
    ".txt": _line_records,
    STDIN: _piped_records,
}
_PASSAGES: dict[str, _Reader] = {
    ".txt": _lines,
    ".json": _json_items,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _csv_records,
    STDIN: _piped_passages,
}
