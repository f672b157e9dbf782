"""What a command was asked for, as it can be written down and asked for again.

Settings are read back from a manifest, so they hold nothing that is not JSON. `work` turns them
into what the command makes: rows as lines of text, any shard of them, on any machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from ..data.inputs import load_documents, load_records
from ..data.provenance import schema_hashes, text_hash
from ..data.tables import plain_schema, row_line
from ..engine.parallel_plan import MAX_ROWS, MAX_THREADS
from ..engine.requests import Row
from ..errors import UsageError
from ..generators.extract import Extractor
from ..generators.tabular import RowLayout, Sampling, TabularGenerator
from ..generators.tabular_options import check_null_rate
from ..generators.text import TextGenerator
from ..local_model import FlashAttention, LocalModel, ShardSelection, Weights
from ..prompting.examples import load_examples
from ..prompting.prompts import FewShotPrompt
from ..schema import Bounds, Certificate, RowSchema, compile_schema, load_schema
from ..schema.grammar.json_text import write_value
from ..schema.json_schema.references import part_of

_SPANS: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "path": {"type": "string"},
            "value": {"type": "string"},
            "start": {"type": "integer"},
            "end": {"type": "integer"},
        },
        "required": ["path", "value", "start", "end"],
    },
}


_TEXT_KEYS = {"fields", "preferences", "text", "spans"}
_JSON_TYPES = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
}
_LOG_WEIGHT = "log_weight"


@dataclass(frozen=True)
class RowSource:
    """What settings come to with a model at hand.

    `schema` is that of the lines, `hashes` are SHA-256 of what decides them beside the settings.
    Those that `private` names would tell examples to whoever guesses them, so they stay in the
    ledger. `make` yields the rows of a part, in the order that it asks for.
    """

    word: str
    rows: int
    schema: RowSchema
    shards: Sequence[range]
    hashes: Mapping[str, str]
    make: Callable[[ShardSelection], Generator[Row[str]]]
    certificate: Certificate | None = None
    examples: Sequence[str] = ()
    private: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Sources:
    """What settings name and is read once: a schema, and examples, records or passages."""

    schema: RowSchema | None
    items: Sequence[Any] = ()


class JobSpec(BaseModel):
    """What all commands are asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = ""
    weights: Weights = "fast"
    flash_attn: FlashAttention = "auto"
    gpu_layers: int | None = None
    threads: int | None = Field(None, ge=1, le=MAX_THREADS)
    batch: int | None = Field(None, ge=1, le=MAX_ROWS)
    seed: int = Field(0, ge=0)
    temperature: float = Field(1.0, ge=0)

    def model_post_init(self, _context: Any) -> None:
        """Raise UsageError for text that is no UTF-8: neither prompts nor manifests can hold it."""
        for name, value in self:
            if isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value):
                raise UsageError(
                    f"The argument for '{name}' is no UTF-8.",
                    hint="Write it as UTF-8; rename the file if it is one.",
                )

    def load(self, note: Callable[[str], None] = lambda _: None) -> LocalModel:
        """Open the model; `note` is told each step. Raises ModelNotFoundError if it is not here."""
        return LocalModel.load(
            self.model,
            gpu_layers=self.gpu_layers,
            threads=self.threads,
            weights=self.weights,
            flash_attn=self.flash_attn,
            note=note,
        )


class GenerateJobSpec(JobSpec):
    """`generate`: rows of a schema."""

    command: Literal["generate"] = "generate"
    source: str
    rows: int = Field(ge=0, le=MAX_ROWS)
    subject: str = ""
    extra: str = ""
    examples: str | None = None
    null_rate: float | None = None  # of fields that say none: the examples' own
    max_length: int | None = Field(None, ge=1)
    max_items: int | None = Field(None, ge=1)
    sampling: Sampling = "fast"
    layout: RowLayout = "auto"

    def read(self) -> Sources:
        """Read what can be read without a model: an error comes before the weights do."""
        if self.null_rate is not None:
            check_null_rate(self.null_rate)
        schema = load_schema(self.source)
        if self.examples is None:
            return Sources(schema)
        return Sources(schema, load_examples(Path(self.examples), compile_schema(schema)))

    def row_source(self, model: LocalModel, sources: Sources) -> RowSource:
        """Return what is to be made."""
        assert sources.schema is not None
        schema, examples = sources.schema, sources.items
        weighted = self.sampling == "weighted"
        columns = with_weight(schema) if weighted else schema
        generator = TabularGenerator(
            schema,
            model,
            prompt=FewShotPrompt(examples=examples),
            bounds=Bounds.given(self.max_length, self.max_items),
            temperature=self.temperature,
            batch=self.batch,
            null_rate="examples" if self.null_rate is None else self.null_rate,
            sampling=self.sampling,
            layout=self.layout,
        )
        prompt = generator.prompt_text(self.subject, self.extra)

        def make(selection: ShardSelection) -> Generator[Row[str]]:
            rows = generator.rows(
                self.subject, self.rows, extra=self.extra, seed=self.seed, selection=selection
            )
            with closing(rows):
                for row in rows:
                    line = row_line(row.value, schema) if row.made else None
                    if line is not None and weighted:
                        assert row.log_weight is not None, "every row is weighed"
                        line = write_value(
                            {**json.loads(line), _LOG_WEIGHT: round(row.log_weight, 6)}
                        )
                    yield row.with_value(line)

        return RowSource(
            "rows",
            self.rows,
            columns,
            model.shards(self.rows, self.batch),
            schema_hashes(generator.grammar, self.source)
            | {
                "grammar": text_hash(generator.serialised),
                "prompt": text_hash(prompt),
                "examples": text_hash(examples),
            },
            make,
            generator.grammar.certificate,
            examples,
            frozenset({"examples", "prompt"} if examples else ()),
        )


class TextJobSpec(JobSpec):
    """`text`: a text about each record."""

    command: Literal["text"] = "text"
    records: str
    preferences: dict[str, Any] | None = None
    mentions: Literal["exact", "free"] = "exact"
    temperature: float = Field(0.7, ge=0)

    def read(self) -> Sources:
        """Read the records to write about."""
        return Sources(None, load_records(self.records))

    def row_source(self, model: LocalModel, sources: Sources) -> RowSource:
        """Return what is to be made."""
        fields = sources.items
        generator = TextGenerator(
            model, mentions=self.mentions, temperature=self.temperature, batch=self.batch
        )

        def make(selection: ShardSelection) -> Generator[Row[str]]:
            rows = generator.rows(fields, self.preferences, seed=self.seed, selection=selection)
            with closing(rows):
                for row in rows:
                    assert row.value is not None, "a text is made or an error raised"
                    yield row.with_value(row_line(row.value.as_dict(), schema))

        schema = plain_schema("fields", "preferences", text={"type": "string"}, spans=_SPANS)
        hashes = {
            "records": text_hash(fields),
            "prompt": text_hash(generator.prompt_text("", self.preferences)),
        }
        shards = model.shards(len(fields), self.batch)
        return RowSource("texts", len(fields), schema, shards, hashes, make)


class ExtractJobSpec(JobSpec):
    """`extract`: the records of each passage."""

    command: Literal["extract"] = "extract"
    source: str
    passages: str
    grounded: bool = True
    least: int = 0
    most: int | None = None
    max_length: int | None = None
    max_items: int | None = None
    temperature: float = Field(0.0, ge=0)

    def read(self) -> Sources:
        """Read the schema and the passages."""
        return Sources(load_schema(self.source), load_documents(self.passages))

    def row_source(self, model: LocalModel, sources: Sources) -> RowSource:
        """Return what is to be made."""
        assert sources.schema is not None
        passages = [document["text"] for document in sources.items]
        beside = _extra_columns(sources.items)
        extractor = Extractor(
            sources.schema,
            model,
            grounded=self.grounded,
            least=self.least,
            most=self.most,
            bounds=Bounds.given(self.max_length, self.max_items),
            temperature=self.temperature,
            batch=self.batch,
        )
        record = part_of(extractor.schema.json_schema, "#/properties/records/items")
        columns = {**beside, "text": {"type": "string"}}
        schema = plain_schema(**columns, records={"type": "array", "items": record})

        def make(selection: ShardSelection) -> Generator[Row[str]]:
            rows = extractor.rows(passages, seed=self.seed, selection=selection)
            with closing(rows):
                for row in rows:
                    found = [extractor.schema.dump(record) for record in row.value or ()]
                    document = {key: sources.items[row.number].get(key) for key in columns}
                    line = row_line({**document, "records": found}, schema) if row.made else None
                    yield row.with_value(line)

        hashes = schema_hashes(extractor.grammar, self.source) | {
            "passages": text_hash(sources.items if beside else passages),
            "prompt": text_hash(extractor.prompt_text("")),
        }
        shards = model.shards(len(passages), self.batch)
        certificate = extractor.grammar.certificate
        return RowSource("passages", len(passages), schema, shards, hashes, make, certificate)


AnyJobSpec: TypeAlias = Annotated[
    GenerateJobSpec | TextJobSpec | ExtractJobSpec, Field(discriminator="command")
]


def with_weight(schema: RowSchema) -> RowSchema:
    """Return the schema of rows with their log-weight beside their fields.

    Raises UsageError if they have a field of that name, or none.

    Example: `with_weight(RowSchema.of("name"))`
    """
    properties = schema.json_schema.get("properties")
    if not properties or _LOG_WEIGHT in properties:
        raise UsageError(
            f"Rows of {schema.name} have no room for a field '{_LOG_WEIGHT}'.",
            hint="Use --sampling exact.",
        )
    described = {**properties, _LOG_WEIGHT: {"type": "number"}}
    return RowSchema.of({**schema.json_schema, "properties": described})


def _extra_columns(documents: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The schema of each key that stands beside the text of a passage.

    Its type is that of its values, if they have one in common; else they may be anything.
    """
    keys = dict.fromkeys(key for document in documents for key in document)
    found: dict[str, dict[str, Any]] = {}
    if keys.keys() == _TEXT_KEYS:  # rows of `text`: they are labelled by their fields already
        return found
    for key in keys:
        if key not in ("text", "records"):
            kinds = {_JSON_TYPES.get(type(document.get(key))) for document in documents}
            named = sorted(kind for kind in kinds if kind is not None)
            plain = len(named) == len(kinds) and len(set(named) - {"null"}) == 1
            found[key] = {"type": named} if plain else {}
    return found
