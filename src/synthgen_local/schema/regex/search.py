r"""Search for a pattern in a text, in the dialect in which the pattern was written.

Rust's regex takes linear time. ECMA-262's and Python's expressions run on an engine whose
backtracking is bounded, so that no pattern can make a check run for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pydantic_core import SchemaError as InvalidPattern
from pydantic_core import SchemaValidator, core_schema

from .parser import Atom, Edge, Group, Inexpressible, Item, Options, read_options
from .translation import Regex

_MOST_STEPS = 200_000  # back, in one text
_MOST_BYTES = 1 << 28  # of a compiled expression


class SearchError(ValueError):
    """A search takes too many steps."""


@lru_cache(maxsize=1024)
def expression(regex: Regex) -> Callable[[str], bool]:
    r"""Return a function that returns whether a pattern is found in a text.

    Raises ValueError for what is no expression of this dialect. The function raises SearchError
    for a text in which it would have to look for too long.

    Example: `expression(Regex(r"^\p{Lu}"))("Ä")`
    """
    if regex.dialect == "rust":
        return _linear(regex.text)
    return _bounded(ecma_pattern(regex))


def ecma_pattern(regex: Regex) -> str:
    r"""Return a pattern of ECMA's or Python's dialect in the syntax of ECMA-262, with the flag `u`.

    Example: `ecma_pattern(Regex(r"^a{,2}\Z", "python")) == "^a{0,2}$"`
    """
    options, flags = read_options(regex.text, regex.dialect)
    kept = "".join(flag for flag in flags if flag in "im")
    return f"(?{kept}:{_options(options)})" if kept else _options(options)


def _options(options: Options) -> str:
    return "|".join("".join(map(_item, sequence)) for sequence in options)


def _item(item: Item) -> str:
    match item.node:
        case Atom():
            text = item.node.ecma
        case Edge(start):
            text = "^" if start else "$"
        case Inexpressible():
            text = item.node.ecma
        case Group():
            text = _group(item.node)
    return text + item.quantifier


def _group(group: Group) -> str:
    kept = "".join(flag for flag in group.flags if flag in "im-").removesuffix("-")
    sign = f"?{group.look}" if group.look else "" if group.counted else f"?{kept}:"
    return f"({sign}{_options(group.options)})"


def _linear(pattern: str) -> Callable[[str], bool]:
    try:
        check = SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except InvalidPattern:
        raise ValueError("it is none of Rust's dialect, or too large") from None
    return check.isinstance_python


def _bounded(pattern: str) -> Callable[[str], bool]:
    import jsonschema_rs

    options = jsonschema_rs.FancyRegexOptions(
        backtrack_limit=_MOST_STEPS, size_limit=_MOST_BYTES, dfa_size_limit=_MOST_BYTES
    )
    try:
        check = jsonschema_rs.validator_for({"pattern": pattern}, pattern_options=options)
    except ValueError:
        raise ValueError("it cannot be searched for") from None

    def found_in(text: str) -> bool:
        if check.is_valid(text):
            return True
        for error in check.iter_errors(text):
            _raise_given_up(error)
        return False

    return found_in


def _raise_given_up(error: Any) -> None:
    import jsonschema_rs

    kinds = jsonschema_rs.ValidationErrorKind
    if isinstance(error.kind, kinds.BacktrackLimitExceeded | kinds.RegexEngineFailure):
        raise SearchError("its pattern takes too long to search for")
