"""Unconstrained text that ends at a stop string or a token limit.

Knows tokens; knows no prompts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..bitmask import Mask, write
from .vocabulary import VocabularyTable


class FreeTextConstraint:
    """Any text of at most `most` tokens, up to the first of `stop`. A `Constraint`.

    Example: `FreeTextConstraint(vocabulary, most=100, stop=["END"])`
    """

    matcher = None
    needs_full_logits = False
    process_logits = None
    validate_token = None

    def __init__(self, vocabulary: VocabularyTable, most: int, stop: Sequence[str] = ()) -> None:
        self._vocabulary = vocabulary
        self._remaining = most
        self._stop = stop
        self._bytes = b""
        self.is_terminated = False
        self.cut = False  # ended by the token limit

    def fill_bitmask(self, mask: Mask) -> None:
        """Allow all tokens but special ones; end tokens are allowed."""
        write(mask, self._vocabulary.text_or_end)

    def accept_token(self, token: int, stream: np.random.Generator) -> Sequence[int]:  # noqa: ARG002
        """Append a token."""
        self._remaining -= 1
        if token in self._vocabulary.end_tokens:
            self.is_terminated = True
            return ()
        self._bytes += self._vocabulary.token_bytes(token)
        written = self._bytes.decode(errors="ignore")
        stopped = any(stop in written for stop in self._stop)
        self.cut = self._remaining == 0 and not stopped
        self.is_terminated = self.cut or stopped
        return ()

    def text(self) -> str:
        """Return the text up to a stop string, without part of a character or of a stop string."""
        text = self._bytes.decode(errors="ignore")
        if (stop := self.stopped_by) is not None:
            return text[: text.find(stop)]
        return text if self.is_terminated else text[: len(text) - self._partial_stop(text)]

    @property
    def stopped_by(self) -> str | None:
        """The stop string that comes first in the text, None without one."""
        text = self._bytes.decode(errors="ignore")
        found = [stop for stop in self._stop if stop in text]
        return min(found, key=text.find, default=None)

    def _partial_stop(self, text: str) -> int:
        """Return the number of characters at the end that may become a stop string."""
        sizes = (n for stop in self._stop for n in range(1, len(stop)) if text.endswith(stop[:n]))
        return max(sizes, default=0)

    def close(self) -> None:
        """Release nothing."""
