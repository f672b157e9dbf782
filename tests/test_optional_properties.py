"""Optional properties that are chosen where a schema multiplies: HL7's FHIR and the like."""

from __future__ import annotations

import gzip
import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from random_rows import decode

from synthgen_local.prompting.descriptions import describe
from synthgen_local.prompting.skeleton import outline
from synthgen_local.schema import RowSchema, compile_schema, compile_within
from synthgen_local.schema.json_schema.references import References

RESOURCES = ("Patient", "Observation", "Encounter", "Condition", "Claim")
TYPES = ("Coding", "HumanName", "CodeableConcept")
ROOM = 4096


@cache
def fhir() -> dict[str, Any]:
    """An excerpt of HL7's own JSON Schema of FHIR R4 (CC0)."""
    path = Path(__file__).parent / "data" / "fhir-excerpt.schema.json.gz"
    document: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return document


def resource(name: str) -> dict[str, Any]:
    """The schema of one resource or type of FHIR."""
    return {**fhir(), "$ref": f"#/definitions/{name}"}


@pytest.mark.parametrize("name", [*RESOURCES, *TYPES])
def test_rows_of_fhir(name: str) -> None:
    """Rows of FHIR's resources and types fit a small context and are valid."""
    grammar = compile_within(RowSchema.of(resource(name)), ROOM)
    judge = jsonschema.Draft6Validator(resource(name))

    assert grammar.longest <= ROOM
    rows = [json.loads(text) for text in decode(grammar, salt=1, rows=25)]
    assert all(judge.is_valid(row) for row in rows)


def test_what_is_kept_of_fhir() -> None:
    """Rows have what matters of a resource, and neither extensions nor contained resources."""
    form = outline(compile_within(RowSchema.of(resource("Patient")), ROOM).ir)

    assert {"identifier", "name", "gender", "birthDate", "address", "contact"} <= form.keys()
    assert {"use", "text", "family"} <= form["name"][0].keys()
    assert {"extension", "contained", "_birthDate"}.isdisjoint(form)
    concept = outline(compile_within(RowSchema.of(resource("CodeableConcept")), ROOM).ir)
    assert {"system", "code", "display"} <= concept["coding"][0].keys()


def test_the_certificate_names_what_rows_do_not_have() -> None:
    """Each optional property that is left out of rows stands in the certificate as a bound."""
    certificate = compile_within(RowSchema.of(resource("Patient")), ROOM).certificate

    left_out = {c.path for c in certificate.bounds if c.keyword == "properties"}
    assert {"$.extension", "$.contained", "$._birthDate", "$.name[*].extension"} <= left_out


def test_a_certificate_without_a_model() -> None:
    """The grammar of a resource can be derived without a context that it must fit."""
    assert compile_schema(RowSchema.of(resource("Observation"))).longest <= ROOM


def test_what_examples_have_is_kept_first() -> None:
    """Properties that the examples have are kept, even those that are left out otherwise."""
    schema = RowSchema.of(resource("Patient"))

    form = outline(compile_within(schema, ROOM, {"$.extension[*].url": 40, "$.link[*].type": 9}).ir)

    assert "url" in form["extension"][0]


def test_recursion_through_many_types() -> None:
    """Types that all lead to each other are cut where there is no more room."""
    names = [f"T{n}" for n in range(30)]
    properties = {n: {"type": "array", "items": {"$ref": f"#/$defs/{n}"}} for n in names}
    kind = {"type": "object", "properties": {"label": {"type": "string"}, **properties}}
    schema = {"$ref": "#/$defs/T0", "$defs": dict.fromkeys(names, kind)}

    grammar = compile_within(RowSchema.of(schema), ROOM)

    assert grammar.longest <= ROOM
    assert "label" in outline(grammar.ir)
    assert len(decode(grammar, salt=2, rows=10)) == 10


def test_rows_of_more_properties_than_fit() -> None:
    """A flat schema of more optional strings than fit the context has as many as do."""
    properties = {f"field{n}": {"type": "string", "minLength": 20} for n in range(200)}
    schema = RowSchema.of({"type": "object", "properties": properties, "required": ["field199"]})

    grammar = compile_within(schema, ROOM)

    assert grammar.longest <= ROOM
    assert {"field0", "field199"} <= outline(grammar.ir).keys()


def test_hubs_are_what_large_circles_go_through() -> None:
    """Extensions and contained resources are what makes FHIR's types recur; names are not."""
    hubs = References(resource("Patient")).hubs

    assert "#/definitions/Extension" in hubs
    assert "#/definitions/HumanName" not in hubs


def test_each_description_stands_once() -> None:
    """What two fields refer to is described once, and fields that rows lack are not."""
    grammar = compile_within(RowSchema.of(resource("Claim")), ROOM)

    with warnings.catch_warnings(record=True):
        found = describe(grammar.schema.json_schema, grammar.ir, room=100_000)

    paths = [path for path, _ in found]
    assert len([p for p in paths if p.endswith(".reference")]) == 1
    assert not [p for p in paths if "extension" in p.lower()]
    assert sum(len(text) for _, text in found) < 20_000


def test_descriptions_have_a_share_of_the_context() -> None:
    """Descriptions that take more than their share are shortened, with a warning that says so."""
    grammar = compile_within(RowSchema.of(resource("Patient")), ROOM)

    with pytest.warns(UserWarning, match="they are shortened"):
        found = describe(grammar.schema.json_schema, grammar.ir, room=2000)

    assert sum(len(f"- {path}: {text}") + 1 for path, text in found) <= 2000
    assert found[0][0] == "resourceType"
