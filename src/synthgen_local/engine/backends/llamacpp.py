"""llama.cpp through llama-cpp-python's low-level API.

The only module that imports `llama_cpp`. It knows GGUF files, batches and sequence
ids, and nothing of grammars or rows; `compiled_draw.py` draws, in one call with a pass.

One unified key-value cache holds the prefix as sequence 0; slot `s` is sequence
`s + 1`, forked by tagging the prefix's cells (no copy). A token that several slots take
together is one cell with several tags.

Attention is computed in one of three ways. llama.cpp's flash attention reads the KV cells row by
row and skips those of other rows. Without it, one matrix product takes all rows against all cells.
`csrc/attention.c` replaces flash attention where it is offered: a matrix product over the cells
that rows share, and each row's own cells apart. `csrc/matmul.c` repacks and multiplies the weights.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeAlias

import llama_cpp
import numpy as np
from llguidance import LLTokenizer
from llguidance.llamacpp import lltokenizer_from_vocab
from numpy.typing import NDArray

from ...errors import DecodingError, ModelError
from ...kernels.build import PLAIN, Kernels
from ...system.memory import memory_hint
from ..bitmask import Mask
from ..compiled_sampler import CompiledSampler
from ..sampling import Sample, SamplingInputs, sample_rows
from .protocol import MASK_SLICES, ContextSize, Logits, Step, closed, decode_then_sample

MAX_SLOTS = llama_cpp.llama_max_parallel_sequences() - 1
"""Rows that one context can hold beside the prefix."""

_BATCH = 512  # tokens in one forward pass; more brings nothing on a CPU
_GPU_BATCH = 2048
_BURST = 4  # times its share of the cores: contexts on a GPU seldom draw at the same moment
_ERROR_LEVEL = 4  # GGML_LOG_LEVEL_ERROR
_FLASH = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
_PLAIN = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
_CPU_DEVICE = 0  # GGML_BACKEND_DEVICE_TYPE_CPU
_F16, _BF16 = 1, 30  # GGML_TYPE_F16, GGML_TYPE_BF16
_NOTHING, _ATTENTION, _EVERYTHING = range(3)  # what our backend offers: csrc/operators.h
_CONTROL = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
_WEIGHTS = {"int8": 3, "bf16": 4}

_Pass: TypeAlias = Callable[[Any, llama_cpp.llama_batch], int]


class _Log:
    """Keeps llama.cpp's messages off the terminal and remembers its last error."""

    def __init__(self) -> None:
        self.last_error = ""
        self._callback: Callable[..., None] = llama_cpp.llama_log_callback(self._receive)
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _receive(self, level: int, text: bytes, _user_data: Any) -> None:
        if level == _ERROR_LEVEL and not self.last_error:
            self.last_error = text.decode(errors="replace").strip()

    def clear(self) -> None:
        self.last_error = ""


_log = _Log()


class LlamaModel:
    """The weights of a GGUF file.

    The file should have been looked at before: `models/gguf.py` reads its header, and `trial.py`
    loads it in a process of its own, because llama.cpp ends the process on some that are damaged.
    Raises ModelError if llama.cpp refuses it. `gpu_layers` of None
    offloads every layer if this build of llama.cpp can, 0 keeps all on the CPU. `flash` is how
    contexts that are opened from now on compute attention.

    Example: `LlamaModel(Path("model.gguf")).tokenize("Hello")`
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str = "",
        gpu_layers: int | None = None,
        flash: bool = True,
        kernels: Kernels = PLAIN,
    ) -> None:
        self.name = name or path.stem
        self.flash = flash
        self.on_gpu = bool(llama_cpp.llama_supports_gpu_offload()) and gpu_layers != 0
        if gpu_layers and not self.on_gpu:
            raise ModelError(
                "This build of llama.cpp cannot offload layers to a GPU.",
                hint="Leave --gpu-layers out, or rebuild llama-cpp-python with GPU support.",
            )
        if kernels.weights and not kernels.compiled:
            raise ModelError(
                f"Weights are held as {kernels.weights} by our own kernels, which are not here.",
                hint="Open them with --weights as-shipped.",
            )
        self._draws = CompiledSampler(kernels.compiled) if kernels.compiled else None
        self._kernels = PLAIN if self.on_gpu else kernels
        self._process = os.getpid()
        self._model = _load(path, gpu_layers, self._kernels)
        vocab = llama_cpp.llama_model_get_vocab(self._model)
        assert vocab is not None
        self._open_vocab = vocab
        self.vocabulary = int(llama_cpp.llama_vocab_n_tokens(vocab))
        self._tokenizer = _tokenizer(vocab)
        self.description = _description(self._model)
        self._splits_batches = bool(
            llama_cpp.llama_model_is_hybrid(self._model)
            or llama_cpp.llama_model_is_recurrent(self._model)
        )  # then logits of one part would lie where the next one computes
        self._wide = self._kernels.weights == "bf16" and _is_attended_here(self._model)
        self.context_length = int(llama_cpp.llama_model_n_ctx_train(self._model))
        template = llama_cpp.llama_model_chat_template(self._model, None)
        self.chat_template = template.decode(errors="replace") if template else None
        self.special_tokens = {
            "bos_token": self._text(llama_cpp.llama_vocab_bos(vocab)),
            "eos_token": self._text(llama_cpp.llama_vocab_eos(vocab)),
        }

    @property
    def _vocab(self) -> Any:
        """The vocabulary of weights that are open in this process."""
        self._require_open()
        return self._open_vocab

    def _require_open(self) -> None:
        """Raise DecodingError unless the weights are open in this process.

        llama.cpp ends the process when it reads freed weights, and waits for threads that a forked
        process does not have.
        """
        if self._model is None:
            raise closed()
        if self._process != os.getpid():
            raise DecodingError(f"{self.name} was loaded before a fork.", hint=_SPAWN)

    @property
    def tokenizer(self) -> LLTokenizer:
        """Llguidance's view of the vocabulary, which reads the weights' own."""
        self._require_open()
        return self._tokenizer

    @property
    def build(self) -> str:
        """The version of llama.cpp, what it uses of this machine, and what is ours."""
        ours = [Path(self._kernels.compiled).stem] if self._kernels.compiled else []
        unpacked = () if self._kernels.repack else ("without-repacking",)
        return " ".join([build(), *ours, *filter(None, [self._kernels.weights]), *unpacked])

    @cached_property
    def control_tokens(self) -> tuple[str, ...]:
        """Texts that `tokenize` turns into tokens that are not text."""
        return tuple(
            text
            for token in range(self.vocabulary)
            if self._is_control(token) and (text := self._text(token))
        )

    def _is_control(self, token: int) -> bool:
        attributes = llama_cpp.llama_vocab_get_attr(self._vocab, token)
        return bool(attributes & _CONTROL) or llama_cpp.llama_vocab_is_eog(self._vocab, token)

    def tokenize(self, text: str, *, begun: bool = False) -> list[int]:
        """Prompt text to tokens; a leading token that the text spells is not added twice."""
        bos = self.special_tokens["bos_token"]
        add_special = not (begun or (bos and text.startswith(bos)))
        data = text.encode()
        room = len(data) + 8
        tokens = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(
            self._vocab, data, len(data), tokens, room, add_special, True
        )
        if count < 0:
            raise DecodingError("The prompt cannot be tokenized.", hint="Is it valid Unicode?")
        found = list(tokens[:count])
        return self._without_space(found) if begun and not text.startswith(" ") else found

    def _without_space(self, tokens: list[int]) -> list[int]:
        """Take off the space that some vocabularies put before every text."""
        piece = b"" if not tokens else self.tokenizer.decode_bytes(tokens[:1])
        if not piece.startswith(b" "):
            return tokens
        return [*self.tokenizer.tokenize_bytes(piece[1:]), *tokens[1:]]

    def open_context(self, size: ContextSize) -> LlamaContext:
        """Allocate a context on these weights; several may be open at once."""
        self._require_open()
        _first_used[:] = [os.getpid()]
        ours = self._kernels.compiled if self._kernels.weights else None
        with _offered(self._kernels, _EVERYTHING if ours else _ATTENTION):
            return LlamaContext(
                self._model,
                self.vocabulary,
                size,
                flash=self.flash,
                draws=self._draws,
                drawing_threads=size.threads * (_BURST if self.on_gpu else 1),
                batch=_GPU_BATCH if self.on_gpu else _BATCH,
                head=_backend(ours) if ours and not self._splits_batches else None,
                cache=_BF16 if self.flash and self._wide else _F16,
            )

    def close(self) -> None:
        """Free the weights. Contexts must be closed before."""
        if self._model is not None:
            llama_cpp.llama_model_free(self._model)
            self._model = None

    def _text(self, token: int) -> str:
        if token < 0:
            return ""
        text = llama_cpp.llama_vocab_get_text(self._vocab, token)
        return text.decode(errors="replace") if text else ""


class LlamaContext:
    """One key-value cache: sequence 0 is the prefix, sequence `slot + 1` a row.

    `batch` is how many tokens a forward pass takes at most, `head` our kernels where they compute
    the logits, `cache` the type of keys and values.
    """

    def __init__(
        self,
        model: Any,
        vocabulary: int,
        size: ContextSize,
        *,
        flash: bool,
        draws: CompiledSampler | None,
        drawing_threads: int,
        batch: int,
        head: Any,
        cache: int,
    ) -> None:
        if not 0 < size.slots <= MAX_SLOTS:
            raise DecodingError(
                f"A context holds 1 to {MAX_SLOTS} rows, not {size.slots}.",
                hint="Choose a smaller --batch.",
            )
        self.size = size
        self.sampling_seconds = 0.0  # nobody else can tell, where it is within a pass
        self._draws = draws
        self._drawing_threads = drawing_threads
        self._vocabulary = vocabulary
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = size.cells
        params.n_batch = params.n_ubatch = batch
        params.n_seq_max = size.slots + 1
        params.n_outputs_max = size.slots + 1  # llama.cpp wants one for each sequence
        params.kv_unified = True
        params.type_k = params.type_v = cache
        params.flash_attn_type = _FLASH if flash else _PLAIN
        params.n_threads = params.n_threads_batch = size.threads
        params.no_perf = True
        _log.clear()
        self._context = llama_cpp.llama_init_from_model(model, params)
        if self._context is None:
            raise DecodingError(
                f"llama.cpp cannot allocate a context of {size.cells} tokens: {_reason()}",
                hint=f"Choose a smaller --batch. {memory_hint()}",
            )
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = batch
        self._head = head
        self._lengths = [0] * (size.slots + 1)

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """Evaluate the prefix as sequence 0. Raises DecodingError if it is empty."""
        if not tokens:
            raise DecodingError("There is no prompt to go on from.", hint="Write one.")
        llama_cpp.llama_memory_clear(self._memory, True)
        self._lengths[0] = 0
        logits: Logits = self._evaluate([([0], tokens)], [None], llama_cpp.llama_decode)[0]
        return logits

    def save_prefix(self) -> bytes:
        """Sequence 0, some 20 kB a token for a small model."""
        size = llama_cpp.llama_state_seq_get_size(self._context, 0)
        state = (ctypes.c_uint8 * size)()
        llama_cpp.llama_state_seq_get_data(self._context, state, size, 0)
        return bytes(state)

    def load_prefix(self, state: bytes, length: int) -> None:
        """Fill sequence 0: far cheaper than evaluating it."""
        llama_cpp.llama_memory_clear(self._memory, True)
        data = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        if llama_cpp.llama_state_seq_set_data(self._context, data, len(state), 0) != len(state):
            raise DecodingError("llama.cpp cannot copy a prefix.", hint="Update llama-cpp-python.")
        self._lengths[0] = length

    def fork(self, slot: int) -> None:
        """Tag the prefix's cells with the slot's sequence."""
        sequence = slot + 1
        llama_cpp.llama_memory_seq_cp(self._memory, 0, sequence, -1, -1)
        self._lengths[sequence] = self._lengths[0]

    def release(self, slot: int) -> None:
        """Free the cells that the slot does not share, and untag the prefix's."""
        llama_cpp.llama_memory_seq_rm(self._memory, slot + 1, -1, -1)

    def decode(self, steps: Sequence[Step]) -> Logits:
        """One forward pass, or more if the steps exceed a batch."""
        return self._advance(steps, llama_cpp.llama_decode)

    def sample(self, logits: Sequence[Logits], inputs: SamplingInputs) -> list[Sample]:
        """By our kernels, if they are here."""
        start = time.perf_counter()
        if self._draws is None:
            drawn = sample_rows(logits, inputs)
        else:
            drawn = self._draws.rows(logits, inputs, threads=self._drawing_threads)
        self.sampling_seconds += time.perf_counter() - start
        return drawn

    def decode_and_sample(
        self, steps: Sequence[Step], outputs: Sequence[int], inputs: SamplingInputs
    ) -> tuple[list[Logits], list[Sample]]:
        """In one call, if our kernels are here and one forward pass does it."""
        fits = sum(len(step.tokens) for step in steps) <= self._batch
        if self._draws is None or inputs.temperature == 0 or not fits:
            return decode_then_sample(self, steps, outputs, inputs)
        threads = self._drawing_threads
        draws = self._draws.prepare_pass(inputs, outputs, self._vocabulary, threads=threads)
        every = self._advance(
            steps, partial(draws.make, _address("llama_decode"), _address("llama_get_logits"))
        )
        self.sampling_seconds += draws.seconds
        logits = [every[output] for output in outputs]
        return logits, draws.found(logits)

    def close(self) -> None:
        """Free the context."""
        if self._context is not None:
            llama_cpp.llama_free(self._context)
            self._context = None

    def _advance(self, steps: Sequence[Step], make_pass: _Pass) -> Logits:
        work = [([slot + 1 for slot in step.slots], step.tokens) for step in steps]
        return self._evaluate(work, [step.mask for step in steps], make_pass)

    def _evaluate(
        self,
        work: Sequence[tuple[Sequence[int], Sequence[int]]],
        masks: Sequence[Mask | None],
        make_pass: _Pass,
    ) -> Logits:
        """What the masks ask of the logits after the tokens that sets of sequences go on with."""
        starts = []
        for sequences, tokens in work:
            starts.append(start := self._lengths[sequences[0]])
            for sequence in sequences:
                self._lengths[sequence] = start + len(tokens)
        laid_out = _Tokens.of(work, starts)
        left = iter(masks)
        first, *others = (
            (batch, list(islice(left, outputs))) for batch, outputs in laid_out.batches(self._batch)
        )
        if not others:
            return self._forward(*first, make_pass)
        parts = [self._forward(*batch, make_pass).copy() for batch in (first, *others)]
        return np.concatenate(parts)

    def _forward(
        self, batch: llama_cpp.llama_batch, masks: Sequence[Mask | None], make_pass: _Pass
    ) -> Logits:
        if self._context is None:
            raise closed()
        _log.clear()
        outputs = len(masks)
        if self._head is None or not outputs:
            status, computed = make_pass(self._context, batch), None
        else:
            asked = [0 if mask is None else mask.ctypes.data for mask in masks]
            pointers = np.array(asked, dtype=np.uintp)
            self._head.synthgen_local_set_logits_mask(outputs, _pointer(pointers, ctypes.c_void_p))
            try:
                status = make_pass(self._context, batch)
            finally:
                computed = self._head.synthgen_local_take_logits()
        if status != 0:
            raise DecodingError(
                f"llama.cpp stopped with status {status}: {_reason()}",
                hint="Choose a smaller --batch, or fetch the model again.",
            )
        if outputs == 0:
            return np.empty((0, self._vocabulary), dtype=np.float32)
        pointer = computed or llama_cpp.llama_get_logits(self._context)
        return np.ctypeslib.as_array(pointer, shape=(outputs, self._vocabulary))


@dataclass(frozen=True)
class _Tokens:
    """Tokens as a `llama_batch` wants them: of each its position, and whose it is.

    `sequences` are all sets, one after the other, and `pointers` where a token's begins there.
    `wanted` is 1 where logits are. It must outlive the batches, which point into it.
    """

    token: NDArray[np.int32]
    position: NDArray[np.int32]
    sequences: NDArray[np.int32]
    pointers: NDArray[np.uintp]
    sizes: NDArray[np.int32]
    wanted: NDArray[np.int8]

    @classmethod
    def of(cls, work: Sequence[tuple[Sequence[int], Sequence[int]]], starts: Sequence[int]) -> Self:
        """Sets of sequences, and the tokens that each goes on with from its start."""
        token: list[int] = []
        position: list[int] = []
        owners: list[int] = []
        offsets: list[int] = []
        sizes: list[int] = []
        wanted: list[int] = []
        for (sequences, tokens), start in zip(work, starts, strict=True):
            token += tokens
            position += range(start, start + len(tokens))
            offsets += [len(owners)] * len(tokens)
            sizes += [len(sequences)] * len(tokens)
            wanted += [0] * (len(tokens) - 1) + [1]
            owners += sequences
        all_owners = np.array(owners, dtype=np.int32)
        return cls(
            np.array(token, dtype=np.int32),
            np.array(position, dtype=np.int32),
            all_owners,
            all_owners.ctypes.data + np.array(offsets, dtype=np.uintp) * all_owners.itemsize,
            np.array(sizes, dtype=np.int32),
            np.array(wanted, dtype=np.int8),
        )

    def batches(self, size: int) -> Iterator[tuple[llama_cpp.llama_batch, int]]:
        """Cut into batches of at most `size` tokens; with each, how many logits it asks for."""
        for start in range(0, len(self.token), size):
            part = slice(start, start + size)
            batch = llama_cpp.llama_batch(
                n_tokens=len(self.token[part]),
                token=_pointer(self.token[part], llama_cpp.llama_token),
                embd=None,
                pos=_pointer(self.position[part], llama_cpp.llama_pos),
                n_seq_id=_pointer(self.sizes[part], ctypes.c_int32),
                seq_id=_pointer(self.pointers[part], ctypes.POINTER(llama_cpp.llama_seq_id)),
                logits=_pointer(self.wanted[part], ctypes.c_int8),
            )
            yield batch, int(self.wanted[part].sum())


def repack_formats(kernels: Kernels) -> list[str]:
    """Formats in which our kernels can hold weights on this processor, the likely fastest first."""
    if kernels.compiled is None:
        return []
    ours = _backend(kernels.compiled)
    found = [name for name, number in _WEIGHTS.items() if ours.synthgen_local_enable_device(number)]
    ours.synthgen_local_enable_device(_NOTHING)
    return sorted(found, key=lambda name: _WEIGHTS[name] != ours.synthgen_local_preferred_format())


def gpu_offload() -> bool:
    """Whether this build of llama.cpp can run layers on a GPU."""
    return bool(llama_cpp.llama_supports_gpu_offload())


def system_info() -> dict[str, str]:
    """The build's features as llama.cpp prints them, such as {"AVX512": "1"}."""
    text = llama_cpp.llama_print_system_info().decode()
    return dict(re.findall(r"(\w+) = (\w+)", text))


def build() -> str:
    """The version of llama.cpp, and what it uses of this machine: both decide how it rounds."""
    features = (name for name, value in system_info().items() if value != "0")
    return f"{llama_cpp.__version__} {' '.join(features)}"


_first_used: list[int] = []  # the process that decoded, in which OpenMP has its threads
_SPAWN = "Load models in the new process alone, or start it by multiprocessing's method 'spawn'."
_loaded: dict[str, Any] = {}  # our backend in llama.cpp, by its file
_loading = threading.Lock()


@contextmanager
def _offered(kernels: Kernels, what: int) -> Iterator[None]:
    """Let llama.cpp use our backend for what is opened meanwhile in this thread."""
    if kernels.compiled is None:
        yield
        return
    offer = _backend(kernels.compiled).synthgen_local_enable_device
    try:
        if not offer(what):
            raise ModelError(
                f"Our kernels cannot hold weights as {kernels.weights} on this processor.",
                hint="Open them with --weights as-shipped.",
            )
        yield
    finally:
        offer(_NOTHING)


def _backend(library: str) -> Any:
    """Return our backend, loaded into llama.cpp. Raises DecodingError if their structs differ."""
    load = llama_cpp.llama_cpp._lib.ggml_backend_load
    load.argtypes, load.restype = [ctypes.c_char_p], ctypes.c_void_p
    with _loading:
        if library not in _loaded:
            ours = _declare_backend(library)
            _check_abi(ours)
            _log.clear()
            if not load(os.fsencode(library)):
                raise DecodingError(
                    f"llama.cpp does not load {library}: {_reason()}", hint="Delete that file."
                )
            _loaded[library] = ours
        return _loaded[library]


def _declare_backend(library: str) -> Any:
    try:
        ours = ctypes.CDLL(library)
        ours.synthgen_local_enable_device.restype = ctypes.c_bool
        ours.synthgen_local_take_logits.restype = ctypes.POINTER(ctypes.c_float)
        ours.synthgen_local_take_error.restype = ctypes.c_char_p
        ours.synthgen_local_check_abi.restype = ctypes.c_char_p
        ours.synthgen_local_check_abi.argtypes = [ctypes.c_void_p]
    except (OSError, AttributeError) as error:
        raise DecodingError(
            f"{library} cannot be loaded: {error}", hint="Delete that file."
        ) from error
    return ours


def _check_abi(ours: Any) -> None:
    """Raise DecodingError if ggml's private structs differ from the kernels' copy of them."""
    device_by_type = llama_cpp.llama_cpp._lib.ggml_backend_dev_by_type
    device_by_type.argtypes, device_by_type.restype = [ctypes.c_int], ctypes.c_void_p
    if differing := ours.synthgen_local_check_abi(device_by_type(_CPU_DEVICE)):
        raise DecodingError(
            f"The installed llama.cpp has another layout of {differing.decode()} than the compiled "
            "kernels.",
            hint="Install a version of llama-cpp-python that this package was tested with.",
        )


def _is_attended_here(model: Any) -> bool:
    """Whether `csrc/attention.c` takes its attention: llama.cpp's own is slow over bfloat16."""
    kind = _metadata(model, "general.architecture")
    length = _metadata(model, f"{kind}.attention.key_length")
    heads = max(1, llama_cpp.llama_model_n_head(model))
    size = int(length or llama_cpp.llama_model_n_embd(model) // heads)
    return size % 64 == 0 and _metadata(model, f"{kind}.attn_logit_softcapping") is None


def _metadata(model: Any, key: str) -> str | None:
    buffer = ctypes.create_string_buffer(128)
    size = llama_cpp.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode(errors="replace") if size >= 0 else None


def _description(model: Any) -> str:
    buffer = ctypes.create_string_buffer(128)
    llama_cpp.llama_model_desc(model, buffer, len(buffer))
    return buffer.value.decode(errors="replace")


def quantise(source: Path, target: Path, file_type: int, *, threads: int) -> None:
    """Write the weights of `source` to `target` in another format, by llama.cpp's number of it.

    Raises ModelError if llama.cpp cannot.

    Example: `quantise(Path("model.gguf"), Path("f16.gguf"), 1, threads=2)`
    """
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = file_type
    params.allow_requantize = True
    params.nthread = threads
    _log.clear()
    status = llama_cpp.llama_model_quantize(
        os.fsencode(source), os.fsencode(target), ctypes.byref(params)
    )
    if status != 0:
        raise ModelError(
            f"{source.name} cannot be written in another format: {_reason()}",
            hint="Use the weights as shipped.",
        )


def _load(path: Path, gpu_layers: int | None, kernels: Kernels) -> Any:
    if _first_used and _first_used[0] != os.getpid():  # OpenMP waits for threads that are not here
        raise ModelError("A model was used before this process was forked.", hint=_SPAWN)
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = -1 if gpu_layers is None else gpu_layers
    params.use_extra_bufts = kernels.repack
    _log.clear()
    with _offered(kernels, _WEIGHTS[kernels.weights] if kernels.weights else _ATTENTION):
        model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if model is None:
        raise ModelError(f"{path} cannot be loaded: {_reason()}", hint=_load_hint(_reason()))
    if kernels.compiled and (error := _backend(kernels.compiled).synthgen_local_take_error()):
        llama_cpp.llama_model_free(model)
        raise ModelError(f"{path} cannot be repacked: {error.decode()}.", hint=memory_hint())
    return model


def _load_hint(reason: str) -> str:
    """What to do about what llama.cpp says of a file."""
    if "alloc" in reason or "memory" in reason:
        return memory_hint()
    if "unknown" in reason or "unsupported" in reason or "not supported" in reason:
        return "This llama-cpp-python does not know such models: update it, or use another model."
    return "The file may be cut short or made for another version; fetch it again."


def _tokenizer(vocab: Any) -> LLTokenizer:
    with warnings.catch_warnings():  # llguidance asks for each token's attributes by an old name
        warnings.simplefilter("ignore", DeprecationWarning)
        return lltokenizer_from_vocab(vocab, eos_token=_end_tokens(vocab), slices=MASK_SLICES)


def _end_tokens(vocab: Any) -> list[int]:
    """All tokens that end a generation; the vocabulary's own end token comes first."""
    eos = int(llama_cpp.llama_vocab_eos(vocab))
    count = llama_cpp.llama_vocab_n_tokens(vocab)
    others = [t for t in range(count) if t != eos and llama_cpp.llama_vocab_is_eog(vocab, t)]
    return [eos, *others] if eos >= 0 else others


@cache
def _address(function: str) -> int:
    """Of one of llama.cpp's functions."""
    address = ctypes.cast(getattr(llama_cpp.llama_cpp._lib, function), ctypes.c_void_p).value
    assert address is not None
    return address


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))


def _reason() -> str:
    return _log.last_error or "no reason given"
