"""The models that have a name: `catalog.toml`, read and checked.

Knows what a file should be, not where it lies.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..errors import ModelError


class WheelSource(BaseModel):
    """Python wheels of which `members`, joined in order, are the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["wheel"]
    requirements: list[str] = Field(min_length=1)
    members: list[str] = Field(min_length=1)


class HubSource(BaseModel):
    """A file of a repository of the Hugging Face hub.

    `file` may be left out where the entry's quantisation names one file of the repository.
    Without a `revision` it is the one that the hub tells when the model is pulled.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["hub"]
    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    file: str = ""
    revision: str | None = None


Source = Annotated[WheelSource | HubSource, Field(discriminator="kind")]


class CatalogEntry(BaseModel):
    """What is known of a model. `size` is in bytes.

    `checked_by` says who vouches for size and sha256: the catalog, which then has both and
    is believed over any source; or the hub, whose hash is checked and recorded at the pull.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    quantisation: str
    licence: str
    checked_by: Literal["catalog", "hub"] = "catalog"
    file: str | None = Field(default=None, pattern=r"^[\w.-]+\.gguf$")
    size: int | None = Field(default=None, gt=0)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    sources: list[Source] = Field(min_length=1)
    default: bool = False

    @model_validator(mode="after")
    def _says_who_checks(self) -> Self:
        """What the catalog checks it must know; what it does not know only the hub can check."""
        known = (self.file, self.size, self.sha256)
        if self.checked_by == "catalog" and None in known:
            raise ValueError("an entry that the catalog checks has file, size and sha256")
        if self.checked_by == "hub" and (any(known) or {s.kind for s in self.sources} != {"hub"}):
            raise ValueError("an entry that the hub checks comes from the hub, without a hash here")
        return self


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


def standard_licence(name: str) -> str:
    """Return the text of a licence that is the same for all who use it; empty if not known.

    Example: `standard_licence("Apache-2.0").startswith("Apache License")`
    """
    if name.lower() != "apache-2.0":
        return ""
    return (_shipped("Apache-2.0.txt", "LICENSE") or "").strip()


def _catalog_text() -> str:
    text = _shipped("catalog.toml", "models/catalog.toml")
    if text is None:
        raise ModelError("The model catalog is missing.", hint="Install synthgen-local again.")
    return text


def _shipped(name: str, in_checkout: str) -> str | None:
    """A text that lies in the wheel, or elsewhere in a checkout."""
    checkout = Path(__file__).parents[3] / in_checkout
    for place in (files(__package__) / name, checkout):
        if place.is_file():
            return place.read_text(encoding="utf-8")
    return None
