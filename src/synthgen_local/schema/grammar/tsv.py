"""A flat record as one line: its values without their keys, with a tab between each two.

Knows shapes and how values are written, not prompts. Half of a row's tokens in JSON are keys and
quotes, which the model must read though it has no say in them. A line has none. No string that
stands bare in it has control characters, so a line can always be read back; what is no plain
string stands in it as the JSON that it is.
"""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeGuard

from llguidance import LLMatcher

from ..ir import Array, Choice, Digits, Formatted, Integer, Number, Record, Shape, Text, Union
from .lark import Bare, Writer, longest_text, write_value

_TAB, _END = "\t", "\n"


@dataclass(frozen=True)
class Lines:
    """How the rows of a flat record are written as lines. `columns` are its keys, with shapes.

    Example: `Lines.of(compile_schema(RowSchema.of("name, age int")).shape).write({...})`
    """

    columns: tuple[tuple[str, Shape], ...]

    @classmethod
    def of(cls, shape: Shape) -> Lines | None:
        """Return the lines of a shape; None if it is not flat, or leaves a key out.

        Example: `Lines.of(Record((("n", Integer(0, 9)),)))`
        """
        if not isinstance(shape, Record) or shape.optional or shape.extra or not shape.fields:
            return None
        flat = all(_is_plain(name) and _is_scalar(field) for name, field in shape.fields)
        return cls(tuple(shape.fields)) if flat else None

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
        shapes = [field for _, field in self.columns]
        return longest_text(Array(None, len(shapes), len(shapes), shapes))

    def write(self, record: AnyMapping[str, Any]) -> str | None:
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


def _is_bare(shape: Shape) -> TypeGuard[Bare]:
    """Whether a value stands in a line without quotes: nothing but a string can be meant."""
    match shape:
        case Text(_, _, patterns, within, never):
            return not (patterns or within or never)
        case Choice(values):
            return all(isinstance(value, str) and _is_plain(value) for value in values)
        case Number():
            return shape.quoted
    return isinstance(shape, Formatted | Digits)


def _is_scalar(shape: Shape) -> bool:
    match shape:
        case Union(options):
            return all(map(_is_scalar, options))
        case Choice(values):
            return not any(isinstance(value, dict | list) for value in values)
    return isinstance(shape, Integer | Number | Text | Formatted | Digits)


def _is_plain(text: str) -> bool:
    """Whether a text has no control characters, of which tab and line feed are two."""
    return not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in text)
