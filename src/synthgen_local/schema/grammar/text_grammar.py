"""What a text may be that is no row: an expression, a literal, a grammar, or one of several.

Knows llguidance's dialect of Lark, not JSON Schema; a row's grammar is taken as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from llguidance import LLMatcher

from ...errors import SchemaError
from ..compiler import RowGrammar
from ..ir import RegexString
from ..regex.translation import as_python, read_pattern
from .lark import byte_tokenizer, has_text, refusal, terminal
from .size import UTF8

_LENGTHS = (200, 1000)  # characters of an expression without an end; more only where needed
_SHORT = (8, 32, 64)  # characters that one with an end may have at most


@dataclass(frozen=True)
class TextGrammar:
    """The Lark text, a bound in bytes, and a check that raises ValueError for other texts.

    A `longest` of None is no bound: whoever decodes has to end the text. `tidy` returns a text of
    the grammar without what its lists repeat; ValueError if it is none.

    Example: `TextGrammar.of_pattern("[a-z]{3}").parse("abc") == "abc"`
    """

    lark: str
    longest: int | None
    parse: Callable[[str], Any]
    tidy: Callable[[str], str] = str

    @property
    def serialised(self) -> str:
        """Llguidance's form."""
        return str(LLMatcher.grammar_from_lark(self.lark))

    @classmethod
    def of_literal(cls, text: str) -> TextGrammar:
        """This text and no other.

        Example: `TextGrammar.of_literal("yes").longest == 3`
        """
        lark = f"start: {json.dumps(text, ensure_ascii=False)}\n"
        return cls(lark, len(text.encode()), _membership(lark))

    @classmethod
    def of_pattern(cls, pattern: str) -> TextGrammar:
        r"""Texts of which a regular expression matches the whole.

        What no grammar can say, such as a reference back, is left to the check. Raises SchemaError
        if it is no regular expression or matches nothing of a length that can be decoded.

        Example: `TextGrammar.of_pattern(r"\d{5}").longest`
        """
        try:
            read = read_pattern(f"^(?:{pattern})$", as_python(pattern).dialect)
        except ValueError as error:
            raise SchemaError(
                f"{_short(pattern)} is no regular expression: {error}.",
                hint="Correct the expression.",
            ) from None
        within = tuple(map(_as_python_reads, read.within))
        for length in _LENGTHS:
            lark = _lark((*within, f"(?s:.){{0,{length}}}"), read.never)
            if reason := refusal(lark):
                raise SchemaError(
                    f"{_short(pattern)} cannot be compiled: {reason}", hint="Simplify it."
                )
            if has_text(lark):
                longest = _longest(within, read.never, length)
                return cls(lark, UTF8 * longest, _match(pattern, lark if read.exact else ""))
        raise SchemaError(
            f"{_short(pattern)} matches no text of up to {_LENGTHS[-1]} characters.",
            hint="Shorten what it asks for.",
        )

    @classmethod
    def of_lark(cls, definition: str) -> TextGrammar:
        """Texts of a context-free grammar in Lark's syntax; its start rule is `start`.

        Raises SchemaError if llguidance cannot use it.

        Example: `TextGrammar.of_lark('start: "a" start "b" | "c"').parse("acb")`
        """
        if reason := refusal(definition):
            raise SchemaError(
                f"The grammar cannot be compiled: {reason}",
                hint="Write it in Lark's syntax, with a rule `start`.",
            )
        return cls(definition, None, _membership(definition))

    @classmethod
    def of_rows(cls, grammar: RowGrammar) -> TextGrammar:
        """Rows as JSON.

        Example: `TextGrammar.of_rows(compile_schema(RowSchema.of("name")))`
        """
        return cls(grammar.lark, grammar.longest, grammar.schema.parse, grammar.tidy)

    @classmethod
    def of_unquoted(cls, grammar: RowGrammar) -> TextGrammar:
        """Rows that are strings of a format, such as dates, without JSON's quotes.

        Example: `TextGrammar.of_unquoted(compile_schema(RowSchema.of(date))).parse("2020-02-29")`
        """
        node, schema = grammar.ir, grammar.schema
        if not isinstance(node, RegexString):
            return cls.of_rows(grammar)
        lark = _lark(node.regexes, node.must_not_match)
        return cls(lark, node.length, lambda text: schema.parse(json.dumps(text)))

    @classmethod
    def of_any(cls, options: Sequence[TextGrammar]) -> TextGrammar:
        """A text of any of these.

        Example: `TextGrammar.of_any([TextGrammar.of_literal("a"), TextGrammar.of_literal("b")])`
        """
        if len(options) == 1:
            return options[0]
        names = [f"option_{number}" for number in range(len(options))]
        rules = [
            f"{name}: %lark {{\n{option.lark}\n}}\n"
            for name, option in zip(names, options, strict=True)
        ]
        lark = f"start: {' | '.join(names)}\n{''.join(rules)}"
        if reason := refusal(lark):
            raise SchemaError(f"The alternatives cannot be compiled: {reason}", hint="Use fewer.")
        bounds = [option.longest for option in options]

        def parse(text: str) -> Any:
            refusals = []
            for option in options:
                try:
                    return option.parse(text)
                except ValueError as error:
                    refusals.append(str(error))
            raise ValueError("; ".join(dict.fromkeys(refusals)))

        def tidy(text: str) -> str:
            for option in options:
                with suppress(ValueError):
                    option.parse(text)
                    return option.tidy(text)
            raise ValueError("the text is none of the alternatives")

        longest = None if None in bounds else max(bound or 0 for bound in bounds)
        return cls(lark, longest, parse, tidy)


def _lark(regexes: Sequence[str], never: Sequence[str]) -> str:
    return f"start: TEXT\nTEXT: {terminal(regexes, never)}\n"


def _longest(within: Sequence[str], never: Sequence[str], length: int) -> int:
    """A bound in characters, at most `length`."""
    for most in _SHORT:
        if not has_text(_lark((*within, f"(?s:.){{{most + 1},{length}}}"), never)):
            return most
    return length


def _as_python_reads(regex: str) -> str:
    """Digits of ASCII, and letters without marks: Rust's are more than Python's."""
    classes = {r"\d": "[0-9]", r"\w": r"[\p{L}\p{N}_]"}
    return re.sub(r"\\.", lambda match: classes.get(match[0], match[0]), regex)


def _membership(lark: str) -> Callable[[str], str]:
    grammar = LLMatcher.grammar_from_lark(lark)

    def parse(text: str) -> str:
        matcher = LLMatcher(byte_tokenizer(), grammar, log_level=0)
        if not matcher.consume_tokens(list(text.encode())) or not matcher.is_accepting():
            raise ValueError("the text is not one of the grammar, or not a whole one")
        return text

    return parse


def _match(pattern: str, lark: str) -> Callable[[str], str]:
    """Ask Python for a match; the grammar, if it is exact, where Python cannot say."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        if lark:
            return _membership(lark)
        raise SchemaError(
            f"{_short(pattern)} is neither regular nor an expression of Python's: {error}.",
            hint="Leave out its look-around and references.",
        ) from None

    def parse(text: str) -> str:
        if not expression.fullmatch(text):
            raise ValueError(f"the text does not match {_short(pattern)}")
        return text

    return parse


def _short(pattern: str) -> str:
    return pattern if len(pattern) <= 60 else f"{pattern[:60]}..."
