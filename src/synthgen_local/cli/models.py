"""`synthgen-local models`: what is known, what is here, fetching it, and carrying it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import console
from .options import OfflineOption, OnlineOption, Threads, check_ranges, with_options

if TYPE_CHECKING:
    from ..engine.parallel_plan import BatchSettings
    from ..loading.tuning_record import TuningRecord
    from ..models.store import InstalledModel

app = typer.Typer(
    help="List, fetch, add, verify, optimise, remove and carry models.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

CARRY = """Example:

  synthgen-local models pack smollm2-135m-instruct -o bundle.tar --wheelhouse

On the other side, where nothing is installed yet:

  tar -xf bundle.tar wheels

  pip install --no-index --find-links wheels --require-hashes -r wheels/requirements.txt

  synthgen-local models unpack bundle.tar
"""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[
    str, typer.Argument(help="A catalog name, or user/repo:QUANT of the Hugging Face hub.")
]
OPTIMISE = """Example:

  synthgen-local models optimise smollm2-135m-instruct

  synthgen-local models optimise smollm2-135m-instruct --forget

Takes minutes, for a small model as well. A format is kept if it is the fastest, 1.1 times as fast
as shipped or more, and its predictions stay within a mean KL divergence of 0.01 nats a token.
int8, and bf16 where the processor multiplies it, need no file of their own: the file as shipped is
held in them.
"""

Here = Annotated[str, typer.Argument(help="A name that `models list` shows as here.")]


@app.command("list")
@with_options
def list_models(
    *,
    as_json: Json = False,
    _network: OfflineOption,
) -> None:
    """Show the models of the catalog, those that were added, and which are on this machine."""
    models = _known()
    if as_json:
        console.data_json(models)
        return
    console.table(
        ["name", "model", "quantisation", "size", "licence", "here"],
        [
            [
                model["name"] + (" (default)" if model["default"] else ""),
                model["title"],
                model["quantisation"],
                f"{model['size'] / 1e6:.0f} MB" if model["size"] else "told at pull",
                model["licence"],
                _where(model),
            ]
            for model in models
        ],
    )


@app.command()
@with_options
def pull(
    *,
    name: Name,
    revision: Annotated[
        str | None, typer.Option(help="Commit, branch or tag of the hub's repository.")
    ] = None,
    as_json: Json = False,
    _network: OnlineOption,
) -> None:
    """Fetch a model and verify it. What was cut off goes on where it stopped."""
    from ..models import resolve

    _tell(resolve.pull(name, console.note, revision=revision), as_json)


@app.command()
@with_options
def path(
    *,
    name: Annotated[
        str, typer.Argument(help="A name of `models list`, a .gguf file, or user/repo:QUANT.")
    ],
    as_json: Json = False,
    _network: OfflineOption,
) -> None:
    """Print where a model's file lies on this machine."""
    from ..models import resolve

    found = resolve.find(name)
    if as_json:
        console.data_json({"name": name, "path": str(found)})
    else:
        console.data(str(found))


@app.command()
@with_options
def add(
    *,
    file: Annotated[Path, typer.Argument(help="A .gguf file.", show_default=False)],
    name: Annotated[str, typer.Option(help="Its name from now on. Default: the file's.")] = "",
    licence: Annotated[str, typer.Option(help="Whose terms hold.")] = "not stated",
    as_json: Json = False,
    _network: OfflineOption,
) -> None:
    """Put a file into the cache under a name, hashed; linked if that can be, else copied."""
    from ..models import store

    model, how = store.add(file, name, licence)
    console.note(f"{how.capitalize()} {file}; sha256 {model.sha256}")
    _tell(model, as_json, how=how)


@app.command()
@with_options
def verify(
    *,
    name: Annotated[
        str | None, typer.Argument(help="Default: all that are here.", show_default=False)
    ] = None,
    as_json: Json = False,
    _network: OfflineOption,
) -> None:
    """Hash models' files again, optimised ones as well; exit code 1 if one is not as recorded."""
    from ..errors import ModelError
    from ..loading import tuning_record
    from ..models import store

    wanted = [store.find(name)] if name else store.list_installed()
    found: dict[str, ModelError | None] = {}
    for model in wanted:
        try:
            store.verify(model)
            tuning_record.verify_optimised(model.path)
            found[model.name] = None
        except ModelError as error:
            found[model.name] = error
        if not as_json:
            word = "damaged" if found[model.name] else "ok"
            console.tell(f"{word} {model.name} sha256 {model.sha256}")
    if as_json:
        console.data_json(
            [{"name": m.name, "sha256": m.sha256, "ok": not found[m.name]} for m in wanted]
        )
    for error_or_none in found.values():
        if error_or_none:
            raise error_or_none


@app.command(epilog=OPTIMISE)
@with_options
def optimise(
    *,
    name: Annotated[
        str, typer.Argument(help="A name of `models list`, a .gguf file, or user/repo:QUANT.")
    ],
    wanted: Annotated[
        str, typer.Option("--formats", help="Those to try, with commas between them.")
    ] = "int8,bf16,f16,q8_0,q4_0",
    threads: Threads = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Delete what was written and measured of it.")
    ] = False,
    as_json: Json = False,
    _network: OfflineOption,
) -> None:
    """Measure in which format, and how many rows at once, a model is fastest on this CPU."""
    from ..loading import tuning, tuning_record
    from ..loading.probe_cache import probe_once
    from ..models import resolve
    from ..system.cores import available_cores

    path = resolve.find(name)
    if forget:
        gone = [str(file) for file in tuning_record.delete_optimised(path)]
        if as_json:
            console.data_json({"name": name, "removed": gone})
        for file in gone:
            console.note(f"Removed {file}")
        return
    check_ranges(threads=threads)
    names = [each.strip().lower() for each in wanted.split(",")]
    with console.warnings_as_notes(quiet=False):
        kernels = probe_once(path, gpu_layers=0)
    tuned = tuning.optimise(
        path, names, threads=threads or available_cores(), kernels=kernels, note=console.note
    )
    kept = str(tuned.path(path))
    if as_json:
        console.data_json(
            {"name": name, "path": kept, **tuned.model_dump(), "verdicts": tuned.verdicts()}
        )
        return
    _show_formats(tuned)
    console.note(
        f"Opened from now on: {kept} as {tuned.format}, {tuned.size / 1e6:.0f} MB of disk and "
        f"{tuned.chosen.size / 1e6:.0f} MB of memory, {_batch(tuned.batch)} a core"
    )


@app.command()
@with_options
def remove(
    *,
    name: Here,
    as_json: Json = False,
    _network: OfflineOption,
) -> None:
    """Delete a model's file and its record from this machine."""
    from ..models import store

    model = store.remove(name)
    if as_json:
        console.data_json({"name": name, "path": str(model.path)})
    else:
        console.note(f"Removed {model.path}")


@app.command(epilog=CARRY)
@with_options
def pack(
    *,
    name: Here,
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle, a .tar file.")],
    wheelhouse: Annotated[
        bool,
        typer.Option("--wheelhouse", help="With every wheel that installs this program; uses pip."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that is no bundle.")
    ] = False,
    as_json: Json = False,
    _network: OfflineOption,
) -> None:
    """Write a model, its licence and a list of contents with hashes to one file."""
    from ..models import bundles, store

    model = store.find(name)
    contents = bundles.pack(model, output, with_wheels=wheelhouse, force=force, note=console.note)
    digest = store.sha256_of(output)
    console.note(f"sha256 {digest}, {output.stat().st_size / 1e6:.0f} MB")
    if as_json:
        facts = contents.model_dump(exclude={"model": {"licence_text"}})
        console.data_json({"path": str(output), "sha256": digest, **facts})
    else:
        console.data(str(output))


@app.command()
@with_options
def unpack(
    *,
    bundle: Annotated[Path, typer.Argument(help="What `models pack` wrote.", show_default=False)],
    wheelhouse: Annotated[
        Path | None, typer.Option(help="Put its wheels into this new folder.", show_default=False)
    ] = None,
    as_json: Json = False,
    _network: OfflineOption,
) -> None:
    """Check every byte of a bundle, then put its model into the cache."""
    from ..models import bundles

    _tell(bundles.unpack(bundle, wheels=wheelhouse, note=console.note), as_json)


def _tell(model: InstalledModel, as_json: bool, **more: str) -> None:
    """What is here now: its licence for people, its path or all facts for programs."""
    console.note(model.licence_line)
    if as_json:
        facts = model.model_dump(exclude={"licence_text", "file"})
        console.data_json({**facts, **more, "path": str(model.path)})
    else:
        console.data(str(model.path))


def _show_formats(tuned: TuningRecord) -> None:
    from ..loading.measurement import BATCHES

    speeds = [f"tokens/s,\n{_batch(batch)}".replace(", no ", ",\nno ") for batch in BATCHES]
    verdicts = tuned.verdicts()
    measured = [
        [
            found.format,
            f"{found.size / 1e6:.0f} MB",
            *(f"{speed:.0f}" if (speed := found.speed(batch)) else "" for batch in BATCHES),
            f"{found.gain:.2f}",
            f"{found.kl:.5f}",
            verdicts[found.format],
        ]
        for found in tuned.measured
    ]
    refused = [[name, *[""] * (len(speeds) + 3), why] for name, why in tuned.refused.items()]
    columns = ["format", "size", *speeds, "times as shipped", "KL, nats a token", ""]
    console.table(columns, measured + refused)


def _batch(batch: BatchSettings) -> str:
    return f"{batch.rows} rows" + ("" if batch.flash else ", no flash attention")


def _where(model: dict[str, Any]) -> str:
    """Whether a model is here, and in which other formats."""
    if not model["path"]:
        return "no"
    made = [f"{each['size'] / 1e6:.0f} MB" for each in model["optimised"]]
    return f"yes, optimised: {', '.join(made)}" if made else "yes"


def _known() -> list[dict[str, Any]]:
    """The catalog, then what was pulled, added or unpacked under other names."""
    from ..models.catalog import catalog
    from ..models.store import list_installed

    here = {model.name: model for model in list_installed()}
    known = [
        entry.model_dump(exclude={"sources", "file"}) | _place(here.pop(name, None))
        for name, entry in catalog().items()
    ]
    return known + [{"default": False} | _facts(model) for model in here.values()]


def _place(model: InstalledModel | None) -> dict[str, Any]:
    if model is None:
        return {"path": None}
    facts = _facts(model)
    names = ("size", "sha256", "repo", "revision", "path", "optimised")
    return {name: facts[name] for name in names}


def _facts(model: InstalledModel) -> dict[str, Any]:
    from ..models.store import optimised_files

    made = [file for file in optimised_files(model.path) if file.suffix == ".gguf"]
    return {
        **model.model_dump(exclude={"licence_text", "file"}),
        "path": str(model.path),
        "optimised": [{"path": str(file), "size": file.stat().st_size} for file in made],
    }
