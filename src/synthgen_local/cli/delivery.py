"""What a command makes, on its way out: to stdout or a pipe as it comes, to a file by a run.

Knows where rows go and how it went, not how they are made.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InterruptedRunError, UsageError
from . import console

if TYPE_CHECKING:
    from ..engine.parallel import Halt
    from ..local_model import LocalModel
    from ..runs.ledger import Made
    from ..runs.settings import AnySettings, Work
    from ..tabular import Tally


@dataclass(frozen=True)
class Delivery:
    """Where rows go and what is kept beside them: the options that all three commands share."""

    output: str | None
    csv_safe: bool
    fresh: bool
    keep_run: bool
    manifest_examples: bool
    quiet: bool

    @property
    def streams(self) -> bool:
        """Whether rows leave as they come: to stdout, or into a pipe."""
        from ..tables import is_stream

        return self.output in (None, "-") or is_stream(str(self.output))

    def check(self) -> None:
        """Raise UsageError or OutputError at once if rows could not go there."""
        from ..tables import check_destination

        if self.output in (None, "-"):
            if self.csv_safe:
                raise UsageError("--csv-safe is for .csv files.", hint="Give one: -o rows.csv")
        else:
            check_destination(str(self.output), csv_safe=self.csv_safe)
        kept = {
            "--fresh": self.fresh,
            "--keep-run": self.keep_run,
            "--manifest-examples": self.manifest_examples,
        }
        for option, given in kept.items():
            if given and self.streams:
                raise UsageError(f"{option} is for files.", hint="Name one: -o rows.jsonl")


def deliver(settings: AnySettings, delivery: Delivery) -> None:
    """Make what is asked for, and say how it went.

    Raises TooFewRowsError when what was made is safe, InterruptedRunError after a signal.
    """
    from ..engine.parallel import Halt

    delivery.check()
    if delivery.manifest_examples and settings.command != "generate":
        raise UsageError("--manifest-examples is for examples.", hint="Leave it out.")
    with console.warnings_as_notes(quiet=delivery.quiet), console.prints_as_notes():
        sources = settings.read()
        halt = Halt()
        with nullcontext() if delivery.streams else _ending(halt), settings.load() as model:
            start = time.monotonic()
            work = settings.work(model, sources)
            if delivery.streams:
                tally = _stream(work, delivery)
            else:
                tally = _run(settings, work, model, delivery, halt)
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


def _stream(work: Work, delivery: Delivery) -> Tally:
    from ..local_model import Part
    from ..tables import write_table
    from ..tabular import Tally

    tally = Tally(work.rows, work.word)

    def lines() -> Iterator[str]:
        made = console.tracked(work.make(Part()), work.rows, work.word, quiet=delivery.quiet)
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


def _run(
    settings: AnySettings, work: Work, model: LocalModel, delivery: Delivery, halt: Halt
) -> Tally:
    from ..runs.run import Keeping, carry_out

    def track(made: Generator[Made], rows: int) -> Generator[Made]:
        return console.tracked(made, rows, work.word, quiet=delivery.quiet)

    report = carry_out(
        settings,
        work,
        model,
        _behind_link(str(delivery.output)),
        keeping=Keeping(delivery.fresh, delivery.keep_run, delivery.manifest_examples),
        csv_safe=delivery.csv_safe,
        halt=halt,
        track=track,
    )
    if report.manifest is None:
        raise InterruptedRunError(
            f"Interrupted: {report.kept} of {work.rows} {work.word} are kept.",
            hint="The same command goes on where it was; --fresh begins anew.",
        )
    return report.tally


def _behind_link(output: str) -> str:
    """A link stays one: the file that it names is written."""
    path = Path(output)
    return str(path.resolve()) if path.is_symlink() else output


@contextmanager
def _ending(halt: Halt) -> Iterator[None]:
    """Let the first signal end a run in good order, and a second one at once."""

    def handle(*_: object) -> None:
        if halt.requested:
            for number in before:
                signal.signal(number, signal.SIG_IGN)  # what follows is brief, and has to be done
            raise KeyboardInterrupt
        halt.request()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
