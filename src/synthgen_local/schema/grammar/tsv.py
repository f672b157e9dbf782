"""A flat record as one line: its values without their keys, with a tab between each two.

Knows nodes and how values are written, not prompts. Half of a row's tokens in JSON are keys and
quotes, which the model must read though it has no say in them. A line has none. No string that
stands bare in it has control characters, so a line can always be read back; what is no plain
string stands in it as the JSON that it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeGuard

from llguidance import LLMatcher

from ..ir import (
    AnyOf,
    Array,
    ChecksumString,
    Choice,
    Integer,
    Node,
    Number,
    Object,
    RegexString,
    String,
)
from .json_text import write_value
from .lark import Bare, Writer
from .size import longest_text

_TAB, _END = "\t", "\n"


@dataclass(frozen=True)
class Lines:
    """How the rows of a flat record are written as lines. `columns` are its keys, with nodes.

    Example: `Lines.of(compile_schema(RowSchema.of("name, age int")).ir).write({...})`
    """

    columns: tuple[tuple[str, Node], ...]

    @classmethod
    def of(cls, node: Node) -> Lines | None:
        """Return the lines of a node; None if it is not flat, or leaves a key out.

        Example: `Lines.of(Object((("n", Integer(0, 9)),)))`
        """
        if not isinstance(node, Object) or node.optional or node.extra or not node.fields:
            return None
        flat = all(_is_plain(name) and _is_scalar(field) for name, field in node.fields)
        return cls(tuple(node.fields)) if flat else None

    @property
    def header(self) -> str:
        """The line of the keys.

        Example: `Lines((("a", Integer(0, 9)), ("b", Integer(0, 9)))).header.split()`
        """
        return _TAB.join(name for name, _ in self.columns)

    @cached_property
    def lark(self) -> str:
        """The grammar of a line, with the line feed that ends it."""
        writer = Writer()
        cells = [
            writer.bare(field) if _is_bare(field) else writer.rule(field)
            for _, field in self.columns
        ]
        start = ' "\\t" '.join(cells)
        return "\n".join([f'start: {start} "\\n"', *writer.lines]) + "\n"

    @cached_property
    def serialised(self) -> str:
        """The grammar in llguidance's form."""
        return str(LLMatcher.grammar_from_lark(self.lark))

    @property
    def longest(self) -> int:
        """A bound on the length of a line, in bytes of UTF-8."""
        nodes = [field for _, field in self.columns]
        return longest_text(Array(None, len(nodes), len(nodes), nodes))

    def write(self, record: Mapping[str, Any]) -> str | None:
        """Return the line of a record, without its end; None for what no line can say.

        That is a string with a tab or a line feed, other keys than the columns', and what a
        serializer of the schema's made of a string.

        Example: `Lines((("n", Integer(0, 9)),)).write({"n": 7}) == "7"`
        """
        if record.keys() != {name for name, _ in self.columns}:
            return None
        cells = [
            record[name] if _is_bare(field) else write_value(record[name])
            for name, field in self.columns
        ]
        whole = all(isinstance(cell, str) and _is_plain(cell) for cell in cells)
        return _TAB.join(cells) if whole else None

    def read(self, line: str) -> str:
        """Return the row of a line as the JSON that it stands for.

        Example: `Lines((("n", Integer(0, 9)),)).read("7") == '{"n":7}'`
        """
        cells = line.removesuffix(_END).split(_TAB)
        pairs = (
            f"{write_value(name)}:{write_value(cell) if _is_bare(field) else cell}"
            for (name, field), cell in zip(self.columns, cells, strict=True)
        )
        return "{" + ",".join(pairs) + "}"


def _is_bare(node: Node) -> TypeGuard[Bare]:
    """Whether a value stands in a line without quotes: nothing but a string can be meant."""
    match node:
        case String(_, _, patterns, must_match, must_not_match):
            return not (patterns or must_match or must_not_match)
        case Choice(values):
            return all(isinstance(value, str) and _is_plain(value) for value in values)
        case Number():
            return node.quoted
    return isinstance(node, RegexString | ChecksumString)


def _is_scalar(node: Node) -> bool:
    match node:
        case AnyOf(options):
            return all(map(_is_scalar, options))
        case Choice(values):
            return not any(isinstance(value, dict | list) for value in values)
    return isinstance(node, Integer | Number | String | RegexString | ChecksumString)


def _is_plain(text: str) -> bool:
    """Whether a text has no control characters, of which tab and line feed are two."""
    return not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in text)
