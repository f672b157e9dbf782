"""JSON that is no JSON Schema although it could be read as one that allows anything.

Refused with a guess at what is meant. Knows keywords, and what schemas are wrapped in elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...errors import SchemaError
from .keywords import SHORT_NULL_RATE

_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")

_ASSERTING = frozenset({
    "$ref", "$dynamicRef", "$recursiveRef", "$defs", "definitions", "$schema", "type", "enum",
    "const", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "properties",
    "patternProperties", "additionalProperties", "propertyNames", "required", "minProperties",
    "maxProperties", "dependencies", "dependentRequired", "dependentSchemas", "items",
    "prefixItems", "additionalItems", "contains", "minContains", "maxContains", "minItems",
    "maxItems", "uniqueItems", "unevaluatedItems", "unevaluatedProperties", "minLength",
    "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "multipleOf", "$id", "$anchor", "$dynamicAnchor", "$vocabulary",
    "contentEncoding", "contentMediaType", "contentSchema", "nullable", SHORT_NULL_RATE,
})  # fmt: skip
_SPEAKING = frozenset({
    "title", "description", "$comment", "default", "examples", "example", "deprecated",
    "readOnly", "writeOnly", "id",
})  # fmt: skip
_WRAPPERS = (
    "schema", "json_schema", "jsonSchema", "parameters", "input_schema", "inputSchema",
    "output_schema", "outputSchema", "function", "response_format", "responseFormat", "format",
    "text", "tool", "tools", "components", "schemas", "generationConfig", "responseSchema",
)  # fmt: skip
_HINT = 'A schema says what rows may be: {"type": "object", "properties": ...}.'


def refuse_strangers(document: dict[str, Any], name: str) -> None:
    """Raise SchemaError for JSON that is no schema: a record, or a schema that is wrapped.

    Example: `refuse_strangers({"type": "object"}, "person.json")`
    """
    said = document.get("type")
    typed = isinstance(said, list) or said in _TYPES
    strange = [key for key in document.keys() - _ASSERTING - _SPEAKING if not key.startswith("x-")]
    told = _told(document) if not typed else set()
    named = "type" in document  # otherwise than a type is
    api = document.keys() & {"openapi", "swagger"} and told <= {"definitions"}
    if typed or not (strange or named) or (told and not api and not (named and strange)):
        return
    inner = next(_wrapped(document, ""), "")
    if inner:
        hint = f"What stands under '{inner}' looks like one: give that alone."
    elif "openapi" in document or "swagger" in document:
        hint = "It looks like a description of an API: give one of its schemas alone."
    elif _is_avro(document):
        hint = "It looks like a schema of Avro: write it as JSON Schema."
    elif all(map(_is_schema, document.values())):
        hint = f"It looks like properties without a type around them. {_HINT}"
    else:
        hint = f"It looks like a record: records are given as --examples. {_HINT}"
    raise SchemaError(f"Not a JSON Schema: {name} has none of its keywords.", hint=hint)


def refuse_list(document: Any, name: str) -> None:
    """Raise SchemaError for JSON that is no object.

    Example: `refuse_list({}, "person.json")`
    """
    if isinstance(document, dict):
        return
    records = isinstance(document, list) and any(isinstance(item, dict) for item in document)
    hint = "It looks like records: these are given as --examples. " if records else ""
    raise SchemaError(f"{name} is not a JSON Schema: it is not an object.", hint=f"{hint}{_HINT}")


def _wrapped(value: Any, path: str) -> Iterator[str]:
    """The paths of schemas within what they are wrapped in."""
    for key in _WRAPPERS:
        inner = value.get(key) if isinstance(value, dict) else None
        where = f"{path}.{key}" if path else key
        if isinstance(inner, list) and inner:
            inner, where = inner[0], f"{where}[0]"
        if _is_schema(inner):
            yield where
        elif isinstance(inner, dict) and path.count(".") < len(_WRAPPERS):
            yield from _wrapped(inner, where)


def _is_schema(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    named = value.get("type")
    return named in _TYPES or isinstance(value.get("properties"), dict) or "$ref" in value


def _told(document: dict[str, Any]) -> set[str]:
    """The keywords that say what a value may be, and have such values as keywords have."""
    keys = document.keys() & _ASSERTING - {"type", "format"}
    return {key for key in keys if _is_plausible(key, document[key])}


def _is_plausible(key: str, value: Any) -> bool:
    import jsonschema_rs

    if key in ("properties", "patternProperties", "$defs", "definitions"):  # of whatever draft
        return isinstance(value, dict) and all(isinstance(v, dict | bool) for v in value.values())
    if key == "items" and isinstance(value, list):
        return all(isinstance(item, dict) and item.keys() & _ASSERTING for item in value)
    return key == "$schema" or jsonschema_rs.meta.is_valid({key: value})


def _is_avro(document: dict[str, Any]) -> bool:
    return document.get("type") == "record" and isinstance(document.get("fields"), list)
