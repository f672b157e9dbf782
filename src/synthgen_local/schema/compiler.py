"""The compiler's one entry: a row schema in, a checked grammar and its certificate out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

from llguidance import LLMatcher

from ..errors import SchemaError
from .certificate import Certificate
from .grammar.lark import refusal, write_grammar
from .grammar.size import longest_text
from .ir import Bounds, Node, Object
from .json_schema.conjunct import TooManyAlternativesError
from .json_schema.references import References
from .lowering.lower import lower
from .lowering.optional_properties import select
from .repeated_items import read_without_repeats
from .row_schema import RowSchema


@dataclass(frozen=True)
class RowGrammar:
    """What a row may be: the Lark text, llguidance's serialised form, and a bound in bytes."""

    schema: RowSchema
    ir: Node
    lark: str
    serialised: str
    longest: int
    certificate: Certificate

    def tidy(self, text: str) -> str:
        """Return a row in JSON without what its lists repeat, where it is valid without that.

        Raises ValueError if the row is not valid.

        Example: `compile_schema(RowSchema.of("name")).tidy('{"name":"Ada"}')`
        """

        def checked(row: str) -> str:
            self.schema.parse(row)
            return row

        return read_without_repeats(text, self.ir, checked)


_TIGHTER: Sequence[Mapping[str, Any]] = (
    {},
    {"max_length": 100},
    {"max_length": 50, "max_items": 6},
    {"max_length": 25, "max_items": 4, "depth": 2},
    {"max_length": 25, "max_items": 2, "depth": 1, "levels": 1},
    {"max_length": 12, "max_items": 1, "depth": 0, "levels": 0},
    {"max_length": 50, "max_items": 4, "depth": 1, "levels": 1, "over": True},
    {"max_length": 12, "max_items": 1, "depth": 0, "levels": 0, "over": True},
)
"""Limits for rows that would not fit, from the first on."""


_RECURSIVE = 5  # of them, before rows of a recursive schema have chosen properties instead; but
# one is enough where large circles of references multiply
_CHOSEN: Sequence[Mapping[str, Any]] = (
    {"max_length": 16, "max_items": 1},
    {"max_length": 12, "max_items": 1, "over": True},
)
"""Limits for rows whose optional properties are chosen."""
_MANY = 2000  # nodes of a schema with large circles, from which on properties are chosen
_USUAL_ROOM = 4096  # bytes for rows of chosen properties, where nobody says how long they may be
_MOST_ROOM = 16_384  # bytes that are filled with chosen properties

_Made: TypeAlias = tuple[Node, Certificate, int]


def compile_schema(schema: RowSchema, bounds: Bounds | None = None) -> RowGrammar:
    """Derive the grammar of a schema's rows.

    Where optional properties multiply beyond all use, rows have those nearest to the root, and
    the certificate names what they do not have. Raises SchemaError if the schema asks for what
    cannot be honoured or has no valid row.

    Example: `compile_schema(RowSchema.of("name, age int")).lark`
    """
    with _shallow(schema):
        fitting = _Fitting(schema.json_schema, None, {})
        changes = {} if bounds is None else asdict(bounds)
        return _compiled(schema, *fitting.of_bounds(changes))


def compile_within(
    schema: RowSchema, room: int, lengths: Mapping[str, int] | None = None
) -> RowGrammar:
    """Derive a grammar whose longest row takes at most `room` tokens, if any bounds allow it.

    What the schema leaves open is limited as `Bounds` says, and more and more tightly where that
    is too long; `lengths` are limits of strings by path. Where that is not enough, or nothing would
    be left of what is recursive, rows have as many optional properties as there is room for. The
    certificate shows all of this.

    Example: `compile_within(RowSchema.of("name, age int"), room=4096).longest <= 4096`
    """
    with _shallow(schema):
        return _compiled(schema, *_Fitting(schema.json_schema, room, lengths or {}).within())


class _Fitting:
    """One schema, worked out under one limit after the other until its rows fit."""

    def __init__(
        self, schema: Mapping[str, Any], room: int | None, lengths: Mapping[str, int]
    ) -> None:
        self._schema = schema
        self._room = room
        self._lengths = lengths
        self._references = References(schema)

    def of_bounds(self, changes: Mapping[str, Any]) -> _Made:
        """Return all properties within some bounds; those that fit if they are too many."""
        try:
            return self._whole(changes)
        except TooManyAlternativesError:
            chosen = self._chosen(_CHOSEN if self._room or not changes else [changes])
            if chosen is None:
                raise
            return chosen

    def within(self) -> _Made:
        """Return what fits; or else what is shortest, which does not."""
        choose_at = 1 if self._references.hubs else _RECURSIVE
        for index, changes in enumerate(_TIGHTER):
            choosing = index == choose_at and self._references.recursive
            if choosing and (chosen := self._chosen(_CHOSEN)) is not None:
                return chosen
            made = self.of_bounds(changes)
            if self._fits(made):
                return made
        return self._chosen(_CHOSEN) or made

    def _fits(self, made: _Made) -> bool:
        return made[2] <= (_USUAL_ROOM if self._room is None else self._room)

    def _whole(self, changes: Mapping[str, Any]) -> _Made:
        most = _MANY if self._references.hubs else None
        bounds = self._bounds(changes)
        node, certificate = lower(self._schema, bounds, references=self._references, max_nodes=most)
        return node, certificate, longest_text(node)

    def _chosen(self, limits: Sequence[Mapping[str, Any]]) -> _Made | None:
        """What rows of chosen properties are, None if not even the required ones fit."""
        room = _USUAL_ROOM if self._room is None else min(self._room, _MOST_ROOM)
        for changes in limits:
            bounds = self._bounds(changes)
            with suppress(SchemaError):
                node, certificate = select(
                    self._schema, bounds, room, self._lengths, self._references
                )
                made = node, certificate, longest_text(node)
                empty = isinstance(node, Object) and not node.fields and not node.extra
                if self._fits(made) and not empty:
                    return made
        return None

    def _bounds(self, changes: Mapping[str, Any]) -> Bounds:
        bounds = replace(Bounds(), **changes)
        shorter = {path: min(bounds.max_length, n) for path, n in self._lengths.items()}
        return replace(bounds, lengths={**bounds.lengths, **shorter})


@contextmanager
def _shallow(schema: RowSchema) -> Iterator[None]:
    """Schemas and nodes are trees that are gone down by recursion, which has an end."""
    try:
        yield
    except RecursionError:
        raise SchemaError(
            f"The schema of {schema.name} is too large or too deep.", hint="Simplify it."
        ) from None


def _compiled(schema: RowSchema, node: Node, certificate: Certificate, longest: int) -> RowGrammar:
    lark = write_grammar(node)
    if reason := refusal(lark):
        raise SchemaError(
            f"The schema of {schema.name} cannot be compiled: {reason}", hint="Simplify it."
        )
    serialised = LLMatcher.grammar_from_lark(lark)
    annotations = tuple(dict.fromkeys((*certificate.annotations, *schema.unused)))
    certificate = replace(certificate, annotations=annotations)
    return RowGrammar(schema, node, lark, serialised, longest, certificate)
