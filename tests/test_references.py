"""Where references lead: RFC 6901, names, the published meta-schemas, and circles."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from synthgen_local import SchemaError
from synthgen_local.schema.json_schema.references import References

POINTED: dict[str, Any] = {
    "a/b": {"m~n": {"const": 1}},
    "m~1n": {"const": 2},
    "100%": {"const": 3},
    "allOf": [{"const": 4}, False],
    "": {"": {"const": 5}},
    "é x": {"const": 6},
    "0": {"const": 7},
    "title": "a word",
}
POINTERS = {
    "#/a~1b/m~0n": {"const": 1},
    "#/m~01n": {"const": 2},
    "#/100%25": {"const": 3},
    "#/allOf/0": {"const": 4},
    "#/allOf/1": False,
    "#/": {"": {"const": 5}},
    "#//": {"const": 5},
    "#/%C3%A9%20x": {"const": 6},
    "#/é x": {"const": 6},
    "#/a%7E1b%2Fm~0n": {"const": 1},
    "#/0": {"const": 7},
    "#": POINTED,
    "": POINTED,
}
NOWHERE = [
    "#/b",
    "#/allOf/2",
    "#/allOf/-1",
    "#/allOf/-",
    "#/allOf/²",
    "#/allOf",
    "#/title",
    "#/title/0",
    "#nowhere",
]

NAMED: dict[str, Any] = {
    "$id": "https://example.com/schemas/root.json",
    "$defs": {
        "item": {"$id": "item.json", "$defs": {"inner": {"const": 1}}},
        "rooted": {"$id": "/other/rooted", "const": 2},
        "absolute": {"$id": "urn:example:absolute", "const": 3},
        "anchored": {"$anchor": "here", "const": 4},
        "dynamic": {"$dynamicAnchor": "there", "const": 5},
    },
}
NAMES = {
    "item.json#/$defs/inner": {"const": 1},
    "https://example.com/schemas/item.json#/$defs/inner": {"const": 1},
    "./item.json#/$defs/inner": {"const": 1},
    "/other/rooted": NAMED["$defs"]["rooted"],
    "https://example.com/other/rooted": NAMED["$defs"]["rooted"],
    "../other/rooted": NAMED["$defs"]["rooted"],
    "urn:example:absolute": NAMED["$defs"]["absolute"],
    "#here": NAMED["$defs"]["anchored"],
    "root.json#here": NAMED["$defs"]["anchored"],
    "#there": NAMED["$defs"]["dynamic"],
    "root.json": NAMED,
    "https://example.com/schemas/root.json#": NAMED,
    "https://example.com/schemas/root.json#/$defs/item/$defs/inner": {"const": 1},
}
PUBLISHED = [
    "http://json-schema.org/draft-03/schema#",
    "http://json-schema.org/draft-04/schema#",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-07/schema#",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2020-12/meta/applicator",
]
REMOTE = [
    "https://example.org/schema.json",
    "other.json#/$defs/a",
    "file:///a.json",
    "urn:example:other",
]

CIRCLES: dict[str, Any] = {
    "$defs": {
        "plain": {"type": "string"},
        "self": {"properties": {"next": {"$ref": "#/$defs/self"}}},
        "man": {"items": {"$ref": "#/$defs/woman"}},
        "woman": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/man"}]},
        "outside": {"allOf": [{"$ref": "#/$defs/man"}, {"$ref": "#/$defs/plain"}]},
        "wide": {"not": {"$ref": "#/$defs/deep"}, "items": {"$ref": "#/$defs/wide"}},
        "deep": {"properties": {"$ref": {"$ref": "#/$defs/wide"}, "default": {"type": "null"}}},
        "shown": {"examples": [{"$ref": "https://example.org/none"}], "const": {"$ref": "#/none"}},
    }
}


def named(*names: str) -> frozenset[str]:
    """References to some of the definitions."""
    return frozenset(f"#/$defs/{name}" for name in names)


@pytest.mark.parametrize("reference", POINTERS)
def test_pointers(reference: str) -> None:
    """A JSON pointer is decoded as RFC 6901 says: percent, then slashes, then tildes."""
    assert References(POINTED).resolve(reference) == POINTERS[reference]


@given(st.lists(st.text("a~/%1²é 0", max_size=4), min_size=1, max_size=4))
def test_pointers_to_any_names(names: list[str]) -> None:
    """Whatever a property is called, its pointer leads there, as for `referencing`."""
    root: dict[str, Any] = {"const": True}
    for name in reversed(names):
        root = {name: root}
    escaped = (name.replace("~", "~0").replace("/", "~1").replace("%", "%25") for name in names)
    reference = f"#/{'/'.join(escaped)}"
    resolver = Registry().with_resource("", DRAFT202012.create_resource(root)).resolver()

    assert References(root).resolve(reference) == {"const": True}
    assert resolver.lookup(reference).contents == {"const": True}


@pytest.mark.parametrize("reference", NOWHERE)
def test_pointers_to_nothing(reference: str) -> None:
    """A pointer to what is not there, or is no schema, is refused by the path that has it."""
    with pytest.raises(
        SchemaError, match=r"^\$\.x: keyword '\$ref': the target '#.*' does not exist"
    ) as e:
        References(POINTED).resolve(reference, "$.x")

    assert e.value.hint


@pytest.mark.parametrize("reference", NAMES)
def test_names(reference: str) -> None:
    """A schema is found by its `$id`, absolute or relative to the document's, and its anchor."""
    assert References(NAMED).resolve(reference) == NAMES[reference]


def test_names_of_draft_4() -> None:
    """Draft 4 says `id`, and writes an anchor in it."""
    root: dict[str, Any] = {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "id": "http://example.com/root#",
        "definitions": {"a": {"id": "#a", "enum": [1]}, "b": {"id": "b.json", "enum": [2]}},
        "properties": {"id": {"type": "string"}},
    }
    references = References(root)

    assert references.resolve("#a") == root["definitions"]["a"]
    assert references.resolve("root#a") == root["definitions"]["a"]
    assert references.resolve("b.json") == root["definitions"]["b"]
    assert references.resolve("http://example.com/b.json#") == root["definitions"]["b"]
    assert references.resolve("http://example.com/root#/properties/id") == {"type": "string"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_meta_schemas(name: str) -> None:
    """A meta-schema is found without a network, and so is all that it refers to."""
    references = References({"definitions": {"nothing": {}}})
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        reference = waiting.pop()
        seen.add(reference)
        found = references.resolve(reference)
        waiting += [other for other in all_references(found) if other not in seen]

    assert len(seen) > 1
    assert all(reference.partition("#")[0] for reference in seen)
    assert any(references.cycle(reference) for reference in seen)


def test_a_meta_schema_is_not_mixed_up_with_the_document() -> None:
    """A reference of a meta-schema to its own definitions does not lead to the document's."""
    name = "http://json-schema.org/draft-07/schema"
    references = References({"definitions": {"nonNegativeInteger": {"const": "mine"}}})
    length = references.resolve(f"{name}#/definitions/nonNegativeIntegerDefault0")["allOf"][0]

    assert references.resolve(length["$ref"]) == {"type": "integer", "minimum": 0}
    assert references.resolve("#/definitions/nonNegativeInteger") == {"const": "mine"}


@pytest.mark.parametrize("reference", REMOTE)
def test_remote_references(reference: str) -> None:
    """What is elsewhere is not fetched but refused, naming the path."""
    with pytest.raises(SchemaError, match=r"^\$\.a\[\*\]: keyword '\$ref': .* outside") as caught:
        References(NAMED).resolve(reference, "$.a[*]")

    assert reference in str(caught.value)
    assert "$defs" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("name", "circle"),
    [
        ("plain", named()),
        ("self", named("self")),
        ("man", named("man", "woman")),
        ("woman", named("man", "woman")),
        ("outside", named()),
        ("wide", named("wide", "deep")),
        ("deep", named("wide", "deep")),
        ("shown", named()),
    ],
)
def test_circles(name: str, circle: frozenset[str]) -> None:
    """A circle is what a reference reaches that reaches it; one that merely leads to it is none."""
    assert References(CIRCLES).cycle(f"#/$defs/{name}") == circle


def test_a_circle_through_the_document() -> None:
    """The whole document may be in a circle, by whatever reference it is meant."""
    root = {"$id": "https://example.com/a", "properties": {"x": {"$ref": "#"}, "y": {"$ref": "a"}}}

    assert References(root).cycle("#") == {"#", "a"}
    assert References({"items": {"$recursiveRef": "#"}}).cycle("#") == {"#"}


@given(st.dictionaries(st.integers(0, 5), st.sets(st.integers(0, 5), max_size=3), min_size=6))
def test_circles_are_those_of_the_graph(graph: dict[int, set[int]]) -> None:
    """Two references are in a circle if and only if each can be reached from the other."""
    definitions = {
        str(k): {"anyOf": [{"$ref": f"#/$defs/{other}"} for other in others]}
        for k, others in graph.items()
    }
    references = References({"$defs": definitions})
    reach = {k: set(others) for k, others in graph.items()}
    for middle in graph:
        for k in graph:
            if middle in reach[k]:
                reach[k] |= reach[middle]

    for k in graph:
        expected = {other for other in reach[k] if k in reach[other]}
        assert references.cycle(f"#/$defs/{k}") == named(*map(str, expected))


@pytest.mark.parametrize(
    ("draft", "ref_overrides_siblings"),
    [
        ("http://json-schema.org/draft-03/schema#", True),
        ("http://json-schema.org/draft-04/schema#", True),
        ("http://json-schema.org/draft-06/schema#", True),
        ("https://json-schema.org/draft-07/schema", True),
        ("https://json-schema.org/draft/2019-09/schema", False),
        ("https://json-schema.org/draft/2020-12/schema", False),
        (None, False),
    ],
)
def test_what_stands_beside_a_reference(draft: str | None, ref_overrides_siblings: bool) -> None:
    """Up to draft 7 it is ignored; a schema that names no draft is of the newest."""
    assert (
        References({} if draft is None else {"$schema": draft}).ref_overrides_siblings
        == ref_overrides_siblings
    )


def all_references(schema: Any) -> list[str]:
    """The references that a schema has, wherever they are."""
    if isinstance(schema, list):
        return [name for item in schema for name in all_references(item)]
    if not isinstance(schema, dict):
        return []
    here = [schema.get(keyword) for keyword in ("$ref", "$dynamicRef", "$recursiveRef")]
    inside = [name for item in schema.values() for name in all_references(item)]
    return [name for name in here if isinstance(name, str)] + inside
