"""Conversion of JSON Schema in other dialects to draft 2020-12.

Normalises the spelling of `$schema`; without `$schema`, converts forms of drafts 4 to 7 and of
OpenAPI. A document that names its draft is not changed. Knows keywords only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .keywords import NULL_RATE, SHORT_NULL_RATE

_HOST = r"(?:https?://)?(?:www\.)?json-schema\.org/"
_NUMBERED = re.compile(_HOST + r"draft-(0[467])/(?:hyper-)?schema[#/]*", re.IGNORECASE)
_DATED = re.compile(_HOST + r"draft/(2019-09|2020-12)/(?:hyper-)?schema[#/]*", re.IGNORECASE)
_UNDATED = re.compile(_HOST + r"(?:hyper-)?schema[#/]*", re.IGNORECASE)
_OPENAPI = re.compile(r"https?://spec\.openapis\.org/oas/3\.\d/(?:dialect|schema)/\S+")

_OF_NAMES = (
    "properties", "patternProperties", "definitions", "$defs", "dependentSchemas", "dependencies",
)  # fmt: skip
_OF_ONE = (
    "items", "additionalItems", "additionalProperties", "unevaluatedItems", "not", "if", "then",
    "else", "unevaluatedProperties", "contains", "propertyNames", "contentSchema",
)  # fmt: skip
_OF_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")


def usual(document: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a document in the forms of its draft, and a note for each form that was converted.

    Example: `usual({"type": "string", "nullable": True})[0] == {"type": ["string", "null"]}`
    """
    reader = _Reader(document)
    named = document.get("$schema", "")
    spelt = _spelling(named) if isinstance(named, str) else named
    if spelt == "":
        changed = reader.read({key: v for key, v in document.items() if key != "$schema"})
    else:
        changed = {**document, "$schema": spelt}
    if named != spelt:
        reader.notes.insert(0, f"$schema is read as {spelt or '2020-12, as it names no draft'}")
    return (changed if reader.notes else document), reader.notes


def _spelling(dialect: str) -> str:
    """Return the usual spelling of a draft's name, "" without one; others are not changed."""
    if match := _NUMBERED.fullmatch(dialect):
        usual = f"http://json-schema.org/draft-{match[1]}/schema"
    elif match := _DATED.fullmatch(dialect):
        usual = f"https://json-schema.org/draft/{match[1]}/schema"
    elif _UNDATED.fullmatch(dialect) or _OPENAPI.fullmatch(dialect):
        return ""
    else:
        return dialect
    return dialect if dialect.removesuffix("#") == usual else usual


def schemas_in(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a schema and all schemas in it, references not followed.

    Example: `list(schemas_in({"not": {"type": "null"}}))[1] == {"type": "null"}`
    """
    seen: list[dict[str, Any]] = []

    def see(inner: dict[str, Any]) -> dict[str, Any]:
        seen.append(inner)
        return inner

    _each(schema, see)
    yield from reversed(seen)


def _each(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Apply `change` to a schema and to all schemas in it, the inner ones first."""
    if not isinstance(schema, dict):
        return schema
    changed: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _OF_NAMES and isinstance(value, dict):
            changed[key] = {name: _each(item, change) for name, item in value.items()}
        elif key in _OF_LISTS and isinstance(value, list):
            changed[key] = [_each(item, change) for item in value]
        elif key in _OF_ONE:
            changed[key] = _each(value, change)
        else:
            changed[key] = value
    return change(changed)


@dataclass
class _Reader:
    """Reads the forms of older drafts and of OpenAPI in a document that names no draft."""

    root: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def read(self, document: dict[str, Any]) -> dict[str, Any]:
        self._targets = {
            schema["$ref"] for schema in schemas_in(document) if isinstance(schema.get("$ref"), str)
        }
        read: dict[str, Any] = _each(document, self._schema)
        return read

    def _schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        for change in (_bounds, _items, _dependencies, self._named, _nullable, self._tagged):
            changed, note = change(schema)
            schema = changed
            if note and note not in self.notes:
                self.notes.append(note)
        return schema

    def _named(self, schema: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Draft 4's `id`, where a reference leads to it."""
        name = schema.get("id")
        if not isinstance(name, str) or name not in self._targets or name.startswith("#/"):
            return schema, ""
        rest = {key: value for key, value in schema.items() if key != "id"}
        named = {"$anchor": name[1:]} if name.startswith("#") else {"$id": name}
        return {**named, **rest}, "'id' is read as in draft 4"

    def _tagged(self, schema: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """OpenAPI's discriminator: names identify options, unless these limit the tag."""
        match schema.get("discriminator"):
            case {"propertyName": str(tag), **rest}:
                mapping = rest.get("mapping")
            case _:
                return schema, ""
        for key in ("oneOf", "anyOf"):
            options = schema.get(key)
            if isinstance(options, list) and all(self._untagged(one, tag) for one in options):
                listed = mapping if isinstance(mapping, dict) else {}
                names = {str(target): name for name, target in listed.items()}
                tagged = [_with_tag(option, tag, names) for option in options]
                return {**schema, key: tagged}, "'discriminator' is read as in OpenAPI"
        return schema, ""

    def _untagged(self, option: Any, tag: str) -> bool:
        """Whether an option is a reference to a schema that does not limit the tag itself."""
        reference = option.get("$ref") if isinstance(option, dict) else None
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return False
        found: Any = self.root
        for part in reference[2:].split("/"):
            found = found.get(part) if isinstance(found, dict) else None
        property_ = found.get("properties", {}).get(tag, {}) if isinstance(found, dict) else None
        return isinstance(property_, dict) and not {"const", "enum", "$ref"} & property_.keys()


def _with_tag(option: dict[str, Any], tag: str, names: dict[str, str]) -> dict[str, Any]:
    name = names.get(option["$ref"], option["$ref"].rpartition("/")[2])
    return {"allOf": [option, {"properties": {tag: {"const": name}}, "required": [tag]}]}


def _bounds(schema: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Draft 4's exclusive bounds are flags."""
    changed, note = dict(schema), ""
    for key, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(flag := schema.get(key), bool):
            note = "'exclusiveMinimum' and 'exclusiveMaximum' are read as in draft 4"
            del changed[key]
            if flag and bound in changed:
                changed[key] = changed.pop(bound)
    return changed, note


def _items(schema: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Up to 2019-09 `items` may be a list, and `additionalItems` are the others."""
    if not isinstance(schema.get("items"), list):
        return schema, ""
    changed = {key: v for key, v in schema.items() if key not in ("items", "additionalItems")}
    changed["prefixItems"] = schema["items"]
    if "additionalItems" in schema:
        changed["items"] = schema["additionalItems"]
    if not changed["prefixItems"]:
        del changed["prefixItems"]
    return changed, "a list of 'items' is read as in draft 7"


def _dependencies(schema: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Up to draft 7 there is one keyword for names and schemas."""
    dependencies = schema.get("dependencies")
    if not isinstance(dependencies, dict):
        return schema, ""
    changed = {key: value for key, value in schema.items() if key != "dependencies"}
    for kind, key in ((list, "dependentRequired"), (dict | bool, "dependentSchemas")):
        found = {name: value for name, value in dependencies.items() if isinstance(value, kind)}
        if found:
            changed[key] = {**found, **changed.get(key, {})}
    return changed, "'dependencies' are read as in draft 7"


def _nullable(schema: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """OpenAPI's keyword for a value that may be null."""
    if schema.get("nullable") is not True:
        return schema, ""
    note = "'nullable' is read as in OpenAPI"
    changed = {key: value for key, value in schema.items() if key != "nullable"}
    kinds, values = changed.get("type"), changed.get("enum")
    if kinds is None or not (changed.keys() <= _PLAIN):
        kept = {key: value for key, value in changed.items() if key in _KEPT}
        option = {key: value for key, value in changed.items() if key not in _KEPT}
        return {"anyOf": [option, {"type": "null"}], **kept} if option else changed, note
    changed["type"] = list(dict.fromkeys([*([kinds] if isinstance(kinds, str) else kinds), "null"]))
    if isinstance(values, list) and None not in values:
        changed["enum"] = [*values, None]
    return changed, note


_KEPT = (
    "$defs", "definitions", "components", "$id", "id", "$anchor", "title", "description",
    "default", "example", "examples",
)  # fmt: skip
"""Keywords that stay where references and readers look for them."""

_PLAIN = frozenset({
    "type", "enum", "title", "description", "default", "example", "examples", "format", "pattern",
    "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "multipleOf", "items", "prefixItems", "minItems", "maxItems", "uniqueItems", "properties",
    "required", "additionalProperties", "patternProperties", "readOnly", "writeOnly", "deprecated",
    "minProperties", "maxProperties", "xml", "externalDocs", NULL_RATE, SHORT_NULL_RATE,
})  # fmt: skip
"""Keywords with which null may be added to the types: they do not apply to null."""
