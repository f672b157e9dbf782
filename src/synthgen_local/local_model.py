"""A model by name, loaded: the file that the name stands for, and the engine opened on it.

Knows names and files, not prompts or schemas.
"""

from __future__ import annotations

import os
from types import TracebackType

from .engine.model import Model
from .engine.random_model import RandomModel
from .models.catalog import default_model
from .models.sources import find

RANDOM = "random"


class LocalModel:
    """Weights in memory, to be closed after use.

    `engine` is what decodes; `threads` is how many CPU threads a run may use.

    Example: `with LocalModel.load("smollm2-135m-instruct") as model: print(model.name)`
    """

    def __init__(self, engine: Model, *, threads: int | None = None) -> None:
        self.engine = engine
        self.threads = threads or available_cores()

    @classmethod
    def load(
        cls, name: str = "", *, gpu_layers: int | None = None, threads: int | None = None
    ) -> LocalModel:
        """Open a model that is on this machine; the network is never used.

        `name` is a name of the catalog (the default model if empty), a path to a .gguf,
        `user/repo:QUANT` of the Hugging Face cache, or `random`: random bytes for dry runs.
        `gpu_layers` of None offloads all layers if the llama.cpp build can.

        Raises ModelNotFoundError if it is not here, ModelError if it is damaged.
        """
        if name == RANDOM:
            return cls(RandomModel(), threads=threads)
        name = name or default_model()
        path = find(name)
        from .engine.llama import LlamaModel  # llama.cpp takes a quarter of a second to import

        return cls(LlamaModel(path, name=name, gpu_layers=gpu_layers), threads=threads)

    @property
    def name(self) -> str:
        """The name it was loaded by."""
        return self.engine.name

    def close(self) -> None:
        """Free the weights."""
        self.engine.close()

    def __enter__(self) -> LocalModel:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
