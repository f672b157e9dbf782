"""How far each way to compute moves a model from its own weights, taken in 32 bits.

The file as shipped is written with weights of 32 bits, which changes none of them, and llama.cpp
computes with these; the mean KL divergence of the predictions of each way from its, on the held-out
text of `models optimise`, is what that way rounds. Knows the engine, not rows.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import closing
from pathlib import Path

from synthgen_local.engine.backends.llamacpp import LlamaModel, held_formats, write_as
from synthgen_local.kernels.build import PLAIN, Kernels, compile_kernels
from synthgen_local.loading.weight_formats import mean_kl
from synthgen_local.models.resolve import find

_F32 = 0  # llama.cpp's number of it


def main() -> None:
    """Print nats a token, a line for each model and way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--models", nargs="+", default=["smollm2-135m-instruct", "gemma-3-270m"])
    for name in parser.parse_args().models:
        with tempfile.TemporaryDirectory() as folder:
            wide = Path(folder) / "wide.gguf"
            write_as(find(name), wide, _F32, threads=2)
            for way, kernels in _ways(Path(folder) / "compiled").items():
                print(f"{name}, {way}: {_moved(find(name), wide, kernels):.4f}")


def _ways(folder: Path) -> dict[str, Kernels]:
    ours = Kernels(compiled=compile_kernels(folder))
    ways = {"llama.cpp's kernels": PLAIN, "with our attention": ours}
    for name in held_formats(ours):
        ways[f"with our products, {name}"] = Kernels(compiled=ours.compiled, weights=name)
    return ways


def _moved(shipped: Path, wide: Path, kernels: Kernels) -> float:
    with (
        closing(LlamaModel(wide, gpu_layers=0, kernels=Kernels(repack=False))) as exact,
        closing(LlamaModel(shipped, gpu_layers=0, kernels=kernels)) as other,
    ):
        return mean_kl(exact, other)


if __name__ == "__main__":
    main()
