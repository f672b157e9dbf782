"""A shape whose strings are taken from a passage.

Knows shapes and text; `grammar.py` writes what comes out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..errors import SchemaError
from ..unicode_scripts import JOINING, UNSPACED
from .grammar.lark import has_text, refusal, write_grammar
from .ir import Array, Choice, Excerpt, Mapping, Record, Shape, Text, Union

_KATAKANA = r"[\u30A1-\u30FA\u30FC-\u30FF\u31F0-\u31FF\uFF66-\uFF9F]+"
_JAMO = (  # a syllable of Hangul that is written as its parts
    r"[\u1100-\u115F\uA960-\uA97C]+[\u1160-\u11A7\uD7B0-\uD7C6]*[\u11A8-\u11FF\uD7CB-\uD7FB]*"
)
_LEADING = r"[\u0E40-\u0E44\u0EC0-\u0EC4]"  # vowels of Thai and Lao, before their consonant
_CHUNK = re.compile(rf"{_KATAKANA}|{_JAMO}|{_LEADING}?(?=\w)[{UNSPACED}]|{JOINING}+|\s+|[^\w\s]|\w")
_JOINS = re.compile(JOINING)
_TRAILING = "\u0e33\u0eb3"  # vowels of Thai and Lao that belong to the consonant before them
_STACKERS = ("\u1039", "\u17d2", "\u1a60")  # what follows them is written below
_WITH_UNIT = re.compile(r"(\d+)([^\W\d_]\D*|[cdkmµ]?m[23])")
_NOTHING = Choice(())
_PLACEHOLDER = r"\.\.\."


@dataclass(frozen=True)
class _Strings:
    """What becomes of a free string, and of one that is a key; `_NOTHING` if there is none."""

    value: Callable[[Text], Shape]
    key: Callable[[Text], Shape]


def ground(shape: Shape, passage: str) -> Shape | None:
    """Return the shape with an excerpt of the passage for each free string, keys included.

    None if no row can be grounded: a string that it must have is not there. Values of
    enumerations, dates and the like have a form of their own and stay as they are.

    Example: `ground(Text(0, 200), "Tom Hanks") == Excerpt(("Tom", " ", "Hanks"), Text(0, 200))`
    """
    chunks = _chunks(passage)

    def excerpt(text: Text) -> Shape:
        found = Excerpt(chunks, text)
        return found if _possible(found) else _NOTHING

    grounded = _ground(shape, _Strings(excerpt, excerpt))
    return None if grounded == _NOTHING else grounded


def without_placeholders(shape: Shape) -> Shape:
    """Return the shape without "..." as a free key: prompts show such keys as that.

    Example: `without_placeholders(Mapping(Text(0, 9), Integer(0, 9), 0, 8))`
    """

    def key(text: Text) -> Shape:
        plain = not (text.patterns or text.within or text.never)
        return replace(text, never=(_PLACEHOLDER,)) if plain else text

    return _ground(shape, _Strings(lambda text: text, key))


def _chunks(passage: str) -> tuple[str, ...]:
    """Cut a passage at the borders of words.

    A chunk is a word, white space or one mark; accents and vowel signs belong to their letter.
    Borders are Unicode's (UAX 29), with two more: within words of Hangul, whose particles follow
    without a space, and between a number and its unit. Scripts without spaces have a border after
    each character and its signs, because only a dictionary knows more.
    """
    chunks: list[str] = []
    for chunk in _CHUNK.findall(passage):
        if chunks and _belongs(chunk, chunks[-1]):
            chunks[-1] += chunk
        else:
            chunks.append(chunk)
    return tuple(part for chunk in chunks for part in _without_unit(chunk))


def _belongs(chunk: str, before: str) -> bool:
    """Whether a chunk goes on with the word before it."""
    if not _is_word(before[-1]):
        return False
    if _is_mark(chunk[0]) or chunk in _TRAILING or before.endswith(_STACKERS):
        return True
    bases = [character for character in before if not _is_mark(character)]
    return bool(bases) and all(map(_JOINS.match, (bases[-1], chunk[0])))


def _without_unit(chunk: str) -> tuple[str, ...]:
    found = _WITH_UNIT.fullmatch(chunk)
    return (chunk,) if found is None else (found[1], found[2])


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_" or _is_mark(character)


def _ground(shape: Shape, strings: _Strings) -> Shape:
    """`_NOTHING` stands for a shape without texts."""
    match shape:
        case Text():
            return strings.value(shape)
        case Array(items, minimum, maximum, prefix):
            found = None if items is None else _ground(items, strings)
            firsts = [_ground(item, strings) for item in prefix]
            if _NOTHING in firsts:
                most = firsts.index(_NOTHING)
                grounded = Array(None, minimum, most, firsts[:most])
            elif found == _NOTHING:
                grounded = Array(None, minimum, len(firsts), firsts)
            else:
                grounded = Array(found, minimum, maximum, firsts)
            return grounded if grounded.minimum <= grounded.maximum else _NOTHING
        case Record(fields):
            grounded_fields = [(name, _ground(field, strings)) for name, field in fields]
            possible = [(name, field) for name, field in grounded_fields if field != _NOTHING]
            kept = {name for name, _ in possible}
            if any(name not in kept | shape.optional for name, _ in fields):
                return _NOTHING
            extra = [
                (_keys(keys, strings), _ground(values, strings)) for keys, values in shape.extra
            ]
            extra = [pair for pair in extra if _NOTHING not in pair]
            return replace(shape, fields=possible, extra=tuple(extra))
        case Mapping(keys, values, minimum, _):
            pair = _keys(keys, strings), _ground(values, strings)
            if _NOTHING not in pair:
                return replace(shape, keys=pair[0], values=pair[1])
            return Record(()) if minimum == 0 else _NOTHING
        case Union(options):
            left = [o for o in (_ground(option, strings) for option in options) if o != _NOTHING]
            return Union(left) if left else _NOTHING
    return shape


def _keys(shape: Shape, strings: _Strings) -> Shape:
    return _ground(shape, replace(strings, value=strings.key))


def _possible(excerpt: Excerpt) -> bool:
    """Whether the passage has a part of this length and pattern."""
    grammar = write_grammar(excerpt)
    if reason := refusal(grammar):
        raise SchemaError(
            f"A pattern cannot be held against a passage: {reason}",
            hint="Simplify it, or extract without grounding.",
        )
    return has_text(grammar)
