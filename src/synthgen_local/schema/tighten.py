"""A JSON Schema made strict, closed and bounded: a tree of shapes and a certificate.

Every keyword is honoured by the shape, left to the check of the finished row and marked so
in the certificate, or refused by name and path. What the schema leaves open gets a limit.
References are unfolded, a recursive one to a bounded depth. Knows no grammar syntax.

Keywords: JSON Schema, drafts 4 to 2020-12, and those of `pydantic_schema.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as AnyMapping
from decimal import Context, Decimal
from functools import lru_cache
from itertools import combinations
from typing import Any, TypeAlias

from ..errors import SchemaError
from .alternatives import (
    ANNOTATIONS,
    ASSERTIONS,
    KINDS,
    Alternatives,
    Fields,
    Part,
    Schema,
    meet,
    too_much,
)
from .certificate import Certificate, Constraint, Enforcer, join_path
from .formats import FORMATS, url_format
from .grammar import has_text, refusal, write_grammar
from .moments import FORMAT_BOUNDS, moment_range, write_moment
from .patterns import Pattern, searched
from .ranges import DATE, TIME, grid, integer_range, lexical_range
from .references import References, nothing_outside, validator
from .shapes import (
    Array,
    Bounds,
    Choice,
    Formatted,
    Integer,
    Mapping,
    Number,
    Quoted,
    Record,
    Shape,
    Text,
    Union,
)

_KNOWN = ANNOTATIONS | ASSERTIONS | {"validators"}
_FLOAT_DIGITS = 15  # every decimal of so many digits survives the way through a float
_FEWEST_STEPS = 100  # a narrow range of floats gets more places until it has so many values
_WIDEST_STEP = 50_000
_EXACT = Context(prec=60)
_UUID = "[0-9a-f]{{8}}-[0-9a-f]{{4}}-{version}[0-9a-f]{{3}}-[89ab][0-9a-f]{{3}}-[0-9a-f]{{12}}"
_UUIDS = {f"uuid{version}": str(version) for version in (1, 3, 4, 5, 6, 7, 8)} | {"uuid": None}
_MOMENTS = {"date", "time", "date-time"}
_ORDER = ("string", "number", "integer", "fraction", "boolean", "object", "array", "null")
_MANY = 4000  # shapes, from which on equal parts of a schema are worked out once

_ENOUGH = 8  # characters, of which there are more strings than any schema lists
_LONGER = (64, 200, 1000)  # characters that a pattern may need, where they are not limited
_MOST_SHAPES = 50_000  # real schemas have some hundreds
_MOST_PATTERNS = 3  # of keys, for which every overlap is worked out
_FRACTION = r"(?:\.[0-9]{1,6})?"
_ZONE = "(?:Z|[+-](?:0[0-9]|1[0-3]):[0-5][0-9])"

Keywords: TypeAlias = AnyMapping[str, Any]
Schemas: TypeAlias = tuple[Schema, ...]
"""Schemas that all apply."""
_Depth: TypeAlias = frozenset[tuple[str, int]]  # levels of each circle of references


def tighten(schema: AnyMapping[str, Any], bounds: Bounds) -> tuple[Shape, Certificate]:
    """Return the shape of a schema's rows and who enforces each constraint.

    Raises SchemaError, naming keyword and path, for what cannot be honoured or satisfied.

    Example: `tighten({"type": "integer", "minimum": 0}, Bounds())[0]`
    """
    work = _Tightening(schema, bounds)
    shape = work.shape((dict(schema),), "$", frozenset())
    if shape is None:
        raise work.why or SchemaError(
            "The schema has no finite row: it contains itself.", hint="Make a field optional."
        )
    return shape, Certificate(tuple(work.constraints), tuple(dict.fromkeys(work.annotations)))


class _Tightening:
    """One walk over one schema. None stands for a schema without a value of finite length."""

    def __init__(self, root: AnyMapping[str, Any], bounds: Bounds) -> None:
        self._root = root
        self._bounds = bounds
        self._references = References(root)
        self._alternatives = Alternatives(self._references)
        self._known: dict[tuple[tuple[int, ...], _Depth], tuple[Schemas, Shape | None]] = {}
        self._made = 0
        self._noted: set[tuple[str, str, str, str]] = set()
        self.constraints: list[Constraint] = []
        self.annotations: list[tuple[str, str]] = []
        self.why: SchemaError | None = None

    def shape(self, schemas: Schemas, path: str, depth: _Depth) -> Shape | None:
        """The values that all schemas allow."""
        schemas = tuple(schema for schema in schemas if schema is not True and schema != {})
        if not schemas:
            return self._anything(depth)
        key = (tuple(map(id, schemas)), depth)
        if key in self._known and (depth or self._made > _MANY):
            return self._known[key][1]
        self._made += 1
        if self._made > _MOST_SHAPES:
            raise too_much(path)
        shape = self._shape(schemas, path, depth)
        self._known[key] = schemas, shape  # held, so that no other schema gets their identities
        return shape

    def _shape(self, schemas: Schemas, path: str, depth: _Depth) -> Shape | None:
        parts = [Part()]
        for schema in schemas:
            self._note_annotations(schema, path)
            others = self._alternatives.of(schema, path)
            if parts == [Part()]:
                parts = others
            else:
                parts = [met for a in parts for b in others if (met := meet(a, b)) is not None]
        if not parts:
            self._impossible(schemas, path)
        values = [value for part in parts for value in part.values or ()]
        options: list[Shape] = []
        if values:
            chosen = self._chosen(schemas, values, path)
            options += [chosen] if chosen is not None else []
        for part in parts:
            for name in part.keywords.get("validators", ()):
                self._note(path, "validator", name, "check")
            if part.values is None:
                deeper = self._deeper(part, depth)
                options += self._of_kinds(part, path, deeper) if deeper is not None else []
        return None if not options else options[0] if len(options) == 1 else Union(tuple(options))

    def _impossible(self, schemas: Schemas, path: str) -> None:
        keywords = [key for s in schemas if isinstance(s, AnyMapping) for key in s]
        combining = next(
            (k for k in ("allOf", "oneOf", "not", "if", "anyOf") if k in keywords), "type"
        )
        self._give_up(_unsatisfiable(combining, path, "what is asked for excludes itself"))

    def _give_up(self, error: SchemaError) -> None:
        """Remember why there is no value here; it matters if one is needed."""
        self.why = error

    def _deeper(self, part: Part, depth: _Depth) -> _Depth | None:
        """The depth inside of a part; None if a circle of references has gone round enough."""
        levels = dict(depth)
        circles = [self._references.circle(reference) for reference in part.references]
        for name in {min(circle) for circle in circles if circle}:
            levels[name] = levels.get(name, -1) + 1
            self._note("$", "depth", self._bounds.depth, "bound")
            if levels[name] > self._bounds.depth:
                return None
        return frozenset(levels.items())

    def _anything(self, depth: _Depth) -> Shape:
        """Any JSON value, of a few levels."""
        levels = dict(depth)
        level = levels.get("", 0) + 1
        self._note("$", "levels", self._bounds.levels, "bound")
        limit = Decimal(10**self._bounds.whole_digits)
        text = Text(0, min(32, self._bounds.max_length))
        number = Number(-limit, limit, self._bounds.places)
        shapes: list[Shape] = [text, number, Choice((True, False, None))]
        if level <= self._bounds.levels:
            inner = self._anything(frozenset({**levels, "": level}.items()))
            most = min(4, self._bounds.max_items)
            shapes += [Mapping(Text(1, 16), inner, 0, most), Array(inner, 0, most)]
        return Union(tuple(shapes))

    def _of_kinds(self, part: Part, path: str, depth: _Depth) -> list[Shape]:
        for keyword in part.unsaid:
            self._note(path, keyword, True, "check")
        kinds = set(part.kinds)
        if part.kinds == KINDS and (meant := part.meant):
            kinds = set(meant)
            self._note(path, "type", sorted(meant), "bound")
        if {"integer", "fraction"} <= kinds:
            kinds = kinds - {"integer", "fraction"} | {"number"}
        shapes = []
        for kind in _ORDER:
            if kind in kinds:
                self._note(path, "type", kind)
                try:
                    shape = self._of_kind(kind, part, path, depth)
                except _NoValue as nothing:
                    self._give_up(nothing)
                    continue
                shapes += [shape] if shape is not None else []
        return shapes

    def _of_kind(self, kind: str, part: Part, path: str, depth: _Depth) -> Shape | None:
        match kind:
            case "integer":
                return self._integer(part.keywords, path)
            case "number" | "fraction":
                return self._number(part.keywords, path)
            case "string":
                if "holds" in part.keywords:
                    held = self.shape((part.keywords["holds"],), path, depth)
                    return None if held is None else Quoted(held)
                return self._string(part.keywords, path)
            case "boolean":
                return Choice((True, False))
            case "null":
                return Choice((None,))
            case "array":
                return self._array(part, path, depth)
        return self._object(part, path, depth)

    def _chosen(self, schemas: Schemas, values: Sequence[Any], path: str) -> Shape | None:
        """Those of the values that all schemas take."""
        told = [schema for schema in schemas if isinstance(schema, AnyMapping)]
        plain = all(schema.keys() - ANNOTATIONS <= {"enum", "const"} for schema in told)
        check = [] if plain and len(told) == 1 else self._validators(schemas)
        kept: list[Any] = []
        with nothing_outside():
            for value in values:
                if value not in kept or any(type(value) is not type(k) for k in kept if k == value):
                    kept += [value] if all(c.is_valid(value) for c in check) else []
        if not kept:
            self._give_up(_unsatisfiable("enum", path, "no value is allowed"))
            return None
        self._note(path, "const" if len(values) == 1 else "enum", kept)
        return Choice(tuple(kept))

    def _validators(self, schemas: Schemas) -> list[Any]:
        """Validators of parts of the document."""
        root = validator(self._root)
        return [root.evolve(schema=schema) for schema in schemas]

    # Numbers

    def _integer(self, keywords: Keywords, path: str) -> Shape:
        limit = Decimal(10**self._bounds.integer_digits - 1)
        low, high = self._limits(keywords, path, limit, _integer_above, _integer_below)
        first, last = math.ceil(low), math.floor(high)
        step = int(_common_multiple([Decimal(1), *map(_exact, keywords.get("multipleOf", ()))]))
        if -(-first // step) * step > last:
            raise _unsatisfiable("minimum", path, f"no integer from {low} to {high}")
        self._note_steps(keywords, path)
        self._refuse_wide_steps(Decimal(step), path)
        return Integer(first, last, step)

    def _number(self, keywords: Keywords, path: str) -> Shape:
        bounds = self._bounds
        limit = Decimal(10**bounds.whole_digits) - Decimal(1).scaleb(-bounds.places)
        low, high = self._limits(keywords, path, limit, _float_above, _float_below)
        whole = max(len(str(int(abs(bound)))) for bound in (low, high))
        most = max(1, _FLOAT_DIGITS - whole)
        places = min(bounds.places, most)
        self._note_steps(keywords, path)
        if steps := keywords.get("multipleOf"):
            return self._multiples(low, high, _common_multiple(list(map(_exact, steps))), path)
        while places < most and _steps(low, high, places) < _FEWEST_STEPS:
            places += 1
        self._note(path, "decimalPlaces", places, "bound")
        if _steps(low, high, places) <= 0:
            raise _unsatisfiable("minimum", path, f"no number from {low} to {high}")
        return Number(low, high, places)

    def _decimal(self, schema: Keywords, path: str) -> Shape:
        digits, places = schema.get("maxDigits"), schema.get("decimalPlaces")
        if places is None:
            places = (
                self._bounds.places if digits is None else min(self._bounds.places, digits // 2)
            )
            self._note(path, "decimalPlaces", places, "bound")
        whole = self._bounds.whole_digits if digits is None else digits - places
        limit = Decimal(10**whole) - Decimal(1).scaleb(-places)
        renamed = {
            _DECIMAL_BOUNDS[k]: Decimal(v) for k, v in schema.items() if k in _DECIMAL_BOUNDS
        }
        low, high = self._limits(renamed, path, limit, _EXACT.next_plus, _EXACT.next_minus)
        if digits is not None:
            low, high = max(low, -limit), min(high, limit)
        self._note_given(schema, path, "maxDigits", "decimalPlaces")
        self._note_steps(schema, path)
        if steps := schema.get("multipleOf"):
            step = _common_multiple(list(map(_exact, steps)))
            return self._multiples(low, high, step, path, quoted=True)
        if _steps(low, high, places) <= 0:
            raise _unsatisfiable(
                "minimum", path, f"no decimal of {places} places from {low} to {high}"
            )
        return Number(low, high, places, quoted=True)

    def _multiples(
        self, low: Decimal, high: Decimal, step: Decimal, path: str, *, quoted: bool = False
    ) -> Shape:
        if (low / step).to_integral_value("ROUND_CEILING") * step > high:
            raise _unsatisfiable("multipleOf", path, f"no multiple of {step} from {low} to {high}")
        exponent = step.normalize().as_tuple()
        places = max(0, -int(exponent.exponent))
        if exponent.digits == (1,) and places >= 1:
            return Number(low, high, places, quoted=quoted)
        self._refuse_wide_steps(step.scaleb(places), path)
        return Number(low, high, places, step, quoted)

    def _refuse_wide_steps(self, step: Decimal, path: str) -> None:
        """The automaton that knows multiples has as many states as the step has units."""
        if step > _WIDEST_STEP:
            raise _refusal("multipleOf", path, f"of {step} units, more than {_WIDEST_STEP},")

    def _note_steps(self, keywords: Keywords, path: str) -> None:
        for step in keywords.get("multipleOf", ()):
            self._note(path, "multipleOf", step)

    def _limits(
        self, schema: AnyMapping[str, Any], path: str, limit: Decimal, above: Any, below: Any
    ) -> tuple[Decimal, Decimal]:
        """The least and the greatest value; `above` and `below` step off an exclusive bound."""
        lows = [_exact(schema["minimum"])] if "minimum" in schema else []
        highs = [_exact(schema["maximum"])] if "maximum" in schema else []
        if "exclusiveMinimum" in schema:
            lows.append(above(_exact(schema["exclusiveMinimum"])))
        if "exclusiveMaximum" in schema:
            highs.append(below(_exact(schema["exclusiveMaximum"])))
        self._note_given(schema, path, "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
        low = max(lows, default=-limit)
        high = min(highs, default=limit)
        if low > limit and not highs:
            high = low + limit
        if high < -limit and not lows:
            low = high - limit
        if not lows:
            self._note(path, "minimum", _plain(low), "bound")
        if not highs:
            self._note(path, "maximum", _plain(high), "bound")
        if low > high:
            raise _unsatisfiable("minimum", path, f"{low} is above the maximum {high}")
        return low, high

    # Strings

    def _string(self, keywords: Keywords, path: str) -> Shape:
        patterns = self._patterns(keywords, path)
        shapes = []
        for kind in keywords.get("format", ()):
            shape = self._formatted(kind, keywords, path)
            if shape is None:
                self.annotations.append((path, "format"))
                continue
            self._note(path, "format", kind)
            shapes.append(shape)
        if not shapes:
            return self._text(keywords, path, patterns)
        if len(shapes) > 1 and not all(isinstance(shape, Formatted) for shape in shapes):
            raise _refusal("format", path, "of several kinds")
        return self._formatted_text(shapes, keywords, path, patterns)

    def _formatted_text(
        self, shapes: Sequence[Shape], keywords: Keywords, path: str, patterns: Pattern
    ) -> Shape:
        """Formats with the lengths and patterns that are asked for besides."""
        first = shapes[0]
        if not isinstance(first, Formatted):
            return first
        regexes = [regex for shape in shapes for regex in getattr(shape, "regexes", ())]
        never = [regex for shape in shapes for regex in getattr(shape, "never", ())]
        longest = min(getattr(shape, "length", first.length) for shape in shapes)
        shortest, most = keywords.get("minLength", 0), keywords.get("maxLength", longest)
        self._note_given(keywords, path, "minLength", "maxLength")
        alone = len(shapes) == 1 and not (patterns.within or patterns.never)
        if alone and first.fixed and shortest <= longest <= most:
            return first
        if shortest > most:
            raise _unsatisfiable("minLength", path, f"{shortest} is above maxLength {most}")
        length = f"(?s:.){{{shortest},{min(most, longest)}}}"
        shape = Formatted(
            (*regexes, *patterns.within, length),
            min(most, longest),
            (*never, *patterns.never),
        )
        if not has_text(write_grammar(shape)):
            keyword = "pattern" if patterns.within or patterns.never else "maxLength"
            raise _unsatisfiable(keyword, path, "no string of this format and length has it")
        return shape

    def _patterns(self, keywords: Keywords, path: str) -> Pattern:
        """Patterns as expressions of the whole string, noted by who enforces them."""
        within: list[str] = []
        never: list[str] = []
        for keyword, kept in (("pattern", True), ("notPattern", False)):
            for text in keywords.get(keyword, ()):
                try:
                    read = searched([text])
                except ValueError as error:
                    raise SchemaError(
                        f"{path}: keyword 'pattern' is no regular expression: {error}.",
                        hint="Correct the expression.",
                    ) from None
                exact = read.exact
                if kept:
                    within += read.within
                    never += read.never
                elif read.exact and len(read.within) == 1 and not read.never:
                    never += read.within
                else:
                    exact = False
                name = "pattern" if kept else "not"
                self._note(path, name, text, "grammar" if exact else "check")
        for texts in keywords.get("notAmong", ()):
            never += map(_literal, texts)
            self._note(path, "not", list(texts))
        return Pattern(tuple(within), tuple(never))

    def _formatted(self, kind: str, schema: Keywords, path: str) -> Shape | None:
        """The shape of a format; None for a format that is only a word about the string."""
        if kind == "decimal":
            return self._decimal(schema, path)
        if kind in _MOMENTS:
            return self._moment(kind, schema, path)
        if kind in _UUIDS:
            version = _UUIDS[kind] or schema.get("version") or self._bounds.uuid
            return Formatted((_UUID.format(version=version),), 36)
        if kind in ("file-path", "directory-path"):
            raise _refusal("format", path, f"'{kind}', which must exist,")
        if kind == "duration" and schema.keys() & set(FORMAT_BOUNDS):
            return self._duration(schema, path)
        form = FORMATS.get(kind)
        if kind == "uri" and "schemes" in schema:
            form = url_format(schema["schemes"])
        if form is None:
            return None
        self._note(path, "maxLength", form.longest, "bound")
        return Formatted((form.regex,), form.longest, form.never, fixed=False)

    def _duration(self, schema: Keywords, path: str) -> Shape:
        """Seconds between the bounds."""
        limit = Decimal(10**self._bounds.whole_digits)
        renamed = {
            _DECIMAL_BOUNDS[k]: Decimal(v) for k, v in schema.items() if k in _DECIMAL_BOUNDS
        }
        low, high = self._limits(renamed, path, limit, _integer_above, _integer_below)
        first, last = math.ceil(low), math.floor(high)
        if first > last:
            raise _unsatisfiable("formatMinimum", path, f"no whole second from {low} to {high}")
        signs = [integer_range(max(0, first), last)] if last >= 0 else []
        below = [integer_range(max(1, -last), -first)] if first < 0 else []
        regex = "|".join([*(f"PT{r}S" for r in signs), *(f"-PT{r}S" for r in below)])
        return Formatted((f"(?:{regex})",), max(len(str(first)), len(str(last))) + 4, fixed=False)

    def _text(self, schema: Keywords, path: str, patterns: Pattern) -> Shape:
        shortest, given = schema.get("minLength", 0), schema.get("maxLength")
        self._note_given(schema, path, "minLength", "maxLength")
        usual = max(self._bounds.lengths.get(path, self._bounds.max_length), 2 * shortest)
        if given is not None and shortest > given:
            raise _unsatisfiable("minLength", path, f"{shortest} is above maxLength {given}")
        longer = (usual, *(length for length in _LONGER if length > usual))
        if given is not None:
            longer = (*(n for n in longer if n < given), given) if self._bounds.over else (given,)
        for longest in longer:
            shape = _text_of(shortest, longest, schema, patterns)
            if shape is not None:
                break
        else:
            keyword = "pattern" if "pattern" in schema else "not"
            why = f"no string of {shortest} to {longest} characters has it"
            raise _unsatisfiable(keyword, path, why)
        if longest != given:
            self._note(path, "maxLength", longest, "bound")
        return shape

    def _moment(self, kind: str, schema: Keywords, path: str) -> Shape:
        low, high = moment_range(kind, schema, self._bounds)
        self._note_given(schema, path, *FORMAT_BOUNDS)
        first, last = (write_moment(kind, moment, schema) for moment in (low, high))
        if not {"formatMinimum", "formatExclusiveMinimum"} & schema.keys():
            self._note(path, "formatMinimum", first, "bound")
        if not {"formatMaximum", "formatExclusiveMaximum"} & schema.keys():
            self._note(path, "formatMaximum", last, "bound")
        if low > high:
            raise _unsatisfiable("formatMinimum", path, f"{first} is after {last}")
        layout = {"date": DATE, "time": TIME, "date-time": f"(?:{DATE})T{TIME}"}[kind]
        if kind != "date" and not schema.keys() & {"timezone", *FORMAT_BOUNDS}:
            years = "" if kind == "time" else f"{lexical_range(first[:4], last[:4])}.*"
            regexes = (f"(?:{layout}){_FRACTION}{_ZONE}", *([years] if years else ()))
            return Formatted(regexes, len(last) + len(".123456+00:00") - 1)
        zone = "Z" if last.endswith("Z") else ""
        return Formatted((f"(?:{layout}){zone}", lexical_range(first, last)), len(last))

    # Containers

    def _array(self, part: Part, path: str, depth: _Depth) -> Shape | None:
        keywords = part.keywords
        ahead = max((len(rule.first) for rule in part.items), default=0)
        others = tuple(rule.others for rule in part.items)
        closed = any(schema is False for schema in others)
        if ahead and not closed and all(schema is True for schema in others):
            closed = True
            self._note(path, "items", False, "bound")
        fewest, most = keywords.get("minItems", 0), keywords.get("maxItems")
        if most is None:
            most = ahead if closed else max(self._bounds.max_items, fewest, ahead)
            if not closed:
                self._note(path, "maxItems", most, "bound")
        elif self._bounds.over and most > (limit := max(self._bounds.max_items, fewest, ahead)):
            most = limit
            self._note(path, "maxItems", most, "bound")
        if closed:
            most = min(most, ahead)
        self._note_given(keywords, path, "minItems", "maxItems")
        if fewest > most:
            raise _unsatisfiable("minItems", path, f"{fewest} is above the {most} items allowed")
        heads: list[Shape] = []
        for index in range(min(ahead, most)):
            head = self.shape(_item(part, index), f"{path}[{index}]", depth)
            if head is None:
                most = index
                break
            heads.append(head)
        items = self.shape(others, f"{path}[*]", depth) if most > len(heads) else None
        if keywords.get("uniqueItems"):
            self._note(path, "uniqueItems", True, "check")
            if isinstance(items, Choice) and not heads:
                most = min(most, len(items.values))
        reach = most if items is not None else min(most, len(heads))
        if fewest > reach:
            return None
        array = Array(items, fewest, reach, tuple(heads))
        return self._containing(array, part, path, depth) if part.contains else array

    def _containing(self, array: Array, part: Part, path: str, depth: _Depth) -> Shape | None:
        """A list for each place at which the wanted item may stand."""
        for _ in part.contains[1:]:
            self._note(path, "contains", True, "check")
        self._note(path, "contains", True)
        places: list[Shape] = []
        for index in range(array.maximum):
            wanted = self.shape((part.contains[0], *_item(part, index)), f"{path}[{index}]", depth)
            heads = list(array.prefix[:index])
            missing = index - len(heads)
            if wanted is None or (missing and array.items is None):
                continue
            heads += [array.items] * missing if array.items is not None else []
            rest = array.prefix[index + 1 :]
            fewest = max(array.minimum, index + 1)
            places.append(Array(array.items, fewest, array.maximum, (*heads, wanted, *rest)))
        if not places:
            raise _unsatisfiable("contains", path, "no item can be what must be there")
        return places[0] if len(places) == 1 else Union(tuple(places))

    def _object(self, part: Part, path: str, depth: _Depth) -> Shape | None:
        fewest = part.keywords.get("minProperties", 0)
        most = part.keywords.get("maxProperties")
        self._note_given(part.keywords, path, "minProperties", "maxProperties")
        listed = dict.fromkeys(name for rule in part.fields for name in rule.properties)
        names = [*listed, *(name for name in part.required if name not in listed)]
        required = frozenset(part.required)
        fields = self._fields(part, names, path, depth)
        if fields is None:
            return None
        if required:
            self._note(path, "required", list(part.required))
        if most is not None and most < len(required):
            raise _unsatisfiable("maxProperties", path, f"{len(required)} are required")
        extra = self._extra(part, names, path, depth)
        if not fields and len(extra) == 1:
            return self._mapping(*extra[0], fewest, most, path)
        free = self._bounds.max_items if extra else 0
        reach = len(fields) + free
        if extra:
            self._note(path, "maxProperties", reach, "bound")
        if fewest > reach:
            raise _unsatisfiable("minProperties", path, f"{fewest} is above {reach}")
        if extra and fewest > len(required):
            self._note(path, "minProperties", fewest, "check")  # keys may repeat
        optional = frozenset(name for name, _ in fields) - required
        limit = reach if most is None else min(most, reach)
        return Record(tuple(fields), optional, tuple(extra), free, fewest, limit)

    def _fields(
        self, part: Part, names: Sequence[str], path: str, depth: _Depth
    ) -> list[tuple[str, Shape]] | None:
        """The named properties that can be; None if one that must be there cannot."""
        fields: list[tuple[str, Shape]] = []
        for name in names:
            schemas = _property(part, name)
            forbidden = name in part.forbidden or any(schema is False for schema in schemas)
            shape = None
            if not forbidden and self._may_be_key(name, part):
                shape = self.shape(schemas, join_path(path, name), depth)
            elif name in part.required:
                raise _unsatisfiable("required", path, f"'{name}' is forbidden")
            if shape is not None:
                fields.append((name, shape))
            elif name in part.required:
                return None
            elif not forbidden:
                self._note(join_path(path, name), "properties", False, "bound")
        return fields

    def _may_be_key(self, name: str, part: Part) -> bool:
        names = part.keywords.get("propertyNames", ())
        return not names or all(check.is_valid(name) for check in self._validators(names))

    def _mapping(
        self, keys: Shape, values: Shape, fewest: int, most: int | None, path: str
    ) -> Shape:
        if most is None:
            most = max(self._bounds.max_items, fewest)
            self._note(path, "maxProperties", most, "bound")
        if fewest > most:
            raise _unsatisfiable("minProperties", path, f"{fewest} is above maxProperties {most}")
        if fewest > 1:
            self._note(path, "minProperties", fewest, "check")  # keys may repeat
        return Record(()) if most == 0 else Mapping(keys, values, fewest, most)

    def _extra(
        self, part: Part, names: Sequence[str], path: str, depth: _Depth
    ) -> list[tuple[Shape, Shape]]:
        """Kinds of keys that have no name in the schema, each with its values."""
        patterns = list(dict.fromkeys(p for rule in part.fields for p in rule.patterns))
        others = [rule.others for rule in part.fields]
        silent = all(schema is True or schema == {} for schema in others)
        if silent and (names or patterns):
            self._note(path, "additionalProperties", False, "bound")
        if part.keywords.get("maxProperties") == 0:
            return []
        found = []
        for chosen in _subsets(patterns):
            if not chosen and ((silent and (names or patterns)) or any(s is False for s in others)):
                continue
            keys = self._keys(part, chosen, patterns, names, path)
            values = tuple(schema for rule in part.fields for schema in _values(rule, chosen))
            value = self.shape(values, f"{path}.*", depth) if keys is not None else None
            if keys is not None and value is not None:
                found.append((keys, value))
        if len(patterns) > _MOST_PATTERNS:
            self._note(path, "patternProperties", patterns, "check")
        return found

    def _keys(
        self,
        part: Part,
        chosen: Sequence[str],
        patterns: Sequence[str],
        names: Sequence[str],
        path: str,
    ) -> Shape | None:
        """Keys that match the chosen patterns, and neither the others nor a name."""
        schemas: list[Schema] = [*part.keywords.get("propertyNames", ()), {"type": "string"}]
        schemas += [{"pattern": pattern} for pattern in chosen]
        if len(patterns) <= _MOST_PATTERNS:
            schemas += [{"not": {"pattern": p}} for p in patterns if p not in chosen]
        taken = [*names, *part.forbidden]
        if taken:
            schemas.append({"not": {"enum": taken}})
        return self.shape(tuple(schemas), f"{path}.*~", frozenset())

    # The certificate

    def _note(self, path: str, keyword: str, value: Any, enforcer: Enforcer = "grammar") -> None:
        key = (path, keyword, enforcer, repr(value))
        if key not in self._noted:
            self._noted.add(key)
            self.constraints.append(Constraint(path, keyword, value, enforcer))

    def _note_given(self, keywords: Keywords, path: str, *names: str) -> None:
        for name in names:
            if name in keywords:
                value = keywords[name]
                self._note(path, name, _plain(value) if isinstance(value, Decimal) else value)

    def _note_annotations(self, schema: Schema, path: str) -> None:
        if isinstance(schema, AnyMapping):
            for keyword in schema.keys() - _KNOWN:
                self.annotations.append((path, keyword))


class _NoValue(SchemaError):  # noqa: N818 it is seen as a SchemaError
    """A schema allows no value; that matters only where one is needed."""


_DECIMAL_BOUNDS = {name: name[6].lower() + name[7:] for name in FORMAT_BOUNDS}  # less "format"


def _item(part: Part, index: int) -> Schemas:
    return tuple(r.first[index] if index < len(r.first) else r.others for r in part.items)


def _property(part: Part, name: str) -> Schemas:
    """All that is said of one property."""
    found: list[Schema] = []
    for rule in part.fields:
        matching = [s for pattern, s in rule.patterns.items() if _found(pattern, name)]
        matching += [rule.properties[name]] if name in rule.properties else []
        found += matching or [rule.others]
    return tuple(found)


def _values(rule: Fields, chosen: Sequence[str]) -> list[Schema]:
    return [rule.patterns[p] for p in chosen if p in rule.patterns] or [rule.others]


def _found(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


def _subsets(patterns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Which patterns a key may match at once; where they are many, one at most."""
    most = len(patterns) if len(patterns) <= _MOST_PATTERNS else 1
    for size in range(most + 1):
        yield from combinations(patterns, size)


def _text_of(shortest: int, longest: int, keywords: Keywords, patterns: Pattern) -> Text | None:
    """A string of these lengths and patterns, None if there is none."""
    if not patterns.within and not patterns.never:
        return Text(shortest, longest)
    asked = tuple(keywords.get("pattern", ()))
    shape = Text(shortest, longest, asked)
    only_patterns = not (keywords.keys() & {"notAmong", "notPattern"})
    if only_patterns and not patterns.never and _writable(shape):
        return shape
    shape = Text(shortest, longest, (), patterns.within, patterns.never)
    if "notPattern" not in keywords and not asked and longest >= _ENOUGH:
        return shape  # some names less leave others
    return shape if has_text(write_grammar(shape)) else None


@lru_cache(maxsize=4096)
def _writable(shape: Text) -> bool:
    return not refusal(write_grammar(shape))


def _literal(text: str) -> str:
    return re.sub(r"[^\w ]", lambda match: f"\\x{{{ord(match[0]):x}}}", text)


def _common_multiple(steps: Sequence[Decimal]) -> Decimal:
    places = max(0, *(-int(step.normalize().as_tuple().exponent) for step in steps))
    return Decimal(math.lcm(*(int(step.scaleb(places)) for step in steps))).scaleb(-places)


def _exact(value: Any) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(str(value))


def _plain(value: Decimal) -> int | float:
    return int(value) if value == int(value) else float(value)


def _steps(low: Decimal, high: Decimal, places: int) -> int:
    first, last = grid(low, high, places)
    return last - first + 1


def _integer_above(value: Decimal) -> Decimal:
    return Decimal(math.floor(value) + 1)


def _integer_below(value: Decimal) -> Decimal:
    return Decimal(math.ceil(value) - 1)


def _float_above(value: Decimal) -> Decimal:
    return Decimal(repr(math.nextafter(float(value), math.inf)))


def _float_below(value: Decimal) -> Decimal:
    return Decimal(repr(math.nextafter(float(value), -math.inf)))


def _refusal(keyword: str, path: str, detail: str = "") -> SchemaError:
    what = f"keyword '{keyword}' {detail}".rstrip()
    return SchemaError(
        f"{path}: {what} cannot be honoured.", hint="Remove it, or say it in another way."
    )


def _unsatisfiable(keyword: str, path: str, why: str) -> SchemaError:
    return _NoValue(f"{path}: '{keyword}' leaves no value: {why}.", hint="Loosen the bounds.")
