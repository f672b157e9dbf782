"""What a row looks like, as one value that stands for all: for prompts.

Knows shapes.
"""

from __future__ import annotations

from typing import Any

from ..schema.ir import (
    Array,
    Choice,
    Digits,
    Excerpt,
    Formatted,
    Integer,
    Mapping,
    Number,
    Quoted,
    Record,
    Shape,
    Text,
    Union,
)


def outline(shape: Shape) -> Any:
    """Return a JSON value with the keys of a shape; "..." stands for a string.

    Example: `outline(Record([("name", Text(0, 9)), ("age", Integer(0, 9))]))`
    """
    match shape:
        case Choice(values):
            return values[0] if len(values) == 1 else "|".join(map(str, values))
        case Integer():
            return 0
        case Number():
            return "0.0" if shape.quoted else 0.0
        case Text() | Excerpt() | Formatted() | Digits() | Quoted():
            return "..."
        case Array(items, _, _, prefix):
            return [outline(item) for item in (*prefix, *([items] if items is not None else []))]
        case Record(fields):
            return {name: outline(field) for name, field in fields}
        case Mapping(_, values, _, _):
            return {"...": outline(values)}
        case Union(options):
            return outline(options[0])
