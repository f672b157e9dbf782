"""Synthetic data from a pydantic model, made by an open-weight model on this machine."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dataset import DatasetGenerator, agreement
    from .errors import (
        DecodingError,
        InterruptedRunError,
        ModelError,
        ModelNotFoundError,
        NetworkError,
        OutputError,
        PromptError,
        RunError,
        SchemaError,
        SynthgenError,
        TooFewRowsError,
        UsageError,
    )
    from .extract import Extractor
    from .fields import Span
    from .instances import Dataset
    from .local_model import LocalModel
    from .offline import close_network
    from .parser import RecordParser
    from .prompts import FewShotPrompt
    from .schema import Bounds
    from .tabular import Row, TabularGenerator
    from .text import Text, TextGenerator

__version__ = "0.1.0"

__all__ = [
    "Bounds",
    "Dataset",
    "DatasetGenerator",
    "DecodingError",
    "Extractor",
    "FewShotPrompt",
    "InterruptedRunError",
    "LocalModel",
    "ModelError",
    "ModelNotFoundError",
    "NetworkError",
    "OutputError",
    "PromptError",
    "RecordParser",
    "Row",
    "RunError",
    "SchemaError",
    "Span",
    "SynthgenError",
    "TabularGenerator",
    "Text",
    "TextGenerator",
    "TooFewRowsError",
    "UsageError",
    "agreement",
    "close_network",
]

_HOMES = {
    "Bounds": ".schema",
    "Dataset": ".instances",
    "DatasetGenerator": ".dataset",
    "Extractor": ".extract",
    "FewShotPrompt": ".prompts",
    "LocalModel": ".local_model",
    "RecordParser": ".parser",
    "Row": ".tabular",
    "Span": ".fields",
    "TabularGenerator": ".tabular",
    "Text": ".text",
    "TextGenerator": ".text",
    "agreement": ".dataset",
    "close_network": ".offline",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: llama.cpp and pydantic are slow to import."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, ".errors"), __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
