"""Whether a file is what its manifest says, and comes out the same when it is made again.

Knows manifests, tables and settings; says what it finds, line by line.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

from ..errors import ModelError, RunError, SchemaError
from ..local_model import Part
from ..models.sources import find
from ..schema import RowSchema
from ..tables import read_table
from .ledger import Made, shard_hash
from .manifest import Manifest, file_hash, model_facts, read_manifest, versions
from .settings import GenerateSettings, Settings

Note: TypeAlias = Callable[[str], None]

_HINT = "It is not what the run has made: find out who changed it, or make it again."


def verify(output: Path, note: Note, *, model: str = "", source: str = "") -> Manifest:
    """Check the bytes of a file, each of its rows, and the weights if they are here.

    `model` and `source` say where weights and schema lie now, if not where they did. `note` gets
    a line for each check that has passed. Raises RunError for what is not as the manifest says.

    Example: `verify(Path("people.jsonl"), print)`
    """
    manifest = read_manifest(output)
    if not output.exists():
        raise RunError(f"{output} is not there.", hint="Only its manifest is.")
    if file_hash(output) != manifest.output.sha256:
        raise RunError(f"{output} has other bytes than its manifest says.", hint=_HINT)
    note(f"{output} has the manifest's SHA-256, {manifest.output.sha256}")
    note(f"{_valid_rows(output, manifest, source, note)} rows are valid")
    _check_weights(manifest, model, note)
    return manifest


def replay(
    output: Path, manifest: Manifest, shards: int, note: Note, *, model: str = "", source: str = ""
) -> None:
    """Decode some of a run's shards again, spread over it, and compare the bytes.

    Raises RunError if one differs, or if the inputs have changed.

    Example: `replay(output, verify(output, print), 5, print)`
    """
    settings = manifest.settings
    changes = {"model": model or settings.model} | ({"source": source} if source else {})
    settings = settings.model_copy(update=changes)
    with settings.load() as loaded:
        work = settings.work(loaded, settings.read())
        facts = model_facts(loaded)
        known = {**manifest.hashes, "model": manifest.model.sha256 or ""}
        now = {**work.hashes, "model": facts.sha256 or ""}
        changed = [name for name in sorted(known | now) if known.get(name) != now.get(name)]
        if changed:
            raise RunError(
                f"{output} was made from other inputs: {', '.join(changed)}.",
                hint="Give those of its manifest: see --model and --schema.",
            )
        others = [
            f"{name} {value} ({manifest.versions.get(name)} then)"
            for name, value in versions(loaded).items()
            if manifest.versions.get(name) != value
        ]
        if others:
            note(f"This is another build, whose rounding may differ: {', '.join(others)}")
        for number in _spread(len(manifest.shards), shards):
            rows = work.shards[number]
            lines = _made_again(work.make(Part([number])))
            if shard_hash(lines) != manifest.shards[number]:
                raise RunError(
                    f"{output}: rows {rows.start + 1} to {rows.stop} come out otherwise now.",
                    hint="The weights, the build or the CPU differ, or the manifest was edited.",
                )
            note(f"Rows {rows.start + 1} to {rows.stop} come out the same")


def _made_again(rows: Generator[Made]) -> list[str | None]:
    with closing(rows):
        return [made.line for made in rows]


def _spread(shards: int, wanted: int) -> Sequence[int]:
    """The first, the last, and others at equal distances."""
    chosen = min(shards, wanted)
    if chosen <= 1:
        return range(chosen)
    return [round(index * (shards - 1) / (chosen - 1)) for index in range(chosen)]


def _valid_rows(output: Path, manifest: Manifest, source: str, note: Note) -> int:
    schema = _schema(manifest, source, note)
    count = 0
    _, lines = read_table(output, schema, csv_safe=manifest.output.csv_safe)
    for count, line in enumerate(lines, 1):
        try:
            schema.parse(line)
        except ValueError as error:
            raise RunError(f"{output}: row {count} is not valid: {error}", hint=_HINT) from None
    if count != manifest.counts.rows:
        raise RunError(
            f"{output} has {count} rows where its manifest says {manifest.counts.rows}.", hint=_HINT
        )
    return count


def _schema(manifest: Manifest, source: str, note: Note) -> RowSchema:
    """The user's own schema with its validators, or else the JSON Schema of the manifest."""
    settings = manifest.settings
    if isinstance(settings, GenerateSettings):
        try:
            from ..schema import load_schema

            schema = load_schema(source or settings.source)
            if schema.json_schema == manifest.json_schema:
                return schema
            raise RunError(
                f"{source or settings.source} is another schema than the run's.",
                hint="Give the one it was made with: --schema.",
            )
        except SchemaError as error:
            if source:
                raise
            note(f"Rows are held against the manifest's JSON Schema, not the class: {error}")
    return RowSchema.of(manifest.json_schema)


def _check_weights(manifest: Manifest, model: str, note: Note) -> None:
    known, settings = manifest.model.sha256, manifest.settings
    assert isinstance(settings, Settings)
    if known is None:
        return
    try:
        path = find(model or settings.model or manifest.model.name)
    except ModelError as error:
        if model:
            raise
        note(f"The weights were not checked: {error}")
        return
    if file_hash(path) != known:
        raise RunError(
            f"{path} has other bytes than the weights of the run.", hint="Fetch the model again."
        )
    note(f"{path} has the manifest's SHA-256, {known}")
