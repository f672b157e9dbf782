"""Synthetic data from a pydantic model, made by an open-weight model on this machine."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dataset import Dataset
    from .engine.requests import Row
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
    from .generators.extract import Extractor
    from .generators.spans import Span
    from .generators.tabular import TabularGenerator
    from .generators.text import Text, TextGenerator
    from .generators.verified_text import DatasetGenerator, agreement
    from .local_model import LocalModel
    from .prompting.output_parser import RecordParser
    from .prompting.prompts import FewShotPrompt
    from .schema import Bounds
    from .system.network import close_network

logging.getLogger(__name__).addHandler(logging.NullHandler())

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
    "Dataset": ".dataset",
    "DatasetGenerator": ".generators.verified_text",
    "Extractor": ".generators.extract",
    "FewShotPrompt": ".prompting.prompts",
    "LocalModel": ".local_model",
    "RecordParser": ".prompting.output_parser",
    "Row": ".engine.requests",
    "Span": ".generators.spans",
    "TabularGenerator": ".generators.tabular",
    "Text": ".generators.text",
    "TextGenerator": ".generators.text",
    "agreement": ".generators.verified_text",
    "close_network": ".system.network",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: llama.cpp and pydantic are slow to import."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, ".errors"), __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
