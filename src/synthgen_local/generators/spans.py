"""Fields that a text is to mention: JSON values as deep as they come, and their leaves.

Knows JSON and lines of text, not prompts or models. Fields may be somebody's patients: no
error quotes a value.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from ..data.frames import without_missing
from ..engine.constraints.text_rules import fits_a_value, places
from ..errors import PromptError
from ..schema.certificate import join_path
from ..schema.grammar.json_text import write_value

_KEY = re.compile(r"""\.\w+|\[(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\]""")
_TYPE_ALONE = ("Unable to serialize unknown type", "Circular reference")


@dataclass(frozen=True)
class Leaf:
    """A value at its path, as it is written in a text.

    Example: `Leaf("$.Film[2]", "Dunkirk")`
    """

    path: str
    text: str


@dataclass(frozen=True)
class Span:
    """Where a value of the fields stands in a text: `text[start:end] == value`.

    Example: `Span("$.Film[2]", "Dunkirk", 10, 17)`
    """

    path: str
    value: str
    start: int
    end: int


def json_fields(fields: Any) -> Any:
    """Return fields as JSON values; instances, dates and the like become what JSON has for them.

    A value of a dict that is NaN, NaT or NA is missing: it becomes null. Raises PromptError for
    what JSON cannot say.

    Example: `json_fields({"born": date(1956, 7, 9)}) == {"born": "1956-07-09"}`
    """
    try:
        return to_jsonable_python(without_missing(fields), by_alias=True)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        said = str(error).partition("\n")[0]
        reason = said if said.startswith(_TYPE_ALONE) else type(error).__name__
        raise PromptError(
            f"The fields are not JSON: {reason}", hint="Use lists, dicts, text and numbers."
        ) from None


def shown(path: str) -> str:
    """Return a path for an error: keys below the first may be values, and are not shown.

    Example: `shown("$.scores.Ada[0]") == "$.scores.*[0]"`
    """
    first = _KEY.match(path, 1)
    end = first.end() if first else 1
    return path[:end] + _KEY.sub(".*", path[end:])


def leaves(fields: Any) -> list[Leaf]:
    """Return the values that a text must mention, in order, each with its path.

    `fields` are JSON values. Numbers and booleans are written as JSON writes them; null and
    empty strings are nothing to mention. Raises PromptError if there is no value at all,
    or one that no line of text can hold.

    Example: `leaves({"actor": "Tom Hanks"}) == [Leaf("$.actor", "Tom Hanks")]`
    """
    found = list(_leaves(fields, "$"))
    if not found:
        raise PromptError("The fields hold no value.", hint="Give at least one.")
    for leaf in found:
        misfit = next((c for c in leaf.text if not fits_a_value(c)), None)
        if misfit is not None:
            unnamed = "a control character" if ord(misfit) < 0xD800 else "half of a character"
            name = unicodedata.name(misfit, unnamed).lower()
            raise PromptError(
                f"The value at {shown(leaf.path)} cannot stand in a line of text: "
                f"it has U+{ord(misfit):04X}, {name}.",
                hint="Take line breaks, tabs and the like out of it.",
            )
    return found


def spans(found: Sequence[Leaf], text: str) -> list[Span]:
    """Return every mention of the leaves in a text: leaf by leaf, each leaf's in the text's order.

    A mention is the value word for word, as a word of its own, within a mention of a longer value
    as well. Leaves of equal values take turns in the text's order, and share what there is if
    there are fewer mentions than leaves.

    Example: `len(spans([Leaf("$[0]", "blue")], "The blue, blue sky.")) == 2`
    """
    equal: dict[str, list[int]] = {}
    for index, leaf in enumerate(found):
        equal.setdefault(leaf.text, []).append(index)
    mentions: dict[int, list[tuple[int, int]]] = {}
    for value, members in equal.items():
        where = places(value, text)
        for turn in range(max(len(where), len(members)) if where else 0):
            member, place = members[turn % len(members)], where[turn % len(where)]
            mentions.setdefault(member, []).append(place)
    return [
        Span(leaf.path, leaf.text, *place)
        for index, leaf in enumerate(found)
        for place in mentions.get(index, [])
    ]


def _leaves(value: Any, path: str) -> Iterator[Leaf]:
    match value:
        case dict():
            for key, item in value.items():
                yield from _leaves(item, join_path(path, str(key)))
        case list():
            for index, item in enumerate(value):
                yield from _leaves(item, f"{path}[{index}]")
        case float() if not math.isfinite(value):
            raise PromptError(
                f"The value at {shown(path)} is not a number of JSON.", hint="Correct it."
            )
        case None | "":
            return
        case str():
            yield Leaf(path, value)
        case _:
            yield Leaf(path, write_value(value))
