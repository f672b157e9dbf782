"""Records to imitate: from instances, mappings, text and files to the text of the grammar.

Examples may be somebody's patients: they are never logged, and no error quotes one.
Knows schemas, not prompts.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel

from ..data.cells import Cells
from ..data.frames import without_missing
from ..data.text_files import (
    Item,
    csv_rows,
    holds_list,
    json_items,
    json_lines,
    json_value,
    read_text,
)
from ..errors import PromptError
from ..schema import RowGrammar
from ..schema.certificate import join_path
from ..schema.grammar.json_text import arrange, write_value
from ..schema.rejections import declared_names

Example: TypeAlias = str | Mapping[str, Any] | BaseModel
"""A record: an instance, a mapping of fields, text, or `{"example": text}`."""

_MOST_CHARACTERS = 1 << 21  # of all examples: far beyond what a context holds
_HEAD = 1000  # rows of a file that tell how its columns are written
ENOUGH_EXAMPLES = 10
"""Values of a field, from which on their rate of null is that of rows."""
_MONEY = re.compile(r"[$€£¥]\s*(?=[\d.])")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?:\D|$))")


def example_texts(examples: Sequence[Example], grammar: RowGrammar) -> list[str]:
    """Return each example as the grammar would write it.

    Text that is a JSON object, or such as "Name: Ada, Age: 36" names every field, is read as
    a record; other text stands as it is, with a warning. Raises PromptError, with the number of the
    example, for a record that the schema refuses.

    Example: `example_texts([{"name": "Ada"}], grammar) == ['{"name":"Ada"}']`
    """
    items = ((f"Example {number}", example) for number, example in enumerate(examples, 1))
    return _texts(items, _Reader(grammar), "The examples")


def load_examples(path: Path, grammar: RowGrammar) -> list[str]:
    """Read records from a .jsonl, .json (a list) or .csv file, as the grammar would write them.

    Raises PromptError that names the line (the item, in .json) that cannot be read.

    Example: `load_examples(Path("patients.csv"), grammar)`
    """
    readers: dict[str, Callable[[str, str, _Reader], Iterator[Item]]] = {
        ".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".csv": _csv,
    }  # fmt: skip
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise PromptError(
            f"{path} is not a kind of examples file.", hint="Use .jsonl, .json or .csv."
        )
    own = _Reader(grammar)
    return _texts(reader(read_text(str(path)), str(path), own), own, str(path))


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


def null_rates(texts: Iterable[str]) -> dict[str, float]:
    """Return how often the value at each path of some records is null.

    Paths are those of `longest_strings`; one with fewer than `ENOUGH_EXAMPLES` values has no rate.

    Example: `null_rates(['{"name":null}'] * 10) == {"$": 0.0, "$.name": 1.0, "$.*": 1.0}`
    """
    nulls, values = Counter[str](), Counter[str]()
    for record in filter(None, map(json_record, texts)):
        for path, value in _values(record, "$"):
            values[path] += 1
            nulls[path] += value is None
    return {p: nulls[p] / n for p, n in values.items() if n >= ENOUGH_EXAMPLES}


def _values(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, value
    match value:
        case dict():
            for key, item in value.items():
                yield from _values(item, join_path(path, key))
                yield from _values(item, f"{path}.*")
        case list():
            for item in value:
                yield from _values(item, f"{path}[*]")


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


def _texts(items: Iterable[Item], reader: _Reader, name: str) -> list[str]:
    """The texts of all items. Raises PromptError once they are longer than any prompt."""
    texts: list[str] = []
    size = 0
    for where, item in items:
        texts.append(reader.text(item, where))
        size += len(texts[-1])
        if size > _MOST_CHARACTERS:
            usable = len(texts) - 1
            raise PromptError(
                f"{name}: more than the first {usable:,} examples are {_MOST_CHARACTERS >> 20} "
                "million characters, which no model's context holds.",
                hint=f"Give {usable:,} examples at most; a few dozen show what is meant.",
            )
    return texts


class _Reader:
    """Reads examples by one grammar."""

    def __init__(self, grammar: RowGrammar) -> None:
        self.schema = grammar.schema
        self.cells = Cells(grammar.schema)
        self.declared = declared_names(grammar.schema.json_schema)
        self._grammar = grammar
        self._labels = _labels(grammar)

    def text(self, example: Any, where: str) -> str:
        """Return an example in the text of the grammar, or as it is if it is no record."""
        if (
            isinstance(example, Mapping)
            and example.keys() == {"example"}
            and "example" not in self._labels
        ):
            example = example["example"]
        if isinstance(example, str):
            record = self._of_text(example, where)
            if record is None:
                _check_storable(example, where, ())
                warnings.warn(
                    f"{where} is not a record of {self.schema.name}; it stands as text.",
                    stacklevel=5,
                )
                return example.strip()
            example = record
        return self.record_text(example, where)

    def record_text(self, record: Any, where: str) -> str:
        """Return a record in the text of the grammar. Raises PromptError."""
        try:
            instance = self._read(record)
        except ValueError as error:
            raise PromptError(
                f"{where} is not a {self.schema.name}: {error}", hint="Correct the record."
            ) from None
        value = self.schema.dump(instance)
        _check_storable(value, where, self.declared)
        return write_value(arrange(value, self._grammar.ir))

    def _read(self, record: Any) -> Any:
        """The instance of a record, also where it has nulls or dates as tables have them."""
        if not isinstance(record, Mapping):
            return self.schema.read(record)
        record = without_missing(dict(record))
        try:
            return self.schema.read(record)
        except ValueError:
            known = self.cells.json_values(record)
            if known != record:
                with suppress(ValueError):
                    return self.schema.read(known)
            raise

    def _of_text(self, text: str, where: str) -> Any:
        if json_record(text) is not None:
            return json_value(text, where, self.declared)
        return _labelled(text, self._grammar, self.cells)


def _check_storable(value: Any, where: str, declared: Collection[str]) -> None:
    """Raise PromptError for NaN, Infinity and halves of surrogate pairs, by field."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        return
    except UnicodeEncodeError:
        reason = "text with half of a surrogate pair"
    except ValueError:
        reason = "a number that JSON does not have (NaN or Infinity)"
    items = value.items() if isinstance(value, dict) else ()
    field = next((f"{n}: " for n, v in items if n in declared and not _is_storable(v)), "")
    raise PromptError(f"{where} is not JSON: {field}{reason}.", hint="Correct the record.")


def _is_storable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return False
    return True


def json_record(text: str) -> dict[str, Any] | None:
    """Read text that is a JSON object; None for other text.

    Example: `json_record('{"name":"Ada"}') == {"name": "Ada"}`
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _labelled(text: str, grammar: RowGrammar, cells: Cells) -> dict[str, Any] | None:
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
    for candidate in (record, plain, cells.record(plain)):
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


def _jsonl(text: str, name: str, reader: _Reader) -> Iterator[Item]:
    return json_lines(text, name, reader.declared)


def _json(text: str, name: str, reader: _Reader) -> Iterator[Item]:
    items = json_items(text, name, reader.declared)
    if not holds_list(text):
        next(items)  # what is no JSON is called that
        raise PromptError(
            f"{name} does not hold a list of records.", hint="Use .jsonl for one a line."
        )
    return items


def _csv(text: str, name: str, reader: _Reader) -> Iterator[Item]:
    columns, rows = csv_rows(text, name, reader.declared)
    head = list(islice(rows, _HEAD))
    typed = reader.cells.rows(columns, [cells for _, cells in head])
    for where, cells in chain(head, rows):
        yield where, typed.record(cells)
