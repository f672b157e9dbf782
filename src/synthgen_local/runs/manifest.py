"""What an auditor needs to know of a file of rows, and what it takes to make it again.

`FILE.manifest.json` lies beside the rows. It holds settings, hashes and counts; rows and examples
it does not hold, the latter unless they are asked for.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import OutputError, RunError
from ..local_model import LocalModel
from ..models.inventory import look_up, sha256_of
from ..schema import SAYS, Certificate
from ..whole import whole_file
from .ledger import Ledger, ShardFacts
from .settings import AnySettings, Work

_NAMES = {"source", "examples", "records", "passages"}  # what they hold is hashed
_PACKAGES = ("synthgen-local", "llama-cpp-python", "llguidance", "numpy", "pyarrow", "pydantic")


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelFacts(_Facts):
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


class Layout(_Facts):
    """How rows were decoded together, which their bytes depend on."""

    threads: int = Field(ge=1)
    shards: int = Field(ge=0)
    rows_a_shard: int = Field(ge=0)


class RowCounts(_Facts):
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


class OutputFacts(_Facts):
    """The file or the folder: a folder's hash is that of its files' names and hashes."""

    name: str
    sha256: str
    csv_safe: bool = False


class Manifest(_Facts):
    """All that is known of a run that is complete."""

    format: int = 1
    output: OutputFacts
    settings: AnySettings
    model: ModelFacts
    hashes: dict[str, str]
    layout: Layout
    versions: dict[str, str]
    counts: RowCounts
    seconds: float
    rows_per_second: float
    guarantee: str | None
    certificate: list[dict[str, Any]]
    json_schema: dict[str, Any]
    shards: list[ShardFacts]
    examples: list[Any] | None = None

    def write(self, path: Path, *, scratch: Path | None = None) -> None:
        """Write it whole, or not at all. Raises OutputError."""
        mode = 0o666 if self.examples is None else 0o600  # they may be somebody's
        try:
            with whole_file(path, scratch=scratch, mode=mode) as file:
                file.write(f"{self.model_dump_json(indent=2)}\n".encode())
        except OSError as error:
            raise OutputError(
                f"{path} cannot be written: {error.strerror}.", hint="Repeat the command then."
            ) from error


def manifest_path(output: Path) -> Path:
    """Return where the manifest of an output lies.

    Example: `manifest_path(Path("people.csv")) == Path("people.csv.manifest.json")`
    """
    return output.with_name(f"{output.name}.manifest.json")


def read_manifest(output: Path) -> Manifest:
    """Read the manifest of an output. Raises RunError if there is none, or it is no manifest.

    Example: `read_manifest(Path("people.csv")).settings.seed`
    """
    path = manifest_path(output)
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(
            f"{path} cannot be read: {error.strerror}.", hint="It is written beside the rows."
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise RunError(
            f"{path} is no manifest: {where}: {first['msg']}", hint="Was it edited?"
        ) from None


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


def layout(model: LocalModel, work: Work) -> Layout:
    """Return how a model decodes the rows of some work."""
    longest = max(map(len, work.shards), default=0)
    return Layout(threads=model.threads, shards=len(work.shards), rows_a_shard=longest)


def versions(model: LocalModel) -> dict[str, str]:
    """Return what else the bytes of rows depend on: packages, and llama.cpp's build."""
    packages = {name: version(name) for name in _PACKAGES}
    return packages | {"python": platform.python_version(), "llama.cpp": model.engine.build}


def inputs(
    settings: AnySettings, work: Work, model: LocalModel, facts: ModelFacts
) -> dict[str, Any]:
    """Return all that decides what the rows are, by names that people know."""
    return {
        **settings.model_dump(mode="json", exclude=_NAMES | {"model", "threads"}),
        "batch": model.batch(work.rows, settings.batch),
        "flash_attn": model.flash_attn,
        **{f"model's {name}": value for name, value in facts.model_dump().items()},
        **layout(model, work).model_dump(),
        **{f"version of {name}": value for name, value in versions(model).items()},
        **{f"hash of the {name}": value for name, value in work.hashes.items()},
    }


def counts(ledger: Ledger) -> RowCounts:
    """Return the sums over a ledger; rejections by who turned the rows down."""
    sums = ledger.counts()
    redraws = Counter(
        reason.partition(SAYS)[0] for _, reasons in ledger.accounts() for reason in reasons
    )
    return RowCounts(
        rows=sums.made,
        lost=sums.lost,
        redraws=dict(redraws.most_common()),
        tokens=sums.tokens,
        drawn=sums.drawn,
        forced=sums.tokens - sums.drawn,
        kept=math.exp(sums.log_weight / max(1, sums.weighed_draws)),
        weighed=sums.weighed,
    )


def describe(
    settings: AnySettings,
    work: Work,
    model: LocalModel,
    facts: ModelFacts,
    ledger: Ledger,
    *,
    examples: bool = False,
) -> Manifest:
    """Return the manifest of a run whose rows are all made, but for its output.

    It holds nothing of the examples unless `examples` asks for them: not even a hash, since a
    short example is found by hashing guesses.
    """
    found, seconds = counts(ledger), ledger.seconds
    private = frozenset() if examples else work.private
    certificate = work.certificate
    return Manifest(
        output=OutputFacts(name="", sha256=""),
        settings=settings.model_copy(
            update={
                "model": settings.model or model.name,
                "threads": model.threads,
                "batch": model.batch(work.rows, settings.batch),
                "flash_attn": model.flash_attn,
            }
        ),
        model=facts,
        hashes={name: known for name, known in work.hashes.items() if name not in private},
        layout=layout(model, work),
        versions=versions(model),
        counts=found,
        seconds=round(seconds, 3),
        rows_per_second=round(found.rows / max(seconds, 1e-3), 3),
        guarantee=None if certificate is None else certificate.guarantee,
        certificate=_certificate_lines(certificate),
        json_schema=work.schema.json_schema,
        shards=ledger.shards(),
        examples=list(work.examples) if examples else None,
    )


def _certificate_lines(certificate: Certificate | None) -> list[dict[str, Any]]:
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
