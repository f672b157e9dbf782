"""Serialisation of rows of a pydantic type in the form in which the type reads them.

A written row can then be read again and satisfies the type's JSON Schema, whatever serialisers,
aliases for serialization and excluded fields the type has. Knows pydantic's core schemas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema, SkipJsonSchema
from pydantic_core import PydanticSerializationError, SchemaSerializer

from ..certificate import join_path

_FIELDS = ("model-field", "dataclass-field", "typed-dict-field")
_OBJECTS = ("model", "dataclass", "typed-dict")
_VALIDATED = ("function-after", "function-before", "function-wrap")
_OPAQUE = ("any", "callable", "custom-error", "function-plain", "is-instance", "is-subclass",
           "json-or-python", "lax-or-strict")  # fmt: skip
"""Core schemas of which only a serialiser may know how their values are written."""

_LIBRARY = ("pydantic", "pydantic_core", "pydantic_extra_types")
_ANNOTATIONS = "pydantic_js_annotation_functions"


def row_writer(adapter: TypeAdapter[Any]) -> Callable[..., Any]:
    """Return a function that serialises instances in the form in which the type reads them.

    It takes the arguments of `to_python`.

    Serialisers that were added to a type, a field or a model are left out. One of a type that
    pydantic cannot write itself stays, as do those of fields whose validators return something
    else than the field's type.

    Example: `row_writer(TypeAdapter(int))(1, mode="json")`
    """
    given = with_hidden_fields(adapter.core_schema)
    without, with_some = (_by_row_keys(given, {}, left) for left in (_is_added, _is_replaceable))
    plain, custom = _serializer(adapter, without), _serializer(adapter, with_some)

    def write(instance: Any, **options: Any) -> Any:
        with suppress(PydanticSerializationError):  # a value of another type than the field's
            return plain.to_python(instance, warnings="error", **options)
        return custom.to_python(instance, warnings=False, **options)

    if without == with_some:
        return partial(plain.to_python, warnings=False)
    return write


def unused_settings(adapter: TypeAdapter[Any]) -> Iterator[tuple[str, str]]:
    """Yield the path and the name of each output setting of a type that rows do not follow.

    Example: `list(unused_settings(TypeAdapter(Person))) == [("$.age", "exclude")]`
    """
    return _unused(with_hidden_fields(adapter.core_schema), "$", {}, {})


def _unused(
    schema: Any, path: str, config: Mapping[str, Any], references: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    kind = schema.get("type")
    if "serialization" in schema and _is_added(schema):
        always = _is_replaceable(schema)
        yield path, "serializer" if always else "serializer (unless its value has another type)"
    if kind == "definitions":
        references = {part["ref"]: part for part in schema["definitions"]}
    elif kind == "definition-ref":
        name = schema["schema_ref"]
        if name in references:  # once on a path, as types may hold themselves
            rest = {key: value for key, value in references.items() if key != name}
            yield from _unused(references[name], path, config, rest)
        return
    if kind in _OBJECTS:
        config = schema.get("config") or {}
        yield from ((path, key) for key in config if config[key] != _as_read(config).get(key))
    for computed in schema.get("computed_fields", ()):
        yield join_path(path, computed["property_name"]), "computed_field"
    fields = schema.get("fields", ()) if kind != "dataclass" else ()  # names alone
    named = fields.items() if isinstance(fields, dict) else ((f.get("name"), f) for f in fields)
    for name, field in named:
        yield from _unused_of_field(name, field, path, config, references)
    for key, suffix in (
        ("schema", ""),
        ("choices", ""),
        ("items_schema", "[*]"),
        ("values_schema", ".*"),
    ):
        for part in _parts(schema.get(key)):
            yield from _unused(part, path + suffix, config, references)


def _unused_of_field(
    name: str, field: Any, path: str, config: Mapping[str, Any], references: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    if _HIDDEN in field.get("metadata", {}):
        yield join_path(path, name), "SkipJsonSchema"
        return
    key = row_key(field, name, by_alias=config.get("validate_by_alias", True))
    where = join_path(path, key)
    if field.get("serialization_alias", key) != key:
        yield where, "serialization_alias"
    for setting in ("exclude", "exclude_if"):
        if field.get(f"serialization_{setting}"):
            yield where, setting
    yield from _unused(field["schema"], where, config, references)


def _parts(value: Any) -> Iterator[Any]:
    """The core schemas of one part of another: one, some, or some with labels."""
    if isinstance(value, dict):
        yield from [value] if isinstance(value.get("type"), str) else value.values()
    elif isinstance(value, list):
        yield from (part[0] if isinstance(part, tuple) else part for part in value)


def _serializer(adapter: TypeAdapter[Any], schema: Any) -> SchemaSerializer:
    if schema == adapter.core_schema:
        return adapter.serializer
    return SchemaSerializer(schema, _use_prebuilt=False)  # nested models have theirs ready


def with_hidden_fields(schema: Any) -> Any:
    """Return a core schema whose fields are no longer hidden from JSON Schema, if that can be.

    A default that is drawn anew for each instance (`default_factory=uuid4`) would have no column,
    and no two runs would have the same rows. What JSON cannot say stays hidden.

    Example: `with_hidden_fields(TypeAdapter(int).core_schema)`
    """
    root = schema if schema.get("type") == "definitions" else {}
    return _with_hidden_fields(schema, root.get("definitions", []))


def _with_hidden_fields(schema: Any, definitions: list[Any]) -> Any:
    if isinstance(schema, list | tuple):
        return type(schema)(_with_hidden_fields(item, definitions) for item in schema)
    if not isinstance(schema, dict):
        return schema
    changed = {
        key: value if key in _KEPT else _with_hidden_fields(value, definitions)
        for key, value in schema.items()
    }
    if schema.get("type") in _FIELDS and (shown := _shown(schema["schema"])) is not None:
        if _json_can_say(shown, definitions):
            changed["schema"] = shown
        else:
            changed["serialization_exclude"] = True
            changed["metadata"] = {**schema.get("metadata", {}), _HIDDEN: True}
    return changed


_KEPT = ("metadata", "default", "function", "serialization")
_HIDDEN = "synthgen_local_hidden"


def _shown(schema: Any) -> Any:
    """A field's core schema without SkipJsonSchema, None if it has none."""
    metadata = schema.get("metadata") or {}
    functions = metadata.get(_ANNOTATIONS) or []
    left = [f for f in functions if type(getattr(f, "__self__", None)) is not SkipJsonSchema]
    if len(left) < len(functions):
        return {**schema, "metadata": {**metadata, _ANNOTATIONS: left}}
    inner = schema.get("schema")
    if schema.get("type") in ("default", "nullable", *_VALIDATED) and isinstance(inner, dict):
        shown = _shown(inner)
        return None if shown is None else {**schema, "schema": shown}
    return None


def _json_can_say(schema: Any, definitions: list[Any]) -> bool:
    if _is_opaque(schema):
        return False
    whole = {"type": "definitions", "schema": schema, "definitions": definitions}
    try:
        GenerateJsonSchema().generate(whole if definitions else schema)
    except PydanticInvalidForJsonSchema:
        return False
    return True


def _by_row_keys(
    schema: Any, config: Mapping[str, Any], removed: Callable[[Any], bool], name: str = ""
) -> Any:
    """A core schema whose fields are written by the keys of a row, without some serialisers."""
    if isinstance(schema, list | tuple):
        return type(schema)(_by_row_keys(item, config, removed) for item in schema)
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    if kind in _OBJECTS:
        config = schema.get("config") or {}
    changed = {
        key: value if key in _KEPT else _by_row_keys(value, config, removed, key)
        for key, value in schema.items()
    }
    if isinstance(schema.get("config"), dict):
        changed["config"] = _as_read(schema["config"])
    if "serialization" in schema and removed(schema):
        del changed["serialization"]
    if kind in _FIELDS:
        name = schema.get("name", name)
        key = row_key(schema, name, by_alias=config.get("validate_by_alias", True))
        if key != schema.get("serialization_alias", name):
            changed["serialization_alias"] = key
        if _HIDDEN not in schema.get("metadata", {}):
            changed.pop("serialization_exclude", None)
        changed.pop("serialization_exclude_if", None)
    return changed


def row_key(field: Mapping[str, Any], name: str, *, by_alias: bool) -> str:
    """Return the key under which a row has a field: its first alias that is a plain name.

    Raises PydanticInvalidForJsonSchema if it has none.

    Example: `row_key({"validation_alias": "a"}, "b", by_alias=True) == "a"`
    """
    alias = field.get("validation_alias", name) if by_alias else name
    if isinstance(alias, str):
        return alias
    paths = alias if isinstance(alias[0], list) else [alias]
    keys = (path[0] for path in paths if len(path) == 1 and isinstance(path[0], str))
    if (key := next(keys, None)) is None:
        raise PydanticInvalidForJsonSchema(f"'{name}' has no alias but an AliasPath")
    return str(key)


def _as_read(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration that writes durations, moments and bytes as it reads them."""
    named = ("ser_json_timedelta", "ser_json_temporal", "ser_json_bytes")
    kept = {key: value for key, value in config.items() if key not in named}
    coding = {"ser_json_bytes": config["val_json_bytes"]} if "val_json_bytes" in config else {}
    return kept | coding


def _is_added(schema: Mapping[str, Any]) -> bool:
    """Return whether a serialiser is neither pydantic's own nor one of a type that needs it."""
    serialization = schema["serialization"]
    kind = str(serialization.get("type"))
    if _is_opaque(schema) or not kind.startswith("function-"):
        return kind == "any" and not _is_opaque(schema)  # SerializeAsAny
    function = serialization["function"]
    module = getattr(getattr(function, "func", function), "__module__", None)
    return str(module).partition(".")[0] not in _LIBRARY


def _is_replaceable(schema: Mapping[str, Any]) -> bool:
    """Return whether it is added and no validator stands between it and the type."""
    return _is_added(schema) and schema.get("type") not in _VALIDATED


def _is_opaque(schema: Any) -> bool:
    if schema.get("type") in _OPAQUE:
        return True
    inner = [schema.get("schema"), *schema.get("choices", ())]
    if schema.get("type") in _OBJECTS:
        return False
    options = [part[0] if isinstance(part, tuple) else part for part in inner]
    return any(isinstance(part, dict) and _is_opaque(part) for part in options)
