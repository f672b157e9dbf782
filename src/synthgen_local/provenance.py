"""What is known of rows beside the rows: the parts of a manifest, as runs and Datasets write it.

Knows models, files and numbers, not how rows are made.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .engine.parallel import MOST_ROWS
from .local_model import LocalModel
from .models.inventory import look_up, sha256_of
from .schema import Certificate

_PACKAGES = ("synthgen-local", "llama-cpp-python", "llguidance", "numpy", "pyarrow", "pydantic")


class Facts(BaseModel):
    """A part of a manifest; a field that is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelFacts(Facts):
    """The weights: `sha256` and `size` (bytes) are those of the file as shipped.

    `opened_sha256` is that of the file that was loaded, in the format `opened_as`.
    """

    name: str
    description: str
    quantisation: str
    licence: str | None
    sha256: str | None
    size: int | None
    opened_sha256: str | None
    opened_as: str | None = None
    chat_template: str | None
    device: str


class Layout(Facts):
    """How rows were decoded together, which their bytes depend on."""

    threads: int = Field(ge=1)
    shards: int = Field(ge=0)
    rows_a_shard: int = Field(ge=0)


class RowCounts(Facts):
    """Rows and tokens, of each row's last attempt.

    `kept` is the (geometric) mean probability that the constraint left to a drawn token, over the
    `weighed` rows: all of them, or a sample. None stands in manifests of before.
    """

    rows: int = Field(ge=0)
    lost: int = Field(ge=0)
    redraws: dict[str, int]
    tokens: int
    drawn: int
    forced: int
    kept: float
    weighed: int | None = None


class OutputFacts(Facts):
    """The file or the folder: a folder's hash is that of its files' names and hashes."""

    name: str
    sha256: str
    csv_safe: bool = False


class ShardFacts(Facts):
    """How many rows of a shard were made, and the SHA-256 of their lines (see `shard_hash`)."""

    made: int = Field(ge=0, le=MOST_ROWS)
    sha256: str


def manifest_path(output: Path) -> Path:
    """Return where the manifest of an output lies.

    Example: `manifest_path(Path("people.csv")) == Path("people.csv.manifest.json")`
    """
    return output.with_name(f"{output.name}.manifest.json")


def model_facts(model: LocalModel) -> ModelFacts:
    """Return what is known of a model that is loaded. Its file is read."""
    engine = model.engine
    template = engine.chat_template
    known = look_up(model.name)
    return ModelFacts(
        name=model.name,
        description=engine.description,
        quantisation=engine.description.split()[-1] if known is None else known.quantisation,
        licence=None if known is None else known.licence,
        sha256=None if model.path is None else file_hash(model.path),
        size=None if model.path is None else model.path.stat().st_size,
        opened_sha256=None if model.opened is None else file_hash(model.opened.path),
        opened_as=None if model.opened is None else model.opened.format,
        chat_template=None if template is None else hashlib.sha256(template.encode()).hexdigest(),
        device="gpu" if engine.on_gpu else "cpu",
    )


def versions(model: LocalModel) -> dict[str, str]:
    """Return what else the bytes of rows depend on: packages, and llama.cpp's build."""
    packages = {name: version(name) for name in _PACKAGES}
    return packages | {"python": platform.python_version(), "llama.cpp": model.engine.build}


def certificate_lines(certificate: Certificate | None) -> list[dict[str, Any]]:
    """Return the constraints of a certificate as JSON values.

    Example: `certificate_lines(compile_schema(schema).certificate)`
    """
    found: Sequence[Any] = () if certificate is None else certificate.constraints
    lines: list[dict[str, Any]] = json.loads(json.dumps([asdict(c) for c in found], default=str))
    return lines


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and hashes of a folder's files.

    Example: `file_hash(Path("people.csv"))`
    """
    digest = hashlib.sha256()
    if path.is_dir():
        for inner in sorted(path.rglob("*")):
            if inner.is_file():
                name = os.fspath(inner.relative_to(path))
                digest.update(f"{name} {file_hash(inner)}\n".encode())
        return digest.hexdigest()
    return sha256_of(path)


def shard_hash(lines: Iterable[str | None]) -> str:
    """Return the SHA-256 of a shard's lines, each with its end; a row that was given up has none.

    Example: `shard_hash(['{"n":1}', None])`
    """
    digest = hashlib.sha256()
    for line in lines:
        digest.update(b"" if line is None else f"{line}\n".encode())
    return digest.hexdigest()
