"""Records to imitate: from instances, mappings, text and files to the text of the grammar.

Examples may be somebody's patients: they are never logged, and no error quotes one.
Knows schemas, not prompts.
"""

from __future__ import annotations

import csv
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel

from .errors import PromptError
from .schema import RowGrammar
from .schema.certificate import join_path
from .schema.grammar import arrange, write_value

Example: TypeAlias = str | Mapping[str, Any] | BaseModel
"""A record: an instance, a mapping of fields, text, or `{"example": text}`."""

_MONEY = re.compile(r"[$€£¥]\s*(?=[\d.])")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?:\D|$))")


def example_texts(examples: Sequence[Example], grammar: RowGrammar) -> list[str]:
    """Return each example as the grammar would write it.

    Text that is a JSON object, or such as "Name: Ada, Age: 36" names every field, is read as
    a record; other text stands as it is, with a warning. Raises PromptError, with the number of the
    example, for a record that the schema refuses.

    Example: `example_texts([{"name": "Ada"}], grammar) == ['{"name":"Ada"}']`
    """
    return [_text(example, grammar, f"Example {i}") for i, example in enumerate(examples, 1)]


def load_examples(path: Path, grammar: RowGrammar) -> list[str]:
    """Read records from a .jsonl, .json (a list) or .csv file, as the grammar would write them.

    Raises PromptError that names the line (the item, in .json) that cannot be read.

    Example: `load_examples(Path("patients.csv"), grammar)`
    """
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".csv": _csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise PromptError(
            f"{path} is not a kind of examples file.", hint="Use .jsonl, .json or .csv."
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PromptError(
            f"{path} cannot be read: {error.strerror}.", hint="Check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise PromptError(f"{path} is not UTF-8.", hint="Save it as UTF-8.") from error
    return [
        _text(example, grammar, f"{path}, {where}")
        for where, example in reader(path, text, grammar)
    ]


def longest_strings(texts: Iterable[str]) -> dict[str, int]:
    """Return the length in characters of the longest string at each path of some records.

    Texts that are no JSON objects are passed over. A path leads through every key by its name
    and by `*`, and through every item by `[*]` and its number, as the certificate writes them.

    Example: `longest_strings(['{"name":"Ada"}'])["$.name"] == 3`
    """
    longest: dict[str, int] = {}
    for record in filter(None, map(json_record, texts)):
        for path, text in _strings(record, "$"):
            longest[path] = max(longest.get(path, 0), len(text))
    return longest


def _strings(value: Any, path: str) -> Iterator[tuple[str, str]]:
    match value:
        case str():
            yield path, value
        case dict():
            for key, item in value.items():
                yield f"{path}.*~", key
                yield from _strings(item, join_path(path, key))
                yield from _strings(item, f"{path}.*")
        case list():
            for index, item in enumerate(value):
                yield from _strings(item, f"{path}[*]")
                yield from _strings(item, f"{path}[{index}]")


def _text(example: Any, grammar: RowGrammar, where: str) -> str:
    if (
        isinstance(example, Mapping)
        and example.keys() == {"example"}
        and "example" not in _labels(grammar)
    ):
        example = example["example"]
    if isinstance(example, str):
        record = json_record(example)
        if record is None:
            record = _labelled(example, grammar)
        if record is None:
            warnings.warn(
                f"{where} is not a record of {grammar.schema.name}; it stands as text.",
                stacklevel=4,
            )
            return example.strip()
        example = record
    try:
        instance = grammar.schema.read(example)
    except ValueError as error:
        raise PromptError(
            f"{where} is not a {grammar.schema.name}: {error}", hint="Correct the record."
        ) from None
    return write_value(arrange(grammar.schema.dump(instance), grammar.shape))


def json_record(text: str) -> dict[str, Any] | None:
    """Read text that is a JSON object; None for other text.

    Example: `json_record('{"name":"Ada"}') == {"name": "Ada"}`
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _labelled(text: str, grammar: RowGrammar) -> dict[str, Any] | None:
    """Read "Label: value, Label: value" if each field is there once and takes its value."""
    labels = _labels(grammar)
    if not labels:
        return None
    names = "|".join(
        re.escape(label).replace(r"\ ", r"[\s_]+")
        for label in sorted(labels, key=len, reverse=True)
    )
    found = list(re.finditer(rf"(?:^|(?<=[\s,;]))({names})\s*:\s*", text, re.IGNORECASE))
    fields = [labels[" ".join(re.split(r"[\s_]+", match[1])).lower()] for match in found]
    if sorted(fields) != sorted(set(labels.values())):
        return None
    ends = [match.start() for match in found[1:]] + [len(text)]
    record = {
        field: " ".join(text[match.end() : end].split()).rstrip(",; ")
        for field, match, end in zip(fields, found, ends, strict=True)
    }
    plain = {k: _THOUSANDS.sub("", _MONEY.sub("", value)) for k, value in record.items()}
    for candidate in (record, plain, _typed(plain, grammar)):
        try:
            grammar.schema.read(candidate)
        except ValueError:
            continue
        return candidate
    return None


def _labels(grammar: RowGrammar) -> dict[str, str]:
    """Label in lower case, with spaces for underscores, to field: its name and its title."""
    labels = {}
    for name, field in grammar.schema.json_schema.get("properties", {}).items():
        title = field.get("title", name) if isinstance(field, dict) else name
        for label in (name, title):
            labels[" ".join(re.split(r"[\s_]+", label.strip())).lower()] = name
    return labels


def _typed(record: Mapping[str, str], grammar: RowGrammar) -> dict[str, Any]:
    """Values that came as text, as JSON values where the schema does not ask for a string."""
    properties = grammar.schema.json_schema.get("properties", {})
    return {k: _cell(v, properties.get(k, {})) for k, v in record.items()}


def _cell(text: str, field: Any) -> Any:
    if isinstance(field, dict) and field.get("type") == "string":
        return text
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _jsonl(path: Path, text: str, _grammar: RowGrammar) -> list[tuple[str, Any]]:
    examples = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            examples.append((f"line {number}", _loads(line, f"{path}, line {number}")))
    return examples


def _json(path: Path, text: str, _grammar: RowGrammar) -> list[tuple[str, Any]]:
    items = _loads(text, str(path))
    if not isinstance(items, list):
        raise PromptError(
            f"{path} does not hold a list of records.", hint="Use .jsonl for one a line."
        )
    return [(f"item {number}", item) for number, item in enumerate(items, 1)]


def _csv(path: Path, text: str, grammar: RowGrammar) -> list[tuple[str, Any]]:
    reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
    examples: list[tuple[str, Any]] = []
    try:
        for record in reader:
            where = f"line {reader.line_num}"
            if None in record or None in record.values():
                raise PromptError(
                    f"{path}, {where} has not {len(reader.fieldnames or [])} cells.",
                    hint="Correct it.",
                )
            examples.append((where, _typed(record, grammar)))
    except csv.Error as error:
        raise PromptError(
            f"{path}, line {reader.line_num}: {error}.", hint="Correct it."
        ) from error
    return examples


def _loads(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise PromptError(f"{where} is not JSON: {reason}.", hint="Correct it.") from None
