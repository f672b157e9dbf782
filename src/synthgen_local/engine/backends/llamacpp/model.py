"""A llama.cpp model: the weights of a GGUF file, its tokenizer, and contexts on it."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import llama_cpp
from llguidance import LLTokenizer

from ....errors import DecodingError, ModelError
from ....kernels.build import PLAIN, Kernels
from ....system.memory import memory_hint
from ...compiled_sampler import CompiledSampler
from ..protocol import ContextSize, closed
from .context import BF16, F16, ContextOptions, LlamaContext
from .kernel_backend import ATTENTION, EVERYTHING, FORMAT_NUMBERS, enabled, load_backend
from .library import build, error_log, gpu_offload
from .vocabulary import (
    is_control,
    make_tokenizer,
    read_description,
    token_text,
    uses_kernel_attention,
)

_BATCH_TOKENS = 512  # in one forward pass; more is not faster on a CPU
_GPU_BATCH_TOKENS = 2048
# Sampling threads of a context on a GPU, as a multiple of its share of the cores: contexts rarely
# sample at the same time.
_GPU_SAMPLING_THREADS = 4
_SPAWN = "Load models in the new process only, or start it by multiprocessing's method 'spawn'."

_decoding_process: list[int] = []  # the process in which OpenMP started its threads


class LlamaModel:
    """The weights of a GGUF file.

    `gpu_layers` of None offloads every layer if this build of llama.cpp can, 0 keeps all on the
    CPU. `flash` applies to contexts opened from now on.

    The header should have been checked (`models/gguf.py`) and the file probed in a subprocess
    (`loading/probe.py`), because llama.cpp ends the process on some damaged files. Raises
    ModelError if llama.cpp refuses the file.

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
        self.on_gpu = gpu_offload() and gpu_layers != 0
        if gpu_layers and not self.on_gpu:
            raise ModelError(
                "This build of llama.cpp cannot offload layers to a GPU.",
                hint="Offload no layers, or rebuild llama-cpp-python with GPU support.",
            )
        if kernels.weights and not kernels.compiled:
            raise ModelError(
                f"{kernels.weights} weights need the compiled kernels, which are not available.",
                hint="Open the weights as shipped.",
            )
        self._sampler = CompiledSampler(kernels.compiled) if kernels.compiled else None
        self._kernels = PLAIN if self.on_gpu else kernels
        self._process = os.getpid()
        self._model = _load(path, gpu_layers, self._kernels)
        vocab = llama_cpp.llama_model_get_vocab(self._model)
        assert vocab is not None
        self._open_vocab = vocab
        self.vocabulary = int(llama_cpp.llama_vocab_n_tokens(vocab))
        self._tokenizer = make_tokenizer(vocab)
        self.description = read_description(self._model)
        self.context_length = int(llama_cpp.llama_model_n_ctx_train(self._model))
        template = llama_cpp.llama_model_chat_template(self._model, None)
        self.chat_template = template.decode(errors="replace") if template else None
        self.special_tokens = {
            "bos_token": token_text(vocab, llama_cpp.llama_vocab_bos(vocab)),
            "eos_token": token_text(vocab, llama_cpp.llama_vocab_eos(vocab)),
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
        """The llguidance tokenizer, which reads the weights' vocabulary."""
        self._require_open()
        return self._tokenizer

    @property
    def build(self) -> str:
        """The version of llama.cpp, its CPU features, and the kernels in use."""
        ours = [Path(self._kernels.compiled).stem] if self._kernels.compiled else []
        unpacked = () if self._kernels.repack else ("without-repacking",)
        return " ".join([build(), *ours, *filter(None, [self._kernels.weights]), *unpacked])

    @cached_property
    def control_tokens(self) -> tuple[str, ...]:
        """Texts that `tokenize` turns into tokens that are not text."""
        return tuple(
            text
            for token in range(self.vocabulary)
            if is_control(self._vocab, token) and (text := token_text(self._open_vocab, token))
        )

    def tokenize(self, text: str, *, begun: bool = False) -> list[int]:
        """Tokenize prompt text; a leading BOS token that the text spells is not added twice."""
        bos = self.special_tokens["bos_token"]
        add_special = not (begun or (bos and text.startswith(bos)))
        data = text.encode()
        capacity = len(data) + 8
        tokens = (llama_cpp.llama_token * capacity)()
        count = llama_cpp.llama_tokenize(
            self._vocab, data, len(data), tokens, capacity, add_special, True
        )
        if count < 0:
            raise DecodingError("The prompt cannot be tokenized.", hint="Is it valid Unicode?")
        found = list(tokens[:count])
        return self._without_space(found) if begun and not text.startswith(" ") else found

    def _without_space(self, tokens: list[int]) -> list[int]:
        """Remove the space that some vocabularies put before every text."""
        piece = b"" if not tokens else self.tokenizer.decode_bytes(tokens[:1])
        if not piece.startswith(b" "):
            return tokens
        return [*self.tokenizer.tokenize_bytes(piece[1:]), *tokens[1:]]

    def open_context(self, size: ContextSize) -> LlamaContext:
        """Allocate a context on these weights; several may be open at once."""
        self._require_open()
        _decoding_process[:] = [os.getpid()]
        operators = EVERYTHING if self._kernels.weights else ATTENTION
        with enabled(self._kernels, operators):
            return LlamaContext(self._model, self.vocabulary, size, self._options(size.threads))

    def _options(self, threads: int) -> ContextOptions:
        bf16 = self.flash and self._has_bf16_cache
        return ContextOptions(
            flash=self.flash,
            batch_tokens=_GPU_BATCH_TOKENS if self.on_gpu else _BATCH_TOKENS,
            cache_type=BF16 if bf16 else F16,
            sampler=self._sampler,
            sampling_threads=threads * (_GPU_SAMPLING_THREADS if self.on_gpu else 1),
            head=self._head,
        )

    @cached_property
    def _has_bf16_cache(self) -> bool:
        return self._kernels.weights == "bf16" and uses_kernel_attention(self._model)

    @cached_property
    def _head(self) -> Any:
        """The kernels' backend, if it computes the logits.

        Hybrid and recurrent models split batches: the logits of one part would be in the buffer
        that the next part overwrites.
        """
        splits = llama_cpp.llama_model_is_hybrid(self._model) or llama_cpp.llama_model_is_recurrent(
            self._model
        )
        if splits or not (self._kernels.compiled and self._kernels.weights):
            return None
        return load_backend(self._kernels.compiled)

    def close(self) -> None:
        """Free the weights. Contexts must be closed before."""
        if self._model is not None:
            llama_cpp.llama_model_free(self._model)
            self._model = None


def _load(path: Path, gpu_layers: int | None, kernels: Kernels) -> Any:
    # In a forked process OpenMP waits for threads that do not exist.
    if _decoding_process and _decoding_process[0] != os.getpid():
        raise ModelError("A model was used before this process was forked.", hint=_SPAWN)
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = -1 if gpu_layers is None else gpu_layers
    params.use_extra_bufts = kernels.repack
    error_log.clear()
    with enabled(kernels, FORMAT_NUMBERS[kernels.weights] if kernels.weights else ATTENTION):
        model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if model is None:
        reason = error_log.reason()
        raise ModelError(f"{path} cannot be loaded: {reason}", hint=_load_hint(reason))
    if kernels.compiled and (error := load_backend(kernels.compiled).synthgen_local_take_error()):
        llama_cpp.llama_model_free(model)
        raise ModelError(f"{path} cannot be repacked: {error.decode()}.", hint=memory_hint())
    return model


def _load_hint(reason: str) -> str:
    """A hint for llama.cpp's reason to refuse a file."""
    if "alloc" in reason or "memory" in reason:
        return memory_hint()
    if "unknown" in reason or "unsupported" in reason or "not supported" in reason:
        return "This llama-cpp-python does not support such models: update it, or use another one."
    return "The file may be truncated or made for another version; download it again."
