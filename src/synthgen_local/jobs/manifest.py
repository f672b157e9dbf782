"""The manifest of a file of rows: everything that an audit or a replay of the run needs.

`FILE.manifest.json` is written next to the rows. It holds settings, hashes and counts. It holds no
rows, and examples only on request.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..data.provenance import (
    Facts,
    Layout,
    ModelFacts,
    OutputFacts,
    RowCounts,
    ShardFacts,
    certificate_lines,
    manifest_path,
    versions,
)
from ..errors import OutputError, RunError
from ..local_model import LocalModel
from ..system.atomic_write import atomic_write
from .ledger import Ledger
from .spec import AnyJobSpec, RowSource

_NAMES = {"source", "examples", "records", "passages"}  # what they hold is hashed


class Manifest(Facts):
    """The record of a complete run."""

    format: int = 1
    output: OutputFacts
    settings: AnyJobSpec
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
        """Write the manifest atomically. Raises OutputError."""
        mode = 0o666 if self.examples is None else 0o600  # examples may be personal data
        try:
            with atomic_write(path, scratch=scratch, mode=mode) as file:
                file.write(f"{self.model_dump_json(indent=2)}\n".encode())
        except OSError as error:
            raise OutputError(
                f"{path} cannot be written: {error.strerror}.", hint="Repeat the command then."
            ) from error


def read_manifest(output: Path) -> Manifest:
    """Read the manifest of an output. Raises RunError if it is missing or invalid.

    Example: `read_manifest(Path("people.csv")).settings.seed`
    """
    path = manifest_path(output)
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(
            f"{path} cannot be read: {error.strerror}.",
            hint="generate -o writes it, and save() of a Dataset that generate() returned.",
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise RunError(
            f"{path} is not a manifest: {where}: {first['msg']}", hint="Was it edited?"
        ) from None


def layout(model: LocalModel, row_source: RowSource) -> Layout:
    """Return how a model decodes the rows of a row source."""
    longest = max(map(len, row_source.shards), default=0)
    return Layout(threads=model.threads, shards=len(row_source.shards), rows_a_shard=longest)


def inputs(
    settings: AnyJobSpec, row_source: RowSource, model: LocalModel, facts: ModelFacts
) -> dict[str, Any]:
    """Return everything that determines the rows, by displayed name."""
    return {
        **settings.model_dump(mode="json", exclude=_NAMES | {"model", "threads"}),
        "batch": model.batch_size(row_source.rows, settings.batch),
        "flash_attn": model.flash_attn,
        **{f"model's {name}": value for name, value in facts.model_dump().items()},
        **layout(model, row_source).model_dump(),
        **{f"version of {name}": value for name, value in versions(model).items()},
        **{f"hash of the {name}": value for name, value in row_source.hashes.items()},
    }


def counts(ledger: Ledger) -> RowCounts:
    """Return the sums over a ledger; rejections are counted by validator."""
    sums = ledger.counts()
    redraws = Counter(
        rejection.validator for _, rejections in ledger.rejected() for rejection in rejections
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
    settings: AnyJobSpec,
    row_source: RowSource,
    model: LocalModel,
    facts: ModelFacts,
    ledger: Ledger,
    *,
    examples: bool = False,
) -> Manifest:
    """Return the manifest of a run whose rows are all made, without its output.

    It holds nothing of the examples unless `examples` is set, not even a hash: a short example
    could be found by hashing guesses.
    """
    found, seconds = counts(ledger), ledger.seconds
    private = frozenset() if examples else row_source.private
    certificate = row_source.certificate
    return Manifest(
        output=OutputFacts(name="", sha256=""),
        settings=settings.model_copy(
            update={
                "model": settings.model or model.name,
                "threads": model.threads,
                "batch": model.batch_size(row_source.rows, settings.batch),
                "flash_attn": model.flash_attn,
            }
        ),
        model=facts,
        hashes={name: known for name, known in row_source.hashes.items() if name not in private},
        layout=layout(model, row_source),
        versions=versions(model),
        counts=found,
        seconds=round(seconds, 3),
        rows_per_second=round(found.rows / max(seconds, 1e-3), 3),
        guarantee=None if certificate is None else certificate.guarantee,
        certificate=certificate_lines(certificate),
        json_schema=row_source.schema.json_schema,
        shards=ledger.shards(),
        examples=list(row_source.examples) if examples else None,
    )
