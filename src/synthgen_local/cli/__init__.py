"""The command line: one module a command, typer and rich here and nowhere else."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

from .. import __version__
from ..system.network import disable_telemetry
from ..system.processes import disable_core_dumps
from . import console, doctor, extract, generate, models, schema, signals, text, verify
from .unhandled_errors import explained

EPILOG = (
    "Exit codes: 0 all rows; 1 error; 2 usage; 3 model not on this machine; "
    "4 fewer rows than asked; 130 interrupted."
)

app = typer.Typer(
    help="Make synthetic data with a language model that runs on your own machine.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=generate.EPILOG)(generate.generate)
app.command(epilog=text.EPILOG)(text.text)
app.command(epilog=extract.EPILOG)(extract.extract)
app.command(epilog=schema.EPILOG)(schema.schema)
app.command(epilog=verify.EPILOG)(verify.verify)
app.add_typer(models.app, name="models")
app.command()(doctor.doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.data(f"synthgen-local {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.")
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Run the program and leave with its documented exit code."""
    console.open_streams()
    disable_telemetry()
    disable_core_dumps()
    signals.install()
    try:
        _command()
    except KeyboardInterrupt:
        console.note("Interrupted.")
        sys.exit(signals.EXIT_CODE)
    except BrokenPipeError:  # the reader of stdout has left, as `head` does
        console.drop_stdout()
        sys.exit(0)
    except Exception as error:
        console.drop_stdout()
        if {"-v", "--verbose"} & set(sys.argv):
            console.note(traceback.format_exc().rstrip())
        known = explained(error)
        console.report(known)
        sys.exit(known.exit_code)


def _command() -> None:
    """Carry out what the arguments say; whatever is printed reaches stdout before the exit."""
    try:
        app(prog_name="synthgen-local")
    except SystemExit:
        console.flush()
        raise
