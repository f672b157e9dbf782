"""Records out of text: a schema and a passage in, instances out.

Joins the schema's grammar, the passage, the prompt and the decoder. Where it is grounded,
every free string of an instance is a part of the passage, because the grammar has no other.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

from llguidance import LLMatcher
from pydantic import BaseModel

from ..data.frames import column_of
from ..dataset import Dataset
from ..engine.constraints.extraction import ExtractionConstraint
from ..engine.constraints.grammar import Grammar
from ..engine.constraints.limits import EmptyConstraint
from ..engine.constraints.text_rules import places
from ..engine.requests import (
    Accepted,
    Completion,
    GenerationRequest,
    LogWeightPolicy,
    Rejected,
    Row,
    SequenceInit,
)
from ..errors import (
    DecodingError,
    PromptError,
    SynthgenError,
    TooFewRowsError,
    UsageError,
)
from ..local_model import LocalModel, ShardSelection, check_sampling_options
from ..prompting.descriptions import describe
from ..prompting.prompts import Prompt, few_shot, share
from ..prompting.skeleton import outline
from ..rejection import Rejection
from ..schema import Bounds, RowGrammar, RowSchema, compile_schema, compile_within
from ..schema.certificate import join_path
from ..schema.grammar.json_text import write_value
from ..schema.grammar.lark import write_grammar
from ..schema.grammar.size import longest_text
from ..schema.grounding import ground, without_placeholders
from ..schema.ir import Array, Node
from ..schema.repeated_items import without_repeats
from .async_generation import collect_in_thread

ATTEMPTS = 20
"""How often a passage is read before it is given up: validators may turn records down."""

MOST = 8
"""Records that a passage may have where nobody says."""

_USUAL = 128  # tokens of a passage's records
_TASK = "Read the text and write down its records as JSON."


@dataclass(frozen=True)
class _Shot:
    format: str
    text: str
    answer: str


_SHOTS = (
    _Shot(
        '[{"name":"...","age":0,"city":null}]',
        "Amara Obi is 41 and has moved to Lagos. Leo Strand, 29, did not say where he lives.",
        '[{"name":"Amara Obi","age":41,"city":"Lagos"},{"name":"Leo Strand","age":29,"city":null}]',
    ),
    _Shot(
        '[{"Writer":"...","Book":["..."]}]',
        '"Earthsea" was only the beginning, you know. I loved "The Dispossessed" more, but my '
        'sister keeps talking about "The Lathe of Heaven". Well, that is Ursula Le Guin for you, '
        "always full of surprises.",
        '[{"Writer":"Ursula Le Guin","Book":["Earthsea","The Dispossessed",'
        '"The Lathe of Heaven"]}]',
    ),
    _Shot(
        '[{"Singer":"...","Song":["..."]}]',
        "I have never seen a show like that! Nina Simone sang Feeling Good first, and then "
        "Sinnerman, and the whole hall went quiet when she began Mississippi Goddam. I'm still "
        "thinking of it.",
        '[{"Singer":"Nina Simone","Song":["Feeling Good","Sinnerman","Mississippi Goddam"]}]',
    ),
)


class Extractor:
    """Reads the records of a schema out of passages, with a local model.

    `schema` is a pydantic model, a JSON Schema as a dict, or a list such as "name, age int".
    `grounded` takes every free string word for word from the passage; optional values that the
    passage lacks are None. A passage has `least` to `most` records (0 to 8 where nobody says), or
    as many as the model's context has room for. A warning says where a limit that the caller did
    not set was reached. `temperature` 0 takes what the model finds likeliest.

    Raises SchemaError for a schema that cannot be used.

    Example: `Extractor(Actor, model)("Tom Hanks played Forrest Gump.")`
    """

    def __init__(
        self,
        schema: RowSchema | type[BaseModel] | dict[str, Any] | str,
        model: LocalModel,
        *,
        grounded: bool = True,
        least: int = 0,
        most: int | None = None,
        temperature: float = 0.0,
        bounds: Bounds | None = None,
        batch: int | None = None,
    ) -> None:
        check_sampling_options(temperature, batch, of="texts")
        chosen = max(MOST, least) if most is None else most
        if not 0 <= least <= chosen or chosen < 1:
            raise UsageError(f"{least} to {chosen} records are none.", hint="Ask for 1 or more.")
        self._model = model
        self._grounded = grounded
        self._least = least
        self._most = chosen
        self._is_chosen = most is not None, bounds is not None
        self._temperature = temperature
        self._batch = batch
        self.grammar = self._fit(RowSchema.of(schema), bounds)

    @property
    def schema(self) -> RowSchema:
        """The schema of a record."""
        return self.grammar.schema

    @overload
    def __call__(self, text: str, *, seed: int = 0) -> Dataset: ...  # type: ignore[overload-overlap] # a str is a Sequence
    @overload
    def __call__(self, text: Sequence[str], *, seed: int = 0) -> list[Dataset]: ...
    def __call__(self, text: str | Sequence[str], *, seed: int = 0) -> Dataset | list[Dataset]:
        """Return the records of a passage; for several passages, a data set for each.

        Raises DecodingError before anything is read if a passage is too long for the model,
        TooFewRowsError if a passage's records were turned down too often.

        Example: `extractor(["Tom Hanks, Forrest Gump", "Tom Hardy, Dunkirk"])`
        """
        if isinstance(text, str):
            return self.generate([text], seed=seed)[0]
        return self.generate(text, seed=seed)

    def generate(self, texts: Iterable[str], *, seed: int = 0) -> list[Dataset]:
        """Return a data set with the records of each passage, in the order of the passages.

        Raises what `__call__` raises.

        Example: `extractor.generate(["Tom Hanks, Forrest Gump", "Tom Hardy, Dunkirk"])`
        """
        return [Dataset(records, self.schema) for records in self.stream(texts, seed=seed)]

    async def agenerate(self, texts: Iterable[str], *, seed: int = 0) -> list[Dataset]:
        """Return what `generate` returns, from a thread; cancelling the task stops it."""
        found = await collect_in_thread(lambda: self.stream(texts, seed=seed))
        return [Dataset(records, self.schema) for records in found]

    def stream(self, texts: Iterable[str], *, seed: int = 0) -> Generator[list[Any]]:
        """Yield the records of each passage, in the order of the passages.

        Example: `for records in extractor.stream(open("notes.txt")): print(records)`
        """
        passages = list(column_of(texts, "text"))
        job, refused = self._job(passages, seed)
        if refused:
            raise next(iter(refused.values()))
        return self._records_of(self._decode(job, passages, {}, None))

    def rows(
        self, texts: Iterable[str], *, seed: int = 0, selection: ShardSelection | None = None
    ) -> Generator[Row[list[Any]]]:
        """Yield the records of each passage with their statistics; of a `selection`, its shards'.

        Records that were turned down too often are not accepted, nor is a passage that cannot be
        read, such as one too long for the model: a warning names it, and the others are read.
        """
        passages = list(column_of(texts, "text"))
        job, refused = self._job(passages, seed)
        for error in refused.values():
            warnings.warn(f"{error} It is left out. {error.hint}", stacklevel=3)
        return self._decode(job, passages, refused, selection)

    def _decode(
        self,
        job: GenerationRequest | None,
        passages: Sequence[str],
        refused: dict[int, SynthgenError],
        selection: ShardSelection | None,
    ) -> Generator[Row[list[Any]]]:
        if job is None:
            return (_ for _ in ())

        def check(decoded: Completion) -> Accepted[list[Any]] | Rejected:
            error = refused.get(decoded.attempt.row)
            if error is not None:
                return Rejected(Rejection(str(error)), final=True)
            return self._check(decoded, passages[decoded.attempt.row])

        rows = self._model.decode(
            job, len(passages), check, attempts=ATTEMPTS, batch=self._batch, selection=selection
        )
        return self._noticing(rows)

    def _noticing(self, rows: Generator[Row[list[Any]]]) -> Generator[Row[list[Any]]]:
        """Warn in the end of limits that nobody chose and that records have reached."""
        lists = {
            c.path: c.value for c in self.grammar.certificate.bounds if c.keyword == "maxItems"
        }
        records_chosen, items_chosen = self._is_chosen
        reached: Counter[str] = Counter()
        with closing(rows):
            for row in rows:
                found = row.value or []
                if len(found) >= self._most and not records_chosen:
                    reached[f"{self._most} records. `most` (--most) allows for more"] += 1
                full = set() if items_chosen else set(self._full(found, lists))
                for path in full:
                    limit = f"{lists[path]} items at {path}. `Bounds` (--max-items) allow for more"
                    reached[limit] += 1
                yield row
        for limit, count in reached.items():
            passages = "1 passage has" if count == 1 else f"{count} passages have"
            warnings.warn(f"{passages} as many as a limit allows: {limit}.", stacklevel=2)

    def _full(self, records: Sequence[Any], lists: dict[str, int]) -> Iterator[str]:
        """Paths of lists that are as long as they may be."""
        for record in records if lists else ():
            for path, length in _lengths(self.schema.dump(record), "$"):
                if length >= lists.get(path, length + 1):
                    yield path

    def prompt_text(self, text: str) -> str:
        """Return the whole prompt for a passage as the model sees it, chat template included."""
        return self._prompt(text).text

    def _prompt(self, text: str) -> Prompt:
        shots = ((_question(shot.format, [], shot.text), shot.answer) for shot in _SHOTS)
        form = write_value([outline(self.grammar.ir)])
        messages = few_shot(_TASK, shots, _question(form, self._described, text))
        return Prompt.of(self._model.engine, messages)

    @cached_property
    def _described(self) -> list[tuple[str, str]]:
        room = self._model.engine.context_length
        return describe(self.schema.json_schema, self.grammar.ir, room)

    def _fit(self, schema: RowSchema, bounds: Bounds | None) -> RowGrammar:
        """The grammar of one record; strings nobody limits shrink until two fit the context."""
        if bounds is not None:
            return compile_schema(schema, bounds)
        return compile_within(schema, self._model.engine.context_length // 2)

    def _job(
        self, texts: Sequence[str], seed: int
    ) -> tuple[GenerationRequest | None, dict[int, SynthgenError]]:
        """What is to be decoded, and the passages that cannot be read, with the reason."""
        engine = self._model.engine
        prompts: dict[int, list[int]] = {}
        nodes: dict[int, Array] = {}
        refused: dict[int, SynthgenError] = {}
        for row, text in enumerate(texts):
            try:
                prompt = self._tokens(text, row)
                nodes[row] = self._records(text, row, len(prompt))
                prompts[row] = prompt
            except (DecodingError, PromptError) as error:
                refused[row] = error
        if not texts:
            return None, refused
        prefix, rest = share(list(prompts.values()) or [self._prompt("").tokens(engine)])
        suffixes = dict(zip(prompts, rest, strict=False))
        needs = {row: len(suffixes[row]) + longest_text(node) for row, node in nodes.items()}

        def start(row: int) -> SequenceInit:
            if row in refused:
                return SequenceInit((), EmptyConstraint())
            lark = write_grammar(nodes[row])
            grammar = Grammar(engine.tokenizer, LLMatcher.grammar_from_lark(lark))
            constraint = ExtractionConstraint(grammar.start(), texts[row])
            return SequenceInit((*suffixes[row], *grammar.forced_prefix), constraint)

        usual = [len(suffixes.get(row, ())) + _USUAL for row in range(len(texts))]
        longest = max(needs.values(), default=0)
        job = GenerationRequest(
            prefix,
            start,
            longest,
            seed,
            self._temperature,
            usual,
            log_weights=LogWeightPolicy.SAMPLE,
        )
        return job, refused

    def _tokens(self, text: str, index: int) -> list[int]:
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise PromptError(
                f"Passage {index + 1} holds half of a character.", hint="Save it as UTF-8."
            )
        return self._prompt(text).tokens(self._model.engine)

    def _records(self, text: str, index: int, read: int) -> Array:
        """What a passage's records may be, after a prompt of `read` tokens."""
        node, context = self.grammar.ir, self._model.engine.context_length
        if read >= context:
            raise DecodingError(
                f"Passage {index + 1} is read in {read} tokens: the model's context has {context}.",
                hint="Cut the passage.",
            )
        record = ground(node, text) if self._grounded else without_placeholders(node)
        if record is None and self._least == 0:
            return Array(None, 0, 0)
        if record is None:
            raise PromptError(
                f"Passage {index + 1} has no text that a {self.schema.name} must have.",
                hint="Allow for no record, or loosen the schema's patterns.",
            )
        room = context - read - len("[]")
        most = min(self._most, room // (longest_text(record) + len(", ")))
        if most < max(1, self._least):
            raise DecodingError(
                f"Passage {index + 1} is read in {read} tokens and a record may take "
                f"{longest_text(record)}: the model's context has {context}.",
                hint="Cut the passage, or bound the schema's strings and lists.",
            )
        return Array(record, self._least, most)

    def _records_of(self, rows: Generator[Row[list[Any]]]) -> Generator[list[Any]]:
        with closing(rows):
            for row in rows:
                if row.value is None:
                    raise TooFewRowsError(
                        f"Passage {row.number + 1}: its records were turned down {ATTEMPTS} "
                        f"times, at last by: {row.rejections[-1]}",
                        hint="Loosen that check, or raise the temperature.",
                    )
                yield row.value

    def _check(self, decoded: Completion, passage: str) -> Accepted[list[Any]] | Rejected:
        def most(item: Any, _: Node) -> int | None:
            """What a passage says, as often as it says it; what it says otherwise, once."""
            if item is None or isinstance(item, dict | list):
                return 1
            return max(
                1, len(places(item if isinstance(item, str) else write_value(item), passage))
            )

        try:
            found = json.loads(decoded.text)
            form = Array(self.grammar.ir, self._least, max(self._most, len(found)))
            kept = without_repeats(found, form, most)
            try:
                return Accepted(self._instances(kept))
            except ValueError:  # of a validator that counts, perhaps
                return Accepted(self._instances(found))
        except ValueError as error:
            return Rejected(Rejection.from_error(error))

    def _instances(self, records: Sequence[Any]) -> list[Any]:
        return [self.schema.accept(write_value(record)) for record in records]


def _lengths(value: Any, path: str) -> Iterator[tuple[str, int]]:
    """Each list of a record by its path, as a certificate writes it, with its length."""
    match value:
        case dict():
            for key, item in value.items():
                yield from _lengths(item, join_path(path, key))
        case list():
            yield path, len(value)
            for item in value:
                yield from _lengths(item, f"{path}[*]")


def _question(form: str, described: Sequence[tuple[str, str]], text: str) -> str:
    fields = "".join(f"- {path}: {description}\n" for path, description in described)
    return f"Format: {form}\n{fields}Text: {text}"
