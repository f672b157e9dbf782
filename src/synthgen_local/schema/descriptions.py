"""What a schema says about its fields in words. Knows JSON Schema, not shapes or prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from ..errors import SchemaError

Schema = Mapping[str, Any]

_MOST = 20_000


def describe(schema: Schema) -> Iterator[tuple[str, str]]:
    """Yield (path, description) of each described field, nested ones included, in order.

    Raises SchemaError if the schema has more fields, references followed, than a row could have.

    Example: `list(describe({"properties": {"city": {"description": "a town"}}}))`
    """
    yield from _describe(schema, schema, "", frozenset(), count())


def _describe(
    schema: Schema, root: Schema, path: str, seen: frozenset[str], visits: Iterator[int]
) -> Iterator[tuple[str, str]]:
    if next(visits) > _MOST:
        raise SchemaError(f"The schema has more than {_MOST} fields.", hint="Simplify it.")
    if "$ref" in schema:
        ref = schema["$ref"]
        if ref in seen:
            return
        target = root.get("$defs", root.get("definitions", {})).get(ref.rpartition("/")[2], {})
        yield from _describe(target, root, path, seen | {ref}, visits)
    for name, field in schema.get("properties", {}).items():
        if isinstance(field, dict):
            where = f"{path}.{name}" if path else name
            if text := field.get("description"):
                yield where, " ".join(str(text).split())
            yield from _describe(field, root, where, seen, visits)
    for part in (*schema.get("anyOf", []), *schema.get("oneOf", []), *schema.get("allOf", [])):
        yield from _describe(part, root, path, seen, visits)
    if isinstance(schema.get("items"), dict):
        yield from _describe(schema["items"], root, path, seen, visits)
