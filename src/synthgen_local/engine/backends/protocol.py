"""The interface between the decoder and a backend: a model, and contexts from tokens to logits.

A context holds one shared prefix and a number of slots. Each slot continues the prefix with tokens
of its own, and `decode` advances many slots in one forward pass. Knows no backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

import numpy as np
from llguidance import LLTokenizer
from numpy.typing import NDArray

from ...errors import DecodingError
from ..bitmask import Mask

if TYPE_CHECKING:
    from ..sampling import Sample, SamplingInputs

Logits: TypeAlias = NDArray[np.float32]

_PRINTABLE = r'[^"\\\x00-\x1F\x7F-\x9F]'
MASK_SLICES = [f"{_PRINTABLE}{{1,10}}", f"{_PRINTABLE}{{1,20}}", f"{_PRINTABLE}+"]
"""Sets of tokens that llguidance precomputes for bitmasks: contents of a string, by length."""

_CELL_BLOCK = 256


class Step(NamedTuple):
    """Tokens that slots of equal history evaluate together in the next forward pass.

    After the last one the logits of all tokens are computed, or only of those in `mask`.
    """

    slots: Sequence[int]
    tokens: Sequence[int]
    mask: Mask | None = None


@dataclass(frozen=True)
class ContextSize:
    """The capacity of a context.

    `slots` is the number of running sequences, `cells` the KV cells of the prefix and all
    sequences together, `threads` the number of CPU threads.
    """

    slots: int
    cells: int
    threads: int


def round_up_cells(cells: int) -> int:
    """Return the number of KV cells that a context allocates for at least `cells`.

    Example: `round_up_cells(300) == 512`
    """
    return -(-cells // _CELL_BLOCK) * _CELL_BLOCK


class Context(Protocol):
    """The KV cache of one prefix and its slots. Used by one thread at a time."""

    @property
    def size(self) -> ContextSize:
        """The capacity with which the context was opened."""
        ...

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """Evaluate the shared prefix; return its last token's logits, shape (vocabulary,)."""
        ...

    def save_prefix(self) -> bytes:
        """Return the evaluated prefix, for other contexts of the same model."""
        ...

    def load_prefix(self, state: bytes, length: int) -> None:
        """Load a saved prefix of `length` tokens."""
        ...

    def fork(self, slot: int) -> None:
        """Start a released slot from the end of the prefix."""
        ...

    def decode(self, steps: Sequence[Step]) -> Logits:
        """Advance slots; return the logits after each step's last token.

        A slot may take several steps, one after the other.

        The array has shape (len(steps), vocabulary) and is overwritten by the next call. Logits of
        tokens outside a step's mask may have any value.
        """
        ...

    def sample(self, logits: Sequence[Logits], inputs: SamplingInputs) -> list[Sample]:
        """Sample a token for each row from its logits, as `sampling.sample_rows` does."""
        ...

    def decode_and_sample(
        self, steps: Sequence[Step], outputs: Sequence[int], inputs: SamplingInputs
    ) -> tuple[list[Logits], list[Sample]]:
        """Advance slots and sample a token for each row, from the logits after one of the steps.

        `outputs` has the index of the step for each row. Returns the logits of `decode` for each
        row, which the next call overwrites, and the samples.
        """
        ...

    def release(self, slot: int) -> None:
        """Free the cells that a slot holds after the prefix."""
        ...

    def close(self) -> None:
        """Free the KV cache."""
        ...


def closed() -> DecodingError:
    """Return the error for use of weights that have been freed.

    Example: `raise closed()`
    """
    return DecodingError(
        "The model is closed.", hint="Use it inside its `with` block, or load it again."
    )


def decode_then_sample(
    context: Context, steps: Sequence[Step], outputs: Sequence[int], inputs: SamplingInputs
) -> tuple[list[Logits], list[Sample]]:
    """`Context.decode_and_sample` as two calls.

    Example: `decode_then_sample(context, [Step([0], [5])], [0], inputs)[1][0].token`
    """
    every = context.decode(steps)
    logits = [every[output] for output in outputs]
    return logits, context.sample(logits, inputs)


class Model(Protocol):
    """A causal language model with its tokenizer."""

    @property
    def name(self) -> str:
        """The displayed name: a catalog name, a file name, or `random`."""
        ...

    @property
    def tokenizer(self) -> LLTokenizer:
        """The llguidance tokenizer of the vocabulary."""
        ...

    @property
    def context_length(self) -> int:
        """The longest sequence, in tokens, that the model can attend to."""
        ...

    @property
    def chat_template(self) -> str | None:
        """The Jinja chat template in the weights' file, or None for a base model."""
        ...

    @property
    def special_tokens(self) -> dict[str, str]:
        """`bos_token` and `eos_token` as text, for chat templates."""
        ...

    @property
    def control_tokens(self) -> Sequence[str]:
        """The text of each control token, such as the end of a turn."""
        ...

    @property
    def description(self) -> str:
        """Architecture, size and quantisation, as the backend describes them."""
        ...

    @property
    def build(self) -> str:
        """The backend's version and the features of the machine that it uses."""
        ...

    @property
    def on_gpu(self) -> bool:
        """True if layers run on a GPU."""
        ...

    def tokenize(self, text: str, *, begun: bool = False) -> list[int]:
        """Tokenize prompt text; special tokens are recognised and added as the model was trained.

        With `begun` none is added: the text continues a prompt.
        """
        ...

    def open_context(self, size: ContextSize) -> Context:
        """Allocate a context."""
        ...

    def close(self) -> None:
        """Free the weights."""
        ...
