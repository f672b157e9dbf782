"""JSON Schema documents: other spellings, several files, and what is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from random_rows import decode

from synthgen_local import SchemaError
from synthgen_local.schema import RowSchema, compile_schema, load_schema

OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    "name",
    [
        "https://json-schema.org/draft-07/schema#",
        "https://json-schema.org/draft-07/schema",
        "http://json-schema.org/draft-07/schema#/",
        "http://www.json-schema.org/draft-04/schema#",
        "http://json-schema.org/draft-04/hyper-schema#",
        "http://json-schema.org/draft/2020-12/schema#",
        "http://json-schema.org/schema#",
        "http://json-schema.org/schema",
        "https://json-schema.org/schema",
        "https://spec.openapis.org/oas/3.1/dialect/base",
    ],
)
def test_the_name_of_a_draft_may_be_spelt_in_other_ways(name: str, tmp_path: Path) -> None:
    """A file is read, and a note says so."""
    (tmp_path / "s.json").write_text(json.dumps({"$schema": name, **OBJECT}))
    with pytest.warns(UserWarning, match=r"\$schema is read as"):
        schema = load_schema(str(tmp_path / "s.json"))

    assert schema.parse('{"a":1}') == {"a": 1}
    assert decode(compile_schema(schema), salt=1, rows=2)


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"),
    [
        ({"type": "string", "nullable": True}, ["a", None], [1]),
        ({"type": "string", "enum": ["a"], "nullable": True}, ["a", None], ["b"]),
        (
            {
                "$ref": "#/definitions/x",
                "nullable": True,
                "definitions": {"x": {"type": "integer"}},
            },
            [1, None],
            ["a"],
        ),
        ({"allOf": [{"type": "integer"}], "nullable": True}, [1, None], ["a"]),
        (
            {"type": "object", "properties": {"nullable": {"type": "integer"}}},
            [{}],
            [{"nullable": ""}],
        ),
        ({"type": "integer", "minimum": 3, "exclusiveMinimum": True, "maximum": 5}, [4, 5], [3]),
        ({"type": "integer", "maximum": 5, "exclusiveMaximum": False}, [5], [6]),
        (
            {
                "type": "array",
                "items": [{"type": "integer"}],
                "additionalItems": {"type": "string"},
            },
            [[1, "a"]],
            [["a"], [1, 2]],
        ),
        (
            {"type": "object", "properties": {"a": {}, "b": {}}, "dependencies": {"a": ["b"]}},
            [{"b": 1}, {"a": 1, "b": 1}],
            [{"a": 1}],
        ),
        (
            {
                "type": "object",
                "properties": {"a": {}, "b": {}},
                "dependencies": {"a": {"required": ["b"]}},
            },
            [{"a": 1, "b": 1}],
            [{"a": 1}],
        ),
        (
            {"$ref": "#x", "definitions": {"x": {"id": "#x", "type": "integer"}}},
            [1],
            ["a"],
        ),
        (
            {
                "oneOf": [{"$ref": "#/components/cat"}, {"$ref": "#/components/dog"}],
                "discriminator": {"propertyName": "kind", "mapping": {"mew": "#/components/cat"}},
                "components": {
                    kind: {"type": "object", "properties": {"kind": {"type": "string"}}}
                    for kind in ("cat", "dog")
                },
            },
            [{"kind": "mew"}, {"kind": "dog"}],
            [{"kind": "cat"}, {}],
        ),
    ],
)
def test_forms_of_other_drafts_are_read(
    schema: dict[str, Any], valid: list[Any], invalid: list[Any]
) -> None:
    """Without `$schema`, drafts 4 to 7 and OpenAPI are told by their forms."""
    rows = RowSchema.of(schema)

    for value in valid:
        rows.parse(json.dumps(value))
    for value in invalid:
        with pytest.raises(ValueError, match="not satisfied"):
            rows.parse(json.dumps(value))
    assert len(decode(compile_schema(rows), salt=2, rows=8)) == 8


def test_a_note_says_which_form_was_read(tmp_path: Path) -> None:
    """It stands on stderr, before the rows."""
    (tmp_path / "s.json").write_text('{"type": "string", "nullable": true}')

    with pytest.warns(UserWarning, match="'nullable' is read as in OpenAPI"):
        load_schema(str(tmp_path / "s.json"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A schema whose parts lie in files beside it, and one above."""
    place = tmp_path / "schemas"
    (place / "sub").mkdir(parents=True)
    (tmp_path / "above.json").write_text(json.dumps({"type": "integer"}))
    (place / "link.json").symlink_to(tmp_path / "above.json")
    town = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "http://x.example/town.json",
    }
    town |= {"definitions": {"name": {"type": "string", "maxLength": 3}}}
    town |= {"type": "object", "properties": {"name": {"$ref": "#/definitions/name"}}}
    (place / "town.json").write_text(json.dumps(town))
    street = {"properties": {"town": {"$ref": "../town.json"}, "next": {"$ref": "street.json"}}}
    (place / "sub" / "street.json").write_text(json.dumps({"type": "object", **street}))
    return place


def written(folder: Path, **properties: Any) -> str:
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "properties": properties}
    named = {"$id": "http://x.example/main.json", "type": "object", "required": list(properties)}
    (folder / "main.json").write_text(
        json.dumps({**schema, **named, "additionalProperties": False})
    )
    return str(folder / "main.json")


def test_a_reference_to_a_file_beside_it_is_followed(folder: Path) -> None:
    """By its name, its pointer or its published address, from files in folders below, too."""
    source = written(
        folder,
        a={"$ref": "town.json"},
        b={"$ref": "town.json#/definitions/name"},
        c={"$ref": "http://x.example/town.json#/definitions/name"},
        d={"$ref": "sub/street.json"},
    )
    schema = load_schema(source)

    row = {"a": {"name": "x"}, "b": "y", "c": "z", "d": {"town": {"name": "x"}, "next": {}}}
    assert schema.parse(json.dumps(row)) == row
    for wrong in ({"a": {"name": "long"}}, {"c": "long"}, {"d": {"next": {"town": {"name": 1}}}}):
        with pytest.raises(ValueError, match="not satisfied"):
            schema.parse(json.dumps({**row, **wrong}))
    assert RowSchema.of(schema.json_schema).parse(json.dumps(row)) == row
    assert len(decode(compile_schema(schema), salt=1, rows=4)) == 4


@pytest.mark.parametrize(
    "reference",
    ["../above.json", "link.json", "sub/../../above.json", "%2e%2e/above.json", "{above}"],
)
def test_no_reference_leads_out_of_the_folder(reference: str, folder: Path) -> None:
    """Neither by `..`, nor by a link, nor by an absolute path."""
    named = reference.format(above=folder.parent / "above.json")

    with pytest.raises(SchemaError, match="is outside the folder"):
        load_schema(written(folder, a={"$ref": named}))


@pytest.mark.parametrize("reference", ["gone.json", "http://y.example/town.json", "file:///etc/x"])
def test_what_is_no_file_of_the_folder_is_not_fetched(reference: str, folder: Path) -> None:
    """It is refused, as before."""
    with pytest.raises(SchemaError, match="is outside the schema"):
        compile_schema(load_schema(written(folder, a={"$ref": reference})))


@pytest.mark.parametrize(
    ("document", "hint"),
    [
        ({"name": "Ada", "age": 36}, "looks like a record"),
        ({"id": 1, "title": "Dr", "name": "Ada"}, "looks like a record"),
        ({"type": "visit", "patient": "x"}, "looks like a record"),
        ({"name": "Row", "strict": True, "schema": OBJECT}, "value of 'schema'"),
        (
            {"type": "json_schema", "json_schema": {"name": "Row", "schema": OBJECT}},
            "json_schema.schema'",
        ),
        (
            {"type": "function", "function": {"name": "f", "parameters": OBJECT}},
            "function.parameters'",
        ),
        ({"name": "f", "description": "g", "input_schema": OBJECT}, "value of 'input_schema'"),
        ({"settings": {"rows": 3}, "json_schema": OBJECT}, "value of 'json_schema'"),
        ({"openapi": "3.0.0", "paths": {}}, "OpenAPI document"),
        ({"type": "record", "name": "x", "fields": []}, "Avro"),
        ({"type": "visit of Ada", "id": 3}, "looks like a record"),
        ({"type": "Feature", "geometry": {}, "properties": {}}, "looks like a record"),
        ({"name": "x", "dependencies": {"Ada": "1"}}, "looks like a record"),
        ({"items": [{"name": "Ada"}], "total": 3}, "looks like a record"),
        ({"swagger": "2.0", "definitions": {}}, "OpenAPI document"),
        (
            {"name": {"type": "string"}, "age": {"type": "integer"}},
            "looks like the value of 'properties'",
        ),
    ],
)
def test_what_is_no_schema_is_refused_with_a_guess(document: dict[str, Any], hint: str) -> None:
    """It is not taken for one that allows anything."""
    with pytest.raises(SchemaError, match=r"^Not a JSON Schema: ") as caught:
        RowSchema.of(document)

    assert hint in caught.value.hint
    assert "Ada" not in f"{caught.value} {caught.value.hint}"


def test_a_file_of_records_is_no_schema(tmp_path: Path) -> None:
    """The hint says where records go."""
    (tmp_path / "rows.json").write_text('[{"name": "Ada"}]')

    with pytest.raises(SchemaError, match="is not an object") as caught:
        load_schema(str(tmp_path / "rows.json"))

    assert "as examples" in caught.value.hint


@pytest.mark.parametrize(
    "schema",
    [{}, {"title": "T"}, {"description": "d", "x-origin": "x"}, {"$defs": {}, "origin": 1}],
)
def test_a_schema_may_allow_anything(schema: dict[str, Any]) -> None:
    """One without keywords of its own is a schema still, unless it has others."""
    assert RowSchema.of(schema).parse("1") == 1
