"""JSON out of a passage, read from left to right: what a list has, it does not take again.

A grammar says which parts of a passage a string may be; this module leans on the model where a
grammar is silent. Within a list, strings that stand further on in the passage are preferred to
those behind, and to those that the list has already. It is a preference: what is valid is for
the grammar alone to say. Knows JSON and tokens, not schemas.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .constraint import GrammarConstraint
from .line import ends_sentence
from .model import Logits

_BACKWARDS = 12.0  # what a token costs that can only go back, in natural logarithms
_CROSSING = 4.0  # and one that goes on into another sentence
_NEAR = 2.0  # items this close to the likeliest are taken in the passage's order


class Reading:
    """A grammar's row that is read out of a passage. A `Constraint`.

    Example: `Reading(grammar.start(), "Tom Hanks played Forrest Gump.")`
    """

    def __init__(self, constraint: GrammarConstraint, passage: str) -> None:
        self._constraint = constraint
        self._passage = _escaped(passage)
        self._scan = _Scan()
        self._scan.read(constraint.text())
        self._allowed = np.empty(0, dtype=np.uint8)

    @property
    def finished(self) -> bool:
        """Whether the grammar admits nothing more."""
        return self._constraint.finished

    def allowed(self) -> NDArray[np.uint8]:
        """The grammar's mask."""
        self._allowed = self._constraint.allowed()
        return self._allowed

    def steer(self, logits: Logits) -> Logits:
        """Make tokens rare that would take what the list has, or go back."""
        scan, steered = self._scan, logits.copy()
        items = scan.items
        behind = [*scan.siblings, *items]
        ahead = self._ahead(items, behind)
        begins: list[tuple[int, int]] = []
        best = -np.inf
        for token in np.flatnonzero(self._allowed):
            piece = self._constraint.piece(int(token)).decode(errors="ignore")
            begun = scan.after(piece)
            if begun is None:
                continue
            if scan.in_list and begun not in ahead:
                steered[token] -= np.float32(_BACKWARDS)
            elif scan.in_list and not scan.begun:
                begins.append((ahead.find(begun), int(token)))
                best = max(best, float(logits[token]))
            elif scan.begun and _crosses(begun, scan.begun):
                steered[token] -= np.float32(_CROSSING)
        near = [(place, token) for place, token in begins if logits[token] > best - _NEAR]
        if near:
            first = min(place for place, _ in near)
            chosen = [token for place, token in near if place == first]
            steered[chosen] += np.float32(_NEAR)
        return steered

    def take(self, token: int, stream: np.random.Generator) -> Sequence[int]:
        """Accept a token and what the grammar forces after it."""
        forced = self._constraint.take(token, stream)
        written = b"".join(map(self._constraint.piece, (token, *forced)))
        self._scan.read(written.decode(errors="ignore"))
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


def _crosses(text: str, begun: str) -> bool:
    return ends_sentence(begun) and len(text) > len(begun)


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
