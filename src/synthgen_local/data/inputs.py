"""Records and passages from files, or from stdin.

Knows files, not models. What they hold may be somebody's patients: no error quotes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import PromptError
from .text_files import (
    STDIN,
    Item,
    csv_records,
    holds_list,
    json_items,
    json_lines,
    json_value,
    read_text,
    text_lines,
)

_Reader: TypeAlias = Callable[[str, str], Iterable[Item]]  # of a text and its file's name


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
    value = json_value(given if inline else read_text(given, hint), name)
    if not isinstance(value, dict):
        raise PromptError(f"{name} does not hold a JSON object.", hint=hint)
    return value


def _items(source: str, readers: Mapping[str, _Reader]) -> Iterable[Item]:
    reader = readers.get(source if source == STDIN else Path(source).suffix.lower())
    if reader is None:
        kinds = ", ".join(kind for kind in readers if kind != STDIN)
        raise PromptError(
            f"{source} has no known suffix.", hint=f"Use {kinds}, or {STDIN} for stdin."
        )
    return reader(read_text(source), "stdin" if source == STDIN else source)


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
    for where, line in text_lines(text, name):
        yield where, line.strip()


def _line_records(text: str, name: str) -> Iterator[Item]:
    for where, line in _lines(text, name):
        yield where, [line]


def _json_records(text: str, name: str) -> Iterable[Item]:
    """A list of plain values is one record: none of them could be a record of its own."""
    items = list(json_items(text, name))
    values = [value for _, value in items]
    plain = holds_list(text) and not any(isinstance(value, dict | list) for value in values)
    return [(name, values)] if plain and values else items


def _csv_records(text: str, name: str) -> Iterator[Item]:
    for where, record in csv_records(text, name):
        yield where, {column: cell or "" for column, cell in record.items()}


def _piped_records(text: str, name: str) -> Iterable[Item]:
    try:
        return _json_records(text, name)
    except PromptError:
        return json_lines(text, name)


def _piped_passages(text: str, name: str) -> Iterable[Item]:
    try:
        return [(where, _document(value, where)) for where, value in json_lines(text, name)]
    except PromptError:
        return _lines(text, name)


_RECORDS: dict[str, _Reader] = {
    ".json": _json_records,
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".csv": _csv_records,
    ".txt": _line_records,
    STDIN: _piped_records,
}
_PASSAGES: dict[str, _Reader] = {
    ".txt": _lines,
    ".json": json_items,
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".csv": _csv_records,
    STDIN: _piped_passages,
}
