"""A backend without weights: random logits over the 256 bytes.

It serves for dry runs on a machine without weights, and proves in tests that a row is valid for any
logits. Its logits are a function of the tokens before them, as a real model's are, so forks,
batches and repeated jobs behave as they do with weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from llguidance import LLTokenizer

from ..sampling import Sample, SamplingInputs, sample_rows
from .protocol import ContextSize, Logits, Step, decode_then_sample

_SPREAD = 2.0  # standard deviation of the logits: some tokens likely, none certain


class RandomModel:
    """Random logits over a byte-level vocabulary.

    Example: `RandomModel(salt=1).tokenize("ab") == [97, 98]`
    """

    name = "random"
    description = "random logits over bytes"
    build = "none"
    context_length = 1 << 20
    chat_template = None
    on_gpu = False

    def __init__(self, salt: int = 0) -> None:
        self.tokenizer = LLTokenizer("byte")
        self.special_tokens: dict[str, str] = {}
        self.control_tokens: tuple[str, ...] = ()
        self._salt = salt

    def tokenize(self, text: str, *, begun: bool = False) -> list[int]:  # noqa: ARG002
        """Return one token for each byte of UTF-8."""
        return list(text.encode())

    def open_context(self, size: ContextSize) -> RandomContext:
        """Open a context that keeps one hash for each slot."""
        return RandomContext(size, self.tokenizer.vocab_size, self._salt)

    def close(self) -> None:
        """Nothing to free."""


class RandomContext:
    """A context that keeps each slot's tokens as a running hash."""

    def __init__(self, size: ContextSize, vocabulary: int, salt: int) -> None:
        self.size = size
        self._vocabulary = vocabulary
        self._prefix = hashlib.blake2b(salt.to_bytes(8, "little"), digest_size=16)
        self._text = b""
        self._slots = [self._prefix] * size.slots

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """Hash the prefix."""
        self._text = _as_bytes(tokens)
        self._prefix = self._prefix.copy()
        self._prefix.update(self._text)
        return self._logits(self._prefix)

    def save_prefix(self) -> bytes:
        """Return the prefix itself."""
        return self._text

    def load_prefix(self, state: bytes, length: int) -> None:  # noqa: ARG002
        """Hash a saved prefix."""
        self._prefix = self._prefix.copy()
        self._prefix.update(state)

    def fork(self, slot: int) -> None:
        """Continue from the prefix's hash."""
        self._slots[slot] = self._prefix.copy()

    def release(self, slot: int) -> None:
        """Forget the slot's hash."""
        self._slots[slot] = self._prefix

    def decode(self, steps: Sequence[Step]) -> Logits:
        """Hash each slot's tokens and generate each step's logits from the hash."""
        found = []
        for step in steps:
            for slot in step.slots:
                self._slots[slot].update(_as_bytes(step.tokens))
            found.append(self._logits(self._slots[step.slots[0]]))
        return np.stack(found)

    def sample(self, logits: Sequence[Logits], inputs: SamplingInputs) -> list[Sample]:
        """Sample with numpy."""
        return sample_rows(logits, inputs)

    def decode_and_sample(
        self, steps: Sequence[Step], outputs: Sequence[int], inputs: SamplingInputs
    ) -> tuple[list[Logits], list[Sample]]:
        """Decode, then sample."""
        return decode_then_sample(self, steps, outputs, inputs)

    def close(self) -> None:
        """Nothing to free."""

    def _logits(self, history: hashlib.blake2b) -> Logits:
        seed = int.from_bytes(history.digest(), "little")
        stream = np.random.Generator(np.random.PCG64(seed))
        return stream.standard_normal(self._vocabulary, dtype=np.float32) * np.float32(_SPREAD)


def _as_bytes(tokens: Sequence[int]) -> bytes:
    return np.asarray(tokens, dtype=np.uint16).tobytes()
