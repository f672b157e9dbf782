"""A model by name, loaded: the file that the name stands for, and the engine opened on it.

Knows names and files, not prompts or schemas.
"""

from __future__ import annotations

import json
import os
import time
import warnings
import weakref
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
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
from .engine.requests import Accepted, Completion, GenerationRequest, Outcome, Rejected
from .engine.stop_request import StopRequest
from .engine.workers import decode_shards
from .errors import DecodingError, UsageError
from .kernels.build import Kernels, compile_kernels, compiled_hash, library_hash
from .loading.load_plan import LoadPlan, choose_load_plan
from .loading.prefix_cache import PrefixKey, load_prefix, save_prefix
from .loading.probe import ProbeRequest, probe_kernels
from .models.catalog import default_model
from .models.gguf import read_header
from .models.resolve import find
from .models.store import cache_folder, probe_record
from .system.atomic_write import whole_file
from .system.cores import available_cores
from .system.permissions import exposed, is_private, make_private

Value = TypeVar("Value")
Note: TypeAlias = Callable[[str], None]

RANDOM = "random"
_NOT_REPACKED = (
    "This build of llama.cpp dies of its AMX kernels, and runs without them, which is slower. "
    "Build it again as docs/models.md says."
)
_NOT_COMPILED = (
    "Attention and draws are slower than they could be: the kernels that were compiled here do not "
    "come through a trial with this model."
)
_NOT_TRUSTED = (
    "Starting is slower than it could be: other users can change {}, so what is compiled and "
    "measured in the cache is not used. Set SYNTHGEN_LOCAL_CACHE to a folder of your own."
)
KEEP_PREFIXES = "SYNTHGEN_LOCAL_KEEP_PREFIXES"
Weights: TypeAlias = Literal["fast", "as-shipped"]
FlashAttention: TypeAlias = Literal["auto", "on", "off"]
FLASH_ATTENTIONS: tuple[FlashAttention, ...] = ("auto", "on", "off")


@dataclass(frozen=True)
class ShardSelection:
    """Which shards of a run are to be made, all for None, and a way to end it early.

    Not `in_order`, rows come as they are finished, and none waits for another.
    """

    shards: Sequence[int] | None = None
    stop: StopRequest = field(default_factory=StopRequest)
    in_order: bool = True


class LocalModel:
    """Weights in memory, to be closed after use.

    `engine` is what decodes; `path` is the file as shipped and `load_plan` what was chosen to be
    loaded of it, None if there is none; `threads` is how many CPU threads a run may use;
    `flash_attn` says whether attention is flash attention.

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
        """Open a model that is on this machine; the network is never used.

        `name` is a name of the catalog (the default model if empty), a path to a .gguf,
        `user/repo:QUANT` of the Hugging Face cache, or `random`: random bytes for dry runs.
        `gpu_layers` of None offloads all layers if the llama.cpp build can. `weights` of
        "fast" opens them on a CPU as `models optimise` has found best here; what it was not asked
        for yet is used as shipped, but a small model is measured once, briefly.
        "as-shipped" opens the file itself. `flash_attn` "auto" is on, unless a batch without it was
        found faster here. `keep_prefixes` leaves evaluated prompts on disk for
        later runs on a CPU, see `prefixes.py`: whoever reads them reads the examples, so None does
        not, unless the environment says SYNTHGEN_LOCAL_KEEP_PREFIXES=1. `note` is told what begins
        and may take long, such as `print`.

        A file that is new here is first loaded in a process of its own, which takes a second or as
        long as loading it does. Raises ModelNotFoundError if it is not here, ModelError if it is
        damaged.
        """
        threads = threads or available_cores()
        if name == RANDOM:
            return cls(RandomModel(), threads=threads, note=note)
        name = name or default_model()
        if flash_attn not in FLASH_ATTENTIONS:
            raise UsageError(f"flash_attn cannot be {flash_attn!r}.", hint="auto, on or off.")
        path = find(name)
        kernels = probe_once(path, gpu_layers, note)
        from .engine.backends.llamacpp import LlamaModel, gpu_offload  # takes a quarter of a second

        on_gpu = gpu_offload() and gpu_layers != 0
        tuned = weights == "fast" and not on_gpu
        asked = partial(choose_load_plan, path, threads=threads, kernels=kernels, note=note)
        load_plan = asked() if tuned else LoadPlan(path)
        kernels = replace(kernels, weights=load_plan.held)
        note(f"Loading {name}")
        flash = load_plan.batch.flash if flash_attn == "auto" else flash_attn == "on"
        engine = LlamaModel(
            load_plan.path, name=name, gpu_layers=gpu_layers, flash=flash, kernels=kernels
        )
        if keep_prefixes is None:
            keep_prefixes = os.environ.get(KEEP_PREFIXES) == "1"
        return cls(
            engine,
            path=path,
            load_plan=load_plan,
            threads=threads,
            flash_attn=flash,
            keep_prefixes=keep_prefixes,
            note=note,
        )

    @property
    def engine(self) -> Model:
        """What decodes. Raises DecodingError if the model is closed."""
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
        job: GenerationRequest,
        rows: int,
        check: Callable[[Completion], Accepted[Value] | Rejected],
        *,
        attempts: int,
        batch: int | None = None,
        selection: ShardSelection | None = None,
    ) -> Generator[Outcome[Value]]:
        """Yield the outcomes of rows 0 to `rows` - 1 in that order; see `decode_shards`.

        Rows that are expected to take long are begun first, so the first to be yielded may be one
        of the last to finish of its shard. Of a `selection`, only its shards' rows, and in the
        order that it asks for. Raises DecodingError if the model is closed before the last one.
        """
        selection = selection or ShardSelection()
        shards = self.shards(rows, batch)
        chosen = (
            shards if selection.shards is None else [shards[number] for number in selection.shards]
        )
        layout = self.parallel_plan(rows, batch)
        outcomes = decode_shards(
            self.engine,
            job,
            chosen,
            layout,
            check,
            attempts=attempts,
            stop=selection.stop,
            prefix=partial(self._prefix, job),
        )
        self._running.add(outcomes)  # it decodes in threads of its own: see close()
        left = rows if selection.shards is None else sum(map(len, chosen))
        with closing(outcomes):
            for outcome in _in_order(outcomes, chosen) if selection.in_order else outcomes:
                left -= 1
                yield outcome
        if left and not selection.stop.requested:
            raise DecodingError(
                f"The model was closed when {left} of {rows} rows were not made.",
                hint="Take all rows before closing it.",
            )

    def shards(self, rows: int, batch: int | None = None) -> Sequence[range]:
        """Return how so many rows are cut: each shard's rows are the same wherever they are made.

        Example: `model.shards(1000)[0]`
        """
        return make_shards(range(rows), self.parallel_plan(rows, batch)) if rows else []

    def batch_size(self, rows: int, wanted: int | None = None) -> int:
        """Return how many of so many rows are in flight: those wanted, or what is fast here.

        Example: `model.batch_size(1000) == 64` on two threads, where nothing else was measured
        """
        if wanted:
            return wanted
        if self.engine.on_gpu:
            return GPU_BATCH_SIZE
        fast = self.threads * (self.load_plan.batch.rows if self.load_plan else DEFAULT_BATCH_SIZE)
        return choose_batch_size(fast, rows, threads=self.threads)

    def _prefix(self, job: GenerationRequest) -> Prefix:
        """A job's evaluated prompt: as it was kept, or made by all threads, and kept if wished."""
        self._note(f"Evaluating the prompt, {len(job.prompt)} tokens")
        if not self._keep_prefixes:
            return Prefix.prefill(self.engine, job, threads=self.threads)
        assert self.load_plan is not None
        file = self.load_plan.path
        about = file.stat()
        weights = f"{read_header(file).sha256} {about.st_size} {about.st_mtime_ns}"
        build = f"{self.engine.build}, flash attention {self.flash_attn}"
        key = PrefixKey(weights, build, self.threads, job.prompt)
        prefix = load_prefix(key)
        if prefix is None:
            prefix = Prefix.prefill(self.engine, job, threads=self.threads)
            save_prefix(key, prefix)
        return prefix

    def parallel_plan(self, rows: int, batch: int | None = None) -> ParallelPlan:
        """Return how so many rows are divided over contexts.

        Example: `model.parallel_plan(1000).contexts`
        """
        rows = max(1, rows)
        return plan_workers(
            self.engine, rows, batch=self.batch_size(rows, batch), threads=self.threads
        )

    def close(self) -> None:
        """Stop what still runs, because weights in use cannot be freed, and free them.

        Whatever uses the model afterwards raises DecodingError. A second call does nothing.
        """
        self._closed = True
        for run in list(self._running):
            while True:
                try:
                    run.close()
                    break
                except ValueError:  # another thread is inside it: it will be out after this pass
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


def _in_order(
    outcomes: Iterable[Outcome[Value]], shards: Sequence[range]
) -> Generator[Outcome[Value]]:
    """Hold back what comes too early."""
    waiting: dict[int, Outcome[Value]] = {}
    order = chain.from_iterable(shards)
    following = next(order, None)
    for outcome in outcomes:
        waiting[outcome.row] = outcome
        while following in waiting:
            yield waiting.pop(following)
            following = next(order, None)


def probe_once(path: Path, gpu_layers: int | None, note: Note = lambda _: None) -> Kernels:
    """Check a file's header, and load it in another process if such a header was not tried yet.

    What llama.cpp does with a file hangs on its header; the weights behind it are numbers. Returns
    the kernels that it can be used with; a warning says each time which cannot be used. Raises
    ModelError for what cannot be loaded.

    Example: `probe_once(Path("model.gguf"), gpu_layers=0)`
    """
    header = read_header(path)
    if shared := exposed(cache_folder()):
        warnings.warn(_NOT_TRUSTED.format(shared), stacklevel=3)
    wanted = Kernels(compiled=_compiled(note))
    parts = (header.sha256, path.stat().st_size, version("llama-cpp-python"), library_hash())
    tried = " ".join(map(str, (*parts, gpu_layers, wanted.compiled and compiled_hash())))
    mark = probe_record(header, tried)
    kernels = _marked(mark, wanted)
    if kernels is None:
        note(f"Trying {path.name} in a process of its own, once")
        kernels = probe_kernels(ProbeRequest(str(path), gpu_layers, wanted))
        found = {"repack": kernels.repack, "compiled": kernels.compiled == wanted.compiled}
        if make_private(mark.parent):
            with suppress(OSError), whole_file(mark, mode=0o600) as file:
                file.write(json.dumps(found).encode())  # if it fails, it is tried again next time
    if not kernels.repack:
        warnings.warn(_NOT_REPACKED, stacklevel=3)
    if kernels.compiled != wanted.compiled:
        warnings.warn(_NOT_COMPILED, stacklevel=3)
    return kernels


def _marked(mark: Path, wanted: Kernels) -> Kernels | None:
    """What was found before, None if nothing was."""
    if not is_private(mark):
        return None
    try:
        found = json.loads(mark.read_text("utf-8"))
        return Kernels(found["repack"], wanted.compiled if found["compiled"] else None)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _compiled(note: Note) -> str | None:
    """Our kernels; where they cannot be compiled, a warning says so."""
    try:
        return compile_kernels(cache_folder() / "compiled", note)
    except DecodingError as error:
        warnings.warn(f"{error} {error.hint}", stacklevel=4)
        return None


def check_sampling_options(
    temperature: float, batch: int | None = None, *, of: str = "rows"
) -> None:
    """Raise UsageError for a temperature or a batch that nothing can be drawn with.

    Example: `check_sampling_options(0.7, 32)`
    """
    if temperature < 0:
        raise UsageError(f"Temperature {temperature} is below 0.", hint="1 is the model's own.")
    if batch is not None and batch < 1:
        raise UsageError(f"A batch of {batch} {of} is none.", hint="Leave it out.")
