"""Few-shot tabular generation: a schema, some examples and a subject in, rows out.

Joins the schema's grammar, the prompt and the decoder; each row is parsed by the schema
before it is handed over, and one that its checks refuse is drawn anew.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

from pydantic import BaseModel

from ..data.provenance import Origin, RowCounts, certificate_lines, schema_hashes, text_hash
from ..dataset import Dataset
from ..engine.constraints.grammar import Grammar
from ..engine.constraints.null_rates import NullRates
from ..engine.parallel_plan import MAX_ROWS
from ..engine.requests import (
    Accepted,
    Completion,
    GenerationRequest,
    LogWeightPolicy,
    Rejected,
    Row,
)
from ..engine.sampling import accept_by_weight
from ..errors import DecodingError, TooFewRowsError, UsageError
from ..local_model import LocalModel, ShardSelection, check_sampling_options
from ..prompting.descriptions import describe
from ..prompting.examples import Example, json_record, null_rates
from ..prompting.prompts import SYSTEM, FewShotPrompt, Message, Prompt
from ..rejection import Rejection
from ..schema import (
    Bounds,
    RowGrammar,
    RowSchema,
    UnreadableRowError,
)
from ..schema.certificate import Constraint
from ..schema.grammar.json_text import write_value
from ..schema.grammar.size import widest_path
from ..schema.grammar.tsv import Lines
from ..schema.null_rates import NullPlace, has_nulls
from ..schema.repeated_items import once, read_without_repeats, without_repeats
from .notebook_progress import shown
from .stats import Tally, TokenTotals, check_rejections
from .tabular_options import (
    TabularRequest,
    check_null_rate,
    compact_line,
    fit_schema,
    row_count,
    schema_source,
)

_ROOM_OF_ROWS = 1.25  # the same, for the cells that a row in flight is expected to take


_USUAL_NULL_RATE = 0.5


_USUAL = 64  # tokens, where there is no example


_UNLIKELY = "exact sampling: the grammar had led the model where it would not go"


ATTEMPTS = 100
"""How often a row is drawn before it is given up."""


_EXACT_ATTEMPTS = 10_000


Sampling: TypeAlias = Literal["fast", "exact", "weighted"]


SAMPLINGS: tuple[Sampling, ...] = get_args(Sampling)


RowLayout: TypeAlias = Literal["auto", "lines", "json"]


ROW_LAYOUTS: tuple[RowLayout, ...] = get_args(RowLayout)


class TabularGenerator:
    """Makes rows of a schema with a local model.

    `schema` is a pydantic model, a JSON Schema as a dict, or a list such as
    "name, age int"; rows are instances of the model, or dicts for a JSON Schema. `batch` is
    the number of rows decoded together; None lets the machine decide. `temperature` 1 is
    the model's own distribution. `null_rate` is how often an Optional is null where its field does
    not say so by `json_schema_extra={"nullRate": 0.1}`: "examples" is the rate of the examples for
    each field of which there are at least 10, and 0.5 for others; None leaves that to the model.

    `sampling` "fast" masks each draw and forces what must follow: valid rows, but not quite with
    the model's own odds among them. "exact" keeps a row with the probability that the mask left
    it, so that rows follow the model's distribution restricted to valid rows; "weighted" keeps all,
    and `Row.log_weight` says by how much they are to be weighed. Both draw every token, and steer
    no nulls.

    `layout` is how the model writes a row: "json", or "lines" of values without their keys, which
    takes half as many tokens. "auto" is lines for a flat schema, unless an example cannot be
    written so or the prompt's own words speak of JSON. Either way rows come out as instances.

    `examples` without a `prompt` are those of the usual one.

    Raises SchemaError or PromptError at once for a schema or an example that cannot be used.

    Example: `TabularGenerator(MedicalBilling, model, prompt=FewShotPrompt(examples=examples))`
    """

    def __init__(
        self,
        schema: RowSchema | type[BaseModel] | dict[str, Any] | str,
        model: LocalModel,
        *,
        prompt: FewShotPrompt | None = None,
        examples: Sequence[Example] | None = None,
        bounds: Bounds | None = None,
        temperature: float = 1.0,
        batch: int | None = None,
        null_rate: float | Literal["examples"] | None = "examples",
        sampling: Sampling = "fast",
        layout: RowLayout = "auto",
    ) -> None:
        check_sampling_options(temperature, batch, of="rows")
        if not (null_rate is None or null_rate == "examples"):
            check_null_rate(null_rate)
        if prompt is not None and examples is not None:
            raise UsageError("examples are given beside a prompt.", hint="Give them to the prompt.")
        self.prompt = prompt or FewShotPrompt(examples=[] if examples is None else examples)
        self.grammar, self._examples = fit_schema(
            RowSchema.of(schema), self.prompt.examples, bounds, model.engine.context_length
        )
        self._source, self._bounds = schema_source(schema), bounds
        self._model = model
        self._temperature = temperature
        self._batch = batch
        self._null_rate = null_rate
        self._nulls = self._null_place(null_rate)
        if sampling not in SAMPLINGS:
            raise UsageError(f"Sampling cannot be {sampling!r}.", hint="fast, exact or weighted.")
        self._sampling = sampling
        if layout not in ROW_LAYOUTS:
            raise UsageError(f"The layout cannot be {layout!r}.", hint="auto, lines or json.")
        self._lines, self._shown = self._laid_out(layout)

    def generate(
        self,
        subject: str = "",
        rows: int = 1,
        *,
        extra: str = "",
        seed: int = 0,
        progress: bool | None = None,
        **names: int,
    ) -> Dataset:
        """Return `rows` instances in row order. The same seed gives the same rows.

        `n` and `num_rows` are other names of `rows`. `redraws` and `turned_down` of the result say
        which checks turned rows down, and its `save` writes a manifest. `progress` is shown on
        stderr; None shows it in a notebook.

        Raises TooFewRowsError if rows were turned down too often; it holds those that were made.

        Example: `generator.generate(subject="medical_billing", rows=10, seed=0)`
        """
        asked = TabularRequest(subject, row_count(rows, names), extra, seed)
        return self._collect(asked, threading.Event(), progress)

    async def agenerate(
        self,
        subject: str = "",
        rows: int = 1,
        *,
        extra: str = "",
        seed: int = 0,
        progress: bool | None = None,
        **names: int,
    ) -> Dataset:
        """Do as `generate` does, in a thread of its own; cancelling it stops the run."""
        cancelled = threading.Event()
        asked = TabularRequest(subject, row_count(rows, names), extra, seed)
        try:
            return await asyncio.to_thread(self._collect, asked, cancelled, progress)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def stream(
        self, subject: str = "", rows: int = 1, *, extra: str = "", seed: int = 0, **names: int
    ) -> Generator[Any]:
        """Yield instances as they finish, in row order.

        Raises TooFewRowsError after the last one if some are missing.

        Example: `for row in generator.stream(subject="medical_billing", rows=10): print(row)`
        """
        count = row_count(rows, names)
        tally = Tally(count)
        with closing(self.rows(subject, count, extra=extra, seed=seed)) as records:
            for row in records:
                tally.add(row.rejections, made=row.made)
                if row.made:
                    yield row.value
        tally.raise_if_short()

    def rows(
        self,
        subject: str = "",
        rows: int = 1,
        *,
        extra: str = "",
        seed: int = 0,
        selection: ShardSelection | None = None,
        **names: int,
    ) -> Generator[Row[Any]]:
        """Yield every row in row order; one whose attempts were all rejected has no value.

        Of a `selection`, only the rows of its shards.
        """
        count = row_count(rows, names)
        if not 0 <= count <= MAX_ROWS:
            raise UsageError(
                f"{count} rows cannot be generated.", hint=f"Ask for 0 to {MAX_ROWS:,}."
            )
        engine = self._model.engine
        prompt = self._prompt(subject, extra).tokens(engine)
        longest = self._written.longest
        if len(prompt) + longest > engine.context_length:
            raise DecodingError(
                f"The prompt has {len(prompt)} tokens and a row may have {longest}; "
                f"the model's context has {engine.context_length}.",
                hint=self._how_to_fit(engine.context_length - longest - len(prompt)),
            )
        lengths = [len(engine.tokenize(text)) for text in self._shown]
        job = GenerationRequest.from_grammar(
            self._language(),
            prompt,
            longest,
            seed=seed,
            temperature=self._temperature,
            expected_tokens=round(_ROOM_OF_ROWS * max(lengths, default=_USUAL)),
            log_weights=LogWeightPolicy.SAMPLE if self._sampling == "fast" else LogWeightPolicy.ALL,
        )
        return self._rows(job, count, selection)

    @property
    def layout(self) -> RowLayout:
        """How the model writes a row: "lines" or "json"."""
        return "json" if self._lines is None else "lines"

    @property
    def serialised(self) -> str:
        """The grammar of what the model writes, in llguidance's form."""
        return self._written.serialised

    @property
    def _written(self) -> Lines | RowGrammar:
        return self._lines or self.grammar

    def _laid_out(self, layout: RowLayout) -> tuple[Lines | None, list[str]]:
        """How rows are written, None for as JSON, and the examples as they stand in the prompt.

        Raises UsageError if rows are to be lines and cannot be.
        """
        if layout == "json":
            return None, self._examples
        lines, required = Lines.of(self.grammar.ir), layout == "lines"
        shown = [
            line
            for text in self._examples
            if lines is not None and (line := compact_line(lines, text)) is not None
        ]
        if lines is None:
            reason = f"{self.grammar.schema.name} has more than plain values, or keys left out"
        elif len(shown) < len(self._examples):
            reason = "an example is no record, or has a line feed or a tab in a string"
        elif not required and "json" in f"{self.prompt.prefix}{self.prompt.suffix}".lower():
            reason = "the prompt asks for JSON"
        else:
            return lines, shown
        if required:
            raise UsageError(f"Rows cannot be lines: {reason}.", hint="Let them be JSON.")
        return None, self._examples

    def _language(self) -> Grammar | NullRates:
        """The rows' grammar, with the rates at which it is to have null."""
        fast = self._sampling == "fast"
        tokenizer = self._model.engine.tokenizer
        grammar = Grammar(tokenizer, self.serialised, fast_forward=fast)
        if not fast or not has_nulls(self.grammar.ir):
            return grammar
        columns = [] if self._lines is None else [name for name, _ in self._lines.columns]
        vocabulary = self._model.vocabulary
        return NullRates(grammar, vocabulary, self._nulls, self._temperature, columns)

    def _null_place(self, rate: float | Literal["examples"] | None) -> NullPlace:
        """How often values are null; the certificate names rates that are those of examples."""
        if rate != "examples":
            return NullPlace([self.grammar.ir], rate)
        root = NullPlace([self.grammar.ir], _USUAL_NULL_RATE, null_rates(self._examples))
        learned = {
            path: round(found, 3)
            for text in self._examples
            for path, found in root.learned_rates(json_record(text))
        }
        certificate = self.grammar.certificate
        rates = [Constraint(path, "nullRate", found, "bound") for path, found in learned.items()]
        certificate = replace(certificate, constraints=(*certificate.constraints, *rates))
        self.grammar = replace(self.grammar, certificate=certificate)
        return root

    def prompt_text(self, subject: str = "", extra: str = "") -> str:
        """Return the whole prompt as the model sees it, chat template included.

        The answer is begun with the examples, as if the model had written them, after the keys
        where rows are lines. Examples that are no records stand in the question.
        """
        return self._prompt(subject, extra).text

    def _how_to_fit(self, room: int) -> str:
        """What makes a prompt fit that has so many tokens too many: how many examples have room."""
        shown = self._shown if self._are_records else self._examples
        fitting = len(shown)
        while fitting and room < 0:
            fitting -= 1
            room += len(self._model.engine.tokenize(shown[fitting], begun=True))
        if fitting:
            return f"Give {fitting} examples or fewer: so many of the {len(shown)} fit."
        without = ", or use fewer examples" if shown else ""
        path = widest_path(self.grammar.ir)
        least = {
            f"Lower {c.keyword} of {path}"
            for c in self.grammar.certificate.constraints
            if c.path == path and c.keyword in {"minLength", "minItems"}
        }
        return f"{min(least, default=f'Bound {path}')}{without}."

    def _prompt(self, subject: str, extra: str) -> Prompt:
        content = self.prompt.render(
            [] if self._are_records else self._examples,
            subject=subject,
            extra=extra,
            fields=self._described,
        )
        asked = [Message("system", SYSTEM), Message("user", content or "Synthetic data.")]
        begun = [] if self._lines is None else [self._lines.header]
        if self._are_records:
            begun += self._shown
        return Prompt.of(self._model.engine, asked, "".join(f"{line}\n" for line in begun))

    @cached_property
    def _described(self) -> list[tuple[str, str]]:
        """What the schema says about its fields, as much as a quarter of the context holds."""
        room = self._model.engine.context_length
        return describe(self.grammar.schema.json_schema, self.grammar.ir, room)

    @cached_property
    def _are_records(self) -> bool:
        """Whether no example is text of another kind."""
        return all(json_record(text) is not None for text in self._examples)

    def _rows(
        self, job: GenerationRequest, count: int, selection: ShardSelection | None
    ) -> Generator[Row[Any]]:
        exact = self._sampling == "exact"
        first = next(iter(self._model.shards(count, self._batch)), range(0))
        accepted = False  # any row of the first shard: which others are made is not always the same
        reasons: Counter[str] = Counter()

        def check(decoded: Completion) -> Accepted[Any] | Rejected:
            nonlocal accepted
            try:
                text = self._lines.read(decoded.text) if self._lines else decoded.text
                value = self._read(text)
                if exact and not _accepts(job.seed, decoded):
                    return Rejected(Rejection(_UNLIKELY))
            except ValueError as error:
                if not accepted and decoded.attempt.row in first:
                    reasons[str(error)] += 1
                    unreadable = isinstance(error, UnreadableRowError)
                    check_rejections(
                        count, reasons, self.grammar.schema.name, unreadable=unreadable
                    )
                return Rejected(Rejection.from_error(error))
            accepted = accepted or decoded.attempt.row in first
            return Accepted(value)

        rows = self._model.decode(
            job,
            count,
            check,
            attempts=_EXACT_ATTEMPTS if exact else ATTEMPTS,
            batch=self._batch,
            selection=selection,
        )
        with closing(rows):
            yield from rows

    def _read(self, text: str) -> Any:
        """The instance of a row; lists lose repeats, unless sampling or an example has them."""
        accept = self.grammar.schema.accept
        if not self._drops_repeats:
            return accept(text)
        return read_without_repeats(text, self.grammar.ir, accept)

    @cached_property
    def _drops_repeats(self) -> bool:
        if self._sampling != "fast" or self._lines is not None:
            return False
        shape = self.grammar.ir
        records = [json.loads(text) for text in self._examples if json_record(text) is not None]
        return all(without_repeats(record, shape, once) == record for record in records)

    def _collect(
        self, asked: TabularRequest, cancelled: threading.Event, progress: bool | None
    ) -> Dataset:
        values: list[Any] = []
        tally, sums, start = Tally(asked.rows), TokenTotals(), time.monotonic()
        made = self.rows(asked.subject, asked.rows, extra=asked.extra, seed=asked.seed)
        with closing(made) as rows:
            try:
                for row in shown(rows, asked.rows, progress):
                    sums.add(row)
                    if cancelled.is_set():
                        break
                    tally.add(row.rejections, made=row.made)
                    if row.made:
                        values.append(row.value)
                tally.raise_if_short()
            except TooFewRowsError as error:
                error.rows = values
                raise
        schema, took = self.grammar.schema, time.monotonic() - start
        if cancelled.is_set():
            return Dataset(values, schema, redraws=tally.redraws)
        origin = self._origin(asked, values, sums.counts(tally), took)
        return Dataset(values, schema, redraws=tally.redraws, origin=origin)

    def _origin(
        self, asked: TabularRequest, values: Sequence[Any], counts: RowCounts, took: float
    ) -> Origin:
        """What a manifest says of rows; like a run's it holds nothing of the examples."""
        model, grammar = self._model, self.grammar
        hashes = schema_hashes(grammar, self._source) | {"grammar": text_hash(self.serialised)}
        if not self._examples:
            hashes["prompt"] = text_hash(self.prompt_text(asked.subject, asked.extra))
            hashes["examples"] = text_hash([])
        lines = (write_value(grammar.schema.dump(value)) for value in values)
        return Origin.of(
            model,
            model.shards(asked.rows, self._batch),
            lines,
            settings=self._settings(asked),
            hashes=hashes,
            counts=counts.model_dump(),
            seconds=round(took, 3),
            rows_per_second=round(len(values) / max(took, 1e-3), 3),
            guarantee=grammar.certificate.guarantee,
            certificate=certificate_lines(grammar.certificate),
            json_schema=grammar.schema.json_schema,
        )

    def _settings(self, asked: TabularRequest) -> dict[str, Any]:
        """What was asked for, by the names that the command line has for it."""
        bounds, model = self._bounds, self._model
        return {
            "command": "generate",
            "source": self._source,
            "rows": asked.rows,
            "subject": asked.subject,
            "extra": asked.extra,
            "seed": asked.seed,
            "temperature": self._temperature,
            "null_rate": self._null_rate if isinstance(self._null_rate, float) else None,
            "sampling": self._sampling,
            "layout": self.layout,
            "max_length": bounds and bounds.max_length,
            "max_items": bounds and bounds.max_items,
            "model": model.name,
            "weights": "fast",
            "flash_attn": model.flash_attn,
            "threads": model.threads,
            "batch": model.batch_size(asked.rows, self._batch),
        }


def _accepts(seed: int, decoded: Completion) -> bool:
    ticket, log_weight = decoded.attempt, decoded.log_weight
    assert log_weight is not None, "every row is weighed"
    return accept_by_weight(seed, ticket.row, len(ticket.rejections), log_weight)
