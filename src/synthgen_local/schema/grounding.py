"""A shape whose strings are taken from a passage.

Knows shapes and text; `grammar.py` writes what comes out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from ..errors import SchemaError
from .grammar import has_text, refusal, write_grammar
from .shapes import Array, Choice, Excerpt, Mapping, Record, Shape, Text, Union

_CHUNK = re.compile(r"\w+|\s+|[^\w\s]")
_NOTHING = Choice(())


def ground(shape: Shape, passage: str) -> Shape | None:
    """Return the shape with an excerpt of the passage for each free string.

    None if no row can be grounded: a string that it must have is not there. Values of
    enumerations, dates and the like have a form of their own and stay as they are; so do
    the keys of mappings.

    Example: `ground(Text(0, 200), "Tom Hanks") == Excerpt(("Tom", " ", "Hanks"), Text(0, 200))`
    """
    grounded = _ground(shape, _chunks(passage))
    return None if grounded == _NOTHING else grounded


def _chunks(passage: str) -> tuple[str, ...]:
    """Words, white space and single marks; accents and vowel signs belong to their letters."""
    chunks: list[str] = []
    for chunk in _CHUNK.findall(passage):
        in_word = bool(chunks) and _is_word(chunks[-1][-1])
        if in_word and (_is_word(chunk[0])):
            chunks[-1] += chunk
        else:
            chunks.append(chunk)
    return tuple(chunks)


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_" or unicodedata.category(character)[0] == "M"


def _ground(shape: Shape, chunks: Sequence[str]) -> Shape:
    """`_NOTHING` stands for a shape without texts."""
    match shape:
        case Text():
            excerpt = Excerpt(chunks, shape)
            return excerpt if _possible(excerpt) else _NOTHING
        case Array(items, minimum, maximum, prefix):
            found = None if items is None else _ground(items, chunks)
            firsts = [_ground(item, chunks) for item in prefix]
            if _NOTHING in firsts:
                most = firsts.index(_NOTHING)
                grounded = Array(None, minimum, most, firsts[:most])
            elif found == _NOTHING:
                grounded = Array(None, minimum, len(firsts), firsts)
            else:
                grounded = Array(found, minimum, maximum, firsts)
            return grounded if grounded.minimum <= grounded.maximum else _NOTHING
        case Record(fields):
            grounded_fields = [(name, _ground(field, chunks)) for name, field in fields]
            possible = [(name, field) for name, field in grounded_fields if field != _NOTHING]
            kept = {name for name, _ in possible}
            if any(name not in kept | shape.optional for name, _ in fields):
                return _NOTHING
            extra = [(keys, _ground(values, chunks)) for keys, values in shape.extra]
            extra = [pair for pair in extra if pair[1] != _NOTHING]
            return replace(shape, fields=possible, extra=tuple(extra))
        case Mapping(_, values, minimum, _):
            grounded_values = _ground(values, chunks)
            if grounded_values != _NOTHING:
                return replace(shape, values=grounded_values)
            return Record(()) if minimum == 0 else _NOTHING
        case Union(options):
            left = [o for o in (_ground(option, chunks) for option in options) if o != _NOTHING]
            return Union(left) if left else _NOTHING
    return shape


def _possible(excerpt: Excerpt) -> bool:
    """Whether the passage has a part of this length and pattern."""
    grammar = write_grammar(excerpt)
    if reason := refusal(grammar):
        raise SchemaError(
            f"A pattern cannot be held against a passage: {reason}",
            hint="Simplify it, or extract without grounding.",
        )
    return has_text(grammar)
