"""JSON out of a passage, read from left to right.

A grammar says which parts of a passage a string may be; this module leans on the model where
the grammar is silent. Within a list, what stands further on is preferred to what stands behind,
nothing is taken twice, items that are about as likely come in the passage's order, and items look
alike: where all so far are names, the next is one, or the list ends when no name is left. These
are preferences: what is valid is for the grammar alone to say.

A name is a word with a capital that does not merely begin a sentence. Knows JSON and text, not
schemas.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence

import numpy as np

from ..backends.protocol import Logits
from ..bitmask import Mask, flags
from .grammar import GrammarConstraint
from .text_rules import ends_sentence

_BACKWARDS = 12.0  # what a token costs that can only go back, or on when no name is left, in nats
_CROSSING = 4.0  # and one that goes on into another sentence
_NEAR = 4.5  # items this close to the likeliest are taken in the passage's order
_UNLIKE = 6.0  # an item that is no name among names
_PAST = 2.0  # a string that goes on past a comma or a stop
_AND = "and|or|und|oder|et|ou|y|o|e"  # between two names, not in one
_CAPITAL = r"(?!I\b)[A-ZÀ-ÖØ-ÞĆČĎĘŁŃŐŚŞŠŤŮŹŻŽΑ-ΩЁА-Я]"
_WORD = rf"{_CAPITAL}[\w'’-]*"  # noqa: RUF001 an apostrophe as people write it
_NAME = re.compile(rf"(?<!\w){_WORD}(?: (?:(?!(?:{_AND})\b)[a-z]{{1,3}} ){{0,2}}{_WORD})*")
"""Words with capitals, and short ones between them: "Lilies of the Field"."""
_LONG = 6  # letters
_STOPS = (".", "!", "?")
_BEGINS = re.compile(r"(?:^|[.!?…]['\")\]]* )$")  # where a capital means nothing


class ExtractionConstraint:
    """A grammar's row that is read out of a passage. A `Constraint`.

    Example: `ExtractionConstraint(grammar.start(), "Tom Hanks played Forrest Gump.")`
    """

    validate_token = None

    def __init__(self, constraint: GrammarConstraint, passage: str) -> None:
        self._constraint = constraint
        self._passage = _escaped(passage)
        self._names = _names(self._passage)
        self._scan = _Scan()
        self._scan.read(constraint.text())
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._mask: Mask = np.empty(0, dtype=np.int32)
        self.matcher = constraint.matcher
        self.needs_full_logits = constraint.needs_full_logits

    @property
    def is_terminated(self) -> bool:
        """Whether the grammar admits nothing more."""
        return self._constraint.is_terminated

    def fill_bitmask(self, mask: Mask) -> None:
        """The grammar's mask."""
        self._constraint.fill_bitmask(mask)
        self._mask = mask

    def process_logits(self, logits: Logits) -> Logits:
        """Make tokens rare that would take what the list has, or go back."""
        scan = self._scan
        if not scan.in_list and not scan.begun:
            return logits
        steered = logits.copy()
        unfinished = self._decoder.getstate()[0]  # of a character
        ahead = self._ahead(scan.items, [*scan.siblings, *scan.items])
        names = _names(ahead)
        on_name = bool(scan.begun) and _at_name(scan.begun, ahead, names)
        named = bool(scan.items) and all(map(self._is_name, scan.items))
        ends = named and not self._names_after(scan)
        first: list[tuple[int, int]] = []
        for token in map(int, np.flatnonzero(flags(self._mask, len(logits)))):
            piece = (unfinished + self._constraint.piece(token)).decode(errors="ignore")
            begun = scan.after(piece)
            if begun is not None and scan.in_list and begun not in ahead:
                steered[token] -= np.float32(_BACKWARDS)
            elif begun is not None and scan.begun:
                strays = scan.in_list and on_name and not _at_name(begun, ahead, names)
                steered[token] -= np.float32(_cost(begun, scan.begun) + _UNLIKE * strays)
            elif begun is not None and scan.in_list and not scan.begun:
                place = min((at for at in names if _begins(begun, ahead, at)), default=None)
                if place is not None:
                    first.append((place, token))
                elif names:
                    unlike = named or not begun[0].islower()
                    steered[token] -= np.float32(_UNLIKE if unlike else _UNLIKE / 2)
            if ends and scan.goes_on(piece):
                steered[token] -= np.float32(_BACKWARDS)
        self._in_order(logits, steered, first)
        return steered

    def _in_order(self, logits: Logits, steered: Logits, first: list[tuple[int, int]]) -> None:
        """Of the names that are about as likely to be next, prefer the first in the passage."""
        best = max((logits[token] for _, token in first), default=0.0)
        near = [(place, token) for place, token in first if logits[token] > best - _NEAR]
        for place, token in near:
            if place == min(near)[0]:
                steered[token] += np.float32(_NEAR)

    def _names_after(self, scan: _Scan) -> bool:
        """Whether the passage has names that are not yet taken, nor are being written."""
        items = [*scan.items, scan.begun]
        return bool(_names(self._ahead(items, [*scan.siblings, *items])))

    def _is_name(self, item: str) -> bool:
        return any(self._passage.startswith(item, place) for place in self._names)

    def accept_token(self, token: int, stream: np.random.Generator) -> Sequence[int]:
        """Accept a token and what the grammar forces after it."""
        forced = self._constraint.accept_token(token, stream)
        written = b"".join(map(self._constraint.piece, (token, *forced)))
        self._scan.read(self._decoder.decode(written))
        return forced

    def text(self) -> str:
        """The row."""
        return self._constraint.text()

    def close(self) -> None:
        """Leave the grammar to another row."""
        self._constraint.close()

    def _ahead(self, items: Sequence[str], taken: Sequence[str]) -> str:
        """What of the passage follows the list's last item, without what the record has."""
        start = 0
        for item in items:
            place = self._passage.find(item, start)
            start = place + len(item) if place >= 0 else start
        ahead = self._passage[start:]
        for item in filter(None, taken):
            ahead = ahead.replace(item, "\0")
        return ahead


class _Scan:
    """Where in a JSON text the writing stands; strings stay as they are escaped."""

    def __init__(self) -> None:
        self._open: list[str] = []  # brackets
        self._lists: list[list[str]] = []  # strings of each open list
        self._string: str | None = None
        self._escape = False

    @property
    def siblings(self) -> list[str]:
        """Strings of the record around the list that the writing is in, keys among them."""
        return self._lists[-2] if len(self._open) > 1 and self._open[-2] == "{" else []

    @property
    def in_list(self) -> bool:
        """Whether the innermost bracket is a list's."""
        return bool(self._open) and self._open[-1] == "["

    @property
    def begun(self) -> str:
        """What is written of a string."""
        return self._string or ""

    @property
    def items(self) -> list[str]:
        """Strings of the list that the writing is in, if it is in one."""
        return self._lists[-1] if self._open and self._open[-1] == "[" else []

    def after(self, piece: str) -> str | None:
        """The string that the writing would be in, or just past, after a piece; None for none."""
        begun, string, escape = self._string, self._string is not None, self._escape
        for character in piece:
            if not string:
                if character == '"':
                    string, begun = True, ""
                continue
            if character == '"' and not escape:
                return begun
            begun = f"{begun or ''}{character}"
            escape = character == "\\" and not escape
        return begun if string and begun else None

    def goes_on(self, piece: str) -> bool | None:
        """Whether a piece goes on with a list after an item, or ends it; None for neither."""
        if not self.in_list:
            return None
        if self._string is not None:
            closed = re.match(r'(?:[^"\\]|\\.)*"', piece)
            if closed is None or self._escape:
                return None
            piece = piece[closed.end() :]
        return {",": True, "]": False}.get(piece[:1])

    def read(self, text: str) -> None:
        """Go on over what has been written."""
        for character in text:
            if self._string is not None:
                self._in_string(character)
            elif character == '"':
                self._string = ""
            elif character in "[{":
                self._open.append(character)
                self._lists.append([])
            elif character in "]}":
                self._open.pop()
                self._lists.pop()

    def _in_string(self, character: str) -> None:
        assert self._string is not None
        if character == '"' and not self._escape:
            if self._lists:
                self._lists[-1].append(self._string)
            self._string = None
            return
        self._string += character
        self._escape = character == "\\" and not self._escape


def _names(text: str) -> set[int]:
    """Where names begin.

    A word with a capital that opens a sentence is one only if it does not also stand there in
    small letters, and is long, or the whole sentence.
    """
    found = set[int]()
    for match in _NAME.finditer(text):
        first, _, rest = match[0].partition(" ")
        opens = _BEGINS.search(text, max(0, match.start() - 4), match.start()) is not None
        small = re.search(rf"(?<!\w){re.escape(first.lower())}(?!\w)", text) is not None
        alone = text[match.end() : match.end() + 1] in _STOPS
        if not opens or rest or (not small and (len(first) >= _LONG or alone)):
            found.add(match.start())
        if opens and rest and small:
            found.add(match.end() - len(rest))
    return found


def _at_name(begun: str, text: str, names: set[int]) -> bool:
    return any(_begins(begun, text, place) for place in names)


def _begins(begun: str, text: str, place: int) -> bool:
    """Whether a name at `place` begins so. "I" is the pronoun, and not half of a name."""
    return begun != "I" and text.startswith(begun, place)


def _cost(text: str, begun: str) -> float:
    """What it costs that a string goes on from `begun` to `text`."""
    if len(text) == len(begun):
        return 0.0
    if ends_sentence(begun):
        return _CROSSING
    return _PAST if text[len(begun)] in ",;.!?" else 0.0


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
