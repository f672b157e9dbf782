"""Answers to messages: free text, or one record of a schema.

Joins prompts and the decoder; many conversations are answered together. Knows no LangChain.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from ..engine.constraints.free_text import FreeTextConstraint
from ..engine.constraints.grammar import Grammar
from ..engine.constraints.limits import TokenLimitConstraint
from ..engine.constraints.protocol import Constraint
from ..engine.requests import (
    Accepted,
    Completion,
    GenerationRequest,
    LogWeightPolicy,
    Rejected,
    Row,
    SequenceInit,
)
from ..errors import DecodingError, UsageError
from ..local_model import LocalModel, check_sampling_options
from ..prompting.descriptions import describe
from ..prompting.prompts import Message, Prompt, share
from ..prompting.skeleton import outline
from ..rejection import Rejection
from ..schema import RowGrammar
from ..schema.grammar.json_text import write_value
from ..schema.grammar.text_grammar import TextGrammar

ATTEMPTS = 20
"""How often a record is drawn that its schema's validators refuse."""

Finish: TypeAlias = Literal["stop", "length"]


@dataclass(frozen=True)
class Answer:
    """What a model answered. `finish` is "length" if it was cut at the most tokens.

    `prompt_tokens` and `tokens` count what was read and what was written; `stop` is the stop
    string that ended a free text, None if none did.
    """

    text: str
    finish: Finish
    prompt_tokens: int
    tokens: int
    stop: str | None = None


@dataclass(frozen=True)
class Chat:
    """How conversations are answered.

    Free text ends where the model ends it, at one of `stop`, or after `max_tokens`. With
    `grammar` each answer is one record of its schema, whole; or a text of a grammar that is no
    record's, of which a prompt says nothing by itself. If that has no longest text, `max_tokens`
    limits it. Lists of an answer do not repeat free strings and records, except in a stream, whose
    pieces cannot be taken back.

    Example: `Chat(model).generate([[Message("user", "Hello")]])[0].text`
    """

    model: LocalModel
    temperature: float = 0.7
    max_tokens: int = 256
    stop: Sequence[str] = ()
    grammar: RowGrammar | TextGrammar | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        check_sampling_options(self.temperature)
        if self.max_tokens < 1:
            raise UsageError(f"{self.max_tokens} tokens are none.", hint="Ask for 1 or more.")

    def generate(
        self, conversations: Sequence[Sequence[Message]], *, seed: int = 0
    ) -> list[Answer]:
        """Return an answer to each conversation, in their order.

        A record that its schema's validators refuse is drawn anew a few times; the last draw
        is the answer. Raises DecodingError before anything is decoded if a conversation does not
        fit the model's context.
        """
        if not conversations:
            return []
        prompts = self._prompts(conversations)
        begun: dict[int, Constraint] = {}
        attempts = ATTEMPTS if self.grammar is not None and self.temperature > 0 else 1
        with closing(
            self.model.decode(
                self._job(prompts, seed, begun), len(prompts), self._check,
                attempts=attempts, batch=self.batch,
            )
        ) as rows:  # fmt: skip
            return [
                self._answer(
                    row.text if row.value is None else row.value,
                    row.sampled_tokens,
                    prompts[row.number],
                    begun[row.number],
                )
                for row in rows
            ]

    async def agenerate(
        self, conversations: Sequence[Sequence[Message]], *, seed: int = 0
    ) -> list[Answer]:
        """Return what `generate` returns, from a thread."""
        return await asyncio.to_thread(self.generate, conversations, seed=seed)

    def stream(self, messages: Sequence[Message], *, seed: int = 0) -> Generator[str, None, Answer]:
        """Yield an answer in pieces, as they are written, and return it; leaving early stops it.

        Example: `for piece in chat.stream([Message("user", "Hello")]): print(piece, end="")`
        """
        reader = _Reader()
        prompts = self._prompts([messages])
        begun: dict[int, Constraint] = {}
        job = self._job(prompts, seed, begun, reader)
        rows = self.model.decode(job, 1, Accepted, attempts=1, batch=self.batch)
        decoded: list[Row[Completion]] = []

        def work() -> None:
            try:
                with closing(rows):
                    decoded.extend(rows)
            except BaseException as error:  # handed to the caller's thread below
                reader.pieces.put(error)
            finally:
                reader.pieces.put(None)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            while (piece := reader.pieces.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            reader.left.set()
            thread.join()
        return self._answer(decoded[0].text, decoded[0].sampled_tokens, prompts[0], begun[0])

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """Return the whole prompt as the model sees it; for a record, its form is part of it."""
        return self._prompt(messages).text

    def _prompt(self, messages: Sequence[Message]) -> Prompt:
        messages = list(messages)
        if isinstance(self.grammar, RowGrammar) and messages:
            last = messages[-1]
            messages[-1] = replace(last, content=f"{last.content}\n\n{self._form(self.grammar)}")
        return Prompt.of(self.model.engine, messages)

    def _form(self, grammar: RowGrammar) -> str:
        room = self.model.engine.context_length
        described = describe(grammar.schema.json_schema, grammar.ir, room)
        fields = "".join(f"\n- {path}: {text}" for path, text in described)
        return f"Answer as JSON in this form: {write_value(outline(grammar.ir))}{fields}"

    def _prompts(self, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
        if not all(conversations):
            raise UsageError("A conversation has no message.", hint="Give it one of the user's.")
        prompts = [self._prompt(m).tokens(self.model.engine) for m in conversations]
        room = self.model.engine.context_length
        for number, prompt in enumerate(prompts, 1):
            if len(prompt) + self._longest > room:
                raise DecodingError(
                    f"Conversation {number} has {len(prompt)} tokens and its answer may take "
                    f"{self._longest}: the model's context has {room}.",
                    hint="Shorten it, or ask for fewer tokens.",
                )
        return prompts

    @property
    def _longest(self) -> int:
        bound = None if self.grammar is None else self.grammar.longest
        return self.max_tokens if bound is None else bound

    def _job(
        self,
        prompts: Sequence[Sequence[int]],
        seed: int,
        begun: dict[int, Constraint],
        reader: _Reader | None = None,
    ) -> GenerationRequest:
        """`begun` is filled with each row's constraint."""
        prefix, suffixes = share(prompts)
        tokenizer = self.model.engine.tokenizer
        grammar = None if self.grammar is None else Grammar(tokenizer, self.grammar.serialised)
        head = () if grammar is None else grammar.forced_prefix

        def start(row: int) -> SequenceInit:
            constraint: Constraint
            if grammar is None:
                constraint = FreeTextConstraint(self.model.vocabulary, self.max_tokens, self.stop)
            else:
                constraint = grammar.start()
                if self.grammar is not None and self.grammar.longest is None:
                    most = self.max_tokens - len(head)
                    constraint = TokenLimitConstraint(constraint, most, tokenizer.eos_tokens)
            begun[row] = constraint
            heard = constraint if reader is None else _Heard(constraint, reader)
            return SequenceInit((*suffixes[row], *head), heard)

        longest = max(map(len, suffixes)) + self._longest
        return GenerationRequest(
            prefix, start, longest, seed, self.temperature, log_weights=LogWeightPolicy.NONE
        )

    def _check(self, decoded: Completion) -> Accepted[str] | Rejected:
        try:
            if isinstance(self.grammar, TextGrammar):
                self.grammar.parse(decoded.text)
            return Accepted(
                decoded.text if self.grammar is None else self.grammar.tidy(decoded.text)
            )
        except ValueError as error:
            return Rejected(Rejection.from_error(error))

    def _answer(
        self, text: str, sampled_tokens: int, prompt: Sequence[int], constraint: Constraint
    ) -> Answer:
        cut = isinstance(constraint, FreeTextConstraint | TokenLimitConstraint) and constraint.cut
        stop = constraint.stopped_by if isinstance(constraint, FreeTextConstraint) else None
        finish: Finish = "length" if cut else "stop"
        return Answer(text, finish, len(prompt), sampled_tokens, stop)


class _Reader:
    """Who reads a stream: `pieces` wait there, and `left` is set when nobody does any more."""

    def __init__(self) -> None:
        self.pieces: queue.Queue[str | BaseException | None] = queue.Queue()
        self.left = threading.Event()


class _Heard:
    """A constraint whose text goes to a reader as it grows."""

    def __init__(self, constraint: Constraint, reader: _Reader) -> None:
        self._constraint = constraint
        self._reader = reader
        self._said = 0
        self.matcher = constraint.matcher
        self.fill_bitmask = constraint.fill_bitmask
        self.needs_full_logits = constraint.needs_full_logits
        self.process_logits = constraint.process_logits
        self.text = constraint.text
        self.close = constraint.close
        self._say()

    @property
    def is_terminated(self) -> bool:
        """Whether the row is whole, or nobody reads on."""
        return self._constraint.is_terminated or self._reader.left.is_set()

    @property
    def validate_token(self) -> Callable[[int], bool] | None:
        """The constraint's own."""
        return self._constraint.validate_token

    def accept_token(self, token: int, stream: Any) -> Sequence[int]:
        """Accept a token and pass on what it wrote."""
        forced = self._constraint.accept_token(token, stream)
        self._say()
        return forced

    def _say(self) -> None:
        try:
            text = self._constraint.text()
        except UnicodeDecodeError:  # in the middle of a character
            return
        if len(text) > self._said:
            self._reader.pieces.put(text[self._said :])
            self._said = len(text)
