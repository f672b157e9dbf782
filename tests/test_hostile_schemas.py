"""Schemas that somebody else wrote: they run nothing, fetch nothing, and end soon."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from synthgen_local import SchemaError
from synthgen_local.prompting.descriptions import describe
from synthgen_local.schema import RowSchema, compile_schema, load_schema
from synthgen_local.schema.ir import Node, Object, String


def nested(levels: int) -> dict[str, Any]:
    """A list in a list, so many times."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def chained(count: int, link: Callable[[dict[str, str]], dict[str, Any]]) -> dict[str, Any]:
    """Definitions each of which is made of the next one, and so multiplies it."""
    links = {f"d{i}": link({"$ref": f"#/$defs/d{i + 1}"}) for i in range(count)}
    return {"$defs": {**links, f"d{count}": {"type": "string"}}, "$ref": "#/$defs/d0"}


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "deep": (nested(500), "more than 128 levels"),
    "wide": (
        {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(20_000)}},
        "too large or too deep",
    ),
    "alternatives": (
        chained(30, lambda x: {"anyOf": [x, {"type": "array", "items": x}]}),
        "too many alternatives",
    ),
    "conjunctions": (
        chained(20, lambda x: {"allOf": [{"anyOf": [x, {"type": "integer"}]}] * 2}),
        "too many alternatives",
    ),
    "pattern": ({"type": "string", "pattern": "(" * 2000 + ")" * 2000}, "too large or too deep"),
    "length": ({"type": "string", "minLength": 10**18}, "cannot be compiled"),
    "items": ({"type": "array", "minItems": 10**12}, "cannot be compiled"),
    "file": ({"$ref": "file:///etc/passwd"}, "is outside the schema"),
    "dialect": ({"$schema": "http://127.0.0.1:9/meta.json"}, "names an unknown draft"),
    "odd dialect": ({"$schema": ["http://127.0.0.1:9/meta.json"]}, "names an unknown draft"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schemas(name: str) -> None:
    """What multiplies, nests or grows without end is an error of a line, and soon."""
    schema, reason = HOSTILE[name]

    with pytest.raises(SchemaError, match=re.escape(reason)) as caught:
        compile_schema(RowSchema.of(schema))
    assert "\n" not in str(caught.value)[:80]
    assert caught.value.hint


def test_a_schema_that_describes_without_end() -> None:
    """Eight fields of eight fields, and so on: their descriptions are not looked for for ever."""
    schema = chained(12, lambda x: {"type": "object", "properties": dict.fromkeys("abcdefgh", x)})
    node: Node = String(0, 9)
    for _ in range(12):
        node = Object([(name, node) for name in "abcdefgh"])

    assert describe(schema, node, room=8192) == []


def test_files_of_hostile_json(tmp_path: Path) -> None:
    """Files that are too deep for Python's reader or too large for a schema are errors."""
    path = tmp_path / "schema.json"
    for text, reason in {
        '{"a":' * 100_000: "is not JSON",
        "[" * 300 + "]" * 300: "is not an object",
        '{"type": "string"}' + " " * (9 << 20): "larger than 8 MB",
        '{"minimum": ' + "9" * 5000 + "}": "is not JSON",
        "\udcff": "is not JSON",
    }.items():
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(SchemaError, match=reason):
            load_schema(str(path))


@pytest.mark.parametrize(
    "schema",
    [
        {"$schema": "{}/dialect"},
        {"enum": [{"a": 1}], "properties": {"a": {"$ref": "{}/enum"}}},
        {"properties": {"a": {"not": {"$ref": "{}/not"}}}},
        {"$id": "{}/base", "properties": {"a": {"$ref": "other"}}},
    ],
    ids=["dialect", "enum", "not", "base"],
)
def test_a_schema_fetches_nothing(schema: dict[str, Any]) -> None:
    """What a schema names elsewhere is not asked for: its server hears nothing."""
    heard: list[str] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base's name
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            text = json.dumps(schema).replace("{}", f"http://127.0.0.1:{server.server_port}")
            with suppress(SchemaError, ValueError):
                row_schema = RowSchema.of(json.loads(text))
                compile_schema(row_schema)
                row_schema.parse('{"a": 1}')
        finally:
            server.shutdown()
            thread.join()
    assert heard == []


def test_a_json_schema_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No import, and no program, follows from a .json file; it does from file.py:Class."""
    (tmp_path / "schema.json").write_text('{"title": "os:system", "properties": {"a": {}}}')
    (tmp_path / "schema.py").write_text("raise RuntimeError('this ran')\nclass Row: pass\n")
    monkeypatch.chdir(tmp_path)
    ran: list[str] = []
    watching = [True]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        code = event in {"exec", "compile", "os.system", "subprocess.Popen"}
        if watching and code and str(tmp_path) in repr(arguments):
            ran.append(event)

    sys.addaudithook(watch)
    try:
        load_schema("schema.json")
        assert ran == []
        with pytest.raises(SchemaError, match="this ran"):
            load_schema(f"{tmp_path}/schema.py:Row")
        assert "exec" in ran
    finally:
        watching.clear()
