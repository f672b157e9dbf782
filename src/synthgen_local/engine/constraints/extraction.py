"""Extraction of JSON records from a passage, read from left to right.

The grammar says which substrings of the passage a string may be; this module changes logits where
the grammar allows several. Within a list, text further on in the passage is preferred to text
before the last item, nothing is taken twice, items of similar probability come in the passage's
order, and items are alike: where all so far are names, the next is a name, or the list ends when
no name is left. These are preferences; validity is the grammar's.

A name is a word with a capital that does not merely begin a sentence. Knows JSON and text; knows
no schemas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..backends.protocol import Logits
from ..bitmask import Mask, flags
from .grammar import GrammarConstraint
from .json_cursor import JsonCursor
from .text_rules import ends_sentence

# Penalties on logits, in nats.
_BACKWARDS = 12.0  # of a token after which only text before the last item is left
_CROSSING = 4.0  # of a token that continues a string into another sentence
_UNLIKE = 6.0  # of an item that is not a name among names
_PAST_STOP = 2.0  # of a token that continues a string past a comma or a stop
_NEAR = 4.5  # items within this of the likeliest are taken in the passage's order
_AND = "and|or|und|oder|et|ou|y|o|e"  # between two names, not in one
_CAPITAL = r"(?!I\b)[A-ZÀ-ÖØ-ÞĆČĎĘŁŃŐŚŞŠŤŮŹŻŽΑ-ΩЁА-Я]"
_WORD = rf"{_CAPITAL}[\w'’-]*"  # noqa: RUF001 an apostrophe as people write it
_NAME = re.compile(rf"(?<!\w){_WORD}(?: (?:(?!(?:{_AND})\b)[a-z]{{1,3}} ){{0,2}}{_WORD})*")
"""Words with capitals, and short ones between them: "Lilies of the Field"."""
_LONG = 6  # letters
_STOPS = (".", "!", "?")
_SENTENCE_START = re.compile(r"(?:^|[.!?…]['\")\]]* )$")  # where a capital does not mark a name


class ExtractionConstraint:
    """A sequence of a grammar that is extracted from a passage. A `Constraint`.

    Example: `ExtractionConstraint(grammar.start(), "Tom Hanks played Forrest Gump.")`
    """

    validate_token = None

    def __init__(self, constraint: GrammarConstraint, passage: str) -> None:
        self._constraint = constraint
        self._passage = _escaped(passage)
        self._name_starts = _name_starts(self._passage)
        self._cursor = JsonCursor()
        self._cursor.read(constraint.text().encode())
        self._mask: Mask = np.empty(0, dtype=np.int32)
        self.matcher = constraint.matcher
        self.needs_full_logits = constraint.needs_full_logits

    @property
    def is_terminated(self) -> bool:
        """True if the grammar allows no further token."""
        return self._constraint.is_terminated

    def fill_bitmask(self, mask: Mask) -> None:
        """Keep the grammar's mask."""
        self._constraint.fill_bitmask(mask)
        self._mask = mask

    def process_logits(self, logits: Logits) -> Logits:
        """Lower the logits of tokens that repeat an item, go back, or differ from the items."""
        cursor = self._cursor
        if not cursor.in_array and not _partial_string(cursor):
            return logits
        processed = logits.copy()
        state = self._list_state()
        incomplete = _incomplete_character(cursor)
        candidates: list[tuple[int, int]] = []  # (place in the passage, token) of new names
        for token in map(int, np.flatnonzero(flags(self._mask, len(logits)))):
            text = (incomplete + self._constraint.token_bytes(token)).decode(errors="ignore")
            string = _string_after(cursor, text)
            if string is not None:
                processed[token] -= np.float32(self._penalty(state, string))
                if state.opens_item and (place := state.name_place(string)) is not None:
                    candidates.append((place, token))
            if state.ends and _continues_list(cursor, text):
                processed[token] -= np.float32(_BACKWARDS)
        _prefer_first(logits, processed, candidates)
        return processed

    def _penalty(self, state: _ListState, string: str) -> float:
        """Return the penalty of a token after which the current string is `string`."""
        if state.in_list and string not in state.ahead:
            return _BACKWARDS
        if state.string:
            leaves_name = state.in_list and state.in_name and not state.at_name(string)
            return _continuation_penalty(string, state.string) + _UNLIKE * leaves_name
        if state.opens_item and state.name_place(string) is None and state.names:
            unlike = state.all_names or not string[0].islower()
            return _UNLIKE if unlike else _UNLIKE / 2
        return 0.0

    def _list_state(self) -> _ListState:
        cursor = self._cursor
        items, string = _items(cursor), _partial_string(cursor)
        ahead = self._ahead(items, [*_siblings(cursor), *items])
        all_names = bool(items) and all(map(self._is_name, items))
        state = _ListState(cursor.in_array, string, ahead, _name_starts(ahead), all_names)
        state.in_name = bool(string) and state.at_name(string)
        state.ends = all_names and not self._names_remain()
        return state

    def _names_remain(self) -> bool:
        """Return whether the passage has names that are neither items nor being written."""
        items = [*_items(self._cursor), _partial_string(self._cursor)]
        return bool(_name_starts(self._ahead(items, [*_siblings(self._cursor), *items])))

    def _is_name(self, item: str) -> bool:
        return any(self._passage.startswith(item, place) for place in self._name_starts)

    def accept_token(self, token: int, stream: np.random.Generator) -> Sequence[int]:
        """Accept a token and the grammar's fast-forward tokens after it."""
        forced = self._constraint.accept_token(token, stream)
        self._cursor.read(b"".join(map(self._constraint.token_bytes, (token, *forced))))
        return forced

    def text(self) -> str:
        """Return the text so far."""
        return self._constraint.text()

    def close(self) -> None:
        """Return the matcher to the thread's pool."""
        self._constraint.close()

    def _ahead(self, items: Sequence[str], taken: Sequence[str]) -> str:
        """Return the passage after the list's last item, without the strings of the record."""
        start = 0
        for item in items:
            place = self._passage.find(item, start)
            start = place + len(item) if place >= 0 else start
        ahead = self._passage[start:]
        for item in filter(None, taken):
            ahead = ahead.replace(item, "\0")
        return ahead


@dataclass
class _ListState:
    """The innermost list before a token: what is written and what of the passage is ahead."""

    in_list: bool
    string: str  # complete characters of the string that is being written
    ahead: str
    names: set[int]  # where names begin in `ahead`
    all_names: bool  # all items are names
    in_name: bool = False  # the string is the beginning of a name
    ends: bool = False  # no name is left: the list should end

    @property
    def opens_item(self) -> bool:
        """True if a string that begins now is a new item."""
        return self.in_list and not self.string

    def at_name(self, string: str) -> bool:
        """Return whether a name ahead begins with a string."""
        return any(_name_begins(string, self.ahead, place) for place in self.names)

    def name_place(self, string: str) -> int | None:
        """Return the first place ahead where a name begins with a string."""
        places = (place for place in self.names if _name_begins(string, self.ahead, place))
        return min(places, default=None)


def _prefer_first(logits: Logits, processed: Logits, candidates: list[tuple[int, int]]) -> None:
    """Raise the logit of the first name in the passage among those of similar probability."""
    best = max((logits[token] for _, token in candidates), default=0.0)
    near = [(place, token) for place, token in candidates if logits[token] > best - _NEAR]
    for place, token in near:
        if place == min(near)[0]:
            processed[token] += np.float32(_NEAR)


def _siblings(cursor: JsonCursor) -> list[str]:
    """Return strings of the record around the innermost list, keys among them."""
    containers = cursor.containers
    return containers[-2].strings if len(containers) > 1 and not containers[-2].is_array else []


def _items(cursor: JsonCursor) -> list[str]:
    """Return the complete strings of the innermost list; none outside of lists."""
    return cursor.containers[-1].strings if cursor.in_array else []


def _partial_string(cursor: JsonCursor) -> str:
    """Return the complete characters of the string that the cursor is in."""
    return (cursor.string or b"").decode(errors="ignore")


def _incomplete_character(cursor: JsonCursor) -> bytes:
    """Return the bytes of a character that is not complete; only strings have such."""
    return (cursor.string or b"")[len(_partial_string(cursor).encode()) :]


def _string_after(cursor: JsonCursor, text: str) -> str | None:
    """Return the string that the cursor would be in or just past after a text; None for none."""
    in_string, string, escaped = cursor.string is not None, _partial_string(cursor), cursor.escaped
    for character in text:
        if not in_string:
            if character == '"':
                in_string, string = True, ""
            continue
        if character == '"' and not escaped:
            return string
        string += character
        escaped = character == "\\" and not escaped
    return string if in_string and string else None


def _continues_list(cursor: JsonCursor, text: str) -> bool | None:
    """Return whether a text continues a list after an item (or ends it); None for neither."""
    if not cursor.in_array:
        return None
    if cursor.string is not None:
        closed = re.match(r'(?:[^"\\]|\\.)*"', text)
        if closed is None or cursor.escaped:
            return None
        text = text[closed.end() :]
    return {",": True, "]": False}.get(text[:1])


def _name_starts(text: str) -> set[int]:
    """Return where names begin.

    A capitalised word that begins a sentence is a name only if the text does not have it in small
    letters, and if it is long or the whole sentence.
    """
    found = set[int]()
    for match in _NAME.finditer(text):
        first, _, rest = match[0].partition(" ")
        opens = _SENTENCE_START.search(text, max(0, match.start() - 4), match.start()) is not None
        small = re.search(rf"(?<!\w){re.escape(first.lower())}(?!\w)", text) is not None
        alone = text[match.end() : match.end() + 1] in _STOPS
        if not opens or rest or (not small and (len(first) >= _LONG or alone)):
            found.add(match.start())
        if opens and rest and small:
            found.add(match.end() - len(rest))
    return found


def _name_begins(string: str, text: str, place: int) -> bool:
    """Return whether the name at `place` begins with a string; the pronoun "I" begins none."""
    return string != "I" and text.startswith(string, place)


def _continuation_penalty(text: str, string: str) -> float:
    """Return the penalty of continuing a string to `text`."""
    if len(text) == len(string):
        return 0.0
    if ends_sentence(string):
        return _CROSSING
    return _PAST_STOP if text[len(string)] in ",;.!?" else 0.0


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
