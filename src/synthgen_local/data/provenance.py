"""What is known of rows beside the rows: the parts of a manifest, as runs and Datasets write it.

Knows models, files and numbers, not how rows are made.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ..engine.parallel_plan import MAX_ROWS
from ..errors import OutputError
from ..local_model import LocalModel
from ..models.store import lookup_model, sha256_of
from ..schema import Certificate, RowGrammar
from ..system.atomic_write import atomic_write

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

    made: int = Field(ge=0, le=MAX_ROWS)
    sha256: str


def manifest_path(output: Path) -> Path:
    """Return where the manifest of an output lies.

    Example: `manifest_path(Path("people.csv")) == Path("people.csv.manifest.json")`
    """
    return output.with_name(f"{output.name}.manifest.json")


def model_facts(model: LocalModel) -> ModelFacts:
    """Return what is known of a model that is loaded. Its file is read."""
    return _hashed(_described(model), model.path, _opened(model))


def _opened(model: LocalModel) -> Path | None:
    return None if model.load_plan is None else model.load_plan.path


def _hashed(facts: ModelFacts, shipped: Path | None, opened: Path | None) -> ModelFacts:
    """The same facts with the hashes of the weights."""
    return facts.model_copy(
        update={
            "sha256": None if shipped is None else file_hash(shipped),
            "opened_sha256": None if opened is None else file_hash(opened),
        }
    )


def _described(model: LocalModel) -> ModelFacts:
    """What is known of a model without reading its file."""
    engine = model.engine
    template = engine.chat_template
    known = lookup_model(model.name)
    return ModelFacts(
        name=model.name,
        description=engine.description,
        quantisation=engine.description.split()[-1] if known is None else known.quantisation,
        licence=None if known is None else known.licence,
        sha256=None,
        size=None if model.path is None else model.path.stat().st_size,
        opened_sha256=None,
        opened_as=None if model.load_plan is None else model.load_plan.format,
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


def text_hash(value: Any) -> str:
    """Return the SHA-256 of a text, or of a JSON value's text.

    Example: `text_hash({"type": "string"})`
    """
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def schema_hashes(grammar: RowGrammar, source: str) -> dict[str, str]:
    """Return hashes of what a row may be; validators are known by the file that the class is in.

    Example: `schema_hashes(compile_schema(schema), "models.py:Patient")`
    """
    hashes = {
        "schema": text_hash(grammar.schema.json_schema),
        "grammar": text_hash(grammar.serialised),
    }
    where = source.rpartition(":")[0]
    path = where if where.endswith(".py") else getattr(sys.modules.get(where), "__file__", None)
    if path and Path(path).is_file():
        hashes["code of the schema"] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return hashes


@dataclass(frozen=True)
class Origin:
    """How a generator made the rows of a Dataset: what its manifest says beside the file's hash.

    `known` has the fields of a manifest but for the output and the weights' hashes, which take long
    to compute and so are left to `manifest`.
    """

    known: Mapping[str, Any]
    model: ModelFacts
    shipped: Path | None
    opened: Path | None
    shards: Sequence[ShardFacts]

    @classmethod
    def of(
        cls, model: LocalModel, shards: Sequence[range], lines: Iterator[str], **known: Any
    ) -> Origin:
        """Return the origin of rows, given as the lines that a file of them has.

        Example: `Origin.of(model, model.shards(3), iter(lines), settings={"seed": 0})`
        """
        longest = max(map(len, shards), default=0)
        layout = Layout(threads=model.threads, shards=len(shards), rows_a_shard=longest)
        facts = [_shard_facts(lines, len(shard)) for shard in shards]
        said = {"layout": layout.model_dump(), "versions": versions(model), **known}
        return cls(said, _described(model), model.path, _opened(model), facts)

    def made(self, lines: Iterator[str]) -> bool:
        """Return whether lines are those of the rows as they were made."""
        same = all(_shard_facts(lines, shard.made) == shard for shard in self.shards)
        return same and next(lines, None) is None

    def manifest(self, output: Path, *, csv_safe: bool) -> dict[str, Any]:
        """Return the manifest of a file of these rows. Raises OSError."""
        facts = OutputFacts(name=readable_name(output), sha256=file_hash(output), csv_safe=csv_safe)
        return {
            "format": 1,
            "output": facts.model_dump(),
            **self.known,
            "model": self._weights.model_dump(),
            "shards": [shard.model_dump() for shard in self.shards],
        }

    @cached_property
    def _weights(self) -> ModelFacts:
        return _hashed(self.model, self.shipped, self.opened)


def _shard_facts(lines: Iterator[str], rows: int) -> ShardFacts:
    found = list(islice(lines, rows))
    return ShardFacts(made=len(found), sha256=shard_hash(found))


def readable_name(path: Path) -> str:
    """Return the name of a file as Unicode; bytes that are not UTF-8 are shown by their numbers.

    Example: `readable_name(Path("people/rows.csv")) == "rows.csv"`
    """
    return os.fsencode(path.name).decode("utf-8", "backslashreplace")


def write_manifest(output: Path, origin: Origin | None, *, csv_safe: bool) -> None:
    """Write the manifest of a file whose rows have an origin; else delete that of rows before.

    Raises OutputError.

    Example: `write_manifest(Path("people.csv"), None, csv_safe=False)`
    """
    path = manifest_path(output)
    try:
        if origin is None:
            path.unlink(missing_ok=True)
            return
        text = json.dumps(origin.manifest(output, csv_safe=csv_safe), indent=2, ensure_ascii=False)
        with atomic_write(path) as file:
            file.write(f"{text}\n".encode())
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror}.", hint="Repeat the command then."
        ) from error


def refuse_strange_manifest(output: Path) -> None:
    """Raise OutputError if what has the name of a manifest is something else.

    Example: `refuse_strange_manifest(Path("people.csv"))`
    """
    path = manifest_path(output)
    try:
        found = json.loads(path.read_bytes()) if path.exists() else {"output": {}, "shards": []}
        strange = not (isinstance(found, dict) and {"output", "shards"} <= found.keys())
    except (OSError, ValueError):
        strange = True
    if strange:
        raise OutputError(f"{path} is there, and is no manifest.", hint="Choose another name.")
