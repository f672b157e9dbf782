"""A run into a file: begun, gone on with, or brought to its end.

Rows go into the ledger as they come; when all shards are done the file is written whole and moved
into place, its manifest beside it. What is killed at any moment goes on by the same command and
ends in the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ..data.provenance import OutputFacts, file_hash, manifest_path, model_facts, readable_name
from ..data.tables import write_table
from ..engine.requests import Row
from ..engine.stop_request import StopRequest
from ..generators.stats import Tally
from ..local_model import LocalModel, ShardSelection
from .ledger import Ledger, discard, ledger_folder
from .manifest import Manifest, describe, inputs
from .ownership import announce, refuse_replacing
from .spec import AnyJobSpec, RowSource

_COMMIT = 0.5  # seconds between transactions
_PROVENANCE = {"settings", "model", "hashes", "layout", "versions", "counts", "guarantee"}

Track: TypeAlias = Callable[[Generator[Row[str]], int], Generator[Row[str]]]


@dataclass(frozen=True)
class Retention:
    """What is to be kept: `fresh` forgets what is there, `run` leaves the ledger in the end.

    `force` replaces a file that no run made.
    """

    fresh: bool = False
    run: bool = False
    examples: bool = False
    force: bool = False


@dataclass(frozen=True)
class JobResult:
    """How a run went: its manifest and its tally, or None for a manifest if it was ended early.

    `kept` rows are in shards that are done, and will not be made again.
    """

    manifest: Manifest | None
    tally: Tally
    kept: int


def run_job(
    settings: AnyJobSpec,
    row_source: RowSource,
    model: LocalModel,
    output: str,
    *,
    retention: Retention | None = None,
    csv_safe: bool = False,
    stop: StopRequest | None = None,
    track: Track = lambda made, _rows: made,
    kept: Callable[[int], None] = lambda _: None,
) -> JobResult:
    """Make what is missing of a run and write its file.

    `track` sees the rows go by, with how many are to come. `kept` is told how many rows are in
    shards that are done, each time that it changes: whatever ends the run, these are not made
    again. Raises RunError if the run was begun
    with other inputs, OutputError if a file is there that no run made.

    Example: `run_job(settings, settings.row_source(model, settings.read()), model, "people.jsonl")`
    """
    retention = retention or Retention()
    facts = model_facts(model)
    path = Path(output)
    refuse_replacing(path, force=retention.force)
    if retention.fresh:
        discard(ledger_folder(path))
    known = inputs(settings, row_source, model, facts)
    private = {f"hash of the {name}" for name in row_source.private}
    with Ledger(ledger_folder(path), known, row_source.shards, private=private) as ledger:
        try:
            selection = ShardSelection(ledger.missing(), stop or StopRequest(), in_order=False)
            _make(row_source, ledger, selection, track, kept)
            tally, resumable_rows = _tally(row_source, ledger), ledger.kept
            if ledger.missing():
                return JobResult(None, tally, resumable_rows)
            manifest = describe(
                settings, row_source, model, facts, ledger, examples=retention.examples
            )
            manifest = _write(
                manifest, row_source, ledger, output, csv_safe=csv_safe, force=retention.force
            )
            if not retention.run:
                ledger.remove()
        finally:
            if ledger.empty:
                ledger.remove()
    return JobResult(manifest, tally, resumable_rows)


def _write(
    manifest: Manifest,
    row_source: RowSource,
    ledger: Ledger,
    output: str,
    *,
    csv_safe: bool,
    force: bool,
) -> Manifest:
    """Put the table in its place, and then its manifest."""
    path = Path(output)

    def ready(made: Path) -> None:
        refuse_replacing(path, force=force)  # it may have come since the run began
        announce(path, made)

    known = manifest.model_dump(mode="json", include=_PROVENANCE)
    if manifest.model.licence is not None:
        known["licence"] = manifest.model.licence
    write_table(
        output,
        ledger.lines(),
        row_source.schema,
        provenance=known,
        csv_safe=csv_safe,
        scratch=ledger_folder(path),
        ready=ready,
    )
    facts = OutputFacts(name=readable_name(path), sha256=file_hash(path), csv_safe=csv_safe)
    manifest = manifest.model_copy(update={"output": facts})
    manifest.write(manifest_path(path), scratch=ledger_folder(path))
    return manifest


def _make(
    row_source: RowSource,
    ledger: Ledger,
    selection: ShardSelection,
    track: Track,
    kept: Callable[[int], None],
) -> None:
    """Put the rows of the missing shards into the ledger."""
    assert selection.shards is not None
    missing = {number: len(row_source.shards[number]) for number in selection.shards}
    if not missing or selection.stop.requested:
        return
    a_shard = len(row_source.shards[0])
    safe = ledger.kept
    kept(safe)
    committed = time.monotonic()
    batch: list[Row[str]] = []
    try:
        with closing(track(row_source.make(selection), sum(missing.values()))) as rows:
            for row in rows:
                batch.append(row)
                shard = row.number // a_shard
                missing[shard] -= 1
                if missing[shard] and time.monotonic() < committed + _COMMIT:
                    continue
                now = time.monotonic()
                ledger.add(batch, now - committed)
                batch, committed = [], now
                if not missing[shard]:
                    safe += ledger.finish_shard(shard)
                    kept(safe)
    finally:
        ledger.add(batch, time.monotonic() - committed)


def _tally(row_source: RowSource, ledger: Ledger) -> Tally:
    tally = Tally(row_source.rows, row_source.word)
    for made, rejections in ledger.rejected():
        tally.add(rejections, made=made)
    tally.made = ledger.counts().made  # most were right at once
    return tally
