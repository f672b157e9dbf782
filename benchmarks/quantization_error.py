"""Measure the KL divergence of each kernel and weight format from FP32 computation.

The shipped file is converted to FP32, which is exact, and evaluated by llama.cpp as the reference.
Prints the mean KL divergence per token on the held-out text of `models optimise`. Knows the engine,
not rows.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import closing
from pathlib import Path

from synthgen_local.engine.backends.llamacpp import LlamaModel, quantise, repack_formats
from synthgen_local.kernels.build import PLAIN, Kernels, compile_kernels
from synthgen_local.loading.measurement import mean_kl
from synthgen_local.models.resolve import find

_F32 = 0  # llama.cpp's number of it


def main() -> None:
    """Print nats per token for each model and kernel."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--models", nargs="+", default=["smollm2-135m-instruct", "gemma-3-270m"])
    for name in parser.parse_args().models:
        with tempfile.TemporaryDirectory() as folder:
            wide = Path(folder) / "wide.gguf"
            quantise(find(name), wide, _F32, threads=2)
            for way, kernels in _kernel_variants(Path(folder) / "compiled").items():
                print(f"{name}, {way}: {_divergence(find(name), wide, kernels):.4f}")


def _kernel_variants(folder: Path) -> dict[str, Kernels]:
    ours = Kernels(compiled=compile_kernels(folder))
    ways = {"llama.cpp's kernels": PLAIN, "with our attention": ours}
    for name in repack_formats(ours):
        ways[f"with our products, {name}"] = Kernels(compiled=ours.compiled, weights=name)
    return ways


def _divergence(shipped: Path, wide: Path, kernels: Kernels) -> float:
    with (
        closing(LlamaModel(wide, gpu_layers=0, kernels=Kernels(repack=False))) as exact,
        closing(LlamaModel(shipped, gpu_layers=0, kernels=kernels)) as other,
    ):
        return mean_kl(exact, other)


if __name__ == "__main__":
    main()
