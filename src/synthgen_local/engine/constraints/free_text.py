"""Free text with nothing asked of it but an end.

Knows tokens, not prompts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..bitmask import Mask, write
from .vocabulary import VocabularyTable


class FreeTextConstraint:
    """Any text of at most `most` tokens, up to the first of `stop`. A `Constraint`.

    Example: `FreeTextConstraint(pieces, most=100, stop=["END"])`
    """

    matcher = None
    needs_full_logits = False
    process_logits = None
    validate_token = None

    def __init__(self, pieces: VocabularyTable, most: int, stop: Sequence[str] = ()) -> None:
        self._pieces = pieces
        self._left = most
        self._stop = stop
        self._bytes = b""
        self.is_terminated = False
        self.cut = False  # at the most tokens

    def fill_bitmask(self, mask: Mask) -> None:
        """Everything but special tokens that are no end."""
        write(mask, self._pieces.speech)

    def accept_token(self, token: int, stream: np.random.Generator) -> Sequence[int]:  # noqa: ARG002
        """Write a token."""
        self._left -= 1
        if token in self._pieces.end_tokens:
            self.is_terminated = True
            return ()
        self._bytes += self._pieces.piece(token)
        written = self._bytes.decode(errors="ignore")
        stopped = any(stop in written for stop in self._stop)
        self.cut = self._left == 0 and not stopped
        self.is_terminated = self.cut or stopped
        return ()

    def text(self) -> str:
        """What has been written, without a stop, and without half a character or half a stop."""
        text = self._bytes.decode(errors="ignore")
        if (stop := self.stopped_by) is not None:
            return text[: text.find(stop)]
        return text if self.is_terminated else text[: len(text) - self._begun(text)]

    @property
    def stopped_by(self) -> str | None:
        """The stop that stands first in what has been written."""
        text = self._bytes.decode(errors="ignore")
        found = [stop for stop in self._stop if stop in text]
        return min(found, key=text.find, default=None)

    def _begun(self, text: str) -> int:
        """Characters at the end that may become a stop: they wait."""
        sizes = (n for stop in self._stop for n in range(1, len(stop)) if text.endswith(stop[:n]))
        return max(sizes, default=0)

    def close(self) -> None:
        """Nothing to give back."""
