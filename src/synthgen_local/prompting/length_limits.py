"""How long a text shall be: from the spellings that people use to limits that are enforced.

Knows preferences and limits, not prompts or models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..engine.constraints.text_length import Length, MentionedValue, Range
from ..engine.constraints.text_rules import STOPS
from ..errors import PromptError, UsageError

Unit: TypeAlias = Literal["characters", "words", "sentences"]

_UNITS: dict[str, Unit] = {
    "char": "characters",
    "chars": "characters",
    "character": "characters",
    "characters": "characters",
    "word": "words",
    "words": "words",
    "sentence": "sentences",
    "sentences": "sentences",
}
_LEAST = {"min", "minimum", "minimal", "least"}
_MOST = {"max", "maximum", "maximal", "most"}
_FILLERS = {"length", "len", "size", "in", "of", "at", "the", "number", "count", "text"}
_LOOKS_LIKE_LENGTH = re.compile(r"len|long|short|size|char|word|sentence", re.IGNORECASE)
_ABOUT = 0.1  # a length without min or max may be missed by this share
_USUAL_WORD, _USUAL_SENTENCE = 9, 150  # characters, generously
_SHORTEST_BOUND = 300  # characters that a text may have where nobody says


@dataclass(frozen=True)
class Wish:
    """A limit that was asked for: `minimum` and `maximum` of a unit, None where not said."""

    unit: Unit
    minimum: int | None = None
    maximum: int | None = None


@dataclass(frozen=True)
class Preferences:
    """What was preferred: `wishes` are enforced, `rest` goes into the prompt.

    `unread` are keys of `rest` that look like a length and could not be read as one.
    """

    wishes: Sequence[Wish]
    rest: Mapping[str, Any]
    unread: Sequence[str]


def read_preferences(preferences: Mapping[str, Any] | None) -> Preferences:
    """Sort preferences into lengths and the rest.

    A length is a key such as `min_length`, "minimal length", `maximum_words` or `sentences`
    with a whole number, or "60 words". Raises UsageError for a negative one.

    Example: `read_preferences({"minimal length": 500}).wishes == [Wish("characters", 500)]`
    """
    wishes, rest, unread = [], {}, []
    for key, value in (preferences or {}).items():
        wish = _wish(str(key), value)
        if wish is not None:
            wishes.append(wish)
            continue
        rest[str(key)] = value
        if _LOOKS_LIKE_LENGTH.search(str(key)):
            unread.append(str(key))
    return Preferences(wishes, rest, unread)


def limits(wishes: Sequence[Wish], values: Sequence[MentionedValue]) -> Length:
    """Return the limits of a text with these values; characters are always bounded.

    Without a greatest length a text may have three times the characters of its values, half
    as many again as its least, or 300, whichever is most. Raises UsageError for limits that
    contradict each other.

    Example: `limits([Wish("characters", 500)], []).characters == Range(500, 850)`
    """
    ranges: dict[Unit, Range] = {
        unit: _range([wish for wish in wishes if wish.unit == unit], unit)
        for unit in ("characters", "words", "sentences")
    }
    characters, words, sentences = ranges.values()
    if characters.maximum is None:
        room = sum(entry.reserved for entry in values) + 1
        longest = max(
            3 * room,
            characters.minimum + characters.minimum // 2 + 100,
            _SHORTEST_BOUND,
            _USUAL_WORD * max(words.minimum, words.maximum or 0),
            _USUAL_SENTENCE * max(sentences.minimum, sentences.maximum or 0),
        )
        characters = Range(characters.minimum, longest)
    if words.maximum is not None and sentences.minimum > words.maximum:
        raise UsageError(
            f"{sentences.minimum} sentences have more than {words.maximum} words.",
            hint="Change one of the two.",
        )
    return Length(characters, words, sentences)


def check_room(length: Length, values: Sequence[tuple[str, MentionedValue]]) -> None:
    """Raise PromptError if no text within `length` holds all `values`, pairs of path and entry.

    Example: `check_room(length, [("$.actor", entry)])`
    """
    for path, entry in values:
        if entry.reserved + 1 > length.longest:
            raise PromptError(
                f"The value at {path} has {len(entry.value)} characters: "
                f"no text of at most {length.longest} holds it as a part.",
                hint="Raise the maximum length.",
            )
    distinct = list(dict.fromkeys(entry for _, entry in values))
    room = sum(entry.reserved for entry in distinct) + 1
    words = sum(entry.words for entry in distinct)
    needed = room + 2 * (length.words.minimum + length.sentences.minimum)
    if needed > length.longest:
        raise PromptError(
            f"The text needs {needed} characters for its values and its least length, "
            f"and may have {length.longest}.",
            hint="Raise the maximum length.",
        )
    if length.words.maximum is not None and length.words.maximum < words + max(
        1, length.sentences.minimum
    ):
        raise PromptError(
            f"The values have {words} words, and the text may have {length.words.maximum}.",
            hint="Raise the most words.",
        )
    if length.sentences.minimum > 0 or length.sentences.maximum is not None:
        _check_stops(values)


def _check_stops(values: Sequence[tuple[str, MentionedValue]]) -> None:
    for path, entry in values:
        if any(s in entry.value for s in STOPS) and not any(map(str.isalnum, entry.value)):
            raise PromptError(
                f"The value at {path} is a stop: sentences cannot be counted around it.",
                hint="Limit characters or words instead.",
            )


def _wish(key: str, value: Any) -> Wish | None:
    """A length that key and value say together, or None."""
    words = set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", key).lower()))
    units = {_UNITS[word] for word in words if word in _UNITS}
    least, most = bool(words & _LEAST), bool(words & _MOST)
    if words - _UNITS.keys() - _LEAST - _MOST - _FILLERS or not words:
        return None
    if words & {"word", "sentence"} and words & {"length", "len", "size"}:
        return None  # how long a word or a sentence is
    count, unit = _count(value)
    named = units | ({unit} if unit else set())
    if count is None or len(named) > 1 or (least and most):
        return None
    if not named and not words & {"length", "len", "size"}:
        return None
    if count < 0:
        raise UsageError(f"{key} is {count}.", hint="It must be 0 or more.")
    chosen: Unit = named.pop() if named else "characters"
    if least:
        return Wish(chosen, minimum=count)
    if most:
        return Wish(chosen, maximum=count)
    spread = 0 if chosen == "sentences" else int(count * _ABOUT)
    return Wish(chosen, count - spread, count + spread)


def _count(value: Any) -> tuple[int | None, Unit | None]:
    """A whole number, and the unit of text such as "60 words"."""
    if isinstance(value, bool):
        return None, None
    if isinstance(value, int):
        return value, None
    if isinstance(value, float) and value.is_integer():
        return int(value), None
    match = re.fullmatch(r"\s*(-?\d+)\s*([a-z]*)\s*", str(value).lower())
    if match is None or (match[2] and match[2] not in _UNITS):
        return None, None
    return int(match[1]), _UNITS.get(match[2])


def _range(wishes: Sequence[Wish], unit: Unit) -> Range:
    minimum = max((w.minimum for w in wishes if w.minimum is not None), default=0)
    maximum = min((w.maximum for w in wishes if w.maximum is not None), default=None)
    if maximum is not None and (minimum > maximum or maximum < 1):
        raise UsageError(
            f"A text cannot have {minimum} to {maximum} {unit}.",
            hint="The least must not exceed the most, which is 1 or more.",
        )
    return Range(minimum, maximum)
