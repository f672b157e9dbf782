"""In which formats a model's weights can be, and what each costs and brings on this CPU.

A format is compared with the file as shipped in a process of its own (`apart.py`): tokens a second
with several batches, and how far it moves the model's distribution on a text that no model has
seen. Knows files and the engine; not where files are kept, nor what was found before.
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
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..engine.backends.protocol import Context, ContextSize, Logits, Model, Step
from ..engine.bitmask import Mask, masks, write_tokens
from ..engine.parallel_plan import BatchSettings
from ..kernels.build import PLAIN, Kernels
from ..system.subprocess_call import call_in_subprocess, serve

AS_SHIPPED = "as-shipped"

INT8 = "int8"
"""8-bit integers with one scale for 192 of them; only `csrc/matmul.c` reads them."""

MOST_KL = 0.01
"""Nats a token, mean over the held-out text, that a format may be away from the file as shipped.

A row of 50 drawn tokens is then half a nat from one of the shipped file, so by Pinsker's inequality
whoever reads it guesses right at most 3 times in 4 which of the two it was drawn from. Rounding
alone stays below, and what visibly spoils rows (Q4_1 written as Q4_0) is far above.
"""

LEAST_GAIN = 1.1
"""What is not this much faster than the file as shipped is not worth its place on the disk."""

NOISE = 0.05
"""Formats whose speeds differ by less are as fast as each other."""

CLOSE = 0.02
"""The same of batches in one format, which are measured one right after the other."""

USUAL = BatchSettings()
BATCHES = (
    BatchSettings(12, False),
    BatchSettings(24, False),
    BatchSettings(16),
    USUAL,
    BatchSettings(64),
)
"""Those that are tried. Without flash attention rows that are in flight cost each other most."""

_PREFIX = 224  # tokens that all rows share
_FEW = 10  # tokens that half of the rows may go on with
_BEGUN = 16  # tokens that each row has when the clock starts: more rows mean a longer cache
_PASSES = 12  # tokens that each row takes then
_CHUNK = 32  # tokens of the held-out text in one pass
_SECONDS = 600  # for a comparison

_Doubles: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Format:
    """A format: llama.cpp's number of it, and bits that a weight takes at most.

    Of Q4_0 these are the bits of the Q6_K that llama.cpp gives the output layer. Without a number
    it is a format in memory alone, as are others where our kernels hold them.
    """

    file_type: int | None
    bits: float

    def size(self, parameters: int) -> int:
        """Return the bytes that so many weights take at most.

        Example: `FORMATS["f16"].size(1000) == 2000`
        """
        return int(parameters * self.bits / 8)


FORMATS = {
    INT8: Format(None, 8.2),
    "bf16": Format(32, 16),
    "f16": Format(1, 16),
    "q8_0": Format(7, 8.5),
    "q4_0": Format(2, 6.6),
}


@dataclass(frozen=True)
class Speed:
    """Tokens a second of all contexts together, with a batch in each."""

    batch: BatchSettings
    tokens: float


@dataclass(frozen=True)
class Measurement:
    """What a format came to: bytes that its weights take, nats a token, and its speeds.

    `gain` is its speed with its best batch as a multiple of the shipped file's with its own best,
    taken in turns.
    """

    format: str
    size: int
    kl: float
    gain: float
    speeds: Sequence[Speed]

    def speed(self, batch: BatchSettings) -> float | None:
        """Return its speed with a batch, None if that was not measured.

        Example: `Measurement("f16", 2, 0.001, 2.0, [Speed(USUAL, 900.0)]).speed(USUAL) == 900.0`
        """
        return next((found.tokens for found in self.speeds if found.batch == batch), None)


@dataclass(frozen=True)
class Comparison:
    """Two files to compare: the one as shipped, and one of another format, or the same.

    `held` is the format in which our kernels hold the other's weights, empty if they do not.
    """

    shipped: str
    other: str
    batches: Sequence[BatchSettings]
    threads: int
    passes: int = _PASSES
    kernels: Kernels = PLAIN
    held: str = ""


@dataclass(frozen=True)
class Conversion:
    """A file to write in another format, by llama.cpp's number of it."""

    source: str
    target: str
    file_type: int
    threads: int


def brief(kernels: Kernels) -> Sequence[BatchSettings]:
    """Return the batches that are tried where nobody asked for it.

    Example: `brief(PLAIN)`
    """
    return (
        (BatchSettings(16), USUAL, BatchSettings(64))
        if kernels.compiled
        else (BatchSettings(12, False), USUAL)
    )


def write(source: Path, target: Path, name: str, *, threads: int) -> None:
    """Write a file in the format of that name. Raises ModelError.

    Example: `write(Path("model.gguf"), Path("f16.gguf"), "f16", threads=2)`
    """
    file_type = FORMATS[name].file_type
    assert file_type is not None, "a format in memory alone"
    asked = Conversion(str(source), str(target), file_type, threads)
    call_in_subprocess(__name__, asked.source, {"conversion": asdict(asked)}, seconds=_SECONDS)


def measure(name: str, comparison: Comparison, size: int) -> Measurement:
    """Return what a format of that size comes to, as `comparison.other` is. Raises ModelError.

    Example: `measure("f16", Comparison("model.gguf", "f16.gguf", BATCHES, threads=2), 2000).kl`
    """
    question = {"comparison": asdict(comparison)}
    found = call_in_subprocess(__name__, comparison.shipped, question, seconds=_SECONDS)
    speeds = [Speed(*each) for each in zip(comparison.batches, found["speeds"], strict=True)]
    return Measurement(name, size, found["kl"], found["gain"], speeds)


def choose(measured: Sequence[Measurement]) -> Measurement | None:
    """Return the fastest that keeps the distribution and pays; None is the file as shipped.

    Among those that are as fast as each other it is the one nearest to the file as shipped.

    Example: `choose([Measurement("f16", 2, 0.001, 2.0, []), Measurement("q4_0", 1, 0.2, 2.5, [])])`
    """
    fit = [found for found in measured if _unfit(found) is None]
    top = max((found.gain for found in fit), default=0)
    near = [found for found in fit if found.gain >= top * (1 - NOISE)]
    return min(near, key=lambda found: (found.kl, found.size), default=None)


def fastest(speeds: Sequence[Speed]) -> BatchSettings:
    """Return the batch to use: of those that are as fast as the best, or `CLOSE`, the narrowest.

    It leaves the fewest slots idle at the end of a run, and its first row comes soonest. Without
    speeds it is the usual one.

    Example: `fastest([Speed(BatchSettings(64), 1020.0), Speed(USUAL, 1000.0)]) == USUAL`
    """
    best = max((speed.tokens for speed in speeds), default=0)
    near = [speed.batch for speed in speeds if speed.tokens >= best * (1 - CLOSE)]
    return min(near, key=lambda batch: batch.rows, default=USUAL)


def verdict(found: Measurement, chosen: Measurement | None) -> str:
    """Return in a few words why a format was kept, or why not.

    Example: `verdict(Measurement("f16", 2, 0.001, 1.02, []), None)`
    """
    if found == chosen or (chosen is None and found.format == AS_SHIPPED):
        return "kept"
    if reason := _unfit(found):
        return reason
    assert chosen is not None
    if found.gain >= chosen.gain * (1 - NOISE):
        return f"no faster than {chosen.format}, and further from as shipped"
    return f"slower than {chosen.format}"


def _unfit(found: Measurement) -> str | None:
    if found.format == AS_SHIPPED:
        return "slower"
    if not found.kl <= MOST_KL:
        return f"changes the model: KL above {MOST_KL}"
    if found.gain < LEAST_GAIN:
        return f"less than {LEAST_GAIN} times as fast as shipped"
    return None


def divergence(shipped: Logits, other: Logits) -> _Doubles:
    """Return the KL divergence in nats of each row of logits from that of the shipped file.

    Example: `divergence(logits, logits).max() == 0`
    """
    p, q = _log_softmax(shipped), _log_softmax(other)
    found: _Doubles = (np.exp(p) * (p - q)).sum(axis=-1)
    return found


def _log_softmax(logits: Logits) -> _Doubles:
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=-1, keepdims=True)
    found: _Doubles = exact - np.log(np.exp(exact).sum(axis=-1, keepdims=True))
    return found


def compare(comparison: Comparison) -> dict[str, object]:
    """Return `kl`, `gain` and `speeds` of a file; to be called in a process of its own.

    Example: `compare(Comparison("model.gguf", "f16.gguf", BATCHES, threads=2))["kl"]`
    """
    from ..engine.backends.llamacpp import LlamaModel

    asked = [
        (comparison.shipped, comparison.kernels),
        (comparison.other, replace(comparison.kernels, weights=comparison.held)),
    ]
    with ExitStack() as opened:
        models = [
            opened.enter_context(closing(LlamaModel(Path(path), gpu_layers=0, kernels=kernels)))
            for path, kernels in dict.fromkeys(asked)
        ]
        shipped, other = models[0], models[-1]
        tokens = _held_out(shipped)
        speeds: dict[LlamaModel, list[float]] = {model: [] for model in models}
        for batch in comparison.batches:
            for model, found in speeds.items():
                model.flash = batch.flash
                found.append(_speed(model, tokens, batch.rows, comparison))
        kl = mean_kl(shipped, other) if shipped is not other else 0.0
    gain = max(speeds[other]) / max(speeds[shipped])
    return {"kl": kl, "gain": gain, "speeds": speeds[other]}


def _held_out(model: Model) -> list[int]:
    text = (files(__package__) / "held_out.txt").read_text(encoding="utf-8")
    return model.tokenize(text)


def mean_kl(shipped: Model, other: Model) -> float:
    """Return how far the other's predictions of the held-out text are, in nats a token.

    One thread for each, as in a run: two that share a pass wait for each other on a busy machine.

    Example: `mean_kl(model, model) == 0`
    """
    tokens = _held_out(shipped)
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
            found.append(divergence(p, q))
    return float(np.concatenate(found).mean())


def _predictions(context: Context, tokens: Sequence[int]) -> Iterator[Logits]:
    """The logits after each token but the first, some at a time, valid until the next ones."""
    context.prefill(tokens[:1])
    context.fork(0)
    for start in range(1, len(tokens), _CHUNK):
        yield context.decode([Step([0], [token]) for token in tokens[start : start + _CHUNK]])


def _speed(model: Model, tokens: Sequence[int], rows: int, comparison: Comparison) -> float:
    """Tokens a second that all contexts decode together, one thread each as in a run.

    As in a table, half of the rows may go on with a few tokens and half with any. Time is that of
    the thread on its core, in the fastest pass: what else the machine does counts least in it.
    """
    prefix, passes = tokens[:_PREFIX], comparison.passes
    size = ContextSize(slots=rows, cells=len(prefix) + rows * (_BEGUN + passes), threads=1)

    def decode(_context: int) -> float:
        with closing(model.open_context(size)) as context:
            few = masks(1, len(context.prefill(prefix)))[0]
            write_tokens(few, tokens[:_FEW])
            for slot in range(rows):
                context.fork(slot)
            _pass(context, tokens, rows, _BEGUN, few)
            ends = [time.thread_time()]
            for _ in range(passes):
                _pass(context, tokens, rows, 1, few)
                ends.append(time.thread_time())
            return rows / min(end - start for start, end in pairwise(ends))

    with ThreadPoolExecutor(comparison.threads) as pool:
        return sum(pool.map(decode, range(comparison.threads)))


def _pass(context: Context, tokens: Sequence[int], rows: int, length: int, few: Mask) -> None:
    """So many tokens for each row, others for each."""
    texts = [
        [tokens[(slot + place) % len(tokens)] for place in range(length)] for slot in range(rows)
    ]
    steps = [Step([slot], text, few if slot % 2 else None) for slot, text in enumerate(texts)]
    context.decode(steps)


def _convert(conversion: Conversion) -> None:
    from ..engine.backends.llamacpp import write_as

    source, target = Path(conversion.source), Path(conversion.target)
    write_as(source, target, conversion.file_type, threads=conversion.threads)


def _read(comparison: dict[str, Any]) -> Comparison:
    batches = [BatchSettings(**batch) for batch in comparison["batches"]]
    kernels = Kernels(**comparison["kernels"])
    return Comparison(**{**comparison, "batches": batches, "kernels": kernels})


def _serve(
    conversion: dict[str, Any] | None = None, comparison: dict[str, Any] | None = None
) -> dict[str, object] | None:
    """Convert, or compare: whichever the process is asked for."""
    if conversion is not None:
        _convert(Conversion(**conversion))
    return None if comparison is None else compare(_read(comparison))


if __name__ == "__main__":
    sys.exit(serve(_serve))
