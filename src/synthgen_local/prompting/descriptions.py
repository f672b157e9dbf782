"""What a schema says about its fields in words, for prompts.

Knows JSON Schema, and which fields a node has.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..schema.ir import Node
from ..schema.null_rates import NullPlace

Schema: TypeAlias = Mapping[str, Any]
_Visit: TypeAlias = tuple[Schema, NullPlace, str, tuple[int, ...]]

_MOST_EXAMPLES = 5  # of one field
_MOST_CHARACTERS = 80  # of one example or default
_MOST_VISITS = 20_000
_SHORTER = (300, 150, 80, 40)  # characters of one field's text where all do not fit


def describe(schema: Schema, node: Node, room: int) -> list[tuple[str, str]]:
    """Return (path, text) of each field that the schema says something about, in order.

    The text is the field's title, description, examples and default. Of a title that only repeats
    the field's name nothing is said. Fields that rows of the `node` cannot have are left out, and
    what a reference leads to is described where it stands nearest to the root. Where all of this
    takes more than `room` bytes, texts are shortened, then the innermost ones left out, and
    a warning says so.

    Example: `describe(grammar.schema.json_schema, grammar.ir, room=8192)`
    """
    found = list(_fields(schema, node))
    if _size(found) > room:
        fitting, kept = _shortened(found, room)
        left_out = f" and {len(found) - kept} left out" if kept < len(found) else ""
        warnings.warn(
            f"Descriptions of {len(found)} fields take more than a quarter of the model's "
            f"context: they are shortened{left_out}.",
            stacklevel=2,
        )
        found = fitting
    return [(field.path, field.text) for field in sorted(found, key=lambda field: field.place)]


@dataclass(frozen=True)
class _Field:
    """A described field; `place` orders fields as the schema does."""

    path: str
    text: str
    place: tuple[int, ...]


def _fields(root: Schema, node: Node) -> Iterator[_Field]:
    """All described fields, those nearest to the root first."""
    definitions = root.get("$defs", root.get("definitions", {}))
    followed: set[str] = set()
    start: _Visit = (root, NullPlace([node], None), "", ())
    waiting = deque([start])
    for _ in range(_MOST_VISITS):
        if not waiting:
            return
        schema, at, path, place = waiting.popleft()
        inner: list[tuple[Any, NullPlace | None, str]] = []
        target = schema.get("$ref")
        if isinstance(target, str) and target not in followed:
            followed.add(target)
            inner.append((definitions.get(target.rpartition("/")[2]), at, path))
        for name, field in schema.get("properties", {}).items():
            inner.append((field, at.of_key(name), f"{path}.{name}" if path else name))
        named = len(inner)
        for keyword in ("anyOf", "oneOf", "allOf"):
            inner += [(part, at, path) for part in schema.get(keyword, ())]
        inner.append((schema.get("items"), at.of_item(len(schema.get("prefixItems", ()))), path))
        for index, (part, where, name) in enumerate(inner):
            if not isinstance(part, Mapping) or where is None:
                continue
            if name != path and index < named and (text := _text(part, name)):
                yield _Field(name, text, (*place, index))
            waiting.append((part, where, name, (*place, index)))


def _text(field: Schema, path: str) -> str:
    """What one field says: its title, description, examples and default."""
    said = [_line(field[key]) for key in ("title", "description") if field.get(key)]
    if "title" in field and said and _plain(said[0]) == _plain(path.rpartition(".")[2]):
        said = said[1:]
    text = ". ".join([*(part.rstrip(".") for part in said[:-1]), *said[-1:]])
    notes = []
    examples = field.get("examples")
    if isinstance(examples, list | tuple) and (shown := list(_values(examples))):
        notes.append(f"such as {', '.join(shown)}")
    if field.get("default") not in (None, "", [], {}):
        notes += [f"usually {shown}" for shown in _values([field["default"]])]
    return f"{text} ({'; '.join(notes)})".strip() if notes else text


def _values(values: Sequence[Any]) -> Iterator[str]:
    """Values as JSON, without those that are long."""
    for value in values[:_MOST_EXAMPLES]:
        try:
            text = json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError):
            continue
        if len(text) <= _MOST_CHARACTERS:
            yield text


def _line(text: Any) -> str:
    return " ".join(str(text).split())


def _plain(text: str) -> str:
    return re.sub(r"[\W_]", "", text).lower()


def _shortened(fields: Sequence[_Field], room: int) -> tuple[list[_Field], int]:
    """As much as fits, and of how many fields that is."""
    shorter: list[_Field] = []
    for length in _SHORTER:
        shorter = [_Field(f.path, _cut(f.text, length), f.place) for f in fields]
        if _size(shorter) <= room:
            return shorter, len(fields)
    kept = 0
    while kept < len(shorter) and _size(shorter[: kept + 1]) <= room:
        kept += 1
    return shorter[:kept], kept


def _cut(text: str, length: int) -> str:
    """The beginning of a text that ends with a whole word."""
    if len(text) <= length:
        return text
    return f"{text[:length].rpartition(' ')[0] or text[:length]} …"


def _size(fields: Sequence[_Field]) -> int:
    return sum(len(f"- {field.path}: {field.text}\n".encode()) for field in fields)
