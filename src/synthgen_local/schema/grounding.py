"""A node whose strings are taken from a passage.

Knows nodes and text; `grammar.py` writes what comes out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..errors import SchemaError
from ..unicode_scripts import JOINING, UNSPACED
from .grammar.lark import has_text, refusal, write_grammar
from .ir import AnyOf, Array, Choice, Dictionary, Node, Object, String, Substring

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

    value: Callable[[String], Node]
    key: Callable[[String], Node]


def ground(node: Node, passage: str) -> Node | None:
    """Return the node with an excerpt of the passage for each free string, keys included.

    None if no row can be grounded: a string that it must have is not there. Values of
    enumerations, dates and the like have a form of their own and stay as they are.

    Example: `ground(String(0, 9), "Tom Hanks") == Substring(("Tom", " ", "Hanks"), String(0, 9))`
    """
    chunks = _chunks(passage)

    def excerpt(text: String) -> Node:
        found = Substring(chunks, text)
        return found if _possible(found) else _NOTHING

    grounded = _ground(node, _Strings(excerpt, excerpt))
    return None if grounded == _NOTHING else grounded


def without_placeholders(node: Node) -> Node:
    """Return the node without "..." as a free key: prompts show such keys as that.

    Example: `without_placeholders(Dictionary(String(0, 9), Integer(0, 9), 0, 8))`
    """

    def key(text: String) -> Node:
        plain = not (text.patterns or text.must_match or text.must_not_match)
        return replace(text, must_not_match=(_PLACEHOLDER,)) if plain else text

    return _ground(node, _Strings(lambda text: text, key))


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


def _ground(node: Node, strings: _Strings) -> Node:
    """`_NOTHING` stands for a node without texts."""
    match node:
        case String():
            return strings.value(node)
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
        case Object(fields):
            grounded_fields = [(name, _ground(field, strings)) for name, field in fields]
            possible = [(name, field) for name, field in grounded_fields if field != _NOTHING]
            kept = {name for name, _ in possible}
            if any(name not in kept | node.optional for name, _ in fields):
                return _NOTHING
            extra = [
                (_keys(keys, strings), _ground(values, strings)) for keys, values in node.extra
            ]
            extra = [pair for pair in extra if _NOTHING not in pair]
            return replace(node, fields=possible, extra=tuple(extra))
        case Dictionary(keys, values, minimum, _):
            pair = _keys(keys, strings), _ground(values, strings)
            if _NOTHING not in pair:
                return replace(node, keys=pair[0], values=pair[1])
            return Object(()) if minimum == 0 else _NOTHING
        case AnyOf(options):
            left = [o for o in (_ground(option, strings) for option in options) if o != _NOTHING]
            return AnyOf(left) if left else _NOTHING
    return node


def _keys(node: Node, strings: _Strings) -> Node:
    return _ground(node, replace(strings, value=strings.key))


def _possible(excerpt: Substring) -> bool:
    """Whether the passage has a part of this length and pattern."""
    grammar = write_grammar(excerpt)
    if reason := refusal(grammar):
        raise SchemaError(
            f"A pattern cannot be held against a passage: {reason}",
            hint="Simplify it, or extract without grounding.",
        )
    return has_text(grammar)
