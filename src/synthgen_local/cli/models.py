"""`synthgen-local models`: what is known, what is here, and fetching it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import console
from .options import Offline, Online

app = typer.Typer(help="List, fetch and find models.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[
    str, typer.Argument(help="A catalog name, or user/repo:QUANT of the Hugging Face hub.")
]


@app.command("list")
def list_models(
    as_json: Json = False,
    offline: Offline = None,  # noqa: ARG001 its callback closes the network
) -> None:
    """Show the models of the catalog and which are on this machine."""
    models = [_facts(name) for name in _catalog()]
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
                f"{model['size'] / 1e6:.0f} MB",
                model["licence"],
                "yes" if model["path"] else "no",
            ]
            for model in models
        ],
    )


@app.command()
def pull(
    name: Name,
    as_json: Json = False,
    offline: Online = False,  # noqa: ARG001 its callback closes the network
) -> None:
    """Fetch a model and verify it. The only command that uses the network."""
    from ..models import sources

    path = sources.pull(name, console.note)
    if as_json:
        console.data_json({"name": name, "path": str(path)})
    else:
        console.data(str(path))


@app.command()
def path(
    name: Annotated[str, typer.Argument(help="A catalog name, a .gguf file, or user/repo:QUANT.")],
    as_json: Json = False,
    offline: Offline = None,  # noqa: ARG001 its callback closes the network
) -> None:
    """Print where a model's file lies on this machine."""
    from ..models import sources

    found = sources.find(name)
    if as_json:
        console.data_json({"name": name, "path": str(found)})
    else:
        console.data(str(found))


def _catalog() -> list[str]:
    from ..models.catalog import catalog

    return list(catalog())


def _facts(name: str) -> dict[str, Any]:
    from ..errors import ModelError
    from ..models.catalog import catalog
    from ..models.sources import find

    entry = catalog()[name]
    try:
        where: str | None = str(find(name))
    except ModelError:
        where = None
    return {**entry.model_dump(exclude={"sources", "file"}), "path": where}
