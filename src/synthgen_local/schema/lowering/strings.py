"""Strings made finite: texts, patterns, formats, dates.

Knows keywords that have been merged (`pattern` and `format` are lists), not where they come
from, and only the grammar's answer to whether a text is left.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from ...errors import SchemaError
from ..certificate import Notes
from ..errors import refused, unsatisfiable
from ..grammar.lark import has_text, known_text, refusal, write_grammar
from ..ir import AnyOf, Bounds, Node, RegexString, String
from ..json_schema.keywords import SCHEMES, TIMEZONE, UUID_VERSION
from ..regex.checksums import CHECKSUMS
from ..regex.formats import FORMATS, RESERVED, url_format
from ..regex.ranges import DATE, TIME, lexical_range
from ..regex.search import expression
from ..regex.translation import Pattern, Regex, plain_pattern, read_pattern
from .datetimes import FORMAT_BOUNDS, moment_range, write_moment
from .numbers import Numbers

_UUID = "[0-9a-f]{{8}}-[0-9a-f]{{4}}-{version}[0-9a-f]{{3}}-[89ab][0-9a-f]{{3}}-[0-9a-f]{{12}}"
_UUIDS = {f"uuid{version}": version for version in (1, 3, 4, 5, 6, 7, 8)} | {"uuid": None}
_USUAL_UUID = 4
_OUTSIDE = {"file-path", "directory-path", "import-string", "socket-path", "new-path"}
_MOMENTS = {"date", "time", "date-time"}
_FRACTION = r"(?:\.[0-9]{1,6})?"
_ZONE = "(?:Z|[+-](?:0[0-9]|1[0-3]):[0-5][0-9])"
_ENOUGH = 8  # characters, of which there are more strings than any schema lists
_LONGER = (64, 200, 1000)  # characters that a pattern may need, where they are not limited

_DIALECTS = {"ecma": "ECMA-262's", "python": "Python's", "rust": "Rust's"}

Keywords: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Strings:
    """Makes nodes of strings; each constraint is noted with who enforces it.

    Example: `Strings(Bounds(), Notes()).string({"pattern": ("^[a-z]$",)}, "$")`
    """

    bounds: Bounds
    notes: Notes

    def string(self, keywords: Keywords, path: str) -> Node:
        """Return the strings that keep to all keywords.

        Raises SchemaError, naming keyword and path, where none is left.
        """
        patterns = self._patterns(keywords, path)
        nodes = []
        for kind in keywords.get("format", ()):
            node = self._formatted(kind, keywords, path)
            if node is None:
                self.notes.annotate(path, "format")
                continue
            self.notes.add(path, "format", kind)
            nodes.append(node)
        if not nodes:
            return self._text(keywords, path, patterns)
        formatted = [node for node in nodes if isinstance(node, RegexString)]
        if len(formatted) == len(nodes):
            return self._narrowed(formatted, keywords, path, patterns)
        if len(nodes) > 1:
            raise refused("format", path, "of several kinds")
        return nodes[0]

    def _narrowed(
        self, nodes: Sequence[RegexString], keywords: Keywords, path: str, patterns: Pattern
    ) -> RegexString:
        """Formats with the lengths and patterns that are asked for besides."""
        longest = min(node.length for node in nodes)
        shortest, most = keywords.get("minLength", 0), keywords.get("maxLength", longest)
        self.notes.given(keywords, path, "minLength", "maxLength")
        alone = len(nodes) == 1 and not (patterns.within or patterns.never)
        if alone and nodes[0].fixed and shortest <= longest <= most:
            return nodes[0]
        if shortest > most:
            raise unsatisfiable("minLength", path, f"{shortest} is above maxLength {most}")
        regexes = [regex for node in nodes for regex in node.regexes]
        never = [regex for node in nodes for regex in node.must_not_match]
        length = f"(?s:.){{{shortest},{min(most, longest)}}}"
        given = patterns.within or patterns.never
        fewer = [(RESERVED,), ()] if never and patterns.within else []
        unknown = False
        for left_out in (never, *fewer):  # a pattern may ask for a domain that is reserved
            node = RegexString(
                (*regexes, *patterns.within, length),
                min(most, longest),
                (*left_out, *patterns.never),
            )
            known = known_text(write_grammar(node))
            if known or (known is None and not patterns.within):
                return node
            unknown |= known is None
        if unknown:
            raise refused("pattern", path, "beside this format, as it takes too long to combine,")
        keyword = "pattern" if given else "maxLength"
        raise unsatisfiable(keyword, path, "no string of this format and length has it")

    def _patterns(self, keywords: Keywords, path: str) -> Pattern:
        """Patterns as expressions of the whole string, noted by who enforces them."""
        within: list[str] = []
        never: list[str] = []
        for text in keywords.get("pattern", ()):
            regex = _regex(text)
            read = _read(regex, path)
            within += read.within
            never += read.never
            self.notes.add(path, "pattern", regex.text, "grammar" if read.exact else "check")
        for text in keywords.get("notPattern", ()):
            regex = _regex(text)
            read = _read(regex, path)
            exact = read.exact and len(read.within) == 1 and not read.never
            never += read.within if exact else ()
            self.notes.add(path, "not", regex.text, "grammar" if exact else "check")
        for texts in keywords.get("notAmong", ()):
            never += map(_literal, texts)
            self.notes.add(path, "not", list(texts))
        return Pattern(tuple(within), tuple(never))

    def _formatted(self, kind: str, keywords: Keywords, path: str) -> Node | None:
        """The node of a format; None for a format that is only a word about the string."""
        if kind == "decimal":
            return Numbers(self.bounds, self.notes).decimal(keywords, path)
        if kind in _MOMENTS:
            return self._moment(kind, keywords, path)
        if kind in _UUIDS:
            version = _UUIDS[kind] or keywords.get(UUID_VERSION) or _USUAL_UUID
            return RegexString((_UUID.format(version=version),), 36)
        if kind in _OUTSIDE:
            raise refused("format", path, f"'{kind}', which depends on this machine,")
        if kind == "duration" and keywords.keys() & set(FORMAT_BOUNDS):
            return Numbers(self.bounds, self.notes).duration(keywords, path)
        if kind in CHECKSUMS:
            return self._checked(kind, keywords, path)
        form = FORMATS.get(kind)
        if kind == "uri" and SCHEMES in keywords:
            form = url_format(keywords[SCHEMES])
        if form is None:
            return None
        self.notes.add(path, "maxLength", form.longest, "bound")
        return RegexString((form.regex,), form.longest, form.never, fixed=False)

    def _checked(self, kind: str, keywords: Keywords, path: str) -> Node:
        """Numbers with a check digit; a length leaves out kinds, a pattern cannot be asked for."""
        for keyword in ("pattern", "notPattern", "notAmong"):
            if keyword in keywords:
                raise refused("pattern", path, f"beside the format '{kind}'")
        shortest, longest = keywords.get("minLength", 0), keywords.get("maxLength", math.inf)
        self.notes.given(keywords, path, "minLength", "maxLength")
        fitting = [d for d in CHECKSUMS[kind] if shortest <= len(d.positions) <= longest]
        if not fitting:
            raise unsatisfiable("maxLength", path, f"no {kind} has such a length")
        return fitting[0] if len(fitting) == 1 else AnyOf(tuple(fitting))

    def _text(self, keywords: Keywords, path: str, patterns: Pattern) -> Node:
        shortest, given = keywords.get("minLength", 0), keywords.get("maxLength")
        self.notes.given(keywords, path, "minLength", "maxLength")
        usual = max(self.bounds.lengths.get(path, self.bounds.max_length), 2 * shortest)
        if given is not None and shortest > given:
            raise unsatisfiable("minLength", path, f"{shortest} is above maxLength {given}")
        longer = (usual, *(length for length in _LONGER if length > usual))
        if given is not None:
            longer = (*(n for n in longer if n < given), given) if self.bounds.over else (given,)
        for longest in longer:
            node = _text_of(shortest, longest, keywords, patterns)
            if node is not None:
                break
        else:
            keyword = "pattern" if "pattern" in keywords else "not"
            why = f"no string of {shortest} to {longest} characters has it"
            raise unsatisfiable(keyword, path, why)
        if longest != given:
            self.notes.add(path, "maxLength", longest, "bound")
        return node

    def _moment(self, kind: str, keywords: Keywords, path: str) -> RegexString:
        low, high = moment_range(kind, keywords, self.bounds)
        self.notes.given(keywords, path, *FORMAT_BOUNDS)
        first, last = (write_moment(kind, moment, keywords) for moment in (low, high))
        if not {"formatMinimum", "formatExclusiveMinimum"} & keywords.keys():
            self.notes.add(path, "formatMinimum", first, "bound")
        if not {"formatMaximum", "formatExclusiveMaximum"} & keywords.keys():
            self.notes.add(path, "formatMaximum", last, "bound")
        if low > high:
            raise unsatisfiable("formatMinimum", path, f"{first} is after {last}")
        layout = {"date": DATE, "time": TIME, "date-time": f"(?:{DATE})T{TIME}"}[kind]
        if kind != "date" and not keywords.keys() & {TIMEZONE, *FORMAT_BOUNDS}:
            years = "" if kind == "time" else f"{lexical_range(first[:4], last[:4])}.*"
            regexes = (f"(?:{layout}){_FRACTION}{_ZONE}", *([years] if years else ()))
            return RegexString(regexes, len(last) + len(".123456+00:00") - 1, fixed=False)
        zone = "Z" if last.endswith("Z") else ""
        return RegexString((f"(?:{layout}){zone}", lexical_range(first, last)), len(last))


def _regex(pattern: str | Regex) -> Regex:
    """A pattern that names no dialect is JSON Schema's."""
    return Regex(pattern) if isinstance(pattern, str) else pattern


def _read(regex: Regex, path: str) -> Pattern:
    try:
        expression(regex)  # rows are held against it
        return read_pattern(regex.text, regex.dialect)
    except ValueError as error:
        raise SchemaError(
            f"{path}: keyword 'pattern' is no regular expression: {error}.",
            hint=f"Correct the expression; its dialect is {_DIALECTS[regex.dialect]}.",
        ) from None


def _text_of(shortest: int, longest: int, keywords: Keywords, patterns: Pattern) -> String | None:
    """A string of these lengths and patterns, None if there is none."""
    if not patterns.within and not patterns.never:
        return String(shortest, longest)
    asked = tuple(plain_pattern(_regex(pattern)) for pattern in keywords.get("pattern", ()))
    node = String(shortest, longest, asked)
    only_patterns = not (keywords.keys() & {"notAmong", "notPattern"})
    if only_patterns and all(asked) and not patterns.never and _writable(node):
        return node
    node = String(shortest, longest, (), patterns.within, patterns.never)
    if "notPattern" not in keywords and not asked and longest >= _ENOUGH:
        return node  # some names less leave others
    return node if has_text(write_grammar(node)) else None


@lru_cache(maxsize=4096)
def _writable(node: String) -> bool:
    return not refusal(write_grammar(node))


def _literal(text: str) -> str:
    return re.sub(r"[^\w ]", lambda match: f"\\x{{{ord(match[0]):x}}}", text)
