"""What a schema says about its fields in words. Knows JSON Schema, not shapes or prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]


def describe(schema: Schema) -> Iterator[tuple[str, str]]:
    """Yield (path, description) of each described field, nested ones included, in order.

    Example: `list(describe({"properties": {"city": {"description": "a town"}}}))`
    """
    yield from _describe(schema, schema, "", frozenset())


def _describe(
    schema: Schema, root: Schema, path: str, seen: frozenset[str]
) -> Iterator[tuple[str, str]]:
    if "$ref" in schema:
        ref = schema["$ref"]
        if ref in seen:
            return
        target = root.get("$defs", root.get("definitions", {})).get(ref.rpartition("/")[2], {})
        yield from _describe(target, root, path, seen | {ref})
    for name, field in schema.get("properties", {}).items():
        if isinstance(field, dict):
            where = f"{path}.{name}" if path else name
            if text := field.get("description"):
                yield where, " ".join(str(text).split())
            yield from _describe(field, root, where, seen)
    for part in (*schema.get("anyOf", []), *schema.get("oneOf", []), *schema.get("allOf", [])):
        yield from _describe(part, root, path, seen)
    if isinstance(schema.get("items"), dict):
        yield from _describe(schema["items"], root, path, seen)
