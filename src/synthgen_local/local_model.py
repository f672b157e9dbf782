"""A model by name: the file that the name stands for, and the backend opened on it.

Knows names, files and load plans; knows no prompts or schemas.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias, TypeVar

from .engine.backends.protocol import Model, closed
from .engine.backends.random_model import RandomModel
from .engine.constraints.vocabulary import VocabularyTable
from .engine.parallel_plan import (
    DEFAULT_BATCH_SIZE,
    GPU_BATCH_SIZE,
    ParallelPlan,
    choose_batch_size,
    make_shards,
    plan_workers,
)
from .engine.prefix import Prefix
from .engine.requests import Accepted, Completion, GenerationRequest, Rejected, Row
from .engine.stop_request import StopRequest
from .engine.workers import decode_shards
from .errors import DecodingError, UsageError
from .kernels.build import Kernels
from .loading.load_plan import LoadPlan, choose_load_plan
from .loading.prefix_cache import PrefixKey, load_prefix, save_prefix
from .loading.probe_cache import probe_once
from .models.catalog import default_model
from .models.gguf import read_header
from .models.resolve import find
from .system.cores import available_cores

Value = TypeVar("Value")
Note: TypeAlias = Callable[[str], None]

_logger = logging.getLogger(__name__)

RANDOM = "random"
KEEP_PREFIXES = "SYNTHGEN_LOCAL_KEEP_PREFIXES"
Weights: TypeAlias = Literal["fast", "as-shipped"]
FlashAttention: TypeAlias = Literal["auto", "on", "off"]
FLASH_ATTENTIONS: tuple[FlashAttention, ...] = ("auto", "on", "off")


@dataclass(frozen=True)
class ShardSelection:
    """The shards of a job to decode, None for all, and a request to stop early.

    With `in_order`, rows are yielded in the order of their numbers, else as they finish.
    """

    shards: Sequence[int] | None = None
    stop: StopRequest = field(default_factory=StopRequest)
    in_order: bool = True


class LocalModel:
    """A loaded model; close it after use.

    `engine` decodes. `path` is the file as shipped and `load_plan` how it is opened, both None
    for `random`. `threads` is the number of CPU threads of a job, `flash_attn` whether attention
    is flash attention.

    Example: `with LocalModel.load("smollm2-135m-instruct") as model: print(model.name)`
    """

    def __init__(
        self,
        engine: Model,
        *,
        path: Path | None = None,
        load_plan: LoadPlan | None = None,
        threads: int | None = None,
        flash_attn: bool = True,
        keep_prefixes: bool = False,
        note: Note = lambda _: None,
    ) -> None:
        self._engine = engine
        self._note = note
        self._closed = False
        self._vocabulary: VocabularyTable | None = None
        self.flash_attn: FlashAttention = "on" if flash_attn else "off"
        self._keep_prefixes = keep_prefixes and load_plan is not None and not engine.on_gpu
        self.path = path
        self.load_plan = load_plan
        self.threads = threads or available_cores()
        self._running: weakref.WeakSet[Generator[Any]] = weakref.WeakSet()

    @classmethod
    def load(
        cls,
        name: str = "",
        *,
        gpu_layers: int | None = None,
        threads: int | None = None,
        weights: Weights = "fast",
        flash_attn: FlashAttention = "auto",
        keep_prefixes: bool | None = None,
        note: Note = lambda _: None,
    ) -> LocalModel:
        """Load a model from this machine; the network is never used.

        `name` is a name of the catalog (the default model if empty), a path to a .gguf,
        `user/repo:QUANT` of the Hugging Face cache, or `random`: random logits for dry runs.
        `gpu_layers` of None offloads all layers if the llama.cpp build can.

        `weights` "fast" opens the format that `models optimise` chose on this machine; a small
        model that was never optimised is measured briefly at its first load, a large one is used
        as shipped. "as-shipped" opens the file itself. `flash_attn` "auto" is on, unless a batch
        without it was measured faster here.

        `keep_prefixes` stores evaluated prompts on disk for later jobs on a CPU. The files contain
        the examples, so the default is not to, unless SYNTHGEN_LOCAL_KEEP_PREFIXES=1 is set.
        `note` is called with a message before each step that may take long, such as `print`.

        A file that is new here is first loaded in a subprocess, which takes as long as loading it.
        Raises ModelNotFoundError if the model is not here, ModelError if it is damaged.
        """
        threads = threads or available_cores()
        if name == RANDOM:
            return cls(RandomModel(), threads=threads, note=note)
        name = name or default_model()
        if flash_attn not in FLASH_ATTENTIONS:
            raise UsageError(f"flash_attn cannot be {flash_attn!r}.", hint="Use auto, on or off.")
        path = find(name)
        kernels = probe_once(path, gpu_layers, note)
        from .engine.backends.llamacpp import gpu_offload  # takes a quarter of a second

        plan = LoadPlan(path)
        if weights == "fast" and not (gpu_offload() and gpu_layers != 0):
            plan = choose_load_plan(path, threads=threads, kernels=kernels, note=note)
        note(f"Loading {name}")
        flash = plan.batch.flash if flash_attn == "auto" else flash_attn == "on"
        _logger.info("Loading %s from %s, flash attention %s, %s", name, plan.path, flash, kernels)
        return cls(
            _open_engine(plan, name, gpu_layers, kernels, flash=flash),
            path=path,
            load_plan=plan,
            threads=threads,
            flash_attn=flash,
            keep_prefixes=_keeps_prefixes(keep_prefixes),
            note=note,
        )

    @property
    def engine(self) -> Model:
        """The model's backend. Raises DecodingError if the model is closed."""
        if self._closed:
            raise closed()
        return self._engine

    @property
    def name(self) -> str:
        """The name it was loaded by."""
        return self._engine.name

    @property
    def vocabulary(self) -> VocabularyTable:
        """Tables over the vocabulary for prose; made at first use, in about half a second."""
        if self._vocabulary is None:
            self._vocabulary = VocabularyTable(self.engine.tokenizer)
        return self._vocabulary

    def decode(
        self,
        request: GenerationRequest,
        rows: int,
        check: Callable[[Completion], Accepted[Value] | Rejected],
        *,
        attempts: int,
        batch: int | None = None,
        selection: ShardSelection | None = None,
    ) -> Generator[Row[Value]]:
        """Yield rows 0 to `rows` - 1 in that order; see `decode_shards`.

        Rows that are expected to be long start first, so the first row to be yielded may be one
        of the last of its shard to finish. With a `selection`, only its shards are decoded, and in
        its order. Raises DecodingError if the model is closed before the last row.

        Example: `for row in model.decode(request, 10, check, attempts=3): print(row.value)`
        """
        selection = selection or ShardSelection()
        shards = self.shards(rows, batch)
        if selection.shards is not None:
            shards = [shards[number] for number in selection.shards]
        decoded = decode_shards(
            self.engine,
            request,
            shards,
            self.parallel_plan(rows, batch),
            check,
            attempts=attempts,
            stop=selection.stop,
            prefix=partial(self._prefix, request),
        )
        self._running.add(decoded)  # it decodes in threads of its own: see close()
        left = sum(map(len, shards))
        with closing(decoded):
            for row in _in_order(decoded, shards) if selection.in_order else decoded:
                left -= 1
                yield row
        if left and not selection.stop.requested:
            raise DecodingError(
                f"The model was closed when {left} of {rows} rows were not made.",
                hint="Take all rows before closing it.",
            )

    def shards(self, rows: int, batch: int | None = None) -> Sequence[range]:
        """Return how `rows` are divided into shards, the unit of recording and resuming.

        Example: `model.shards(1000)[0]`
        """
        return make_shards(range(rows), self.parallel_plan(rows, batch)) if rows else []

    def batch_size(self, rows: int, wanted: int | None = None) -> int:
        """Return how many of `rows` sequences run at once: as wanted, or as is fast here.

        Example: `model.batch_size(1000) == 64` on two threads without a measurement
        """
        if wanted:
            return wanted
        if self.engine.on_gpu:
            return GPU_BATCH_SIZE
        fast = self.threads * (self.load_plan.batch.rows if self.load_plan else DEFAULT_BATCH_SIZE)
        return choose_batch_size(fast, rows, threads=self.threads)

    def parallel_plan(self, rows: int, batch: int | None = None) -> ParallelPlan:
        """Return how `rows` are divided over contexts.

        Example: `model.parallel_plan(1000).contexts`
        """
        rows = max(1, rows)
        batch = self.batch_size(rows, batch)
        return plan_workers(self.engine, rows, batch=batch, threads=self.threads)

    def _prefix(self, request: GenerationRequest) -> Prefix:
        """The evaluated prompt, from the prefix cache on disk if it is in use."""
        self._note(f"Evaluating the prompt, {len(request.prompt)} tokens")
        if not self._keep_prefixes:
            return Prefix.prefill(self.engine, request, threads=self.threads)
        assert self.load_plan is not None
        file = self.load_plan.path
        about = file.stat()
        weights = f"{read_header(file).sha256} {about.st_size} {about.st_mtime_ns}"
        build = f"{self.engine.build}, flash attention {self.flash_attn}"
        key = PrefixKey(weights, build, self.threads, request.prompt)
        prefix = load_prefix(key)
        if prefix is None:
            prefix = Prefix.prefill(self.engine, request, threads=self.threads)
            save_prefix(key, prefix)
        return prefix

    def close(self) -> None:
        """Stop running jobs, whose weights could not be freed, and free the weights.

        Any later use of the model raises DecodingError. A second call does nothing.
        """
        self._closed = True
        for running in list(self._running):
            while True:
                try:
                    running.close()
                    break
                except ValueError:  # another thread is inside it until the end of its pass
                    time.sleep(0.01)
        self._engine.close()

    def __enter__(self) -> LocalModel:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _in_order(rows: Iterable[Row[Value]], shards: Sequence[range]) -> Generator[Row[Value]]:
    """Yield rows in the order of the shards; hold back those that come too early."""
    waiting: dict[int, Row[Value]] = {}
    order = chain.from_iterable(shards)
    following = next(order, None)
    for row in rows:
        waiting[row.number] = row
        while following in waiting:
            yield waiting.pop(following)
            following = next(order, None)


def _open_engine(
    plan: LoadPlan, name: str, gpu_layers: int | None, kernels: Kernels, *, flash: bool
) -> Model:
    from .engine.backends.llamacpp import LlamaModel

    kernels = replace(kernels, weights=plan.repacked_as)
    return LlamaModel(plan.path, name=name, gpu_layers=gpu_layers, flash=flash, kernels=kernels)


def _keeps_prefixes(wanted: bool | None) -> bool:
    return os.environ.get(KEEP_PREFIXES) == "1" if wanted is None else wanted


def check_sampling_options(
    temperature: float, batch: int | None = None, *, of: str = "rows"
) -> None:
    """Raise UsageError for a temperature below 0 or a batch size below 1.

    Example: `check_sampling_options(0.7, 32)`
    """
    if temperature < 0:
        raise UsageError(
            f"Temperature {temperature} is below 0.", hint="1 is the model's own distribution."
        )
    if batch is not None and batch < 1:
        raise UsageError(
            f"The batch size is {batch} {of}; it must be 1 or more.", hint="Leave it out."
        )
