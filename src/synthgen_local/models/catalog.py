"""The models that have a name: `catalog.toml`, read and checked.

Knows what a file should be, not where it lies.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..errors import ModelError


class WheelSource(BaseModel):
    """Python wheels of which `members`, joined in order, are the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["wheel"]
    requirements: list[str] = Field(min_length=1)
    members: list[str] = Field(min_length=1)


class CatalogEntry(BaseModel):
    """What is known of a model. `size` is in bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    quantisation: str
    licence: str
    file: str = Field(pattern=r"^[\w.-]+\.gguf$")
    size: int = Field(gt=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    sources: list[WheelSource]
    default: bool = False


@cache
def catalog() -> dict[str, CatalogEntry]:
    """Return the known models by name.

    Example: `catalog()["smollm2-135m-instruct"].licence == "Apache-2.0"`
    """
    entries = tomllib.loads(_catalog_text())
    return {name: CatalogEntry(name=name, **entry) for name, entry in entries.items()}


def default_model() -> str:
    """Return the name of the model that is used when none is asked for."""
    return next(entry.name for entry in catalog().values() if entry.default)


def _catalog_text() -> str:
    """The catalog lies in the wheel, or at the top of a checkout."""
    shipped = files(__package__) / "catalog.toml"
    if shipped.is_file():
        return shipped.read_text(encoding="utf-8")
    checkout = Path(__file__).parents[3] / "models" / "catalog.toml"
    if checkout.is_file():
        return checkout.read_text(encoding="utf-8")
    raise ModelError("The model catalog is missing.", hint="Install synthgen-local again.")
