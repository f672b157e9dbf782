"""Values of rows as JSON text, in the form that the grammar of a row writes.

Knows IR nodes and JSON; knows no grammar syntax. Examples in prompts are written with
`write_value`, so that they have the form of the rows that the model writes.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from ..ir import (
    AnyOf,
    Array,
    Choice,
    Dictionary,
    Integer,
    JsonString,
    Node,
    Number,
    Object,
)

_INTEGRAL_FROM = 2**53  # floats have no fraction from here on


def write_value(value: Any) -> str:
    """Return JSON values (dict, list, str, int, float, bool, None) in the text of the grammar.

    Example: `write_value({"a": 1e-05, "b": "é"}) == '{"a":0.00001,"b":"é"}'`
    """
    match value:
        case float() if abs(value) >= _INTEGRAL_FROM:
            return str(int(value))  # of 1e300, that integer which is equal to it
        case float():
            return f"{Decimal(repr(value)):f}"
        case dict():
            pairs = (f"{json_string(str(k))}:{write_value(v)}" for k, v in value.items())
            return "{" + ",".join(pairs) + "}"
        case list() | tuple():
            return "[" + ",".join(map(write_value, value)) + "]"
        case str():
            return json_string(value)
    return json.dumps(value)


def json_string(text: str) -> str:
    """Return a text as a JSON string; only quotes, backslashes and controls are escaped.

    Example: `json_string("é") == '"é"'`
    """
    return json.dumps(text, ensure_ascii=False)


def arrange(value: Any, node: Node) -> Any:
    """Return a value with the keys of its objects in the node's order.

    Example: `arrange({"b": 1, "a": 2}, Object((("a", ...), ("b", ...)))) == {"a": 2, "b": 1}`
    """
    match node, value:
        case Object(fields), dict():
            known = {name: arrange(value[name], field) for name, field in fields if name in value}
            return known | {name: item for name, item in value.items() if name not in known}
        case Array(items, _, _, prefix), list():
            nodes = [*prefix, *[items] * len(value)]
            return [
                arrange(v, s) if s is not None else v for v, s in zip(value, nodes, strict=False)
            ]
        case Dictionary(_, values, _, _), dict():
            return {key: arrange(item, values) for key, item in value.items()}
        case JsonString(inner), str():
            return write_value(arrange(json.loads(value), inner))
        case Integer(), float() if value == int(value):
            return int(value)
        case AnyOf(options), _:
            fitting = next((option for option in options if fits(value, option)), None)
            return value if fitting is None else arrange(value, fitting)
    return value


def fits(value: Any, node: Node) -> bool:
    """Return whether a value has the kind and keys of a node; not all limits are looked at.

    Example: `fits({"n": 1}, Object((("n", Integer(0, 9)),)))`
    """
    match node:
        case Choice(values):
            return any(
                value == v and isinstance(value, bool) == isinstance(v, bool) for v in values
            )
        case Integer():
            return isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0
        case Number(_, _, _, _, quoted):
            return isinstance(value, str if quoted else int | float) and not isinstance(value, bool)
        case Array(items, minimum, maximum, prefix):
            nodes = [*prefix, *[items] * maximum]
            return isinstance(value, list) and minimum <= len(value) <= maximum and all(
                s is not None and fits(v, s) for v, s in zip(value, nodes, strict=False)
            )  # fmt: skip
        case Object(fields):
            if not isinstance(value, dict):
                return False
            known = dict(fields)
            needed = known.keys() - node.optional <= value.keys()
            return needed and all(
                fits(item, known[name]) if name in known else bool(node.extra)
                for name, item in value.items()
            )
        case Dictionary(_, values, _, _):
            return isinstance(value, dict) and all(fits(item, values) for item in value.values())
        case AnyOf(options):
            return any(fits(value, option) for option in options)
    return isinstance(value, str)
