"""The cursor in a JSON text, compared with what json.loads reads."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from synthgen_local.engine.constraints.json_cursor import JsonCursor

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


def values(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths of a value and of all values in it, in the order of the text."""
    inner: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(found for step, item in inner for found in values(item, (*path, step)))]


@given(JSON, st.booleans())
def test_paths_are_those_of_the_values(value: Any, ascii_only: bool) -> None:
    """Each value is announced once, where its first byte is about to be written."""
    text = json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":")).encode()
    cursor, found = JsonCursor(), []
    for byte in text:
        if cursor.at_value and byte != ord("]"):
            found.append(tuple(cursor.path()))
        cursor.read(bytes([byte]))

    assert found == values(value)
    assert cursor.containers == []
    assert cursor.string is None


@given(st.dictionaries(st.text(), st.text(), min_size=1))
def test_strings_of_a_container_are_kept_as_written(record: dict[str, str]) -> None:
    """Keys and values of the innermost container stand in order, with their escapes."""
    text = json.dumps(record)[:-1].encode()
    cursor = JsonCursor()
    cursor.read(text)

    written = [json.dumps(part)[1:-1] for pair in record.items() for part in pair]
    assert cursor.containers[-1].strings == written


def test_a_copy_reads_on_alone() -> None:
    """What a copy reads leaves the cursor where it was."""
    cursor = JsonCursor()
    cursor.read(b'{"a":["x"')
    copy = cursor.copy()
    copy.read(b',"y"],"b":')

    assert (cursor.path(), copy.path()) == (["a", 0], ["b"])
    assert cursor.containers[-1].strings == ["x"]
    assert copy.at_value
    assert not cursor.at_value
