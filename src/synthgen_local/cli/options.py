"""The options that several commands share, as dataclasses; `with_options` makes parameters of them.

Knows typer, not what the options lead to.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, get_type_hints

import typer

from ..errors import UsageError
from . import console

Schema = Annotated[
    str,
    typer.Argument(
        help="file.py:Class or package.module:Class (their code is executed), a .json schema, "
        "or fields such as 'name, age int'."
    ),
]
Threads = Annotated[int | None, typer.Option(help="CPU threads. Default: all cores.")]


def _close(context: typer.Context, wanted: bool | None) -> bool | None:
    """Close the network while options are parsed: before a command has imported anything."""
    fetches = context.params.get("wheelhouse") is True  # `models pack`, by pip
    if wanted is False or (wanted is None and fetches):
        return wanted
    from ..system.network import close_network

    closed = close_network(kernel_required=wanted is True)
    if not closed.kernel and not context.params.get("quiet"):
        console.note(
            "Note: this kernel cannot block the network; only Python's own sockets are blocked."
        )
    return wanted


_OFFLINE = ("--offline/--no-offline",)
_ENVIRONMENT = "SYNTHGEN_LOCAL_OFFLINE"


@dataclass(frozen=True)
class LimitOptions:
    """Default limits of values that the schema does not bound."""

    max_length: Annotated[
        int | None, typer.Option(help="Maximum length of strings that the schema does not bound.")
    ] = None
    max_items: Annotated[
        int | None, typer.Option(help="Maximum size of arrays that the schema does not bound.")
    ] = None


@dataclass(frozen=True)
class EngineOptions:
    """Selection of the model and of how it is executed."""

    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="A catalog name, a .gguf file, user/repo:QUANT, or random."
        ),
    ] = ""
    seed: Annotated[int, typer.Option(help="Random seed; equal seeds give equal rows.")] = 0
    batch: Annotated[int | None, typer.Option(help="Number of rows decoded together.")] = None
    threads: Threads = None
    gpu_layers: Annotated[
        int | None,
        typer.Option(
            help="Number of layers on the GPU. Default: all, if this build has GPU support."
        ),
    ] = None
    weights: Annotated[
        Literal["fast", "as-shipped"],
        typer.Option(
            help="fast: the format that `models optimise` selected; a small model is measured "
            "briefly at first use."
        ),
    ] = "fast"
    flash_attn: Annotated[
        Literal["auto", "on", "off"],
        typer.Option(
            help="Flash attention of llama.cpp. auto: the faster one if it was measured, else on."
        ),
    ] = "auto"


@dataclass(frozen=True)
class OutputOptions:
    """Destination of the rows, and treatment of files that exist there."""

    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help=".jsonl, .csv, .parquet, or a folder/ for Hugging Face datasets. "
            "Default, or -: JSON Lines on stdout.",
        ),
    ] = None
    csv_safe: Annotated[
        bool,
        typer.Option("--csv-safe", help="Escape .csv cells that a spreadsheet reads as formulas."),
    ] = False
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Discard an unfinished job of the same output file.")
    ] = False
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Replace an existing file that no job wrote. Input files are never replaced.",
        ),
    ] = False
    keep_run: Annotated[
        bool, typer.Option("--keep-run", help="Keep the job's ledger beside the output file.")
    ] = False
    manifest_examples: Annotated[
        bool, typer.Option("--manifest-examples", help="Include the examples in the manifest.")
    ] = False
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but errors on stderr.")
    ] = False

    def for_files(self) -> list[str]:
        """Return the options that are set and apply to files only, as the user writes them."""
        names = ("fresh", "force", "keep_run", "manifest_examples")
        return [_option(name) for name in names if getattr(self, name)]


@dataclass(frozen=True)
class OfflineOption:
    """Closing of the network, which the option's callback does during parsing."""

    offline: Annotated[
        bool | None,
        typer.Option(
            *_OFFLINE,
            envvar=_ENVIRONMENT,
            callback=_close,
            help="Block network access. Default: as far as this system can; "
            "--offline: fail if the kernel cannot.",
        ),
    ] = None


@dataclass(frozen=True)
class OnlineOption:
    """The same option for a command that downloads."""

    offline: Annotated[
        bool,
        typer.Option(
            *_OFFLINE,
            envvar=_ENVIRONMENT,
            callback=_close,
            show_default=True,
            help="Block network access.",
        ),
    ] = False


@dataclass(frozen=True)
class CommonOptions(OfflineOption):
    """Options of every command that reads a schema; main() looks for --verbose after a failure."""

    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.")
    ] = False


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter that is annotated with a dataclass by the dataclass's fields.

    typer reads the fields as options; the command receives the dataclass again.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters.values()
    groups = {p.name: hints[p.name] for p in parameters if is_dataclass(hints[p.name])}

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{each.name: values.pop(each.name) for each in fields(group)})
        command(**values)

    expanded = [
        each
        for parameter in parameters
        for each in (
            _field_parameters(groups[parameter.name])
            if parameter.name in groups
            else [parameter.replace(kind=_KEYWORD, annotation=hints[parameter.name])]
        )
    ]
    run.__signature__ = inspect.Signature(expanded)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in expanded}
    return run


_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def _field_parameters(group: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for each in fields(group):
        default = inspect.Parameter.empty if each.default is MISSING else each.default
        yield inspect.Parameter(each.name, _KEYWORD, default=default, annotation=hints[each.name])


_LOWEST = {
    "rows": 0,
    "seed": 0,
    "temperature": 0,
    "batch": 1,
    "threads": 1,
    "max_length": 1,
    "max_items": 1,
    "least": 0,
    "most": 1,
}


def check_ranges(**values: Any) -> None:
    """Raise UsageError for an option whose number is out of its range.

    Values without a range are ignored.

    Example: `check_ranges(rows=10, batch=None)`
    """
    from ..system.cores import available_cores
    from ..system.processes import check_threads

    check_threads(available_cores() - 1)  # those of numpy's OpenBLAS, before it is imported
    from ..engine.parallel_plan import MAX_ROWS, MAX_THREADS

    check_minimums(**values)
    for name, highest in (("rows", MAX_ROWS), ("batch", MAX_ROWS), ("threads", MAX_THREADS)):
        value = values.get(name)
        if value is not None and value > highest:
            raise UsageError(
                f"{_option(name)} must be at most {highest}, got {value}.",
                hint=f"Use {highest} or less.",
            )


def check_minimums(**values: Any) -> None:
    """Raise UsageError for an option whose number is less than its minimum.

    Example: `check_minimums(max_length=40, max_items=None)`
    """
    for name, lowest in _LOWEST.items():
        value = values.get(name)
        if value is not None and not value >= lowest:
            raise UsageError(
                f"{_option(name)} must be at least {lowest}, got {value}.",
                hint=f"Use {lowest} or more.",
            )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
