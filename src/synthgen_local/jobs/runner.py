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
from ..engine.stop_request import StopRequest
from ..generators.stats import Tally
from ..local_model import LocalModel, ShardSelection
from .ledger import Ledger, Made, folder_of, forget
from .manifest import Manifest, describe, inputs
from .ownership import announce, refuse_replacing
from .spec import AnySettings, Work

_COMMIT = 0.5  # seconds between transactions
_PROVENANCE = {"settings", "model", "hashes", "layout", "versions", "counts", "guarantee"}

Track: TypeAlias = Callable[[Generator[Made], int], Generator[Made]]


@dataclass(frozen=True)
class Keeping:
    """What is to be kept: `fresh` forgets what is there, `run` leaves the ledger in the end.

    `force` replaces a file that no run made.
    """

    fresh: bool = False
    run: bool = False
    examples: bool = False
    force: bool = False


@dataclass(frozen=True)
class Report:
    """How a run went: its manifest and its tally, or None for a manifest if it was ended early.

    `kept` rows are in shards that are done, and will not be made again.
    """

    manifest: Manifest | None
    tally: Tally
    kept: int


def carry_out(
    settings: AnySettings,
    work: Work,
    model: LocalModel,
    output: str,
    *,
    keeping: Keeping | None = None,
    csv_safe: bool = False,
    stop: StopRequest | None = None,
    track: Track = lambda made, _rows: made,
    kept: Callable[[int], None] = lambda _: None,
) -> Report:
    """Make what is missing of a run and write its file.

    `track` sees the rows go by, with how many are to come. `kept` is told how many rows are in
    shards that are done, each time that it changes: whatever ends the run, these are not made
    again. Raises RunError if the run was begun
    with other inputs, OutputError if a file is there that no run made.

    Example: `carry_out(settings, settings.work(model, settings.read()), model, "people.jsonl")`
    """
    keeping = keeping or Keeping()
    facts = model_facts(model)
    path = Path(output)
    refuse_replacing(path, force=keeping.force)
    if keeping.fresh:
        forget(folder_of(path))
    known = inputs(settings, work, model, facts)
    private = {f"hash of the {name}" for name in work.private}
    with Ledger(folder_of(path), known, work.shards, private=private) as ledger:
        try:
            selection = ShardSelection(ledger.missing(), stop or StopRequest(), in_order=False)
            _make(work, ledger, selection, track, kept)
            tally, in_done = _tally(work, ledger), ledger.kept
            if ledger.missing():
                return Report(None, tally, in_done)
            manifest = describe(settings, work, model, facts, ledger, examples=keeping.examples)
            manifest = _write(
                manifest, work, ledger, output, csv_safe=csv_safe, force=keeping.force
            )
            if not keeping.run:
                ledger.remove()
        finally:
            if ledger.empty:
                ledger.remove()
    return Report(manifest, tally, in_done)


def _write(
    manifest: Manifest, work: Work, ledger: Ledger, output: str, *, csv_safe: bool, force: bool
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
        work.schema,
        provenance=known,
        csv_safe=csv_safe,
        scratch=folder_of(path),
        ready=ready,
    )
    facts = OutputFacts(name=readable_name(path), sha256=file_hash(path), csv_safe=csv_safe)
    manifest = manifest.model_copy(update={"output": facts})
    manifest.write(manifest_path(path), scratch=folder_of(path))
    return manifest


def _make(
    work: Work, ledger: Ledger, selection: ShardSelection, track: Track, kept: Callable[[int], None]
) -> None:
    """Put the rows of the missing shards into the ledger."""
    assert selection.shards is not None
    missing = {number: len(work.shards[number]) for number in selection.shards}
    if not missing or selection.stop.requested:
        return
    a_shard = len(work.shards[0])
    safe = ledger.kept
    kept(safe)
    committed = time.monotonic()
    batch: list[Made] = []
    try:
        with closing(track(work.make(selection), sum(missing.values()))) as rows:
            for made in rows:
                batch.append(made)
                shard = made.row // a_shard
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


def _tally(work: Work, ledger: Ledger) -> Tally:
    tally = Tally(work.rows, work.word)
    for made, rejections in ledger.accounts():
        tally.add(rejections, made=made)
    tally.made = ledger.counts().made  # most were right at once
    return tally
