"""Measurements of weight formats: throughput with several batch sizes, and KL divergence per token.

A format is compared with the file as shipped in a subprocess, on a text that no model was trained
on. Knows files and the engine; does not know where files are kept, nor earlier measurements.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.backends.protocol import Context, ContextSize, Logits, Model, Step
from ..engine.bitmask import Mask, masks, write_tokens
from ..engine.logprobs import kl_divergence
from ..engine.parallel_plan import BatchSettings
from ..kernels.build import PLAIN, Kernels
from ..system.subprocess_call import call_in_subprocess, serve
from .weight_formats import FORMATS

DEFAULT_BATCH = BatchSettings()
BATCHES = (
    BatchSettings(12, False),
    BatchSettings(24, False),
    BatchSettings(16),
    DEFAULT_BATCH,
    BatchSettings(64),
)
"""The batch settings that are measured.

Without flash attention the cost of a pass grows fastest with the number of sequences.
"""

_PREFIX = 224  # tokens that all sequences share
_FEW = 10  # tokens that a bitmask allows for half of the sequences
_WARM_UP = 16  # tokens of each sequence before the clock starts: KV caches are filled by then
_PASSES = 12  # tokens of each sequence that are timed
_CHUNK = 32  # tokens of the held-out text in one pass
_SECONDS = 600  # for a comparison


@dataclass(frozen=True)
class Speed:
    """Tokens per second of all contexts together, with one batch setting in each."""

    batch: BatchSettings
    tokens: float


@dataclass(frozen=True)
class Measurement:
    """A measured format: bytes of its weights, KL divergence in nats per token, and its speeds.

    `gain` is its speed with its best batch divided by the shipped file's with its own best batch,
    measured in turns.
    """

    format: str
    size: int
    kl: float
    gain: float
    speeds: Sequence[Speed]

    def speed(self, batch: BatchSettings) -> float | None:
        """Return the speed with one batch setting, None if it was not measured.

        Example: `Measurement("f16", 2, 0.0, 2.0, []).speed(DEFAULT_BATCH) is None`
        """
        return next((found.tokens for found in self.speeds if found.batch == batch), None)


@dataclass(frozen=True)
class Comparison:
    """Two files to compare: the one as shipped, and one in another format, or the same.

    `repacked_as` is the format into which the kernels repack the other's weights, empty if they
    do not.
    """

    shipped: str
    other: str
    batches: Sequence[BatchSettings]
    threads: int
    passes: int = _PASSES
    kernels: Kernels = PLAIN
    repacked_as: str = ""


@dataclass(frozen=True)
class Conversion:
    """A file to write in another format, by llama.cpp's number of it."""

    source: str
    target: str
    file_type: int
    threads: int


def quick_batches(kernels: Kernels) -> Sequence[BatchSettings]:
    """Return the batch settings of a measurement that the user did not ask for.

    Example: `quick_batches(PLAIN)`
    """
    if kernels.compiled:
        return (BatchSettings(16), DEFAULT_BATCH, BatchSettings(64))
    return (BatchSettings(12, False), DEFAULT_BATCH)


def convert(source: Path, target: Path, name: str, *, threads: int) -> None:
    """Write a file in the format `name`, in a subprocess. Raises ModelError if that fails.

    Example: `convert(Path("model.gguf"), Path("f16.gguf"), "f16", threads=2)`
    """
    file_type = FORMATS[name].file_type
    assert file_type is not None, "a format that exists in memory only"
    conversion = Conversion(str(source), str(target), file_type, threads)
    arguments = {"conversion": asdict(conversion)}
    call_in_subprocess(__name__, conversion.source, arguments, seconds=_SECONDS)


def measure_format(name: str, comparison: Comparison, size: int) -> Measurement:
    """Return the measurement of the format `name`, in which `comparison.other` is.

    Raises ModelError if the subprocess fails.

    Example: `measure_format("f16", Comparison("a.gguf", "f16.gguf", BATCHES, threads=2), 2000).kl`
    """
    arguments = {"comparison": asdict(comparison)}
    found = call_in_subprocess(__name__, comparison.shipped, arguments, seconds=_SECONDS)
    speeds = [Speed(*each) for each in zip(comparison.batches, found["speeds"], strict=True)]
    return Measurement(name, size, found["kl"], found["gain"], speeds)


def compare_files(comparison: Comparison) -> dict[str, object]:
    """Return `kl`, `gain` and `speeds` of a file; to be called in a subprocess.

    Example: `compare_files(Comparison("a.gguf", "f16.gguf", BATCHES, threads=2))["kl"]`
    """
    from ..engine.backends.llamacpp import LlamaModel

    wanted = [
        (comparison.shipped, comparison.kernels),
        (comparison.other, replace(comparison.kernels, weights=comparison.repacked_as)),
    ]
    with ExitStack() as opened:
        models = [
            opened.enter_context(closing(LlamaModel(Path(path), gpu_layers=0, kernels=kernels)))
            for path, kernels in dict.fromkeys(wanted)
        ]
        shipped, other = models[0], models[-1]
        tokens = _held_out_tokens(shipped)
        speeds: dict[LlamaModel, list[float]] = {model: [] for model in models}
        for batch in comparison.batches:
            for model, measured in speeds.items():
                model.flash = batch.flash
                measured.append(_measure_speed(model, tokens, batch.rows, comparison))
        kl = mean_kl(shipped, other) if shipped is not other else 0.0
    gain = max(speeds[other]) / max(speeds[shipped])
    return {"kl": kl, "gain": gain, "speeds": speeds[other]}


def _held_out_tokens(model: Model) -> list[int]:
    text = (files(__package__) / "held_out.txt").read_text(encoding="utf-8")
    return model.tokenize(text)


def mean_kl(shipped: Model, other: Model) -> float:
    """Return the mean KL divergence of two models' predictions of the held-out text, per token.

    Each has one thread: two threads that share a pass wait for each other on a busy machine.

    Example: `mean_kl(model, model) == 0`
    """
    tokens = _held_out_tokens(shipped)
    size = ContextSize(slots=_CHUNK, cells=len(tokens) + _CHUNK, threads=1)
    with (
        closing(shipped.open_context(size)) as one,
        closing(other.open_context(size)) as two,
        ThreadPoolExecutor(2) as pool,
    ):
        found = []
        readers = [_predictions(context, tokens) for context in (one, two)]
        for _ in range(1, len(tokens), _CHUNK):
            p, q = pool.map(next, readers)
            found.append(kl_divergence(p, q))
    return float(np.concatenate(found).mean())


def _predictions(context: Context, tokens: Sequence[int]) -> Iterator[Logits]:
    """The logits after each token but the first, in chunks that are valid until the next one."""
    context.prefill(tokens[:1])
    context.fork(0)
    for start in range(1, len(tokens), _CHUNK):
        yield context.decode([Step([0], [token]) for token in tokens[start : start + _CHUNK]])


def _measure_speed(model: Model, tokens: Sequence[int], rows: int, comparison: Comparison) -> float:
    """Tokens per second that all contexts decode together, with one thread each as in a job.

    As in a table, half of the sequences have a narrow bitmask and half have none. The time is the
    thread's own in its fastest pass, so that other work of the machine counts least.
    """
    prefix, passes = tokens[:_PREFIX], comparison.passes
    size = ContextSize(slots=rows, cells=len(prefix) + rows * (_WARM_UP + passes), threads=1)

    def decode(_context: int) -> float:
        with closing(model.open_context(size)) as context:
            few = masks(1, len(context.prefill(prefix)))[0]
            write_tokens(few, tokens[:_FEW])
            for slot in range(rows):
                context.fork(slot)
            _decode_pass(context, tokens, rows, _WARM_UP, few)
            ends = [time.thread_time()]
            for _ in range(passes):
                _decode_pass(context, tokens, rows, 1, few)
                ends.append(time.thread_time())
            return rows / min(end - start for start, end in pairwise(ends))

    with ThreadPoolExecutor(comparison.threads) as pool:
        return sum(pool.map(decode, range(comparison.threads)))


def _decode_pass(
    context: Context, tokens: Sequence[int], rows: int, length: int, few: Mask
) -> None:
    """Decode `length` tokens of each sequence, different ones for each."""
    texts = [
        [tokens[(slot + place) % len(tokens)] for place in range(length)] for slot in range(rows)
    ]
    steps = [Step([slot], text, few if slot % 2 else None) for slot, text in enumerate(texts)]
    context.decode(steps)


def _convert(conversion: Conversion) -> None:
    from ..engine.backends.llamacpp import quantise

    source, target = Path(conversion.source), Path(conversion.target)
    quantise(source, target, conversion.file_type, threads=conversion.threads)


def _parse_comparison(comparison: dict[str, Any]) -> Comparison:
    batches = [BatchSettings(**batch) for batch in comparison["batches"]]
    kernels = Kernels(**comparison["kernels"])
    return Comparison(**{**comparison, "batches": batches, "kernels": kernels})


def _serve(
    conversion: dict[str, Any] | None = None, comparison: dict[str, Any] | None = None
) -> dict[str, object] | None:
    """Convert or compare, as the parent process asks."""
    if conversion is not None:
        _convert(Conversion(**conversion))
    return None if comparison is None else compare_files(_parse_comparison(comparison))


if __name__ == "__main__":
    sys.exit(serve(_serve))
