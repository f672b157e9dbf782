"""The runner of jobs that write a file: start, resume, finish.

Finished rows are added to the ledger. When all shards are done the file is written atomically, and
then its manifest. A run that was killed resumes with the same command and writes the same bytes.
Knows ledgers and files; knows no command line.
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
    """Choices of what is kept and replaced.

    `fresh` deletes an existing ledger first, `run` keeps the ledger at the end, `examples` puts
    the examples into the manifest, `force` replaces a file that no run wrote.
    """

    fresh: bool = False
    run: bool = False
    examples: bool = False
    force: bool = False


@dataclass(frozen=True)
class JobResult:
    """The result of a run: its tally, and its manifest unless it was interrupted.

    `kept` is the number of rows in shards that are done.
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
    """Generate the missing rows of a run and write its file.

    `track` wraps the iterator of rows, given their number. `kept` is called with the number of
    rows in shards that are done each time it changes: a later run does not generate them again.
    Raises RunError if the run was started with other inputs, OutputError if `output` exists and
    no run wrote it.

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
    """Write the table atomically, then its manifest."""
    path = Path(output)

    def ready(made: Path) -> None:
        refuse_replacing(path, force=force)  # it may have been created since the run started
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
    """Generate the rows of the missing shards and add them to the ledger."""
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
    tally.made = ledger.counts().made  # rows without rejections are not in `rejected`
    return tally
