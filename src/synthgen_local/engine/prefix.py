"""An evaluated prompt that all sequences of a request share. Knows contexts; knows no files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from .backends.protocol import ContextSize, Logits, Model, round_up_cells
from .requests import GenerationRequest


@dataclass(frozen=True)
class Prefix:
    """The KV cache of a request's prompt, and the logits after its last token."""

    state: bytes
    logits: Logits

    @classmethod
    def prefill(cls, model: Model, request: GenerationRequest, *, threads: int) -> Prefix:
        """Evaluate the prompt in a context and a thread of its own.

        Example: `Prefix.prefill(model, request, threads=2)`
        """
        cells = round_up_cells(max(1, len(request.prompt)))

        def evaluate() -> Prefix:
            with closing(model.open_context(ContextSize(1, cells, threads))) as context:
                logits = context.prefill(request.prompt).copy()
                return cls(context.save_prefix(), logits)

        # OpenMP keeps a team of threads for each thread that used it. This team ends with its
        # thread; in the caller's thread it would compete with the workers (`plan_workers`).
        with ThreadPoolExecutor(1) as executor:
            return executor.submit(evaluate).result()
