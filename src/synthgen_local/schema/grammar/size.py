"""Upper bounds on the length of a node's texts, in bytes.

Knows IR nodes and the form of JSON text; knows no grammar syntax and no tokens.
"""

from __future__ import annotations

import json

from ..certificate import join_path
from ..ir import (
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
from .json_text import json_string, write_value

UTF8 = 4
"""Bytes of the longest character."""


def longest_text(node: Node) -> int:
    """Return a bound on the length of a node's texts, in bytes of UTF-8.

    A token is at least one byte, so this also bounds a row in tokens.
    """
    return _Longest().of(node)


def widest_path(node: Node) -> str:
    """Return the path of the part that may take most of a row.

    Example: `widest_path(Object([("a", Integer(0, 9)), ("b", String(0, 99))])) == "$.b"`
    """
    measure = _Longest()
    path = "$"
    while True:
        inner: list[tuple[str, Node]] = []
        match node:
            case Object(fields):
                inner = [(join_path(path, name), field) for name, field in fields]
                inner += [(f"{path}.*", values) for _, values in node.extra]
            case Array(items, _, maximum, prefix):
                inner = [(f"{path}[{index}]", item) for index, item in enumerate(prefix)]
                if items is not None and maximum > 1:
                    return f"{path}[*]" if isinstance(items, Object | Array) else path
                inner += [(f"{path}[*]", items)] if items is not None else []
            case AnyOf(options):
                inner = [(path, option) for option in options]
        if not inner:
            return path
        path, node = max(inner, key=lambda pair: measure.of(pair[1]))


class _Longest:
    """Each node is measured once: some stand in many places."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}

    def of(self, node: Node) -> int:
        if id(node) not in self._known:
            self._known[id(node)] = self._measure(node)
        return self._known[id(node)]

    def _pair(self, keys: Node, values: Node) -> int:
        return self.of(keys) + self.of(values) + 6

    def _measure(self, node: Node) -> int:  # noqa: C901 a case a node
        match node:
            case Choice(values):
                return max(len(write_value(value).encode()) for value in values)
            case Integer(minimum, maximum):
                return max(len(str(minimum)), len(str(maximum)))
            case Number(minimum, maximum, places):
                whole = max(len(str(int(bound))) for bound in (minimum, maximum))
                return whole + places + len('-.""')
            case String(_, maximum):
                return UTF8 * maximum + 2
            case Substring(chunks, text):
                passage = "".join(chunks)
                widest = max((len(json_string(c).encode()) - 2 for c in set(passage)), default=0)
                return min(widest * text.max_length, len(json_string(passage).encode())) + 2
            case RegexString(_, length):
                return length + 2
            case ChecksumString(positions):
                return len(positions) + 2
            case Array(items, _, maximum, prefix):
                free = (self.of(items) + 2) * (maximum - len(prefix)) if items is not None else 0
                return sum(self.of(item) + 2 for item in prefix) + free + 2
            case Object(fields):
                names = sum(
                    len(json.dumps(name, ensure_ascii=False).encode()) + 4 for name, _ in fields
                )
                pairs = max((self._pair(keys, values) for keys, values in node.extra), default=0)
                inner = sum(self.of(field) for _, field in fields)
                return names + inner + pairs * node.most_extra + 2
            case Dictionary(keys, values, _, maximum):
                return self._pair(keys, values) * maximum + 2
            case JsonString(value):
                return 2 * self.of(value) + 2
            case AnyOf(options):
                return max(self.of(option) for option in options)
