r"""Lark grammars for llguidance, written from IR nodes.

Knows IR nodes and llguidance's dialect of Lark; knows no JSON Schema.

A row is one line of JSON without spaces, as pydantic's model_dump_json writes it. Strings
escape only quotes and backslashes, numbers have no exponent, and leaves are terminals: regular
expressions that can be intersected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any, TypeAlias

import llguidance.numpy as lln
from llguidance import LLMatcher, LLTokenizer

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
from ..regex.ranges import decimal_range, grid, integer_range
from ..regex.translation import searched
from .json_text import json_string, write_value

_CHARACTER = r'(?:[^"\\\x00-\x1F\x7F-\x9F]|\\["\\])'
_PLAIN = r'[^"\\\x00-\x1F\x7F-\x9F]'
_FREE = r"[^\x00-\x1F\x7F-\x9F]"
_WHOLE = r"-?[0-9]+(?:\.0+)?"
_NO_CONTROLS = r"^[^\x00-\x1f\x7f-\x9f]*$"
Bare: TypeAlias = String | RegexString | ChecksumString | Number | Choice
"""Nodes of which some are nothing but strings."""


def write_grammar(node: Node) -> str:
    """Return the Lark grammar of a node's texts; its start rule is `start`.

    Example: `write_grammar(Object((("n", Integer(0, 9)),)))`
    """
    writer = Writer()
    start = writer.rule(node)
    return "\n".join([f"start: {start}", *writer.lines]) + "\n"


def refusal(lark: str) -> str:
    """Return why llguidance cannot use a grammar, in one line, or nothing if it can.

    Example: `refusal("start: /a/") == ""`
    """
    grammar = LLMatcher.grammar_from_lark(lark)
    refused, messages = LLMatcher.validate_grammar_with_warnings(grammar, byte_tokenizer())
    if not refused:
        return ""
    reason = messages[0].split("\n   1 |")[0]  # what follows repeats the grammar
    return " ".join(reason.rpartition("JSON schema:")[2].split())


def has_text(lark: str) -> bool:
    """Return whether a grammar that llguidance takes admits any text, or may do so.

    Example: `not has_text("start: T" + chr(10) + "T: /a/ & /b/")`
    """
    return known_text(lark) is not False


@lru_cache(maxsize=1024)
def known_text(lark: str) -> bool | None:
    """Return whether a grammar admits any text; None where that takes too long to tell.

    Example: `known_text("start: /a/")`
    """
    tokenizer = byte_tokenizer()
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(lark), log_level=0)
    matcher.consume_tokens(matcher.compute_ff_tokens())
    if matcher.is_stopped() and not matcher.is_error():
        return True
    bitmask = lln.allocate_token_bitmask(1, tokenizer.vocab_size)
    lln.fill_next_token_bitmask(matcher, bitmask)
    if matcher.is_error():
        return None if "fuel" in matcher.get_error() else False
    return bool(bitmask.any())


@cache
def byte_tokenizer() -> LLTokenizer:
    """Return the tokenizer whose tokens are bytes."""
    return LLTokenizer("byte")


def terminal(regexes: Sequence[str], never: Sequence[str] = ()) -> str:
    """Return the body of a terminal: texts that match all of the first and none of the others.

    Example: `terminal(["[a-z]+"], never=["no"]) == "/[a-z]+/ & ~/no/"`
    """
    positive = (f"/{_slashes(regex)}/" for regex in regexes)
    negative = (f"~/{_slashes(regex)}/" for regex in never)
    return " & ".join([*positive, *negative])


class Writer:
    """Writes nodes as expressions; names each distinct terminal and rule once, in `lines`.

    Example: `Writer().rule(Integer(0, 9))`
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._names: dict[str, str] = {}
        self._written: dict[tuple[int, bool], tuple[Node, str]] = {}
        self._rests: dict[tuple[int, bool, int, int], str] = {}
        self._inside = False  # of a string that holds JSON

    def rule(self, node: Node) -> str:
        """An expression for a node, of literals and names."""
        key = id(node), self._inside
        if key not in self._written:  # a node may stand in many places
            self._written[key] = node, self._rule(node)
        return self._written[key][1]

    def bare(self, node: Bare) -> str:
        """An expression for a string without its quotes, of which nothing is escaped."""
        match node:
            case String(minimum, maximum):
                if maximum == 0:
                    return '""'
                filled = self._terminal(f"{_FREE}{{{max(1, minimum)},{maximum}}}")
                return filled if minimum else f"({filled})?"
            case RegexString(regexes, _, never):
                return self._terminal(*regexes, never=never)
            case ChecksumString():
                return self._positions(node)
            case Number():
                return self._number(replace(node, quoted=False))
            case Choice(values):
                return self._choice(list(values))

    def _literal(self, text: str) -> str:
        """A piece of JSON; a quote inside of a string is escaped."""
        return _literal(json_string(text)[1:-1] if self._inside else text)

    def _in_quotes(self, expression: str) -> str:
        quote = self._literal('"')
        return f"{quote} {expression} {quote}"

    def _quoted(self, value: Node) -> str:
        assert not self._inside
        self._inside = True
        inner = self.rule(value)
        self._inside = False
        return self._in_quotes(inner)

    def _rule(self, node: Node) -> str:  # noqa: C901 a case a node
        match node:
            case Choice(values):
                return self._choice([write_value(value) for value in values])
            case Integer():
                return self._integer(node)
            case Number():
                return self._number(node)
            case String():
                return self._text(node)
            case Substring():
                return self._excerpt(node)
            case ChecksumString():
                return self._in_quotes(self._positions(node))
            case RegexString(regexes, _, never):
                return self._in_quotes(self._terminal(*regexes, never=never))
            case JsonString(value):
                return self._quoted(value)
            case Array():
                return self._named("r", self._array(node))
            case Object():
                return self._named("r", self._record(node))
            case Dictionary():
                pair = f'{self._key(node.keys)} ":" {self.rule(node.values)}'
                pairs = _repeat(self._named("r", pair), node.minimum, node.maximum)
                return self._named("r", f'"{{" {pairs} "}}"')
            case AnyOf(options):
                return self._named("r", " | ".join(self.rule(option) for option in options))

    def _choice(self, texts: Sequence[str]) -> str:
        literals = [self._literal(text) for text in texts]
        return literals[0] if len(literals) == 1 else self._named("T", " | ".join(literals))

    def _integer(self, node: Integer) -> str:
        if node.multiple_of == 1:
            return self._terminal(integer_range(node.minimum, node.maximum))
        return self._json(
            type="integer",
            minimum=node.minimum,
            maximum=node.maximum,
            multipleOf=node.multiple_of,
        )

    def _number(self, node: Number) -> str:
        low, high = node.minimum, node.maximum
        if node.multiple_of is not None:
            number = self._json(
                type="number",
                minimum=float(low),
                maximum=float(high),
                multipleOf=float(node.multiple_of),
            )
        elif node.places:
            never = [_WHOLE] if node.non_integral else []
            number = self._terminal(decimal_range(low, high, node.places), never=never)
        else:
            number = self._terminal(integer_range(*grid(low, high, 0)))
        return self._in_quotes(number) if node.quoted else number

    def _text(self, node: String) -> str:
        if node.must_match or node.must_not_match or self._inside:
            length = f"{_PLAIN}{{{node.min_length},{node.max_length}}}"
            found = searched(node.patterns, "rust")
            regexes = (length, *node.must_match, *found.within)
            return self._in_quotes(
                self._terminal(*regexes, never=(*node.must_not_match, *found.never))
            )
        if not node.patterns:
            return self._terminal(f'"{_CHARACTER}{{{node.min_length},{node.max_length}}}"')
        patterns = [{"pattern": pattern} for pattern in (*node.patterns, _NO_CONTROLS)]
        return self._json(
            type="string",
            minLength=node.min_length,
            maxLength=node.max_length,
            allOf=patterns,
        )

    def _positions(self, node: ChecksumString) -> str:
        """A rule for each position and each sum that may be reached there."""
        following: dict[int, str] = {0: ""}
        for position in reversed(node.positions):
            options: dict[int, list[str]] = {}
            for total in range(node.modulus):
                for character, adds in position.items():
                    after = following.get((total + adds) % node.modulus)
                    if after is not None:
                        options.setdefault(total, []).append(f'"{character}" {after}'.rstrip())
            following = {
                total: self._named("r", " | ".join(ways)) for total, ways in options.items()
            }
        return following[0]

    def _excerpt(self, node: Substring) -> str:
        """Patterns are matched against text that needs no escape in JSON."""
        text, found = node.text, searched(node.text.patterns, "rust")
        chunks = [json_string(chunk)[1:-1] for chunk in node.chunks]
        whole = self._named("T", f"%regex {json.dumps({'substring_chunks': chunks})}")
        character = _PLAIN if text.patterns else _CHARACTER
        length = f"{character}{{{max(1, text.min_length)},{text.max_length}}}"
        regexes = [length, r"\S(.*\S)?", r".*[\p{L}\p{N}].*", *found.within]
        return f'"\\"" {self._named("T", f"{whole} & {terminal(regexes, found.never)}")} "\\""'

    def _key(self, node: Node) -> str:
        """Keys are strings: a number or a constant that is none is quoted."""
        match node:
            case Choice(values):
                return self._choice([write_value(_key_text(value)) for value in values])
            case Integer():
                return self._in_quotes(self._integer(node))
            case Number():
                return self._in_quotes(self._number(replace(node, quoted=False)))
            case AnyOf(options):
                return self._named("r", " | ".join(self._key(option) for option in options))
        return self.rule(node)

    def _array(self, node: Array) -> str:
        """Items beyond the prefix repeat; a prefix item may be the last from `minimum` on."""
        items = [self.rule(item) for item in node.prefix]
        if node.items is not None:
            least = max(0, node.minimum - len(items))
            rest = node.maximum - len(items)
            item = self.rule(node.items)
            if not items:
                return f'"[" {_repeat(item, least, rest)} "]"'.replace("  ", " ")
            tail = f'("," {item}){{{least},{rest}}}' if rest else ""
        else:
            tail = ""
        return f'"[" {self._prefix(items, node.minimum, tail)} "]"'.replace("  ", " ")

    def _prefix(self, items: list[str], minimum: int, tail: str) -> str:
        text = tail
        for index in range(len(items) - 1, -1, -1):
            separator = '"," ' if index else ""
            text = f"{separator}{items[index]} {text}".rstrip()
            if index >= minimum:
                text = f"({text})?"
        return text

    def _record(self, node: Object) -> str:
        """Fields in their order, then extra pairs; a comma stands before all but the first."""
        least = max(0, node.minimum)
        if least <= len(node.fields) - len(node.optional):
            least = 0
        most = node.maximum
        if most is not None and most >= len(node.fields) + node.most_extra:
            most = None
        all_written = not node.optional and not node.extra
        inner = (self._pairs if all_written else self._rest)(node, 0, 0, least, most)
        return f'"{{" {inner} "}}"' if inner else '"{}"'

    def _pairs(self, node: Object, index: int, count: int, least: int, most: int | None) -> str:
        """What may follow when `count` pairs are written and the field `index` is next.

        Counts beyond what a limit asks for are taken together.
        """
        if index == len(node.fields):
            return self._extra(node, count, least, most)
        name, value = node.fields[index]
        comma = "," if count else ""
        written = f"{self._literal(f'{comma}{json_string(name)}:')} {self.rule(value)}"
        if not node.optional and not node.extra:
            rest = self._pairs(node, index + 1, count + 1, least, most)
            return f"{written} {rest}".rstrip()
        after = min(count + 1, max(1, least, most or 0))
        options = []
        if _possible(node, index + 1, count + 1, least, most):
            options.append(f"{written} {self._rest(node, index + 1, after, least, most)}".rstrip())
        if name in node.optional and _possible(node, index + 1, count, least, most):
            options.append(self._rest(node, index + 1, count, least, most) or '""')
        return " | ".join(options)

    def _rest(self, node: Object, index: int, count: int, least: int, most: int | None) -> str:
        key = (id(node), self._inside, index, count)
        if key not in self._rests:
            body = self._pairs(node, index, count, least, most)
            self._rests[key] = self._named("r", body) if body else ""
        return self._rests[key]

    def _extra(self, node: Object, count: int, least: int, most: int | None) -> str:
        """Pairs whose keys have no name; `count` is exact only as far as the limits reach."""
        room = node.most_extra if node.extra else 0
        if most is not None:
            room = min(room, most - count)
        needed = max(0, least - count)
        if room == 0:
            return ""
        pairs = (f'{self._key(keys)} ":" {self.rule(values)}' for keys, values in node.extra)
        pair = self._named("r", " | ".join(pairs))
        if count:
            return f'("," {pair}){{{needed},{room}}}'
        return _repeat(pair, needed, room)

    def _terminal(self, *regexes: str, never: Sequence[str] = ()) -> str:
        return self._named("T", terminal(regexes, never))

    def _json(self, **schema: Any) -> str:
        schema["x-guidance"] = {"whitespace_flexible": False}
        return self._named("r", f"%json {json.dumps(schema)}")

    def _named(self, kind: str, body: str) -> str:
        name = self._names.get(body)
        if name is None:
            name = f"{kind}{len(self._names)}"
            self._names[body] = name
            self.lines.append(f"{name}: {body}")
        return name


def _possible(node: Object, index: int, count: int, least: int, most: int | None) -> bool:
    """Whether the limits can be kept with `count` pairs written before the field `index`."""
    left = node.fields[index:]
    needed = sum(name not in node.optional for name, _ in left)
    room = len(left) + (node.most_extra if node.extra else 0)
    return count + room >= least and (most is None or count + needed <= most)


def _repeat(item: str, minimum: int, maximum: int) -> str:
    """Between `minimum` and `maximum` items with commas between them. Lark has no {0,0}."""
    if maximum == 0:
        return ""
    if maximum == 1:
        return item if minimum else f"({item})?"
    more = f'{item} ("," {item}){{{max(0, minimum - 1)},{maximum - 1}}}'
    return more if minimum else f"({more})?"


def _slashes(regex: str) -> str:
    return re.sub(r"(\\.)|/", lambda match: match[1] or r"\/", regex)


def _key_text(value: Any) -> str:
    return value if isinstance(value, str) else write_value(value)


def _literal(text: str) -> str:
    """A Lark string. Lark knows JSON's escapes."""
    return json.dumps(text, ensure_ascii=False)
