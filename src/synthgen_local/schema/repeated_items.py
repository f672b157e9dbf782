"""Lists without the items that a model repeats because it has nothing more to say.

Knows nodes and JSON values.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from .grammar.json_text import fits, write_value
from .ir import AnyOf, Array, Dictionary, Node, Object, String, Substring

Read = TypeVar("Read")


def read_without_repeats(text: str, node: Node, read: Callable[[str], Read]) -> Read:
    """Return what `read` makes of a row in JSON without repeats, or, if it refuses, of all of it.

    Validators may count items. Raises ValueError if `read` refuses both.

    Example: `read_without_repeats('["a","a"]', Array(String(0, 9), 0, 8), str) == '["a"]'`
    """
    row = json.loads(text)
    kept = without_repeats(row, node, once)
    if kept != row:
        try:
            return read(write_value(kept))
        except ValueError:
            pass
    return read(text)


def without_repeats(value: Any, node: Node, most: Callable[[Any, Node], int | None]) -> Any:
    """Return a value of a node with fewer repeats: the later ones of a list's items are left out.

    `most` says how often an item of a node may stand in a list, None for any number. A list keeps
    the fewest items that its node asks for, so that the value is still one of the node.

    Example: `without_repeats(["a", "a"], Array(String(0, 9), 0, 8), once) == ["a"]`
    """
    match node, value:
        case AnyOf(options), _:
            option = next((option for option in options if fits(value, option)), None)
            return value if option is None else without_repeats(value, option, most)
        case Object(fields), dict():
            known = dict(fields)
            return {
                key: without_repeats(item, known[key], most) if key in known else item
                for key, item in value.items()
            }
        case Dictionary(_, values), dict():
            return {key: without_repeats(item, values, most) for key, item in value.items()}
        case Array(items, minimum, _, prefix), list() if items is not None:
            kept = list(value[: len(prefix)])
            later = [without_repeats(item, items, most) for item in value[len(prefix) :]]
            return kept + _distinct(later, items, minimum - len(prefix), most)
    return value


def once(item: Any, node: Node) -> int | None:
    """Free strings, and objects that have some, stand once in a list; other values as they come.

    Numbers, dates and enumerations repeat in lists that are right.

    Example: `once("a", String(0, 9)) == 1 and once(5, Integer(0, 9)) is None`
    """
    return 1 if _has_free_text(node) and not (item is None or isinstance(item, list)) else None


def _distinct(
    items: list[Any], node: Node, minimum: int, most: Callable[[Any, Node], int | None]
) -> list[Any]:
    spare = len(items) - max(0, minimum)
    seen: Counter[str] = Counter()
    kept = []
    for item in items:
        key, limit = write_value(item), most(item, node)
        if limit is not None and seen[key] >= limit and spare > 0:
            spare -= 1
            continue
        seen[key] += 1
        kept.append(item)
    return kept


def _has_free_text(node: Node) -> bool:
    match node:
        case String() | Substring():
            return True
        case Object(fields):
            return any(_has_free_text(field) for _, field in fields)
        case AnyOf(options):
            return any(map(_has_free_text, options))
    return False
