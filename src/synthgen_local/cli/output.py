"""What a command makes, on its way out: to stdout or a pipe as it comes, to a file by a run.

Knows where rows go and how it went, not how they are made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..errors import InterruptedRunError, SynthgenError, UsageError
from . import console, signals

if TYPE_CHECKING:
    from ..engine.stop_request import StopRequest
    from ..generators.stats import Tally
    from ..jobs.ledger import Made
    from ..jobs.spec import AnySettings, Work
    from ..local_model import LocalModel, ShardSelection

_SOON_LOADED = 10_000_000  # bytes of weights whose first use takes no time

Step: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class Kept:
    """What is kept of what was there before and beside the file."""

    fresh: bool = False
    force: bool = False
    keep_run: bool = False
    manifest_examples: bool = False

    def given(self) -> list[str]:
        """Return the options that are set, as the user writes them."""
        return [f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value]


@dataclass(frozen=True)
class Delivery:
    """Where rows go and what is kept beside them: the options that all three commands share."""

    output: str | None
    csv_safe: bool
    kept: Kept
    quiet: bool

    @property
    def streams(self) -> bool:
        """Whether rows leave as they come: to stdout, or into a pipe."""
        from ..data.destinations import is_stream

        return self.output in (None, "-") or is_stream(str(self.output))

    def check(self, settings: AnySettings, inputs: Iterable[str]) -> None:
        """Raise UsageError or OutputError at once if rows could not go there."""
        from ..data.destinations import check_destination
        from ..jobs.ownership import refuse_inputs, refuse_replacing

        if self.output in (None, "-"):
            if self.csv_safe:
                raise UsageError("--csv-safe is for .csv files.", hint="Give one: -o rows.csv")
        else:
            check_destination(str(self.output), csv_safe=self.csv_safe)
        if self.streams:
            for option in self.kept.given():
                raise UsageError(f"{option} is for files.", hint="Name one: -o rows.jsonl")
            return
        if self.kept.manifest_examples and settings.command != "generate":
            raise UsageError("--manifest-examples is for examples.", hint="Leave it out.")
        path = Path(_behind_link(str(self.output)))
        refuse_inputs(path, settings, inputs)
        refuse_replacing(path, force=self.kept.force)


def starting(model: str) -> str:
    """Return the first step of a command, empty unless it may be the first to use a model here.

    Example: `starting("random") == ""`
    """
    if model == "random":
        return ""
    from ..models.catalog import default_model
    from ..models.resolve import cache_folder, find

    try:
        large = find(model or default_model()).stat().st_size > _SOON_LOADED
        new = large and not any((cache_folder() / "tried").glob("*.json"))
    except (SynthgenError, OSError, RuntimeError):  # the command says what is wrong
        return ""
    return "Starting; a model is tried and measured at its first use" if new else ""


def deliver(
    settings: AnySettings, delivery: Delivery, step: Step, inputs: Iterable[str] = ()
) -> None:
    """Make what is asked for, and say how it went.

    `step` is told what begins until the first row is made. `inputs` are files that were read and
    that the settings do not name. Raises TooFewRowsError when what was made is safe,
    InterruptedRunError after a signal.
    """
    delivery.check(settings, inputs)
    with console.warnings_as_notes(quiet=delivery.quiet), console.prints_as_notes():
        step("Reading the inputs")
        sources = settings.read()
        with settings.load(step) as model:
            start = time.monotonic()
            step("Preparing the grammar and the prompt")
            work = _silent_from_first_row(settings.work(model, sources), step)
            if delivery.streams:
                tally = _stream(work, delivery)
            else:
                step("Hashing the weights")
                tally = _run(settings, work, model, delivery)
            step("")
    if not delivery.quiet:
        took = time.monotonic() - start
        console.note(
            f"{delivery.output or 'stdout'}: {tally.made} {work.word} in {console.seconds(took)} "
            f"({tally.made / max(took, 1e-9):.1f} {work.word}/s), {tally.rejections} drawn again, "
            f"seed {settings.seed}, {model.name}"
        )
        for reason, share in tally.rates():
            console.note(f"Turned down {share:.1%} of the tries: {reason}")
    tally.raise_if_short()


def _silent_from_first_row(work: Work, step: Step) -> Work:
    """Return the same work; the steps end with the first row, as progress is shown then."""

    def make(selection: ShardSelection) -> Generator[Made]:
        with closing(work.make(selection)) as rows:
            for number, row in enumerate(rows):
                if number == 0:
                    step("")
                yield row

    return replace(work, make=make)


def _stream(work: Work, delivery: Delivery) -> Tally:
    from ..data.tables import write_table
    from ..generators.stats import Tally
    from ..local_model import ShardSelection

    tally = Tally(work.rows, work.word)

    def lines() -> Iterator[str]:
        made = console.tracked(
            work.make(ShardSelection()), work.rows, work.word, quiet=delivery.quiet
        )
        with closing(made):
            for row in made:
                tally.add(row.rejections, made=row.line is not None)
                if row.line is not None:
                    yield row.line

    if delivery.output in (None, "-"):
        for line in lines():
            console.data(line)
    else:
        write_table(str(delivery.output), lines(), work.schema, csv_safe=delivery.csv_safe)
    return tally


def _run(settings: AnySettings, work: Work, model: LocalModel, delivery: Delivery) -> Tally:
    from ..engine.stop_request import StopRequest
    from ..jobs.runner import Keeping, carry_out

    kept, stop = delivery.kept, StopRequest()
    with (
        console.Bar(work.rows, work.word, quiet=delivery.quiet) as bar,
        _ending(stop, lambda: _interrupted(bar.kept, work), quiet=delivery.quiet),
    ):
        report = carry_out(
            settings,
            work,
            model,
            _behind_link(str(delivery.output)),
            keeping=Keeping(kept.fresh, kept.keep_run, kept.manifest_examples, kept.force),
            csv_safe=delivery.csv_safe,
            stop=stop,
            track=lambda made, _rows: bar.counted(made),
            kept=bar.keep,
        )
    if report.manifest is None:
        raise _interrupted(report.kept, work)
    return report.tally


def _interrupted(kept: int, work: Work) -> InterruptedRunError:
    return InterruptedRunError(
        f"Interrupted: {kept} of {work.rows} {work.word} are kept.",
        hint="The same command goes on where it was; --fresh begins anew.",
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
