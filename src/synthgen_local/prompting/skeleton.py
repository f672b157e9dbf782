"""What a row looks like, as one value that stands for all: for prompts.

Knows nodes.
"""

from __future__ import annotations

from typing import Any

from ..schema.ir import (
    AnyOf,
    Array,
    ChecksumString,
    Choice,
    Dictionary,
    Integer,
    JsonString,
    Node,
    Number,
    Object,
    RegexString,
    String,
    Substring,
)


def outline(node: Node) -> Any:
    """Return a JSON value with the keys of a node; "..." stands for a string.

    Example: `outline(Object([("name", String(0, 9)), ("age", Integer(0, 9))]))`
    """
    match node:
        case Choice(values):
            return values[0] if len(values) == 1 else "|".join(map(str, values))
        case Integer():
            return 0
        case Number():
            return "0.0" if node.quoted else 0.0
        case String() | Substring() | RegexString() | ChecksumString() | JsonString():
            return "..."
        case Array(items, _, _, prefix):
            return [outline(item) for item in (*prefix, *([items] if items is not None else []))]
        case Object(fields):
            return {name: outline(field) for name, field in fields}
        case Dictionary(_, values, _, _):
            return {"...": outline(values)}
        case AnyOf(options):
            return outline(options[0])
