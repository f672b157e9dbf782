"""Equality of JSON values, which differs from Python's: true is not 1."""

from __future__ import annotations

from typing import Any


def equal_json(a: Any, b: Any) -> bool:
    """Return whether two JSON values are equal, at any depth.

    Example: `equal_json([1], [1.0]) and not equal_json([1], [True])`
    """
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal_json, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal_json(a[key], b[key]) for key in a)
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)
