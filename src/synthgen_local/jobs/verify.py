"""Verification of a file against its manifest, and replay of shards to compare their rows.

Knows manifests, tables and job specs; knows no command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from ..data.provenance import file_hash, model_facts, shard_hash, versions
from ..data.readers import lines_as_kept, read_table
from ..data.tables import row_line
from ..errors import ModelError, RunError
from ..local_model import LocalModel, ShardSelection
from ..models.resolve import find
from ..models.store import optimised_file
from ..schema import RowSchema, load_schema
from .manifest import Manifest, layout, read_manifest
from .spec import AnyJobSpec, ExtractJobSpec, GenerateJobSpec, RowSource, with_weight

Note: TypeAlias = Callable[[str], None]

_HINT = "The file was changed after the run: find out by whom, or generate it again."
_DISAGREES = "Its hash is the manifest's: the check or the manifest is wrong."


def verify(output: Path, note: Note, *, model: str = "", source: str = "") -> Manifest:
    """Check the bytes of a file, each of its rows, and the weights if they are here.

    Rows are validated with the JSON Schema of the manifest, or with the schema that `source`
    names, whose code is executed. `model` is the present name or path of the weights. `note`
    receives a line for each check that passed. Raises RunError for the first that failed.

    Example: `verify(Path("people.jsonl"), print)`
    """
    manifest = read_manifest(output)
    if not output.exists():
        raise RunError(f"{output} does not exist.", hint="Only its manifest is.")
    if file_hash(output) != manifest.output.sha256:
        raise RunError(f"{output} has other bytes than its manifest says.", hint=_HINT)
    note(f"{output} has the manifest's SHA-256, {manifest.output.sha256}")
    note(f"{_valid_rows(output, manifest, source)} rows are valid")
    _check_weights(manifest, model, note)
    return manifest


def replay(
    output: Path,
    manifest: Manifest,
    shards: int,
    note: Note,
    *,
    model: str = "",
    source: str = "",
    inputs: str = "",
) -> None:
    """Decode `shards` of a run's shards again, evenly spread, and compare them with the file.

    `inputs` is the present path of the examples, records or passages. The schema's code is
    executed. Raises RunError if a row differs or the inputs changed.

    Example: `replay(output, verify(output, print), 5, print)`
    """
    settings = _with_locations(manifest, model, source, inputs)
    with settings.load() as loaded:
        row_source = settings.row_source(loaded, settings.read())
        _check_inputs(output, manifest, row_source, loaded, note)
        chosen = _spread(len(manifest.shards), shards)
        rows_schema = RowSchema.of(manifest.json_schema)
        found = _rows_of(output, manifest, chosen)
        again = _made_again(row_source, chosen)
        for number, lines in zip(chosen, found, strict=True):
            rows, known = row_source.shards[number], manifest.shards[number]
            made = again[number]
            kept = lines_as_kept(output, (line for line in made if line is not None), rows_schema)
            same = _normal(kept, row_source.schema) == _normal(lines, row_source.schema)
            if shard_hash(made) != known.sha256 or not same:
                raise RunError(
                    f"{output}: rows {rows.start + 1} to {rows.stop} differ when decoded again.",
                    hint="Rows, examples, weights, build or CPU differ, "
                    "or the manifest was edited.",
                )
            note(f"Rows {rows.start + 1} to {rows.stop} are reproduced")


def _with_locations(manifest: Manifest, model: str, source: str, inputs: str) -> AnyJobSpec:
    """Return the settings with present paths; weights are loaded in the format of the run."""
    settings = manifest.settings
    changes = {"model": model} if model else {}
    as_shipped = manifest.model.opened_as in (
        None,
        "as-shipped",
    )  # others may have been converted in memory
    if as_shipped and manifest.model.opened_sha256 == manifest.model.sha256:
        changes["weights"] = "as-shipped"
    if source and isinstance(settings, GenerateJobSpec | ExtractJobSpec):
        changes["source"] = source
    if inputs:
        names = {"generate": "examples", "text": "records", "extract": "passages"}
        changes[names[settings.command]] = inputs
    return settings.model_copy(update=changes)


def _check_inputs(
    output: Path, manifest: Manifest, row_source: RowSource, loaded: LocalModel, note: Note
) -> None:
    facts = model_facts(loaded)
    known = {**manifest.hashes, "model": manifest.model.sha256, "device": manifest.model.device}
    unsaid = row_source.private - known.keys()  # a replay compares the rows instead
    hashes = {name: value for name, value in row_source.hashes.items() if name not in unsaid}
    now = {**hashes, "model": facts.sha256, "device": facts.device}
    changed = [name for name in sorted(known | now) if known.get(name) != now.get(name)]
    if layout(loaded, row_source) != manifest.layout or len(manifest.shards) != len(
        row_source.shards
    ):
        changed.append("layout")
    if changed:
        raise RunError(
            f"{output} was made from other inputs: {', '.join(changed)}.",
            hint="Give those of its manifest: see --model, --schema and --inputs.",
        )
    now_versions = versions(loaded) | {"weights as loaded": facts.opened_sha256 or ""}
    then = manifest.versions | {"weights as loaded": manifest.model.opened_sha256 or ""}
    others = [f"{name} {value}" for name, value in now_versions.items() if then[name] != value]
    if others:
        note(f"This is another build, whose rounding may differ: {', '.join(others)}")


def _made_again(row_source: RowSource, chosen: Sequence[int]) -> dict[int, list[str | None]]:
    """Decode shards; return the lines of each in row order."""
    lines: dict[int, str | None] = {}
    with closing(row_source.make(ShardSelection(chosen))) as rows:
        for row in rows:
            lines[row.number] = row.value
    return {shard: [lines[row] for row in row_source.shards[shard]] for shard in chosen}


def _rows_of(output: Path, manifest: Manifest, chosen: Sequence[int]) -> Iterator[list[str]]:
    """Yield the file's rows of each chosen shard, in the order of the file."""
    schema = RowSchema.of(manifest.json_schema)
    _, lines = read_table(output, schema, csv_safe=manifest.output.csv_safe)
    for number, shard in enumerate(manifest.shards):
        rows = list(islice(lines, shard.made))
        if number in chosen:
            yield rows


def _normal(lines: Iterable[str], schema: RowSchema) -> list[str]:
    """Return rows as text that does not depend on the file's format."""
    return [row_line(schema.parse(line), schema) for line in lines]


def _spread(shards: int, wanted: int) -> Sequence[int]:
    """Return shard numbers at equal distances, the first and the last among them."""
    chosen = min(shards, wanted)
    if chosen <= 1:
        return range(chosen)
    return [round(index * (shards - 1) / (chosen - 1)) for index in range(chosen)]


def _valid_rows(output: Path, manifest: Manifest, source: str) -> int:
    schema = _schema(manifest, source)
    count = 0
    _, lines = read_table(output, schema, csv_safe=manifest.output.csv_safe)
    exact = output.suffix.lower() == ".jsonl"
    for number, shard in enumerate(manifest.shards):
        rows = list(islice(lines, shard.made))
        for line in rows:
            count += 1
            try:
                schema.parse(line)
            except ValueError as error:
                why = f"{output}: row {count} is not valid: {error}"
                raise RunError(why, hint=_DISAGREES) from None
        if len(rows) < shard.made or (exact and shard_hash(rows) != shard.sha256):
            raise RunError(
                f"{output}: the rows of shard {number} differ from the hash in the manifest.",
                hint=_DISAGREES,
            )
    if next(lines, None) is not None or count != manifest.counts.rows:
        raise RunError(
            f"{output} has {count} rows or more; its manifest says {manifest.counts.rows}.",
            hint=_DISAGREES,
        )
    return count


def _schema(manifest: Manifest, source: str) -> RowSchema:
    """Return the JSON Schema of the manifest, or the schema that `source` names."""
    settings = manifest.settings
    if not source or not isinstance(settings, GenerateJobSpec):
        return RowSchema.of(manifest.json_schema)
    schema = load_schema(source)
    weighted = settings.sampling == "weighted"
    known = with_weight(schema) if weighted else schema
    if known.json_schema != manifest.json_schema:
        raise RunError(
            f"{source} is not the schema of the run.", hint="Give the one it was made with."
        )
    return known


def _check_weights(manifest: Manifest, model: str, note: Note) -> None:
    """Compare the hash of the file as shipped, and of the optimised one that was loaded."""
    if manifest.model.sha256 is None:
        return
    try:
        path = find(model or manifest.settings.model or manifest.model.name)
    except ModelError as error:
        if model:
            raise
        note(f"The weights were not checked: {error}")
        return
    wanted = [(path, manifest.model.sha256)]
    opened = manifest.model.opened_sha256
    if opened is not None and optimised_file(path, opened).is_file():
        wanted.append((optimised_file(path, opened), opened))
    for file, known in wanted:
        if file_hash(file) != known:
            raise RunError(
                f"{file} is not the weights file of the run.",
                hint="Fetch the model again; delete an optimised file: models optimise --forget.",
            )
        note(f"{file} has the manifest's SHA-256, {known}")
