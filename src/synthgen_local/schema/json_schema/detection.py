"""Detection of JSON that is not a JSON Schema, though it could be read as one that allows anything.

Errors suggest what is meant. Knows keywords, and objects in which other formats wrap schemas.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...errors import SchemaError
from .keywords import SHORT_NULL_RATE

_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")

_ASSERTIONS = frozenset({
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
_ANNOTATIONS = frozenset({
    "title", "description", "$comment", "default", "examples", "example", "deprecated",
    "readOnly", "writeOnly", "id",
})  # fmt: skip
_WRAPPERS = (
    "schema", "json_schema", "jsonSchema", "parameters", "input_schema", "inputSchema",
    "output_schema", "outputSchema", "function", "response_format", "responseFormat", "format",
    "text", "tool", "tools", "components", "schemas", "generationConfig", "responseSchema",
)  # fmt: skip
_HINT = 'A JSON Schema describes rows: {"type": "object", "properties": ...}.'


def refuse_other_json(document: dict[str, Any], name: str) -> None:
    """Raise SchemaError for JSON that is not a schema: a record, or a schema that is wrapped.

    Example: `refuse_other_json({"type": "object"}, "person.json")`
    """
    said = document.get("type")
    typed = isinstance(said, list) or said in _TYPES
    strange = [
        key for key in document.keys() - _ASSERTIONS - _ANNOTATIONS if not key.startswith("x-")
    ]
    told = _plausible_assertions(document) if not typed else set()
    named = "type" in document  # otherwise than a type is
    api = document.keys() & {"openapi", "swagger"} and told <= {"definitions"}
    if typed or not (strange or named) or (told and not api and not (named and strange)):
        return
    inner = next(_wrapped(document, ""), "")
    if inner:
        hint = f"The value of '{inner}' looks like a JSON Schema: pass that value alone."
    elif "openapi" in document or "swagger" in document:
        hint = "It looks like an OpenAPI document: pass one of its schemas alone."
    elif _is_avro(document):
        hint = "It looks like an Avro schema: convert it to JSON Schema."
    elif all(map(_is_schema, document.values())):
        hint = f"It looks like the value of 'properties' alone. {_HINT}"
    else:
        hint = f"It looks like a record: pass records as examples. {_HINT}"
    raise SchemaError(f"Not a JSON Schema: {name} has none of its keywords.", hint=hint)


def refuse_list(document: Any, name: str) -> None:
    """Raise SchemaError for JSON that is not an object.

    Example: `refuse_list({}, "person.json")`
    """
    if isinstance(document, dict):
        return
    records = isinstance(document, list) and any(isinstance(item, dict) for item in document)
    hint = "It looks like records: pass records as examples. " if records else ""
    raise SchemaError(f"{name} is not a JSON Schema: it is not an object.", hint=f"{hint}{_HINT}")


def _wrapped(value: Any, path: str) -> Iterator[str]:
    """Yield the paths of schemas within the objects that wrap them."""
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


def _plausible_assertions(document: dict[str, Any]) -> set[str]:
    """Return the assertions of a document whose values are valid for the keyword."""
    keys = document.keys() & _ASSERTIONS - {"type", "format"}
    return {key for key in keys if _is_plausible(key, document[key])}


def _is_plausible(key: str, value: Any) -> bool:
    import jsonschema_rs

    if key in ("properties", "patternProperties", "$defs", "definitions"):  # of whatever draft
        return isinstance(value, dict) and all(isinstance(v, dict | bool) for v in value.values())
    if key == "items" and isinstance(value, list):
        return all(isinstance(item, dict) and item.keys() & _ASSERTIONS for item in value)
    return key == "$schema" or jsonschema_rs.meta.is_valid({key: value})


def _is_avro(document: dict[str, Any]) -> bool:
    return document.get("type") == "record" and isinstance(document.get("fields"), list)
