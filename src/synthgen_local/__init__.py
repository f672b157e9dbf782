"""Synthetic data from a pydantic model, made by an open-weight model on this machine."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import (
        DecodingError,
        ModelError,
        ModelNotFoundError,
        OutputError,
        PromptError,
        SchemaError,
        SynthgenError,
        TooFewRowsError,
        UsageError,
    )
    from .local_model import LocalModel
    from .prompts import FewShotPrompt
    from .schema import Bounds
    from .tabular import Row, TabularGenerator

__version__ = "0.1.0"

__all__ = [
    "Bounds",
    "DecodingError",
    "FewShotPrompt",
    "LocalModel",
    "ModelError",
    "ModelNotFoundError",
    "OutputError",
    "PromptError",
    "Row",
    "SchemaError",
    "SynthgenError",
    "TabularGenerator",
    "TooFewRowsError",
    "UsageError",
]

_HOMES = {
    "Bounds": ".schema",
    "FewShotPrompt": ".prompts",
    "LocalModel": ".local_model",
    "Row": ".tabular",
    "TabularGenerator": ".tabular",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: llama.cpp and pydantic are slow to import."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, ".errors"), __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
