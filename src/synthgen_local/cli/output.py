"""What a command makes, on its way out: to stdout or a pipe as it comes, to a file by a run.

Knows where rows go and how it went, not how they are made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..errors import InterruptedRunError, SynthgenError, UsageError
from . import console, signals
from .options import OutputOptions

if TYPE_CHECKING:
    from ..engine.requests import Row
    from ..engine.stop_request import StopRequest
    from ..generators.stats import Tally
    from ..jobs.spec import AnyJobSpec, RowSource
    from ..local_model import LocalModel, ShardSelection

_SOON_LOADED = 10_000_000  # bytes of weights whose first use takes no time

Step: TypeAlias = Callable[[str], None]


def _is_stream(options: OutputOptions) -> bool:
    """Return whether rows are written as they are made: to stdout or into a pipe."""
    from ..data.destinations import is_stream

    return options.output in (None, "-") or is_stream(str(options.output))


def _check_destination(options: OutputOptions, settings: AnyJobSpec, inputs: Iterable[str]) -> None:
    """Raise UsageError or OutputError if the options do not fit together or to the destination."""
    from ..data.destinations import check_destination
    from ..jobs.ownership import refuse_inputs, refuse_replacing

    if options.output in (None, "-"):
        if options.csv_safe:
            raise UsageError(
                "--csv-safe applies to .csv files, but the output is stdout.",
                hint="Name a file: -o rows.csv",
            )
    else:
        check_destination(str(options.output), csv_safe=options.csv_safe)
    if _is_stream(options):
        for option in options.for_files():
            raise UsageError(
                f"{option} applies to files, but the output is a stream.",
                hint="Name a file: -o rows.jsonl",
            )
        return
    if options.manifest_examples and settings.command != "generate":
        raise UsageError(
            f"--manifest-examples applies to generate, not to {settings.command}.",
            hint="Remove the option.",
        )
    path = Path(_behind_link(str(options.output)))
    refuse_inputs(path, settings, inputs)
    refuse_replacing(path, force=options.force)


def starting(model: str) -> str:
    """Return the first step of a command, empty unless it may be the first to use a model here.

    Example: `starting("random") == ""`
    """
    if model == "random":
        return ""
    from ..models.catalog import default_model
    from ..models.resolve import cache_dir, find

    try:
        large = find(model or default_model()).stat().st_size > _SOON_LOADED
        new = large and not any((cache_dir() / "tried").glob("*.json"))
    except (SynthgenError, OSError, RuntimeError):  # the command says what is wrong
        return ""
    return "Starting; a model is tried and measured at its first use" if new else ""


def write_output(
    settings: AnyJobSpec, options: OutputOptions, step: Step, inputs: Iterable[str] = ()
) -> None:
    """Make the rows of a job, write them and print a summary.

    `step` receives the name of each step until the first row is made. `inputs` are files that were
    read and that the settings do not name. Raises TooFewRowsError after all rows that were made
    are written, InterruptedRunError after a signal.
    """
    _check_destination(options, settings, inputs)
    with console.warnings_as_notes(quiet=options.quiet), console.prints_as_notes():
        step("Reading the inputs")
        sources = settings.read()
        with settings.load(step) as model:
            start = time.monotonic()
            step("Preparing the grammar and the prompt")
            row_source = _silent_from_first_row(settings.row_source(model, sources), step)
            if _is_stream(options):
                tally = _stream(row_source, options)
            else:
                step("Hashing the weights")
                tally = _run(settings, row_source, model, options)
            step("")
    if not options.quiet:
        name = f"seed {settings.seed}, {model.name}"
        _print_summary(tally, row_source.word, options, time.monotonic() - start, name)
    tally.raise_if_short()


def _print_summary(tally: Tally, word: str, options: OutputOptions, took: float, name: str) -> None:
    rate = tally.made / max(took, 1e-9)
    console.note(
        f"{options.output or 'stdout'}: {tally.made} {word} in {console.seconds(took)} "
        f"({rate:.1f} {word}/s), {tally.rejections} resampled, {name}"
    )
    for reason, share in tally.rates():
        console.note(f"Rejected {share:.1%} of the attempts: {reason}")


def _silent_from_first_row(row_source: RowSource, step: Step) -> RowSource:
    """Return the same work; the steps end with the first row, as progress is shown then."""

    def make(selection: ShardSelection) -> Generator[Row[str]]:
        with closing(row_source.make(selection)) as rows:
            for number, row in enumerate(rows):
                if number == 0:
                    step("")
                yield row

    return replace(row_source, make=make)


def _stream(row_source: RowSource, options: OutputOptions) -> Tally:
    from ..data.tables import write_table
    from ..generators.stats import Tally
    from ..local_model import ShardSelection

    tally = Tally(row_source.rows, row_source.word)

    def lines() -> Iterator[str]:
        made = console.tracked(
            row_source.make(ShardSelection()), row_source.rows, row_source.word, quiet=options.quiet
        )
        with closing(made):
            for row in made:
                tally.add(row.rejections, made=row.made)
                if row.value is not None:
                    yield row.value

    if options.output in (None, "-"):
        for line in lines():
            console.data(line)
    else:
        write_table(str(options.output), lines(), row_source.schema, csv_safe=options.csv_safe)
    return tally


def _run(
    settings: AnyJobSpec, row_source: RowSource, model: LocalModel, options: OutputOptions
) -> Tally:
    from ..engine.stop_request import StopRequest
    from ..jobs.runner import Retention, run_job

    stop = StopRequest()
    with (
        console.Bar(row_source.rows, row_source.word, quiet=options.quiet) as bar,
        _ending(stop, lambda: _interrupted(bar.kept, row_source), quiet=options.quiet),
    ):
        report = run_job(
            settings,
            row_source,
            model,
            _behind_link(str(options.output)),
            retention=Retention(
                options.fresh, options.keep_run, options.manifest_examples, options.force
            ),
            csv_safe=options.csv_safe,
            stop=stop,
            track=lambda made, _rows: bar.counted(made),
            kept=bar.keep,
        )
    if report.manifest is None:
        raise _interrupted(report.kept, row_source)
    return report.tally


def _interrupted(kept: int, row_source: RowSource) -> InterruptedRunError:
    return InterruptedRunError(
        f"Interrupted: {kept} of {row_source.rows} {row_source.word} are kept.",
        hint="The same command resumes; --fresh starts again.",
    )


def _ending(
    stop: StopRequest, error: Callable[[], InterruptedRunError], *, quiet: bool
) -> AbstractContextManager[None]:
    """Let the first signal end a run in good order."""
    from ..engine.stop_request import GRACE_PERIOD

    def action() -> None:
        stop.request()
        if not quiet:
            signals.say(
                f"Interrupted: work in hand has {GRACE_PERIOD:.0f} s more; "
                "a second signal ends at once."
            )

    def last_words() -> str:
        return f"Error: {error()}\nHint: {error().hint}"

    return signals.ending(action, 2 * GRACE_PERIOD, last_words)


def _behind_link(output: str) -> str:
    """A link stays one: the file that it names is written."""
    path = Path(output)
    return str(path.resolve()) if path.is_symlink() else output
